//! One daemon per installation.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::root::{FolderError, Root};

const NAME: &str = "daemon.lock";

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Its file cannot be made or locked.
    Folder(FolderError),
    /// Another daemon has it.
    Held { path: PathBuf },
}

/// Held for as long as the daemon lives. A lock of the process: a child between its fork and its
/// exec has a copy of the descriptor, and must not keep the next daemon out when this one is killed.
pub(crate) fn acquire(root: &Root) -> Result<File, LockError> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;
    let path = root.run_dir().join(NAME);
    let failed = |source| {
        LockError::Folder(FolderError {
            path: path.clone(),
            source,
        })
    };
    // Whoever can open it can hold a lock of it.
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    let private = fs::Permissions::from_mode(0o600);
    file.set_permissions(private).map_err(failed)?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(LockError::Held { path }),
        Err(error) => Err(failed(error.into())),
    }
}

/// The process of the daemon that holds the lock, whether it answers yet or not. Not to be asked by
/// the daemon itself: with the file it would close its lock.
pub fn holder(root: &Root) -> io::Result<Option<u32>> {
    let file = match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(root.run_dir().join(NAME))
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // SAFETY: all fields are numbers, for which zero is a value: the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and the structure is as the call wants it and outlives it.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let held = lock.l_type != libc::F_UNLCK as libc::c_short;
    // A process of another PID namespace has no number here.
    Ok(held.then(|| u32::try_from(lock.l_pid).unwrap_or(0)))
}
