//! One task per container that listens to its shim, and what follows when the shim is gone.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::teardown::Found;
use super::{Entry, Inner, ended};
use crate::channel::Channel;
use crate::protocol::{Reply, Request};
use crate::rundir::RunDir;
use crate::spec::{ContainerId, Observed, State};

/// Longest wait for the first message of a shim that lives.
const ADOPT_DEADLINE: Duration = Duration::from_secs(5);

/// Longest wait for a shim that has closed its connection to end.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Takes an id before anything of it exists; false when it is taken.
pub fn reserve(inner: &Inner, observed: Observed) -> bool {
    let mut entries = inner.entries();
    if entries.contains_key(&observed.id) {
        return false;
    }
    let id = observed.id.clone();
    let state = Arc::new(tokio::sync::watch::Sender::new(observed));
    entries.insert(
        id,
        Entry {
            state,
            watched: true,
        },
    );
    true
}

/// Listens to the shims that a scan found, and returns when each has said its state.
pub async fn adopt(inner: &Arc<Inner>, found: Vec<Found>) {
    let mut waiting = Vec::new();
    for container in found {
        let known = inner
            .entries()
            .get(&container.id)
            .is_some_and(|e| e.watched);
        if known {
            continue;
        }
        let observed = blank(&container.id, container.labels, State::Creating);
        if reserve_again(inner, observed) {
            // Before it is listened to: an answer in between must not be missed.
            waiting.extend(
                inner
                    .entries()
                    .get(&container.id)
                    .map(|e| e.state.subscribe()),
            );
            spawn_first(inner, &container.id);
        }
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
}

/// As [`reserve`], for an entry that nobody listens to.
fn reserve_again(inner: &Inner, observed: Observed) -> bool {
    let mut entries = inner.entries();
    match entries.get_mut(&observed.id) {
        Some(entry) if entry.watched || ended(&entry.state.borrow()) => false,
        Some(entry) => {
            entry.watched = true;
            true
        }
        None => {
            let id = observed.id.clone();
            let state = Arc::new(tokio::sync::watch::Sender::new(observed));
            entries.insert(
                id,
                Entry {
                    state,
                    watched: true,
                },
            );
            true
        }
    }
}

/// Listens to a container that was just launched.
pub fn spawn(inner: &Arc<Inner>, id: &ContainerId) {
    if let Some(entry) = inner.entries().get_mut(id) {
        entry.watched = true;
    }
    spawn_first(inner, id);
}

fn spawn_first(inner: &Arc<Inner>, id: &ContainerId) {
    let (inner, id) = (Arc::clone(inner), id.clone());
    let tracker = inner.tasks.clone();
    tracker.spawn(async move {
        let cancel = inner.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = listen(&inner, &id) => {
                if let Some(entry) = inner.entries().get_mut(&id) {
                    entry.watched = false;
                }
            }
        }
    });
}

/// Until the container has ended or is lost.
async fn listen(inner: &Arc<Inner>, id: &ContainerId) {
    let dir = inner.dir(id);
    let mut deadline = Instant::now() + END_DEADLINE;
    loop {
        let followed = follow(inner, id, &dir).await;
        if followed.is_ok() {
            deadline = Instant::now() + END_DEADLINE;
        }
        if let Err(error) = followed
            && !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            )
        {
            tracing::debug!(container = %id.0, %error, "lost the connection to a shim");
        }
        match epilogue(&dir) {
            Ok(Some(observed)) => return inner.observe(observed),
            Ok(None) if Instant::now() > deadline => {
                tracing::warn!(container = %id.0, "a shim lives but does not answer");
                sleep(Duration::from_secs(1)).await;
            }
            Ok(None) => sleep(Duration::from_millis(5)).await,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(container = %id.0, %error, "cannot learn how a container ended");
                }
                return lost(inner, id, &dir).await;
            }
        }
    }
}

/// Takes states in until the connection ends.
async fn follow(inner: &Inner, id: &ContainerId, dir: &RunDir) -> io::Result<()> {
    let channel = Channel::connect(dir).await?;
    channel.send(&Request::Subscribe, &[]).await?;
    while let Some((reply, _)) = channel.receive().await? {
        match reply {
            Reply::State { observed } if observed.id == *id => inner.observe(*observed),
            _ => {}
        }
    }
    Ok(())
}

/// How a container whose shim has closed ended. `None`: the shim still lives. An error, also
/// `NotFound`: it died without a word.
fn epilogue(dir: &RunDir) -> io::Result<Option<Observed>> {
    let lock = dir.try_lock()?;
    if lock.is_none() {
        return Ok(None);
    }
    match dir.exit()? {
        Some(observed) => Ok(Some(observed)),
        None => Err(io::Error::from(ErrorKind::NotFound)),
    }
}

/// The shim was killed. The kernel has killed the container's first process with it; a program
/// that had undone that is killed here.
async fn lost(inner: &Arc<Inner>, id: &ContainerId, dir: &RunDir) {
    let meta = dir.meta().ok();
    let labels = meta.as_ref().map(|m| m.spec.labels.clone());
    if let Some(meta) = meta {
        let cgroup = inner.cgroup(&meta.spec.cgroup_parent, id);
        // Removed as well: see `Shim::kill` about groups that were killed.
        match tokio::task::spawn_blocking(move || cgroup.destroy()).await {
            Ok(errors) => {
                for error in errors {
                    tracing::error!(container = %id.0, %error, "cannot kill a lost container");
                }
            }
            Err(error) => {
                tracing::error!(container = %id.0, %error, "cannot kill a lost container");
            }
        }
    }
    let before = inner.entries().get(id).map(|e| e.state.borrow().clone());
    let Some(before) = before else { return };
    let labels = labels.unwrap_or(before.labels.clone());
    inner.observe(Observed {
        labels,
        state: State::Lost,
        ..before
    });
}

fn blank(id: &ContainerId, labels: BTreeMap<String, String>, state: State) -> Observed {
    Observed {
        id: id.clone(),
        labels,
        state,
        restarts: 0,
        health: None,
        liveness: None,
        last_exit: None,
    }
}
