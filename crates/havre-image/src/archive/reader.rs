//! Streaming tar reader.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use super::fields::{base256, octal, pax_record, pax_time, short_path, until_nul};
use super::{BLOCK, Entry, EntryKind, MAX_PATH};

/// The most that the extension headers (long name, PAX records) of one entry may hold together:
/// xattrs are at most 64 KiB each.
const MAX_EXTENSION: u64 = 1 << 20;
/// Extension headers of one entry; those that write archives need three.
const MAX_EXTENSIONS: u32 = 64;
/// Extended attributes of one entry.
const MAX_XATTRS: usize = 256;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The source failed.
    #[error("cannot read the archive at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// The reason.
        source: io::Error,
    },
    /// The archive breaks the format.
    #[error("the archive is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Bytes read before.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The archive uses a form that is not supported.
    #[error("the archive has {what} at byte {offset}, which is not supported")]
    Unsupported {
        /// Bytes read before.
        offset: u64,
        /// The form.
        what: &'static str,
    },
}

/// Reads entries one after another; content not read is skipped.
pub struct TarReader<R> {
    inner: R,
    offset: u64,
    /// Content of the current entry not yet read.
    content: u64,
    /// Zeros that follow the content.
    padding: u64,
    done: bool,
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extension {
    headers: u32,
    /// Held by all of them.
    bytes: u64,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads an uncompressed archive from `inner`.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            offset: 0,
            content: 0,
            padding: 0,
            done: false,
        }
    }

    /// The next entry; `None` after the last.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extension = Extension::default();
        loop {
            self.skip_content()?;
            let Some(header) = self.next_header()? else {
                return Ok(None);
            };
            let size = self.number(&header[124..136])?;
            match header[156] {
                b'L' => {
                    let body = self.extension_body(size, &mut extension)?;
                    extension.path = Some(until_nul(&body).to_vec());
                }
                b'K' => {
                    let body = self.extension_body(size, &mut extension)?;
                    extension.link = Some(until_nul(&body).to_vec());
                }
                b'x' => {
                    let body = self.extension_body(size, &mut extension)?;
                    self.pax(&body, &mut extension)?;
                }
                b'g' => drop(self.extension_body(size, &mut extension)?),
                kind => return self.entry(&header, kind, size, extension).map(Some),
            }
        }
    }

    /// Where the content of the current entry starts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The source; what follows the end of the archive is unread.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, TarError> {
        let path = match extension.path {
            Some(path) => path,
            None => short_path(header),
        };
        let link = match extension.link {
            Some(link) => link,
            None => until_nul(&header[157..257]).to_vec(),
        };
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(self.damaged("a path is longer than 4096 bytes"));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(self.damaged("a path holds a zero byte"));
        }
        let kind = self.kind(header, kind, &path)?;
        let size = match kind {
            EntryKind::File => extension.size.unwrap_or(size),
            _ => 0,
        };
        self.content = size;
        self.padding = padding(size);
        let (mtime, mtime_nanos) = match extension.mtime {
            Some(mtime) => mtime,
            None => (self.signed(&header[136..148])?, 0),
        };
        Ok(Entry {
            path,
            kind,
            link,
            size,
            mode: self.small(&header[100..108])? & 0o7777,
            uid: extension
                .uid
                .map_or_else(|| self.small(&header[108..116]), Ok)?,
            gid: extension
                .gid
                .map_or_else(|| self.small(&header[116..124]), Ok)?,
            mtime,
            mtime_nanos,
            xattrs: extension.xattrs.into_iter().collect(),
        })
    }

    fn kind(&self, header: &[u8; BLOCK], kind: u8, path: &[u8]) -> Result<EntryKind, TarError> {
        let device = || -> Result<(u32, u32), TarError> {
            Ok((
                self.small(&header[329..337])?,
                self.small(&header[337..345])?,
            ))
        };
        Ok(match kind {
            // Before ustar a folder was a file whose name ends in a slash.
            b'0' | 0 if path.ends_with(b"/") => EntryKind::Directory,
            b'0' | 0 | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => {
                let (major, minor) = device()?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device()?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(self.unsupported("a sparse file")),
            _ => return Err(self.unsupported("an entry of an unknown type")),
        })
    }

    /// The next header whose checksum holds; `None` at the end (zeros, or nothing more).
    fn next_header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        if self.done {
            return Ok(None);
        }
        let mut header = [0; BLOCK];
        let read = self.read_up_to(&mut header)?;
        if read == 0 || header.iter().all(|byte| *byte == 0) {
            self.done = true;
            return Ok(None);
        }
        if read < BLOCK {
            return Err(self.damaged("it ends inside a header"));
        }
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                u64::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        if self.number(&header[148..156])? != sum {
            return Err(self.damaged("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn extension_body(&mut self, size: u64, of: &mut Extension) -> Result<Vec<u8>, TarError> {
        of.headers += 1;
        if of.headers > MAX_EXTENSIONS {
            return Err(self.damaged("an entry has more than 64 extension headers"));
        }
        of.bytes = of.bytes.saturating_add(size);
        if of.bytes > MAX_EXTENSION {
            return Err(self.damaged("the extension headers of an entry are larger than 1 MiB"));
        }
        let whole = size + padding(size);
        let mut body = vec![0; usize::try_from(whole).unwrap_or(usize::MAX)];
        if self.read_up_to(&mut body)? < body.len() {
            return Err(self.damaged("it ends inside an extension header"));
        }
        body.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(body)
    }

    /// Reads PAX records: `length key=value\n`, where length counts the whole record.
    fn pax(&self, mut records: &[u8], extension: &mut Extension) -> Result<(), TarError> {
        while !records.is_empty() {
            let (record, rest) =
                pax_record(records).ok_or_else(|| self.damaged("a PAX record is malformed"))?;
            let (key, value) = record;
            self.apply(key, value, extension)?;
            records = rest;
        }
        Ok(())
    }

    fn apply(&self, key: &[u8], value: &[u8], into: &mut Extension) -> Result<(), TarError> {
        let malformed = || self.damaged("the value of a PAX record is malformed");
        let text = || std::str::from_utf8(value).map_err(|_| malformed());
        match key {
            b"path" => into.path = Some(value.to_vec()),
            b"linkpath" => into.link = Some(value.to_vec()),
            b"size" => into.size = Some(text()?.parse().map_err(|_| malformed())?),
            b"uid" => into.uid = Some(text()?.parse().map_err(|_| malformed())?),
            b"gid" => into.gid = Some(text()?.parse().map_err(|_| malformed())?),
            b"mtime" => into.mtime = Some(pax_time(text()?).ok_or_else(malformed)?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(self.unsupported("a sparse file"));
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    into.xattrs.insert(name.to_vec(), value.to_vec());
                    if into.xattrs.len() > MAX_XATTRS {
                        return Err(self.damaged("an entry has more than 256 attributes"));
                    }
                }
            }
        }
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let mut left = self.content.saturating_add(self.padding);
        let mut buffer = [0; 8192];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = self.read_up_to(&mut buffer[..most])?;
            if read == 0 {
                return Err(self.damaged("it ends inside a file"));
            }
            left -= read as u64;
        }
        self.content = 0;
        self.padding = 0;
        Ok(())
    }

    /// Fills `buffer` as far as the source goes.
    fn read_up_to(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Read {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
        Ok(filled)
    }

    fn number(&self, field: &[u8]) -> Result<u64, TarError> {
        u64::try_from(self.signed(field)?).map_err(|_| self.damaged("a number is negative"))
    }

    fn small(&self, field: &[u8]) -> Result<u32, TarError> {
        u32::try_from(self.number(field)?).map_err(|_| self.damaged("a number is too large"))
    }

    /// Octal text, or GNU's big-endian two's complement marked by the top bit.
    fn signed(&self, field: &[u8]) -> Result<i64, TarError> {
        let number = if field[0] & 0x80 != 0 {
            base256(field)
        } else {
            octal(field)
        };
        number.ok_or_else(|| self.damaged("a number is malformed"))
    }

    fn damaged(&self, reason: &'static str) -> TarError {
        TarError::Damaged {
            offset: self.offset,
            reason,
        }
    }

    fn unsupported(&self, what: &'static str) -> TarError {
        TarError::Unsupported {
            offset: self.offset,
            what,
        }
    }
}

impl<R: Read + Seek> TarReader<R> {
    /// Steps over what is unread of the current entry without reading it.
    pub fn seek_past_content(&mut self) -> Result<(), TarError> {
        let rest = self.content.saturating_add(self.padding);
        let target = i64::try_from(rest).map_err(|_| self.damaged("a file is too large"))?;
        if let Err(source) = self.inner.seek(SeekFrom::Current(target)) {
            let offset = self.offset;
            return Err(TarError::Read { offset, source });
        }
        self.offset = self.offset.saturating_add(rest);
        self.content = 0;
        self.padding = 0;
        Ok(())
    }
}

/// Reads the content of the current entry.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content).map_or(buffer.len(), |n| n.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends inside a file",
            ));
        }
        self.content -= read as u64;
        self.offset += read as u64;
        Ok(read)
    }
}

