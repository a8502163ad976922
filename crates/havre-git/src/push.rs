//! What is pushed, who may, and who is told: the traits that a consumer implements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::text::plain;
use crate::{Name, Objects, Oid, Service};

/// Longest line that a pusher is told.
const MOST_LINE_BYTES: usize = 4096;
/// Lines that wait for a pusher.
const LINES_AHEAD: usize = 256;

/// What is done about pushes.
pub trait Receiver: Send + Sync {
    /// Refuses a push before its references move: lines for the pusher. New objects are read through `objects`.
    fn check<'a>(
        &'a self,
        push: &'a Push,
        objects: &'a Objects,
    ) -> BoxFuture<'a, Result<(), Vec<String>>>;

    /// After the references moved. What it tells goes to the pusher as it comes, until he leaves; it goes on all the
    /// same. It may be called again with the same [`Push::id`] where the daemon died before it had ended.
    fn received<'a>(&'a self, push: &'a Push, tell: Lines) -> BoxFuture<'a, ()>;
}

/// A push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Unlike any other's.
    pub id: String,
    /// Whose repository.
    pub project: Name,
    /// Who pushes, as history names them.
    pub principal: String,
    /// What is to move, or has moved.
    pub updates: Vec<Update>,
    /// As given by `git push -o`.
    pub options: Vec<String>,
    /// Whether it is by a job that a push has started, and by nobody else: it is to start nothing.
    #[serde(default)]
    pub of_job: bool,
    /// It was fetched from another server: nobody pushed it here.
    #[serde(default)]
    pub mirrored: bool,
}

/// What becomes of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// In full: `refs/heads/main`.
    pub reference: String,
    /// `None`: it is new.
    pub old: Option<Oid>,
    /// `None`: it is deleted.
    pub new: Option<Oid>,
    /// What it pointed to is no ancestor of what it is to point to.
    pub forced: bool,
}

impl Update {
    /// The branch, where it is one.
    pub fn branch(&self) -> Option<&str> {
        self.reference.strip_prefix("refs/heads/")
    }
}

/// Tells a pusher. It never waits: what a slow one does not take is left out, and said to be.
#[derive(Clone, Debug)]
pub struct Lines {
    to: mpsc::Sender<String>,
    left_out: Arc<AtomicU64>,
}

impl Lines {
    pub(crate) fn new() -> (Self, mpsc::Receiver<String>) {
        let (to, from) = mpsc::channel(LINES_AHEAD);
        let left_out = Arc::default();
        (Self { to, left_out }, from)
    }

    /// Told to nobody.
    pub fn nobody() -> Self {
        Self::new().0
    }

    /// One line, without control characters and not too long.
    pub fn say(&self, line: &str) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let note = format!("… {left_out} lines are left out here");
            if self.to.try_send(note).is_err() {
                self.left_out.fetch_add(left_out, Ordering::Relaxed);
            }
        }
        let line = havre_base::clipped(&plain(line), MOST_LINE_BYTES).to_owned();
        if self.to.try_send(line).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the pusher has left.
    pub fn is_alone(&self) -> bool {
        self.to.is_closed()
    }
}

/// Decides who may fetch and push.
pub trait Door: Send + Sync {
    /// Lets somebody in by the head of a request, and by what whoever made the connection knows of it.
    fn admit<'a>(&'a self, asks: Asks<'a>) -> BoxFuture<'a, Result<Arc<dyn Visitor>, Refusal>>;
}

/// What somebody asks.
#[derive(Clone, Copy, Debug)]
pub struct Asks<'a> {
    /// Of which repository.
    pub project: &'a Name,
    /// What.
    pub service: Service,
    /// How far it is.
    pub phase: Phase,
    /// The request.
    pub head: &'a Parts,
}

/// A fetch or a push is several requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Which references there are.
    References,
    /// What is done.
    Exchange,
}

/// Somebody who was let in, for one request.
pub trait Visitor: Send + Sync {
    /// As history names them.
    fn name(&self) -> String;

    /// Whose requests are counted together.
    fn key(&self) -> String;

    /// Whether it is a job that a push has started.
    fn is_of_job(&self) -> bool {
        false
    }

    /// Cancelled when they may no longer.
    fn lost(&self) -> CancellationToken;

    /// A push of theirs is about to be checked and stored; lines for the pusher where it may not be.
    fn begin(&self, push: &Push) -> Result<(), Vec<String>>;

    /// How the request ended; once.
    fn ended(&self, outcome: Outcome);
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// Git, or whoever checks a push, refused it.
    Failed,
    /// The client went away before.
    Left,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 401 has a client ask for a password.
    pub status: StatusCode,
    /// Shown to the user, a line each.
    pub lines: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_pusher_misses_is_said() {
        let (lines, mut told) = Lines::new();
        for at in 0..LINES_AHEAD + 3 {
            lines.say(&at.to_string());
        }
        for at in 0..LINES_AHEAD {
            assert_eq!(told.try_recv().expect("told"), at.to_string());
        }
        lines.say("after");
        assert_eq!(
            told.try_recv().expect("told"),
            "… 3 lines are left out here"
        );
        assert_eq!(told.try_recv().expect("told"), "after");
        drop(told);
        lines.say("to nobody");
        assert!(lines.is_alone() && Lines::nobody().is_alone());
    }
}
