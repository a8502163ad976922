//! Connections to replicas: one pool per thread, so that no connection moves between threads.
//!
//! Those of HTTP/1 carry one request at a time and are given back after it; those of HTTP/2 are shared
//! ([`crate::upstream_http2`]).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::limits;
use crate::lock::lock;
use crate::replica::Upstream;
use crate::state::UpstreamProtocol;
use crate::upload::Upload;
use crate::upstream_http2::{SharedConnections, StreamPermit};
use crate::upstream_io::UpstreamIo;
use crate::upstream_stream::{ConnectError, UpstreamStream};

/// A connection in use by one request.
#[derive(Debug)]
pub struct Lease {
    sender: Sender,
    /// It has served others before: the replica may have closed it just now.
    pub reused: bool,
    /// What connecting took, for a new one.
    pub connect: Option<Duration>,
    upstream: Arc<Upstream>,
    /// `None`: the connection is shared.
    in_use: Option<InUse>,
}

/// Sends one request.
#[derive(Debug)]
enum Sender {
    Http1(SendRequest<Upload>),
    Http2(StreamPermit),
}

impl Lease {
    /// Sends a request; gives it back where nothing of it has left us.
    pub async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(permit) => permit.sender().try_send_request(request).await,
        }
    }
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Upload>,
    since: Instant,
}

/// Idle connections of one thread, by replica.
#[derive(Debug, Default)]
pub struct ConnectionPool {
    /// By the address of the `Upstream`, which the pool keeps alive in `Shelf`.
    idle: Mutex<HashMap<usize, Shelf>>,
    shared: SharedConnections,
    tasks: TaskTracker,
    filled: Notify,
}

#[derive(Debug)]
struct Shelf {
    upstream: Arc<Upstream>,
    connections: VecDeque<Idle>,
    usage: Arc<Usage>,
}

impl Shelf {
    fn new(upstream: &Arc<Upstream>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            connections: VecDeque::new(),
            usage: Arc::default(),
        }
    }

    /// Idle connections worth keeping: as many as were in use at once a moment ago, for they will be
    /// again. With fewer, a crowd whose requests end together opens new ones all the time.
    fn most(&self) -> usize {
        let peak = self.usage.peak.load(Ordering::Relaxed);
        peak.max(limits::UPSTREAM_IDLE_AT_LEAST)
    }
}

/// How many connections to a replica are in use.
#[derive(Debug, Default)]
struct Usage {
    now: AtomicUsize,
    /// The most there were, less an eighth for each look since.
    peak: AtomicUsize,
}

impl Usage {
    fn begin(self: Arc<Self>) -> InUse {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        InUse(self)
    }

    fn forget_a_little(&self) {
        let peak = self.peak.load(Ordering::Relaxed);
        let now = self.now.load(Ordering::Relaxed);
        self.peak
            .store(now.max(peak - peak.div_ceil(8)), Ordering::Relaxed);
    }
}

/// One connection in use, until dropped.
#[derive(Debug)]
struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

impl ConnectionPool {
    /// A connection that is open (an idle one no older than `max_idle`), or a new one.
    pub async fn lease(
        &self,
        upstream: &Arc<Upstream>,
        protocol: UpstreamProtocol,
        max_idle: Duration,
    ) -> Result<Lease, ConnectError> {
        let open = match protocol {
            UpstreamProtocol::Http => self.take_idle(upstream, max_idle).map(Sender::Http1),
            UpstreamProtocol::H2c => self.shared.take(upstream).map(Sender::Http2),
        };
        let Some(sender) = open else {
            return self.connect(upstream, protocol).await;
        };
        Ok(Lease {
            sender,
            reused: true,
            connect: None,
            upstream: Arc::clone(upstream),
            in_use: self.note_use(upstream, protocol),
        })
    }

    fn note_use(&self, upstream: &Arc<Upstream>, protocol: UpstreamProtocol) -> Option<InUse> {
        let usage = match protocol {
            UpstreamProtocol::Http => {
                let mut idle = lock(&self.idle);
                let shelf = idle
                    .entry(key(upstream))
                    .or_insert_with(|| Shelf::new(upstream));
                Arc::clone(&shelf.usage)
            }
            UpstreamProtocol::H2c => return None,
        };
        Some(usage.begin())
    }

    fn take_idle(
        &self,
        upstream: &Arc<Upstream>,
        max_idle: Duration,
    ) -> Option<SendRequest<Upload>> {
        let mut idle = lock(&self.idle);
        let connections = &mut idle.get_mut(&key(upstream))?.connections;
        while connections
            .front()
            .is_some_and(|oldest| oldest.since.elapsed() >= limits::UPSTREAM_IDLE)
        {
            connections.pop_front();
        }
        while let Some(newest) = connections.back() {
            if newest.since.elapsed() >= max_idle {
                return None;
            }
            let taken = connections.pop_back()?;
            if taken.sender.is_ready() {
                return Some(taken.sender);
            }
        }
        None
    }

