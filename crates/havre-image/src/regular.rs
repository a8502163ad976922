//! Opening files that users name. What is no regular file must not be waited for: opening a pipe
//! blocks until somebody writes, and a device may never end, or begin something when it is opened.
//!
//! ```text
//! name ─► O_PATH: held, not opened ─► is it a regular file? ─► opened by what is held
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens a regular file for reading, links followed; anything else is an error that says what it is.
pub fn open(path: &Path) -> io::Result<File> {
    open_at(CWD, path, OFlags::empty())
}

/// The same below a folder, found by `flags`: with `NOFOLLOW`, a link is an error too.
pub(crate) fn open_at(dir: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> io::Result<File> {
    let held = openat(
        &dir,
        path,
        OFlags::PATH | OFlags::CLOEXEC | flags,
        Mode::empty(),
    )?;
    let wanted = regular(&held)?;
    let reading = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let by_descriptor = format!("/proc/self/fd/{}", held.as_raw_fd());
    let file = match openat(CWD, by_descriptor, reading, Mode::empty()) {
        // Where a container is set up there may be no /proc: by its name once more.
        Err(Errno::NOENT) => openat(&dir, path, reading | flags, Mode::empty()),
        file => file,
    }?;
    // A container's own /proc may say anything.
    if regular(&file)? != wanted {
        return Err(io::Error::other("another file has taken its place"));
    }
    Ok(file.into())
}

/// Which file it is; an error unless it is a regular one.
fn regular(file: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(file)?;
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok((stat.st_dev, stat.st_ino)),
        FileType::Directory => "a folder",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink => "a link",
        FileType::Unknown => "something else",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {found}, not a file"),
    ))
}

/// The whole of a regular file that holds at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    content(open(path)?, limit)
}

/// The same of one that is open.
pub fn content(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} KiB", limit >> 10),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rustix::fs::inotify;

    use super::*;

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let socket = folder.path().join("socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "it is a named pipe, not a file"),
            (socket.as_path(), "it is a socket, not a file"),
            (folder.path(), "it is a folder, not a file"),
            (Path::new("/dev/zero"), "it is a device, not a file"),
        ] {
            assert_eq!(open(path).unwrap_err().to_string(), what);
        }
        let file = folder.path().join("file");
        std::fs::write(&file, vec![b'x'; 3000]).unwrap();
        assert_eq!(read(&file, 3000).unwrap().len(), 3000);
        let error = read(&file, 2048).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 2 KiB");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(open(&link).is_ok());
        let error = open_at(CWD, &link, OFlags::NOFOLLOW).unwrap_err();
        assert_eq!(error.to_string(), "it is a link, not a file");
    }

    /// To open a watchdog's node is to arm it.
    #[test]
    fn what_is_no_file_is_not_even_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let root = crate::root::Root::open(folder.path()).unwrap();
        let spot = root.spot(Path::new("pipe"), true).unwrap();
        let opened = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&opened, &pipe, inotify::WatchFlags::OPEN).unwrap();
        assert!(open(&pipe).is_err());
        assert!(spot.open_file().is_err());
        let mut buffer = [0; 1024];
        let told = rustix::io::read(&opened, &mut buffer);
        assert_eq!(told, Err(Errno::AGAIN), "it was opened");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        openat(CWD, &pipe, flags, Mode::empty()).unwrap();
        assert!(rustix::io::read(&opened, &mut buffer).is_ok());
    }
}
