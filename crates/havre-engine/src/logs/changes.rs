//! Who is told that a spool has grown. All readers share one descriptor: a user of the kernel has 128 of
//! that kind for all its processes.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// Tells readers that follow of changes. Clones share one descriptor, which belongs to the runtime that first
/// follows by it; without one, readers look now and then.
#[derive(Clone, Debug, Default)]
pub struct LogChanges(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inotify: OnceLock<AsyncFd<OwnedFd>>,
    /// Whichever reader waits first reads for all of them.
    turn: tokio::sync::Mutex<()>,
    folders: Mutex<HashMap<i32, Folder>>,
}

/// A folder that is watched, by its number.
#[derive(Debug)]
struct Folder {
    changed: watch::Sender<()>,
    readers: usize,
}

/// A reader's share in the watch of a folder.
#[derive(Debug)]
pub(super) struct Watching {
    shared: Arc<Shared>,
    number: i32,
    changed: watch::Receiver<()>,
}

impl LogChanges {
    /// Of what comes into `dir` from now on. `None` while that does not exist, or while the kernel has no room
    /// for one more. Needs a tokio runtime.
    pub(super) fn watch(&self, dir: &Path) -> io::Result<Option<Watching>> {
        match self.try_watch(dir) {
            Ok(watching) => Ok(Some(watching)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::NOMEM) => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// The number of the descriptor.
    #[cfg(test)]
    pub(super) fn descriptor(&self) -> Option<i32> {
        use std::os::fd::AsRawFd as _;
        Some(self.0.inotify.get()?.as_raw_fd())
    }

    fn try_watch(&self, dir: &Path) -> io::Result<Watching> {
        let Self(shared) = self;
        // Until the folder is entered nobody looks for its number.
        let mut folders = shared.folders();
        let inotify = match shared.inotify.get() {
            Some(inotify) => inotify,
            None => {
                let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
                let made = crate::sys::async_fd(made)?;
                shared.inotify.get_or_init(|| made)
            }
        };
        let events = WatchFlags::MODIFY | WatchFlags::CREATE;
        let number = inotify::add_watch(inotify, dir, events)?;
        let folder = folders.entry(number).or_insert_with(|| Folder {
            changed: watch::Sender::new(()),
            readers: 0,
        });
        folder.readers += 1;
        Ok(Watching {
            shared: Arc::clone(shared),
            number,
            changed: folder.changed.subscribe(),
        })
    }
}

impl Watching {
    /// Something has come; `false`: the folder is gone. Cancel-safe.
    pub(super) async fn changed(&mut self) -> io::Result<bool> {
        tokio::select! {
            biased;
            changed = self.changed.changed() => Ok(changed.is_ok()),
            error = self.shared.tell() => Err(error),
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut folders = self.shared.folders();
        let Some(folder) = folders.get_mut(&self.number) else {
            return;
        };
        folder.readers -= 1;
        if folder.readers > 0 {
            return;
        }
        folders.remove(&self.number);
        if let Some(inotify) = self.shared.inotify.get()
            && let Err(error) = inotify::remove_watch(inotify, self.number)
        {
            // The folder has gone just now.
            tracing::debug!(%error, "a folder is no longer watched");
        }
    }
}

impl Shared {
    /// Tells all readers, in turn with others who do. Ends with an error alone.
    async fn tell(&self) -> io::Error {
        let _turn = self.turn.lock().await;
        let Some(inotify) = self.inotify.get() else {
            return io::ErrorKind::NotConnected.into();
        };
        loop {
            let told = inotify.async_io(Interest::READABLE, |fd| self.take(fd));
            if let Err(error) = told.await {
                return error;
            }
        }
    }

    /// Tells of what the kernel has noted; `WouldBlock` once that is all.
    fn take(&self, inotify: &OwnedFd) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut room);
        loop {
            let event = events.next()?;
            let mut folders = self.folders();
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                folders
                    .values()
                    .for_each(|one| one.changed.send_replace(()));
            } else if event.events().contains(ReadFlags::IGNORED) {
                folders.remove(&event.wd());
            } else if let Some(folder) = folders.get(&event.wd()) {
                folder.changed.send_replace(());
            }
        }
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<i32, Folder>> {
        // The map is whole after every statement.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
