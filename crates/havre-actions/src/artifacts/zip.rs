//! Archives in ZIP's form: as much of it as artifacts need, with sizes of 64 bits.
//!
//! Source: PKWARE's APPNOTE 6.3.10.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Component, Path};

use flate2::read::{DeflateDecoder, DeflateEncoder};
use flate2::{Compression, Crc};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
/// Fields that are too narrow say this; the extra field has them.
const WIDE: u32 = u32::MAX;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Names are UTF-8.
const UTF8: u16 = 1 << 11;
/// Of the extra field with sizes of 64 bits.
const EXTRA64: u16 = 1;
/// 1980-01-01 00:00: no artifact depends on when it was made.
const TIME: u32 = 0x0021_0000;
/// A regular file that its owner may write.
const MODE: u32 = 0o100_644 << 16;
/// Unix, and the version that has sizes of 64 bits.
const MADE_BY: u16 = 3 << 8 | 45;
const NEEDS: u16 = 45;
/// Most bytes of a directory of files: some two million names.
const MOST_DIRECTORY: u64 = 256 << 20;

/// Writes an archive.
pub(super) struct Writer {
    out: BufWriter<File>,
    at: u64,
    level: u32,
    entries: Vec<Entry>,
}

struct Entry {
    name: Vec<u8>,
    method: u16,
    crc: u32,
    packed: u64,
    bytes: u64,
    at: u64,
}

impl Writer {
    /// `level`: from 0, which stores, to 9.
    pub(super) fn create(path: &Path, level: u32) -> io::Result<Self> {
        Ok(Self {
            out: BufWriter::new(File::create(path)?),
            at: 0,
            level,
            entries: Vec::new(),
        })
    }

    /// Adds the file at `path` under a name.
    pub(super) fn add(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let method = if self.level == 0 { STORED } else { DEFLATED };
        let mut entry = Entry {
            name: name.as_bytes().to_vec(),
            method,
            crc: 0,
            packed: 0,
            bytes: 0,
            at: self.at,
        };
        let header = entry.local()?;
        self.out.write_all(&header)?;
        let mut source = Counted {
            inner: File::open(path)?,
            crc: Crc::new(),
            bytes: 0,
        };
        entry.packed = if method == STORED {
            io::copy(&mut source, &mut self.out)?
        } else {
            io::copy(
                &mut DeflateEncoder::new(&mut source, Compression::new(self.level)),
                &mut self.out,
            )?
        };
        entry.crc = source.crc.sum();
        entry.bytes = source.bytes;
        // Now that they are known.
        self.out.seek(SeekFrom::Start(entry.at))?;
        self.out.write_all(&entry.local()?)?;
        self.at = entry.at + long(header.len()) + entry.packed;
        self.out.seek(SeekFrom::Start(self.at))?;
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        let begin = self.at;
        let mut directory = Vec::new();
        for entry in &self.entries {
            directory.extend_from_slice(&entry.central()?);
        }
        let (bytes, count) = (long(directory.len()), long(self.entries.len()));
        self.out.write_all(&directory)?;
        let mut end = Bytes::default();
        end.u32(END64)
            .u64(44)
            .u16(MADE_BY)
            .u16(NEEDS)
            .u32(0)
            .u32(0)
            .u64(count)
            .u64(count)
            .u64(bytes)
            .u64(begin);
        end.u32(LOCATOR64).u32(0).u64(begin + bytes).u32(1);
        end.u32(END)
            .u16(0)
            .u16(0)
            .u16(u16::MAX)
            .u16(u16::MAX)
            .u32(WIDE)
            .u32(WIDE)
            .u16(0);
        self.out.write_all(&end.0)?;
        self.out.flush()
    }
}

impl Entry {
    fn local(&self) -> io::Result<Vec<u8>> {
        let mut head = Bytes::default();
        head.u32(LOCAL)
            .u16(NEEDS)
            .u16(UTF8)
            .u16(self.method)
            .u32(TIME)
            .u32(self.crc)
            .u32(WIDE)
            .u32(WIDE);
        head.u16(short(self.name.len())?).u16(20).raw(&self.name);
        head.u16(EXTRA64).u16(16).u64(self.bytes).u64(self.packed);
        Ok(head.0)
    }

    fn central(&self) -> io::Result<Vec<u8>> {
        let mut head = Bytes::default();
        head.u32(CENTRAL)
            .u16(MADE_BY)
            .u16(NEEDS)
            .u16(UTF8)
            .u16(self.method)
            .u32(TIME)
            .u32(self.crc);
        head.u32(WIDE)
            .u32(WIDE)
            .u16(short(self.name.len())?)
            .u16(28)
            .u16(0)
            .u16(0)
            .u16(0)
            .u32(MODE)
            .u32(WIDE);
        head.raw(&self.name)
            .u16(EXTRA64)
            .u16(24)
            .u64(self.bytes)
            .u64(self.packed)
            .u64(self.at);
        Ok(head.0)
    }
}

