//! Removing a container, and all that belongs to it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::time::{Instant, sleep};

use super::Inner;
use crate::cgroup::{self, Cgroup, CgroupError};
use crate::protocol::Request;
use crate::rundir::RunDir;
use crate::spec::ContainerId;
use crate::{sys, validate};

/// Longest wait for a shim that was told to end.
const SHIM_DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for one that was killed.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Something of a container could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum TeardownError {
    /// A process or a cgroup.
    #[error("cannot remove the cgroups of container {id}")]
    Cgroup {
        /// Which.
        id: String,
        /// Why.
        source: CgroupError,
    },
    /// The shim goes on.
    #[error("the shim of container {id} does not end")]
    Shim {
        /// Which.
        id: String,
    },
    /// It does not answer, and cannot be killed.
    #[error("cannot kill the shim of container {id}")]
    KillShim {
        /// Which.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// The folder.
    #[error("cannot remove {path}")]
    RunDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Ends the shim, then removes all there is.
pub async fn remove(inner: &Arc<Inner>, id: &ContainerId) -> Vec<TeardownError> {
    if validate::id(id).is_err() {
        return Vec::new();
    }
    let dir = inner.dir(id);
    if let Err(error) = end_shim(inner, id, &dir).await {
        return vec![error];
    }
    // Whoever waits for it learns how it ended before it is forgotten.
    if let Ok(Some(observed)) = dir.exit() {
        inner.observe(observed);
    }
    let blocking = {
        let (inner, id) = (Arc::clone(inner), id.clone());
        move || remove_all(&inner, &id, &dir)
    };
    match tokio::task::spawn_blocking(blocking).await {
        Ok(errors) => {
            if errors.is_empty() {
                inner.inventory().forget(id);
            }
            errors
        }
        Err(error) => vec![TeardownError::RunDir {
            path: inner.dir(id).path().to_owned(),
            source: io::Error::other(error),
        }],
    }
}

/// Waits until no shim holds the container's lock.
async fn end_shim(inner: &Inner, id: &ContainerId, dir: &RunDir) -> Result<(), TeardownError> {
    let begin = Instant::now();
    let mut asked = false;
    let mut killed = false;
    if !dir.path().exists() && inner.inventory().is_attended(id) {
        // Nobody can ask it any more.
        kill_shims(inner, id, dir)?;
    }
    while dir.path().exists() {
        match dir.try_lock() {
            Ok(Some(_)) => return Ok(()),
            Ok(None) if begin.elapsed() > SHIM_DEADLINE + KILL_DEADLINE => {
                return Err(TeardownError::Shim { id: id.0.clone() });
            }
            Ok(None) if begin.elapsed() > SHIM_DEADLINE && !killed => {
                killed = true;
                tracing::warn!(container = %id.0, "ending a shim that does not answer");
                kill_shims(inner, id, dir)?;
            }
            Ok(None) => {}
            // Cut short while it was made: no shim was started.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(TeardownError::RunDir {
                    path: dir.path().to_owned(),
                    source,
                });
            }
        }
        if !asked {
            asked = inner.control(id, &Request::Shutdown).await.is_ok();
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn kill_shims(inner: &Inner, id: &ContainerId, dir: &RunDir) -> Result<(), TeardownError> {
    let killed = shims_of(inner, dir).and_then(|shims| kill_all(&shims));
    killed.map(drop).map_err(|source| TeardownError::KillShim {
        id: id.0.clone(),
        source,
    })
}

/// The processes that were started as a container's shim. They are looked for among the instance's shims,
/// and held by a descriptor while the command line is read: a number may come to mean another process.
pub fn shims_of(inner: &Inner, dir: &RunDir) -> io::Result<Vec<OwnedFd>> {
    let shims = Cgroup::of_shims(&inner.hierarchies, &inner.config.instance);
    let mut found = Vec::new();
    for pid in shims.processes().map_err(io::Error::other)? {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            continue;
        };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => continue,
            opened => opened?,
        };
        if is_shim_of(pid, dir) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Kills processes; how many.
pub fn kill_all(processes: &[OwnedFd]) -> io::Result<usize> {
    for process in processes {
        sys::kill_pidfd(process, libc::SIGKILL)?;
    }
    Ok(processes.len())
}

/// Whether the container's folder is what it was started with.
fn is_shim_of(pid: Pid, dir: &RunDir) -> bool {
    let path = format!("/proc/{}/cmdline", pid.as_raw_pid());
    // One that cannot be read has ended.
    let line = std::fs::read(path).unwrap_or_default();
    let wanted = dir.path().as_os_str().as_encoded_bytes();
    line.split(|byte| *byte == 0).any(|word| word == wanted)
}

fn remove_all(inner: &Inner, id: &ContainerId, dir: &RunDir) -> Vec<TeardownError> {
    let of_spec = || dir.meta().ok().map(|meta| meta.spec.cgroup_parent);
    let parent = inner.inventory().cgroup_parent(id).or_else(of_spec);
    let cgroups: Vec<Cgroup> = match parent {
        Some(parent) => vec![inner.cgroup(&parent, id)],
        // Without the file the tree itself tells where it was.
        None => cgroup::containers(&inner.hierarchies, &inner.config.instance)
            .into_iter()
            .filter(|(_, name)| *name == id.0)
            .map(|(parent, _)| inner.cgroup(&parent, id))
            .collect(),
    };
    let mut errors = Vec::new();
    for group in cgroups {
        let failed = group.destroy().into_iter();
        errors.extend(failed.map(|source| TeardownError::Cgroup {
            id: id.0.clone(),
            source,
        }));
    }
    // Kept while something is left, so that the next attempt finds it.
    if errors.is_empty()
        && let Err(source) = dir.remove()
    {
        errors.push(TeardownError::RunDir {
            path: dir.path().to_owned(),
            source,
        });
    }
    Cgroup::of_shims(&inner.hierarchies, &inner.config.instance).remove_shims();
    errors
}
