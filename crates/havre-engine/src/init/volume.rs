//! A new volume starts with what the image has in its place.
//!
//! Both sides are walked by descriptor and no link is followed, so that a link of the image is
//! copied as what it is and never leads to a file of the host.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use havre_image::root::Root;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// On a volume whose first filling has begun and not ended.
const UNFINISHED: &str = "trusted.havre.filling";

/// Longest wait for another container that is filling the volume; what sets a container up has a
/// minute.
const LOCK_DEADLINE: Duration = Duration::from_secs(40);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Deepest folder that is copied.
const MAX_DEPTH: usize = 128;

/// Most files with several names that are kept in mind; others become files of their own.
const MAX_LINKED: usize = 100_000;

/// Longest list of attributes, and longest attribute, that the kernel has.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Fills the folder `into` from the folder `target` of an image that is mounted at `image`, with
/// owners, modes and all. Links of the image mean what they mean in a container of it. Nothing is
/// done where the image has no such folder.
pub fn copy_folder(image: &Path, target: &str, into: &Path) -> io::Result<()> {
    let spot = match Root::open(image)?.spot(Path::new(target), true) {
        Ok(spot) if spot.is(FileType::Directory) => spot,
        Ok(_) => return Ok(()),
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
                _ => Err(error),
            };
        }
    };
    let into = open_dir(rustix::fs::CWD, into)?;
    Copy::to(&into).folder(&*spot.open_folder()?, &into, MAX_DEPTH)
}

/// Fills a volume from the folder that it is about to cover, if it is empty. Two containers
/// starting at once take turns; a filling cut short is done again.
///
/// Whoever uses the volume can hold its lock: nobody waits for it who has nothing to fill, and nobody
/// for long.
pub fn populate(image: &OwnedFd, volume: &OwnedFd) -> io::Result<()> {
    let (image, volume) = (open_dir(image, ".")?, open_dir(volume, ".")?);
    if is_filled(&volume)? {
        return Ok(());
    }
    lock(&volume, LOCK_DEADLINE)?;
    if is_filled(&volume)? {
        return Ok(());
    }
    let unfinished = is_unfinished(&volume);
    // Not every file system keeps such a mark; then an interruption shows as a partial copy.
    let marked = rustix::fs::fsetxattr(&volume, UNFINISHED, b"1", XattrFlags::empty()).is_ok();
    Copy::to(&volume).folder(&image, &volume, MAX_DEPTH)?;
    if marked || unfinished {
        rustix::fs::fremovexattr(&volume, UNFINISHED)?;
    }
    Ok(())
}

fn is_filled(volume: &OwnedFd) -> io::Result<bool> {
    Ok(!is_unfinished(volume) && !is_empty(volume)?)
}

fn is_unfinished(volume: &OwnedFd) -> bool {
    rustix::fs::fgetxattr(volume, UNFINISHED, &mut [0u8; 1][..]).is_ok()
}

/// The kernel wakes nobody at a deadline, so it is asked again and again.
fn lock(volume: &OwnedFd, longest: Duration) -> io::Result<()> {
    let end = Instant::now() + longest;
    loop {
        match rustix::fs::flock(volume, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() >= end => {
                return Err(io::Error::other(
                    "another container holds the volume's lock",
                ));
            }
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            locked => return Ok(locked?),
        }
    }
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

/// One copying.
struct Copy<'a> {
    /// Where it goes.
    top: &'a OwnedFd,
    /// The folder below it that is being filled.
    here: PathBuf,
    /// Where the first name of a file with several was copied to.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Copy<'a> {
    fn to(top: &'a OwnedFd) -> Self {
        Self {
            top,
            here: PathBuf::new(),
            linked: HashMap::new(),
        }
    }

    /// Copies contents, then what belongs to the folder itself.
    fn folder(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
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
            self.entry(from, to, name, depth)?;
        }
        keep_attributes(from, to, &rustix::fs::fstat(from)?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                ignore_existing(rustix::fs::mkdirat(to, name, Mode::RWXU))?;
                self.here.push(OsStr::from_bytes(name.to_bytes()));
                self.folder(&open_dir(from, name)?, &open_dir(to, name)?, depth - 1)?;
                self.here.pop();
                Ok(())
            }
            FileType::RegularFile => self.file(from, to, name, &stat),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                ignore_existing(rustix::fs::symlinkat(link, to, name))?;
                keep_owner(to, name, &stat)
            }
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                ignore_existing(rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev))?;
                keep_owner(to, name, &stat)
            }
        }
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&identity) {
            return self.link(first, to, name);
        }
        // A pipe that has taken the file's place meanwhile holds nobody up.
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let write =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, read, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&source)?.st_mode);
        if kind != FileType::RegularFile {
            return Err(io::Error::other("a file was replaced while it was copied"));
        }
        let copy = rustix::fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?;
        let (mut source, mut copy) = (std::fs::File::from(source), std::fs::File::from(copy));
        io::copy(&mut source, &mut copy)?;
        keep_attributes(&source, &copy, stat)?;
        if stat.st_nlink > 1 && self.linked.len() < MAX_LINKED {
            let path = self.here.join(OsStr::from_bytes(name.to_bytes()));
            self.linked.insert(identity, path);
        }
        Ok(())
    }

    /// Gives a file that was copied already one more name.
    fn link(&self, first: &Path, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        let (Some(folder), Some(file)) = (first.parent(), first.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let folder = rustix::fs::openat2(self.top, folder, flags, Mode::empty(), resolve)?;
        let linked = rustix::fs::linkat(folder, file, to, name, AtFlags::empty());
        ignore_existing(linked)
    }
}

/// Owner first: changing it clears set-user-ID bits and capabilities. Times last.
fn keep_attributes(from: impl AsFd, to: impl AsFd, stat: &Stat) -> io::Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; MAX_ATTRIBUTE];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0) {
        // What overlay and others keep for themselves is not the file's.
        if name.is_empty() || name.starts_with(b"trusted.") {
            continue;
        }
        let mut value = vec![0; MAX_ATTRIBUTE];
        let length = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::futimens(to, &times(stat))?;
    Ok(())
}

fn keep_owner(dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)?;
    rustix::fs::utimensat(dir, name, &times(stat), flags)?;
    Ok(())
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos as _,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// A filling that is done again finds some of its work.
fn ignore_existing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opened anew, so that locks are told apart.
    fn held(folder: &Path) -> OwnedFd {
        let folder = open_dir(rustix::fs::CWD, folder).expect("a folder");
        rustix::fs::flock(&folder, FlockOperation::LockExclusive).expect("locked");
        folder
    }

    #[test]
    fn who_holds_a_volumes_lock_keeps_nobody_from_it_for_long() {
        let dir = tempfile::tempdir().expect("a folder");
        let (image, full) = (dir.path().join("image"), dir.path().join("full"));
        for folder in [&image, &full] {
            std::fs::create_dir(folder).expect("a folder");
        }
        std::fs::write(full.join("kept"), "").expect("a file");
        let lock_of_full = held(&full);
        let open = |path: &Path| open_dir(rustix::fs::CWD, path).expect("a folder");
        populate(&open(&image), &open(&full)).expect("nothing to do");
        assert!(lock(&open(&full), Duration::from_millis(20)).is_err());
        drop(lock_of_full);
        lock(&open(&full), Duration::ZERO).expect("free");
    }
}