/// Unpacks all files below `into`, which no name may leave; how many.
pub(super) fn unpack(path: &Path, into: &Path) -> io::Result<usize> {
    let mut file = BufReader::new(File::open(path)?);
    let entries = directory(&mut file)?;
    let mut count = 0;
    for entry in &entries {
        let name = String::from_utf8_lossy(&entry.name).replace('\\', "/");
        let relative = Path::new(&name);
        if !relative
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(bad(format!("`{name}` would leave the folder")));
        }
        let place = into.join(relative);
        if name.ends_with('/') {
            fs::create_dir_all(&place)?;
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        one(&mut file, entry, &place)
            .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        count += 1;
    }
    Ok(count)
}

fn one(file: &mut BufReader<File>, entry: &Entry, place: &Path) -> io::Result<()> {
    file.seek(SeekFrom::Start(entry.at))?;
    let mut head = [0; 30];
    file.read_exact(&mut head)?;
    let head = Fields(&head);
    if head.u32(0)? != LOCAL {
        return Err(bad("it is not where the directory says"));
    }
    let skipped = i64::from(head.u16(26)?) + i64::from(head.u16(28)?);
    file.seek_relative(skipped)?;
    let packed = file.take(entry.packed);
    let mut source = Counted {
        inner: unpacked(packed, entry.method)?,
        crc: Crc::new(),
        bytes: 0,
    };
    // Never more than it says: a small archive may not fill the disk.
    io::copy(
        &mut (&mut source).take(entry.bytes.saturating_add(1)),
        &mut File::create(place)?,
    )?;
    if source.bytes != entry.bytes || source.crc.sum() != entry.crc {
        return Err(bad("its content is not what was archived"));
    }
    Ok(())
}

fn unpacked<'r>(packed: impl Read + 'r, method: u16) -> io::Result<Box<dyn Read + 'r>> {
    match method {
        STORED => Ok(Box::new(packed)),
        DEFLATED => Ok(Box::new(DeflateDecoder::new(packed))),
        _ => Err(bad("it is compressed in another way than by deflate")),
    }
}

fn directory(file: &mut BufReader<File>) -> io::Result<Vec<Entry>> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail = length.min(22 + 20 + u64::from(u16::MAX));
    file.seek(SeekFrom::Start(length - tail))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let found = (0..end.len().saturating_sub(21))
        .rev()
        .find(|at| Fields(&end[*at..]).u32(0).ok() == Some(END));
    let at = found.ok_or_else(|| bad("it is no ZIP archive"))?;
    let record = Fields(&end[at..]);
    let (mut count, mut bytes, mut begin) = (
        u64::from(record.u16(10)?),
        u64::from(record.u32(12)?),
        u64::from(record.u32(16)?),
    );
    let locator = at.checked_sub(20).map(|at| Fields(&end[at..]));
    if let Some(locator) = locator
        && locator.u32(0)? == LOCATOR64
    {
        file.seek(SeekFrom::Start(locator.u64(8)?))?;
        let mut wide = [0; 56];
        file.read_exact(&mut wide)?;
        let wide = Fields(&wide);
        if wide.u32(0)? != END64 {
            return Err(bad("its end is broken"));
        }
        (count, bytes, begin) = (wide.u64(32)?, wide.u64(40)?, wide.u64(48)?);
    }
    if bytes > MOST_DIRECTORY.min(length) {
        return Err(bad("its directory is too large"));
    }
    file.seek(SeekFrom::Start(begin))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    entries(&text, count)
}

fn entries(mut text: &[u8], count: u64) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for _ in 0..count {
        let head = Fields(text);
        if head.u32(0)? != CENTRAL {
            return Err(bad("its directory is broken"));
        }
        let name = usize::from(head.u16(28)?);
        let (extra, note) = (usize::from(head.u16(30)?), usize::from(head.u16(32)?));
        let mut entry = Entry {
            name: head.slice(46, name)?.to_vec(),
            method: head.u16(10)?,
            crc: head.u32(16)?,
            packed: u64::from(head.u32(20)?),
            bytes: u64::from(head.u32(24)?),
            at: u64::from(head.u32(42)?),
        };
        widen(&mut entry, head.slice(46 + name, extra)?)?;
        entries.push(entry);
        text = text
            .get(46 + name + extra + note..)
            .ok_or_else(|| bad("its directory is cut off"))?;
    }
    Ok(entries)
}

/// Fields that say so are taken from the extra field.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> io::Result<()> {
    while extra.len() >= 4 {
        let (kind, length) = (Fields(extra).u16(0)?, usize::from(Fields(extra).u16(2)?));
        let mut values = Fields(extra).slice(4, length)?;
        if kind == EXTRA64 {
            for field in [&mut entry.bytes, &mut entry.packed, &mut entry.at] {
                if *field == u64::from(WIDE) {
                    *field = Fields(values).u64(0)?;
                    values = &values[8..];
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Ok(())
}

/// Numbers in a header, lowest byte first.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn slice(&self, at: usize, length: usize) -> io::Result<&'b [u8]> {
        self.0
            .get(at..at + length)
            .ok_or_else(|| bad("it is cut off"))
    }

    fn array<const N: usize>(&self, at: usize) -> io::Result<[u8; N]> {
        self.slice(at, N)?
            .try_into()
            .map_err(|_| bad("it is cut off"))
    }

    fn u16(&self, at: usize) -> io::Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> io::Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> io::Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }
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

fn short(length: usize) -> io::Result<u16> {
    u16::try_from(length).map_err(|_| bad("a name is too long"))
}

fn long(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
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
