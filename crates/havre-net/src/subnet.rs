//! An IPv4 subnet, written `10.89.3.0/24`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IPv4 subnet whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    base: u32,
    length: u8,
}

impl Subnet {
    /// The subnet that holds `address` under a prefix of `length` bits (at most 32).
    pub const fn containing(address: Ipv4Addr, length: u8) -> Self {
        let length = if length > 32 { 32 } else { length };
        Self {
            base: address.to_bits() & mask(length),
            length,
        }
    }

    /// Length of the prefix in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// First address.
    pub const fn base(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base)
    }

    /// Address `index` places after the first; `None` outside the subnet.
    pub fn nth(self, index: u32) -> Option<Ipv4Addr> {
        (u64::from(index) < self.size()).then(|| Ipv4Addr::from_bits(self.base + index))
    }

    /// Number of addresses, the network's and the broadcast address included.
    pub const fn size(self) -> u64 {
        1 << (32 - self.length)
    }

    /// The first usable address, which the router takes.
    pub const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base | 1)
    }

    /// Whether `address` is inside.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.base
    }

    /// Whether the two share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        let length = if self.length < other.length {
            self.length
        } else {
            other.length
        };
        self.base & mask(length) == other.base & mask(length)
    }

    /// All subnets of `length` bits inside, in order.
    pub fn split(self, length: u8) -> impl Iterator<Item = Self> {
        let count = if (self.length..=32).contains(&length) {
            1u64 << (length - self.length)
        } else {
            0
        };
        (0..count).map(move |index| Self {
            // Fits: index < 2^(length - self.length), so the sum stays inside `self`.
            base: self.base + ((index << (32 - length)) as u32),
            length,
        })
    }
}

const fn mask(length: u8) -> u32 {
    if length == 0 {
        0
    } else {
        u32::MAX << (32 - length)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(), self.length)
    }
}

/// The text is not a subnet.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an IPv4 subnet such as 10.89.0.0/24")]
pub struct ParseSubnetError(String);

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: Ipv4Addr = address.parse().ok()?;
            let length: u8 = length.parse().ok().filter(|length| *length <= 32)?;
            let subnet = Self::containing(address, length);
            (subnet.base() == address).then_some(subnet)
        });
        parsed.ok_or_else(|| ParseSubnetError(text.to_owned()))
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    #[test]
    fn text_form_is_read_and_written() {
        assert_eq!(subnet("10.89.3.0/24").to_string(), "10.89.3.0/24");
        for bad in [
            "",
            "10.89.3.0",
            "10.89.3.1/24",
            "10.89.3.0/33",
            "::/0",
            "a/24",
            "1.2.3/8",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_respects_prefixes() {
        let check = |a: &str, b: &str, expected: bool| {
            assert_eq!(subnet(a).overlaps(subnet(b)), expected, "{a} {b}");
            assert_eq!(subnet(b).overlaps(subnet(a)), expected, "{b} {a}");
        };
        check("10.0.0.0/8", "10.89.3.0/24", true);
        check("10.89.3.0/24", "10.89.3.77/32", true);
        check("10.89.3.0/24", "10.89.4.0/24", false);
        check("0.0.0.0/0", "10.89.4.0/24", true);
    }

    #[test]
    fn split_and_nth_stay_inside() {
        let parts: Vec<_> = subnet("10.89.0.0/16").split(24).collect();
        assert_eq!(parts.len(), 256);
        assert_eq!(parts[255].to_string(), "10.89.255.0/24");
        assert_eq!(subnet("255.255.255.0/24").split(25).count(), 2);
        assert_eq!(subnet("10.0.0.0/24").split(23).count(), 0);
        assert_eq!(parts[3].nth(255), Some(Ipv4Addr::new(10, 89, 3, 255)));
        assert_eq!(parts[3].nth(256), None);
        assert_eq!(parts[3].gateway(), Ipv4Addr::new(10, 89, 3, 1));
    }
}
