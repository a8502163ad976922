//! The daemon's side of the edge: one desired state for all environments, and a process that is
//! kept alive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use havre_acme::Name;
use havre_api::EnvironmentId;
use havre_edge::{
    Canary, Certificate, Control, EdgeState, EdgeStatus, Forward, KeptSockets, Pool, Replica,
    Route, UpstreamProtocol,
};
use havre_model::{Port, Protocol, RouteProtocol, ServiceName};
use havre_release::{Release, ReplicaId, Routing};
use tokio::sync::{Mutex, watch};

use crate::certificates::Pair;
use crate::labels::environment_key;
use crate::public_hosts;
use crate::supervisor::Supervised;

mod issued;
mod launch;
mod migration;

use issued::Issued;
pub(crate) use issued::ServedHost;
pub(crate) use launch::Launch;
use launch::{Sockets, exit_of};

/// How long a new edge may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Pause between two attempts to start the edge.
const RETRY: Duration = Duration::from_secs(1);

/// What one environment asks of the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvironmentEdge {
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) routes: Vec<Route>,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) datagram_forwards: Vec<Forward>,
    pub(crate) pools: BTreeMap<String, Pool>,
    /// Hosts for which an authority's certificate goes before those above, once there is one.
    pub(crate) public: BTreeSet<String>,
}

/// The edge's part of an environment. `hold` says how long requests wait for a
/// service without a replica, `address` gives a replica's address. Pure.
pub(crate) fn environment_edge(
    id: &EnvironmentId,
    release: &Release,
    certificate: Option<Pair>,
    routing: &Routing,
    draining: &BTreeMap<ServiceName, Vec<ReplicaId>>,
    hold: impl Fn(&ServiceName) -> Duration,
    address: impl Fn(&ReplicaId) -> Option<IpAddr>,
) -> EnvironmentEdge {
    let pool_name = |service: &ServiceName, port: u16| format!("{}{service}:{port}", pools_of(id));
    let hosts_of = |route: &havre_model::Route| match &route.host {
        Some(host) => vec![host.to_ascii_lowercase()],
        None => release
            .hosts
            .iter()
            .map(|host| host.to_ascii_lowercase())
            .collect(),
    };
    let mut edge = EnvironmentEdge::default();
    let mut hosts = BTreeSet::new();
    for route in &release.routes {
        let route_hosts = hosts_of(route);
        hosts.extend(route_hosts.iter().cloned());
        let pool = pool_name(&route.service, route.port);
        edge.routes.push(Route {
            id: format!("{id}{}", route.path),
            hosts: route_hosts,
            path: route.path.clone(),
            strip_prefix: route.strip_prefix,
            pool: pool.clone(),
            protocol: match route.protocol {
                RouteProtocol::Http => UpstreamProtocol::Http,
                RouteProtocol::H2c => UpstreamProtocol::H2c,
            },
        });
        let ready = || Pool {
            hold_ms: in_ms(hold(&route.service)),
            ..pool_of(&route.service, route.port, routing, draining, &address)
        };
        edge.pools.entry(pool).or_insert_with(ready);
    }
    for (service, port) in release.forwards() {
        let name = pool_name(service, port.target);
        let forwards = match port.protocol {
            Protocol::Tcp => &mut edge.forwards,
            Protocol::Udp => &mut edge.datagram_forwards,
        };
        for listen in listen_addresses(port) {
            forwards.push(Forward {
                id: name.clone(),
                listen,
                pool: name.clone(),
            });
        }
        let ready = || Pool {
            hold_ms: in_ms(hold(service)),
            ..pool_of(service, port.target, routing, draining, &address)
        };
        edge.pools.entry(name.clone()).or_insert_with(ready);
    }
    let is_public = |host: &&String| public_hosts::signs_for(&release.tls, host);
    edge.public = hosts.iter().filter(is_public).cloned().collect();
    if let Some(Pair { chain, key }) = certificate.filter(|_| !hosts.is_empty()) {
        edge.certificates.push(Certificate {
            hosts: hosts.into_iter().collect(),
            chain,
            key,
        });
    }
    edge
}