pub(super) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_extension_is_refused_before_it_is_read() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let error = TarReader::new(header.as_bytes().as_slice())
            .next_entry()
            .unwrap_err();
        assert!(error.to_string().contains("1 MiB"), "{error}");
    }

    /// An extension header with its body.
    fn extension(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(body.len() as u64);
        header.set_cksum();
        let mut bytes = [header.as_bytes().as_slice(), body].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn xattr(name: &str, value: &str) -> Vec<u8> {
        let rest = format!(" SCHILY.xattr.{name}={value}\n");
        let length = (1..).find(|length: &usize| length.to_string().len() + rest.len() == *length);
        format!("{}{rest}", length.unwrap()).into_bytes()
    }

    fn error_of(bytes: &[u8]) -> String {
        TarReader::new(bytes).next_entry().unwrap_err().to_string()
    }

    #[test]
    fn what_stands_before_one_entry_is_bounded_over_all_its_headers() {
        let half = vec![0; 600 << 10];
        for kinds in [b"xg", b"gg", b"LK"] {
            let body = match kinds[0] {
                b'x' => xattr("user.a", &"v".repeat(600 << 10)),
                _ => half.clone(),
            };
            let both = [extension(kinds[0], &body), extension(kinds[1], &half)].concat();
            assert!(error_of(&both).contains("1 MiB"), "{kinds:?}");
        }
        for kind in *b"xgLK" {
            let many = extension(kind, b"").repeat(65);
            assert!(error_of(&many).contains("64 extension headers"), "{kind}");
        }
        let names = |count: usize| -> Vec<u8> {
            let records = (0..count).flat_map(|n| xattr(&format!("user.{n}"), "v"));
            extension(b'x', &records.collect::<Vec<_>>())
        };
        assert!(error_of(&names(257)).contains("256 attributes"));
    }

    #[test]
    fn an_attribute_that_is_given_twice_has_its_last_value() {
        let mut records = xattr("user.b", "1");
        records.extend(xattr("user.a", "2"));
        records.extend(xattr("user.b", "3"));
        let mut file = tar::Header::new_ustar();
        file.set_entry_type(tar::EntryType::Regular);
        file.set_size(0);
        file.set_cksum();
        let bytes = [extension(b'x', &records), file.as_bytes().to_vec()].concat();
        let entry = TarReader::new(bytes.as_slice()).next_entry().unwrap();
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(
            entry.unwrap().xattrs,
            [pair("user.a", "2"), pair("user.b", "3")]
        );
    }

    #[test]
    fn a_size_near_the_largest_number_does_not_overflow() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        let mut reader = TarReader::new(header.as_bytes().as_slice());
        assert_eq!(reader.next_entry().unwrap().unwrap().size, u64::MAX / 2);
        assert!(reader.next_entry().is_err());
    }

    #[test]
    fn archives_of_other_writers_are_read() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o4755);
        header.set_uid(1000);
        header.set_mtime(42);
        let long = "d/".repeat(120) + "f";
        builder
            .append_data(&mut header, &long, b"hello".as_slice())
            .unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "l", "/t").unwrap();
        let bytes = builder.into_inner().unwrap();
        let mut reader = TarReader::new(bytes.as_slice());
        let file = reader.next_entry().unwrap().unwrap();
        assert_eq!(file.display_path(), long);
        assert_eq!(
            (file.mode, file.uid, file.mtime, file.size),
            (0o4755, 1000, 42, 5)
        );
        let mut content = String::new();
        reader.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hello");
        let link = reader.next_entry().unwrap().unwrap();
        assert_eq!(
            (link.kind, link.link.as_slice()),
            (EntryKind::Symlink, b"/t".as_slice())
        );
        assert!(reader.next_entry().unwrap().is_none());
    }
}
