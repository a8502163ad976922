//! From where somebody comes.

use std::net::{IpAddr, Ipv6Addr};

/// What is counted as one address: who has one of IPv6 has all of its /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_one_address_has_all_of_its_network() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            let parsed = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert_eq!(network(parsed(address)), parsed(expected));
        }
    }
}
