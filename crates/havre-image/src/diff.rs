//! Writes an overlay's upper folder as an OCI layer.
//!
//! Overlay → OCI: a character device 0/0 becomes `.wh.<name>`, `trusted.overlay.opaque` becomes
//! `.wh..wh..opq`. The bytes depend on names, content, metadata in whole seconds and the
//! attributes that images carry, in order of names; never on inode numbers or access times.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::archive::{Entry, EntryKind, TarWriter};
use crate::unpack::{OPAQUE_MARKER, WHITEOUT_PREFIX, device_allowed, xattr_travels};

/// Why a folder cannot become a layer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A file operation failed.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The folder holds what a layer cannot say.
    #[error("{path} cannot be part of a layer: {reason}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
}

impl DiffError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

/// Writes the tar of `root`; the root folder itself is not part of it.
pub(crate) fn write_layer(root: &Path, out: impl Write) -> Result<(), DiffError> {
    let mut walk = Walk {
        root,
        writer: TarWriter::new(out),
        links: HashMap::new(),
    };
    // A stack instead of recursion: depth is the choice of whoever wrote the files.
    let mut stack = walk.children(Path::new(""))?;
    while let Some(path) = stack.pop() {
        if walk.write(&path)? {
            let children = walk.children(&path)?;
            stack.extend(children);
        }
    }
    walk.writer
        .finish()
        .map(drop)
        .map_err(DiffError::io("write the layer of", root))
}

struct Walk<'a, W> {
    root: &'a Path,
    writer: TarWriter<W>,
    /// First name of every file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Walk<'_, W> {
    /// Paths in a folder relative to the root, the last first.
    fn children(&self, folder: &Path) -> Result<Vec<PathBuf>, DiffError> {
        let full = self.root.join(folder);
        let error = || DiffError::io("list", &full);
        let mut names: Vec<OsString> = fs::read_dir(&full)
            .map_err(error())?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()
            .map_err(error())?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    /// Writes one file; `true` for a folder, whose children come next.
    fn write(&mut self, path: &Path) -> Result<bool, DiffError> {
        let full = self.root.join(path);
        let meta = fs::symlink_metadata(&full).map_err(DiffError::io("look at", &full))?;
        let name = path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return Err(unsupported(
                &full,
                "names that start with .wh. mark removed files",
            ));
        }
        let kind = meta.file_type();
        if kind.is_char_device() && meta.rdev() == 0 {
            self.whiteout(path)?;
            return Ok(false);
        }
        if kind.is_socket() {
            // As in any tar: a socket means nothing without the process that made it.
            return Ok(false);
        }
        let Attributes { opaque, xattrs } = attributes(&full)?;
        let mut entry = self.entry(path, &full, &meta)?;
        entry.xattrs = xattrs;
        if entry.kind == EntryKind::File {
            let mut file = File::open(&full).map_err(DiffError::io("open", &full))?;
            self.append(&entry, &mut file, &full)?;
        } else {
            self.append(&entry, &mut io::empty(), &full)?;
        }
        if opaque {
            let marker = join(path, OPAQUE_MARKER);
            self.append(
                &Entry::new(marker, EntryKind::File, 0),
                &mut io::empty(),
                &full,
            )?;
        }
        Ok(meta.is_dir())
    }

    fn entry(&mut self, path: &Path, full: &Path, meta: &Metadata) -> Result<Entry, DiffError> {
        let mut name = path.as_os_str().as_bytes().to_vec();
        let mut link = Vec::new();
        let mut size = 0;
        let file_type = meta.file_type();
        let kind = if meta.is_dir() {
            name.push(b'/');
            EntryKind::Directory
        } else if file_type.is_symlink() {
            let target = fs::read_link(full).map_err(DiffError::io("read the link", full))?;
            link = target.into_os_string().into_vec();
            EntryKind::Symlink
        } else if let Some(first) = self.first_name(path, meta) {
            link = first.into_os_string().into_vec();
            EntryKind::HardLink
        } else if meta.is_file() {
            size = meta.len();
            EntryKind::File
        } else if file_type.is_fifo() {
            EntryKind::Fifo
        } else {
            device(full, meta)?
        };
        Ok(Entry {
            path: name,
            kind,
            link,
            size,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime(),
            mtime_nanos: 0,
            xattrs: Vec::new(),
        })
    }

    /// The name under which the same file was written before, if it was.
    fn first_name(&mut self, path: &Path, meta: &Metadata) -> Option<PathBuf> {
        if meta.nlink() < 2 {
            return None;
        }
        let key = (meta.dev(), meta.ino());
        if let Some(first) = self.links.get(&key) {
            return Some(first.clone());
        }
        self.links.insert(key, path.to_owned());
        None
    }

    fn whiteout(&mut self, path: &Path) -> Result<(), DiffError> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let folder = path.parent().unwrap_or(Path::new(""));
        let marker = join(folder, &[WHITEOUT_PREFIX, name].concat());
        let full = self.root.join(path);
        self.append(
            &Entry::new(marker, EntryKind::File, 0),
            &mut io::empty(),
            &full,
        )
    }

    fn append(
        &mut self,
        entry: &Entry,
        content: &mut dyn io::Read,
        full: &Path,
    ) -> Result<(), DiffError> {
        self.writer
            .append(entry, content)
            .map_err(DiffError::io("write to the layer", full))
    }
}

