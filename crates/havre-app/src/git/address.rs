//! Where a repository is. Its name is looked up once, here: git connects to the addresses that were
//! checked, not to what the name stands for a moment later.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};

/// Why a repository is not asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("its address is not of the form SCHEME://HOST[:PORT]/PATH")]
    Malformed,
    #[error("{host} is {address}, which only this machine itself, or what runs it, answers")]
    Own { host: String, address: IpAddr },
    #[error("cannot look up {host}")]
    Unknown { host: String, source: io::Error },
}

/// What git is told of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResolvedRemote {
    pub url: String,
    /// `NAME=VALUE`.
    pub setting: Option<String>,
    /// The host as it was named, where `url` has its address.
    pub host: Option<String>,
}

/// All addresses of a host.
pub(super) fn look_up(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let all = (host, port).to_socket_addrs()?;
    Ok(all.map(|address| address.ip()).collect())
}

/// Where `url` leads; `proxied`: it is a proxy that looks up the hosts of web addresses.
pub(super) fn find(
    url: &str,
    proxied: bool,
    look_up: impl FnOnce(&str, u16) -> io::Result<Vec<IpAddr>>,
) -> Result<ResolvedRemote, AddressError> {
    let unchanged = || ResolvedRemote {
        url: url.to_owned(),
        setting: None,
        host: None,
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok(unchanged());
    };
    let usual_port = match scheme {
        "https" => 443,
        "http" => 80,
        "git" => 9418,
        // Git refuses the others itself.
        _ => return Ok(unchanged()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority).ok_or(AddressError::Malformed)?;
    let port = port.unwrap_or(usual_port);
    let is_git = scheme == "git";
    let addresses = match look_up(host, port) {
        Ok(addresses) => addresses,
        Err(_) if proxied && !is_git => return Ok(unchanged()),
        Err(source) => {
            let host = host.to_owned();
            return Err(AddressError::Unknown { host, source });
        }
    };
    if let Some(address) = addresses.iter().copied().find(|one| is_own(*one)) {
        let host = host.to_owned();
        return Err(AddressError::Own { host, address });
    }
    let Some(first) = addresses.first() else {
        return Err(AddressError::Unknown {
            host: host.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        });
    };
    if is_git {
        return Ok(ResolvedRemote {
            url: format!("git://{}{path}", SocketAddr::new(*first, port)),
            setting: None,
            host: Some(authority.to_owned()),
        });
    }
    let all: Vec<String> = addresses.iter().map(in_brackets).collect();
    // A host that is an address already needs no name.
    let named = host.parse::<IpAddr>().is_err();
    Ok(ResolvedRemote {
        setting: named.then(|| format!("http.curloptResolve={host}:{port}:{}", all.join(","))),
        ..unchanged()
    })
}

/// Nothing that one program reads otherwise than another: no user, no escapes.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if host.is_empty() || !host.chars().all(plain) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) => Some(port.parse().ok()?),
        None if port.is_empty() => None,
        Some(_) | None => return None,
    };
    Some((host, port))
}

/// Loopback and link-local addresses: what listens there relies on strangers not getting to it, as
/// services of the machine's own and a cloud's metadata do.
fn is_own(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

fn in_brackets(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, addresses: &[&str]) -> Result<ResolvedRemote, AddressError> {
        find(url, false, |_, _| {
            Ok(addresses.iter().map(|one| one.parse().unwrap()).collect())
        })
    }

    #[test]
    fn what_only_this_machine_answers_is_not_asked() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1"),
            ("rebound.example.org", "127.8.0.1"),
            ("metadata", "169.254.169.254"),
            ("0", "0.0.0.0"),
            ("[::1]", "::1"),
            ("mapped.example.org", "::ffff:127.0.0.1"),
            ("[fe80::1]", "fe80::1"),
            ("[::]", "::"),
        ] {
            for scheme in ["http", "https", "git"] {
                let url = format!("{scheme}://{host}/a.git");
                let refused = found(&url, &["203.0.113.1", address]);
                assert!(matches!(refused, Err(AddressError::Own { .. })), "{url}");
            }
        }
        assert_eq!(look_up("127.1", 80).unwrap()[0].to_string(), "127.0.0.1");
    }

    #[test]
    fn git_connects_to_what_was_checked() {
        let addresses = ["203.0.113.1", "2001:db8::1"];
        let place = found("https://example.org/a.git", &addresses).unwrap();
        assert_eq!(place.url, "https://example.org/a.git");
        let pinned = "http.curloptResolve=example.org:443:203.0.113.1,[2001:db8::1]";
        assert_eq!(place.setting.as_deref(), Some(pinned));
        let place = found("git://example.org:9/a#b", &addresses).unwrap();
        assert_eq!(place.url, "git://203.0.113.1:9/a#b");
        assert_eq!(place.host.as_deref(), Some("example.org:9"));
        let place = found("git://[2001:db8::1]/a", &addresses[1..]).unwrap();
        assert_eq!(place.url, "git://[2001:db8::1]:9418/a");
        let place = found("http://10.0.0.1:3000/a", &["10.0.0.1"]).unwrap();
        assert_eq!(place.setting, None);
    }

    #[test]
    fn what_may_be_read_in_two_ways_is_refused() {
        for url in [
            "https://a@127.0.0.1/a",
            "https://%31%32%37.0.0.1/a",
            "https://example.org\\@127.0.0.1/a",
            "https:///a",
            "https://example.org:80:90/a",
            "https://example.org:+80/a",
            "https://[::1%25eth0]/a",
            "https://[127.0.0.1]/a",
        ] {
            let refused = found(url, &["203.0.113.1"]);
            assert!(matches!(refused, Err(AddressError::Malformed)), "{url}");
        }
    }

    #[test]
    fn a_host_that_is_known_to_a_proxy_alone_is_left_to_it() {
        let nobody = |_: &str, _| Err(io::ErrorKind::NotFound.into());
        let unknown = |url, proxied| find(url, proxied, nobody);
        assert!(unknown("https://example.org/a", true).is_ok());
        assert!(unknown("https://example.org/a", false).is_err());
        assert!(unknown("git://example.org/a", true).is_err());
    }
}
