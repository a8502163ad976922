//! Who may reach what is the installation's own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::process::{getegid, geteuid};

/// Makes a folder or file this user's, with this mode.
pub(super) fn close(path: &Path, mode: u32) -> io::Result<()> {
    refuse_planted(path)?;
    let file = open(path)?;
    let meta = file.metadata()?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // The mode first: until then others go on getting in.
    if meta.mode() & 0o7777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    if (meta.uid(), meta.gid()) != (user, group) {
        fchown(&file, Some(user), Some(group))?;
    }
    Ok(())
}

/// The same, where there is such a folder or file.
pub(super) fn close_if_there(path: &Path, mode: u32) -> io::Result<()> {
    match close(path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Does not wait for the other end of a pipe that somebody put there.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// A link of another user's may lead to anything, whose mode and owner are not ours to change.
fn refuse_planted(path: &Path) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.file_type().is_symlink() && meta.uid() != geteuid().as_raw() {
        let message = format!("it is a link that user {} has made", meta.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// Lets the members of a group pass through a folder of this user's, and nothing else.
pub(super) fn let_through(path: &Path, group: u32) -> io::Result<()> {
    refuse_planted(path)?;
    let file = open(path)?;
    fchown(&file, None, Some(group))?;
    file.set_permissions(fs::Permissions::from_mode(0o710))
}
