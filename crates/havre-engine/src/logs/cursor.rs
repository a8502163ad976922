//! Where a reader is in the spool, and the entries from there on. Blocks.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use havre_base::time;

use super::{LogLine, LogQuery, LogStream};

/// Read at once.
const CHUNK: usize = 64 * 1024;
/// Lines handed over at once between threads.
const BATCH: usize = 512;
/// Where the flag stands in an entry: after the time, a space, `stdout` and a space.
const FLAG_OFFSET: u64 = 38;
/// A line is joined of its pieces up to this length.
pub(super) const MAX_LINE: usize = 256 * 1024;
/// Text handed over at once between threads, about.
const BATCH_BYTES: usize = 256 * 1024;
/// Most rotated files that are looked for.
const MAX_FILES: u32 = 1000;

/// A place in the spool.
#[derive(Debug)]
pub(super) struct Cursor {
    dir: PathBuf,
    query: LogQuery,
    started: bool,
    file: Option<File>,
    /// The file is no longer `current.log`: its end is final once read again.
    rotated: bool,
    /// Read, not parsed yet: an incomplete entry at most.
    pending: Vec<u8>,
    /// Pieces of lines whose ends have not come, of both streams.
    begun: [Option<Entry>; 2],
}

/// A line, or a piece of one, as it stands in the file.
#[derive(Debug)]
struct Entry {
    at: SystemTime,
    stream: LogStream,
    partial: bool,
    text: Vec<u8>,
}

impl Entry {
    fn into_line(self) -> LogLine {
        LogLine {
            at: self.at,
            stream: self.stream,
            partial: self.partial,
            text: String::from_utf8_lossy(&self.text).into_owned(),
        }
    }
}

impl Cursor {
    pub(super) fn new(dir: &Path, query: LogQuery) -> Self {
        Self {
            dir: dir.to_owned(),
            query,
            started: false,
            file: None,
            rotated: false,
            pending: Vec::new(),
            begun: [None, None],
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.dir.join("current.log"),
            n => self.dir.join(format!("{n}.log")),
        }
    }

    /// Entries up to a batch; empty at the end.
    pub(super) fn batch(&mut self) -> io::Result<VecDeque<LogLine>> {
        let mut lines = VecDeque::new();
        if !self.started {
            self.seek_start()?;
            self.started = self.file.is_some();
        }
        let mut bytes = 0;
        while lines.len() < BATCH && bytes < BATCH_BYTES {
            if self.read_chunk()? {
                self.parse(&mut lines);
                bytes += CHUNK;
            } else if !self.next_file()? {
                // Nothing more will come to what is not followed.
                if self.query.follow.is_none() {
                    lines.extend(self.unfinished());
                }
                break;
            }
        }
        Ok(lines)
    }

    /// What has come of lines whose ends have not, in order of time.
    pub(super) fn unfinished(&mut self) -> Vec<LogLine> {
        let mut begun: Vec<LogLine> = self
            .begun
            .iter_mut()
            .filter_map(|begun| Some(begun.take()?.into_line()))
            .collect();
        begun.sort_by_key(|line| line.at);
        begun
    }

    /// Joins an entry with the pieces before it; what is complete, or too long to be kept.
    fn join(begun: &mut [Option<Entry>; 2], entry: Entry) -> Option<LogLine> {
        let begun = &mut begun[entry.stream as usize];
        let whole = match begun.take() {
            None => entry,
            Some(mut before) => {
                before.text.extend_from_slice(&entry.text);
                before.partial = entry.partial;
                before
            }
        };
        if whole.partial && whole.text.len() < MAX_LINE {
            *begun = Some(whole);
            return None;
        }
        Some(whole.into_line())
    }

    fn read_chunk(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let before = self.pending.len();
        self.pending.resize(before + CHUNK, 0);
        let got = file.read(&mut self.pending[before..]);
        self.pending.truncate(before + *got.as_ref().unwrap_or(&0));
        Ok(got? > 0)
    }

