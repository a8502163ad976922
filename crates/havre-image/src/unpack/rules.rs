//! What the entries of a layer may say, and what of it counts. Pure.

use super::UnpackError;
use super::node::At;
use crate::archive::{Entry, EntryKind};

/// Starts the name of a marker for a removed file.
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Marks a folder that hides what lies below it.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Starts the names of other notes that AUFS left in layers; they mean nothing here.
pub(super) const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// Longer or deeper paths could not be named, or not be removed, below the store's own folders.
pub(super) const MAX_LENGTH: usize = 3072;
pub(super) const MAX_DEPTH: usize = 512;

/// Devices that Docker lets every container use; a node of any other is of no honest use in an
/// image. 0/0 is how overlay marks removed files and is made from markers only.
pub(crate) fn device_allowed(kind: EntryKind) -> bool {
    match kind {
        EntryKind::CharDevice { major, minor } => {
            matches!((major, minor), (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2))
        }
        EntryKind::BlockDevice { .. } => false,
        EntryKind::File
        | EntryKind::HardLink
        | EntryKind::Symlink
        | EntryKind::Directory
        | EntryKind::Fifo => true,
    }
}

/// The attributes that are part of a layer; those of the host (SELinux, IMA) are not.
pub(crate) fn xattr_travels(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.")
        || matches!(
            name,
            b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

/// The parts of a path without `.` and `..`; `None` when it leads above its root.
pub(super) fn normalise(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts)
}

pub(super) fn check_attributes(entry: &Entry) -> Result<(), UnpackError> {
    let trusted = |(name, _): &(Vec<u8>, Vec<u8>)| name.starts_with(b"trusted.");
    if entry.xattrs.iter().any(trusted) {
        return Err(At(entry).refused("it sets attributes of the overlay itself"));
    }
    Ok(())
}

pub(super) fn travelling(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| xattr_travels(name))
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
}
