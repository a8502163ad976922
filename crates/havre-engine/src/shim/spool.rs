//! Output to disk in CRI form: `RFC3339Nano stdout|stderr F|P text`.
//!
//! A line longer than 16 KiB is written in pieces, all but the last flagged `P`. When the disk
//! takes no more, output is dropped and counted, and the count is recorded once it does again:
//! the application never waits for the disk to be cleaned up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::SystemTime;

use crate::spec::LogSpec;
use havre_base::time;

/// Longest text of one entry.
pub const MAX_TEXT: usize = 16 * 1024;

/// Formatted output is written out beyond this size.
const BATCH: usize = 32 * 1024;

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Writes the output of one container.
#[derive(Debug)]
pub struct Spool {
    spec: LogSpec,
    file: Option<File>,
    /// Of `current.log`.
    size: u64,
    /// Formatted, not written yet.
    batch: Vec<u8>,
    /// Unfinished lines of both streams.
    partial: [Vec<u8>; 2],
    /// Bytes lost since the last record of it, and why.
    dropped: Option<(u64, io::Error)>,
}

impl Spool {
    /// Nothing is opened before the first output.
    pub fn new(spec: LogSpec) -> Self {
        Self {
            spec,
            file: None,
            size: 0,
            batch: Vec::new(),
            partial: [Vec::new(), Vec::new()],
            dropped: None,
        }
    }

    /// Takes output in; complete lines are on disk when this returns.
    pub fn feed(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = time::rfc3339(SystemTime::now(), 9);
        while !bytes.is_empty() {
            let pending = self.partial[stream as usize].len();
            let room = &bytes[..bytes.len().min(MAX_TEXT - pending)];
            match room.iter().position(|b| *b == b'\n') {
                Some(end) => {
                    self.entry(&time, stream, b'F', &bytes[..end]);
                    bytes = &bytes[end + 1..];
                }
                None if pending + bytes.len() >= MAX_TEXT => {
                    let (piece, rest) = bytes.split_at(whole_characters(room));
                    self.entry(&time, stream, b'P', piece);
                    bytes = rest;
                }
                None => {
                    self.partial[stream as usize].extend_from_slice(bytes);
                    bytes = &[];
                }
            }
        }
        self.flush();
    }

    /// Writes unfinished lines as pieces, for terminals where a prompt is no line.
    pub fn flush_partial(&mut self, stream: Stream) {
        if !self.partial[stream as usize].is_empty() {
            let time = time::rfc3339(SystemTime::now(), 9);
            self.entry(&time, stream, b'P', &[]);
            self.flush();
        }
    }

    /// The stream has ended: what is left is a line.
    pub fn end(&mut self, stream: Stream) {
        if !self.partial[stream as usize].is_empty() {
            let time = time::rfc3339(SystemTime::now(), 9);
            self.entry(&time, stream, b'F', &[]);
            self.flush();
        }
    }

    /// Formats one entry of what was pending and `text`.
    fn entry(&mut self, time: &str, stream: Stream, flag: u8, text: &[u8]) {
        let name: &[u8] = match stream {
            Stream::Stdout => b" stdout ",
            Stream::Stderr => b" stderr ",
        };
        let pending = std::mem::take(&mut self.partial[stream as usize]);
        for part in [time.as_bytes(), name, &[flag, b' '], &pending, text, b"\n"] {
            self.batch.extend_from_slice(part);
        }
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.record_loss().and_then(|()| self.write(&batch)) {
            let before = self.dropped.take().map_or(0, |(bytes, _)| bytes);
            self.dropped = Some((before + batch.len() as u64, error));
        }
    }

    /// Says how much is missing at this place, if anything is.
    fn record_loss(&mut self) -> io::Result<()> {
        let Some((bytes, error)) = &self.dropped else {
            return Ok(());
        };
        let time = time::rfc3339(SystemTime::now(), 9);
        let line = format!("{time} stderr F havre: {bytes} bytes dropped: {error}\n");
        self.write(line.as_bytes())?;
        self.dropped = None;
        Ok(())
    }

    /// Writes all or nothing.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.spec.max_size_bytes {
            self.rotate()?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        match file.write_all(bytes) {
            Ok(()) => {
                self.size += bytes.len() as u64;
                self.file = Some(file);
                Ok(())
            }
            Err(error) => {
                // Takes a piece of a line back; where even that fails, the next open measures.
                if file.set_len(self.size).is_ok() {
                    self.file = Some(file);
                }
                Err(error)
            }
        }
    }

    fn open(&mut self) -> io::Result<File> {
        fs::create_dir_all(&self.spec.dir)?;
        let path = self.spec.dir.join("current.log");
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?;
        self.size = file.metadata()?.len();
        Ok(file)
    }

    /// `current.log` becomes `1.log`, and so on; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let path = |n: u32| match n {
            0 => self.spec.dir.join("current.log"),
            n => self.spec.dir.join(format!("{n}.log")),
        };
        let oldest = self.spec.max_files.saturating_sub(1);
        if oldest == 0 {
            ignore_missing(fs::remove_file(path(0)))?;
        }
        // Only what is there moves: those up to the first number that is free, or the oldest.
        let there = (0..oldest).take_while(|n| path(*n).exists()).count();
        for n in (0..oldest).take(there).rev() {
            ignore_missing(fs::rename(path(n), path(n + 1)))?;
        }
        self.size = 0;
        Ok(())
    }
}

