//! Pushes that are under way: by their secrets hooks find them, and their stage says whether git may be ended.
//!
//! ```text
//! Sending ── pre-receive ─► Accepted ── post-receive, or git has ended ─► Received
//!    ├── pre-receive ─► Refused: nothing moves            the client leaves: it is no longer told
//!    └── the client leaves ─► Ended: nothing moves
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::Name;
use crate::push::{Outcome, Push, Visitor};

/// Bytes of a secret, and of a push's id.
const SECRET_BYTES: usize = 16;

/// Pushes that are under way.
#[derive(Default)]
pub(crate) struct Pushes(Mutex<HashMap<String, Arc<Pending>>>);

/// One of them.
pub(crate) struct Pending {
    pub(crate) project: Name,
    pub(crate) visitor: Arc<dyn Visitor>,
    /// The client has left, or is to be told no more.
    pub(crate) left: CancellationToken,
    stage: Mutex<Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Sending,
    Accepted(Push),
    Received,
    Ended,
    Refused,
}

/// A push, as long as its git runs.
pub(crate) struct Ticket {
    pub(crate) secret: String,
    pub(crate) pending: Arc<Pending>,
    of: Arc<Pushes>,
}

impl Pushes {
    pub(crate) fn begin(
        self: &Arc<Self>,
        project: Name,
        visitor: Arc<dyn Visitor>,
    ) -> io::Result<Ticket> {
        let secret = random()?;
        let pending = Arc::new(Pending {
            project,
            visitor,
            left: CancellationToken::new(),
            stage: Mutex::new(Stage::Sending),
        });
        self.all().insert(secret.clone(), Arc::clone(&pending));
        Ok(Ticket {
            secret,
            pending,
            of: Arc::clone(self),
        })
    }

    pub(crate) fn find(&self, secret: &str) -> Option<Arc<Pending>> {
        self.all().get(secret).cloned()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Pending>>> {
        // Whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.all().remove(&self.secret);
    }
}

impl Pending {
    /// From now on references may move, and git is not ended any more. False: it was, or that was said before.
    pub(crate) fn accept(&self, push: Push) -> bool {
        let mut stage = self.stage();
        let is_sending = *stage == Stage::Sending;
        if is_sending {
            *stage = Stage::Accepted(push);
        }
        is_sending
    }

    /// Nothing is to move.
    pub(crate) fn refuse(&self) {
        let mut stage = self.stage();
        if *stage == Stage::Sending {
            *stage = Stage::Refused;
        }
    }

    /// How the push ended, whose git ended like that: what was received is stored, whoever left.
    pub(crate) fn outcome(&self, of_git: Outcome) -> Outcome {
        match &*self.stage() {
            Stage::Received => Outcome::Done,
            Stage::Refused => Outcome::Failed,
            Stage::Sending | Stage::Accepted(_) | Stage::Ended => of_git,
        }
    }

    /// What was accepted, once.
    pub(crate) fn receive(&self) -> Option<Push> {
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Received) {
            Stage::Accepted(push) => Some(push),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// The client has left; whether git may be ended. Otherwise it is to be left alone: it will end soon.
    pub(crate) fn leave(&self) -> bool {
        self.left.cancel();
        let mut stage = self.stage();
        match &*stage {
            Stage::Sending | Stage::Ended => {
                *stage = Stage::Ended;
                true
            }
            Stage::Refused => true,
            Stage::Accepted(_) | Stage::Received => false,
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Whole after every statement.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Text that nobody guesses.
pub(crate) fn random() -> io::Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Visitor for Nobody {
        fn name(&self) -> String {
            String::new()
        }
        fn key(&self) -> String {
            String::new()
        }
        fn lost(&self) -> CancellationToken {
            CancellationToken::new()
        }
        fn begin(&self, _: &Push) -> Result<(), Vec<String>> {
            Ok(())
        }
        fn ended(&self, _: Outcome) {}
    }

    fn push() -> Push {
        Push {
            id: "1".to_owned(),
            project: "shop".parse().expect("sound"),
            principal: "anna".to_owned(),
            updates: Vec::new(),
            options: Vec::new(),
            of_job: false,
            mirrored: false,
        }
    }

    fn begun() -> (Arc<Pushes>, Ticket) {
        let pushes = Arc::new(Pushes::default());
        let ticket = pushes.begin(push().project, Arc::new(Nobody));
        (pushes, ticket.expect("randomness"))
    }

    #[test]
    fn git_is_ended_only_before_references_may_move() {
        let (_, ticket) = begun();
        assert!(ticket.pending.leave(), "nothing has moved");
        assert!(!ticket.pending.accept(push()), "and nothing will");
        let (_, ticket) = begun();
        assert!(ticket.pending.accept(push()));
        assert!(!ticket.pending.leave(), "they may have moved");
        assert!(ticket.pending.receive().is_some());
        assert!(ticket.pending.receive().is_none(), "once");
        assert!(!ticket.pending.accept(push()), "once");
        assert_eq!(ticket.pending.outcome(Outcome::Left), Outcome::Done);
        let (_, ticket) = begun();
        ticket.pending.refuse();
        assert!(!ticket.pending.accept(push()) && ticket.pending.leave());
        assert_eq!(ticket.pending.outcome(Outcome::Done), Outcome::Failed);
    }

    #[test]
    fn a_secret_is_known_as_long_as_git_runs() {
        let (pushes, ticket) = begun();
        let secret = ticket.secret.clone();
        assert_eq!(secret.len(), 32);
        assert!(pushes.find(&secret).is_some() && pushes.find("other").is_none());
        drop(ticket);
        assert!(pushes.find(&secret).is_none());
    }
}
