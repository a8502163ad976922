//! epoll with names for what is waited for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A new connection.
    Listener,
    /// A signal for the shim.
    Signals,
    /// Output of the container; also its terminal's.
    Stdout,
    /// Errors of the container.
    Stderr,
    /// The container's set-up has something to say.
    Setup,
    /// The container's first process ended.
    Init,
    /// A client.
    Connection(u32),
    /// An exec'd process being set up.
    ProcessSetup(u32),
    /// An exec'd process ended.
    Process(u32),
    /// Output of a probe.
    ProbeOutput(u32),
    /// One that has set up an exec'd process ended.
    Leaving,
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Stdout => (2, 0),
            Self::Stderr => (3, 0),
            Self::Setup => (4, 0),
            Self::Init => (5, 0),
            Self::Connection(n) => (6, n),
            Self::ProcessSetup(n) => (7, n),
            Self::Process(n) => (8, n),
            Self::ProbeOutput(n) => (9, n),
            Self::Leaving => (10, 0),
        };
        kind << 32 | u64::from(number)
    }

    fn decode(data: u64) -> Option<Self> {
        let number = data as u32;
        Some(match data >> 32 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Stdout,
            3 => Self::Stderr,
            4 => Self::Setup,
            5 => Self::Init,
            6 => Self::Connection(number),
            7 => Self::ProcessSetup(number),
            8 => Self::Process(number),
            9 => Self::ProbeOutput(number),
            10 => Self::Leaving,
            _ => return None,
        })
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// An empty one.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for `fd` to be readable, level-triggered. Closing every copy of it ends that.
    pub fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token.encode());
        Ok(epoll::add(&self.0, fd, data, epoll::EventFlags::IN)?)
    }

    /// Waits for `fd` to be writable as well, or no longer.
    pub fn want_write(&self, fd: impl AsFd, token: Token, write: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token.encode());
        let mut flags = epoll::EventFlags::IN;
        if write {
            flags |= epoll::EventFlags::OUT;
        }
        Ok(epoll::modify(&self.0, fd, data, flags)?)
    }

    /// Forgets a descriptor, which forked children may still hold.
    pub fn remove(&self, fd: impl AsFd) {
        match epoll::delete(&self.0, fd) {
            // One that is not there is what is wanted.
            Ok(()) | Err(_) => {}
        }
    }

    /// Events and whether each is also about writing; empty after `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<(Token, bool)>> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().min(3600) as i64,
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        let none = epoll::EventData::new_u64(u64::MAX);
        let empty = epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: none,
        };
        let mut events = [empty; 16];
        let count = match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let named = events[..count].iter().filter_map(|event| {
            let (data, flags) = (event.data, event.flags);
            let token = Token::decode(data.u64())?;
            Some((token, flags.contains(epoll::EventFlags::OUT)))
        });
        Ok(named.collect())
    }
}
