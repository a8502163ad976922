//! COPY, ADD and WORKDIR: writing into a mounted overlay (or, with `--link`, into the bare upper
//! folder).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat,
    fchmod, fchown, futimens, linkat, mkdirat, openat, readlinkat, symlinkat, unlinkat, utimensat,
};

use tokio_util::sync::CancellationToken;

use crate::Digest;

use super::action::CopyAction;
use super::content::SourceFile;
use super::context::open_file_of;
use super::copy_error::CopyError;
use super::owner::Owner;
use super::root::{Root, Spot, kind, lstat};
use super::select::Selected;

/// Makes a folder and those above it, all of them `owner`'s; `false` when it was there.
pub(super) fn make_folder(root: &Root, path: &str, owner: Owner) -> Result<bool, CopyError> {
    let path = Path::new(path);
    let spot = root
        .spot_making(path, &|dir, name| settle_folder(dir, name, owner))
        .map_err(CopyError::io("make the folder", path))?;
    match spot.stat {
        Some(_) if spot.is(FileType::Directory) => Ok(false),
        Some(stat) => Err(in_the_way(path, &stat, "a folder")),
        None => new_folder(&spot, owner)
            .map(|()| true)
            .map_err(CopyError::io("make the folder", path)),
    }
}

/// Writes what a COPY or ADD selects.
pub(super) struct Writer<'a> {
    /// Where paths are resolved and written.
    pub root: &'a Root,
    action: &'a CopyAction,
    destination: PathBuf,
    /// Files get their own names below the destination.
    folder: Cell<bool>,
    owner: Option<Owner>,
    /// Files of a context belong to root unless somebody else is named.
    from_context: bool,
    cancel: &'a CancellationToken,
    /// Names of source files that have several, and where the first was written.
    links: RefCell<HashMap<(u64, u64), PathBuf>>,
    /// Times of folders, set once their content is written.
    times: RefCell<Vec<(PathBuf, Timestamps)>>,
    /// The last parent used: most files share it with the one before.
    parent: RefCell<Option<(PathBuf, Arc<OwnedFd>)>>,
}

