//! What is wished of an environment, and how its task is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_model::ServiceName;
use havre_release::{Refusal, Release};
use tokio::sync::{mpsc, oneshot, watch};

use super::Snapshot;
use crate::operations::Holder;

/// What becomes of numbers of replicas that were set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// They give way to the files'.
    FromFile,
    /// They stay.
    Kept,
}

/// What becomes of a release's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Jobs {
    /// They run before it serves.
    Run,
    /// They have run for it once, and do not know what came after: migrations go forwards only.
    Skip,
}

/// Whether a release has to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// It is new: its answers are compared with those of the one before.
    Yes,
    /// It has served before.
    No,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDone {
    /// The state cannot be written, or the task has ended.
    NotKept,
    /// The state of the rollout does not allow it.
    Refused(Refusal),
}

/// A command, and where to tell what came of it.
pub(super) type Wish = (Command, oneshot::Sender<Result<(), Refusal>>);

/// Something a user wants of an environment.
#[derive(Debug)]
pub(crate) enum Command {
    /// Move to this release, which is stored already.
    RollOut {
        number: u64,
        release: Box<Release>,
        scale: Scale,
        jobs: Jobs,
        watch: Watch,
    },
    /// Give the rollout under way up.
    Abort,
    /// Let it stand still.
    Pause,
    /// Let it go on.
    Resume,
    /// Wish for other numbers of replicas.
    Scale(BTreeMap<ServiceName, u32>),
    /// Stop everything and forget the environment.
    TakeDown { volumes: bool },
}

/// Talks to an environment's task.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentHandle {
    pub(crate) id: EnvironmentId,
    pub(super) commands: mpsc::Sender<Wish>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Held by the operation that changes the environment.
    pub(crate) operation: Arc<tokio::sync::Mutex<()>>,
    /// Who that is.
    pub(crate) holder: Arc<std::sync::Mutex<Option<Holder>>>,
}

impl EnvironmentHandle {
    /// Hands a command over; it is persisted when this returns.
    pub(crate) async fn command(&self, command: Command) -> Result<(), NotDone> {
        let (done, wait) = oneshot::channel();
        let sent = self.commands.send((command, done)).await;
        sent.map_err(|_| NotDone::NotKept)?;
        wait.await
            .map_err(|_| NotDone::NotKept)?
            .map_err(NotDone::Refused)
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Snapshots to come.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }
}
