//! What a mount shows of the host. Containers write to some of these folders, and may put a link where
//! another mount, or the next start, expects a folder: whoever asks has resolved the links of the host,
//! and no other is followed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::mounts;
use crate::sys;

/// Opens what is at `path`, as a place to mount from: through no link.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve) {
        Err(Errno::LOOP) => Err(io::Error::other(
            "a link is in its way, which was not there when the container was made",
        )),
        opened => Ok(opened?),
    }
}

/// A second mount of what a process sees at `path`, attached nowhere yet. For a process with one thread, which has a
/// namespace of mounts of its own, to which it comes back.
pub fn seen(by: u32, path: &str) -> io::Result<OwnedFd> {
    let namespace = |of: &str| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{of}/ns/mnt"), flags, Mode::empty())
    };
    let (own, theirs) = (namespace("self")?, namespace(&by.to_string())?);
    sys::setns(&theirs, libc::CLONE_NEWNS)?;
    let copied = open(Path::new(path)).and_then(|found| mounts::copy(found, "", true));
    sys::setns(&own, libc::CLONE_NEWNS)?;
    copied
}

/// Makes the folder at `path`, which is absolute, and those above it that are missing: through no link.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open("/", flags, Mode::empty())?;
    make_below(top, path).map(drop)
}

/// Opens `below` in `root`, and makes those of its folders that are missing: through no link. Where
/// one is made there is no link yet.
pub fn make_below(root: OwnedFd, below: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = root;
    for part in below.components() {
        let part = match part {
            Component::Normal(part) => part,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        let open = || rustix::fs::openat(&at, part, flags, Mode::empty());
        at = match open() {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
                    // Another container has made it just now.
                    Ok(()) | Err(Errno::EXIST) => open()?,
                    Err(error) => return Err(error.into()),
                }
            }
            opened => opened?,
        };
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = fs::canonicalize(dir.path()).expect("there");
        fs::create_dir_all(dir.join("there/below")).expect("a folder");
        fs::write(dir.join("file"), "").expect("a file");
        symlink(dir.join("there"), dir.join("link")).expect("a link");
        for (path, expected) in [
            ("there", true),
            ("there/below/", true),
            ("file", true),
            ("link", false),
            ("link/below", false),
            ("missing", false),
        ] {
            assert_eq!(open(&dir.join(path)).is_ok(), expected, "{path}");
        }
        for (path, expected) in [
            ("new/deep", true),
            ("there/new", true),
            ("link/new2", false),
            ("file/new", false),
        ] {
            assert_eq!(make_folder(&dir.join(path)).is_ok(), expected, "{path}");
            assert_eq!(dir.join(path).is_dir(), expected, "{path}");
        }
        assert!(!dir.join("there/new2").exists());
    }
}
