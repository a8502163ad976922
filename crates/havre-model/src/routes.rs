//! Which service answers at which path when nobody has said so.

mod front;
mod labels;
mod rule;

pub(crate) use front::is_front_end;
pub(crate) use labels::{Labelled, is_traefik, labelled};

use std::net::IpAddr;

use crate::project::{Port, Protocol, Route, RouteProtocol, Service, ServiceName};

/// A service as route inference sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub service: ServiceName,
    /// The port that most likely speaks HTTP.
    pub port: u16,
    /// Whether the port is published to others, under a number, and not only exposed.
    pub published: bool,
    /// The port of the machine that leads to it, where one is chosen.
    pub at: Option<u16>,
    /// Whether its files say that it is a front end.
    pub front_end: bool,
}

/// What [`infer`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inference {
    /// Paths and who answers them; empty when nothing speaks HTTP.
    Routes(Vec<Route>),
    /// More than one reading; a person must choose.
    Ambiguous(Vec<Candidate>),
}

/// What a candidate is to a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Front,
    Back,
    Unknown,
}

/// Ports that never speak HTTP to a browser.
const OTHER_PROTOCOLS: &[u16] = &[
    20, 21, 22, 23, 25, 53, 110, 111, 123, 135, 137, 138, 139, 143, 161, 389, 443, 445, 465, 514,
    587, 636, 853, 873, 989, 990, 993, 995, 1025, 1194, 1433, 1521, 1883, 2049, 2181, 2379, 2380,
    2525, 3268, 3306, 3389, 4222, 4369, 5044, 5222, 5269, 5432, 5433, 5671, 5672, 5900, 6379, 6380,
    6432, 7000, 7001, 7199, 7687, 8125, 8443, 8883, 9042, 9092, 9093, 9160, 9300, 11211, 16379,
    26257, 26379, 27017, 27018, 27019, 28015, 33060, 50000, 61613, 61616,
];

/// Databases, queues and the like, by a word of the service's or image's name.
const NOT_FOR_BROWSERS: &[&str] = &[
    "postgres",
    "postgresql",
    "postgis",
    "pgvector",
    "timescaledb",
    "pgbouncer",
    "mysql",
    "mariadb",
    "percona",
    "redis",
    "valkey",
    "keydb",
    "dragonfly",
    "memcached",
    "memcache",
    "rabbitmq",
    "mongo",
    "mongodb",
    "cassandra",
    "scylla",
    "elasticsearch",
    "opensearch",
    "clickhouse",
    "influxdb",
    "kafka",
    "zookeeper",
    "nats",
    "mosquitto",
    "etcd",
    "neo4j",
    "cockroach",
    "cockroachdb",
    "mssql",
    "oracle",
    "db",
    "database",
    "cache",
    "broker",
    "queue",
];

const FRONT: &[&str] = &[
    "frontend", "front", "ui", "client", "www", "next", "nextjs", "nuxt", "react", "vue",
    "angular", "svelte", "spa",
];
const PERHAPS_FRONT: &[&str] = &["web", "webapp", "app", "site", "website", "portal"];
/// These know by themselves what goes where.
const GATEWAY: &[&str] = &[
    "nginx",
    "proxy",
    "gateway",
    "caddy",
    "traefik",
    "haproxy",
    "envoy",
    "ingress",
    "lb",
    "loadbalancer",
    "balancer",
];
const BACK: &[&str] = &[
    "backend", "back", "api", "server", "graphql", "rest", "flask", "django", "fastapi", "rails",
    "express",
];

const FRONT_PORTS: &[u16] = &[80, 3000, 8080, 4200, 5173];
/// Few on purpose: a port alone is weak evidence, and a wrong `/api` worse than a question.
const BACK_PORTS: &[u16] = &[5000, 8000];

/// Where a browser asks when it is told no port; here the proxy answers at them.
pub(crate) const WEB_PORTS: [u16; 2] = [80, 443];

/// Ports in the order of how likely they speak HTTP.
const LIKELY: &[u16] = &[80, 3000, 8080, 8000, 5000, 4200, 5173, 4000, 8001, 9000];

/// Services that could answer a browser: the published ones, or if none is, the exposed ones;
/// what is only exposed was not meant for the world where something else is published, and what is
/// published on the machine's own addresses alone is not meant for it anywhere.
pub fn candidates<'s>(
    services: impl IntoIterator<Item = (&'s ServiceName, &'s Service)>,
) -> Vec<Candidate> {
    let all: Vec<Candidate> = services
        .into_iter()
        .filter(|(name, service)| !never_http(name.as_str(), service.image.as_deref()))
        .filter_map(|(name, service)| candidate(name, service))
        .collect();
    let published: Vec<_> = all.iter().filter(|c| c.published).cloned().collect();
    if published.is_empty() { all } else { published }
}

