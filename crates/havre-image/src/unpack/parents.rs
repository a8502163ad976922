//! The folders that entries lie in, which an archive need not describe.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::node::{At, folder_flags, is_whiteout, open_folder, set_opaque, stat};
use super::{UnpackError, Unpacker};

impl Unpacker {
    /// The folder that an entry lies in, made where the layer takes it for granted.
    pub(super) fn parent(
        &mut self,
        folders: &[&[u8]],
        at: &At<'_>,
    ) -> Result<Rc<OwnedFd>, UnpackError> {
        if folders.is_empty() {
            return Ok(self.root.clone());
        }
        let path = folders.join(&b'/');
        if let Some((known, folder)) = &self.last_parent
            && *known == path
        {
            return Ok(folder.clone());
        }
        let folder = match open_folder(&self.root, &path, ResolveFlags::IN_ROOT) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(folders, at)?,
            Err(errno) => return Err(at.error("open the folder of", errno.into())),
        };
        let folder = Rc::new(folder);
        self.last_parent = Some((path, folder.clone()));
        Ok(folder)
    }

    fn make_parents(&mut self, folders: &[&[u8]], at: &At<'_>) -> Result<OwnedFd, UnpackError> {
        let mut current = at.io(
            "open the folder of",
            open_folder(&self.root, b".", ResolveFlags::IN_ROOT),
        )?;
        for depth in 1..=folders.len() {
            let name = folders[depth - 1];
            let path = || folders[..depth].join(&b'/');
            current = match open_folder(&current, name, ResolveFlags::NO_SYMLINKS) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => self.make_parent(&current, name, &path(), at)?,
                Err(Errno::LOOP) => self.through_link(&path(), at)?,
                Err(Errno::NOTDIR) => {
                    let found = at.io("look at", stat(&current, name))?;
                    if !found.as_ref().is_some_and(is_whiteout) {
                        return Err(at.refused("it lies below a file that is no folder"));
                    }
                    self.remove(&current, name, at)?;
                    let folder = self.make_parent(&current, name, &path(), at)?;
                    set_opaque(&folder, at)?;
                    folder
                }
                Err(errno) => return Err(at.error("open the folder of", errno.into())),
            };
        }
        Ok(current)
    }

    /// The folder that a link on the way leads to, inside the layer.
    fn through_link(&self, path: &[u8], at: &At<'_>) -> Result<OwnedFd, UnpackError> {
        match open_folder(&self.root, path, ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT) => Err(at.refused("it lies below a link that leads to nothing")),
            Err(Errno::NOTDIR) => Err(at.refused("it lies below a file that is no folder")),
            other => at.io("open the folder of", other),
        }
    }

    fn make_parent(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        at: &At<'_>,
    ) -> Result<OwnedFd, UnpackError> {
        at.io(
            "make the folder of",
            rustix::fs::mkdirat(parent, name, Mode::from(0o755)),
        )?;
        let folder = at.io(
            "open the folder of",
            open_folder(parent, name, ResolveFlags::NO_SYMLINKS),
        )?;
        self.inherit(&folder, path, at)?;
        Ok(folder)
    }

    /// Gives a folder that the archive does not describe the owner, permissions and times of the
    /// same folder in the layers below; root's 0755 at the epoch where there is none.
    pub(super) fn inherit(
        &mut self,
        folder: &OwnedFd,
        path: &[u8],
        at: &At<'_>,
    ) -> Result<(), UnpackError> {
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let found = self
            .below
            .iter()
            .find_map(|layer| open_folder(layer, path, flags).ok());
        let mut time = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if let Some(found) = found {
            let stat = at.io("look below for the folder of", rustix::fs::fstat(&found))?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            let owned = rustix::fs::fchown(folder, Some(uid), Some(gid));
            at.io("set the owner of the folder of", owned)?;
            let moded = rustix::fs::fchmod(folder, Mode::from(stat.st_mode & 0o7777));
            at.io("set the permissions of the folder of", moded)?;
            time.tv_sec = stat.st_mtime;
        }
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        self.defer(path.to_vec(), times, at)
    }

    pub(super) fn set_folder_times(&self) -> Result<(), UnpackError> {
        for (path, times) in &self.times {
            let flags = folder_flags() | OFlags::NOFOLLOW;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let result = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
                .and_then(|folder| rustix::fs::futimens(&folder, times));
            match result {
                // Replaced by a later entry.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => {
                    return Err(UnpackError::Io {
                        operation: "set the times of",
                        path: String::from_utf8_lossy(path).into_owned(),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }
}
