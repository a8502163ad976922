//! Clients by address, and how much of the edge one of them may occupy.
//!
//! Behind a proxy or a NAT many people have one address: trusted proxies are exempt, and what an
//! address may have is configurable ([`crate::EdgeState::connections_per_address`]).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::complain::complain;
use crate::limits;
use crate::lock::lock;
use crate::snapshot::Snapshot;
use crate::state::Crowd;

/// Connections whose memory is worth giving back.
const CROWD: usize = 100;
/// Crowds that a status tells of.
const TOLD: usize = 16;

/// Open client connections.
#[derive(Debug)]
pub struct Clients {
    /// What they may have.
    snapshot: Arc<ArcSwap<Snapshot>>,
    by_network: Mutex<HashMap<u128, Arc<Usage>>>,
    turned_away: AtomicU64,
    open: AtomicUsize,
    /// Most open since memory was last given back.
    peak: AtomicUsize,
    /// Told when far fewer are open than there were.
    idle_signal: Notify,
}

/// What one address has.
#[derive(Debug, Default)]
pub struct Usage {
    /// Client connections.
    open: AtomicU32,
    /// Connections refused since it last had fewer than it may.
    refused: AtomicU64,
    /// Requests under way.
    requests: AtomicU32,
    /// Answers of which it has taken nothing for a while.
    stalled: AtomicU32,
    /// It is a trusted proxy, which speaks for many.
    exempt: AtomicBool,
}

/// One connection's permit; given up when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    clients: Arc<Clients>,
    network: u128,
    usage: Arc<Usage>,
}

impl Usage {
    /// One more request, until [`Usage::request_ended`].
    pub fn request_begun(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// See [`Usage::request_begun`].
    pub fn request_ended(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a request, which has begun, is one too many for an address that may have so many
    /// connections.
    pub fn has_too_many_requests(&self, connections: u32) -> bool {
        let most = connections.saturating_mul(limits::REQUESTS_PER_CONNECTION);
        !self.exempt.load(Ordering::Relaxed)
            && (self.requests.load(Ordering::Relaxed) > most || self.excess() > 0)
    }

    /// Corrects the number of stalled answers by one connection's.
    pub fn recount_stalled(&self, before: u32, now: u32) {
        self.stalled
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// How long an answer may be left: less where there are many.
    pub fn patience(&self) -> Duration {
        match self.stalled.load(Ordering::Relaxed) > limits::PAUSED_PER_ADDRESS {
            true => limits::CLIENT_STALL,
            false => limits::CLIENT_PAUSE,
        }
    }

    /// Stalled answers beyond what one address may have.
    pub fn excess(&self) -> u32 {
        if self.exempt.load(Ordering::Relaxed) {
            return 0;
        }
        let stalled = self.stalled.load(Ordering::Relaxed);
        stalled.saturating_sub(limits::STALLED_PER_ADDRESS)
    }
}

impl Clients {
    /// None yet; `snapshot` says what they may have.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self {
            snapshot,
            by_network: Mutex::default(),
            turned_away: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            idle_signal: Notify::new(),
        }
    }

    /// A permit for one more connection from `address`, unless it has its share. Trusted proxies
    /// speak for many clients and are not counted together.
    pub fn permit(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPermit> {
        let network = network(address);
        let snapshot = self.snapshot.load();
        let exempt = snapshot.trusted.contains(address);
        let most = snapshot.connections_per_address;
        let usage = {
            let mut by_network = lock(&self.by_network);
            let usage = by_network.entry(network).or_default();
            usage.exempt.store(exempt, Ordering::Relaxed);
            if exempt || usage.open.load(Ordering::Relaxed) < most {
                usage.open.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(usage))
            } else {
                Err(usage.refused.fetch_add(1, Ordering::Relaxed))
            }
        };
        match usage {
            Ok(usage) => {
                self.opened();
                Some(ConnectionPermit {
                    clients: Arc::clone(self),
                    network,
                    usage,
                })
            }
            Err(refused_before) => {
                self.turned_away.fetch_add(1, Ordering::Relaxed);
                if refused_before == 0 {
                    complain!(
                        "edge: {} has {most} connections, as many as one address may have: more \
                         are refused",
                        name_of(network)
                    );
                }
                None
            }
        }
    }

    /// Waits until far fewer are open than there were: then much memory is free, in pieces.
    pub async fn idle(&self) {
        self.idle_signal.notified().await;
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
            self.idle_signal.notify_one();
        }
    }

    /// Connections refused so far for their address had too many.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Addresses that have been refused connections and still have nearly as many as they may.
    pub fn crowds(&self) -> Vec<Crowd> {
        let by_network = lock(&self.by_network);
        let crowds = by_network.iter().filter_map(|(network, usage)| {
            let refused = usage.refused.load(Ordering::Relaxed);
            let crowd = || Crowd {
                address: name_of(*network),
                open: usage.open.load(Ordering::Relaxed),
                refused,
            };
            (refused > 0).then(crowd)
        });
        crowds.take(TOLD).collect()
    }
}

impl ConnectionPermit {
    /// What its address has.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.clients.closed();
        let most = self.clients.snapshot.load().connections_per_address;
        let mut by_network = lock(&self.clients.by_network);
        let left = self.usage.open.fetch_sub(1, Ordering::Relaxed) - 1;
        // Well below, so that one who stays at the bound is told of once.
        let refused = match u64::from(left) * 4 <= u64::from(most) * 3 {
            true => self.usage.refused.swap(0, Ordering::Relaxed),
            false => 0,
        };
        if left == 0 {
            by_network.remove(&self.network);
        }
        drop(by_network);
        if refused > 0 {
            let address = name_of(self.network);
            complain!("edge: {address} has fewer connections again; {refused} were refused");
        }
    }
}

/// An IPv4 address, or an IPv6 /64: what one customer gets.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

fn name_of(network: u128) -> String {
    match u32::try_from(network) {
        Ok(v4) => Ipv4Addr::from(v4).to_string(),
        Err(_) => format!("{}/64", Ipv6Addr::from(network)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_names() {
        for (address, name) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(name_of(network(address.parse().expect("an address"))), name);
        }
    }

    #[test]
    fn stalled_answers_of_all_connections_count_together() {
        let usage = Usage::default();
        usage.recount_stalled(0, 200);
        usage.recount_stalled(0, 100);
        assert_eq!(usage.excess(), 300 - limits::STALLED_PER_ADDRESS);
        assert!(usage.has_too_many_requests(1024));
        usage.recount_stalled(200, 0);
        assert_eq!(usage.excess(), 0);
        assert!(!usage.has_too_many_requests(1024));
        usage.recount_stalled(100, 1000);
        usage.exempt.store(true, Ordering::Relaxed);
        assert!(!usage.has_too_many_requests(1024), "a trusted proxy");
    }
}
