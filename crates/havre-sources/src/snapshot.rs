//! Reading a folder for sending: what of it is wanted becomes a [`Tree`], and its files can be read again.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::digest::{Digest, Hasher};
use crate::tree::{Entry, Limits, Node, Tree, TreeError};

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// Why a folder cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Something in it cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds what cannot be sent.
    #[error("{} cannot be sent: {reason}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// It is too much, or too deep.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file is another one than when it was looked at.
    #[error("{} was changed while it was sent", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
}

/// A tree, and where its files are.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it holds.
    pub tree: Tree,
    /// By content, where it was found first.
    files: BTreeMap<Digest, Found>,
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Its length.
    pub size_bytes: u64,
}

impl Snapshot {
    /// Of these paths below `folder`, relative to it. Folders on the way to them come by themselves.
    pub fn of_paths(
        folder: &Path,
        paths: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Self, SnapshotError> {
        let mut snapshot = Self::begin(folder)?;
        let mut seen = std::collections::BTreeSet::from([PathBuf::new()]);
        for path in paths {
            let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
            above.reverse();
            for path in above.into_iter().chain([path.as_path()]) {
                if seen.insert(path.to_owned()) {
                    snapshot.add(folder, path)?;
                }
            }
        }
        snapshot.finish()
    }

    /// Of all that is in `folder`.
    pub fn of_folder(folder: &Path) -> Result<Self, SnapshotError> {
        let mut snapshot = Self::begin(folder)?;
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            let at = folder.join(&below);
            let read = |source| SnapshotError::Read {
                path: at.clone(),
                source,
            };
            for entry in fs::read_dir(&at).map_err(read)? {
                let entry = entry.map_err(read)?;
                let path = below.join(entry.file_name());
                if entry.file_type().map_err(read)?.is_dir() {
                    open.push(path.clone());
                }
                snapshot.add(folder, &path)?;
            }
        }
        snapshot.finish()
    }

    /// Of one file, under its name in a folder of its own.
    pub fn of_file(path: &Path) -> Result<Self, SnapshotError> {
        let Some(name) = path.file_name() else {
            return Err(SnapshotError::Unfit {
                path: path.to_owned(),
                reason: "it is no file in a folder",
            });
        };
        let mut snapshot = Self {
            tree: Tree {
                entries: vec![Entry {
                    path: String::new(),
                    mode: 0o755,
                    modified: 0,
                    modified_nanos: 0,
                    node: Node::Folder,
                }],
            },
            files: BTreeMap::new(),
        };
        // A link stands for what it leads to: the file is what was named.
        let real = fs::canonicalize(path).map_err(|source| SnapshotError::Read {
            path: path.to_owned(),
            source,
        })?;
        let name_of = text(Path::new(name), path)?;
        let found = fs::metadata(&real).map_err(|source| SnapshotError::Read {
            path: path.to_owned(),
            source,
        })?;
        snapshot.add_found(&real, name_of, &found)?;
        snapshot.finish()
    }

    /// A file of this content.
    pub fn file(&self, digest: &Digest) -> Option<&Found> {
        self.files.get(digest)
    }

    fn begin(folder: &Path) -> Result<Self, SnapshotError> {
        let found = fs::metadata(folder).map_err(|source| SnapshotError::Read {
            path: folder.to_owned(),
            source,
        })?;
        if !found.is_dir() {
            return Err(SnapshotError::Unfit {
                path: folder.to_owned(),
                reason: "it is no folder",
            });
        }
        let mut snapshot = Self {
            tree: Tree::default(),
            files: BTreeMap::new(),
        };
        snapshot.add_found(folder, String::new(), &found)?;
        Ok(snapshot)
    }

    fn finish(mut self) -> Result<Self, SnapshotError> {
        self.tree.sort();
        self.tree.check(Limits::MOST)?;
        Ok(self)
    }

    fn add(&mut self, folder: &Path, path: &Path) -> Result<(), SnapshotError> {
        let at = folder.join(path);
        let found = fs::symlink_metadata(&at).map_err(|source| SnapshotError::Read {
            path: at.clone(),
            source,
        })?;
        let name = text(path, &at)?;
        self.add_found(&at, name, &found)
    }

    fn add_found(
        &mut self,
        at: &Path,
        path: String,
        found: &Metadata,
    ) -> Result<(), SnapshotError> {
        let unfit = |reason| SnapshotError::Unfit {
            path: at.to_owned(),
            reason,
        };
        if self.tree.entries.len() >= Limits::MOST.entries {
            return Err(unfit(
                "there are too many files: leave some out by .dockerignore",
            ));
        }
        let node = if found.is_dir() {
            Node::Folder
        } else if found.is_symlink() {
            let target = fs::read_link(at).map_err(|source| SnapshotError::Read {
                path: at.to_owned(),
                source,
            })?;
            Node::Link {
                target: text(&target, at)?,
            }
        } else if found.is_file() {
            let (digest, size_bytes) = digest(at)?;
            let found = Found {
                path: at.to_owned(),
                size_bytes,
            };
            self.files.entry(digest).or_insert(found);
            Node::File { size_bytes, digest }
        } else if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) {
            // It means nothing without the process that made it.
            return Ok(());
        } else {
            return Err(unfit("it is no file, folder or link"));
        };
        let is_link = matches!(node, Node::Link { .. });
        self.tree.entries.push(Entry {
            path,
            mode: if is_link { 0 } else { found.mode() & 0o7777 },
            modified: found.mtime(),
            modified_nanos: u32::try_from(found.mtime_nsec()).unwrap_or(0),
            node,
        });
        Ok(())
    }
}

impl Found {
    /// At most `most` bytes of it, from an offset on.
    pub fn read(&self, offset: u64, most: usize) -> Result<Vec<u8>, SnapshotError> {
        let read = |source| SnapshotError::Read {
            path: self.path.clone(),
            source,
        };
        let mut file = open(&self.path).map_err(read)?;
        file.seek(SeekFrom::Start(offset)).map_err(read)?;
        let left = self.size_bytes.saturating_sub(offset).min(most as u64);
        let mut bytes = Vec::new();
        file.take(left).read_to_end(&mut bytes).map_err(read)?;
        match bytes.len() as u64 == left {
            true => Ok(bytes),
            false => Err(SnapshotError::Changed {
                path: self.path.clone(),
            }),
        }
    }
}

/// A path as text, which is how it is sent.
fn text(path: &Path, at: &Path) -> Result<String, SnapshotError> {
    String::from_utf8(path.as_os_str().as_bytes().to_vec()).map_err(|_| SnapshotError::Unfit {
        path: at.to_owned(),
        reason: "its name is not UTF-8",
    })
}

fn digest(path: &Path) -> Result<(Digest, u64), SnapshotError> {
    let read = |source| SnapshotError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = open(path).map_err(read)?;
    let mut hasher = Hasher::default();
    let mut piece = vec![0; PIECE];
    let mut size_bytes = 0;
    loop {
        match file.read(&mut piece).map_err(read)? {
            0 => return Ok((hasher.finish(), size_bytes)),
            count => {
                hasher.add(&piece[..count]);
                size_bytes += count as u64;
            }
        }
    }
}

/// A regular file: one that a pipe has taken the place of does not hold the program up.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}
