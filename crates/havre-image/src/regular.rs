//! Opening files that users name. What is no regular file must not be waited for: opening a pipe
//! blocks until somebody writes, and a device may never end.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// Opens a regular file for reading, links followed; anything else is an error that says what it is.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(CWD, path, flags, Mode::empty())?;
    let found = match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => return Ok(file.into()),
        FileType::Directory => "a folder",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink | FileType::Unknown => "something else",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {found}, not a file"),
    ))
}

/// The whole of a regular file that holds at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
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
    use super::*;

    #[test]
    fn only_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for (path, what) in [
            (pipe.as_path(), "it is a named pipe, not a file"),
            (folder.path(), "it is a folder, not a file"),
            (Path::new("/dev/zero"), "it is a device, not a file"),
        ] {
            assert_eq!(open(path).unwrap_err().to_string(), what);
        }
        assert!(open(&folder.path().join("socket")).is_err());
        let file = folder.path().join("file");
        std::fs::write(&file, vec![b'x'; 3000]).unwrap();
        assert_eq!(read(&file, 3000).unwrap().len(), 3000);
        let error = read(&file, 2048).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 2 KiB");
    }
}
