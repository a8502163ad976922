//! Network namespaces pinned by bind mounts, and work inside them.
//!
//! A namespace is entered by a thread that was started for it and ends with the work, never by
//! a thread that has other work afterwards.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::error::NetError;

/// `NSFS_MAGIC`: the file system type of a pinned namespace.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Opens the namespace pinned at `path`; `None` when nothing is pinned there (no file, or the
/// plain file that is left when the machine restarts).
pub fn open(path: &Path) -> Result<Option<File>, NetError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(NetError::file("open", path)(error)),
    };
    let kind = rustix::fs::fstatfs(&file)
        .map_err(|error| NetError::file("inspect", path)(error.into()))?;
    Ok((kind.f_type as u64 == NSFS_MAGIC).then_some(file))
}

/// Makes a namespace, lets `prepare` work in it and pins it at `path` when that succeeded, so
/// that what is pinned is prepared.
pub fn create<F>(path: &Path, prepare: F) -> Result<File, NetError>
where
    F: FnOnce() -> Result<(), NetError> + Send,
{
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(NetError::file("create", path))?;
    on_thread(path, || {
        // SAFETY: a new network namespace shares no memory and no descriptor table.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|error| {
            NetError::Namespace {
                path: path.to_owned(),
                source: error.into(),
            }
        })?;
        prepare()?;
        rustix::mount::mount("/proc/thread-self/ns/net", path, "", MountFlags::BIND, None)
            .map_err(|error| NetError::file("pin a network namespace at", path)(error.into()))
    })?;
    open(path)?.ok_or_else(|| {
        NetError::file("pin a network namespace at", path)(io::ErrorKind::NotFound.into())
    })
}

/// Runs `work` in the namespace `netns` (pinned at `path`, for messages).
pub fn enter<T, F>(netns: BorrowedFd<'_>, path: &Path, work: F) -> Result<T, NetError>
where
    T: Send,
    F: FnOnce() -> Result<T, NetError> + Send,
{
    on_thread(path, || {
        rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| NetError::Namespace {
                path: path.to_owned(),
                source: error.into(),
            })?;
        work()
    })
}

/// Removes the pin and its file; gone already is no error. The namespace lives on as long as a
/// process is in it.
pub fn unpin(path: &Path) -> Result<(), NetError> {
    // A crash between two calls may have left mounts on top of each other.
    while open(path)?.is_some() {
        rustix::mount::unmount(path, UnmountFlags::DETACH)
            .map_err(|error| NetError::file("unmount", path)(error.into()))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn on_thread<T, F>(path: &Path, work: F) -> Result<T, NetError>
where
    T: Send,
    F: FnOnce() -> Result<T, NetError> + Send,
{
    let failed = |source| NetError::Namespace {
        path: path.to_owned(),
        source,
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(failed)?
            .join()
            .map_err(|_| failed(io::Error::other("the thread panicked")))?
    })
}
