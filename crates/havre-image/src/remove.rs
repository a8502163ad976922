//! Removes folders of any depth, at once or later.

use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// Levels of a folder that are entered one in another; what is deeper is moved up first. Each costs
/// a descriptor and a piece of the stack.
const MAX_LEVELS: usize = 64;

/// Removes a file or a whole folder; nothing there is fine. `path` must be nobody else's.
///
/// What containers and steps of a build leave may be deeper than a path can say, and than a thread's
/// stack bears: the standard way would end the process.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => remove_folder(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Moves what is in `from` into `into`, a folder of the same disk, but for what is kept; returns how
/// many there were. This takes no time, however large they are; [`remove_all_in`] does.
pub fn set_aside(from: &Path, into: &Path, keep: impl Fn(&OsStr) -> bool) -> io::Result<u64> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let (mut moved, mut next) = (0, 0);
    for entry in entries {
        let entry = entry?;
        if keep(&entry.file_name()) || entry.path() == into {
            continue;
        }
        fs::create_dir_all(into)?;
        fs::rename(entry.path(), free_name(into, &mut next)?)?;
        moved += 1;
    }
    Ok(moved)
}

/// Removes what [`set_aside`] has moved into a folder; goes on after one that cannot be removed, and
/// returns why those stay.
pub fn remove_all_in(folder: &Path) -> Vec<(PathBuf, io::Error)> {
    let mut stay = Vec::new();
    let here = |error| (folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return stay,
        Err(error) => return vec![here(error)],
    };
    for entry in entries {
        match entry {
            Ok(entry) => {
                let removed = remove_tree(&entry.path());
                stay.extend(removed.err().map(|error| (entry.path(), error)));
            }
            Err(error) => stay.push(here(error)),
        }
    }
    stay
}

fn free_name(folder: &Path, next: &mut u64) -> io::Result<PathBuf> {
    loop {
        let name = folder.join(next.to_string());
        *next += 1;
        match fs::symlink_metadata(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(name),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    let top = open(CWD, &path_name(path)?)?;
    let mut moved = 0;
    loop {
        let before = moved;
        empty(top.as_fd(), top.as_fd(), MAX_LEVELS, &mut moved)?;
        match fs::remove_dir(path) {
            // What was moved up comes in the next round.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && moved > before => {}
            result => return result,
        }
    }
}

/// Empties a folder. Folders that lie `levels` deep in it are moved up into `top`.
fn empty(
    folder: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    levels: usize,
    moved: &mut u64,
) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if !is_folder(folder, name, entry.file_type())? {
            unlinkat(folder, name, AtFlags::empty())?;
        } else if levels == 0 {
            move_up(folder, name, top, moved)?;
        } else {
            let inner = open(folder, name)?;
            empty(inner.as_fd(), top, levels - 1, moved)?;
            drop(inner);
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// Some file systems do not say it in their lists.
fn is_folder(folder: BorrowedFd<'_>, name: &CStr, told: FileType) -> io::Result<bool> {
    let known = match told {
        FileType::Unknown => {
            let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(found.st_mode)
        }
        told => told,
    };
    Ok(known == FileType::Directory)
}

fn move_up(
    folder: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        let free = format!("moved-{moved}");
        *moved += 1;
        match renameat_with(folder, name, top, free.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return Ok(result?),
        }
    }
}

fn open(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn path_name(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many folders one in another, each with a file and a neighbour.
    fn deep(root: &Path, levels: usize) {
        fs::create_dir(root).unwrap();
        let mut at = open(CWD, &path_name(root).unwrap()).unwrap();
        for _ in 0..levels {
            for name in ["abcdefgh", "moved-1"] {
                rustix::fs::mkdirat(&at, name, Mode::from(0o755)).unwrap();
            }
            let file = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&at, "moved-2", file, Mode::from(0o644)).unwrap();
            at = open(at.as_fd(), c"abcdefgh").unwrap();
        }
    }

    #[test]
    fn folders_deeper_than_a_path_can_say_and_a_stack_can_bear() {
        // In memory where that goes: these are many.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let root = dir.path().join("root");
        deep(&root, 20_000);
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        remove_tree(&root).unwrap();
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        fs::create_dir_all(other.join("kept")).unwrap();
        fs::create_dir_all(root.join("inner")).unwrap();
        std::os::unix::fs::symlink(&other, root.join("inner/link")).unwrap();
        remove_tree(&root).unwrap();
        assert!(other.join("kept").exists());
        std::os::unix::fs::symlink(&other, &root).unwrap();
        remove_tree(&root).unwrap();
        assert!(other.join("kept").exists());
    }

    #[test]
    fn what_is_set_aside_is_removed_later() {
        let dir = tempfile::tempdir().unwrap();
        let (from, into) = (dir.path().join("from"), dir.path().join("from/.aside"));
        assert_eq!(set_aside(&from, &into, |_| false).unwrap(), 0);
        let fill = || {
            for name in ["a/b", "kept/c"] {
                fs::create_dir_all(from.join(name)).unwrap();
            }
        };
        for _ in 0..2 {
            fill();
            let kept = |name: &OsStr| name == "kept";
            assert_eq!(set_aside(&from, &into, kept).unwrap(), 1);
            assert!(from.join("kept/c").exists() && !from.join("a").exists());
        }
        assert_eq!(fs::read_dir(&into).unwrap().count(), 2);
        assert_eq!(remove_all_in(&into).len(), 0);
        assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
        assert_eq!(remove_all_in(&dir.path().join("none")).len(), 0);
    }
}
