//! How many clients may send datagrams at a time: each has a place, for its flow towards a replica.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::complain::complain;
use crate::limits;
use crate::lock::lock;

/// The places for flows of the whole edge.
#[derive(Debug, Default)]
pub struct Flows {
    open: AtomicUsize,
    /// Those of each network, as connections are counted.
    by_network: Mutex<HashMap<u128, u32>>,
    refused: AtomicU64,
}

/// Why a datagram of a new client is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its address has as many flows as one may have.
    Address,
    /// All places are taken.
    All,
}

impl Flows {
    /// Datagrams dropped so far for want of a place.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes a place for one more of a network that may have `most`; it is given up by
    /// [`Flows::close`].
    pub fn open(&self, network: u128, most: u32) -> Result<(), Full> {
        let mut by_network = lock(&self.by_network);
        let of_network = by_network.get(&network).copied().unwrap_or_default();
        if of_network >= most {
            return Err(Full::Address);
        }
        if self.open.load(Ordering::Relaxed) >= limits::FLOWS {
            return Err(Full::All);
        }
        // Both change under the lock alone.
        self.open.fetch_add(1, Ordering::Relaxed);
        by_network.insert(network, of_network + 1);
        Ok(())
    }

    /// Gives up a place of [`Flows::open`].
    pub fn close(&self, network: u128) {
        let mut by_network = lock(&self.by_network);
        self.open.fetch_sub(1, Ordering::Relaxed);
        match by_network.get_mut(&network) {
            Some(open) if *open > 1 => *open -= 1,
            Some(_) | None => drop(by_network.remove(&network)),
        }
    }

    /// Counts a datagram that is dropped; the first one is told of.
    pub fn refuse(&self, full: Full, client: SocketAddr, listen: SocketAddr) {
        if self.refused.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        match full {
            Full::Address => complain!(
                "edge: {} sends datagrams to {listen} from as many ports as one address may; those \
                 of more are dropped until others fall silent (told once)",
                client.ip()
            ),
            Full::All => complain!(
                "edge: too many clients send datagrams to {listen}; those that are new are dropped \
                 until others fall silent (told once)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients;

    #[test]
    fn places_are_bounded_and_given_back() {
        let flows = Flows::default();
        for network in 0..limits::FLOWS {
            assert_eq!(flows.open(network as u128, 2), Ok(()));
        }
        assert_eq!(flows.open(0, 2), Err(Full::All));
        flows.close(7);
        assert_eq!(flows.open(0, 2), Ok(()));
        assert_eq!(flows.open(1, 2), Err(Full::All));
        assert_eq!(flows.open(0, 2), Err(Full::Address));
    }

    #[test]
    fn one_address_leaves_places_to_others() {
        let flows = Flows::default();
        let of = |client: &str| clients::network(client.parse().expect("an address"));
        // An IPv6 /64 is one customer.
        for client in ["2001:db8::1", "2001:db8::1", "2001:db8::2"] {
            assert_eq!(flows.open(of(client), 3), Ok(()));
        }
        let crowd = of("2001:db8::3");
        assert_eq!(flows.open(crowd, 3), Err(Full::Address));
        assert_eq!(flows.open(of("192.0.2.1"), 3), Ok(()));
        flows.close(crowd);
        assert_eq!(flows.open(crowd, 3), Ok(()));
        for _ in 0..3 {
            flows.close(crowd);
        }
        assert_eq!(lock(&flows.by_network).len(), 1, "nothing is kept of it");
    }
}
