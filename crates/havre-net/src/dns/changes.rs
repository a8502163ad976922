//! Changes of the resolver's files, and the end of its folder.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// What has happened since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// A file was replaced.
    Files,
    /// The folder has gone.
    Gone,
}

/// A watch over the folder, from before the process is confined to it.
pub struct Changes {
    inotify: OwnedFd,
    /// The watch over the folder above: the view that the process has of its own keeps the folder
    /// from reporting its end itself.
    above: i32,
    name: OsString,
}

impl Changes {
    /// Of `dir`, from now on.
    pub fn watch(dir: &Path) -> io::Result<Self> {
        let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let removal = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
        let above = inotify::add_watch(&inotify, above, removal)?;
        let files = WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, dir, files)?;
        Ok(Self {
            inotify,
            above,
            name: name.to_owned(),
        })
    }

    /// Takes note of all of them.
    pub fn take(&mut self) -> io::Result<Change> {
        let mut change = Change::None;
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut room);
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(change),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if event.wd() == self.above {
                let name = event.file_name().map(|name| name.to_bytes());
                if name == Some(self.name.as_bytes()) {
                    return Ok(Change::Gone);
                }
                continue;
            }
            if event
                .events()
                .intersects(ReadFlags::DELETE_SELF | ReadFlags::IGNORED)
            {
                return Ok(Change::Gone);
            }
            change = Change::Files;
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
