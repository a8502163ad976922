//! A state made ready for use: what every request looks at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crate::counters::Counters;
use crate::limits;
use crate::listen::{Kind, Wanted};
use crate::local;
use crate::problem::Problem;
use crate::replica::{Registry, Upstream};
use crate::route;
use crate::state::{EdgeState, PoolStatus, Route, UpstreamProtocol};
use crate::tls::CertificateSet;
use crate::trust::TrustedProxies;

/// Where authorities look for answers (RFC 8555 §8.3).
const CHALLENGE_PATH: &str = "/.well-known/acme-challenge/";

/// An [`EdgeState`] compiled. Immutable; replaced as a whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Loaded certificates.
    pub certificates: CertificateSet,
    /// Those that are shown to authorities only.
    pub challenge_certificates: CertificateSet,
    /// Answers to authorities, by token.
    challenge_answers: BTreeMap<String, String>,
    /// Whose forwarding headers are believed.
    pub trusted: TrustedProxies,
    /// Client connections that one address may have.
    pub connections_per_address: u32,
    /// Port that redirects lead to; without one plain HTTP serves the routes itself.
    pub https_port: Option<u16>,
    exact: HashMap<String, Vec<Arc<LiveRoute>>>,
    /// By the part after `*.`.
    wildcard: HashMap<String, Vec<Arc<LiveRoute>>>,
    forwards: HashMap<Wanted, Arc<LivePool>>,
    pools: HashMap<String, Arc<LivePool>>,
}

/// A route with its pool at hand.
#[derive(Debug)]
pub struct LiveRoute {
    /// Name for logs.
    pub id: String,
    /// Without a slash at its end; empty for `/`.
    pub prefix: String,
    /// Remove the prefix.
    pub strip_prefix: bool,
    /// Replicas.
    pub pool: Arc<LivePool>,
    /// What they speak.
    pub protocol: UpstreamProtocol,
}

/// The replicas that take requests.
#[derive(Debug)]
pub struct LivePool {
    /// Not draining.
    pub serving: Vec<Arc<Upstream>>,
    /// How many replicas are draining.
    pub draining: usize,
    /// For requests that find no replica.
    pub hold: Duration,
    /// Why there may be none.
    pub unavailable_reason: Option<String>,
    /// Replicas that serve a share of the visitors.
    pub canary: Option<LiveCanary>,
    /// Requests held now; carried over from snapshot to snapshot.
    pub held: Arc<AtomicUsize>,
    /// How its requests ended; carried over likewise.
    pub counters: Arc<Counters>,
}

