//! Reads what a process prints, both pipes in one thread, for as long as anybody holds them.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use havre_redact::Stream;
use rustix::event::{PollFd, PollFlags, poll};

use crate::masks::Masks;
use crate::output::{Output, Said};
use crate::tell::Teller;

/// A longer line is no command; it is told in parts.
const MAX_LINE: usize = 1 << 20;
/// How long the pipes of a process that ended are waited for, while what it left behind holds them; GitHub's.
const MAX_DRAIN: Duration = Duration::from_secs(5);
/// How long without a byte is taken for the end of it.
const QUIET: Duration = Duration::from_secs(1);

/// A process's output while it is read.
pub(crate) struct Reading {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    output: Output,
    /// Both pipes are at their end.
    ended: bool,
    /// What comes now is nobody's.
    closed: bool,
    heard: Instant,
}

impl Reading {
    /// Begins to read.
    pub fn start(
        stdout: ChildStdout,
        stderr: ChildStderr,
        output: Output,
        teller: Arc<Teller>,
    ) -> io::Result<Self> {
        let state = State {
            output,
            ended: false,
            closed: false,
            heard: Instant::now(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let reader = Arc::clone(&shared);
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || reader.read(stdout, stderr, &teller.masks))?;
        Ok(Self { shared })
    }

    /// What the output said, after the process ended. What is printed from now on is thrown away.
    pub fn finish(self) -> Said {
        let began = Instant::now();
        let mut state = self.shared.state();
        loop {
            let until = (began + MAX_DRAIN).min(state.heard.max(began) + QUIET);
            let most = until.saturating_duration_since(Instant::now());
            if state.ended || most.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, most);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.closed = true;
        state.output.take()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, mut stdout: ChildStdout, mut stderr: ChildStderr, masks: &Masks) {
        let mut lines = [Lines::default(), Lines::default()];
        let mut open = [true, true];
        let mut buffer = vec![0; 64 << 10];
        while open != [false, false] {
            let ready = match ready(&stdout, &stderr, open) {
                Ok(ready) => ready,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            for at in 0..2 {
                if !ready[at] {
                    continue;
                }
                let count = match at {
                    0 => stdout.read(&mut buffer),
                    _ => stderr.read(&mut buffer),
                };
                let mut state = self.state();
                state.heard = Instant::now();
                match count {
                    Ok(0) | Err(_) => {
                        open[at] = false;
                        lines[at].finish(masks, &mut state);
                    }
                    Ok(count) => lines[at].feed(&buffer[..count], masks, &mut state),
                }
            }
        }
        self.state().ended = true;
        self.changed.notify_all();
    }
}

fn ready(stdout: &ChildStdout, stderr: &ChildStderr, open: [bool; 2]) -> io::Result<[bool; 2]> {
    let (stdout, stderr) = (stdout.as_fd(), stderr.as_fd());
    let both = [stdout, stderr];
    let watched = (0..2).filter(|&at| open[at]);
    let mut fds: Vec<(usize, PollFd<'_>)> = watched
        .map(|at| (at, PollFd::from_borrowed_fd(both[at], PollFlags::IN)))
        .collect();
    let mut bare: Vec<PollFd<'_>> = fds.iter().map(|(_, fd)| fd.clone()).collect();
    poll(&mut bare, None)?;
    let mut ready = [false, false];
    for ((at, _), fd) in fds.drain(..).zip(bare) {
        ready[at] = !fd.revents().is_empty();
    }
    Ok(ready)
}

/// Bytes become lines, which `\n` and `\r\n` end. What stands before a `\r` is written over by what comes after, as at a
/// terminal: of a program's progress only the last is told. A command is carried out all the same.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    after_return: bool,
    /// Of a line that is too long.
    endless: Option<Stream>,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], masks: &Masks, state: &mut State) {
        if state.closed {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) {
                if rest[0] == b'\n' {
                    rest = &rest[1..];
                    self.end(masks, state);
                    continue;
                }
                self.written_over(masks, state);
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &rest[..end.unwrap_or(rest.len())];
            self.part(part, masks, state);
            let Some(end) = end else { return };
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if !self.after_return {
                self.end(masks, state);
            }
        }
    }

    fn written_over(&mut self, masks: &Masks, state: &mut State) {
        let begun = self.line.trim_ascii_start();
        if self.endless.is_some() || begun.starts_with(b"::") || begun.starts_with(b"##[") {
            return self.end(masks, state);
        }
        self.line.clear();
    }

    fn part(&mut self, part: &[u8], masks: &Masks, state: &mut State) {
        if let Some(stream) = &mut self.endless {
            let mut out = Vec::new();
            masks.feed(stream, part, &mut out);
            self.line.extend_from_slice(&out);
            masks.hide_short(&mut self.line);
            self.tell_whole(state, havre_redact::MIN_BYTES);
            return;
        }
        self.line.extend_from_slice(part);
        if self.line.len() > MAX_LINE {
            let begun = std::mem::take(&mut self.line);
            self.endless = Some(Stream::default());
            self.part(&begun, masks, state);
        }
    }

    /// Tells what is whole parts of an endless line, but for so many bytes at its end.
    fn tell_whole(&mut self, state: &State, held: usize) {
        while self.line.len() >= havre_job::MAX_TEXT + held {
            let text = String::from_utf8_lossy(&self.line[..havre_job::MAX_TEXT]);
            state.output.part(&text);
            self.line.drain(..havre_job::MAX_TEXT);
        }
    }

    fn end(&mut self, masks: &Masks, state: &mut State) {
        if let Some(mut stream) = self.endless.take() {
            masks.flush(&mut stream, &mut self.line);
            masks.hide_short(&mut self.line);
            self.tell_whole(state, 0);
            state.output.part(&String::from_utf8_lossy(&self.line));
        } else {
            state.output.line(&String::from_utf8_lossy(&self.line));
        }
        self.line.clear();
    }

    /// A last line without an end.
    fn finish(&mut self, masks: &Masks, state: &mut State) {
        if !state.closed && (!self.line.is_empty() || self.endless.is_some()) {
            self.end(masks, state);
        }
    }
}