impl<'a> Writer<'a> {
    pub fn new(
        root: &'a Root,
        action: &'a CopyAction,
        owner: Option<Owner>,
        from_context: bool,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            root,
            action,
            destination: PathBuf::from(&action.destination),
            folder: Cell::new(action.into_folder || action.parents),
            owner,
            from_context,
            cancel,
            links: RefCell::default(),
            times: RefCell::default(),
            parent: RefCell::default(),
        }
    }

    /// Writes one selected file or folder. Files of a context are hashed on the way.
    pub fn write(&self, selected: &Selected<'_>) -> Result<Option<Digest>, CopyError> {
        let target = self.target(selected)?;
        match kind(selected.stat) {
            FileType::RegularFile => return self.file(selected, &target),
            FileType::Directory => self.folder(selected, &target)?,
            FileType::Symlink => self.symlink(selected, &target)?,
            FileType::CharacterDevice | FileType::BlockDevice if self.from_context => {
                return Err(CopyError::Special {
                    path: selected.source.to_owned(),
                });
            }
            _ => self.node(selected, &target)?,
        }
        Ok(None)
    }

    /// Writes a document of the Dockerfile itself.
    pub fn document(&self, name: &str, content: &str) -> Result<(), CopyError> {
        let target = match self.takes_names()? {
            true => self.destination.join(name),
            false => self.destination.clone(),
        };
        let file = self.create(&target)?;
        (&file)
            .write_all(content.as_bytes())
            .map_err(CopyError::io("write", &target))?;
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        let mode = self
            .action
            .chmod
            .as_ref()
            .map_or(0o644, |chmod| chmod.apply(0o644, false));
        own(&file, uid, gid, mode).map_err(CopyError::io("set the owner of", &target))
    }

    /// Sets what had to wait: times of folders.
    pub fn finish(&self) -> Result<(), CopyError> {
        for (path, times) in self.times.take().into_iter().rev() {
            let error = || CopyError::io("set the time of", &path);
            let spot = self.root.spot(&path, true).map_err(error())?;
            utimensat(&*spot.dir, &spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| error()(errno.into()))?;
        }
        Ok(())
    }

    /// The folder an archive is unpacked into; it is made when missing.
    pub fn archive_folder(&self) -> Result<&Path, CopyError> {
        let spot = self.place(&self.destination)?;
        if spot.stat.is_none() {
            new_folder(&spot, self.owner.unwrap_or((0, 0)))
                .map_err(CopyError::io("make the folder", &self.destination))?;
        }
        Ok(&self.destination)
    }

    /// `--chown` by number.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    fn target(&self, selected: &Selected<'_>) -> Result<PathBuf, CopyError> {
        let whole = selected.target.as_os_str().is_empty();
        if whole || (selected.named && !self.takes_names()?) {
            return Ok(self.destination.clone());
        }
        Ok(self.destination.join(selected.target))
    }

    /// Whether a file that a source names goes into the destination, not in its place. An earlier
    /// source may have made the folder.
    fn takes_names(&self) -> Result<bool, CopyError> {
        if self.folder.get() {
            return Ok(true);
        }
        let there = self
            .root
            .stat(&self.destination)
            .map_err(CopyError::io("look at", &self.destination))?;
        self.folder
            .set(there.is_some_and(|stat| kind(&stat) == FileType::Directory));
        if self.action.several && !self.folder.get() {
            return Err(CopyError::NotAFolder {
                path: self.destination.clone(),
            });
        }
        Ok(self.folder.get())
    }

    /// Where `path` goes; folders above it are made.
    fn place(&self, path: &Path) -> Result<Spot, CopyError> {
        let error = || CopyError::io("make the folders above", path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.root.spot(path, true).map_err(error());
        };
        let cached = self
            .parent
            .borrow()
            .as_ref()
            .and_then(|(known, dir)| (known == parent).then(|| dir.clone()));
        if let Some(dir) = cached {
            let stat = lstat(&dir, name).map_err(error())?;
            let link = stat
                .as_ref()
                .is_some_and(|stat| kind(stat) == FileType::Symlink);
            // Below the destination a link is replaced or, to a folder, followed; see `folder`.
            if !link {
                return Ok(Spot {
                    dir,
                    name: name.to_owned(),
                    stat,
                });
            }
        }
        let owner = self.owner.unwrap_or((0, 0));
        let finish = |dir: &OwnedFd, name: &OsStr| settle_folder(dir, name, owner);
        let above = self.root.spot_making(parent, &finish).map_err(error())?;
        let dir = match above.stat {
            Some(_) => above.open_folder().map_err(error())?,
            None => {
                new_folder(&above, owner).map_err(error())?;
                above.open_folder().map_err(error())?
            }
        };
        *self.parent.borrow_mut() = Some((parent.to_owned(), dir.clone()));
        // The destination itself may be a link to where things really go.
        if path == self.destination {
            return self.root.spot_making(path, &finish).map_err(error());
        }
        let stat = lstat(&dir, name).map_err(error())?;
        Ok(Spot {
            dir,
            name: name.to_owned(),
            stat,
        })
    }

    fn attributes(&self, stat: &Stat) -> (Owner, u32) {
        let owner = match self.owner {
            Some(owner) => owner,
            None if self.from_context => (0, 0),
            None => (stat.st_uid, stat.st_gid),
        };
        let old = stat.st_mode & 0o7777;
        let is_dir = kind(stat) == FileType::Directory;
        let mode = self
            .action
            .chmod
            .as_ref()
            .map_or(old, |chmod| chmod.apply(old, is_dir));
        (owner, mode)
    }

    fn folder(&self, selected: &Selected<'_>, target: &Path) -> Result<(), CopyError> {
        let error = || CopyError::io("make the folder", target);
        let spot = self.place(target)?;
        let top = selected.target.as_os_str().is_empty();
        let there = match spot.stat {
            Some(stat) if kind(&stat) == FileType::Symlink => {
                self.root.stat(target).map_err(error())?.or(Some(stat))
            }
            stat => stat,
        };
        if top && there.is_none() && !self.action.mirror {
            // Its content is copied, not the folder itself.
            return new_folder(&spot, self.owner.unwrap_or((0, 0))).map_err(error());
        }
        match there {
            None => mkdirat(&*spot.dir, &spot.name, Mode::from_raw_mode(0o700))
                .map_err(|errno| error()(errno.into()))?,
            // What is copied into an existing folder does not change the folder.
            Some(stat) if kind(&stat) == FileType::Directory && top => return Ok(()),
            Some(stat) if kind(&stat) == FileType::Directory => {}
            Some(stat) => return Err(in_the_way(target, &stat, "a folder")),
        }
        let ((uid, gid), mode) = self.attributes(selected.stat);
        let spot = self.root.spot(target, true).map_err(error())?;
        chown_at(&spot.dir, &spot.name, uid, gid)
            .and_then(|()| {
                chmodat(
                    &*spot.dir,
                    &spot.name,
                    Mode::from_raw_mode(mode),
                    AtFlags::empty(),
                )
                .map_err(io::Error::from)
            })
            .map_err(CopyError::io("set the owner of", target))?;
        self.times
            .borrow_mut()
            .push((target.to_owned(), times(selected.stat)));
        Ok(())
    }

    fn file(&self, selected: &Selected<'_>, target: &Path) -> Result<Option<Digest>, CopyError> {
        let stat = selected.stat;
        let inode = (stat.st_dev, stat.st_ino);
        let first = self.links.borrow().get(&inode).cloned();
        if let Some(first) = first {
            return self.link(&first, target).map(|()| None);
        }
        let opened = open_file_of(selected)?;
        let source = SourceFile {
            file: &opened,
            path: selected.source,
            cancel: self.cancel,
        };
        let file = self.create(target)?;
        let digest = match self.from_context {
            true => Some(source.copy_and_hash(&file, target)?),
            false => {
                source.copy(&file, target)?;
                None
            }
        };
        let ((uid, gid), mode) = self.attributes(stat);
        own(&file, uid, gid, mode).map_err(CopyError::io("set the owner of", target))?;
        if !self.from_context {
            copy_attributes(&opened, &file)
                .map_err(CopyError::io("copy the attributes of", selected.source))?;
            if stat.st_nlink > 1 {
                self.links.borrow_mut().insert(inode, target.to_owned());
            }
        }
        futimens(&file, &times(stat))
            .map_err(|error| CopyError::io("set the time of", target)(error.into()))?;
        Ok(digest)
    }

    fn link(&self, first: &Path, target: &Path) -> Result<(), CopyError> {
        let error = || CopyError::io("link", target);
        let from = self.root.spot(first, false).map_err(error())?;
        let to = self.vacant(target)?;
        linkat(&*from.dir, &from.name, &*to.dir, &to.name, AtFlags::empty())
            .map_err(|errno| error()(errno.into()))
    }

    fn symlink(&self, selected: &Selected<'_>, target: &Path) -> Result<(), CopyError> {
        let text = readlinkat(selected.dir, selected.name, Vec::new())
            .map_err(|error| CopyError::io("read the link", selected.source)(error.into()))?;
        let spot = self.vacant(target)?;
        let ((uid, gid), _) = self.attributes(selected.stat);
        symlinkat(&text, &*spot.dir, &spot.name)
            .map_err(io::Error::from)
            .and_then(|()| chown_at(&spot.dir, &spot.name, uid, gid))
            .and_then(|()| {
                utimensat(
                    &*spot.dir,
                    &spot.name,
                    &times(selected.stat),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .map_err(io::Error::from)
            })
            .map_err(CopyError::io("make the link", target))
    }

    /// A pipe, or a device of another stage.
    fn node(&self, selected: &Selected<'_>, target: &Path) -> Result<(), CopyError> {
        let spot = self.vacant(target)?;
        let ((uid, gid), mode) = self.attributes(selected.stat);
        let mode = Mode::from_raw_mode(mode);
        let (dir, name) = (&*spot.dir, &spot.name);
        let make = || -> io::Result<()> {
            rustix::fs::mknodat(dir, name, kind(selected.stat), mode, selected.stat.st_rdev)?;
            chown_at(dir, name, uid, gid)?;
            // Whatever the umask.
            chmodat(dir, name, mode, AtFlags::empty())?;
            utimensat(dir, name, &times(selected.stat), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(())
        };
        make().map_err(CopyError::io("make", target))
    }

    /// The place of `target` with whatever was there removed, which must not be a folder.
    fn vacant(&self, target: &Path) -> Result<Spot, CopyError> {
        let spot = self.place(target)?;
        match spot.stat {
            None => Ok(spot),
            Some(stat) if kind(&stat) == FileType::Directory => {
                Err(in_the_way(target, &stat, "a file"))
            }
            Some(_) => {
                unlinkat(&*spot.dir, &spot.name, AtFlags::empty())
                    .map_err(|error| CopyError::io("replace", target)(error.into()))?;
                Ok(Spot { stat: None, ..spot })
            }
        }
    }

    fn create(&self, target: &Path) -> Result<File, CopyError> {
        let spot = self.vacant(target)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&*spot.dir, &spot.name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| CopyError::io("make", target)(error.into()))
    }
}

