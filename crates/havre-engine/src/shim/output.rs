//! The container's output on its way to the disk: what is secret in it is masked before it is written.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use havre_redact::{Filter, Stream as Masked};

use super::spool::{Spool, Stream};
use crate::memory::Mapping;

/// How long a line waits for what follows where the two could be one secret, and a prompt of a
/// terminal that ends as a secret begins.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes the output of one container, masked.
pub struct Output {
    spool: Spool,
    filter: Option<Filter<Mapping>>,
    streams: [Masked; 2],
    /// Output of a terminal is written without waiting for the end of a line.
    terminal: bool,
    /// When what each stream holds back is written as it is.
    deadlines: [Option<Duration>; 2],
}

impl Output {
    /// Masks nothing yet.
    pub fn new(spool: Spool) -> Self {
        Self {
            spool,
            filter: None,
            streams: Default::default(),
            terminal: false,
            deadlines: [None; 2],
        }
    }

    /// From now on another set of values is masked.
    pub fn mask(&mut self, filter: &OwnedFd) -> io::Result<()> {
        let mapping = Mapping::new(filter)?;
        if let Err(error) = mapping.lock() {
            complain!("what is masked may go to swap: {error}");
        }
        self.filter = Some(Filter::from_bytes(mapping).map_err(io::Error::other)?);
        Ok(())
    }

    /// Whether a new process writes to a terminal.
    pub fn set_terminal(&mut self, terminal: bool) {
        self.terminal = terminal;
    }

    /// When [`Output::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadlines.into_iter().flatten().min()
    }

    /// Takes output in; complete lines that hold no beginning of a secret are on disk when this returns.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let Some(filter) = &self.filter else {
            return self.spool.feed(stream, bytes);
        };
        let mut masked = Vec::with_capacity(bytes.len());
        self.streams[stream as usize].feed(filter, bytes, &mut masked);
        self.spool.feed(stream, &masked);
        let held = self.streams[stream as usize].held();
        let waits = held.contains(&b'\n') || self.terminal && !held.is_empty();
        // Anew for each piece: what is held may have begun with this one, or go on in it. What is held has
        // an end, so this has one.
        self.deadlines[stream as usize] = waits.then(|| now + PATIENCE);
    }

    /// Writes what has waited long enough.
    pub fn tick(&mut self, now: Duration) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.deadlines[stream as usize].is_some_and(|deadline| now >= deadline) {
                self.let_go(stream);
                if self.terminal {
                    self.spool.flush_partial(stream);
                }
            }
        }
    }

    /// Writes unfinished lines as pieces, for terminals where a prompt is no line.
    pub fn flush_partial(&mut self, stream: Stream) {
        self.spool.flush_partial(stream);
    }

    /// The stream has ended: what is left is a line.
    pub fn end(&mut self, stream: Stream) {
        self.let_go(stream);
        self.spool.end(stream);
    }

    /// A whole text, masked.
    pub fn redact(&self, text: String) -> String {
        let masked = self.filter.as_ref().and_then(|filter| filter.redact(&text));
        masked.unwrap_or(text)
    }

    /// Takes a piece of some other output in and appends to `out` what may be shown of it.
    pub fn pass(&self, stream: &mut Masked, bytes: &[u8], out: &mut Vec<u8>) {
        match &self.filter {
            Some(filter) => stream.feed(filter, bytes, out),
            None => out.extend_from_slice(bytes),
        }
    }

    /// What was held back of such an output, which has come to its end.
    pub fn pass_rest(&self, stream: &mut Masked, out: &mut Vec<u8>) {
        if let Some(filter) = &self.filter {
            stream.flush(filter, out);
        }
    }

    fn let_go(&mut self, stream: Stream) {
        self.deadlines[stream as usize] = None;
        let Some(filter) = &self.filter else { return };
        let mut masked = Vec::new();
        self.streams[stream as usize].flush(filter, &mut masked);
        if !masked.is_empty() {
            self.spool.feed(stream, &masked);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;

    use super::*;
    use crate::memory;
    use crate::spec::LogSpec;

    /// An output into this folder that masks these values.
    pub fn masking(dir: &Path, values: &[&str]) -> Output {
        let mut output = Output::new(Spool::new(LogSpec {
            dir: dir.to_owned(),
            max_size_bytes: 1 << 20,
            max_files: 1,
        }));
        let (filter, _) = Filter::new(values.iter().map(|value| ("name", value.as_bytes())));
        let memory = memory::sealed(c"test", filter.as_bytes()).expect("memory");
        output.mask(&memory).expect("a filter");
        output
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What the log has after all of it, each line with its stream.
    fn written(terminal: bool, pieces: &[(u64, Stream, &str)]) -> String {
        let dir = tempfile::tempdir().expect("a folder");
        let values = ["first-line\nsecond-line", "correct horse"];
        let mut output = masking(dir.path(), &values);
        output.set_terminal(terminal);
        for (now, stream, piece) in pieces {
            if output
                .deadline()
                .is_some_and(|deadline| at(*now) >= deadline)
            {
                output.tick(at(*now));
            }
            output.feed(*stream, piece.as_bytes(), at(*now));
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            output.end(stream);
        }
        assert_eq!(output.deadline(), None);
        let log = std::fs::read_to_string(dir.path().join("current.log")).expect("a log");
        let entries = log
            .lines()
            .map(|line| line.split_once(' ').expect("a time").1);
        entries.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn each_stream_waits_for_its_own_next_line() {
        use Stream::{Stderr, Stdout};
        // `first-line` alone is masked as well; its line end is what waits.
        let begun = (0, Stdout, "first-line\n");
        let rest = (99, Stdout, "second-line\n");
        assert_eq!(written(false, &[begun, rest]), "stdout F ***");
        let other = (50, Stderr, "first-line\n");
        let late = (149, Stderr, "second-line\n");
        let both = written(false, &[begun, other, rest, late]);
        assert_eq!(both, "stdout F ***|stderr F ***");
        // Neither hears of the other's patience.
        let alone = written(false, &[begun, other, (100, Stdout, "x\n"), late]);
        assert_eq!(alone, "stdout F ***|stdout F x|stderr F ***");
    }

    #[test]
    fn who_types_faster_than_the_patience_is_masked_however_long_it_takes() {
        let typed = |pause: u64| {
            let letters = "correct horse".char_indices();
            let pieces: Vec<(u64, String)> = letters
                .map(|(n, letter)| (n as u64 * pause, letter.to_string()))
                .collect();
            let pieces: Vec<_> = pieces
                .iter()
                .map(|(now, letter)| (*now, Stream::Stdout, letter.as_str()))
                .collect();
            written(true, &pieces)
        };
        assert_eq!(typed(99), "stdout F ***");
        assert!(typed(100).starts_with("stdout P c|"));
    }
}
