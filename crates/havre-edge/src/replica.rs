//! What the edge knows of each replica, shared by all threads and outliving the state that named it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::balance;
use crate::counters::{Counters, Latency};
use crate::local;
use crate::lock::lock;
use crate::state::{FailedRequest, LocalServer, Replica, ReplicaStatus};

/// Where a member of a pool listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A replica.
    Network(SocketAddr),
    /// A server of this machine.
    Socket(Arc<Path>),
}

/// One replica at one address, or one server of this machine.
#[derive(Debug)]
pub struct Upstream {
    /// The container's id, or the server's.
    pub id: String,
    /// Where it listens.
    pub address: Address,
    /// The state names it.
    named: AtomicBool,
    serving: AtomicBool,
    in_flight: AtomicU64,
    streams: AtomicU64,
    counters: Counters,
    last_failure: Mutex<Option<FailedRequest>>,
    latency: Latency,
    refused_in_a_row: AtomicU32,
    ejected_until_ms: AtomicU64,
    open_streams: Mutex<HashMap<u64, CancellationToken>>,
    next_stream: AtomicU64,
}

impl Upstream {
    fn new(id: &str, address: Address) -> Self {
        Self {
            id: id.to_owned(),
            address,
            named: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            counters: Counters::default(),
            last_failure: Mutex::new(None),
            latency: Latency::default(),
            refused_in_a_row: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            open_streams: Mutex::new(HashMap::new()),
            next_stream: AtomicU64::new(0),
        }
    }

    /// Whether new requests may go to it; idle connections are kept only while they may.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Its path, where it is a server of this machine.
    pub fn socket(&self) -> Option<&Path> {
        match &self.address {
            Address::Network(_) => None,
            Address::Socket(path) => Some(path),
        }
    }

    /// As seen by the balancer. Streams count as load for streams only: thousands of idle WebSockets
    /// on an old replica must not send every request to a new one.
    pub fn candidate(&self, for_stream: bool, tried: bool) -> balance::Candidate {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let streams = if for_stream {
            self.streams.load(Ordering::Relaxed)
        } else {
            0
        };
        balance::Candidate {
            load: in_flight + streams,
            ejected_until: self.ejected_until_ms.load(Ordering::Relaxed),
            tried,
        }
    }

    /// A connection was made.
    pub fn connected(&self) {
        if self.refused_in_a_row.swap(0, Ordering::Relaxed) > 0 {
            self.ejected_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// A connection could not be made at `now_ms`.
    pub fn refused(&self, now_ms: u64) {
        let failures = self
            .refused_in_a_row
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let until = now_ms + balance::ejection_ms(failures);
        self.ejected_until_ms.store(until, Ordering::Relaxed);
    }

    /// A request failed for want of a connection.
    pub fn count_failed(&self) {
        self.counters.failed();
    }

    /// A request failed through it.
    pub fn note_failure(&self, failed: FailedRequest) {
        *lock(&self.last_failure) = Some(failed);
    }

    fn is_needed(&self) -> bool {
        self.named.load(Ordering::Acquire)
            || self.in_flight.load(Ordering::Acquire) > 0
            || self.streams.load(Ordering::Acquire) > 0
    }

    fn add_to(&self, status: &mut ReplicaStatus) {
        status.in_flight += self.in_flight.load(Ordering::Acquire);
        status.streams += self.streams.load(Ordering::Acquire);
        let counted = self.counters.status();
        status.requests += counted.requests;
        status.failed += counted.failed;
        status.server_errors += counted.server_errors;
        self.latency.add_to(&mut status.latency_ms);
        let failures = [status.last_failure.take(), lock(&self.last_failure).clone()];
        let failures = failures.into_iter().flatten();
        status.last_failure = failures.max_by_key(|failed| failed.at_ms);
    }

    /// The streams open now, to be closed.
    pub fn open_streams(&self) -> Vec<CancellationToken> {
        lock(&self.open_streams).values().cloned().collect()
    }
}

/// As messages name it.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Address::Network(_) => write!(f, "replica {}", self.id),
            Address::Socket(_) => write!(f, "local server {}", self.id),
        }
    }
}

/// How a request ended, for the replica's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered in full; `true` for a 5xx.
    Answered {
        /// A 5xx.
        server_error: bool,
    },
    /// The replica gave no answer or cut it short.
    Failed,
    /// The client went away.
    Abandoned,
}

/// A request on its way through a replica. Dropped without [`InFlight::finish`] it counts as
/// abandoned by the client.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    /// Of the pool that the request came to.
    pool: Arc<Counters>,
    stream: Option<(u64, CancellationToken)>,
}

impl InFlight {
    /// Counts a request. Must happen in the same breath as the choice of the replica: what a state
    /// push acknowledges rests on it.
    pub fn new(upstream: Arc<Upstream>, pool: &Arc<Counters>) -> Self {
        upstream.in_flight.fetch_add(1, Ordering::AcqRel);
        Self {
            upstream,
            pool: Arc::clone(pool),
            stream: None,
        }
    }

    /// The replica.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// From here on it is a stream, if it was none: told by the token when it is to end.
    pub fn become_stream(&mut self) -> CancellationToken {
        if let Some((_, token)) = &self.stream {
            return token.clone();
        }
        let token = CancellationToken::new();
        let key = self.upstream.next_stream.fetch_add(1, Ordering::Relaxed);
        lock(&self.upstream.open_streams).insert(key, token.clone());
        self.upstream.streams.fetch_add(1, Ordering::AcqRel);
        self.upstream.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.stream = Some((key, token.clone()));
        token
    }

