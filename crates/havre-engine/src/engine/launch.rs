//! Starting shims.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::{OpenTreeFlags, open_tree};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::inventory::blank;
use super::{CreateError, Inner, watcher};
use crate::confidential::Confidential;
use crate::protocol::Request;
use crate::rundir::{Meta, RunDir, boot_id};
use crate::spec::{ContainerId, ContainerSpec, Observed, State};
use crate::sys;

/// Longest wait for a container to run or fail; the shim itself gives up a little earlier.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// Longest wait for a shim whose container has ended.
const SHIM_END_DEADLINE: Duration = Duration::from_secs(10);

/// Form of `meta.json`.
const META_VERSION: u32 = 1;

/// The binary through a read-only mount of its own: a process in a container that gets hold of
/// `/proc/<pid>/exe` of something of ours still cannot write to it.
pub fn read_only_exe(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, path, flags)?;
    sys::mount_read_only(tree.as_fd(), false)?;
    Ok(tree)
}

/// Makes the container's folder, starts its shim and awaits the first result.
pub async fn create(
    inner: &Arc<Inner>,
    spec: &ContainerSpec,
    confidential: &Confidential,
) -> Result<(), CreateError> {
    let id = &spec.id;
    let shim_error = |source| CreateError::Shim {
        id: id.0.clone(),
        source,
    };
    let exists = || CreateError::Exists { id: id.0.clone() };
    let creating = blank(id, spec.labels.clone(), State::Creating);
    let parent = Some(spec.cgroup_parent.clone());
    // Known before the folder is there, so that it is not taken for one that was found.
    if inner.inventory().reserve(creating, parent).is_none() {
        return Err(exists());
    }
    let dir = inner.dir(id);
    let prepared = prepare(inner, &dir, spec);
    let lock = match prepared {
        Ok(lock) => lock,
        Err(error) => {
            inner.inventory().forget(id);
            return Err(match error.kind() {
                ErrorKind::AlreadyExists => exists(),
                _ => shim_error(error),
            });
        }
    };
    launch(inner, id, &dir, lock, confidential).await
}

/// Another shim for a container that has ended.
pub async fn again(
    inner: &Arc<Inner>,
    id: &ContainerId,
    confidential: &Confidential,
) -> Result<(), CreateError> {
    let shim_error = |source| CreateError::Shim {
        id: id.0.clone(),
        source,
    };
    let dir = inner.dir(id);
    let lock = lock_free(&dir).await.map_err(shim_error)?;
    let renew = || {
        let mut meta = dir.meta()?;
        meta.generation += 1;
        meta.boot_id = boot_id()?;
        dir.write_meta(&meta)?;
        dir.clear_exit()?;
        io::Result::Ok(meta.spec)
    };
    let spec = renew().map_err(shim_error)?;
    inner.observe(blank(id, spec.labels, State::Creating));
    launch(inner, id, &dir, lock, confidential).await
}

/// What tells a shim of its secrets, and what goes with it.
pub fn entrust(confidential: &Confidential) -> io::Result<(Request, Vec<OwnedFd>)> {
    let filter = confidential.filter.as_ref();
    let filter = filter.map(|filter| filter.as_fd().try_clone_to_owned());
    let (filter, parcel) = (filter.transpose()?, confidential.parcel()?);
    let request = Request::Entrust {
        filter: filter.is_some(),
        contents: parcel.as_ref().and(confidential.contents.clone()),
        parcel: parcel.is_some(),
    };
    Ok((request, filter.into_iter().chain(parcel).collect()))
}

/// The lock of a container that has ended; its shim may still be on its way out.
async fn lock_free(dir: &RunDir) -> io::Result<OwnedFd> {
    let free = async {
        loop {
            match dir.try_lock()? {
                Some(lock) => return Ok(lock),
                None => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let late = io::Error::new(ErrorKind::TimedOut, "the shim before does not end");
    timeout(SHIM_END_DEADLINE, free).await.unwrap_or(Err(late))
}

fn prepare(inner: &Inner, dir: &RunDir, spec: &ContainerSpec) -> io::Result<OwnedFd> {
    dir.create()?;
    let lock = dir
        .try_lock()?
        .ok_or_else(|| io::Error::from(ErrorKind::AlreadyExists))?;
    dir.write_meta(&Meta {
        version: META_VERSION,
        generation: 1,
        boot_id: boot_id()?,
        instance: inner.config.instance.clone(),
        spec: spec.clone(),
    })?;
    Ok(lock)
}

/// Starts the shim and takes over its first result.
async fn launch(
    inner: &Arc<Inner>,
    id: &ContainerId,
    dir: &RunDir,
    lock: OwnedFd,
    confidential: &Confidential,
) -> Result<(), CreateError> {
    let result = first_result(inner, dir, lock, confidential);
    let result = match timeout(START_DEADLINE, result).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            ErrorKind::TimedOut,
            "the shim does not answer",
        )),
    };
    match result {
        Ok(observed) => {
            let failure = match &observed.state {
                State::Failed { reason } => Some(reason.clone()),
                _ => None,
            };
            inner.observe(observed);
            watcher::spawn(inner, id);
            match failure {
                Some(reason) => Err(CreateError::Failed {
                    id: id.0.clone(),
                    reason,
                }),
                None => Ok(()),
            }
        }
        Err(source) => {
            // Finds out what is left of it.
            watcher::spawn(inner, id);
            Err(CreateError::Shim {
                id: id.0.clone(),
                source,
            })
        }
    }
}

async fn first_result(
    inner: &Arc<Inner>,
    dir: &RunDir,
    lock: OwnedFd,
    confidential: &Confidential,
) -> io::Result<Observed> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    // It waits there for the shim.
    let (request, fds) = entrust(confidential)?;
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    sys::send(&ours, &serde_json::to_vec(&request)?, &borrowed)?;
    drop(fds);
    ours.set_nonblocking(true)?;
    let log = dir.path().join("shim.log");
    let start = {
        let (inner, dir, log) = (Arc::clone(inner), dir.clone(), log.clone());
        move || start_shim(&inner, &dir, lock, theirs.into(), &log)
    };
    let mut bytes = Vec::new();
    let mut result = UnixStream::from_std(ours)?;
    // Both at once: the parent of the shim ends as soon as the shim has left it.
    let (started, read) = tokio::join!(
        tokio::task::spawn_blocking(start),
        result.read_to_end(&mut bytes)
    );
    started.map_err(io::Error::other)??;
    read?;
    if bytes.is_empty() {
        let complaint = tokio::fs::read_to_string(&log).await.unwrap_or_default();
        let last = complaint
            .lines()
            .last()
            .unwrap_or("it left no message")
            .to_owned();
        return Err(io::Error::other(format!("the shim ended: {last}")));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// The lock is the shim's standard input and the socket its output: descriptors reach it without
/// any code between fork and exec, which in a threaded process is the safe way.
fn start_shim(
    inner: &Inner,
    dir: &RunDir,
    lock: OwnedFd,
    ready: OwnedFd,
    log: &Path,
) -> io::Result<()> {
    let log = File::options().append(true).create(true).open(log)?;
    let mut child = Command::new(format!("/proc/self/fd/{}", inner.exe.as_raw_fd()))
        .arg0("havre")
        .args(&inner.config.exe_args)
        .arg("shim")
        .arg(dir.path())
        .env_clear()
        .stdin(Stdio::from(lock))
        .stdout(Stdio::from(ready))
        .stderr(Stdio::from(log))
        .spawn()?;
    child.wait().map(drop)
}
