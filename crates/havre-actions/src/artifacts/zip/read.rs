//! Reading.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Component, Path};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::{
    CENTRAL, Counted, DEFLATED, END, END64, EXTRA64, Entry, LOCAL, LOCATOR64, STORED, WIDE, bad,
};

/// Most bytes of a directory of files: some two million names.
const MOST_DIRECTORY: u64 = 256 << 20;

/// Unpacks all files below `into`, which no name may leave; how many.
pub(in crate::artifacts) fn unpack(path: &Path, into: &Path) -> io::Result<usize> {
    let mut file = BufReader::new(File::open(path)?);
    let entries = directory(&mut file)?;
    let length = file.get_ref().metadata()?.len();
    fits(&entries, length, room(into)?)?;
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

/// Whether what is in an archive of `length` bytes may be unpacked into so much room: files that lie in each other make
/// any size out of a small one.
fn fits(entries: &[Entry], length: u64, room: u64) -> io::Result<()> {
    let sum = |size: fn(&Entry) -> u64| entries.iter().map(size).fold(0, u64::saturating_add);
    if sum(|entry| entry.packed) > length {
        return Err(bad("its files lie in each other"));
    }
    let bytes = sum(|entry| entry.bytes);
    match bytes > room {
        true => Err(bad(format!(
            "it would take {} MiB, and there are {} MiB",
            bytes >> 20,
            room >> 20
        ))),
        false => Ok(()),
    }
}

/// What is free where a folder is, or will be.
fn room(folder: &Path) -> io::Result<u64> {
    let there = folder.ancestors().find(|path| path.is_dir());
    let found = rustix::fs::statvfs(there.unwrap_or(Path::new("/")))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_would_fill_the_disk_is_not_unpacked() {
        let entry = |packed, bytes| Entry {
            name: b"a".to_vec(),
            method: DEFLATED,
            crc: 0,
            packed,
            bytes,
            at: 0,
        };
        let check = |entries: &[Entry]| match fits(entries, 1000, 1 << 30) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(check(&[entry(400, 1 << 20), entry(500, 1 << 29)]), "");
        let nested = [entry(600, 1000), entry(600, 1000)];
        assert_eq!(check(&nested), "its files lie in each other");
        let large = [entry(1, u64::MAX), entry(1, 1)];
        assert!(
            check(&large).starts_with("it would take"),
            "{}",
            check(&large)
        );
    }
}
