//! What the connections and requests of one thread share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::task::TaskTracker;

use crate::access::Lines;
use crate::request_id::RequestIds;
use crate::shared::Shared;
use crate::upstream::ConnectionPool;

/// See the module.
#[derive(Debug)]
pub struct Worker {
    /// With all threads.
    pub shared: Arc<Shared>,
    /// Idle connections to replicas.
    pub connections: Arc<ConnectionPool>,
    /// Access log lines.
    pub lines: Arc<Lines>,
    /// Connections and tunnels.
    pub tasks: TaskTracker,
    /// Request ids.
    pub ids: RequestIds,
    turn: AtomicUsize,
    visitors: AtomicUsize,
}

impl Worker {
    /// Of the thread with this number.
    pub fn new(number: usize, shared: Arc<Shared>, ids: RequestIds) -> Self {
        Self {
            connections: Arc::default(),
            lines: Lines::new(Arc::clone(&shared.log)),
            tasks: TaskTracker::new(),
            ids,
            turn: AtomicUsize::new(number),
            visitors: AtomicUsize::new(0),
            shared,
        }
    }

    /// Where the balancer begins to look.
    pub fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// What the next visitor without a number gets one by.
    pub fn visitor_turn(&self) -> usize {
        self.visitors.fetch_add(1, Ordering::Relaxed)
    }
}
