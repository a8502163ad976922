//! Opening the files that a project names. What is no regular file is not opened at all: a pipe waits
//! for its other end, and a device may begin something.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// The whole of a regular file that holds at most `limit` bytes, links followed.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_if(path, limit, |_| Ok(()))
}

/// As [`read`], where `may` says so of the path that is read, links resolved.
pub(crate) fn read_if(
    path: &Path,
    limit: u64,
    may: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, may)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let limit = limit >> 20;
        return Err(io::Error::other(format!("it is larger than {limit} MiB")));
    }
    Ok(bytes)
}

/// Held first, then looked at, then opened: what is opened is what was looked at.
fn open(path: &Path, may: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<File> {
    let held = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&held)?.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(io::Error::other("it is a folder")),
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => return Err(io::Error::other("it is not a regular file")),
    }
    let held_path = format!("/proc/self/fd/{}", held.as_raw_fd());
    may(&std::fs::read_link(&held_path)?)?;
    File::open(held_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, file) = (folder.path().join("pipe"), folder.path().join("file"));
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [pipe.as_path(), &link, Path::new("/dev/zero")] {
            let error = read(path, 1 << 20).unwrap_err();
            assert_eq!(error.to_string(), "it is not a regular file");
        }
        let error = read(folder.path(), 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is a folder");
        std::fs::write(&file, vec![0; (1 << 20) + 1]).unwrap();
        let error = read(&file, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
        assert_eq!(read(&file, 2 << 20).unwrap().len(), (1 << 20) + 1);
    }
}
