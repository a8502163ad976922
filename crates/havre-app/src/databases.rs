//! Looks for databases where services write, so that two never use one at once.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_model::{
    FoundDatabases, HEAD_BYTES, Mount, is_database_head, is_database_name, is_volume_name,
    writable_mounts,
};
use havre_release::Release;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::daemon::Daemon;
use crate::platform::Platform;
use crate::volumes::volume_name;

/// How far one mount is looked through: a folder of uploads may have any number of names.
#[derive(Clone, Copy)]
struct Limits {
    names: usize,
    /// Files of which the beginning is read.
    heads: usize,
}

const LIMITS: Limits = Limits {
    names: 200_000,
    heads: 20_000,
};

/// What is seen in what one mount mounts.
#[derive(Debug, PartialEq)]
enum Sight {
    Database(PathBuf),
    Nothing,
    /// It is more than is looked at.
    TooMuch,
}

/// Ends of files that are what they are called, and of which an application may keep very many.
const CONTENT: [&str; 32] = [
    "avif", "br", "bz2", "css", "csv", "docx", "gif", "gz", "html", "ico", "jpeg", "jpg", "js",
    "json", "log", "md", "mp3", "mp4", "pdf", "php", "png", "py", "svg", "ts", "txt", "webm",
    "webp", "xlsx", "xml", "yaml", "yml", "zip",
];

/// What is found where services of these two releases write.
pub(crate) async fn found(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    serving: Option<&Release>,
    next: &Release,
) -> Result<FoundDatabases, ApiError> {
    let releases: Vec<Release> = serving.into_iter().chain([next]).cloned().collect();
    let (platform, id) = (Arc::clone(&daemon.platform), id.clone());
    let found = tokio::task::spawn_blocking(move || {
        let releases: Vec<&Release> = releases.iter().collect();
        find(&platform, &id, &releases)
    });
    found
        .await
        .map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))
}

/// Looks where services of these releases write. Blocks.
fn find(platform: &Platform, id: &EnvironmentId, releases: &[&Release]) -> FoundDatabases {
    let mut found = FoundDatabases::default();
    for release in releases {
        for service in release.services.values() {
            for mount in writable_mounts(&service.service) {
                let Some(place) = place(platform, id, release, mount) else {
                    continue;
                };
                match database_in(&place, LIMITS) {
                    Ok(Sight::Database(file)) => found.note(mount, file),
                    Ok(Sight::Nothing) => {}
                    Ok(Sight::TooMuch) => {
                        let why = "there is too much in it to look through";
                        found.note_unclear(mount, why.to_owned());
                    }
                    // What is not there yet has none in it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        let place = place.display();
                        tracing::warn!(%place, %error, "not looked through for databases");
                        let why = format!("it could not be looked through: {error}");
                        found.note_unclear(mount, why);
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
fn database_in(place: &Path, limits: Limits) -> io::Result<Sight> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let top = match openat(CWD, place, flags, Mode::empty()) {
        Ok(top) => top,
        // A socket.
        Err(rustix::io::Errno::NXIO) => return Ok(Sight::Nothing),
        Err(error) => return Err(error.into()),
    };
    match FileType::from_raw_mode(fstat(&top)?.st_mode) {
        FileType::Directory => database_below(top.as_fd(), limits),
        FileType::RegularFile => {
            let name = PathBuf::from(place.file_name().unwrap_or_default());
            let named = is_database_name(&name.to_string_lossy());
            Ok(match named || begins_as_database(&top)? {
                true => Sight::Database(name),
                false => Sight::Nothing,
            })
        }
        // Pipes and devices hold nothing.
        _ => Ok(Sight::Nothing),
    }
}

fn database_below(top: BorrowedFd<'_>, limits: Limits) -> io::Result<Sight> {
    // By breadth: what a database keeps stands at the top.
    let mut folders = VecDeque::from([PathBuf::new()]);
    let (mut names, mut heads) = (limits.names, limits.heads);
    while let Some(folder) = folders.pop_front() {
        let opened = match folder.as_os_str().is_empty() {
            true => top.try_clone_to_owned().map(Some),
            false => beneath(top, &folder, OFlags::DIRECTORY),
        };
        let Some(opened) = opened? else { continue };
        for entry in Dir::new(opened)? {
            let entry = entry?;
            let Some(name) = plain(entry.file_name()) else {
                continue;
            };
            if names == 0 {
                return Ok(Sight::TooMuch);
            }
            names -= 1;
            let path = folder.join(name);
            let kind = match entry.file_type() {
                // Not every file system tells.
                FileType::Unknown => kind_of(top, &path)?,
                known => known,
            };
            let known = matches!(kind, FileType::RegularFile | FileType::Directory);
            if known && is_database_name(&name.to_string_lossy()) {
                return Ok(Sight::Database(path));
            }
            if kind == FileType::Directory {
                folders.push_back(path);
            } else if kind == FileType::RegularFile && !is_content(&path) {
                if heads == 0 {
                    return Ok(Sight::TooMuch);
                }
                heads -= 1;
                if is_database(top, &path)? {
                    return Ok(Sight::Database(path));
                }
            }
        }
    }
    Ok(Sight::Nothing)
}

fn plain(name: &CStr) -> Option<&OsStr> {
    let name = OsStr::from_bytes(name.to_bytes());
    (name != "." && name != "..").then_some(name)
}

/// What kind of file it is; unknown where it is gone.
fn kind_of(top: BorrowedFd<'_>, path: &Path) -> io::Result<FileType> {
    match beneath(top, path, OFlags::PATH)? {
        Some(file) => Ok(FileType::from_raw_mode(fstat(&file)?.st_mode)),
        None => Ok(FileType::Unknown),
    }
}

fn is_content(path: &Path) -> bool {
    let end = path.extension().and_then(OsStr::to_str);
    end.is_some_and(|end| CONTENT.contains(&end.to_ascii_lowercase().as_str()))
}

/// Whether it is a database by how it begins.
fn is_database(top: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
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
        match database_in(dir.path(), LIMITS).unwrap() {
            Sight::Database(path) => Some(path.display().to_string()),
            Sight::Nothing => None,
            Sight::TooMuch => panic!("few names are not too many"),
        }
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
        let other_end = |dir: &Path| write(dir, "a/b/c/d/e/f/shop.sl3", b"SQLite format 3\0....");
        assert_eq!(found(other_end).as_deref(), Some("a/b/c/d/e/f/shop.sl3"));
        let level = |dir: &Path| write(dir, "chain/MANIFEST-000012", b"");
        assert_eq!(found(level).as_deref(), Some("chain/MANIFEST-000012"));
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
    fn what_has_too_many_names_is_not_said_to_hold_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..4 {
            fs::write(dir.path().join(format!("{number}.jpg")), "").unwrap();
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        for (names, heads, sight) in [
            (8, 4, Sight::Nothing),
            (7, 4, Sight::TooMuch),
            (8, 3, Sight::TooMuch),
        ] {
            let seen = database_in(dir.path(), Limits { names, heads }).unwrap();
            assert_eq!(seen, sight, "{names} {heads}");
        }
    }

    #[test]
    fn a_socket_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(database_in(&path, LIMITS).unwrap(), Sight::Nothing);
        let missing = database_in(&dir.path().join("no"), LIMITS).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
