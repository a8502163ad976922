//! The edge's whole desired state, pushed by the control plane and kept on disk, and what the edge
//! reports back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// All the edge has to do. Pushing the same state twice changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeState {
    /// Grows with every push; an older one is refused.
    pub generation: u64,
    /// Plain HTTP: redirects to HTTPS.
    pub http: Vec<SocketAddr>,
    /// HTTPS.
    pub https: Vec<SocketAddr>,
    /// Certificates by the hosts they serve.
    pub certificates: Vec<Certificate>,
    /// Routes of all environments.
    pub routes: Vec<Route>,
    /// Ports whose connections are passed on as they are.
    #[serde(default)]
    pub forwards: Vec<Forward>,
    /// Ports whose datagrams are passed on.
    #[serde(default)]
    pub datagram_forwards: Vec<Forward>,
    /// Replicas by pool.
    pub pools: BTreeMap<String, Pool>,
    /// Peers whose X-Forwarded-* are believed, as CIDR.
    pub trusted_proxies: Vec<String>,
    /// Client connections that one address, other than a trusted proxy's, may have open; a default of
    /// the edge's own where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_per_address: Option<u32>,
}

/// A certificate and its key, as PEM: the edge can read no files of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Hosts, lower case; `*.example.org` covers one label.
    pub hosts: Vec<String>,
    /// Chain, leaf first.
    pub chain: String,
    /// Key.
    pub key: PrivateKey,
}

/// A private key as PEM, which no message shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKey(pub String);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// Requests for `hosts` whose path starts with `path` go to `pool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Name for logs, e.g. `fnt/production/frontend`.
    pub id: String,
    /// Hosts, lower case.
    pub hosts: Vec<String>,
    /// Prefix of whole segments; the longest match wins.
    pub path: String,
    /// Remove `path` before passing the request on.
    pub strip_prefix: bool,
    /// Key in `pools`.
    pub pool: String,
    /// What its replicas speak.
    #[serde(default)]
    pub protocol: UpstreamProtocol,
}

/// What a replica speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, as gRPC servers do.
    H2c,
}

/// TCP connections to `listen` go to `pool`, byte for byte; or UDP datagrams, one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Name for messages, e.g. `fnt/production/db:5432`.
    pub id: String,
    /// Address and port of the machine.
    pub listen: SocketAddr,
    /// Key in `pools`.
    pub pool: String,
}

/// The replicas of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Replicas.
    pub replicas: Vec<Replica>,
    /// With no serving replica, hold new requests this long before answering 503
    /// (0: answer at once).
    pub hold_ms: u64,
    /// Why there is none (state, exit code, …), for the access log.
    pub unavailable_reason: Option<String>,
    /// Further replicas that serve a share of the visitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// Replicas that serve a share of the visitors. A browser stays on its side: it keeps a number that
/// it is given with its first page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Replicas; when none of them takes a request the others do.
    pub replicas: Vec<Replica>,
    /// Visitors among a thousand.
    pub permille: u32,
    /// Whoever is among the first for one of these is not for another.
    pub release: u64,
}

/// One running instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The container's id.
    pub id: String,
    /// Address reachable from the edge.
    pub address: SocketAddr,
    /// A draining replica gets no new requests; those in flight end in peace.
    pub draining: bool,
}

/// What the edge reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// Generation applied by every thread.
    pub generation: u64,
    /// Process id.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
    /// By replica id; kept after a replica has left the state until nothing is in flight.
    pub replicas: BTreeMap<String, ReplicaStatus>,
    /// By pool.
    #[serde(default)]
    pub pools: BTreeMap<String, PoolStatus>,
    /// Listeners or certificates that could not be used: what and why.
    pub problems: Vec<String>,
    /// Ports that somebody else has; who that is, the edge cannot see.
    #[serde(default)]
    pub taken: Vec<TakenPort>,
    /// Plain HTTP addresses in use, with the ports that the kernel chose where 0 was asked for.
    #[serde(default)]
    pub http: Vec<SocketAddr>,
    /// HTTPS addresses in use, likewise.
    #[serde(default)]
    pub https: Vec<SocketAddr>,
    /// Client connections refused since their address had too many open.
    #[serde(default)]
    pub turned_away: u64,
    /// Addresses that have as many connections as they may, and are refused more.
    #[serde(default)]
    pub crowds: Vec<Crowd>,
    /// Datagrams that were dropped since too many clients had a place already.
    #[serde(default)]
    pub flows_refused: u64,
    /// How often a port was opened or closed: duplicates of the sockets made before the last time
    /// are out of date.
    #[serde(default)]
    pub ports_changed: u64,
    /// Process id of the edge that this one took over from, while it still finishes requests and
    /// streams: those are not in the counters here.
    #[serde(default)]
    pub predecessor: Option<u32>,
    /// It takes no new connections and ends soon.
    #[serde(default)]
    pub stopping: bool,
}

/// An address that many clients have, or one that attacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crowd {
    /// An IPv4 address, or an IPv6 network.
    pub address: String,
    /// Connections.
    pub open: u32,
    /// Connections refused since it had fewer than it may.
    pub refused: u64,
}

/// A port of the machine that the edge was to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenPort {
    /// Wanted.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub transport: Transport,
}

/// TCP and UDP have ports of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Counters of one replica since the edge started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Requests not yet answered in full (streams not counted).
    pub in_flight: u64,
    /// Open WebSockets and event streams.
    pub streams: u64,
    /// Requests answered.
    pub requests: u64,
    /// Requests that failed through the replica (no connection, reset, cut short).
    pub failed: u64,
    /// Answers with 5xx.
    pub server_errors: u64,
    /// The last request that failed through the replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailedRequest>,
    /// Answers by how long the replica took to begin them, at most, in milliseconds; without
    /// zeros.
    #[serde(default)]
    pub latency_ms: BTreeMap<u32, u64>,
}

/// A request that failed, as the access log tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRequest {
    /// When it arrived, in milliseconds since 1970.
    pub at_ms: u64,
    /// X-Request-Id.
    pub request_id: String,
    /// What went wrong.
    pub cause: String,
}

/// Counters of one pool since the edge started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Requests answered.
    pub requests: u64,
    /// Requests that no replica answered, or not to the end.
    pub failed: u64,
    /// Answers with 5xx.
    pub server_errors: u64,
}
