//! How others reach an environment's task.

use std::sync::Arc;

use havre_release::{Applied, ApplyError, Change, TargetStatus};
use tokio::sync::{mpsc, oneshot, watch};

/// A change, and where to tell what came of it.
pub(super) type PendingCommand = (Change, oneshot::Sender<Result<Applied, ApplyError>>);

/// Talks to an environment's task. Without one the task ends.
#[derive(Debug)]
pub(crate) struct Commands {
    pub(super) commands: mpsc::Sender<PendingCommand>,
    pub(super) status: watch::Receiver<Arc<TargetStatus>>,
}

impl Commands {
    /// Hands a change over; it is on disk when this returns.
    pub(crate) async fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        let (done, wait) = oneshot::channel();
        let sent = self.commands.send((change, done)).await;
        sent.map_err(|_| ApplyError::Ended)?;
        wait.await.map_err(|_| ApplyError::Ended)?
    }

    /// Whether the task takes no changes any more.
    pub(crate) fn are_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// What the task knows.
    pub(crate) fn status(&self) -> watch::Receiver<Arc<TargetStatus>> {
        self.status.clone()
    }
}
