//! A build's context, as a job sends it: what a stranger wrote, put into a folder that nobody else sees.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use havre_image::{Entry, EntryKind, TarReader};
use havre_job::images::{MAX_CONTEXT, MAX_ENTRIES};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// Until all of it is here.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Puts what follows into `folder`, which is empty, up to the end of the archive. Blocks.
pub(super) fn receive(source: impl Read, folder: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(folder, flags, Mode::empty())?;
    let bounded = Bounded {
        inner: source,
        left: MAX_CONTEXT,
        until: Instant::now() + DEADLINE,
    };
    let mut archive = TarReader::new(bounded);
    let mut entries = 0;
    while let Some(entry) = archive.next_entry().map_err(io::Error::other)? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "it has more than {MAX_ENTRIES} files and folders"
            )));
        }
        put(&top, &entry, &mut archive).map_err(|error| {
            let kind = error.kind();
            io::Error::new(kind, format!("{}: {error}", entry.display_path()))
        })?;
    }
    Ok(())
}

fn put(top: &OwnedFd, entry: &Entry, content: &mut impl Read) -> io::Result<()> {
    let path = PathBuf::from(OsStr::from_bytes(&entry.path));
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_owned()),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("it leads out of the context"));
            }
        }
    }
    let Some(name) = parts.pop() else {
        return Ok(());
    };
    let folder = below(top, &parts)?;
    let mode = Mode::from_raw_mode(entry.mode & 0o7777);
    match entry.kind {
        EntryKind::Directory => {
            match rustix::fs::mkdirat(&folder, &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let made = below(&folder, std::slice::from_ref(&name))?;
            rustix::fs::chmodat(&made, ".", mode, AtFlags::empty())?;
        }
        EntryKind::File => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(file);
            let copied = io::copy(&mut content.take(entry.size), &mut file)?;
            if copied != entry.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rustix::fs::fchmod(&file, mode)?;
            rustix::fs::futimens(&file, &times(entry))?;
        }
        EntryKind::Symlink => {
            rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &folder, &name)?;
        }
        EntryKind::Fifo
        | EntryKind::HardLink
        | EntryKind::CharDevice { .. }
        | EntryKind::BlockDevice { .. } => {
            return Err(io::Error::other(
                "it is neither a file, a folder nor a link",
            ));
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// A folder in another one, made where it is missing; through no link.
fn below(top: &OwnedFd, parts: &[std::ffi::OsString]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(top, ".", flags, Mode::empty())?;
    for part in parts {
        let open = || rustix::fs::openat(&at, part, flags, Mode::empty());
        at = match open() {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755))?;
                open()?
            }
            opened => opened?,
        };
    }
    Ok(at)
}

/// So many bytes, so long, and no more.
struct Bounded<R> {
    inner: R,
    left: u64,
    until: Instant,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            let minutes = DEADLINE.as_secs() / 60;
            return Err(io::Error::other(format!(
                "it is not here after {minutes} min"
            )));
        }
        if self.left == 0 {
            let gib = MAX_CONTEXT >> 30;
            return Err(io::Error::other(format!("it has more than {gib} GiB")));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use havre_image::TarWriter;

    use super::*;

    fn received(entries: &[(&str, EntryKind, &str)]) -> (tempfile::TempDir, io::Result<()>) {
        let mut tar = TarWriter::new(Vec::new());
        for (path, kind, content) in entries {
            let mut entry = Entry::new(*path, *kind, 0o640);
            match kind {
                EntryKind::Symlink | EntryKind::HardLink => {
                    entry.link = content.as_bytes().to_vec()
                }
                _ => entry.size = content.len() as u64,
            }
            let mut content = match kind {
                EntryKind::File => content.as_bytes(),
                _ => &[],
            };
            tar.append(&entry, &mut content).expect("written");
        }
        let bytes = tar.finish().expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        let received = receive(bytes.as_slice(), folder.path());
        (folder, received)
    }

    #[test]
    fn files_folders_and_links_come_as_they_were() {
        let (folder, done) = received(&[
            ("a", EntryKind::Directory, ""),
            ("a/b.txt", EntryKind::File, "content"),
            ("made/on/the/way", EntryKind::File, ""),
            ("out", EntryKind::Symlink, "/etc/passwd"),
        ]);
        done.expect("received");
        let at = |path: &str| folder.path().join(path);
        assert_eq!(fs::read_to_string(at("a/b.txt")).expect("there"), "content");
        let mode = fs::metadata(at("a/b.txt")).expect("there").permissions();
        assert_eq!(mode.mode() & 0o7777, 0o640);
        assert!(at("made/on/the/way").is_file());
        let link = fs::read_link(at("out")).expect("a link");
        assert_eq!(link, Path::new("/etc/passwd"));
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().expect("a folder");
        let elsewhere = outside.path().to_str().expect("a path");
        for entries in [
            &[("../x", EntryKind::File, "y")][..],
            &[("/x", EntryKind::File, "y")],
            &[
                ("link", EntryKind::Symlink, elsewhere),
                ("link/x", EntryKind::File, "y"),
            ],
            &[
                ("link", EntryKind::Symlink, elsewhere),
                ("link", EntryKind::Directory, ""),
            ],
            &[
                ("link", EntryKind::Symlink, elsewhere),
                ("link", EntryKind::File, "y"),
            ],
            &[("pipe", EntryKind::Fifo, "")],
            &[("hard", EntryKind::HardLink, "/etc/passwd")],
        ] {
            let (_folder, done) = received(entries);
            assert!(done.is_err(), "{entries:?}");
            let found = fs::read_dir(outside.path()).expect("listed").count();
            assert_eq!(found, 0, "{entries:?}");
        }
    }

    #[test]
    fn an_archive_that_was_cut_is_an_error() {
        let mut tar = TarWriter::new(Vec::new());
        tar.append_bytes("x", b"content").expect("written");
        let bytes = tar.finish().expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        assert!(receive(&bytes[..515], folder.path()).is_err());
    }
}
