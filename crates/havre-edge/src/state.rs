//! The edge's whole desired state, pushed by the control plane and kept on disk, and what the edge
//! reports back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

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
    /// What an authority looks for before it issues a certificate.
    #[serde(default, skip_serializing_if = "Challenges::is_empty")]
    pub challenges: Challenges,
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

/// Proofs that a name is ours, as long as an authority looks for them (RFC 8555 §8.3, RFC 8737). They are
/// given to whoever asks, before redirects and routes: the host need not be served yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenges {
    /// What is answered at `/.well-known/acme-challenge/<token>`, by token.
    #[serde(default)]
    pub http: BTreeMap<String, String>,
    /// What is shown to a client that speaks `acme-tls/1` alone; no other client sees them.
    #[serde(default)]
    pub tls: Vec<Certificate>,
}

impl Challenges {
    /// Whether nobody looks for anything.
    pub fn is_empty(&self) -> bool {
        self.http.is_empty() && self.tls.is_empty()
    }
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
    /// Further members, reached by sockets. An edge, or a daemon, from before there were any passes them
    /// over: the rest of the state is in force, and requests for them find no replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local: Vec<LocalServer>,
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

/// A server of this machine that is no container, on a Unix socket ([`crate::listen_for_edge`]). It takes
/// what a replica takes but datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalServer {
    /// Name for logs, counters and [`crate::Control::close_streams`], among those of replicas.
    pub id: String,
    /// Where it listens.
    pub socket: SocketName,
}

/// Name of a socket in the edge's run folder: the edge sees no others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketName(String);

/// A text that names no socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a socket: up to {SOCKET_NAME} of a-z, 0-9 and -")]
pub struct SocketNameError(String);

/// Bytes of a socket's name: with the folder it has to fit into a short path.
const SOCKET_NAME: usize = 16;

impl SocketName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SocketName {
    type Error = SocketNameError;

    fn try_from(name: String) -> Result<Self, SocketNameError> {
        let is_legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        match (1..=SOCKET_NAME).contains(&name.len()) && name.bytes().all(is_legal) {
            true => Ok(Self(name)),
            false => Err(SocketNameError(name)),
        }
    }
}

impl FromStr for SocketName {
    type Err = SocketNameError;

    fn from_str(name: &str) -> Result<Self, SocketNameError> {
        name.to_owned().try_into()
    }
}

impl From<SocketName> for String {
    fn from(name: SocketName) -> Self {
        name.0
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_short_plain_name() {
        for name in ["gateway", "a", "up-2", "0123456789abcdef"] {
            assert_eq!(name.parse::<SocketName>().expect("a name").as_str(), name);
        }
        for name in ["", "0123456789abcdefg", "../edge", "a/b", "A", "a.b", "a\0"] {
            let error = name.parse::<SocketName>().expect_err("no name");
            assert!(error.to_string().contains("up to 16 of a-z"), "{error}");
            let json = serde_json::json!({"id": "x", "socket": name});
            assert!(serde_json::from_value::<LocalServer>(json).is_err());
        }
    }

    /// As the edge and the daemon of other versions read and write it.
    #[test]
    fn pools_without_local_servers_are_as_they_were() {
        let before = serde_json::json!({
            "replicas": [{"id": "a", "address": "127.0.0.1:80", "draining": false}],
            "hold_ms": 7, "unavailable_reason": null,
        });
        let mut pool: Pool = serde_json::from_value(before.clone()).expect("a pool");
        assert_eq!(serde_json::to_value(&pool).expect("JSON"), before);
        pool.local.push(LocalServer {
            id: "gateway".to_owned(),
            socket: "gateway".parse().expect("a name"),
        });
        let json = serde_json::to_value(&pool).expect("JSON");
        let local = serde_json::json!([{"id": "gateway", "socket": "gateway"}]);
        assert_eq!(json["local"], local);
        assert_eq!(json["replicas"], before["replicas"]);
        assert_eq!(serde_json::from_value::<Pool>(json).expect("a pool"), pool);
    }
}