/// What a state of the edge holds of one environment, whose names all begin alike. Pure.
fn part_of(state: &EdgeState, id: &EnvironmentId) -> EnvironmentEdge {
    part_by(state, |name| is_pool_of(name, id))
}

/// What a state of the edge holds under names that are somebody's own. Pure.
fn part_by(state: &EdgeState, is_own: impl Fn(&str) -> bool) -> EnvironmentEdge {
    let forwards = |all: &[Forward]| -> Vec<Forward> {
        let own = all.iter().filter(|forward| is_own(&forward.id));
        own.cloned().collect()
    };
    let routes = state.routes.iter().filter(|route| is_own(&route.id));
    let routes: Vec<Route> = routes.cloned().collect();
    let serves = |host: &String| routes.iter().any(|route| route.hosts.contains(host));
    let certificates = state.certificates.iter();
    let certificates = certificates.filter(|certificate| certificate.hosts.iter().any(serves));
    let pools = state.pools.iter().filter(|(name, _)| is_own(name));
    EnvironmentEdge {
        certificates: certificates.cloned().collect(),
        forwards: forwards(&state.forwards),
        datagram_forwards: forwards(&state.datagram_forwards),
        pools: pools.map(|(k, v)| (k.clone(), v.clone())).collect(),
        routes,
        public: BTreeSet::new(),
    }
}

/// What the names of an environment's pools begin with.
fn pools_of(id: &EnvironmentId) -> String {
    format!("{id}/")
}

/// Whether a pool is of this environment.
pub(crate) fn is_pool_of(pool: &str, id: &EnvironmentId) -> bool {
    pool.starts_with(&pools_of(id))
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The replicas of a service by one of their ports; nobody waits for one.
fn pool_of(
    service: &ServiceName,
    port: u16,
    routing: &Routing,
    draining: &BTreeMap<ServiceName, Vec<ReplicaId>>,
    address: &impl Fn(&ReplicaId) -> Option<IpAddr>,
) -> Pool {
    let answer = routing.services.get(service).cloned().unwrap_or_default();
    let reached = |id: &ReplicaId, draining: bool| {
        Some(Replica {
            id: id.0.clone(),
            address: SocketAddr::new(address(id)?, port),
            draining,
        })
    };
    let serving = answer.serving.iter().filter_map(|id| reached(id, false));
    let leaving = draining.get(service).into_iter().flatten();
    Pool {
        replicas: serving
            .chain(leaving.filter_map(|id| reached(id, true)))
            .collect(),
        local: Vec::new(),
        hold_ms: 0,
        unavailable_reason: answer.reason,
        canary: answer.canary.map(|canary| Canary {
            replicas: canary
                .replicas
                .iter()
                .filter_map(|id| reached(id, false))
                .collect(),
            permille: canary.permille,
            release: canary.release,
        }),
    }
}

/// Where a published port is opened: on every address unless one is named.
pub(crate) fn listen_addresses(port: &Port) -> Vec<SocketAddr> {
    let Some(published) = port.published else {
        return Vec::new();
    };
    let named = port
        .host_ip
        .as_ref()
        .map(|ip| ip.trim_matches(['[', ']']).parse());
    match named {
        Some(Ok(ip)) => vec![SocketAddr::new(ip, published)],
        // The model refuses what is no address.
        Some(Err(_)) | None => vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, published)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, published)),
        ],
    }
}

/// The one state of the edge, and the edge's process.
#[derive(Debug)]
pub(crate) struct EdgeHub {
    control: Control,
    launch: Launch,
    state: Mutex<HubState>,
    /// Whether an edge may be started; held while one is.
    starts: Mutex<bool>,
    issued: StdMutex<Issued>,
    /// Names for which certificates of authorities are wanted.
    public: watch::Sender<BTreeSet<Name>>,
}

#[derive(Debug)]
struct HubState {
    /// What the machine asks for, whatever is deployed.
    machine: EdgeState,
    /// Environments that have not yet said what they need since the daemon started. Until all
    /// have, the edge goes on with what it has.
    awaited: BTreeSet<String>,
    environments: BTreeMap<String, EnvironmentEdge>,
    /// Hosts that the daemon itself serves.
    own_hosts: BTreeSet<String>,
    /// How it serves them; `None`: it has not yet said so, and is awaited as environments are.
    gateway: Option<EnvironmentEdge>,
    generation: u64,
    pushed: Option<EdgeState>,
    status: Option<Arc<EdgeStatus>>,
    kept: Option<Kept>,
}

