//! The way of a question to the resolvers outside.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::net::SocketType;

use super::helper::Helper;
use super::upstream::{Upstream, Upstreams};

/// The host's side: who opens sockets there, and the resolvers asked from there.
pub struct Outside {
    helper: Helper,
    /// The host's.
    usual: Upstreams,
    /// Those of containers that have others.
    own: BTreeMap<Ipv4Addr, Upstreams>,
}

impl Outside {
    /// By this helper.
    pub fn new(helper: Helper) -> Self {
        Self {
            helper,
            usual: Upstreams::of_host(),
            own: BTreeMap::new(),
        }
    }

    /// The resolvers to ask for this container.
    pub fn upstreams(&self, client: Ipv4Addr) -> &Upstreams {
        self.own.get(&client).unwrap_or(&self.usual)
    }

    /// The same, to remember who answered.
    pub fn upstreams_mut(&mut self, client: Ipv4Addr) -> &mut Upstreams {
        self.own.get_mut(&client).unwrap_or(&mut self.usual)
    }

    /// Takes over which containers have resolvers of their own; what is known of those that stay
    /// is kept.
    pub fn set_own(&mut self, wanted: &BTreeMap<Ipv4Addr, Vec<IpAddr>>) {
        let stays = |client: &Ipv4Addr, known: &Upstreams| {
            wanted.get(client).is_some_and(|wanted| known.are(wanted))
        };
        self.own.retain(|client, known| stays(client, known));
        for (client, addresses) in wanted {
            let fixed = || Upstreams::fixed(addresses);
            self.own.entry(*client).or_insert_with(fixed);
        }
    }

    /// Looks at the host's list again before this container's question is passed on.
    pub fn refresh(&mut self, client: Ipv4Addr, now: Instant) {
        if !self.own.contains_key(&client) {
            let helper = &self.helper;
            self.usual.refresh(now, || helper.resolv_conf());
        }
    }

    /// A non-blocking socket for `upstream` in the host's namespace.
    pub fn socket(&self, upstream: &Upstream, kind: SocketType) -> io::Result<OwnedFd> {
        self.helper.socket(upstream.is_v6(), kind)
    }
}

/// A number an outsider cannot guess.
pub fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
