//! Small JSON files that are replaced as a whole, and locks.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use havre_base::Durability;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::NetError;

/// Longest wait for another operation of this instance.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a lock that is taken.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Reads a file; one that is not there, or empty after a crash, is the default.
pub fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, NetError> {
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(T::default()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| NetError::Damaged {
            path: path.to_owned(),
            source,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(NetError::file("read", path)(error)),
    }
}

/// Replaces a file at once: a reader sees the old or the new content.
pub fn replace<T: Serialize>(
    path: &Path,
    content: &T,
    durability: Durability,
) -> Result<(), NetError> {
    let bytes = serde_json::to_vec(content).map_err(|source| NetError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    // The resolver reads some of them, as a user of its own; the folders that lead here are root's alone.
    havre_base::replace(path, &bytes, 0o644, durability).map_err(NetError::file("write", path))
}

/// Makes a folder and its parents.
pub fn make_dir(path: &Path) -> Result<(), NetError> {
    fs::create_dir_all(path).map_err(NetError::file("create", path))
}

/// An exclusive lock among threads and processes; released on drop, and by the kernel when the
/// process dies.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, whose folder exists.
    pub fn acquire(path: PathBuf) -> Result<Self, NetError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(NetError::file("open", &path))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_still_at(&file, &path) => return Ok(Self { _file: file }),
                Ok(()) | Err(Errno::INTR | Errno::WOULDBLOCK) => {}
                Err(error) => return Err(NetError::file("lock", &path)(error.into())),
            }
            if Instant::now() > deadline {
                return Err(NetError::Busy {
                    path,
                    seconds: PATIENCE.as_secs(),
                });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

/// Whether the file is the one others will open: its owner may have removed it while we waited.
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole_and_damage_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.json");
        assert_eq!(
            read::<Vec<u32>>(&path).expect("absent is default"),
            Vec::<u32>::new()
        );
        replace(&path, &vec![1, 2], Durability::Durable).expect("written");
        assert_eq!(read::<Vec<u32>>(&path).expect("read"), [1, 2]);
        fs::write(&path, "{").expect("written");
        assert!(matches!(
            read::<Vec<u32>>(&path),
            Err(NetError::Damaged { .. })
        ));
        assert_eq!(
            fs::read_dir(dir.path()).expect("listed").count(),
            1,
            "nothing left over"
        );
    }

    #[test]
    fn a_lock_excludes_a_second_holder_until_dropped() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let first = Lock::acquire(path.clone()).expect("free");
        let waiter = std::thread::spawn(move || {
            Lock::acquire(path).expect("free in the end");
            Instant::now()
        });
        std::thread::sleep(Duration::from_millis(30));
        let released = Instant::now();
        drop(first);
        assert!(waiter.join().expect("no panic") >= released);
    }
}
