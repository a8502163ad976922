//! Named files inside what is imported.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{ImportFault, file_error};
use crate::archive::{EntryKind, TarReader};
use crate::compression::{Compression, decoder};
use crate::limits::{Cancellable, Limits};
use crate::regular;

/// Archives of images have a handful of files per layer; one with more is a root file system and
/// needs no index.
const MAX_INDEXED: usize = 20_000;

/// Named files, in a folder or a tar.
pub(super) enum ImportSource {
    Folder(PathBuf),
    Tar {
        file: File,
        index: HashMap<String, IndexEntry>,
    },
}

/// Where a file of a tar lies.
pub(super) enum IndexEntry {
    At {
        offset: u64,
        size: u64,
    },
    /// Old archives of Docker keep equal layers once.
    Link(String),
}

impl ImportSource {
    /// Opens a folder, or a tar however it is packed; `tmp` has room to unpack it.
    pub(super) fn open(
        path: &Path,
        tmp: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self, ImportFault> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = regular::open(path).map_err(file_error("open"))?;
        let file = plain(file, tmp, cancel)?;
        let index = index(&file)?;
        Ok(Self::Tar { file, index })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(dir) => dir.join(name).is_file(),
            Self::Tar { index, .. } => index.contains_key(name),
        }
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Box<dyn Read>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not there");
        match self {
            Self::Folder(dir) => {
                let inside = Path::new(name)
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                if !inside {
                    return Err(missing());
                }
                Ok(Box::new(regular::open(&dir.join(name))?))
            }
            Self::Tar { file, index } => {
                let place = match index.get(name).ok_or_else(missing)? {
                    IndexEntry::Link(target) => index.get(target).ok_or_else(missing)?,
                    place @ IndexEntry::At { .. } => place,
                };
                let IndexEntry::At { offset, size } = place else {
                    return Err(missing());
                };
                let part = Part {
                    file: file.try_clone()?,
                    at: *offset,
                    left: *size,
                };
                Ok(Box::new(BufReader::with_capacity(1 << 16, part)))
            }
        }
    }
}

/// A part of a file, read without moving the position that all its descriptors share.
struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |n| n.min(buffer.len()));
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The file itself, or an unpacked copy that goes away with its descriptor.
fn plain(mut file: File, tmp: &Path, cancel: &CancellationToken) -> Result<File, ImportFault> {
    let mut start = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut start)
        .and_then(|_| file.seek(SeekFrom::Start(0)))
        .map_err(file_error("read"))?;
    let compression = Compression::of(&start);
    if compression == Compression::None {
        return Ok(file);
    }
    let packed = file.metadata().map_err(file_error("look at"))?.len();
    let source = decoder(compression, BufReader::new(file)).map_err(file_error("unpack"))?;
    let source = Limits::default().for_stream(packed).cap(source);
    let mut source = Cancellable::new(source, cancel);
    let mut plain = tempfile::tempfile_in(tmp).map_err(file_error("make room for"))?;
    io::copy(&mut source, &mut plain).map_err(file_error("unpack"))?;
    Ok(plain)
}

/// Where the files of a tar lie; empty for one with too many to be an image.
fn index(file: &File) -> Result<HashMap<String, IndexEntry>, ImportFault> {
    let mut file = file.try_clone().map_err(file_error("read"))?;
    file.seek(SeekFrom::Start(0)).map_err(file_error("read"))?;
    let mut reader = TarReader::new(file);
    let mut index = HashMap::new();
    let mut empty = true;
    while let Some(entry) = reader.next_entry()? {
        empty = false;
        let name = relative(&entry.display_path());
        let place = match entry.kind {
            EntryKind::File => IndexEntry::At {
                offset: reader.offset(),
                size: entry.size,
            },
            EntryKind::Symlink | EntryKind::HardLink => {
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let base = match entry.kind {
                    EntryKind::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
                    _ => "",
                };
                IndexEntry::Link(relative(&format!("{base}/{target}")))
            }
            _ => continue,
        };
        index.insert(name, place);
        if index.len() > MAX_INDEXED {
            return Ok(HashMap::new());
        }
        reader.seek_past_content()?;
    }
    // Nobody means an image of nothing; a download that failed looks like this.
    if empty {
        return Err(ImportFault::Empty);
    }
    Ok(index)
}

/// A path without `.`, `..` and leading slashes.
fn relative(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
