//! An environment as operations have it in hand.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use havre_api::EnvironmentId;
use havre_release::{Applied, ApplyError, Change, Target, TargetStatus};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::elapsed_ms;

/// Operations that may wait for one that changes the environment.
const MOST_WAITING: usize = 16;

/// Who changes an environment.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) what: &'static str,
    /// As history shows them.
    pub(crate) by: String,
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

/// An environment where it runs, and who changes it.
#[derive(Clone)]
pub(crate) struct EnvironmentHandle {
    pub(crate) id: EnvironmentId,
    pub(crate) target: Arc<dyn Target>,
    /// Held by the operation that changes the environment.
    pub(crate) operation: Arc<tokio::sync::Mutex<()>>,
    /// Room for those that wait for it: each has a whole project in memory.
    pub(crate) queue: Arc<tokio::sync::Semaphore>,
    /// Who that is.
    pub(crate) holder: Arc<Mutex<Option<Holder>>>,
}

impl fmt::Debug for EnvironmentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EnvironmentHandle").field(&self.id).finish()
    }
}

impl EnvironmentHandle {
    pub(crate) fn new(id: EnvironmentId, target: Arc<dyn Target>) -> Self {
        Self {
            id,
            target,
            operation: Arc::default(),
            queue: Arc::new(tokio::sync::Semaphore::new(MOST_WAITING)),
            holder: Arc::default(),
        }
    }

    /// Hands a change over; it is on record when this returns.
    pub(crate) async fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        self.target.apply(change).await
    }

    /// Whether the target takes no changes any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.target.has_ended()
    }

    /// Waits until the target has ended; `true` when the environment is gone with it, and nothing of
    /// it is known any more.
    pub(crate) async fn is_gone(&self) -> bool {
        let mut watch = self.watch();
        let gone = watch.wait_for(|status| status.gone.is_some());
        gone.await.is_ok()
    }

    /// Nothing was ever written of it.
    pub(crate) fn is_blank(&self) -> bool {
        self.watch().borrow().is_blank()
    }

    /// Something of it serves, runs or is about to.
    pub(crate) fn has_something_up(&self) -> bool {
        self.watch().borrow().has_something_up()
    }

    /// This is the only handle on it: nobody has it in hand, or is about to.
    pub(crate) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.operation) == 1
    }

    /// Waits until its target has looked at it once, or until then: before that nothing is known of
    /// what a daemon finds when it begins.
    pub(crate) async fn was_looked_at(&self, deadline: Instant) {
        let mut watch = self.watch();
        let looked = watch.wait_for(|status| status.looked_at);
        // Its task ended early, or its machine is very slow: what is known is told.
        drop(tokio::time::timeout_at(deadline, looked).await);
    }

    /// How it is.
    pub(crate) fn status(&self) -> Arc<TargetStatus> {
        self.watch().borrow().clone()
    }

    /// How it is from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<TargetStatus>> {
        self.target.status()
    }
}