    /// A new connection.
    pub async fn connect(
        &self,
        upstream: &Arc<Upstream>,
        protocol: UpstreamProtocol,
    ) -> Result<Lease, ConnectError> {
        let begin = Instant::now();
        // From now on: who connects at the same time is in use at the same time.
        let in_use = self.note_use(upstream, protocol);
        let stream = UpstreamStream::connect(&upstream.address).await?;
        let sender = match protocol {
            UpstreamProtocol::Http => self.greet(stream).await.map(Sender::Http1),
            UpstreamProtocol::H2c => {
                let permit = self.shared.add(upstream, stream, &self.tasks).await;
                self.filled.notify_one();
                permit.map(Sender::Http2)
            }
        };
        Ok(Lease {
            sender: sender.map_err(ConnectError::Handshake)?,
            reused: false,
            connect: Some(begin.elapsed()),
            upstream: Arc::clone(upstream),
            in_use,
        })
    }

    async fn greet(&self, stream: UpstreamStream) -> Result<SendRequest<Upload>, hyper::Error> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(limits::HEADER_FIELDS)
            .max_buf_size(limits::HEAD_BYTES)
            .handshake(TokioIo::new(UpstreamIo::new(stream)))
            .await?;
        let connection = connection.with_upgrades();
        // Errors reach the request through `sender`.
        self.tasks.spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Takes a connection back once its answer has been read to the end.
    pub fn give_back(self: &Arc<Self>, lease: Lease) {
        let Lease {
            sender,
            upstream,
            in_use,
            ..
        } = lease;
        // A permit on a shared connection is given up by being dropped.
        let Sender::Http1(mut sender) = sender else {
            return;
        };
        if sender.is_ready() {
            self.shelve(sender, &upstream);
            return;
        }
        if sender.is_closed() || !upstream.is_serving() {
            return;
        }
        let pool = Arc::clone(self);
        self.tasks.spawn(async move {
            let ready = tokio::time::timeout(limits::DRAIN_TIME, sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.shelve(sender, &upstream);
            }
            drop(in_use);
        });
    }

    fn shelve(&self, sender: SendRequest<Upload>, upstream: &Arc<Upstream>) {
        let mut idle = lock(&self.idle);
        // Read under the lock: `purge` runs after the mark is changed and waits for this lock.
        if !upstream.is_serving() {
            return;
        }
        let shelf = idle
            .entry(key(upstream))
            .or_insert_with(|| Shelf::new(upstream));
        if shelf.connections.len() >= shelf.most() {
            shelf.connections.pop_front();
        }
        shelf.connections.push_back(Idle {
            sender,
            since: Instant::now(),
        });
        self.filled.notify_one();
    }

    /// Closes connections in time, as long as there are any. Never ends.
    pub async fn tend(&self) {
        loop {
            self.filled.notified().await;
            while self.purge() {
                for shelf in lock(&self.idle).values() {
                    shelf.usage.forget_a_little();
                }
                tokio::time::sleep(limits::UPSTREAM_IDLE / 4).await;
            }
        }
    }

    /// Drops what has been idle too long, and everything of replicas that take no more requests.
    /// Returns whether anything is left.
    pub fn purge(&self) -> bool {
        let are_shared = self.shared.purge();
        let mut idle = lock(&self.idle);
        idle.retain(|_, shelf| {
            shelf.connections.retain(|connection| {
                connection.since.elapsed() < limits::UPSTREAM_IDLE && connection.sender.is_ready()
            });
            let in_use = shelf.usage.now.load(Ordering::Relaxed) > 0;
            // What is in use still counts in the shelf it was taken from.
            in_use || shelf.upstream.is_serving() && !shelf.connections.is_empty()
        });
        are_shared || !idle.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_in_use_at_once_is_forgotten_slowly() {
        let usage = Arc::new(Usage::default());
        let crowd: Vec<InUse> = (0..512).map(|_| Arc::clone(&usage).begin()).collect();
        let peak = || usage.peak.load(Ordering::Relaxed);
        usage.forget_a_little();
        assert_eq!(peak(), 512, "they are in use");
        drop(crowd);
        usage.forget_a_little();
        assert_eq!(peak(), 448);
        for _ in 0..60 {
            usage.forget_a_little();
        }
        assert_eq!(peak(), 0);
    }
}
