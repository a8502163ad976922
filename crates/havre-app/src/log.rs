//! The daemon's own log. Writing it never fails anything, least of all the daemon: on a full disk
//! lines are left out, and told of once there is room again.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts it, on standard error. A second daemon in one process (tests) uses the first one's.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("HAVRE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Log(Mutex::new(Lossy::new(io::stderr()))))
        // It would print them, to where it could not write, and panic.
        .log_internal_errors(false)
        .try_init()
        .ok();
}

struct Log(Mutex<Lossy<io::Stderr>>);

impl<'a> MakeWriter<'a> for Log {
    type Writer = Entry<'a>;

    fn make_writer(&'a self) -> Entry<'a> {
        Entry(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The writer of one entry, which comes as one piece.
struct Entry<'a>(MutexGuard<'a, Lossy<io::Stderr>>);

impl Write for Entry<'_> {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.put(entry);
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes whole entries, or leaves them out.
struct Lossy<W> {
    inner: W,
    /// Entries left out since the last that was written.
    missed: u64,
    /// The last one was cut off.
    torn: bool,
}

impl<W: Write> Lossy<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            missed: 0,
            torn: false,
        }
    }

    fn put(&mut self, entry: &[u8]) {
        let mut text = Vec::with_capacity(entry.len());
        if self.torn {
            text.push(b'\n');
        }
        if self.missed > 0 {
            let missed = self.missed;
            text.extend(format!("({missed} lines could not be written)\n").into_bytes());
        }
        text.extend_from_slice(entry);
        match self.write(&text) {
            Ok(()) => (self.missed, self.torn) = (0, false),
            Err(written) => {
                self.missed = self.missed.saturating_add(1);
                // A line end alone mends a torn line.
                self.torn = if self.torn { written != 1 } else { written > 0 };
            }
        }
    }

    /// The error is how much of it was written.
    fn write(&mut self, text: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < text.len() {
            match self.inner.write(&text[written..]) {
                Ok(0) => return Err(written),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        room: usize,
        text: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let fits = text.len().min(self.room);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= fits;
            self.text.extend_from_slice(&text[..fits]);
            Ok(fits)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let disk = Disk {
            room: 9,
            text: Vec::new(),
        };
        let mut log = Lossy::new(disk);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            log.put(line.as_bytes());
        }
        log.inner.room = 1000;
        log.put(b"five\n");
        log.put(b"six\n");
        let text = String::from_utf8(log.inner.text).unwrap();
        assert_eq!(
            text,
            "one\ntwo\nt\n(2 lines could not be written)\nfive\nsix\n"
        );
    }
}
