//! Which peers' forwarding headers are believed.

use std::net::IpAddr;

use crate::problem::Problem;

/// Networks of trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    base: u128,
    mask: u128,
    v4: bool,
}

impl TrustedProxies {
    /// Reads CIDR blocks and single addresses; what cannot be read is reported and trusted by nobody.
    pub fn parse(list: &[String], problems: &mut Vec<Problem>) -> Self {
        let mut networks = Vec::new();
        for text in list {
            match parse_network(text) {
                Some(network) => networks.push(network),
                None => problems.push(format!(
                    "trusted_proxies: `{text}` is not an address or CIDR block; it is ignored"
                )),
            }
        }
        Self { networks }
    }

    /// Whether `address` is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, v4) = bits(address);
        self.networks
            .iter()
            .any(|network| network.v4 == v4 && bits & network.mask == network.base)
    }

    /// The client behind `peer`: the last address in X-Forwarded-For that is not a trusted proxy.
    pub fn client(&self, peer: IpAddr, forwarded_for: &[&str]) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.contains(peer) {
            return peer;
        }
        let mut client = peer;
        let hops = forwarded_for
            .iter()
            .rev()
            .flat_map(|value| value.rsplit(','));
        for hop in hops {
            let Some(address) = parse_hop(hop) else { break };
            client = address;
            if !self.contains(address) {
                break;
            }
        }
        client
    }
}

/// Whether a text is an address or a CIDR block, as [`crate::EdgeState::trusted_proxies`] has them.
pub fn is_network(text: &str) -> bool {
    parse_network(text).is_some()
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, length) = match text.trim().split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text.trim(), None),
    };
    let (bits, v4) = bits(address.parse().ok()?);
    let width = if v4 { 32 } else { 128 };
    let length: u32 = match length {
        Some(length) => length.parse().ok().filter(|length| *length <= width)?,
        None => width,
    };
    let host_bits = width - length;
    let mask = if host_bits == 128 {
        0
    } else {
        u128::MAX << host_bits
    };
    Some(Network {
        base: bits & mask,
        mask,
        v4,
    })
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), true),
        IpAddr::V6(v6) => (u128::from(v6), false),
    }
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]:5`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    hop.parse::<std::net::SocketAddr>()
        .ok()
        .map(|address| address.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(list: &[&str]) -> TrustedProxies {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let mut problems = Vec::new();
        let trusted = TrustedProxies::parse(&list, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        trusted
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_hold_their_addresses() {
        let trusted = trust(&["10.0.0.0/8", "192.168.7.9", "fd00::/8", "0.0.0.0/32"]);
        for (address, expected) in [
            ("10.255.1.2", true),
            ("11.0.0.1", false),
            ("192.168.7.9", true),
            ("192.168.7.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::ffff:10.1.1.1", true),
        ] {
            assert_eq!(trusted.contains(ip(address)), expected, "{address}");
        }
        assert!(trust(&["::/0"]).contains(ip("2001:db8::1")));
        assert!(!trust(&["::/0"]).contains(ip("1.1.1.1")));
    }

    #[test]
    fn unreadable_networks_are_reported() {
        for text in ["10.0.0.0/33", "x", "1.2.3.4/", "::/129", ""] {
            let mut problems = Vec::new();
            TrustedProxies::parse(&[text.to_owned()], &mut problems);
            assert_eq!(problems.len(), 1, "{text}");
        }
    }

    #[test]
    fn the_client_is_the_last_untrusted_hop() {
        let trusted = trust(&["10.0.0.0/8"]);
        for (peer, hops, client) in [
            ("1.1.1.1", vec!["9.9.9.9"], "1.1.1.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["9.9.9.9, 8.8.8.8"], "8.8.8.8"),
            ("10.0.0.1", vec!["9.9.9.9", "8.8.8.8, 10.2.2.2"], "8.8.8.8"),
            ("10.0.0.1", vec!["9.9.9.9, junk"], "10.0.0.1"),
            ("10.0.0.1", vec!["[2001:db8::1]:443"], "2001:db8::1"),
        ] {
            assert_eq!(
                trusted.client(ip(peer), &hops),
                ip(client),
                "{peer} {hops:?}"
            );
        }
    }
}
