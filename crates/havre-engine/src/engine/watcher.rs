//! One task per container that listens to its shim, and what follows when the shim is gone.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::inventory::Attendant;
use super::{Inner, ended};
use crate::channel::Channel;
use crate::protocol::{Reply, Request};
use crate::rundir::{RunDir, is_incomplete};
use crate::spec::{ContainerId, Observed, State};

/// Longest wait for a shim that has closed its connection to end.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Listens to a container that was just launched, or found, in place of whoever saw to it before.
pub fn spawn(inner: &Arc<Inner>, id: &ContainerId) {
    let Some(attendant) = inner.inventory().attend(id) else {
        return;
    };
    let (inner, id) = (Arc::clone(inner), id.clone());
    let tracker = inner.tasks.clone();
    tracker.spawn(async move {
        let cancel = inner.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            last = listen(&inner, &id, attendant) => {
                if let Some(last) = last {
                    inner.inventory().leave(attendant, last);
                }
            }
        }
    });
}

/// Until the container has ended or is lost: its last state, if it is known still.
async fn listen(inner: &Arc<Inner>, id: &ContainerId, attendant: Attendant) -> Option<Observed> {
    let dir = inner.dir(id);
    let mut deadline = Instant::now() + END_DEADLINE;
    loop {
        match follow(inner, id, attendant, &dir).await {
            Ok(Some(last)) => return Some(last),
            Ok(None) => deadline = Instant::now() + END_DEADLINE,
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {}
                _ => tracing::debug!(container = %id.0, %error, "lost the connection to a shim"),
            },
        }
        match epilogue(&dir) {
            Ok(Some(observed)) => return Some(observed),
            Ok(None) if Instant::now() > deadline => {
                tracing::warn!(container = %id.0, "a shim lives but does not answer");
                sleep(Duration::from_secs(1)).await;
            }
            Ok(None) => sleep(Duration::from_millis(5)).await,
            Err(error) if is_incomplete(&error) => return lost(inner, id).await,
            // As when too many files are open: that is no reason to take it for dead.
            Err(error) => {
                tracing::warn!(container = %id.0, %error, "cannot learn how a container ended");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Takes states in until the connection ends, or the container has: how.
async fn follow(
    inner: &Inner,
    id: &ContainerId,
    attendant: Attendant,
    dir: &RunDir,
) -> io::Result<Option<Observed>> {
    let channel = Channel::connect(dir).await?;
    channel.send(&Request::Subscribe, &[]).await?;
    while let Some((reply, _)) = channel.receive().await? {
        match reply {
            Reply::State { observed } if observed.id == *id => match ended(&observed) {
                // Its shim has nothing more to say.
                true => return Ok(Some(*observed)),
                false => inner.inventory().report(attendant, *observed),
            },
            _ => {}
        }
    }
    Ok(None)
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
async fn lost(inner: &Arc<Inner>, id: &ContainerId) -> Option<Observed> {
    let parent = inner.inventory().cgroup_parent(id);
    if let Some(parent) = parent {
        let cgroup = inner.cgroup(&parent, id);
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
    let before = inner.inventory().get(id)?;
    Some(Observed {
        state: State::Lost,
        ..before
    })
}
