//! Folders that RUN steps keep between builds (`--mount=type=cache`).
//!
//! Beside each folder lies a note: what it is, and by its time when it was last used.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::action::CACHE_MODE;
use crate::disk_usage::disk_usage;
use crate::remove::remove_tree;
use crate::{Digest, Images};

/// What somebody may want to know of a folder.
#[derive(Serialize, Deserialize)]
struct Note {
    id: String,
}

/// A folder that is kept.
pub(crate) struct CacheMount {
    /// Its name.
    pub folder: String,
    /// The `id` of the mount.
    pub name: String,
    /// What it takes.
    pub bytes: u64,
    /// When a step last had it.
    pub used: SystemTime,
}

/// The folder of a cache mount, made where it is not there, and marked as just used. Those `of`
/// others are others, as a step runs what it finds there; and those of other modes or owners, as a
/// program may not be able to use what was made for somebody else.
pub(super) fn folder(
    images: &Images,
    of: &str,
    id: &str,
    mode: u32,
    owner: (u32, u32),
) -> io::Result<PathBuf> {
    let all = images.build_mounts();
    fs::create_dir_all(&all)?;
    let usual = mode == CACHE_MODE && owner == (0, 0);
    let name = match usual {
        true => format!("{of}\0{id}"),
        false => format!("{of}\0{id}\0{mode:o} {}:{}", owner.0, owner.1),
    };
    let name = Digest::of(name.as_bytes()).hex();
    let folder = all.join(&name);
    match fs::create_dir(&folder) {
        Ok(()) => {
            std::os::unix::fs::chown(&folder, Some(owner.0), Some(owner.1))?;
            fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let note = serde_json::to_vec(&Note { id: id.to_owned() })?;
    fs::write(note_of(&all, &name), note)?;
    Ok(folder)
}

fn note_of(all: &Path, folder: &str) -> PathBuf {
    all.join(format!("{folder}.json"))
}

/// All folders with what they take.
pub(crate) fn list(images: &Images) -> io::Result<Vec<CacheMount>> {
    let all = images.build_mounts();
    let entries = match fs::read_dir(&all) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(folder) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let note = note_of(&all, &folder);
        // Folders of before there were notes.
        let (name, used) = match fs::read(&note) {
            Ok(text) => {
                let known = serde_json::from_slice::<Note>(&text).ok();
                (known.map(|note| note.id), fs::metadata(&note)?.modified()?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (None, entry.metadata()?.modified()?)
            }
            Err(error) => return Err(error),
        };
        found.push(CacheMount {
            name: name.unwrap_or_else(|| folder.chars().take(12).collect()),
            bytes: disk_usage(&entry.path())?,
            folder,
            used,
        });
    }
    Ok(found)
}

/// Removes a folder unless a step has it; returns the bytes freed.
pub(crate) fn remove(images: &Images, folder: &str) -> io::Result<u64> {
    let all = images.build_mounts();
    let path = all.join(folder);
    let lock = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        lock => lock?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    // Its name is free at once; what a killed daemon leaves is swept at the next start.
    let grave = images.scratch()?;
    fs::rename(&path, grave.path().join("mount"))?;
    match fs::remove_file(note_of(&all, folder)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let bytes = disk_usage(grave.path())?;
    remove_tree(&grave.keep())?;
    Ok(bytes)
}
