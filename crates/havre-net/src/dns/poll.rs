//! What the resolver waits for.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Events taken from the kernel at once.
const EVENTS: usize = 32;

/// Whom an event is for: a kind in the upper half, an address or a slot in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// One of the files changed.
    Files,
    /// A question over UDP at this gateway.
    Udp(Ipv4Addr),
    /// A connection to this gateway.
    Tcp(Ipv4Addr),
    /// A resolver's answer over UDP.
    Forward(u32),
    /// A client's connection.
    Client(u32),
    /// A connection to a resolver.
    Upstream(u32),
}

impl Token {
    fn pack(self) -> EventData {
        let (kind, low) = match self {
            Self::Files => (0, 0),
            Self::Udp(gateway) => (1, gateway.to_bits()),
            Self::Tcp(gateway) => (2, gateway.to_bits()),
            Self::Forward(slot) => (3, slot),
            Self::Client(slot) => (4, slot),
            Self::Upstream(slot) => (5, slot),
        };
        EventData::new_u64(u64::from(low) | kind << 32)
    }

    fn unpack(data: EventData) -> Option<Self> {
        let value = data.u64();
        // The lower half is the payload.
        let low = value as u32;
        Some(match value >> 32 {
            0 => Self::Files,
            1 => Self::Udp(Ipv4Addr::from_bits(low)),
            2 => Self::Tcp(Ipv4Addr::from_bits(low)),
            3 => Self::Forward(low),
            4 => Self::Client(low),
            5 => Self::Upstream(low),
            _ => return None,
        })
    }
}

/// Readiness notifications.
pub struct Poll {
    fd: OwnedFd,
}

impl Poll {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        let fd = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    /// Waits until something has happened, or until `deadline`; what happened.
    pub fn wait(
        &self,
        deadline: Option<Instant>,
    ) -> io::Result<impl Iterator<Item = Token> + use<>> {
        let left = |at: Instant| timespec(at.saturating_duration_since(Instant::now()));
        let timeout = deadline.map(left);
        let mut events = Vec::with_capacity(EVENTS);
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.fd, room, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = events.into_iter();
        Ok(events.filter_map(|event| Token::unpack(event.data)))
    }

    /// Listens to `source` from now on.
    pub fn add(&self, source: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, token.pack(), events)?)
    }

    /// To other events of it.
    pub fn change(&self, source: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, source, token.pack(), events)?)
    }
}

fn timespec(duration: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
