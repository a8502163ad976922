//! Commands that change what is desired of an environment, and the handle that takes them.

use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{EnvironmentId, Principal};
use havre_release::{Applied, ApplyError, Change, TargetStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::clock::elapsed_ms;

/// A command, and where to tell what came of it.
pub(super) type PendingCommand = (Change, oneshot::Sender<Result<Applied, ApplyError>>);

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
    pub(super) snapshot: watch::Receiver<Arc<TargetStatus>>,
    /// Held by the operation that changes the environment.
    pub(crate) operation: Arc<tokio::sync::Mutex<()>>,
    /// Who that is.
    pub(crate) holder: Arc<std::sync::Mutex<Option<Holder>>>,
}

impl EnvironmentHandle {
    /// Hands a command over; it is on disk when this returns.
    pub(crate) async fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        let (done, wait) = oneshot::channel();
        let sent = self.commands.send((change, done)).await;
        sent.map_err(|_| ApplyError::Ended)?;
        wait.await.map_err(|_| ApplyError::Ended)?
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
        self.snapshot.borrow().is_blank()
    }

    /// Something of it serves, runs or is about to.
    pub(crate) fn has_something_up(&self) -> bool {
        self.snapshot.borrow().has_something_up()
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
    pub(crate) fn snapshot(&self) -> Arc<TargetStatus> {
        self.snapshot.borrow().clone()
    }

    /// Snapshots to come.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<TargetStatus>> {
        self.snapshot.clone()
    }
}
