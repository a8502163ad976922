//! A new volume starts with what the image has in its place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Uid, XattrFlags};

/// On a volume whose first filling has begun and not ended.
const UNFINISHED: &str = "trusted.havre.filling";

/// Deepest folder that is copied.
const MAX_DEPTH: usize = 64;

/// Fills the volume mounted at `target` from the folder that it covers, if it is empty. Two
/// containers starting at once take turns; a filling cut short is done again.
pub fn populate(image: OwnedFd, target: &str) -> io::Result<()> {
    let volume = open_dir(rustix::fs::CWD, target)?;
    rustix::fs::flock(&volume, FlockOperation::LockExclusive)?;
    let unfinished = rustix::fs::fgetxattr(&volume, UNFINISHED, &mut [0u8; 1][..]).is_ok();
    if !unfinished && !is_empty(&volume)? {
        return Ok(());
    }
    // Not every file system keeps such a mark; then an interruption shows as a partial copy.
    let marked = rustix::fs::fsetxattr(&volume, UNFINISHED, b"1", XattrFlags::empty()).is_ok();
    copy_dir(&image, &volume, MAX_DEPTH)?;
    if marked || unfinished {
        rustix::fs::fremovexattr(&volume, UNFINISHED)?;
    }
    Ok(())
}

fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

fn is_empty(dir: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b".." | b"lost+found") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies contents, then owner and mode of the folder itself.
fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "folders nested too deeply",
        ));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        copy_entry(from, to, name, depth)?;
    }
    let stat = rustix::fs::fstat(from)?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            ignore_existing(rustix::fs::mkdirat(to, name, Mode::RWXU))?;
            copy_dir(&open_dir(from, name)?, &open_dir(to, name)?, depth - 1)?;
        }
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let write = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, read, Mode::empty())?;
            let copy = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?;
            let mut copy = std::fs::File::from(copy);
            io::copy(&mut std::fs::File::from(source), &mut copy)?;
            rustix::fs::fchown(&copy, Some(uid), Some(gid))?;
            rustix::fs::fchmod(&copy, mode)?;
        }
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(from, name, Vec::new())?;
            ignore_existing(rustix::fs::symlinkat(link, to, name))?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(to, name, Some(uid), Some(gid), flags)?;
        }
        kind => {
            ignore_existing(rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev))?;
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(to, name, Some(uid), Some(gid), flags)?;
        }
    }
    Ok(())
}

/// A filling that is done again finds some of its work.
fn ignore_existing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