/// [`crate::Canary`] with its replicas at hand.
#[derive(Debug)]
pub struct LiveCanary {
    /// Replicas.
    pub serving: Vec<Arc<Upstream>>,
    /// Visitors among a thousand.
    pub permille: u32,
    /// Moves the numbers of visitors.
    pub release: u64,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Lookup {
    /// No route names the host.
    UnknownHost,
    /// Routes name the host, none covers the path.
    NoRoute,
    /// This one.
    Route(Arc<LiveRoute>),
}

impl Snapshot {
    /// Compiles a state. Parts that cannot be used are reported and left out.
    pub fn compile(
        state: &EdgeState,
        before: &Self,
        registry: &Registry,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let pools = compile_pools(state, before, registry);
        report_long_paths(&pools, problems);
        let mut snapshot = Self {
            certificates: CertificateSet::load(&state.certificates, &before.certificates, problems),
            challenge_certificates: CertificateSet::load_challenges(
                &state.challenges.tls,
                &before.challenge_certificates,
                problems,
            ),
            challenge_answers: state.challenges.http.clone(),
            trusted: TrustedProxies::parse(&state.trusted_proxies, problems),
            connections_per_address: state
                .connections_per_address
                .unwrap_or(limits::CONNECTIONS_PER_ADDRESS),
            https_port: state.https.first().map(std::net::SocketAddr::port),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            forwards: HashMap::new(),
            pools,
        };
        let streams = state.forwards.iter().map(|it| (it, Kind::Tcp));
        let datagrams = state.datagram_forwards.iter().map(|it| (it, Kind::Udp));
        for (forward, kind) in streams.chain(datagrams) {
            let pool = snapshot.pool(&forward.id, &forward.pool, problems);
            if kind == Kind::Udp && pool.serving.iter().any(|it| it.socket().is_some()) {
                let id = &forward.id;
                problems.push(format!(
                    "{id}: no datagrams reach a server behind a Unix socket"
                ));
            }
            let wanted = (forward.listen, kind);
            if snapshot.forwards.insert(wanted, pool).is_some() {
                let (id, listen) = (&forward.id, forward.listen);
                problems.push(format!("{id}: {listen} is wanted twice; this one has it"));
            }
        }
        for route in &state.routes {
            snapshot.add_route(route, problems);
        }
        if !state.https.is_empty() {
            snapshot.report_uncovered(state, problems);
        }
        let by_host = snapshot
            .exact
            .values_mut()
            .chain(snapshot.wildcard.values_mut());
        for routes in by_host {
            routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        snapshot
    }

    fn report_uncovered(&self, state: &EdgeState, problems: &mut Vec<Problem>) {
        let hosts: BTreeSet<&String> = state.routes.iter().flat_map(|route| &route.hosts).collect();
        for host in hosts {
            if !self.certificates.covers(host) {
                problems.push(format!("no certificate covers {host}: it has no HTTPS"));
            }
        }
    }

    fn add_route(&mut self, wanted: &Route, problems: &mut Vec<Problem>) {
        let path = match route::canonical_path(&wanted.path) {
            Ok(path) => path.trim_end_matches('/').to_owned(),
            Err(_) => {
                problems.push(format!(
                    "route {}: `{}` is not a path prefix; the route is ignored",
                    wanted.id, wanted.path
                ));
                return;
            }
        };
        let pool = self.pool(&format!("route {}", wanted.id), &wanted.pool, problems);
        let live = Arc::new(LiveRoute {
            id: wanted.id.clone(),
            prefix: path,
            strip_prefix: wanted.strip_prefix,
            pool,
            protocol: wanted.protocol,
        });
        for host in &wanted.hosts {
            let host = host.to_ascii_lowercase();
            let (map, key) = match host.strip_prefix("*.") {
                Some(parent) => (&mut self.wildcard, parent.to_owned()),
                None => (&mut self.exact, host),
            };
            let routes = map.entry(key).or_default();
            if let Some(other) = routes.iter().find(|other| other.prefix == live.prefix) {
                problems.push(format!(
                    "routes {} and {} both claim {}{}; the first one has it",
                    other.id,
                    live.id,
                    wanted.hosts.join(","),
                    wanted.path
                ));
                continue;
            }
            routes.push(Arc::clone(&live));
        }
    }

    fn pool(&self, whose: &str, name: &str, problems: &mut Vec<Problem>) -> Arc<LivePool> {
        self.pools.get(name).cloned().unwrap_or_else(|| {
            problems.push(format!(
                "{whose}: there is no pool `{name}`; nothing answers there"
            ));
            Arc::new(LivePool::missing())
        })
    }

    /// The replicas behind a port that is passed on.
    pub fn forward(&self, wanted: Wanted) -> Option<Arc<LivePool>> {
        self.forwards.get(&wanted).cloned()
    }

    /// What an authority that asks for `path` is looking for.
    pub fn challenge_answer(&self, path: &str) -> Option<&str> {
        let token = path.strip_prefix(CHALLENGE_PATH)?;
        self.challenge_answers.get(token).map(String::as_str)
    }

    /// The route for a canonical host and path.
    pub fn lookup(&self, host: &str, path: &str) -> Lookup {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        let routes = self
            .exact
            .get(host)
            .or_else(|| parent.and_then(|parent| self.wildcard.get(parent)));
        let Some(routes) = routes else {
            return Lookup::UnknownHost;
        };
        let found = routes
            .iter()
            .find(|route| route::is_under(path, &route.prefix));
        found.map_or(Lookup::NoRoute, |route| Lookup::Route(Arc::clone(route)))
    }

    /// Replicas that take requests, of all pools.
    pub fn serving(&self) -> Vec<Arc<Upstream>> {
        self.pools
            .values()
            .flat_map(|pool| {
                let canary = pool.canary.iter().flat_map(|canary| &canary.serving);
                pool.serving.iter().chain(canary).cloned()
            })
            .collect()
    }

    /// How requests of each pool ended.
    pub fn counted(&self) -> BTreeMap<String, PoolStatus> {
        let of = |(name, pool): (&String, &Arc<LivePool>)| (name.clone(), pool.counters.status());
        self.pools.iter().map(of).collect()
    }
}

impl LivePool {
    fn missing() -> Self {
        Self {
            serving: Vec::new(),
            draining: 0,
            hold: Duration::ZERO,
            unavailable_reason: Some("it is not set up".to_owned()),
            canary: None,
            held: Arc::default(),
            counters: Arc::default(),
        }
    }
}

fn compile_pools(
    state: &EdgeState,
    before: &Snapshot,
    registry: &Registry,
) -> HashMap<String, Arc<LivePool>> {
    let compile = |(name, pool): (&String, &crate::state::Pool)| {
        let serving = pool.replicas.iter().filter(|replica| !replica.draining);
        let old = before.pools.get(name);
        let live = LivePool {
            serving: serving
                .map(|replica| registry.upstream(replica))
                .chain(pool.local.iter().map(|server| registry.local(server)))
                .collect(),
            draining: pool
                .replicas
                .iter()
                .filter(|replica| replica.draining)
                .count(),
            hold: Duration::from_millis(pool.hold_ms),
            unavailable_reason: pool.unavailable_reason.clone(),
            canary: pool.canary.as_ref().map(|canary| LiveCanary {
                serving: canary
                    .replicas
                    .iter()
                    .map(|replica| registry.upstream(replica))
                    .collect(),
                permille: canary.permille,
                release: canary.release,
            }),
            held: old.map(|old| Arc::clone(&old.held)).unwrap_or_default(),
            counters: old.map(|old| Arc::clone(&old.counters)).unwrap_or_default(),
        };
        (name.clone(), Arc::new(live))
    };
    state.pools.iter().map(compile).collect()
}

/// The run folder may lie deep.
fn report_long_paths(pools: &HashMap<String, Arc<LivePool>>, problems: &mut Vec<Problem>) {
    for (name, pool) in pools {
        let paths = pool.serving.iter().filter_map(|it| it.socket());
        for path in paths.filter(|path| path.as_os_str().len() > local::PATH_BYTES) {
            problems.push(format!(
                "pool {name}: the path {} is longer than the {} bytes that one of a socket may have",
                path.display(),
                local::PATH_BYTES
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(id: &str, hosts: &[&str], path: &str) -> Route {
        Route {
            id: id.to_owned(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            path: path.to_owned(),
            strip_prefix: false,
            pool: "p".to_owned(),
            protocol: UpstreamProtocol::Http,
        }
    }

    fn compile(routes: Vec<Route>) -> (Snapshot, Vec<Problem>) {
        let state = EdgeState {
            routes,
            pools: [("p".to_owned(), crate::state::Pool::default())].into(),
            ..EdgeState::default()
        };
        let mut problems = Vec::new();
        let snapshot = Snapshot::compile(
            &state,
            &Snapshot::default(),
            &Registry::default(),
            &mut problems,
        );
        (snapshot, problems)
    }

    fn found(snapshot: &Snapshot, host: &str, path: &str) -> String {
        match snapshot.lookup(host, path) {
            Lookup::UnknownHost => "unknown host".to_owned(),
            Lookup::NoRoute => "no route".to_owned(),
            Lookup::Route(route) => route.id.clone(),
        }
    }

    #[test]
    fn the_longest_prefix_of_the_host_wins() {
        let (snapshot, problems) = compile(vec![
            route("front", &["a.test", "b.test"], "/"),
            route("api", &["a.test"], "/api"),
            route("v2", &["a.test"], "/api/v2/"),
            route("wild", &["*.a.test"], "/"),
            route("only", &["c.test"], "/only"),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        for (host, path, expected) in [
            ("a.test", "/", "front"),
            ("a.test", "/apis", "front"),
            ("a.test", "/api", "api"),
            ("a.test", "/api/v1", "api"),
            ("a.test", "/api/v2", "v2"),
            ("a.test", "/api/v2/x", "v2"),
            ("b.test", "/api", "front"),
            ("x.a.test", "/", "wild"),
            ("y.x.a.test", "/", "unknown host"),
            ("c.test", "/", "no route"),
            ("d.test", "/", "unknown host"),
        ] {
            assert_eq!(found(&snapshot, host, path), expected, "{host}{path}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_reported() {
        let mut lost = route("lost", &["a.test"], "/");
        lost.pool = "nowhere".to_owned();
        let (snapshot, problems) = compile(vec![
            lost,
            route("twin", &["a.test"], "/"),
            route("bad", &["a.test"], "api"),
        ]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(found(&snapshot, "a.test", "/"), "lost");
    }

    #[test]
    fn local_servers_serve_beside_replicas() {
        let pool = crate::state::Pool {
            local: vec![crate::state::LocalServer {
                id: "platform".to_owned(),
                socket: "gateway".parse().expect("a name"),
            }],
            ..Default::default()
        };
        let state = EdgeState {
            pools: [("p".to_owned(), pool)].into(),
            ..EdgeState::default()
        };
        for (run, fits) in [
            ("/run/havre/edge".to_owned(), true),
            ("/r".repeat(50), false),
        ] {
            let registry = Registry::new(std::path::Path::new(&run));
            let mut problems = Vec::new();
            let before = Snapshot::default();
            let snapshot = Snapshot::compile(&state, &before, &registry, &mut problems);
            let socket = format!("{run}/up-gateway.sock");
            let serving = snapshot.serving();
            assert_eq!(serving[0].to_string(), "local server platform");
            assert_eq!(serving[0].socket(), Some(socket.as_ref()));
            let too_long = format!("pool p: the path {socket} is longer than the 107 bytes");
            let told = problems
                .iter()
                .any(|problem| problem.starts_with(&too_long));
            assert_eq!((told, problems.len()), (!fits, usize::from(!fits)));
        }
    }
}
