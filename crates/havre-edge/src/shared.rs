//! What all threads of the edge share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::clients::Clients;
use crate::flows::Flows;
use crate::replica::{Clock, Registry};
use crate::snapshot::Snapshot;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// What requests go by.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells held requests that the snapshot has changed.
    pub pushed: watch::Sender<u64>,
    /// Replicas and their counters.
    pub registry: Registry,
    /// Clock of deadlines that are shared between threads.
    pub clock: Clock,
    /// Access log.
    pub log: Arc<AccessLog>,
    /// No new connections; those open end after their current requests.
    pub stopping: CancellationToken,
    /// How long idle HTTP/1 connections stay open once `stopping`: a request may be on its way.
    pub idle_grace: OnceLock<Duration>,
    /// Everything ends now.
    pub stopped: CancellationToken,
    /// Open client connections.
    pub clients: Arc<Clients>,
    /// Clients that send datagrams.
    pub flows: Flows,
    /// TLS of all HTTPS listeners.
    pub tls: Arc<ServerConfig>,
}
