//! The copy of the head outside the database: a file with a line for the newest record, and none for older ones, to which
//! a trail could be shortened.
//!
//! A line is `<sequence>:<hash> <mac>`, or `<sequence>:<hash> -` where there was no key; then the newest line that is signed
//! stands before it. The file is replaced once its record is in the database: after a crash in between it is one behind,
//! which the next record mends.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use havre_base::{Durability, replace};

use crate::chain::{Hash, Key, Purpose};
use crate::head::Head;

/// Of the file that are looked at. There are two lines, of 140 bytes; earlier versions had one for each record, the newest
/// last, in up to 256 KiB.
const MAX_BYTES: u64 = 1 << 20;

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

impl Line {
    /// Whether that key signed it, as that.
    pub(crate) fn is_by(&self, key: &Key, purpose: Purpose) -> bool {
        self.mac
            .is_some_and(|mac| key.vouches(purpose, self.head.sequence, &self.head.hash, &mac))
    }
}

impl Anchor {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts the newest head in the place of the one before; it is on disk when this returns.
    pub(crate) fn put(&self, head: &Head, key: Option<&Key>) -> io::Result<()> {
        let mac = key.map(|key| key.sign(Purpose::Copy, head.sequence, &head.hash));
        let newest = Line {
            number: 1,
            head: *head,
            mac,
        };
        // Without one that is signed, a trail that is not signed now cannot be told from a forged one.
        let signed = match mac {
            Some(_) => None,
            None => self
                .read()?
                .lines
                .into_iter()
                .rfind(|line| line.mac.is_some()),
        };
        let lines = signed.into_iter().chain([newest]);
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        replace(&self.0, text.as_bytes(), 0o600, Durability::Durable)
    }

    /// What is in the file; nothing where there is none.
    pub(crate) fn read(&self) -> io::Result<Lines> {
        let file = match File::open(&self.0) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lines::default()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(parse(&bytes))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mac {
            Some(mac) => write!(f, "{} {mac}", self.head),
            None => write!(f, "{} -", self.head),
        }
    }
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
        let whole = line.strip_suffix(b"\n");
        match whole.and_then(|line| parse_line(line, number)) {
            Some(line) => found.lines.push(line),
            // The file is longer than is looked at, or was cut.
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
    fn only_the_newest_and_the_newest_that_is_signed_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = Anchor::new(folder.path().join("audit.head"));
        assert_eq!(anchor.read().unwrap(), Lines::default());
        let key = Key::new(&[1; 32]);
        let there = |put: u64, key| {
            anchor.put(&head(put), key).unwrap();
            let lines = anchor.read().unwrap();
            assert!(lines.is_there && lines.unreadable.is_empty());
            let lines = lines.lines.iter();
            lines
                .map(|line| (line.head.sequence, line.mac.is_some()))
                .collect::<Vec<_>>()
        };
        assert_eq!(there(1, None), [(1, false)]);
        assert_eq!(there(2, Some(&key)), [(2, true)]);
        assert_eq!(there(3, Some(&key)), [(3, true)]);
        assert_eq!(there(4, None), [(3, true), (4, false)]);
        assert_eq!(there(5, None), [(3, true), (5, false)]);
        assert_eq!(there(6, Some(&key)), [(6, true)]);
    }

    #[test]
    fn a_line_that_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let anchor = Anchor::new(folder.path().join("audit.head"));
        let line = format!("{} -\n", head(2));
        std::fs::write(anchor.path(), format!("{line}x\n{line}3:")).unwrap();
        let lines = anchor.read().unwrap();
        assert_eq!((lines.lines.len(), lines.unreadable), (2, vec![2]));
    }
}
