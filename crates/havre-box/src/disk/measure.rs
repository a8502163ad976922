//! What is there: of folders, and of files that are open and in no folder any more. Blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};

/// Folders in folders that are looked into; each is held open.
const DEEPEST: usize = 200;
/// Open files that are looked at.
const MOST_OPEN: usize = 50_000;

/// What something takes of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What the file system has given it.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
    /// There are folders deeper than anybody looks.
    pub is_partial: bool,
}

impl Taken {
    fn add(&mut self, stat: &Stat, seen: &mut BTreeSet<(u64, u64)>) {
        let several = stat.st_nlink > 1 && !FileType::from_raw_mode(stat.st_mode).is_dir();
        if several && !seen.insert((stat.st_dev, stat.st_ino)) {
            return;
        }
        self.files += 1;
        self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            files: self.files + other.files,
            is_partial: self.is_partial || other.is_partial,
        }
    }
}

/// All below a folder, of its file system alone; no link is followed. What vanishes meanwhile is not counted.
pub fn of_tree(folder: &Path) -> io::Result<Taken> {
    let mut taken = Taken::default();
    let mut seen = BTreeSet::new();
    let top = open(CWD, folder.as_os_str())?;
    let stat = rustix::fs::fstat(&top)?;
    taken.add(&stat, &mut seen);
    let mut open_folders = vec![Dir::read_from(&top)?];
    loop {
        let depth = open_folders.len();
        let Some(dir) = open_folders.last_mut() else {
            return Ok(taken);
        };
        let Some(entry) = dir.read() else {
            open_folders.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let at = dir.fd()?;
        let Some(found) = there(rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW))? else {
            continue;
        };
        taken.add(&found, &mut seen);
        if !FileType::from_raw_mode(found.st_mode).is_dir() || found.st_dev != stat.st_dev {
            continue;
        }
        if depth >= DEEPEST {
            taken.is_partial = true;
            continue;
        }
        let inner = there(open(at, OsStr::from_bytes(name.to_bytes())))?;
        if let Some(inner) = inner {
            open_folders.push(Dir::read_from(&inner)?);
        }
    }
}

fn open(at: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// What was removed or replaced meanwhile is not there.
fn there<T>(found: rustix::io::Result<T>) -> io::Result<Option<T>> {
    use rustix::io::Errno;
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Of the processes in control groups with these names: files that no folder has any more, on the file system of
/// `disk` or an overlay, which lies there.
pub fn of_processes(
    groups: &BTreeMap<String, String>,
    disk: &Path,
) -> io::Result<BTreeMap<String, Taken>> {
    let device = rustix::fs::stat(disk)?.st_dev;
    let mut all: BTreeMap<String, Taken> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut looked = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        if !name.iter().all(u8::is_ascii_digit) {
            continue;
        }
        // It may end at any moment.
        let Ok(text) = havre_base::read_small(&path.join("cgroup"), 64 << 10) else {
            continue;
        };
        let names = text.lines().filter_map(|line| line.rsplit('/').next());
        let Some(owner) = names.filter_map(|name| groups.get(name)).next() else {
            continue;
        };
        let taken = all.entry(owner.clone()).or_default();
        for file in fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            looked += 1;
            if looked > MOST_OPEN {
                return Ok(all);
            }
            let Ok(stat) = rustix::fs::stat(file.path()) else {
                continue;
            };
            let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
            if !is_file || stat.st_nlink > 0 || !seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            let is_overlay =
                || rustix::fs::statfs(file.path()).is_ok_and(|found| found.f_type == OVERLAY);
            if stat.st_dev == device || is_overlay() {
                taken.files += 1;
                taken.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            }
        }
    }
    Ok(all)
}

/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY: rustix::fs::FsWord = 0x794c_7630;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_tree_is_what_it_takes_whatever_its_links_say() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).expect("folders");
        fs::write(at("a/b/file"), vec![1; 300_000]).expect("a file");
        fs::hard_link(at("a/b/file"), at("again")).expect("a name more");
        std::os::unix::fs::symlink("/usr", at("elsewhere")).expect("a link");
        let sparse = fs::File::create(at("sparse")).expect("a file");
        sparse.set_len(1 << 40).expect("long");
        let taken = of_tree(dir.path()).expect("a look");
        assert_eq!((taken.files, taken.is_partial), (6, false));
        assert!((300_000..400_000).contains(&taken.bytes), "{taken:?}");
        let deep = "d/".repeat(DEEPEST + 10);
        fs::create_dir_all(at(&deep)).expect("deep folders");
        assert!(of_tree(dir.path()).expect("a look").is_partial);
    }

    #[test]
    fn what_is_open_and_removed_is_seen() {
        let own = fs::read_to_string("/proc/self/cgroup").expect("a group");
        let own = own.lines().next().and_then(|it| it.rsplit('/').next());
        let groups = [(own.unwrap_or_default().to_owned(), "me".to_owned())].into();
        let mut file = tempfile::tempfile_in("/var/tmp").expect("a file");
        file.write_all(&vec![1; 300_000]).expect("written");
        let taken = of_processes(&groups, Path::new("/var/tmp")).expect("a look");
        assert!(taken["me"].bytes >= 300_000, "{taken:?}");
    }
}
