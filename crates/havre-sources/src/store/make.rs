//! Making a tree out of files that are there. Every step is relative to an open folder and follows no link.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use havre_base::{Durability, replace};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, fchmod, futimens, mkdirat, openat, symlinkat,
    syncfs, utimensat,
};

use super::{ENTRY_BYTES, OfferError, Place};
use crate::digest::{Digest, Hasher};
use crate::tree::{Entry, Node, Tree, TreeError};

/// A folder that is being filled.
struct Open<'t> {
    path: &'t str,
    dir: OwnedFd,
    entry: &'t Entry,
}

/// Makes a tree that has been checked, of files that are whole or in other trees. It appears at once.
pub(super) fn tree(
    place: &Place,
    id: &Digest,
    tree: &Tree,
    kept: &BTreeMap<Digest, PathBuf>,
) -> Result<(), OfferError> {
    let fresh = place.0.join("trees").join(format!("{id}.new"));
    let io = |source| OfferError::Io {
        path: fresh.clone(),
        source,
    };
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    if let Err(error) = fill(place, &fresh, tree, kept) {
        // The next attempt, or the next sweep, removes it where this cannot.
        fs::remove_dir_all(&fresh).ok();
        return Err(error);
    }
    let manifest = serde_json::to_vec(tree).map_err(|error| io(error.into()))?;
    replace(&place.manifest(id), &manifest, 0o600, Durability::Durable).map_err(io)?;
    fs::rename(&fresh, place.tree(id)).map_err(io)?;
    let trees = File::open(place.0.join("trees")).map_err(io)?;
    trees.sync_all().map_err(io)
}

fn fill(
    place: &Place,
    fresh: &Path,
    tree: &Tree,
    kept: &BTreeMap<Digest, PathBuf>,
) -> Result<(), OfferError> {
    let io = |path: &str| {
        let path = fresh.join(path);
        move |source: io::Error| OfferError::Io {
            path: path.clone(),
            source,
        }
    };
    let private = Mode::from_raw_mode(0o700);
    let mut open: Vec<Open<'_>> = Vec::new();
    for entry in &tree.entries {
        let folder = entry.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if entry.path.is_empty() {
            mkdirat(CWD, fresh, private).map_err(|error| io("")(error.into()))?;
            let dir = folder_at(CWD, fresh).map_err(io(""))?;
            open.push(Open {
                path: "",
                dir,
                entry,
            });
            continue;
        }
        while open.last().is_some_and(|last| last.path != folder) {
            close(open.pop()).map_err(io(folder))?;
        }
        let Some(within) = open.last() else {
            return Err(io(&entry.path)(io::ErrorKind::InvalidInput.into()));
        };
        let name = entry.path.rsplit('/').next().unwrap_or_default();
        place.check_room(ENTRY_BYTES, 1)?;
        match &entry.node {
            Node::Folder => {
                mkdirat(&within.dir, name, private).map_err(|e| io(&entry.path)(e.into()))?;
                let dir = folder_at(&within.dir, name).map_err(io(&entry.path))?;
                open.push(Open {
                    path: &entry.path,
                    dir,
                    entry,
                });
            }
            Node::Link { target } => {
                let made = symlinkat(target, &within.dir, name).and_then(|()| {
                    utimensat(&within.dir, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
                });
                made.map_err(|error| io(&entry.path)(error.into()))?;
            }
            Node::File { size_bytes, digest } => {
                let from = match size_bytes {
                    0 => None,
                    _ => Some(match kept.get(digest) {
                        Some(path) if !place.is_whole(digest) => path.clone(),
                        _ => place.whole(digest),
                    }),
                };
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let file = openat(&within.dir, name, flags, Mode::from_raw_mode(0o600));
                let mut file = File::from(file.map_err(|error| io(&entry.path)(error.into()))?);
                if let Some(from) = from {
                    let read = open_file(&from).map_err(io(&entry.path))?;
                    let is = copy(place, read, &mut file, *size_bytes, io(&entry.path))?;
                    if is != Some(*digest) {
                        // What is in other trees may be in use.
                        let own = place.whole(digest);
                        let removed = from == own && fs::remove_file(own).is_ok();
                        return Err(OfferError::Spoilt {
                            path: from,
                            removed,
                        });
                    }
                } else if Digest::of(b"") != *digest {
                    return Err(TreeError::two_lengths(&entry.path).into());
                }
                finish(&file, entry).map_err(io(&entry.path))?;
            }
        }
    }
    while let Some(folder) = open.pop() {
        let (path, last) = (folder.path, open.is_empty());
        if last {
            // Everything before its name is there.
            syncfs(&folder.dir).map_err(|error| io(path)(error.into()))?;
        }
        close(Some(folder)).map_err(io(path))?;
    }
    Ok(())
}

fn folder_at(within: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(within, name, flags, Mode::empty())?)
}

/// Gives a folder its own mode and time, once all is in it.
fn close(folder: Option<Open<'_>>) -> io::Result<()> {
    match folder {
        Some(folder) => finish(&folder.dir, folder.entry),
        None => Ok(()),
    }
}

fn finish(made: impl std::os::fd::AsFd, entry: &Entry) -> io::Result<()> {
    fchmod(&made, Mode::from_raw_mode(entry.mode))?;
    futimens(&made, &times(entry))?;
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let at = Timespec {
        tv_sec: entry.modified,
        tv_nsec: entry.modified_nanos.into(),
    };
    Timestamps {
        last_access: at,
        last_modification: at,
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

/// Copies a file of this length, as long as the disk has room, and says the digest of what was copied;
/// `None`: it has another length, and no more than this is written.
fn copy(
    place: &Place,
    mut from: File,
    to: &mut File,
    size_bytes: u64,
    failed: impl Fn(io::Error) -> OfferError,
) -> Result<Option<Digest>, OfferError> {
    if from.metadata().map_err(&failed)?.len() != size_bytes {
        return Ok(None);
    }
    let mut hasher = Hasher::default();
    let mut piece = vec![0; 256 * 1024];
    let mut left = size_bytes;
    loop {
        let count = from.read(&mut piece).map_err(&failed)?;
        if count == 0 {
            return Ok((left == 0).then(|| hasher.finish()));
        }
        let Some(rest) = left.checked_sub(count as u64) else {
            return Ok(None);
        };
        left = rest;
        place.check_room(count as u64, 0)?;
        hasher.add(&piece[..count]);
        to.write_all(&piece[..count]).map_err(&failed)?;
    }
}
