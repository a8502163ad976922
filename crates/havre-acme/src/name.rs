//! What a certificate is for: a host name, a pattern of one label, or an address.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// In lower case, an address without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(String);

/// Longest name of DNS.
const MAX_BYTES: usize = 253;
const MAX_LABEL: usize = 63;
/// Names that no public authority may sign for although the list of public suffixes has them or their
/// like (RFC 2606, RFC 6761, RFC 7686).
const RESERVED: [&str; 5] = ["example.com", "example.net", "example.org", "onion", "arpa"];

impl Name {
    /// `None` for what is neither a host name nor an address.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches(['[', ']']).to_ascii_lowercase();
        let is_label = |label: &str| {
            let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(legal)
        };
        let host = text.strip_prefix("*.").unwrap_or(&text);
        let sound = text.len() <= MAX_BYTES && host.split('.').all(is_label);
        let is_address = text.parse::<IpAddr>().is_ok();
        (sound || is_address).then_some(Self(text))
    }

    /// As written in certificates.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `*.example.org`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The address, where it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    /// Without `*.`: where records about it are.
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// Whether it can be of somebody who reads this in the whole internet: only for such names do public
    /// authorities sign.
    pub fn is_public(&self) -> bool {
        if let Some(address) = self.address() {
            return is_public_address(address);
        }
        let base = self.base();
        let is_reserved = |reserved: &&str| {
            let parent = base.strip_suffix(*reserved);
            parent.is_some_and(|parent| parent.is_empty() || parent.ends_with('.'))
        };
        if RESERVED.iter().any(is_reserved) {
            return false;
        }
        psl::domain(base.as_bytes()).is_some_and(|domain| domain.suffix().is_known())
    }

    /// What asks for it by SNI of a check over TLS: an address has a name of its own there (RFC 8738 §6).
    pub fn server_name(&self) -> String {
        match self.address() {
            None => self.0.clone(),
            Some(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Some(IpAddr::V6(address)) => {
                let digits = address.octets().into_iter().rev();
                let digits = digits.flat_map(|byte| [byte & 15, byte >> 4]);
                let labels: String = digits.map(|digit| format!("{digit:x}.")).collect();
                format!("{labels}ip6.arpa")
            }
        }
    }
}

fn is_public_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let never = v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || v4.is_multicast();
    !(never || shared || a == 0 || a >= 240)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let [first, second, ..] = v6.segments();
    first & 0xe000 == 0x2000 && !(first == 0x2001 && second == 0xdb8)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_names_are_told_from_others() {
        for (text, public) in [
            ("app.havre.dev", true),
            ("App.Shop.Co.Uk", true),
            ("*.havre.dev", true),
            ("me.github.io", true),
            ("co.uk", false),
            ("dev", false),
            ("shop.localhost", false),
            ("shop.test", false),
            ("shop.internal", false),
            ("shop.example.org", false),
            ("myexample.org", true),
            ("hidden.onion", false),
            ("1.1.1.1", true),
            ("10.0.0.1", false),
            ("100.64.3.4", false),
            ("192.0.2.1", false),
            ("[2606:4700::1]", true),
            ("::1", false),
            ("fd00::1", false),
        ] {
            let name = Name::parse(text).unwrap();
            assert_eq!(name.is_public(), public, "{text}");
        }
        for text in ["", "a..b", "*.*.a.dev", "a b.dev", "-é.dev", "a/b"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_have_names_for_checks_over_tls() {
        let of = |text| Name::parse(text).unwrap().server_name();
        assert_eq!(of("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        let v6 = of("2001:db8::8a2e:1");
        assert!(v6.starts_with("1.0.0.0.e.2.a.8.0."), "{v6}");
        assert!(v6.ends_with("8.b.d.0.1.0.0.2.ip6.arpa"), "{v6}");
        assert_eq!(of("a.dev"), "a.dev");
    }
}
