//! What legs told, line by line, in files: `<dir>/<project>/<run>/<attempt>.<job>.<leg>.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use havre_job::{LineKind, Told};

use crate::ports::{LegKey, RunId};

/// Bytes of a log that are read at once.
const CHUNK: u64 = 256 << 10;
/// How the last line ends of a log that is full.
const CUT: &str = "what comes behind is not kept";
/// Bytes that such a line has at most.
const MAX_CUT: u64 = 300;
/// Bytes that wait to be written.
const WAITING: usize = 64 << 10;

/// All logs.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
}

/// A log that is written: what is told again from the beginning is not written twice.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    /// Lines that are in the file, or would be without its bound.
    kept: u64,
    told: u64,
    bytes: u64,
    most: u64,
    is_full: bool,
    waiting: Vec<u8>,
}

/// Part of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// What was told.
    pub told: Vec<Told>,
    /// Where the next part begins: bytes.
    pub next: u64,
}

impl Logs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn run(&self, project: &str, run: RunId) -> PathBuf {
        self.dir.join(project).join(run.to_string())
    }

    fn file(&self, project: &str, key: &LegKey) -> io::Result<PathBuf> {
        let job = &key.leg.job;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if job.is_empty() || job.len() > 200 || !job.chars().all(plain) {
            let why = format!("`{job}` cannot name a file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let name = format!("{}.{job}.{}.jsonl", key.leg.attempt, key.leg.index);
        Ok(self.run(project, key.run).join(name))
    }

    /// Opens a log to be told from its beginning: a line that was cut short by a crash is taken away.
    pub(crate) fn write(&self, project: &str, key: &LegKey, most: u64) -> io::Result<Writer> {
        let path = self.file(project, key)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(&path)?;
        let (lines, bytes) = whole_lines(&file)?;
        file.set_len(bytes)?;
        let is_full = is_cut(&file, bytes)?;
        Ok(Writer {
            file,
            kept: lines,
            told: 0,
            bytes,
            most,
            is_full,
            waiting: Vec::new(),
        })
    }

    /// Part of a log, from a byte where one begins; empty at its end, or where there is none.
    pub(crate) fn read(&self, project: &str, key: &LegKey, from: u64) -> io::Result<Part> {
        let mut file = match File::open(self.file(project, key)?) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Part {
                    told: Vec::new(),
                    next: from,
                });
            }
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        // A line may be longer than a part usually is.
        while !bytes.contains(&b'\n') && (&mut file).take(CHUNK).read_to_end(&mut bytes)? > 0 {}
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = &bytes[..end.map_or(0, |end| end + 1)];
        let mut told = Vec::new();
        for line in whole.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                told.push(serde_json::from_slice(line).map_err(io::Error::from)?);
            }
        }
        Ok(Part {
            told,
            next: from + whole.len() as u64,
        })
    }

    /// Removes all logs of a run; nothing there is no fault.
    pub(crate) fn remove(&self, project: &str, run: RunId) -> io::Result<()> {
        match fs::remove_dir_all(self.run(project, run)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Bytes of all logs of a run.
    pub(crate) fn bytes(&self, project: &str, run: RunId) -> io::Result<u64> {
        let entries = match fs::read_dir(self.run(project, run)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut bytes = 0;
        for entry in entries {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }
}

impl Writer {
    /// Takes what is told next; `true` where enough waits to be written.
    pub(crate) fn take(&mut self, told: &Told) -> io::Result<bool> {
        self.told += 1;
        if self.told <= self.kept || self.is_full {
            return Ok(false);
        }
        let mut line = line_of(told)?;
        if self.bytes + line.len() as u64 > self.most {
            self.is_full = true;
            line = line_of(&Told::Line {
                step: None,
                kind: LineKind::Warning,
                text: format!("the log has {} bytes; {CUT}", self.bytes),
            })?;
        }
        self.bytes += line.len() as u64;
        self.waiting.append(&mut line);
        Ok(self.waiting.len() >= WAITING)
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.file.write_all(&self.waiting)?;
            self.waiting.clear();
        }
        Ok(())
    }
}

/// A line of a log; outputs are kept elsewhere.
fn line_of(told: &Told) -> io::Result<Vec<u8>> {
    let mut line = match told {
        Told::Ended { outputs, .. } if !outputs.is_empty() => {
            let mut told = told.clone();
            if let Told::Ended { outputs, .. } = &mut told {
                outputs.clear();
            }
            serde_json::to_vec(&told)
        }
        told => serde_json::to_vec(told),
    }
    .map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}

/// Whether the last line says that nothing follows.
fn is_cut(mut file: &File, bytes: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(bytes.saturating_sub(MAX_CUT)))?;
    let mut end = Vec::new();
    file.take(MAX_CUT).read_to_end(&mut end)?;
    let lines = end.trim_ascii_end().rsplit(|byte| *byte == b'\n');
    let last = lines.map(serde_json::from_slice::<Told>).next();
    Ok(matches!(
        last,
        Some(Ok(Told::Line {
            step: None,
            kind: LineKind::Warning,
            text,
        })) if text.ends_with(CUT)
    ))
}

/// Lines that end, and bytes up to the end of the last one.
fn whole_lines(file: &File) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut lines, mut bytes, mut open) = (0, 0, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((lines, bytes));
        }
        for byte in buffer {
            open += 1;
            if *byte == b'\n' {
                lines += 1;
                bytes += open;
                open = 0;
            }
        }
        let length = buffer.len();
        reader.consume(length);
    }
}
