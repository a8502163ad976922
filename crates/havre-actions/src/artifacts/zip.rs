//! Archives in ZIP's form: as much of it as artifacts need, with sizes of 64 bits.
//!
//! Source: PKWARE's APPNOTE 6.3.10.

mod read;
mod write;

use std::io::{self, Read};

use flate2::Crc;

pub(super) use read::unpack;
pub(super) use write::Writer;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// Fields that are too narrow say this; the extra field has them.
const WIDE: u32 = u32::MAX;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Of the extra field with sizes of 64 bits.
const EXTRA64: u16 = 1;

struct Entry {
    name: Vec<u8>,
    method: u16,
    crc: u32,
    packed: u64,
    bytes: u64,
    at: u64,
}

/// Counts what is read, and sums it up.
struct Counted<R> {
    inner: R,
    crc: Crc,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.crc.update(&into[..length]);
        self.bytes += long(length);
        Ok(length)
    }
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn long(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn archive(folder: &Path, level: u32, name: &str) -> std::path::PathBuf {
        fs::write(folder.join("a"), "text ".repeat(1000)).unwrap();
        let path = folder.join("archive.zip");
        let mut writer = Writer::create(&path, level).unwrap();
        writer.add(name, &folder.join("a")).unwrap();
        writer.add("sub/leer", &folder.join("a")).unwrap();
        writer.finish().unwrap();
        path
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        for level in [0, 1, 9] {
            let path = archive(folder.path(), level, "dir/größe.txt");
            assert_eq!(fs::metadata(&path).unwrap().len() > 5000, level == 0);
            let into = folder.path().join(format!("out-{level}"));
            assert_eq!(unpack(&path, &into).unwrap(), 2);
            assert_eq!(
                fs::read_to_string(into.join("dir/größe.txt")).unwrap(),
                "text ".repeat(1000)
            );
        }
    }

    #[test]
    #[allow(clippy::disallowed_macros, reason = "its output is for a person")]
    fn other_programs_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), 6, "a.txt");
        match std::process::Command::new("unzip")
            .arg("-tq")
            .arg(&path)
            .output()
        {
            Ok(output) => assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            ),
            Err(error) => println!("skipped: needs unzip ({error})"),
        }
    }

    #[test]
    fn no_name_leaves_the_folder_and_no_content_is_another() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../out", "/etc/out", "a/../../out", "..\\out"] {
            let path = archive(folder.path(), 6, name);
            assert!(
                unpack(&path, &folder.path().join("into")).is_err(),
                "{name}"
            );
        }
        let path = archive(folder.path(), 0, "a");
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = unpack(&path, &folder.path().join("into")).unwrap_err();
        assert!(
            error.to_string().contains("not what was archived"),
            "{error}"
        );
        for length in [0, 10, bytes.len() - 30] {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(unpack(&path, &folder.path().join("into")).is_err());
        }
    }
}
