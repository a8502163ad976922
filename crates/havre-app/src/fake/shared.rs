//! What all FAKE environments share, and how a test says what becomes of what is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use havre_api::EnvironmentId;
use havre_model::Capabilities;
use havre_release::{ReplicaId, Target, TargetStatus};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::replicas::Fate;
use super::rules::Violations;
use crate::daemon::Daemon;
use crate::platform::Platform;

/// What a test has set.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) capabilities: Capabilities,
    /// By service; those that are not in it serve.
    pub(super) fates: BTreeMap<String, Fate>,
    /// What processes of a service print when they start.
    pub(super) prints: BTreeMap<String, Vec<String>>,
    /// How long processes take to end.
    pub(super) grace: Duration,
    /// How long a change is under way.
    pub(super) delay: Duration,
    /// What cannot be removed when an environment goes.
    pub(super) stays: Vec<String>,
    /// Environments on a shared network, by its name, of which nothing else is known.
    pub(super) strays: BTreeMap<String, Vec<String>>,
}

/// What was opened.
pub(super) struct Open {
    pub(super) status: watch::Receiver<Arc<TargetStatus>>,
    pub(super) target: Weak<dyn Target>,
    pub(super) broken_off: CancellationToken,
}

/// What all environments share.
pub(super) struct Shared {
    pub(super) platform: Arc<Platform>,
    pub(super) violations: Violations,
    script: Mutex<Script>,
    /// Changes that were made or refused, in order.
    changes: Mutex<Vec<String>>,
    /// Lines of output, by replica; those that are gone leave theirs.
    output: Mutex<BTreeMap<ReplicaId, Vec<String>>>,
    /// Replicas that there were.
    pub(super) had: Mutex<BTreeSet<ReplicaId>>,
    open: Mutex<BTreeMap<EnvironmentId, Open>>,
    daemon: OnceLock<Weak<Daemon>>,
}

impl Shared {
    pub(super) fn new(platform: Arc<Platform>) -> Self {
        Self {
            platform,
            violations: Violations::default(),
            script: Mutex::default(),
            changes: Mutex::default(),
            output: Mutex::default(),
            had: Mutex::default(),
            open: Mutex::default(),
            daemon: OnceLock::new(),
        }
    }

    /// Whose operations are watched from now on.
    pub(super) fn watch(&self, daemon: &Arc<Daemon>) {
        assert!(self.daemon.set(Arc::downgrade(daemon)).is_ok());
    }

    pub(super) fn open(&self) -> MutexGuard<'_, BTreeMap<EnvironmentId, Open>> {
        self.open.lock().unwrap()
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, Vec<String>> {
        self.changes.lock().unwrap()
    }

    pub(super) fn output(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Vec<String>>> {
        self.output.lock().unwrap()
    }

    /// Who holds an environment, as its operations know it.
    pub(super) async fn holder(&self, id: &EnvironmentId) -> Option<(&'static str, String)> {
        let daemon = self.daemon.get()?.upgrade()?;
        let environments = daemon.environments().await;
        let handle = environments.iter().find(|one| &one.id == id)?;
        let holder = handle.holder.lock().unwrap();
        let holder = holder.as_ref()?;
        Some((holder.what, holder.by.to_string()))
    }

    /// All environments but this one that have not ended.
    pub(super) fn others(&self, id: &EnvironmentId) -> Vec<(EnvironmentId, Arc<TargetStatus>)> {
        let open = self.open.lock().unwrap();
        let others = open.iter().filter(|(other, _)| *other != id);
        let alive = others.filter(|(_, one)| one.status.has_changed().is_ok());
        alive
            .map(|(other, one)| (other.clone(), one.status.borrow().clone()))
            .collect()
    }
}