/// How many of these bytes can be cut off without cutting a character; all of them where that
/// would be none.
fn whole_characters(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let last = bytes[from..].iter().rposition(|b| b & 0xc0 == 0xc0);
    let Some(start) = last.map(|at| from + at) else {
        return bytes.len();
    };
    let needed = match bytes[start] {
        0xf0.. => 4,
        0xe0.. => 3,
        _ => 2,
    };
    match start + needed > bytes.len() && start > 0 {
        true => start,
        false => bytes.len(),
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn spool(dir: &Path, max_size_bytes: u64, max_files: u32) -> Spool {
        Spool::new(LogSpec {
            dir: dir.to_owned(),
            max_size_bytes,
            max_files,
        })
    }

    /// Entries without their times.
    fn entries(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|l| l.split_once(' ').expect("a time").1.to_owned())
            .collect()
    }

    #[test]
    fn lines_pieces_and_both_streams() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 1 << 20, 2);
        spool.feed(Stream::Stdout, b"one\ntw");
        spool.feed(Stream::Stderr, b"oops\n");
        spool.feed(Stream::Stdout, b"o\n\nrest");
        spool.end(Stream::Stdout);
        let got = entries(&dir.path().join("current.log"));
        assert_eq!(
            got,
            [
                "stdout F one",
                "stderr F oops",
                "stdout F two",
                "stdout F ",
                "stdout F rest"
            ]
        );
    }

    #[test]
    fn long_lines_are_cut_at_16_kib() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 1 << 20, 2);
        let long = vec![b'x'; MAX_TEXT + 5];
        for piece in long.chunks(1000) {
            spool.feed(Stream::Stdout, piece);
        }
        spool.feed(Stream::Stdout, b"\nnext\n");
        let got = entries(&dir.path().join("current.log"));
        assert_eq!(got.len(), 3);
        assert_eq!(got[0], format!("stdout P {}", "x".repeat(MAX_TEXT)));
        assert_eq!(got[1], "stdout F xxxxx");
        assert_eq!(got[2], "stdout F next");
    }

    #[test]
    fn no_character_is_cut() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 1 << 20, 2);
        for character in ["\u{65e5}", "\u{e9}", "\u{1f980}"] {
            for ahead in 0..4 {
                let line = format!("{}{}\n", "x".repeat(ahead), character.repeat(9000));
                for chunk in line.as_bytes().chunks(4093) {
                    spool.feed(Stream::Stdout, chunk);
                }
            }
        }
        // What is no text is cut all the same.
        spool.feed(Stream::Stdout, &[0xff; 40_000]);
        spool.end(Stream::Stdout);
        let bytes = fs::read(dir.path().join("current.log")).expect("a spool");
        let text = bytes.split(|b| *b == b'\n');
        let mut pieces = 0;
        for entry in text.filter(|entry| !entry.is_empty() && !entry.contains(&0xff)) {
            pieces += 1;
            assert!(std::str::from_utf8(entry).is_ok());
            assert!(entry.len() < MAX_TEXT + 100);
        }
        assert!(pieces > 20, "{pieces}");
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 100, 3);
        for n in 0..10 {
            spool.feed(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        // 47 bytes an entry: two per file.
        assert_eq!(
            entries(&dir.path().join("current.log")),
            ["stdout F line 8", "stdout F line 9"]
        );
        assert_eq!(
            entries(&dir.path().join("1.log")),
            ["stdout F line 6", "stdout F line 7"]
        );
        assert_eq!(
            entries(&dir.path().join("2.log")),
            ["stdout F line 4", "stdout F line 5"]
        );
        assert!(!dir.path().join("3.log").exists());
    }

    #[test]
    fn many_files_cost_nothing_before_they_are_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 100, u32::MAX);
        for n in 0..10 {
            spool.feed(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
        assert_eq!(
            entries(&dir.path().join("4.log")),
            ["stdout F line 0", "stdout F line 1"]
        );
        assert!(!dir.path().join("5.log").exists());
    }

    #[test]
    fn an_existing_spool_is_continued() {
        let dir = tempfile::tempdir().expect("a folder");
        spool(dir.path(), 1000, 2).feed(Stream::Stdout, b"before\n");
        spool(dir.path(), 1000, 2).feed(Stream::Stdout, b"after\n");
        assert_eq!(
            entries(&dir.path().join("current.log")),
            ["stdout F before", "stdout F after"]
        );
    }

    #[test]
    fn what_the_disk_refuses_is_counted() {
        let dir = tempfile::tempdir().expect("a folder");
        let blocked = dir.path().join("logs");
        fs::write(&blocked, "in the way").expect("a file");
        let mut spool = spool(&blocked, 1000, 2);
        spool.feed(Stream::Stdout, b"lost\n");
        spool.feed(Stream::Stdout, b"lost\n");
        fs::remove_file(&blocked).expect("removed");
        spool.feed(Stream::Stdout, b"kept\n");
        let got = entries(&blocked.join("current.log"));
        assert!(
            got[0].starts_with("stderr F havre: 90 bytes dropped: "),
            "{got:?}"
        );
        assert_eq!(got[1], "stdout F kept");
    }
}