    /// It is a stream already.
    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Its answer began so long after it was sent.
    pub fn answer_began(&self, took: Duration) {
        self.upstream.latency.add(took);
    }

    /// Counts how it ended.
    pub fn finish(self, outcome: Outcome) {
        match outcome {
            Outcome::Answered { server_error } => {
                self.upstream.counters.answered(server_error);
                self.pool.answered(server_error);
            }
            Outcome::Failed => {
                self.upstream.counters.failed();
                self.pool.failed();
            }
            Outcome::Abandoned => {}
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        match &self.stream {
            Some((key, _)) => {
                lock(&self.upstream.open_streams).remove(key);
                self.upstream.streams.fetch_sub(1, Ordering::AcqRel);
            }
            None => {
                self.upstream.in_flight.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

/// All replicas that are in the state or have something in flight.
#[derive(Debug, Default)]
pub struct Registry {
    /// Of the edge: where sockets lie.
    run: PathBuf,
    upstreams: Mutex<Vec<Arc<Upstream>>>,
}

impl Registry {
    /// Of an edge with this run folder.
    pub fn new(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            upstreams: Mutex::default(),
        }
    }

    /// The replica under its id and address, with its counters if it is known.
    pub fn upstream(&self, replica: &Replica) -> Arc<Upstream> {
        self.known(&replica.id, Address::Network(replica.address))
    }

    /// The same of a server of this machine.
    pub fn local(&self, server: &LocalServer) -> Arc<Upstream> {
        let path = local::path_of(&self.run, &server.socket);
        self.known(&server.id, Address::Socket(path.into()))
    }

    fn known(&self, id: &str, address: Address) -> Arc<Upstream> {
        let mut upstreams = lock(&self.upstreams);
        let known = upstreams
            .iter()
            .find(|known| known.id == id && known.address == address);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let new = Arc::new(Upstream::new(id, address));
        upstreams.push(Arc::clone(&new));
        new
    }

    /// Sets which replicas take requests, and forgets those that are neither named by the state nor
    /// busy.
    pub fn retain(&self, named: &[Arc<Upstream>], serving: &[Arc<Upstream>]) {
        let pointers =
            |list: &[Arc<Upstream>]| list.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
        let (named, serving) = (pointers(named), pointers(serving));
        let mut upstreams = lock(&self.upstreams);
        upstreams.retain(|known| {
            let pointer = Arc::as_ptr(known);
            known
                .serving
                .store(serving.contains(&pointer), Ordering::Release);
            known
                .named
                .store(named.contains(&pointer), Ordering::Release);
            known.is_needed()
        });
    }

    /// Counters by replica id.
    pub fn status(&self) -> BTreeMap<String, ReplicaStatus> {
        let mut by_id = BTreeMap::<String, ReplicaStatus>::new();
        let mut upstreams = lock(&self.upstreams);
        upstreams.retain(|known| known.is_needed());
        for upstream in upstreams.iter() {
            upstream.add_to(by_id.entry(upstream.id.clone()).or_default());
        }
        by_id
    }

    /// All known under this id.
    pub fn by_id(&self, id: &str) -> Vec<Arc<Upstream>> {
        lock(&self.upstreams)
            .iter()
            .filter(|known| known.id == id)
            .cloned()
            .collect()
    }

    /// All streams of all replicas.
    pub fn all_streams(&self) -> Vec<CancellationToken> {
        lock(&self.upstreams)
            .iter()
            .flat_map(|known| known.open_streams())
            .collect()
    }
}

/// Milliseconds since the edge started: the clock of ejection.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(id: &str, port: u16) -> Replica {
        Replica {
            id: id.to_owned(),
            address: ([127, 0, 0, 1], port).into(),
            draining: false,
        }
    }

    #[test]
    fn a_busy_replica_is_remembered_until_it_is_done() {
        let registry = Registry::default();
        let old = registry.upstream(&replica("a", 1));
        registry.retain(&[Arc::clone(&old)], &[Arc::clone(&old)]);
        assert!(old.is_serving());
        let request = InFlight::new(Arc::clone(&old), &Arc::default());
        registry.retain(&[], &[]);
        assert!(!old.is_serving());
        assert_eq!(registry.status()["a"].in_flight, 1);
        request.finish(Outcome::Answered { server_error: true });
        assert!(registry.status().is_empty());
    }

    #[test]
    fn a_stream_is_counted_as_one_and_can_be_closed() {
        let registry = Registry::default();
        let upstream = registry.upstream(&replica("a", 1));
        registry.retain(&[Arc::clone(&upstream)], &[]);
        let mut request = InFlight::new(Arc::clone(&upstream), &Arc::default());
        let token = request.become_stream();
        assert_eq!(
            registry.status()["a"],
            ReplicaStatus {
                streams: 1,
                ..Default::default()
            }
        );
        for stream in upstream.open_streams() {
            stream.cancel();
        }
        assert!(token.is_cancelled());
        drop(request);
        assert_eq!(registry.status()["a"].streams, 0);
        assert!(upstream.open_streams().is_empty());
    }

    #[test]
    fn refused_connections_eject_for_longer_and_a_made_one_forgives() {
        let upstream = Registry::default().upstream(&replica("a", 1));
        upstream.refused(1000);
        assert_eq!(upstream.candidate(false, false).ejected_until, 1500);
        upstream.refused(1000);
        assert_eq!(upstream.candidate(false, false).ejected_until, 2000);
        upstream.connected();
        assert_eq!(upstream.candidate(false, false).ejected_until, 0);
    }
}
