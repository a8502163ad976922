//! The copy of the head outside the database: a file of lines, one per record, that is only added to.
//!
//! A line is `<sequence>:<hash> <mac>`, or `<sequence>:<hash> -` where there was no key. A line is written once its record
//! is in the database: after a crash in between the file is one behind, which the next record mends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use havre_base::{Durability, replace};
use rustix::fs::OFlags;

use crate::chain::{Hash, Key, Purpose};
use crate::head::Head;

/// Of the file, before its older half goes. Lines have 140 bytes.
const MAX_BYTES: u64 = 256 << 10;
/// Lines that are looked at: more than the file can have.
const MAX_LINES: usize = 8192;

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Anchor(PathBuf);

/// A line of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1 on.
    pub(crate) number: usize,
    pub(crate) head: Head,
    pub(crate) mac: Option<Hash>,
}

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) lines: Vec<Line>,
    /// Numbers of lines that are none, but for an unfinished one at the end.
    pub(crate) unreadable: Vec<usize>,
    pub(crate) is_there: bool,
}

impl Anchor {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Adds a line; it is on disk when this returns.
    pub(crate) fn add(&self, head: &Head, key: Option<&Key>) -> io::Result<()> {
        let mac = key.map(|key| {
            key.sign(Purpose::Head, head.sequence, &head.hash)
                .to_string()
        });
        let line = format!("{head} {}\n", mac.as_deref().unwrap_or("-"));
        let is_new = !self.0.exists();
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            // A link that somebody put there is not written to.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.0)?;
        let length = file.metadata()?.len();
        // A line that a crash left unfinished stays one by itself.
        match length > 0 && !ends_with_newline(&mut file)? {
            true => file.write_all(format!("\n{line}").as_bytes())?,
            false => file.write_all(line.as_bytes())?,
        }
        file.sync_data()?;
        if is_new && let Some(folder) = self.0.parent() {
            File::open(folder)?.sync_all()?;
        }
        match length > MAX_BYTES {
            true => self.halve(),
            false => Ok(()),
        }
    }

    /// What is in the file; nothing where there is none.
    pub(crate) fn read(&self) -> io::Result<Lines> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(4 * MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }

    /// The newest line that is signed stays: without one, a trail that is not signed cannot be told from a forged one.
    fn halve(&self) -> io::Result<()> {
        let text = std::fs::read(&self.0)?;
        let middle = text.len() / 2;
        let line = text[middle..].iter().position(|&byte| byte == b'\n');
        let from = line.map_or(middle, |at| middle + at + 1);
        let (older, newer) = text.split_at(from);
        let newest_signed = |text: &'_ [u8]| -> Option<Vec<u8>> {
            let mut lines = text.split_inclusive(|&byte| byte == b'\n').rev();
            lines.find(|line| is_signed(line)).map(<[u8]>::to_vec)
        };
        let kept = match newest_signed(newer) {
            Some(_) => newer.to_vec(),
            None => [&newest_signed(older).unwrap_or_default(), newer].concat(),
        };
        replace(&self.0, &kept, 0o600, Durability::Durable)
    }
}

fn ends_with_newline(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn is_signed(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n");
    line.and_then(|line| parse_line(line, 1))
        .is_some_and(|line| line.mac.is_some())
}

fn parse(bytes: &[u8]) -> Lines {
    let mut found = Lines {
        is_there: true,
        ..Lines::default()
    };
    let mut lines = bytes
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .peekable();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        if found.lines.len() == MAX_LINES {
            break;
        }
        let whole = line.strip_suffix(b"\n");
        match whole.and_then(|line| parse_line(line, number)) {
            Some(line) => found.lines.push(line),
            // As a crash leaves the last one; the next begins on a line of its own.
            None if whole.is_none() && lines.peek().is_none() => {}
            None => found.unreadable.push(number),
        }
    }
    found
}

fn parse_line(line: &[u8], number: usize) -> Option<Line> {
    let (head, mac) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let mac = match mac {
        "-" => None,
        mac => Some(mac.parse().ok()?),
    };
    Some(Line {
        number,
        head: head.parse().ok()?,
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64) -> Head {
        Head {
            sequence,
            hash: Hash([sequence as u8; 32]),
        }
    }

    #[test]
    fn lines_are_added_also_behind_an_unfinished_one() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = Anchor::new(folder.path().join("audit.head"));
        assert_eq!(anchor.read().unwrap(), Lines::default());
        let key = Key::new(&[1; 32]);
        anchor.add(&head(1), None).unwrap();
        anchor.add(&head(2), Some(&key)).unwrap();
        let whole = std::fs::read(anchor.path()).unwrap();
        std::fs::write(anchor.path(), &whole[..whole.len() - 20]).unwrap();
        let torn = anchor.read().unwrap();
        assert_eq!((torn.lines.len(), torn.unreadable.len()), (1, 0));
        anchor.add(&head(3), Some(&key)).unwrap();
        let lines = anchor.read().unwrap();
        let numbers: Vec<_> = lines.lines.iter().map(|line| line.head.sequence).collect();
        assert_eq!(numbers, [1, 3]);
        assert!(lines.lines[0].mac.is_none() && lines.lines[1].mac.is_some());
        assert_eq!(lines.unreadable, [2]);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = Anchor::new(folder.path().join("audit.head"));
        let line = format!("{} -\n", head(2));
        let count = MAX_BYTES as usize / line.len() + 1;
        anchor.add(&head(1), Some(&Key::new(&[1; 32]))).unwrap();
        let signed = std::fs::read_to_string(anchor.path()).unwrap();
        std::fs::write(anchor.path(), signed + &line.repeat(count)).unwrap();
        anchor.add(&head(9), None).unwrap();
        let lines = anchor.read().unwrap();
        assert!(lines.lines.len() <= count / 2 + 3 && lines.unreadable.is_empty());
        assert_eq!(lines.lines.last().unwrap().head, head(9));
        // The one that is signed is still there, once.
        let signed = lines.lines.iter().filter(|line| line.mac.is_some());
        assert_eq!(signed.map(|line| line.head).collect::<Vec<_>>(), [head(1)]);
    }
}
