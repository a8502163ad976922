//! The container's output on its way to the disk: what is secret in it is masked before it is written.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use havre_redact::{Filter, Stream as Masked};

use super::spool::{Spool, Stream};
use crate::memory::Mapping;

/// How long a line waits for the next one where the two could be one secret, and a prompt of a
/// terminal that ends as a secret begins.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes the output of one container, masked.
pub struct Output {
    spool: Spool,
    filter: Option<Filter<Mapping>>,
    streams: [Masked; 2],
    /// Output of a terminal is written without waiting for the end of a line.
    terminal: bool,
    /// When what is held back is written as it is.
    deadline: Option<Duration>,
}

impl Output {
    /// Masks nothing yet.
    pub fn new(spool: Spool) -> Self {
        Self {
            spool,
            filter: None,
            streams: Default::default(),
            terminal: false,
            deadline: None,
        }
    }

    /// From now on another set of values is masked.
    pub fn mask(&mut self, filter: &OwnedFd) -> io::Result<()> {
        let mapping = Mapping::new(filter)?;
        self.filter = Some(Filter::from_bytes(mapping).map_err(io::Error::other)?);
        Ok(())
    }

    /// Whether a new process writes to a terminal.
    pub fn set_terminal(&mut self, terminal: bool) {
        self.terminal = terminal;
    }

    /// When [`Output::tick`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Takes output in; complete lines that hold no beginning of a secret are on disk when this returns.
    pub fn feed(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let Some(filter) = &self.filter else {
            return self.spool.feed(stream, bytes);
        };
        let mut masked = Vec::with_capacity(bytes.len());
        self.streams[stream as usize].feed(filter, bytes, &mut masked);
        self.spool.feed(stream, &masked);
        let waits = |stream: &Masked| {
            let held = stream.held();
            held.contains(&b'\n') || self.terminal && !held.is_empty()
        };
        self.deadline = match self.streams.iter().any(waits) {
            true => self.deadline.or(Some(now + PATIENCE)),
            false => None,
        };
    }

    /// Writes what has waited long enough.
    pub fn tick(&mut self, now: Duration) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.let_go(stream);
                if self.terminal {
                    self.spool.flush_partial(stream);
                }
            }
            self.deadline = None;
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

    /// What else the container had to say, masked.
    pub fn redact(&self, text: &[u8]) -> String {
        let text = String::from_utf8_lossy(text).into_owned();
        let masked = self.filter.as_ref().and_then(|filter| filter.redact(&text));
        masked.unwrap_or(text)
    }

    fn let_go(&mut self, stream: Stream) {
        let Some(filter) = &self.filter else { return };
        let mut masked = Vec::new();
        self.streams[stream as usize].flush(filter, &mut masked);
        if !masked.is_empty() {
            self.spool.feed(stream, &masked);
        }
    }
}
