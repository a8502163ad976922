//! What of a folder everybody may read, and a layer that hides the rest.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::GroundError;

/// Most entries of a folder, with all below it.
const MAX_ENTRIES: u64 = 4_000_000;
/// Deepest folder that is shown.
const MAX_DEPTH: usize = 128;

/// Whether boxes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everybody may read it.
    Show,
    /// Not everybody may, or it is neither file, folder nor link.
    Hide,
}

/// The only place where it is decided what is shown.
pub fn judge_mode(mode: u32) -> Verdict {
    let shown = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => mode & 0o004 != 0,
        FileType::Directory => mode & 0o005 == 0o005,
        FileType::Symlink => true,
        _ => false,
    };
    match shown {
        true => Verdict::Show,
        false => Verdict::Hide,
    }
}

/// The same of what std has looked at.
pub fn judge(meta: &Metadata) -> Verdict {
    judge_mode(meta.mode())
}

/// Opens a folder, not through a link.
pub fn open_folder(
    at: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// What is in a folder; what is gone meanwhile is left out.
pub fn entries(folder: &OwnedFd, path: &Path) -> Result<Vec<(Vec<u8>, Stat)>, GroundError> {
    let read = || -> rustix::io::Result<_> {
        let mut found = Vec::new();
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => found.push((name.to_owned(), stat)),
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    };
    read().map_err(GroundError::file("list", path))
}

/// Makes a layer at `mask` that hides of `source` what is not to be seen; whether there is any, else it is not made.
pub fn mask(
    source: &Path,
    mask: &Path,
    hidden: &dyn Fn(&Path) -> bool,
) -> Result<bool, GroundError> {
    let mut found = Found::default();
    let top = open_folder(CWD, source).map_err(GroundError::file("open", source))?;
    let stat = rustix::fs::fstat(&top).map_err(GroundError::file("look at", source))?;
    found.folder(source, &top, 0, hidden)?;
    if found.hidden.is_empty() {
        return Ok(false);
    }
    fs::create_dir_all(mask).map_err(GroundError::file("make", mask))?;
    dress(mask, &stat)?;
    for (folder, stat) in &found.above {
        let target = below(mask, source, folder);
        fs::create_dir(&target).map_err(GroundError::file("make", &target))?;
        dress(&target, stat)?;
    }
    for path in &found.hidden {
        let target = below(mask, source, path);
        rustix::fs::mknodat(CWD, &target, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(GroundError::file("hide", path))?;
    }
    Ok(true)
}

fn below(mask: &Path, source: &Path, path: &Path) -> PathBuf {
    mask.join(path.strip_prefix(source).unwrap_or(path))
}

/// A folder of a layer stands for the one below: it looks the same.
pub fn dress(folder: &Path, like: &Stat) -> Result<(), GroundError> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    rustix::fs::chown(folder, Some(uid), Some(gid)).map_err(GroundError::file("give", folder))?;
    let mode = Mode::from_raw_mode(like.st_mode & 0o7777);
    rustix::fs::chmod(folder, mode).map_err(GroundError::file("give", folder))
}

#[derive(Default)]
struct Found {
    hidden: Vec<PathBuf>,
    /// Folders that hold something hidden, those above first.
    above: BTreeMap<PathBuf, Stat>,
    seen: u64,
}

impl Found {
    /// Looks through a folder; whether something in it is hidden.
    fn folder(
        &mut self,
        path: &Path,
        folder: &OwnedFd,
        depth: usize,
        hidden: &dyn Fn(&Path) -> bool,
    ) -> Result<bool, GroundError> {
        let before = self.hidden.len();
        for (name, stat) in entries(folder, path)? {
            self.seen += 1;
            if self.seen > MAX_ENTRIES {
                return Err(GroundError::TooMuch {
                    path: path.to_owned(),
                    what: "files and folders",
                    most: MAX_ENTRIES,
                });
            }
            let name = OsStr::from_bytes(&name);
            let path = path.join(name);
            if hidden(&path) || judge_mode(stat.st_mode) == Verdict::Hide || depth >= MAX_DEPTH {
                self.hidden.push(path);
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            match open_folder(folder, name) {
                Ok(inner) => {
                    if self.folder(&path, &inner, depth + 1, hidden)? {
                        self.above.insert(path, stat);
                    }
                }
                // Gone, or another thing by now.
                Err(
                    rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP,
                ) => {
                    self.hidden.push(path);
                }
                Err(error) => return Err(GroundError::file("open", &path)(error)),
            }
        }
        Ok(self.hidden.len() > before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_everybody_may_read_is_shown() {
        for (mode, shown) in [
            (0o100_644, true),
            (0o104_755, true),
            (0o100_640, false),
            (0o100_711, false),
            (0o040_755, true),
            (0o041_777, true),
            (0o040_711, false),
            (0o040_754, false),
            (0o120_777, true),
            (0o140_777, false),
            (0o010_666, false),
            (0o020_666, false),
            (0o060_666, false),
        ] {
            assert_eq!(judge_mode(mode) == Verdict::Show, shown, "{mode:o}");
        }
    }
}
