//! Unpacks a layer from a stranger into a folder that overlay can use.
//!
//! Every path is resolved by the kernel inside the folder (`openat2` with `RESOLVE_IN_ROOT`), so
//! links and `..` never lead out of it; everything is made relative to its parent's descriptor
//! and nothing is followed at the last step. OCI → overlay: `.wh.<name>` becomes a character
//! device 0/0, `.wh..wh..opq` the attribute `trusted.overlay.opaque`.
//!
//! The last entry of a name wins. Ownership is set before permissions (it clears set-id bits) and
//! before attributes (it clears capabilities); times of folders are set last.

mod node;
mod parents;
mod rules;

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::archive::{Entry, EntryKind, TarError, TarReader};
use crate::limits::Limits;

pub(crate) use rules::{OPAQUE_MARKER, WHITEOUT_PREFIX, device_allowed, xattr_travels};

use node::{
    At, folder_flags, is_whiteout, kind_of, open_folder, os, set_opaque, set_owner_and_mode,
    set_owner_at, stat, through_proc,
};
use rules::{AUFS_PREFIX, MAX_DEPTH, MAX_LENGTH, check_attributes, normalise, travelling};

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not readable.
    #[error("cannot read its archive")]
    Archive(#[from] TarError),
    /// An entry asks for what no honest layer does.
    #[error("entry {path:?} is refused: {reason}")]
    Refused {
        /// The entry.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// More entries than allowed.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// A file operation failed.
    #[error("cannot {operation} {path:?}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The entry.
        path: String,
        /// The reason.
        source: io::Error,
    },
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries of the archive.
    pub entries: u64,
}

/// Unpacks one archive.
pub struct Unpacker {
    root: Rc<OwnedFd>,
    /// The layers below, the topmost first: folders that an entry takes for granted get their
    /// owner and permissions from there.
    below: Vec<OwnedFd>,
    limits: Limits,
    /// The folder of the entry before, most often that of the next one too.
    last_parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    buffer: Vec<u8>,
    /// Times of folders, set at the end.
    times: Vec<(Vec<u8>, Timestamps)>,
    deferred: usize,
}

impl Unpacker {
    /// Unpacks into `root`, made when missing.
    pub fn new(root: &Path, below: &[PathBuf], limits: Limits) -> Result<Self, UnpackError> {
        let error = |operation, path: &Path| {
            let path = path.to_string_lossy().into_owned();
            move |source: io::Error| UnpackError::Io {
                operation,
                path,
                source,
            }
        };
        if !root.is_dir() {
            fs::create_dir_all(root).map_err(error("make the folder", root))?;
        }
        let open = |path: &Path| {
            rustix::fs::open(path, folder_flags(), Mode::empty())
                .map_err(|errno| error("open", path)(errno.into()))
        };
        let unpacker = Self {
            root: Rc::new(open(root)?),
            below: below
                .iter()
                .map(|path| open(path))
                .collect::<Result<_, _>>()?,
            limits,
            last_parent: None,
            buffer: vec![0; 1 << 17],
            times: Vec::new(),
            deferred: 0,
        };
        Ok(unpacker)
    }

    /// Unpacks a layer: markers of removed files become what overlay understands.
    pub fn layer(mut self, source: impl Read) -> Result<Unpacked, UnpackError> {
        let root = Entry::new(b".".as_slice(), EntryKind::Directory, 0o755);
        self.inherit(&self.root.clone(), b".", &At(&root))?;
        self.run(source)
    }

    fn run(mut self, source: impl Read) -> Result<Unpacked, UnpackError> {
        let mut reader = TarReader::new(source);
        let mut entries = 0;
        while let Some(entry) = reader.next_entry()? {
            entries += 1;
            if entries > self.limits.entries {
                return Err(UnpackError::TooMany {
                    limit: self.limits.entries,
                });
            }
            self.entry(&entry, &mut reader)?;
        }
        self.set_folder_times()?;
        Ok(Unpacked { entries })
    }

    fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), UnpackError> {
        let at = At(entry);
        let parts =
            normalise(&entry.path).ok_or_else(|| at.refused("it leads out of the layer"))?;
        if entry.path.len() > MAX_LENGTH || parts.len() > MAX_DEPTH {
            return Err(at.refused("its path is too long or too deep"));
        }
        check_attributes(entry)?;
        let Some((name, folders)) = parts.split_last() else {
            return self.root_entry(entry);
        };
        if folders.iter().any(|part| part.starts_with(WHITEOUT_PREFIX)) {
            return if folders.iter().any(|part| part.starts_with(AUFS_PREFIX)) {
                Ok(())
            } else {
                Err(at.refused("it lies below a marker of a removed file"))
            };
        }
        let parent = self.parent(folders, &at)?;
        if name.starts_with(WHITEOUT_PREFIX) {
            return self.whiteout(&parent, name, &at);
        }
        match entry.kind {
            EntryKind::Directory => self.folder(&parent, name, &parts.join(&b'/'), &at),
            EntryKind::File => self.file(&parent, name, content, &at),
            EntryKind::HardLink => self.hard_link(&parent, name, &at),
            EntryKind::Symlink => self.symlink(&parent, name, &at),
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                self.node(&parent, name, &at)
            }
        }
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let at = At(entry);
        if entry.kind != EntryKind::Directory {
            return Err(at.refused("the root must be a folder"));
        }
        let root = self.root.clone();
        self.set_folder(&root, b".".to_vec(), &at)
    }

    fn folder(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        at: &At<'_>,
    ) -> Result<(), UnpackError> {
        let existing = at.io("look at", stat(parent, name))?;
        let mut opaque = false;
        match existing.as_ref().map(kind_of) {
            Some(FileType::Directory) => {}
            Some(_) => {
                // Removed below and made anew here: nothing of the old folder may show.
                opaque = existing.as_ref().is_some_and(is_whiteout);
                self.remove(parent, name, at)?;
                self.make_folder(parent, name, at)?;
            }
            None => self.make_folder(parent, name, at)?,
        }
        let folder = at.io("open", open_folder(parent, name, ResolveFlags::NO_SYMLINKS))?;
        if opaque {
            set_opaque(&folder, at)?;
        }
        self.set_folder(&folder, path.to_vec(), at)
    }

    fn make_folder(&self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        at.io(
            "make the folder",
            rustix::fs::mkdirat(parent, name, Mode::from(0o755)),
        )
    }

    /// Owner, permissions and attributes now, times at the end.
    fn set_folder(
        &mut self,
        folder: &OwnedFd,
        path: Vec<u8>,
        at: &At<'_>,
    ) -> Result<(), UnpackError> {
        set_owner_and_mode(folder, at)?;
        for (name, value) in travelling(at.0) {
            let set = rustix::fs::fsetxattr(folder, name, value, XattrFlags::empty());
            at.attribute(name, set)?;
        }
        self.defer(path, at.0.times(), at)
    }

    /// Keeps the times of a folder until nothing changes in it any more.
    fn defer(&mut self, path: Vec<u8>, times: Timestamps, at: &At<'_>) -> Result<(), UnpackError> {
        self.deferred += path.len();
        if self.deferred > self.limits.folder_names {
            return Err(at.refused("the layer has too many folders with long names"));
        }
        self.times.push((path, times));
        Ok(())
    }

    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        content: &mut dyn Read,
        at: &At<'_>,
    ) -> Result<(), UnpackError> {
        self.remove(parent, name, at)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = at.io(
            "make the file",
            rustix::fs::openat(parent, name, flags, Mode::from(0o600)),
        )?;
        let mut file = fs::File::from(file);
        loop {
            match content.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => file.write_all(&self.buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                Err(error) => Err(error),
            }
            .map_err(|source| at.error("write", source))?;
        }
        let file = OwnedFd::from(file);
        set_owner_and_mode(&file, at)?;
        for (name, value) in travelling(at.0) {
            let set = rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty());
            at.attribute(name, set)?;
        }
        at.io(
            "set the times of",
            rustix::fs::futimens(&file, &at.0.times()),
        )
    }

    fn hard_link(&mut self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        let target = normalise(&at.0.link)
            .ok_or_else(|| at.refused("its hard link leads out of the layer"))?;
        let Some((target_name, folders)) = target.split_last() else {
            return Err(at.refused("it is a hard link to a folder"));
        };
        let folder = match open_folder(&self.root, &folders.join(&b'/'), ResolveFlags::IN_ROOT) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Err(at.refused("its hard link leads to nothing")),
            Err(errno) => return Err(at.error("open the folder of the link of", errno.into())),
        };
        let Some(found) = at.io("look at the link of", stat(&folder, target_name))? else {
            return Err(at.refused("its hard link leads to nothing"));
        };
        if kind_of(&found) == FileType::Directory {
            return Err(at.refused("it is a hard link to a folder"));
        }
        let existing = at.io("look at", stat(parent, name))?;
        if existing.is_some_and(|old| (old.st_dev, old.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        self.remove(parent, name, at)?;
        let flags = AtFlags::empty();
        at.io(
            "link",
            rustix::fs::linkat(&folder, *target_name, parent, name, flags),
        )
    }

    fn symlink(&mut self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        self.remove(parent, name, at)?;
        let target = at.0.link.as_slice();
        at.io("make the link", rustix::fs::symlinkat(target, parent, name))?;
        set_owner_at(parent, name, at)?;
        self.set_attributes_at(parent, name, at)
    }

    fn node(&mut self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        let (kind, device) = match at.0.kind {
            EntryKind::CharDevice { major, minor } => {
                (FileType::CharacterDevice, rustix::fs::makedev(major, minor))
            }
            EntryKind::BlockDevice { major, minor } => {
                (FileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
            _ => (FileType::Fifo, 0),
        };
        if !device_allowed(at.0.kind) {
            return Err(at.refused("it is a device that containers may not use"));
        }
        self.remove(parent, name, at)?;
        let made = rustix::fs::mknodat(parent, name, kind, Mode::from(0o600), device);
        at.io("make the device", made)?;
        set_owner_at(parent, name, at)?;
        let mode = Mode::from(at.0.mode);
        at.io(
            "set the permissions of",
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()),
        )?;
        self.set_attributes_at(parent, name, at)
    }

    /// For what cannot be opened: attributes by path (nobody else changes this folder), times.
    fn set_attributes_at(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        at: &At<'_>,
    ) -> Result<(), UnpackError> {
        let path = through_proc(parent, name);
        for (attribute, value) in travelling(at.0) {
            let set = rustix::fs::lsetxattr(path.as_slice(), attribute, value, XattrFlags::empty());
            at.attribute(attribute, set)?;
        }
        at.io(
            "set the times of",
            rustix::fs::utimensat(parent, name, &at.0.times(), AtFlags::SYMLINK_NOFOLLOW),
        )
    }

    fn whiteout(&mut self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        if name == OPAQUE_MARKER {
            return set_opaque(parent, at);
        }
        if name.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let removed = &name[WHITEOUT_PREFIX.len()..];
        if matches!(removed, b"" | b"." | b"..") {
            return Err(at.refused("it marks no file as removed"));
        }
        // A marker speaks of the layers below; what this layer itself holds stays.
        match at.io("look at", stat(parent, removed))? {
            Some(found) if kind_of(&found) == FileType::Directory => {
                let flags = ResolveFlags::NO_SYMLINKS;
                let folder = at.io("open", open_folder(parent, removed, flags))?;
                set_opaque(&folder, at)
            }
            Some(_) => Ok(()),
            None => at.io(
                "mark as removed",
                rustix::fs::mknodat(parent, removed, FileType::CharacterDevice, Mode::empty(), 0),
            ),
        }
    }

    /// Makes way for a new entry.
    fn remove(&mut self, parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
        let Some(found) = at.io("look at", stat(parent, name))? else {
            return Ok(());
        };
        if kind_of(&found) == FileType::Directory {
            self.last_parent = None;
            let path = PathBuf::from(os(through_proc(parent, name)));
            return fs::remove_dir_all(path).map_err(|source| at.error("replace", source));
        }
        if kind_of(&found) == FileType::Symlink {
            self.last_parent = None;
        }
        at.io(
            "replace",
            rustix::fs::unlinkat(parent, name, AtFlags::empty()),
        )
    }
}
