//! Tar writer. Its bytes are part of layer digests: a change here makes a regenerated layer
//! differ from the digest under which it is known, so the form stays as it is (a test pins it).

use std::io::{self, Read, Write};

use super::reader::padding;
use super::{BLOCK, Entry, EntryKind};

/// Largest number that fits the octal fields of owner and group.
const MAX_OCTAL_7: u64 = 0o7_777_777;
/// Largest number that fits the octal fields of size and time.
const MAX_OCTAL_11: u64 = 0o77_777_777_777;

/// Writes entries one after another: ustar, with PAX records only where ustar cannot say it.
pub struct TarWriter<W> {
    inner: W,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }

    /// Writes an entry and exactly `entry.size` bytes of `content`.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let records = pax_records(entry);
        if !records.is_empty() {
            let mut header = Header::new(b"././@PaxHeader", b'x');
            header.octal(100, 8, 0o644);
            header.octal(124, 12, records.len() as u64);
            self.inner.write_all(&header.finish())?;
            self.inner.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.inner.write_all(&header(entry))?;
        self.copy(content, entry.size)?;
        self.pad(entry.size)
    }

    /// Writes an entry without content.
    pub fn append_empty(&mut self, entry: &Entry) -> io::Result<()> {
        self.append(entry, &mut io::empty())
    }

    /// Writes a file whose content is at hand.
    pub fn append_bytes(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut entry = Entry::new(path, EntryKind::File, 0o644);
        entry.size = bytes.len() as u64;
        self.append(&entry, &mut &bytes[..])
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        Ok(self.inner)
    }

    fn copy(&mut self, content: &mut dyn Read, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; usize::try_from(size).map_or(1 << 18, |n| n.min(1 << 18))];
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            match content.read(&mut buffer[..most]) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the file became shorter while it was read",
                    ));
                }
                Ok(read) => {
                    self.inner.write_all(&buffer[..read])?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let zeros = usize::try_from(padding(size)).unwrap_or(0);
        self.inner.write_all(&[0; BLOCK][..zeros])
    }
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(path: &[u8], kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.text(0, 100, path);
        header.octal(108, 8, 0);
        header.octal(116, 8, 0);
        header.octal(136, 12, 0);
        header.0[156] = kind;
        header.text(257, 8, b"ustar\x0000");
        header.octal(329, 8, 0);
        header.octal(337, 8, 0);
        header
    }

    /// As much of `text` as fits; PAX says the rest.
    fn text(&mut self, at: usize, width: usize, text: &[u8]) {
        let fits = text.len().min(width);
        self.0[at..at + fits].copy_from_slice(&text[..fits]);
    }

    /// Zero where the number does not fit; PAX says it then.
    fn octal(&mut self, at: usize, width: usize, number: u64) {
        let digits = width - 1;
        let fits = number < 1 << (3 * digits);
        let text = format!("{:0digits$o}", if fits { number } else { 0 });
        self.text(at, width, text.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        self.text(148, 8, text.as_bytes());
        self.0
    }
}

fn header(entry: &Entry) -> [u8; BLOCK] {
    let (kind, device) = match entry.kind {
        EntryKind::File => (b'0', None),
        EntryKind::HardLink => (b'1', None),
        EntryKind::Symlink => (b'2', None),
        EntryKind::CharDevice { major, minor } => (b'3', Some((major, minor))),
        EntryKind::BlockDevice { major, minor } => (b'4', Some((major, minor))),
        EntryKind::Directory => (b'5', None),
        EntryKind::Fifo => (b'6', None),
    };
    let mut header = Header::new(&entry.path, kind);
    header.octal(100, 8, u64::from(entry.mode & 0o7777));
    header.octal(108, 8, u64::from(entry.uid));
    header.octal(116, 8, u64::from(entry.gid));
    header.octal(124, 12, entry.size);
    header.octal(136, 12, u64::try_from(entry.mtime).unwrap_or(0));
    header.text(157, 100, &entry.link);
    if let Some((major, minor)) = device {
        header.octal(329, 8, u64::from(major));
        header.octal(337, 8, u64::from(minor));
    }
    header.finish()
}

/// What the ustar header of `entry` cannot say, ordered by key.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
    if entry.path.len() > 100 || !entry.path.is_ascii() {
        add(b"path", entry.path.clone());
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        add(b"linkpath", entry.link.clone());
    }
    if entry.size > MAX_OCTAL_11 {
        add(b"size", entry.size.to_string().into_bytes());
    }
    if u64::from(entry.uid) > MAX_OCTAL_7 {
        add(b"uid", entry.uid.to_string().into_bytes());
    }
    if u64::from(entry.gid) > MAX_OCTAL_7 {
        add(b"gid", entry.gid.to_string().into_bytes());
    }
    if u64::try_from(entry.mtime).map_or(true, |seconds| seconds > MAX_OCTAL_11) {
        add(b"mtime", entry.mtime.to_string().into_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }
    records.sort();
    records
        .iter()
        .flat_map(|(key, value)| pax_record(key, value))
        .collect()
}

/// `length key=value\n`, where length counts its own digits too.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if rest + length.to_string().len() > length {
        length += 1;
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::archive::TarReader;

    fn sample() -> Vec<Entry> {
        let mut file = Entry::new("a/file", EntryKind::File, 0o4755);
        file.size = 3;
        file.mtime = 1_700_000_000;
        file.uid = 3_000_000_000;
        file.gid = 1000;
        file.xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 10, 255])];
        let mut long = Entry::new("é/".repeat(60) + "x", EntryKind::Symlink, 0o777);
        long.link = b"t".repeat(150);
        long.mtime = -5;
        let mut hard = Entry::new("h", EntryKind::HardLink, 0o644);
        hard.link = b"a/file".to_vec();
        vec![
            Entry::new("a/", EntryKind::Directory, 0o755),
            file,
            long,
            hard,
            Entry::new("p", EntryKind::Fifo, 0o600),
            Entry::new("n", EntryKind::CharDevice { major: 1, minor: 3 }, 0o666),
        ]
    }

    fn write(entries: &[Entry]) -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        for entry in entries {
            writer.append(entry, &mut b"abc".as_slice()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = write(&sample());
        let mut reader = TarReader::new(bytes.as_slice());
        for expected in sample() {
            assert_eq!(reader.next_entry().unwrap().unwrap(), expected);
        }
        assert!(reader.next_entry().unwrap().is_none());
    }

    /// Layers that were built here are known by the digest of these bytes.
    #[test]
    fn the_form_does_not_change() {
        insta::assert_snapshot!(Digest::of(&write(&sample())), @"sha256:b127f84899d452d111d55a24e54e64007cbbf46a8b60c92691925cb170119918");
    }

    #[test]
    fn other_readers_agree() {
        let bytes = write(&sample());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<Vec<u8>> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path_bytes().into_owned())
            .collect();
        let expected: Vec<Vec<u8>> = sample().into_iter().map(|entry| entry.path).collect();
        assert_eq!(paths, expected);
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for value in [0, 1, 80, 85, 86, 87, 88, 89, 90, 980, 985, 990, 995] {
            let record = pax_record(b"key", &vec![b'v'; value]);
            let space = record.iter().position(|byte| *byte == b' ').unwrap();
            let length: usize = std::str::from_utf8(&record[..space])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(length, record.len());
        }
    }
}
