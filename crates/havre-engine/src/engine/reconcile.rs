//! The run directory and the control groups against what is known: at the start, when all is new, and now
//! and then afterwards, since nobody tells of a folder that is removed by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::inventory::blank;
use super::{Inner, teardown, watcher};
use crate::cgroup::{self, Cgroup};
use crate::rundir::{RunDir, is_incomplete};
use crate::spec::{ContainerId, State};
use crate::validate;

/// Longest wait for the first message of a shim that lives.
const ADOPT_DEADLINE: Duration = Duration::from_secs(5);

/// What a look at the machine has come upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Containers that are known now.
    pub containers: usize,
    /// Of these, those that were not known before.
    pub adopted: usize,
    /// Containers whose folder has gone: those that ran were killed.
    pub vanished: usize,
    /// Control groups of containers that have no folder and are not known: they were killed and removed.
    pub orphans: usize,
}

/// It is not known which containers there are. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The run directory.
    #[error("cannot read {path}")]
    RunDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread that looked.
    #[error("cannot look for containers")]
    Thread(#[from] tokio::task::JoinError),
}

/// A folder of a container that is not known.
struct Found {
    id: ContainerId,
    /// Of its spec, where that can be read.
    labels: BTreeMap<String, String>,
    cgroup_parent: Option<String>,
}

/// See [`super::Engine::reconcile`].
pub async fn reconcile(inner: &Arc<Inner>) -> Result<Reconciled, ReconcileError> {
    let scan = {
        let inner = Arc::clone(inner);
        move || scan(&inner)
    };
    let (found, mut reconciled) = tokio::task::spawn_blocking(scan).await??;
    reconciled.adopted = adopt(inner, found).await;
    reconciled.containers = inner.inventory().ids().len();
    Ok(reconciled)
}

/// Looks once; does at once what needs no answer of a shim.
fn scan(inner: &Inner) -> Result<(Vec<Found>, Reconciled), ReconcileError> {
    // Before the folders: of what is made meanwhile both are seen, or nothing.
    let known = inner.inventory().ids();
    let folders = folders(inner)?;
    let found = folders.difference(&known);
    let found: Vec<Found> = found.filter_map(|id| look_at(inner, id)).collect();
    let mut reconciled = Reconciled::default();
    for id in known.difference(&folders) {
        reconciled.vanished += usize::from(vanished(inner, id));
    }
    reconciled.orphans = remove_orphans(inner, &folders);
    Ok((found, reconciled))
}

/// Containers that have a folder.
fn folders(inner: &Inner) -> Result<BTreeSet<ContainerId>, ReconcileError> {
    let path = inner.config.run_dir.join("c");
    let read = || -> io::Result<BTreeSet<ContainerId>> {
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let mut folders = BTreeSet::new();
        for entry in entries {
            let id = ContainerId(entry?.file_name().to_string_lossy().into_owned());
            if validate::id(&id).is_ok() {
                folders.insert(id);
            }
        }
        Ok(folders)
    };
    read().map_err(|source| ReconcileError::RunDir { path, source })
}

/// `None` where it cannot be looked at now: the next round does.
fn look_at(inner: &Inner, id: &ContainerId) -> Option<Found> {
    let (labels, cgroup_parent) = match inner.dir(id).meta() {
        Ok(meta) => (meta.spec.labels, Some(meta.spec.cgroup_parent)),
        // Whoever wrote it was killed.
        Err(error) if is_incomplete(&error) => (BTreeMap::new(), None),
        Err(error) => {
            tracing::warn!(container = %id.0, %error, "cannot look at a container");
            return None;
        }
    };
    Some(Found {
        id: id.clone(),
        labels,
        cgroup_parent,
    })
}

/// Nobody can reach a shim whose folder has gone: it is killed, and whoever listens to it sees to the
/// rest. One that has ended is forgotten. False where nothing had to be done.
fn vanished(inner: &Inner, id: &ContainerId) -> bool {
    let dir = inner.dir(id);
    if is_there(&dir) {
        return false;
    }
    if inner.inventory().forget_unattended(id) {
        return true;
    }
    // None where it is being made or removed. A shim is younger than its folder: one that was made since
    // the first look has it.
    let killed = teardown::shims_of(inner, &dir).and_then(|shims| match is_there(&dir) {
        true => Ok(0),
        false => teardown::kill_all(&shims),
    });
    match killed {
        Ok(0) => false,
        Ok(_) => {
            tracing::warn!(container = %id.0, "killed a container whose folder has gone");
            true
        }
        Err(error) => {
            tracing::error!(container = %id.0, %error, "cannot kill a container whose folder has gone");
            true
        }
    }
}

/// One that cannot be looked for is there.
fn is_there(dir: &RunDir) -> bool {
    dir.path().try_exists().unwrap_or(true)
}

/// Groups without a folder: their containers were left behind when the run directory was cleared.
fn remove_orphans(inner: &Inner, folders: &BTreeSet<ContainerId>) -> usize {
    let mut removed = 0;
    for (parent, id) in cgroup::containers(&inner.hierarchies, &inner.config.instance) {
        let id = ContainerId(id);
        let is_known = folders.contains(&id) || inner.inventory().has(&id);
        if is_known || inner.groups.have(&id) {
            continue;
        }
        removed += 1;
        tracing::warn!(container = %id.0, "removing a container without a folder");
        for error in inner.cgroup(&parent, &id).destroy() {
            tracing::error!(container = %id.0, %error, "cannot remove a container without a folder");
        }
    }
    if removed > 0 {
        Cgroup::of_shims(&inner.hierarchies, &inner.config.instance).remove_shims();
    }
    removed
}

/// Listens to the shims that were found, and returns when each has said its state; how many.
async fn adopt(inner: &Arc<Inner>, found: Vec<Found>) -> usize {
    let mut waiting = Vec::new();
    for Found {
        id,
        labels,
        cgroup_parent,
    } in found
    {
        let observed = blank(&id, labels, State::Creating);
        // Before it is listened to: an answer in between must not be missed.
        let Some(state) = inner.inventory().reserve(observed, cgroup_parent) else {
            continue;
        };
        // It was removed since it was found.
        if !is_there(&inner.dir(&id)) {
            inner.inventory().forget(&id);
            continue;
        }
        waiting.push(state);
        watcher::spawn(inner, &id);
    }
    let all = async {
        for state in &mut waiting {
            // An entry that was removed meanwhile: nothing to wait for.
            drop(state.changed().await);
        }
    };
    if timeout(ADOPT_DEADLINE, all).await.is_err() {
        tracing::warn!("some shims do not answer");
    }
    waiting.len()
}
