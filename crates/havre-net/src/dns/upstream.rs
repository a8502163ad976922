//! The resolvers that are asked for names from outside: the host's, from its resolv.conf, or those a
//! container has of its own.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

/// As many as resolv.conf may name.
const MOST: usize = 3;
/// Largest resolv.conf that is read.
const LARGEST: u64 = 64 * 1024;
/// How long the file is believed not to have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A resolver as written in resolv.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    address: IpAddr,
    /// Link of a link-local address.
    link: Option<String>,
}

impl Upstream {
    /// Its address for `socket`, which belongs to the host's namespace (link names do too).
    pub fn address(&self, socket: impl AsFd) -> Option<SocketAddr> {
        const PORT: u16 = 53;
        match (self.address, &self.link) {
            (IpAddr::V6(address), Some(link)) => {
                let index = link
                    .parse()
                    .ok()
                    .or_else(|| rustix::net::netdevice::name_to_index(socket, link).ok())?;
                Some(SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, index)))
            }
            (address, _) => Some(SocketAddr::new(address, PORT)),
        }
    }

    /// Whether it is reached over IPv6.
    pub fn is_v6(&self) -> bool {
        self.address.is_ipv6()
    }
}

/// The resolvers a resolv.conf names. None named means the host itself, as for the C library.
pub fn parse(text: &str) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver"))
                .then(|| words.next())
                .flatten()
        })
        .filter_map(parse_address)
        .take(MOST)
        .collect();
    if upstreams.is_empty() {
        upstreams.push(Upstream {
            address: [127, 0, 0, 1].into(),
            link: None,
        });
    }
    upstreams
}

fn parse_address(word: &str) -> Option<Upstream> {
    match word.split_once('%') {
        None => Some(Upstream {
            address: word.parse().ok()?,
            link: None,
        }),
        Some((address, link)) => Some(Upstream {
            address: address.parse::<Ipv6Addr>().ok()?.into(),
            link: Some(link.to_owned()),
        }),
    }
}

/// The resolvers, read again when the file changes.
pub struct Upstreams {
    /// Whether they are those of the host's file.
    of_host: bool,
    current: Vec<Upstream>,
    /// Which to ask first: the one that answered last.
    preferred: usize,
    looked: Option<Instant>,
    version: Option<(SystemTime, u64)>,
}

impl Upstreams {
    /// Those of the host's file, once it was read.
    pub fn of_host() -> Self {
        Self {
            of_host: true,
            current: parse(""),
            preferred: 0,
            looked: None,
            version: None,
        }
    }

    /// These and no others.
    pub fn fixed(addresses: &[IpAddr]) -> Self {
        let upstream = |address: &IpAddr| Upstream {
            address: *address,
            link: None,
        };
        Self {
            of_host: false,
            current: addresses.iter().map(upstream).collect(),
            preferred: 0,
            looked: None,
            version: None,
        }
    }

    /// Whether these are its resolvers.
    pub fn are(&self, addresses: &[IpAddr]) -> bool {
        let known = self.current.iter().map(|upstream| &upstream.address);
        known.eq(addresses)
    }

    /// The resolver to ask at the `attempt`th try (from 0), and its number for
    /// [`Self::answered`].
    pub fn choose(&self, attempt: usize) -> Option<(usize, &Upstream)> {
        let number = (self.preferred + attempt) % self.current.len().max(1);
        self.current.get(number).map(|upstream| (number, upstream))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.current.len()
    }

    /// Remembers who answered.
    pub fn answered(&mut self, number: usize) {
        self.preferred = number;
    }

    /// Reads the host's file again if it changed; one that cannot be read leaves what was known.
    pub fn refresh(&mut self, now: Instant, open: impl FnOnce() -> io::Result<File>) {
        let fresh = |looked: Instant| now.duration_since(looked) < LOOK_AGAIN;
        if !self.of_host || self.looked.is_some_and(fresh) {
            return;
        }
        self.looked = Some(now);
        let Ok(file) = open() else { return };
        let Ok(metadata) = file.metadata() else {
            return;
        };
        let version = metadata
            .modified()
            .ok()
            .map(|modified| (modified, metadata.len()));
        if version.is_some() && version == self.version || metadata.len() > LARGEST {
            return;
        }
        let mut text = String::new();
        if file.take(LARGEST).read_to_string(&mut text).is_ok() {
            self.current = parse(&text);
            self.preferred = 0;
            self.version = version;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let named = |text: &str| -> Vec<String> {
            parse(text)
                .into_iter()
                .map(|upstream| match upstream.link {
                    Some(link) => format!("{}%{link}", upstream.address),
                    None => upstream.address.to_string(),
                })
                .collect()
        };
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 127.0.0.53 # local\n\
            nameserver\tfe80::1%eth0\nnameserver nonsense\nnameserver ::1\nnameserver 1.1.1.1\n";
        assert_eq!(named(text), ["127.0.0.53", "fe80::1%eth0", "::1"]);
        assert_eq!(named(""), ["127.0.0.1"]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_the_last_to_answer_is_asked_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").expect("written");
        let mut upstreams = Upstreams::of_host();
        let open = || File::open(&path);
        let now = Instant::now();
        upstreams.refresh(now, open);
        let first = |upstreams: &Upstreams| {
            upstreams
                .choose(0)
                .map(|(_, upstream)| upstream.address.to_string())
        };
        assert_eq!(first(&upstreams).as_deref(), Some("10.0.0.1"));
        upstreams.answered(1);
        assert_eq!(first(&upstreams).as_deref(), Some("10.0.0.2"));
        fs::write(&path, "nameserver 10.0.0.33\n").expect("written");
        upstreams.refresh(now, open);
        assert_eq!(
            first(&upstreams).as_deref(),
            Some("10.0.0.2"),
            "not looked at again yet"
        );
        upstreams.refresh(now + LOOK_AGAIN, open);
        assert_eq!(first(&upstreams).as_deref(), Some("10.0.0.33"));
        fs::remove_file(&path).expect("removed");
        upstreams.refresh(now + 2 * LOOK_AGAIN, open);
        assert_eq!(first(&upstreams).as_deref(), Some("10.0.0.33"));
    }
}
