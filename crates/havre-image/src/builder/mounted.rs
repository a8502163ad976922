//! Work inside mounted overlays that nobody else sees.
//!
//! A mount namespace belongs to a thread, so each piece of work has a thread of its own, which ends
//! with it; the mounts disappear with the thread even when the work panics.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
    unmount,
};
use rustix::thread::UnshareFlags;

use crate::overlay::{Overlay, Writable};

/// Longest wait for a mount that is busy.
const BUSY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Overlays mounted in the current thread's private namespace.
pub(super) struct Mounts {
    scratch: PathBuf,
    mounted: Vec<PathBuf>,
}

impl Mounts {
    /// Leaves the process's mount namespace; only for threads made for this.
    fn enter(scratch: &Path) -> io::Result<Self> {
        // SAFETY: only the mount namespace (and with it the file system attributes) of this
        // thread changes; no descriptor table is unshared, so no descriptor loses its meaning.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        Ok(Self {
            scratch: scratch.to_owned(),
            mounted: Vec::new(),
        })
    }

    /// Mounts layers read-only; returns where.
    pub fn read_only(&mut self, lower: &[PathBuf]) -> io::Result<PathBuf> {
        let target = self.target()?;
        match lower {
            [only] => {
                mount_bind(only, &target)?;
                self.mounted.push(target.clone());
                mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
            lower => {
                Overlay {
                    lower: lower.to_vec(),
                    upper: None,
                }
                .mount(&target)?;
                self.mounted.push(target.clone());
            }
        }
        Ok(target)
    }

    /// Mounts layers below a writable folder; returns where.
    pub fn writable(&mut self, lower: &[PathBuf], upper: &Writable) -> io::Result<PathBuf> {
        let target = self.target()?;
        Overlay {
            lower: lower.to_vec(),
            upper: Some(upper.clone()),
        }
        .mount(&target)?;
        self.mounted.push(target.clone());
        Ok(target)
    }

    fn target(&self) -> io::Result<PathBuf> {
        let target = self.scratch.join(format!("mount-{}", self.mounted.len()));
        std::fs::create_dir_all(&target)?;
        Ok(target)
    }

    /// Unmounts everything. An upper folder is complete, and may be written to, only then.
    fn clear(&mut self) -> io::Result<()> {
        while let Some(target) = self.mounted.pop() {
            unmount_soon(&target)?;
        }
        Ok(())
    }
}

/// Unmounts. A process that another thread starts just now holds copies of our descriptors from its
/// fork until its exec, and with them the mount.
fn unmount_soon(target: &Path) -> io::Result<()> {
    let deadline = Instant::now() + BUSY;
    loop {
        match unmount(target, UnmountFlags::empty()) {
            Err(Errno::BUSY) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            result => return Ok(result?),
        }
    }
}

/// Runs `work` on a thread with a mount namespace of its own; mount points are made in `scratch`.
pub(super) async fn with_mounts<T, E>(
    scratch: &Path,
    work: impl FnOnce(&mut Mounts) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    let scratch = scratch.to_owned();
    let (report, answer) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("build-mounts".to_owned())
        .spawn(move || {
            let result = Mounts::enter(&scratch)
                .map_err(E::from)
                .and_then(|mut mounts| {
                    let result = work(&mut mounts);
                    let left = mounts.clear().map_err(E::from);
                    result.and_then(|value| left.map(|()| value))
                });
            // Nobody waits any more when the build was dropped; the work is then discarded with its
            // scratch folder.
            report.send(result).is_ok()
        })?;
    let result = answer.await;
    match result {
        Ok(result) => result,
        Err(_) => {
            let panicked = thread.join().is_err();
            Err(io::Error::other(if panicked {
                "the thread that does the mounts panicked"
            } else {
                "the thread that does the mounts gave no answer"
            })
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_macros, reason = "its output is for a person")]

    use std::fs::File;

    use super::*;

    #[test]
    fn a_mount_that_is_busy_for_a_moment_is_waited_for() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let (path, scratch) = (folder.path().to_owned(), folder.path().join("scratch"));
        std::fs::create_dir_all(&scratch).expect("a folder");
        std::fs::write(path.join("file"), "x").expect("a file");
        let worker = std::thread::spawn(move || {
            let mut mounts = Mounts::enter(&scratch).expect("a namespace");
            let target = mounts.read_only(&[path]).expect("a mount");
            let held = File::open(target.join("file")).expect("a file in it");
            let released = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                drop(held);
            });
            let begun = Instant::now();
            let cleared = mounts.clear();
            released.join().expect("no panic");
            (cleared, begun.elapsed())
        });
        let (cleared, took) = worker.join().expect("no panic");
        cleared.expect("it is unmounted");
        assert!(took >= Duration::from_millis(50), "{took:?}");
    }
}