/// The routes of a project without written ones.
pub fn infer(candidates: &[Candidate]) -> Inference {
    if candidates.is_empty() {
        return Inference::Routes(Vec::new());
    }
    if let [only] = candidates {
        return Inference::Routes(vec![to("/", only)]);
    }
    let gateways = candidates
        .iter()
        .filter(|candidate| named(candidate, GATEWAY));
    let by_web_port = by_web_port(candidates);
    if let [gateway] = &gateways.collect::<Vec<_>>()[..]
        && (is_at_web_port(gateway) || by_web_port.is_none())
    {
        return Inference::Routes(vec![to("/", gateway)]);
    }
    by_role(candidates)
        .or(by_web_port)
        .unwrap_or_else(|| Inference::Ambiguous(candidates.to_vec()))
}

/// The one that a browser would ask without a port, where no one else is.
fn by_web_port(candidates: &[Candidate]) -> Option<Inference> {
    let web = candidates
        .iter()
        .filter(|candidate| is_at_web_port(candidate));
    match &web.collect::<Vec<_>>()[..] {
        [web] => Some(Inference::Routes(vec![to("/", web)])),
        _ => None,
    }
}

fn is_at_web_port(candidate: &Candidate) -> bool {
    candidate.at.is_some_and(|at| WEB_PORTS.contains(&at))
}

/// The one that is a front end beside others, where it is clear which.
pub fn front_end(candidates: &[Candidate]) -> Option<&Candidate> {
    let by_files: Vec<&Candidate> = candidates.iter().filter(|c| c.front_end).collect();
    if let [one] = by_files[..] {
        return Some(one);
    }
    let pairs = candidates.iter().zip(roles(candidates));
    let mut front = pairs.filter(|(_, role)| *role == Role::Front);
    match (front.next(), front.next()) {
        (Some((one, _)), None) => Some(one),
        _ => None,
    }
}

fn by_role(candidates: &[Candidate]) -> Option<Inference> {
    let roles = roles(candidates);
    let with = |role: Role| -> Vec<&Candidate> {
        let pairs = candidates.iter().zip(&roles);
        pairs
            .filter(|(_, r)| **r == role)
            .map(|(candidate, _)| candidate)
            .collect()
    };
    let (front, back, unknown) = (with(Role::Front), with(Role::Back), with(Role::Unknown));
    match (&front[..], &back[..], &unknown[..]) {
        // Beside a known back end, a single other service is the front end.
        ([front], [back], []) | ([], [back], [front]) => {
            Some(Inference::Routes(vec![to("/api", back), to("/", front)]))
        }
        _ => None,
    }
}

fn to(path: &str, candidate: &Candidate) -> Route {
    route(path, &candidate.service, candidate.port)
}

fn route(path: &str, service: &ServiceName, port: u16) -> Route {
    Route {
        host: None,
        path: path.to_owned(),
        service: service.clone(),
        port,
        strip_prefix: false,
        protocol: RouteProtocol::Http,
        inferred: true,
    }
}

fn candidate(name: &ServiceName, service: &Service) -> Option<Candidate> {
    let tcp = || {
        let ports = service.ports.iter();
        ports.filter(|port| port.protocol == Protocol::Tcp)
    };
    let open: Vec<&Port> = tcp().filter(|port| !is_local(port)).collect();
    // Without a number it is not opened, and nobody outside knows of it.
    let numbered = || open.iter().filter(|port| port.published.is_some());
    let web = numbered()
        .find(|port| port.published == Some(80) && !OTHER_PROTOCOLS.contains(&port.target));
    let published = web
        .map(|port| port.target)
        .or_else(|| best(numbered().map(|port| port.target)));
    let at = published.and_then(|target| {
        let mut leading = numbered().filter(|port| port.target == target);
        leading.find_map(|port| port.published)
    });
    let port = match published {
        Some(port) => port,
        None if open.is_empty() && tcp().next().is_some() => return None,
        None => {
            let unnumbered = open.iter().map(|port| port.target);
            best(unnumbered).or_else(|| best(service.expose.iter().copied()))?
        }
    };
    Some(Candidate {
        service: name.clone(),
        port,
        published: published.is_some(),
        at,
        front_end: false,
    })
}

/// The port that most likely speaks HTTP, whoever may reach it.
pub(crate) fn likely_port(service: &Service) -> Option<u16> {
    let tcp = service.ports.iter();
    let tcp = tcp.filter(|port| port.protocol == Protocol::Tcp);
    best(tcp.map(|port| port.target)).or_else(|| best(service.expose.iter().copied()))
}

/// Whether only this machine reaches a published port.
pub(crate) fn is_local(port: &Port) -> bool {
    let address = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
    address.is_some_and(|address: IpAddr| address.is_loopback())
}

/// The likeliest of a service's ports; among unlikely ones the first.
fn best(ports: impl Iterator<Item = u16>) -> Option<u16> {
    let ports: Vec<u16> = ports
        .filter(|port| !OTHER_PROTOCOLS.contains(port))
        .collect();
    let likely = LIKELY.iter().find(|port| ports.contains(port));
    likely.or(ports.first()).copied()
}

fn never_http(name: &str, image: Option<&str>) -> bool {
    let image = image.map(|image| {
        let path = image.split('@').next().unwrap_or(image);
        let last = path.rsplit('/').next().unwrap_or(path);
        last.split(':').next().unwrap_or(last)
    });
    let is = |word: &str| NOT_FOR_BROWSERS.contains(&word);
    // Whole names only: `redis-commander` is a web page.
    let image = image.is_some_and(|image| is(&image.to_ascii_lowercase()));
    image || is(&name.to_ascii_lowercase())
}

