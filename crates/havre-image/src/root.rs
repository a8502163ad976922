//! A folder taken as the root of a file system: paths in it never lead out of it.
//!
//! Every component is opened relative to its parent without following links; links are expanded
//! here, absolute ones from this root. So a link in an image means what it means in a container, and
//! the links of `/proc` to what a process has open are refused.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// The root.
#[derive(Debug)]
pub struct Root {
    dir: Arc<OwnedFd>,
}

/// A name in an existing folder.
#[derive(Debug)]
pub struct Spot {
    /// The folder.
    pub dir: Arc<OwnedFd>,
    /// The name in it; `.` for the root itself.
    pub name: OsString,
    /// What is there, if anything; a link only where links were not to be followed.
    pub stat: Option<Stat>,
}

/// Finishes a folder that was just made: owner, mode.
pub type Finish<'a> = &'a dyn Fn(&OwnedFd, &OsStr) -> io::Result<()>;

impl Root {
    /// The folder at `path` of this process.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            dir: Arc::new(openat(CWD, path, flags, Mode::empty())?),
        })
    }

    /// The name `path` ends in. All folders on the way must exist.
    pub fn spot(&self, path: &Path, follow: bool) -> io::Result<Spot> {
        self.resolve(path, follow, None)
    }

    /// The same; folders on the way are made when missing.
    pub fn spot_making(&self, path: &Path, finish: Finish<'_>) -> io::Result<Spot> {
        self.resolve(path, true, Some(finish))
    }

    /// What is at `path`, links followed; `None` when there is nothing.
    pub fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        match self.spot(path, true) {
            Ok(spot) => Ok(spot.stat),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// A small text file; `None` when it is missing.
    pub fn read_text(&self, path: &Path, limit: u64) -> io::Result<Option<String>> {
        use std::io::Read as _;
        let spot = match self.spot(path, true) {
            Ok(spot) if spot.is(FileType::RegularFile) => spot,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        spot.open_file()?.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn resolve(&self, path: &Path, follow: bool, make: Option<Finish<'_>>) -> io::Result<Spot> {
        let mut todo: VecDeque<OsString> = components(path.as_os_str());
        let mut stack = vec![self.dir.clone()];
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let here = stack[stack.len() - 1].clone();
            let stat = lstat(&here, &name)?;
            let last = todo.is_empty();
            match stat.map(|stat| (kind(&stat), stat)) {
                Some((FileType::Symlink, _)) if follow || !last => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    refuse_link_of_a_process(&here, &name)?;
                    let target = OsString::from_vec(readlinkat(&here, &name, Vec::new())?.into());
                    if target.as_bytes().starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let mut rest = components(&target);
                    rest.append(&mut todo);
                    todo = rest;
                }
                found if last => {
                    return Ok(Spot {
                        dir: here,
                        name,
                        stat: found.map(|(_, stat)| stat),
                    });
                }
                Some((FileType::Directory, _)) => stack.push(open_folder(&here, &name)?),
                Some(_) => return Err(Errno::NOTDIR.into()),
                None => match make {
                    None => return Err(Errno::NOENT.into()),
                    Some(finish) => {
                        match mkdirat(&here, &name, Mode::from_raw_mode(0o755)) {
                            Ok(()) => finish(&here, &name)?,
                            // Another process has made it just now.
                            Err(Errno::EXIST) => {}
                            Err(error) => return Err(error.into()),
                        }
                        stack.push(open_folder(&here, &name)?);
                    }
                },
            }
        }
        // The path ends in the root itself, or in `..` of a folder.
        let dir = stack.pop().unwrap_or_else(|| self.dir.clone());
        let stat = rustix::fs::fstat(&dir)?;
        Ok(Spot {
            dir,
            name: ".".into(),
            stat: Some(stat),
        })
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.dir).as_fd()
    }
}

impl Spot {
    /// Whether something of that kind is there.
    pub fn is(&self, wanted: FileType) -> bool {
        self.stat.as_ref().is_some_and(|stat| kind(stat) == wanted)
    }

    /// Opens the folder there.
    pub fn open_folder(&self) -> io::Result<Arc<OwnedFd>> {
        open_folder(&self.dir, &self.name)
    }

    /// Opens the regular file there for reading.
    pub fn open_file(&self) -> io::Result<std::fs::File> {
        open_file(&self.dir, &self.name)
    }
}

/// Opens a regular file for reading; anything else is an error.
pub fn open_file(dir: &OwnedFd, name: &OsStr) -> io::Result<std::fs::File> {
    crate::regular::open_at(dir, name, OFlags::NOFOLLOW)
}

/// Opens a folder for reading; a link is an error.
pub fn open_folder(dir: &OwnedFd, name: &OsStr) -> io::Result<Arc<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(Arc::new(openat(dir.as_fd(), name, flags, Mode::empty())?))
}

/// The text of a link in `/proc` to what a process has open says nothing of where it leads.
fn refuse_link_of_a_process(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    const TEXTS: [&str; 4] = ["self", "thread-self", "mounts", "net"];
    let of_processes = rustix::fs::fstatfs(dir)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
    if of_processes && !TEXTS.iter().any(|text| name == *text) {
        return Err(io::Error::other(
            "it leads through a link of a process, which is not followed",
        ));
    }
    Ok(())
}

/// What is there, links not followed; `None` when there is nothing.
pub fn lstat(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<Stat>> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a `stat` is about.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Names in a folder, in order.
pub fn names(dir: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsStr::from_bytes(part).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn finish(_: &OwnedFd, _: &OsStr) -> io::Result<()> {
        Ok(())
    }

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().expect("a folder");
        let dir = outside.path().join("root");
        fs::create_dir_all(dir.join("usr/bin")).expect("folders");
        fs::write(outside.path().join("secret"), "x").expect("a file");
        fs::write(dir.join("usr/bin/sh"), "sh").expect("a file");
        symlink("/usr/bin", dir.join("bin")).expect("a link");
        symlink("../../../../secret", dir.join("usr/up")).expect("a link");
        symlink("/new/place", dir.join("dangling")).expect("a link");
        symlink("loop", dir.join("loop")).expect("a link");
        let root = Root::open(&dir).expect("the root opens");

        let text = root.read_text(Path::new("/bin/sh"), 10).expect("it reads");
        assert_eq!(text.as_deref(), Some("sh"));
        assert!(
            root.stat(Path::new("usr/up"))
                .expect("it resolves")
                .is_none()
        );
        assert!(
            root.stat(Path::new("../../../secret"))
                .expect("it resolves")
                .is_none()
        );
        assert!(root.spot(Path::new("loop/x"), true).is_err());
        assert!(root.spot(Path::new("usr/bin/sh/x"), true).is_err());
        let link = root.spot(Path::new("bin"), false).expect("it resolves");
        assert!(link.is(FileType::Symlink));

        let spot = root
            .spot_making(Path::new("/dangling/a/b"), &finish)
            .expect("it is made");
        assert!(spot.stat.is_none());
        assert!(dir.join("new/place/a").is_dir());
        let spot = root.spot(Path::new("/"), true).expect("the root");
        assert!(spot.is(FileType::Directory));
    }
}