/// The edge's listening sockets, for the next edge should this one be killed: until then the kernel
/// queues who connects.
#[derive(Debug)]
struct Kept {
    sockets: KeptSockets,
    /// Process and number of changes of the edge when they were obtained.
    of: (u32, u64),
}

/// Why the edge does not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EdgeError {
    #[error("cannot start the edge")]
    Start { source: io::Error },
    #[error("the daemon ends, and the edge with it")]
    Over,
    #[error("the edge has not answered within {START_DEADLINE:?} of its start; see {log}", log = log.display())]
    Silent { log: PathBuf },
}

impl EdgeHub {
    pub(crate) fn new(
        control: Control,
        launch: Launch,
        machine: EdgeState,
        awaited: impl IntoIterator<Item = EnvironmentId>,
    ) -> Self {
        let state = HubState {
            machine,
            awaited: awaited.into_iter().map(|id| environment_key(&id)).collect(),
            environments: BTreeMap::new(),
            own_hosts: BTreeSet::new(),
            gateway: Some(EnvironmentEdge::default()),
            generation: 0,
            pushed: None,
            status: None,
            kept: None,
        };
        Self {
            control,
            launch,
            state: Mutex::new(state),
            starts: Mutex::new(true),
            issued: StdMutex::default(),
            public: watch::Sender::default(),
        }
    }

