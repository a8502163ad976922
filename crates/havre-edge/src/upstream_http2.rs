//! Connections to replicas that speak HTTP/2 without TLS (h2c): each carries many requests at once.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::TaskTracker;

use crate::limits;
use crate::lock::lock;
use crate::replica::Upstream;
use crate::upload::Upload;
use crate::upstream_stream::UpstreamStream;

/// Connections of one thread, by replica.
#[derive(Debug, Default)]
pub struct SharedConnections {
    /// By the address of the `Upstream`, which the shelf keeps alive.
    open: Mutex<HashMap<usize, Shelf>>,
}

#[derive(Debug)]
struct Shelf {
    upstream: Arc<Upstream>,
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Upload>,
    streams: AtomicUsize,
    /// Streams that the replica takes at once.
    most: Arc<AtomicUsize>,
    used: Mutex<Instant>,
}

/// A permit for one request on a connection, given up when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    connection: Arc<Connection>,
}

impl StreamPermit {
    fn on(connection: &Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self {
            connection: Arc::clone(connection),
        }
    }

    /// What sends the request.
    pub fn sender(&self) -> SendRequest<Upload> {
        self.connection.sender.clone()
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        *lock(&self.connection.used) = Instant::now();
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        !self.sender.is_closed() && self.streams.load(Ordering::Relaxed) < most
    }

    fn is_worth_keeping(&self) -> bool {
        let idle: Duration = lock(&self.used).elapsed();
        let is_used = self.streams.load(Ordering::Relaxed) > 0;
        !self.sender.is_closed() && (is_used || idle < limits::UPSTREAM_H2_IDLE)
    }
}

impl SharedConnections {
    /// A permit on a connection that is open and has room.
    pub fn take(&self, upstream: &Arc<Upstream>) -> Option<StreamPermit> {
        let open = lock(&self.open);
        let shelf = open.get(&Arc::as_ptr(upstream).addr())?;
        let free = shelf.connections.iter().find(|one| one.has_room());
        free.map(StreamPermit::on)
    }

    /// Makes a connection of a stream, and takes the first permit on it.
    pub async fn add(
        &self,
        upstream: &Arc<Upstream>,
        stream: UpstreamStream,
        tasks: &TaskTracker,
    ) -> Result<StreamPermit, hyper::Error> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(limits::UPSTREAM_H2_STREAM_WINDOW)
            .initial_connection_window_size(limits::UPSTREAM_H2_CONNECTION_WINDOW)
            .max_send_buf_size(limits::H2_SEND_BUFFER)
            .max_header_list_size(limits::H2_HEADER_LIST)
            .handshake(TokioIo::new(stream))
            .await?;
        let most = Arc::new(AtomicUsize::new(limits::UPSTREAM_H2_STREAMS));
        let told = Arc::clone(&most);
        tasks.spawn(async move {
            let mut connection = pin!(connection);
            // Errors reach the requests through `sender`.
            let end = std::future::poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                let said = connection.current_max_send_streams();
                told.store(said.min(limits::UPSTREAM_H2_STREAMS), Ordering::Relaxed);
                polled
            });
            drop(end.await);
        });
        let connection = Arc::new(Connection {
            sender,
            streams: AtomicUsize::new(0),
            most,
            used: Mutex::new(Instant::now()),
        });
        let permit = StreamPermit::on(&connection);
        let mut open = lock(&self.open);
        // Read under the lock: `purge` runs after the mark is changed and waits for this lock.
        if upstream.is_serving() {
            let key = Arc::as_ptr(upstream).addr();
            let shelf = open.entry(key).or_insert_with(|| Shelf {
                upstream: Arc::clone(upstream),
                connections: Vec::new(),
            });
            shelf.connections.push(connection);
        }
        Ok(permit)
    }

    /// Lets go of connections that are closed or idle for long, and of all to replicas that take no
    /// more requests: those end with the last request on them. Returns whether anything is left.
    pub fn purge(&self) -> bool {
        let mut open = lock(&self.open);
        open.retain(|_, shelf| {
            shelf.connections.retain(|one| one.is_worth_keeping());
            shelf.upstream.is_serving() && !shelf.connections.is_empty()
        });
        !open.is_empty()
    }
}
