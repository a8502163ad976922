//! Commands that change what is desired of an environment, and the handle that takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{EnvironmentId, Principal};
use havre_model::{FoundDatabases, ServiceName};
use havre_release::{Desired, Record, Refusal, Release};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{EnvironmentError, Snapshot};
use crate::clock::elapsed_ms;

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
pub(crate) enum Analysis {
    /// It is new: its answers are compared with those of the one before.
    Enabled,
    /// It has served before.
    Skipped,
}

/// Why nothing came of a command. Nothing was changed, on disk or in memory.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// It cannot be written down.
    Persist(EnvironmentError),
    /// The state of the rollout does not allow it.
    Refused(Refusal),
    /// The task has ended: the environment is gone, or the daemon ends.
    Ended,
}

impl From<EnvironmentError> for CommandError {
    fn from(error: EnvironmentError) -> Self {
        Self::Persist(error)
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A command that is on disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Snapshots from this revision on show it, or what came after it.
    pub(crate) revision: u64,
    /// The number of the release that it made.
    pub(crate) release: Option<u64>,
}

/// A command, and where to tell what came of it.
pub(super) type PendingCommand = (Command, oneshot::Sender<Result<Written, CommandError>>);

/// A move to a new release.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) release: Release,
    /// Why there is this release.
    pub(crate) record: Record,
    pub(crate) scale: Scale,
    pub(crate) jobs: Jobs,
    pub(crate) analysis: Analysis,
    /// What was found where its services and those before write.
    pub(crate) databases: FoundDatabases,
}

/// Something a user wants of an environment.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Make a release and move to it.
    RollOut(Box<Move>),
    /// Give the rollout under way up.
    Abort,
    /// Pause it.
    Pause,
    /// Let it go on.
    Resume,
    /// PendingCommand for other numbers of replicas.
    Scale(BTreeMap<ServiceName, u32>),
    /// Stop everything and forget the environment.
    TakeDown { volumes: bool },
}

/// Who changes an environment.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) what: &'static str,
    pub(crate) by: Principal,
    pub(crate) since: SystemTime,
}

impl Holder {
    /// For those who wait.
    pub(crate) fn sentence(&self) -> String {
        let seconds = elapsed_ms(self.since) / 1000;
        format!(
            "waiting for `{}` of {}, under way for {seconds} s",
            self.what, self.by
        )
    }
}

/// Talks to an environment's task.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentHandle {
    pub(crate) id: EnvironmentId,
    pub(super) commands: mpsc::Sender<PendingCommand>,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Held by the operation that changes the environment.
    pub(crate) operation: Arc<tokio::sync::Mutex<()>>,
    /// Who that is.
    pub(crate) holder: Arc<std::sync::Mutex<Option<Holder>>>,
}

impl EnvironmentHandle {
    /// Hands a command over; it is on disk when this returns.
    pub(crate) async fn command(&self, command: Command) -> Result<Written, CommandError> {
        let (done, wait) = oneshot::channel();
        let sent = self.commands.send((command, done)).await;
        sent.map_err(|_| CommandError::Ended)?;
        wait.await.map_err(|_| CommandError::Ended)?
    }

    /// Whether the task takes no commands any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits until the task has ended; `true` when the environment is gone with it, and nothing of
    /// it is known any more.
    pub(crate) async fn is_gone(&self) -> bool {
        let mut watch = self.watch();
        watch
            .wait_for(|snapshot| snapshot.gone.is_some())
            .await
            .is_ok()
    }

    /// Nothing was ever written of it.
    pub(crate) fn is_blank(&self) -> bool {
        let snapshot = self.snapshot.borrow();
        snapshot.revision == 0
            && snapshot.desired == Desired::default()
            && snapshot.releases.is_empty()
            && snapshot.seen.is_empty()
    }

    /// Something of it serves, runs or is about to.
    pub(crate) fn has_something_up(&self) -> bool {
        let snapshot = self.snapshot.borrow();
        snapshot.desired.current.is_some()
            || snapshot.desired.rollout.is_some()
            || !snapshot.seen.is_empty()
    }

    /// This is the only handle on it: nobody has it in hand, or is about to.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.operation) == 1
    }

    /// Waits until its containers were looked at once, or until then: before that nothing is known of
    /// what a daemon finds when it begins.
    pub(crate) async fn was_looked_at(&self, deadline: Instant) {
        let mut watch = self.watch();
        let looked = watch.wait_for(|snapshot| snapshot.looked_at);
        // Its task ended early, or its machine is very slow: what is known is told.
        drop(tokio::time::timeout_at(deadline, looked).await);
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