    /// Replaces what an environment asks for (`None`: nothing any more), and returns the edge's
    /// report, which then reflects it; `None` while the edge cannot be reached.
    pub(crate) async fn set(
        &self,
        id: &EnvironmentId,
        part: Option<EnvironmentEdge>,
    ) -> Option<Arc<EdgeStatus>> {
        let key = environment_key(id);
        let mut state = self.state.lock().await;
        state.awaited.remove(&key);
        match part {
            Some(part) => state.environments.insert(key, part),
            None => state.environments.remove(&key),
        };
        self.announce(&state);
        self.sync(&mut state).await;
        state.status.clone()
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which hosts the daemon itself will serve, before any environment says what it needs.
    pub(crate) async fn reserve(&self, hosts: BTreeSet<String>) {
        self.state.lock().await.reserve(hosts);
    }

    /// Replaces what the daemon itself serves.
    pub(crate) async fn set_gateway(&self, part: EnvironmentEdge) {
        let mut state = self.state.lock().await;
        state.gateway = Some(part);
        self.announce(&state);
        self.sync(&mut state).await;
    }

    /// A gateway that cannot be served keeps what the edge has of it: the environments do not wait
    /// for it.
    pub(crate) async fn carry_over_gateway(&self, pool: &'static str) {
        if self.state.lock().await.gateway.is_some() {
            return;
        }
        let launch = self.launch.clone();
        let kept = tokio::task::spawn_blocking(move || launch.kept_state()).await;
        let part = match kept.map_err(io::Error::other).flatten() {
            Ok(state) => part_by(&state, |name| name == pool),
            Err(error) => {
                tracing::error!(%error, "what the edge has of the gateway is not known: it is not served");
                EnvironmentEdge::default()
            }
        };
        self.set_gateway(part).await;
    }

    /// Hosts that the daemon itself serves.
    pub(crate) async fn own_hosts(&self) -> BTreeSet<String> {
        self.state.lock().await.own_hosts.clone()
    }

    /// An environment that cannot say what it needs keeps what the edge has of it: it goes on, and
    /// the others do not wait for it.
    pub(crate) async fn carry_over(&self, id: &EnvironmentId) {
        let launch = self.launch.clone();
        let kept = tokio::task::spawn_blocking(move || launch.kept_state()).await;
        let part = match kept {
            Ok(Ok(state)) => {
                let mut part = part_of(&state, id);
                part.public = self.issued().known(&part);
                part
            }
            Ok(Err(error)) => {
                tracing::error!(environment = %id, %error, "what the edge has of it is not known: it is not served");
                EnvironmentEdge::default()
            }
            // The process is on its way out.
            Err(_) => return,
        };
        let key = environment_key(id);
        let mut state = self.state.lock().await;
        state.awaited.remove(&key);
        state.environments.insert(key, part);
        self.announce(&state);
    }

    /// The certificate that an environment is served with; after a start of the daemon, as the edge's
    /// folder has it.
    pub(crate) async fn certificate(&self, id: &EnvironmentId) -> Option<Pair> {
        let known = {
            let state = self.state.lock().await;
            state.environments.get(&environment_key(id)).cloned()
        };
        let part = match known {
            Some(part) => part,
            None => {
                let launch = self.launch.clone();
                let kept = tokio::task::spawn_blocking(move || launch.kept_state()).await;
                let kept = kept.map_err(io::Error::other).flatten();
                let failed = |error: &io::Error| {
                    tracing::warn!(environment = %id, %error, "the certificate it had cannot be read");
                };
                part_of(&kept.inspect_err(failed).ok()?, id)
            }
        };
        // Those of authorities are for one host each.
        let certificates = part.certificates.into_iter();
        let certificate = certificates.max_by_key(|certificate| certificate.hosts.len())?;
        Some(Pair {
            chain: certificate.chain,
            key: certificate.key,
        })
    }

    /// The newest report.
    pub(crate) async fn status(&self) -> Option<Arc<EdgeStatus>> {
        self.state.lock().await.status.clone()
    }

    /// Pushes the state if the edge does not have it, and asks for a report.
    async fn sync(&self, state: &mut HubState) {
        let status = match self.control.status().await {
            Ok(status) => status,
            Err(error) => {
                tracing::debug!(%error, "edge does not answer");
                state.status = None;
                return;
            }
        };
        state.generation = state.generation.max(status.generation);
        let Some(wanted) = state.wanted(&self.issued()) else {
            // The edge serves what it has, which may differ from what its environments think: no
            // report, so that nobody acts on one.
            self.keep_sockets(state, &status).await;
            state.status = None;
            return;
        };
        let has = state.pushed.as_ref().is_some_and(|pushed| {
            pushed.generation == status.generation && same_but_generation(pushed, &wanted)
        });
        if has {
            self.keep_sockets(state, &status).await;
            state.status = Some(Arc::new(status));
            return;
        }
        // The number is the edge's word.
        let Some(generation) = state.generation.checked_add(1) else {
            tracing::warn!("the edge has no number left for another state");
            state.status = None;
            return;
        };
        let next = EdgeState {
            generation,
            ..wanted
        };
        if let Some(kept) = &mut state.kept {
            kept.sockets.retain(&next);
        }
        match self.control.put_state(&next).await {
            Ok(status) => {
                self.keep_sockets(state, &status).await;
                state.generation = next.generation;
                state.pushed = Some(next);
                state.status = Some(Arc::new(status));
            }
            Err(error) => {
                tracing::warn!(%error, generation = next.generation, "edge refused its state");
                state.status = None;
            }
        }
    }

    /// Obtains duplicates of the edge's sockets where those at hand are out of date.
    async fn keep_sockets(&self, state: &mut HubState, status: &EdgeStatus) {
        let of = (status.pid, status.ports_changed);
        if status.stopping || state.kept.as_ref().is_some_and(|kept| kept.of == of) {
            return;
        }
        let run_dir = self.launch.run_dir();
        let obtained = tokio::task::spawn_blocking(move || KeptSockets::of_edge(&run_dir));
        let sockets = match obtained.await {
            Ok(Ok(sockets)) => sockets,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "connections would be refused between a killed edge and the next"
                );
                KeptSockets::default()
            }
            // The process is on its way out.
            Err(_) => return,
        };
        state.kept = Some(Kept { sockets, of });
    }

    /// Keeps one edge running until cancelled. The edge outlives the daemon: one that runs is
    /// adopted.
    pub(crate) async fn supervise(&self, task: &Supervised) {
        let cancel = &task.end;
        while !cancel.is_cancelled() {
            match self.ensure_running().await {
                Ok(pid) => {
                    task.report(Ok(format!("process {pid} serves")));
                    self.sync(&mut *self.state.lock().await).await;
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = exit_of(pid) => tracing::warn!(pid, "edge ended, starting another"),
                    }
                }
                Err(error) => {
                    task.report(Err(havre_base::one_line(&error)));
                    tracing::error!(error = &error as &dyn std::error::Error, "no edge");
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Ends a replica's WebSockets and event streams between two messages, evenly over `over`.
    pub(crate) async fn close_streams(&self, replica: &ReplicaId, over: Duration) {
        match self.control.close_streams(&replica.0, over).await {
            Ok(closing) => tracing::info!(%replica, streams = closing.streams, "closing streams"),
            // The deadline of the drain ends them all the same.
            Err(error) => tracing::warn!(%replica, %error, "streams are not closed"),
        }
    }

    /// Ends the edge in peace, also one that has only been started; there is no other after it.
    pub(crate) async fn shut_down(&self, grace: Duration) {
        *self.starts.lock().await = false;
        let mut state = self.state.lock().await;
        // Nobody comes who would accept from them.
        state.kept = None;
        if let Err(error) = self.control.shutdown(grace).await {
            tracing::warn!(%error, "edge could not be asked to end");
        }
    }

    async fn ensure_running(&self) -> Result<u32, EdgeError> {
        let starts = self.starts.lock().await;
        let running = self.control.status().await.ok();
        let outdated = match running {
            Some(status) if status.version == env!("CARGO_PKG_VERSION") || status.stopping => {
                if status.predecessor.is_none() {
                    self.launch.forget_former();
                }
                return Ok(status.pid);
            }
            Some(status) => Some(status.pid),
            None => None,
        };
        if !*starts {
            return Err(EdgeError::Over);
        }
        // An edge that does not come up with them leaves none to the next: nobody should wait for it.
        let kept = self.state.lock().await.kept.take();
        let sockets = match (outdated, kept) {
            (None, Some(kept)) => Sockets::Kept(kept.sockets),
            // Also from an edge that runs as root, in another place, from before an upgrade.
            (None, None) | (Some(_), _) => Sockets::TakenOver,
        };
        self.launch
            .spawn(sockets)
            .map_err(|source| EdgeError::Start { source })?;
        let deadline = tokio::time::Instant::now() + START_DEADLINE;
        while tokio::time::Instant::now() < deadline {
            if let Ok(status) = self.control.status().await
                && Some(status.pid) != outdated
            {
                tracing::info!(pid = status.pid, "edge runs");
                return Ok(status.pid);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(EdgeError::Silent {
            log: self.launch.error_log(),
        })
    }
}

impl HubState {
    /// Nobody else is to have them, and the edge waits for what is served there.
    fn reserve(&mut self, hosts: BTreeSet<String>) {
        self.gateway = hosts.is_empty().then(EnvironmentEdge::default);
        self.own_hosts = hosts;
    }

    /// Of the environments, by their keys, and of the daemon itself.
    fn parts(&self) -> impl Iterator<Item = (Option<&String>, &EnvironmentEdge)> {
        let environments = self
            .environments
            .iter()
            .map(|(key, part)| (Some(key), part));
        environments.chain(self.gateway.iter().map(|part| (None, part)))
    }

    /// `None` as long as somebody is awaited.
    fn wanted(&self, issued: &Issued) -> Option<EdgeState> {
        if self.gateway.is_none() || !self.awaited.is_empty() {
            return None;
        }
        let mut state = EdgeState {
            challenges: issued.challenges(),
            ..self.machine.clone()
        };
        for (_, part) in self.parts() {
            state.certificates.extend(issued.certificates(part));
        }
        for (_, part) in self.parts() {
            state.certificates.extend(part.certificates.iter().cloned());
            state.routes.extend(part.routes.iter().cloned());
            state.forwards.extend(part.forwards.iter().cloned());
            let datagrams = part.datagram_forwards.iter().cloned();
            state.datagram_forwards.extend(datagrams);
            state
                .pools
                .extend(part.pools.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        Some(state)
    }
}

fn same_but_generation(a: &EdgeState, b: &EdgeState) -> bool {
    EdgeState {
        generation: 0,
        ..a.clone()
    } == EdgeState {
        generation: 0,
        ..b.clone()
    }
}

#[cfg(test)]
mod tests;
