//! What a client's connection is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::asides::Asides;
use crate::clients::Usage;
use crate::stall::Stream;

/// What a connection is doing, shared by its transport and its requests.
#[derive(Debug, Default)]
pub struct ConnectionActivity {
    /// What transport and requests tell each other.
    pub asides: Arc<Asides>,
    requests: AtomicU32,
    /// Requests whose next bytes the client does not take.
    blocked: AtomicU32,
    moves: AtomicU64,
    unread_body: AtomicBool,
    /// Of its client's address.
    pub usage: Arc<Usage>,
}

/// A request under way on a connection, until dropped.
#[derive(Debug)]
pub struct InRequest {
    phase: Arc<ConnectionActivity>,
    blocked: bool,
    /// Of HTTP/2.
    stream: Option<Arc<Stream>>,
}

impl InRequest {
    /// The client's connection wants more of the answer (false) or has got some and has not asked
    /// for more (true).
    pub fn set_blocked(&mut self, blocked: bool) {
        self.phase.moves.fetch_add(1, Ordering::Relaxed);
        match (self.blocked, blocked) {
            (false, true) => self.phase.blocked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.phase.blocked.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        self.blocked = blocked;
        if let Some(stream) = &self.stream {
            stream.set_blocked(blocked);
        }
    }

    /// Whether it was ended since its client took nothing of the answer.
    pub fn is_cut_off(&self) -> bool {
        self.stream.as_ref().is_some_and(|it| it.is_cut_off())
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.set_blocked(false);
        self.phase.requests.fetch_sub(1, Ordering::Relaxed);
        self.phase.usage.request_ended();
    }
}

/// A look at a connection, to be compared with a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    requests: u32,
    blocked: u32,
    moves: u64,
}

/// What two looks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something goes on, or a replica is waited for.
    Alive,
    /// No request.
    Idle,
    /// Every request waits for the client to take its answer, and it does not.
    Stalled,
}

impl Glance {
    /// Compares with an earlier look.
    pub fn since(self, before: Self) -> Verdict {
        if self.moves != before.moves {
            Verdict::Alive
        } else if self.requests == 0 {
            Verdict::Idle
        } else if self.blocked == self.requests {
            Verdict::Stalled
        } else {
            Verdict::Alive
        }
    }
}

impl ConnectionActivity {
    /// Of a connection of an address that has so much.
    pub fn of(usage: Arc<Usage>) -> Self {
        Self {
            usage,
            ..Self::default()
        }
    }

    /// A head is complete.
    pub fn request(self: &Arc<Self>) -> InRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
        self.usage.request_begun();
        InRequest {
            phase: Arc::clone(self),
            blocked: false,
            stream: Stream::current(),
        }
    }

    /// How it stands.
    pub fn glance(&self) -> Glance {
        Glance {
            requests: self.requests.load(Ordering::Relaxed),
            blocked: self.blocked.load(Ordering::Relaxed),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }

    /// No request is under way.
    pub fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// The client may still be sending a body that nobody reads.
    pub fn leaves_body_unread(&self) {
        self.unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether it may.
    pub fn has_unread_body(&self) -> bool {
        self.unread_body.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stalled_connections_are_told_from_busy_ones() {
        let phase = Arc::new(ConnectionActivity::default());
        let verdict = |change: &mut dyn FnMut()| {
            let before = phase.glance();
            change();
            phase.glance().since(before)
        };
        assert_eq!(verdict(&mut || ()), Verdict::Idle);
        let mut first = phase.request();
        assert_eq!(
            verdict(&mut || ()),
            Verdict::Alive,
            "its replica is waited for"
        );
        first.set_blocked(true);
        assert_eq!(verdict(&mut || ()), Verdict::Stalled);
        let second = phase.request();
        assert_eq!(
            verdict(&mut || ()),
            Verdict::Alive,
            "one of two waits for its replica"
        );
        drop(second);
        assert_eq!(
            verdict(&mut || first.set_blocked(false)),
            Verdict::Alive,
            "it moves"
        );
        assert_eq!(
            verdict(&mut || drop(phase.request())),
            Verdict::Alive,
            "one came and went"
        );
    }
}