fn roles(candidates: &[Candidate]) -> Vec<Role> {
    let by_port = |candidate: &Candidate| {
        if FRONT_PORTS.contains(&candidate.port) {
            Role::Front
        } else if BACK_PORTS.contains(&candidate.port) {
            Role::Back
        } else {
            Role::Unknown
        }
    };
    let front = |candidate: &Candidate| candidate.front_end || named(candidate, FRONT);
    // Beside a certain front end, `web` or `app` says nothing.
    let certain = candidates.iter().any(front);
    candidates
        .iter()
        .map(|candidate| {
            if front(candidate) {
                Role::Front
            } else if named(candidate, BACK) {
                Role::Back
            } else if !certain && named(candidate, PERHAPS_FRONT) {
                Role::Front
            } else {
                by_port(candidate)
            }
        })
        .collect()
}

/// Whether a word of the service's name is among `known`.
fn named(candidate: &Candidate, known: &[&str]) -> bool {
    words(candidate.service.as_str()).any(|word| known.contains(&word.as_str()))
}

/// `my-web_app2` → `my`, `web`, `app`.
fn words(name: &str) -> impl Iterator<Item = String> + '_ {
    name.split(['-', '_', '.']).map(|word| {
        word.trim_end_matches(|c: char| c.is_ascii_digit())
            .to_ascii_lowercase()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name:port`, or `name:port@published`, for each candidate → `path=name:port` for each route, or `?`.
    fn check(candidates: &str, expected: &str) {
        let candidates: Vec<Candidate> = candidates
            .split_whitespace()
            .map(|text| {
                let (service, port) = text.split_once(':').unwrap();
                let (port, at) = port.split_once('@').unwrap_or((port, ""));
                Candidate {
                    service: ServiceName::new(service),
                    port: port.parse().unwrap(),
                    published: true,
                    at: at.parse().ok(),
                    front_end: false,
                }
            })
            .collect();
        let actual = match infer(&candidates) {
            Inference::Ambiguous(_) => "?".to_owned(),
            Inference::Routes(routes) => {
                let shown = routes
                    .iter()
                    .map(|r| format!("{}={}:{}", r.path, r.service, r.port));
                shown.collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(actual, expected, "{candidates:?}");
    }

    #[test]
    fn one_candidate_gets_everything() {
        check("", "");
        check("whoami:8080", "/=whoami:8080");
        check("api:8000", "/=api:8000");
    }

    #[test]
    fn front_and_back() {
        check(
            "backend:5000 frontend:3000",
            "/api=backend:5000 /=frontend:3000",
        );
        check("api:3000 web:3000", "/api=api:3000 /=web:3000");
        check("web:8000 frontend:3000", "/api=web:8000 /=frontend:3000");
        check("my-api-2:80 my-ui:80", "/api=my-api-2:80 /=my-ui:80");
        check("novels:8000 shop:3000", "/api=novels:8000 /=shop:3000");
        check("server:4000 shop:7777", "/api=server:4000 /=shop:7777");
        check("app:3000 api:8000", "/api=api:8000 /=app:3000");
    }

    #[test]
    fn a_gateway_knows_by_itself() {
        check("nginx:80 api:8000", "/=nginx:80");
        check(
            "reverse-proxy:8080 frontend:3000 backend:5000",
            "/=reverse-proxy:8080",
        );
        check("api-gateway:8000 web:3000", "/=api-gateway:8000");
        check("nginx:80 traefik:80", "?");
        check("nginx:80@80 blog:8080@8080", "/=nginx:80");
        check("nginx:80@8081 blog:8080@8080", "/=nginx:80");
        // Here is asked who is asked without a port elsewhere.
        check("nginx:80@8081 blog:8080@80", "/=blog:8080");
    }

    #[test]
    fn unclear() {
        check("a:80 b:8080", "?");
        check("frontend:3000 other:7777", "?");
        check("frontend:3000 client:3001", "?");
        check("web:3000 streaming:4000", "?");
        check("api:8000 server:8001", "?");
        check("frontend:3000 api:8000 admin:8090", "?");
        check("frontend:3000 api:8000 backend:8001", "?");
    }

    #[test]
    fn databases_are_no_candidates() {
        assert!(never_http("db", Some("debian:bookworm")));
        assert!(never_http(
            "store",
            Some("registry.example/library/postgres:16@sha256:ab")
        ));
        assert!(never_http("Redis", None));
        assert!(!never_http(
            "cache-ui",
            Some("rediscommander/redis-commander:latest")
        ));
        assert!(!never_http("web", Some("nginx")));
    }

    #[test]
    fn the_likeliest_port() {
        assert_eq!(best([9229, 3000].into_iter()), Some(3000));
        assert_eq!(best([5432].into_iter()), None);
        assert_eq!(best([443, 80].into_iter()), Some(80));
        assert_eq!(best([7777, 7778].into_iter()), Some(7777));
    }
}
