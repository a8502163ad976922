//! What all threads of the edge share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::access::AccessLog;
use crate::limits;
use crate::lock::lock;
use crate::replica::{Clock, Registry};
use crate::snapshot::Snapshot;
use crate::udp::Flows;

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
    pub clients: Clients,
    /// Clients that send datagrams.
    pub flows: Flows,
    /// TLS of all HTTPS listeners.
    pub tls: Arc<ServerConfig>,
}

/// Connections whose memory is worth giving back.
const CROWD: usize = 100;

/// Client connections by address, to cap them.
#[derive(Debug, Default)]
pub struct Clients {
    by_network: Mutex<HashMap<u128, u32>>,
    turned_away: AtomicU64,
    open: AtomicUsize,
    /// Most open since memory was last given back.
    peak: AtomicUsize,
    /// Told when far fewer are open than there were.
    ebb: Notify,
}

/// One connection's place; given up when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    network: u128,
}

impl Clients {
    /// Waits until far fewer are open than there were: then much memory is free, in pieces.
    pub async fn ebb(&self) {
        self.ebb.notified().await;
    }

    fn opened(&self) {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(open, Ordering::Relaxed);
    }

    fn closed(&self) {
        let open = self.open.fetch_sub(1, Ordering::Relaxed) - 1;
        let peak = self.peak.load(Ordering::Relaxed);
        if peak >= CROWD && open <= peak / 4 {
            self.peak.store(open, Ordering::Relaxed);
            self.ebb.notify_one();
        }
    }

    /// Connections refused so far for their address had too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// A place for one more connection from `address`, unless it has its share. Trusted proxies
    /// speak for many clients and are not counted together.
    pub fn place(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network(address);
        let mut by_network = lock(&self.clients.by_network);
        let count = by_network.entry(network).or_insert(0);
        if *count >= limits::CONNECTIONS_PER_IP && !self.snapshot.load().trusted.contains(address) {
            self.clients.turned_away.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        self.clients.opened();
        Some(Place {
            shared: Arc::clone(self),
            network,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.clients.closed();
        let mut by_network = lock(&self.shared.clients.by_network);
        if let Some(count) = by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&self.network);
            }
        }
    }
}

/// An IPv4 address, or an IPv6 /64: what one customer gets.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}