fn in_the_way(path: &Path, found: &Stat, wanted: &'static str) -> CopyError {
    let found = match kind(found) {
        FileType::Directory => "a folder",
        FileType::Symlink => "a link",
        _ => "a file",
    };
    CopyError::InTheWay {
        path: path.to_owned(),
        found,
        wanted,
    }
}

pub(super) fn chown_at(dir: &OwnedFd, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    chownat(
        dir,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        flags,
    )?;
    Ok(())
}

/// Makes a folder that nobody described, as `mkdir -p` of a usual umask does.
pub(super) fn new_folder(spot: &Spot, owner: Owner) -> io::Result<()> {
    mkdirat(&*spot.dir, &spot.name, Mode::from_raw_mode(0o755))?;
    settle_folder(&spot.dir, &spot.name, owner)
}

/// Gives a new folder its owner, and the mode that the umask may have cut.
pub(super) fn settle_folder(dir: &OwnedFd, name: &OsStr, owner: Owner) -> io::Result<()> {
    chown_at(dir, name, owner.0, owner.1)?;
    chmodat(dir, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
    Ok(())
}

/// Owner first: a change of owner clears set-id bits.
pub(super) fn own(file: &File, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(file, Mode::from_raw_mode(mode))?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_mtime, stat.st_mtime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies the attributes that belong to images.
fn copy_attributes(source: &File, file: &File) -> io::Result<()> {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
    let mut list = vec![0; 1 << 16];
    let length = match flistxattr(source, &mut list[..]) {
        Ok(length) => length,
        // A file system without attributes has none.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for name in list[..length].split(|byte| *byte == 0) {
        if name.is_empty() || !crate::unpack::xattr_travels(name) {
            continue;
        }
        value.resize(1 << 16, 0);
        let length = fgetxattr(source, name, &mut value[..])?;
        fsetxattr(file, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
