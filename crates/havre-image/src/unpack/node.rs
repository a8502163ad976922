//! Single steps on files of a layer, each relative to a descriptor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use crate::archive::Entry;

/// The entry that an operation serves.
pub(super) struct At<'a>(pub &'a Entry);

impl At<'_> {
    pub fn refused(&self, reason: &'static str) -> UnpackError {
        UnpackError::Refused {
            path: self.0.display_path(),
            reason,
        }
    }

    pub fn error(&self, operation: &'static str, source: io::Error) -> UnpackError {
        UnpackError::Io {
            operation,
            path: self.0.display_path(),
            source,
        }
    }

    pub fn io<T>(
        &self,
        operation: &'static str,
        result: rustix::io::Result<T>,
    ) -> Result<T, UnpackError> {
        result.map_err(|errno| self.error(operation, errno.into()))
    }

    /// Links, and file systems without them, go without attributes; a program must not go
    /// without its capabilities.
    pub fn attribute(
        &self,
        name: &[u8],
        result: rustix::io::Result<()>,
    ) -> Result<(), UnpackError> {
        match result {
            Err(Errno::OPNOTSUPP | Errno::PERM) if name != b"security.capability" => Ok(()),
            other => self.io("set an attribute of", other),
        }
    }
}

pub(super) fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Opens a folder below `root`; `resolve` says whether links on the way are followed inside it.
pub(super) fn open_folder(
    root: &OwnedFd,
    path: &[u8],
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, folder_flags(), Mode::empty(), resolve)
}

pub(super) fn stat(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind_of(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn set_opaque(folder: &OwnedFd, at: &At<'_>) -> Result<(), UnpackError> {
    let set = rustix::fs::fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty());
    at.io("mark the folder as opaque for", set)
}

pub(super) fn set_owner_and_mode(file: &OwnedFd, at: &At<'_>) -> Result<(), UnpackError> {
    let (uid, gid) = owner(at.0);
    at.io("set the owner of", rustix::fs::fchown(file, uid, gid))?;
    let mode = Mode::from(at.0.mode);
    at.io("set the permissions of", rustix::fs::fchmod(file, mode))
}

pub(super) fn set_owner_at(parent: &OwnedFd, name: &[u8], at: &At<'_>) -> Result<(), UnpackError> {
    let (uid, gid) = owner(at.0);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    at.io(
        "set the owner of",
        rustix::fs::chownat(parent, name, uid, gid, flags),
    )
}

pub(super) fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    // u32::MAX means "leave as it is" to the kernel and is nobody's id.
    let uid = (entry.uid != u32::MAX).then(|| Uid::from_raw(entry.uid));
    let gid = (entry.gid != u32::MAX).then(|| Gid::from_raw(entry.gid));
    (uid, gid)
}

/// A path to `name` in the folder behind a descriptor.
pub(super) fn through_proc(parent: &OwnedFd, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

pub(super) fn os(bytes: Vec<u8>) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes)
}
