//! Copies of what everybody may read.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};

use super::walk::{self, Verdict, judge_mode};
use super::{GroundError, fresh};

/// Most bytes of one of these folders.
const MAX_BYTES: u64 = 512 << 20;
/// Most entries of one.
const MAX_ENTRIES: u64 = 200_000;
/// Deepest folder that is copied.
const MAX_DEPTH: usize = 64;

/// Copies a folder of the machine below `root`, with owners, modes and times; nothing where there is none.
pub fn tree(source: &Path, root: &Path, secret: &dyn Fn(&Path) -> bool) -> Result<(), GroundError> {
    let target = root.join(source.strip_prefix("/").unwrap_or(source));
    let folder = match walk::open_folder(CWD, source) {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            return Ok(());
        }
        Err(error) => return Err(GroundError::file("open", source)(error)),
    };
    let stat = rustix::fs::fstat(&folder).map_err(GroundError::file("look at", source))?;
    if judge_mode(stat.st_mode) == Verdict::Hide {
        return Ok(());
    }
    fresh::folder(&target, 0o755)?;
    let mut copy = Copy {
        top: source.to_owned(),
        bytes: 0,
        entries: 0,
        secret,
    };
    copy.folder(source, &folder, &target, 0)?;
    walk::dress(&target, &stat)
}

struct Copy<'a> {
    top: PathBuf,
    bytes: u64,
    entries: u64,
    secret: &'a dyn Fn(&Path) -> bool,
}

impl Copy<'_> {
    fn folder(
        &mut self,
        path: &Path,
        folder: &OwnedFd,
        target: &Path,
        depth: usize,
    ) -> Result<(), GroundError> {
        for (name, stat) in walk::entries(folder, path)? {
            self.count(0)?;
            let name = OsStr::from_bytes(&name);
            let (path, target) = (path.join(name), target.join(name));
            if (self.secret)(&path)
                || judge_mode(stat.st_mode) == Verdict::Hide
                || depth >= MAX_DEPTH
            {
                continue;
            }
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let Some(inner) = there(walk::open_folder(folder, name), &path)? else {
                        continue;
                    };
                    std::fs::create_dir(&target).map_err(GroundError::file("make", &target))?;
                    self.folder(&path, &inner, &target, depth + 1)?;
                    walk::dress(&target, &stat)?;
                }
                FileType::Symlink => {
                    let link = rustix::fs::readlinkat(folder, name, Vec::new());
                    let Some(to) = there(link, &path)? else {
                        continue;
                    };
                    let made = rustix::fs::symlink(to, &target);
                    made.map_err(GroundError::file("make", &target))?;
                }
                _ => self.file(folder, name, &path, &target)?,
            }
        }
        Ok(())
    }

    /// What is copied is what was judged: by its descriptor.
    fn file(
        &mut self,
        folder: &OwnedFd,
        name: &OsStr,
        path: &Path,
        target: &Path,
    ) -> Result<(), GroundError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, name, flags, Mode::empty());
        let Some(opened) = there(opened, path)? else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&opened).map_err(GroundError::file("look at", path))?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || judge_mode(stat.st_mode) == Verdict::Hide {
            return Ok(());
        }
        let mut to = File::create_new(target).map_err(GroundError::file("make", target))?;
        let mut from = File::from(opened).take(MAX_BYTES - self.bytes + 1);
        let copied = io::copy(&mut from, &mut to).map_err(GroundError::file("copy", path))?;
        self.count(copied)?;
        dress_file(&to, &stat).map_err(GroundError::file("give", target))
    }

    fn count(&mut self, bytes: u64) -> Result<(), GroundError> {
        self.entries += 1;
        self.bytes += bytes;
        let too_much = |what, most| GroundError::TooMuch {
            path: self.top.clone(),
            what,
            most,
        };
        if self.entries > 2 * MAX_ENTRIES {
            return Err(too_much("files and folders", MAX_ENTRIES));
        }
        match self.bytes > MAX_BYTES {
            true => Err(too_much("bytes", MAX_BYTES)),
            false => Ok(()),
        }
    }
}

/// `None`: it is gone, or another thing by now.
fn there<T>(result: rustix::io::Result<T>, path: &Path) -> Result<Option<T>, GroundError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(
            rustix::io::Errno::NOENT
            | rustix::io::Errno::NOTDIR
            | rustix::io::Errno::LOOP
            | rustix::io::Errno::INVAL
            | rustix::io::Errno::NXIO,
        ) => Ok(None),
        Err(error) => Err(GroundError::file("read", path)(error)),
    }
}

fn dress_file(file: &File, like: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(like.st_mode & 0o7777))?;
    let time = Timespec {
        tv_sec: like.st_mtime,
        tv_nsec: like.st_mtime_nsec.cast_signed(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(file, "", &times, AtFlags::EMPTY_PATH)
}
