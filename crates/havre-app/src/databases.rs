//! Looks for databases where services write, so that two never use one at once.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use havre_api::EnvironmentId;
use havre_model::{
    FoundDatabases, HEAD_BYTES, Mount, is_database_head, is_database_name, is_volume_name,
    writable_mounts,
};
use havre_release::Release;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::platform::Platform;
use crate::volumes::volume_name;

/// Folders below what is mounted in which is looked.
const DEPTH: usize = 4;
/// Names looked at in what one mount mounts; a folder of logs may have any number.
const NAMES: usize = 5000;

/// Looks where services of these releases write. Blocks.
pub(crate) fn find(
    platform: &Platform,
    id: &EnvironmentId,
    releases: &[&Release],
) -> FoundDatabases {
    let mut found = FoundDatabases::default();
    for release in releases {
        for service in release.services.values() {
            for mount in writable_mounts(&service.service) {
                let Some(place) = place(platform, id, release, mount) else {
                    continue;
                };
                match database_in(&place) {
                    Ok(Some(file)) => found.note(mount, file),
                    Ok(None) => {}
                    // What is not there yet has none in it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let place = place.display();
                        tracing::warn!(%place, %error, "not looked through for databases");
                    }
                }
            }
        }
    }
    found
}

/// Where on this machine a mount leads.
fn place(
    platform: &Platform,
    id: &EnvironmentId,
    release: &Release,
    mount: &Mount,
) -> Option<PathBuf> {
    match mount {
        Mount::Volume {
            name,
            backing,
            subpath,
            ..
        } => {
            let volume = release.volumes.get(name).cloned().unwrap_or_default();
            let own = volume_name(id, name, &volume);
            let whole = match backing {
                Some(folder) => folder.clone(),
                None if is_volume_name(&own) => platform.volumes_dir().join(own).join("data"),
                // Nothing is mounted from a path.
                None => return None,
            };
            Some(whole.join(subpath.as_deref().unwrap_or_default()))
        }
        Mount::Bind { source, .. } => Some(source.clone()),
        Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
    }
}

/// A database's file in a folder, or the file itself if it is one. Containers write there: no link
/// is followed, and nothing but folders and the heads of regular files is opened.
fn database_in(place: &Path) -> io::Result<Option<PathBuf>> {
    let top = openat(
        CWD,
        place,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    if FileType::from_raw_mode(fstat(&top)?.st_mode) == FileType::RegularFile {
        let name = PathBuf::from(place.file_name().unwrap_or_default());
        let named = is_database_name(&name.to_string_lossy());
        return Ok((named || begins_as_database(&top)?).then_some(name));
    }
    // By breadth: what a database keeps stands at the top.
    let mut folders = VecDeque::from([(PathBuf::new(), 0)]);
    let mut left = NAMES;
    while let Some((folder, depth)) = folders.pop_front() {
        let opened = match folder.as_os_str().is_empty() {
            true => top.try_clone().map(Some),
            false => beneath(top.as_fd(), &folder, OFlags::DIRECTORY),
        };
        let Some(opened) = opened? else { continue };
        for entry in Dir::new(opened)? {
            let entry = entry?;
            let Some(name) = plain(entry.file_name()) else {
                continue;
            };
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return Ok(None),
            };
            let path = folder.join(name);
            let kind = entry.file_type();
            let known = matches!(kind, FileType::RegularFile | FileType::Directory);
            if known && is_database_name(name) || is_database(top.as_fd(), &path, kind)? {
                return Ok(Some(path));
            }
            if kind == FileType::Directory && depth < DEPTH {
                folders.push_back((path, depth + 1));
            }
        }
    }
    Ok(None)
}

fn plain(name: &CStr) -> Option<&str> {
    name.to_str()
        .ok()
        .filter(|name| !matches!(*name, "." | ".."))
}

/// Whether it is a file that may be a database by its name, and is by how it begins.
fn is_database(top: BorrowedFd<'_>, path: &Path, kind: FileType) -> io::Result<bool> {
    let end = path
        .extension()
        .map(|end| end.to_string_lossy().into_owned());
    let may_be = match end.as_deref() {
        None => true,
        Some(end) => matches!(end, "db" | "data" | "dat" | "sdb" | "s3db"),
    };
    if kind != FileType::RegularFile || !may_be {
        return Ok(false);
    }
    match beneath(top, path, OFlags::NONBLOCK)? {
        Some(file) => begins_as_database(&file),
        None => Ok(false),
    }
}

/// Opens what is there; `None` where it is gone, or something else has taken its place.
fn beneath(top: BorrowedFd<'_>, path: &Path, more: OFlags) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(top, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Some(file)),
        Err(
            rustix::io::Errno::NOENT
            | rustix::io::Errno::LOOP
            | rustix::io::Errno::XDEV
            | rustix::io::Errno::NOTDIR
            | rustix::io::Errno::NXIO,
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn begins_as_database(file: &OwnedFd) -> io::Result<bool> {
    if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut head = [0; HEAD_BYTES];
    let got = rustix::io::pread(file, &mut head, 0)?;
    Ok(is_database_head(&head[..got]))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn found(make: impl FnOnce(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let found = database_in(dir.path()).unwrap();
        found.map(|path| path.display().to_string())
    }

    #[test]
    fn databases_are_found_by_name_and_by_how_they_begin() {
        let write = |dir: &Path, name: &str, text: &[u8]| {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(found(|_| {}), None);
        let logs = |dir: &Path| {
            write(dir, "app.log", b"SQLite format 3\0 is what it said");
            write(dir, "state.db", b"not yet");
        };
        assert_eq!(found(logs), None);
        let sqlite = |dir: &Path| {
            logs(dir);
            write(dir, "data/app.db", b"SQLite format 3\0....");
        };
        assert_eq!(found(sqlite).as_deref(), Some("data/app.db"));
        let postgres = |dir: &Path| write(dir, "pgdata/PG_VERSION", b"17\n");
        assert_eq!(found(postgres).as_deref(), Some("pgdata/PG_VERSION"));
    }

    #[test]
    fn what_leads_elsewhere_or_hangs_is_not_opened() {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("app.db"), b"SQLite format 3\0....").unwrap();
        fs::write(other.path().join("PG_VERSION"), b"17\n").unwrap();
        let links = |dir: &Path| {
            symlink(other.path(), dir.join("away")).unwrap();
            symlink(other.path().join("app.db"), dir.join("app.db")).unwrap();
            symlink(other.path().join("PG_VERSION"), dir.join("PG_VERSION")).unwrap();
            let fifo = dir.join("pipe.db");
            let mode = Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        };
        assert_eq!(found(links), None);
    }

    #[test]
    fn a_folder_of_many_files_is_given_up() {
        let many = |dir: &Path| {
            for number in 0..=NAMES {
                fs::write(dir.join(format!("{number}.log")), "").unwrap();
            }
            fs::create_dir(dir.join("below")).unwrap();
            fs::write(dir.join("below/PG_VERSION"), "17").unwrap();
        };
        assert_eq!(found(many), None);
    }
}