fn join(folder: &Path, name: &[u8]) -> Vec<u8> {
    let mut path = folder.as_os_str().as_bytes().to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn device(full: &Path, meta: &Metadata) -> Result<EntryKind, DiffError> {
    let device = meta.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let kind = if meta.file_type().is_char_device() {
        EntryKind::CharDevice { major, minor }
    } else {
        EntryKind::BlockDevice { major, minor }
    };
    if !device_allowed(kind) {
        return Err(unsupported(
            full,
            "it is a device that containers may not use",
        ));
    }
    Ok(kind)
}

fn unsupported(path: &Path, reason: &'static str) -> DiffError {
    DiffError::Unsupported {
        path: path.to_owned(),
        reason,
    }
}

struct Attributes {
    opaque: bool,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The attributes that travel, by name, and what overlay noted.
fn attributes(full: &Path) -> Result<Attributes, DiffError> {
    let mut found = Attributes {
        opaque: false,
        xattrs: Vec::new(),
    };
    for name in names(full)? {
        match name.as_slice() {
            b"trusted.overlay.opaque" => {
                if value(full, &name)? != b"y" {
                    return Err(unsupported(
                        full,
                        "its overlay keeps whiteouts in attributes",
                    ));
                }
                found.opaque = true;
            }
            b"trusted.overlay.redirect" | b"trusted.overlay.metacopy" => {
                return Err(unsupported(
                    full,
                    "its overlay was mounted with redirect_dir or metacopy",
                ));
            }
            _ if xattr_travels(&name) => {
                let value = value(full, &name)?;
                found.xattrs.push((name, value));
            }
            _ => {}
        }
    }
    found.xattrs.sort();
    Ok(found)
}

fn names(full: &Path) -> Result<Vec<Vec<u8>>, DiffError> {
    let list = grow(|buffer| rustix::fs::llistxattr(full, buffer))
        .map_err(DiffError::io("list the attributes of", full))?;
    let names = list.split(|byte| *byte == 0);
    Ok(names
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

fn value(full: &Path, name: &[u8]) -> Result<Vec<u8>, DiffError> {
    grow(|buffer| rustix::fs::lgetxattr(full, name, buffer))
        .map_err(DiffError::io("read an attribute of", full))
}

/// Calls `read` with a larger buffer until the answer fits; attributes are at most 64 KiB.
fn grow(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 17 => {
                buffer.resize(buffer.len() * 2, 0);
            }
            // A file system without attributes has none.
            Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
}
