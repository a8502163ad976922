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

use super::{OfferError, Place};
use crate::digest::{Digest, Hasher};
use crate::tree::{Entry, Node, Tree};

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
        move |source: io::Error| OfferError::Io { path, source }
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
                let copied = copy(from.as_deref(), &mut file).map_err(io(&entry.path))?;
                if copied != *digest {
                    let path = from.unwrap_or_else(|| fresh.join(&entry.path));
                    return Err(OfferError::Spoilt { path });
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

/// The digest of what was copied.
fn copy(from: Option<&Path>, to: &mut File) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let Some(from) = from else {
        return Ok(hasher.finish());
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut from = File::from(openat(CWD, from, flags, Mode::empty())?);
    let mut piece = vec![0; 256 * 1024];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.add(&piece[..count]);
                to.write_all(&piece[..count])?;
            }
        }
    }
}