    fn parse(&mut self, lines: &mut VecDeque<LogLine>) {
        let mut rest = &self.pending[..];
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let entry = parse_entry(&rest[..end]);
            let entry = entry.filter(|e| self.query.since.is_none_or(|since| e.at >= since));
            lines.extend(entry.and_then(|entry| Self::join(&mut self.begun, entry)));
            rest = &rest[end + 1..];
        }
        // No entry is that long: whatever it is, it is not kept.
        let keep = if rest.len() > CHUNK { 0 } else { rest.len() };
        let used = self.pending.len() - keep;
        self.pending.drain(..used);
    }

    /// At the end of a file: whether there is more to read, here or in the next one.
    fn next_file(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let inode = file.metadata()?.ino();
        for _ in 0..100 {
            let place = self.find(inode)?;
            if place == Some(0) {
                return Ok(false);
            }
            if !self.rotated {
                // Written to between our last read and its rotation, perhaps.
                self.rotated = true;
                return Ok(true);
            }
            let newer = match place {
                Some(n) => n - 1,
                None => self.oldest()?.unwrap_or(0),
            };
            let opened = File::open(self.path(newer));
            // Rotated again while looking: look again.
            if self.find(inode)? != place {
                continue;
            }
            match opened {
                Ok(next) => {
                    self.file = Some(next);
                    self.rotated = newer != 0;
                    self.pending.clear();
                    return Ok(true);
                }
                // Rotated, and nothing written since.
                Err(error) if error.kind() == ErrorKind::NotFound && newer == 0 => {
                    return Ok(false);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// The number of the file with this inode. Upwards, as files move: none is missed.
    fn find(&self, inode: u64) -> io::Result<Option<u32>> {
        Ok(self
            .files()?
            .into_iter()
            .find(|(_, i)| *i == inode)
            .map(|(number, _)| number))
    }

    fn oldest(&self) -> io::Result<Option<u32>> {
        Ok(self.files()?.last().map(|(number, _)| *number))
    }

    /// Numbers and inodes of what is there. A rotation under way leaves one number free.
    fn files(&self) -> io::Result<Vec<(u32, u64)>> {
        let mut files = Vec::new();
        for number in 0..MAX_FILES {
            match std::fs::metadata(self.path(number)) {
                Ok(meta) => files.push((number, meta.ino())),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) if files.last().map_or(0, |(last, _)| last + 1) < number => break,
                Err(_) => {}
            }
        }
        Ok(files)
    }

    /// Opens the file in which reading starts, at the right place.
    fn seek_start(&mut self) -> io::Result<()> {
        let Some(oldest) = self.oldest()? else {
            return Ok(());
        };
        let mut wanted = self.query.tail;
        let mut chosen = None;
        for number in 0..=oldest {
            let file = match File::open(self.path(number)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let modified = file.metadata()?.modified()?;
            if chosen.is_some() && self.query.since.is_some_and(|since| modified < since) {
                break;
            }
            let (offset, enough) = match &mut wanted {
                None => (0, false),
                Some(wanted) => tail_offset(&file, wanted)?,
            };
            chosen = Some((file, offset, number));
            if enough {
                break;
            }
        }
        if let Some((mut file, offset, number)) = chosen {
            file.seek(SeekFrom::Start(offset))?;
            self.file = Some(file);
            self.rotated = number != 0;
        }
        Ok(())
    }
}

/// Where the last `wanted` lines of a file start, and whether it has as many. Pieces belong to
/// the line that ends them; `wanted` is lowered by the lines found.
fn tail_offset(file: &File, wanted: &mut usize) -> io::Result<(u64, bool)> {
    let mut end = file.metadata()?.len();
    // The start of the entry behind the one that is being looked at.
    let mut start = end;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let mut chunk = vec![0; (end - begin) as usize];
        file.read_exact_at(&mut chunk, begin)?;
        let breaks = chunk.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let firsts = breaks.map(|(index, _)| begin + index as u64 + 1);
        for first in firsts.chain((begin == 0).then_some(0)) {
            if first >= start {
                continue;
            }
            let mut flag = [0];
            let whole = file.read_at(&mut flag, first + FLAG_OFFSET)? == 1 && flag[0] == b'F';
            if whole && *wanted == 0 {
                return Ok((start, true));
            }
            *wanted -= usize::from(whole);
            start = first;
        }
        end = begin;
    }
    Ok((start.min(end), false))
}

/// `time stdout|stderr F|P text`.
fn parse_entry(entry: &[u8]) -> Option<Entry> {
    let mut fields = entry.splitn(4, |b| *b == b' ');
    let at = time::parse(std::str::from_utf8(fields.next()?).ok()?)?;
    let stream = match fields.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let partial = fields.next()? == b"P";
    let text = fields.next()?.to_vec();
    Some(Entry {
        at,
        stream,
        partial,
        text,
    })
}
