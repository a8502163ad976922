//! The access log: one JSON object per request, written by a thread of its own.
//!
//! Threads collect lines and hand them over when they have [`BATCH`] or after [`FLUSH`]. A disk that
//! cannot keep up costs lines (counted, and said in the next one), never requests.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::lock::lock;

/// Bytes collected before a hand-over.
const BATCH: usize = 32 * 1024;
/// Age of the oldest line at a hand-over.
const FLUSH: Duration = Duration::from_millis(500);
/// Batches on their way to the disk.
const QUEUE: usize = 64;
/// The file is renamed to `NAME.1` beyond this, and `NAME.1` to `NAME.2`.
const ROTATE_BYTES: u64 = 64 * 1024 * 1024;

/// One request.
#[derive(Debug, Default, Serialize)]
pub struct Entry<'a> {
    /// When it arrived, RFC 3339 in UTC.
    pub ts: String,
    /// X-Request-Id.
    pub request_id: &'a str,
    /// Method.
    pub method: &'a str,
    /// Scheme.
    pub scheme: &'a str,
    /// Host, canonical where it has such a form.
    pub host: &'a str,
    /// Path without the query, which may carry secrets.
    pub path: &'a str,
    /// Protocol of the client's side.
    pub protocol: &'a str,
    /// Status sent.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: u64,
    /// Bytes of body received.
    pub bytes_in: u64,
    /// Arrival until the last byte was handed to the client's connection.
    pub duration_ms: f64,
    /// The client, behind trusted proxies.
    pub client_ip: String,
    /// As sent.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub user_agent: &'a str,
    /// Route.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub route: &'a str,
    /// Replica.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub replica: &'a str,
    /// Spent connecting to the replica, when a new connection was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    /// Choice of a replica until the head of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
    /// Spent waiting for a replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_ms: Option<f64>,
    /// Attempts beyond the first.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// What went wrong.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: &'a str,
    /// `websocket`, `event-stream`, `grpc`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub stream: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug)]
enum Message {
    Lines(Vec<u8>),
    End,
}

/// Where threads hand their lines to.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    lost: AtomicU64,
    failing: Arc<AtomicBool>,
    path: PathBuf,
}

impl AccessLog {
    /// Opens the file and starts the writer. It ends at [`AccessLog::finish`].
    pub fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, lines) = sync_channel(QUEUE);
        let failing = Arc::new(AtomicBool::new(false));
        let mut writer = Writer::open(path, Arc::clone(&failing))?;
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || writer.run(&lines))?;
        Ok((
            Self {
                queue,
                lost: AtomicU64::new(0),
                failing,
                path: path.to_owned(),
            },
            thread,
        ))
    }

    /// Everything handed over so far is written and the writer ends.
    pub fn finish(&self) {
        // Fails when the writer has ended already.
        drop(self.queue.send(Message::End));
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let failing = self.failing.load(Ordering::Relaxed);
        failing.then(|| format!("the access log {} cannot be written", self.path.display()))
    }

    fn hand_over(&self, batch: Vec<u8>) {
        let lines = batch.iter().filter(|byte| **byte == b'\n').count();
        if self.queue.try_send(Message::Lines(batch)).is_err() {
            self.lost
                .fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}

/// The lines of one thread.
#[derive(Debug)]
pub struct Lines {
    log: Arc<AccessLog>,
    collected: Mutex<Vec<u8>>,
}

impl Lines {
    /// Lines for `log`.
    pub fn new(log: Arc<AccessLog>) -> Arc<Self> {
        Arc::new(Self {
            log,
            collected: Mutex::new(Vec::new()),
        })
    }

    /// Adds a line. To be called on a runtime, which flushes it later.
    pub fn add(self: &Arc<Self>, entry: &Entry<'_>) {
        let mut collected = lock(&self.collected);
        let first = collected.is_empty();
        let lost = self.log.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let line = format!("{{\"ts\":\"{}\",\"lines_lost\":{lost}}}\n", entry.ts);
            collected.extend_from_slice(line.as_bytes());
        }
        let length = collected.len();
        if serde_json::to_writer(&mut *collected, entry).is_err() {
            collected.truncate(length);
            return;
        }
        collected.push(b'\n');
        if collected.len() >= BATCH {
            let batch = std::mem::take(&mut *collected);
            drop(collected);
            self.log.hand_over(batch);
        } else if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let lines = Arc::clone(self);
            runtime.spawn(async move {
                tokio::time::sleep(FLUSH).await;
                lines.flush();
            });
        }
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        let batch = std::mem::take(&mut *lock(&self.collected));
        if !batch.is_empty() {
            self.log.hand_over(batch);
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    inode: u64,
    written: u64,
    failing: Arc<AtomicBool>,
}

impl Writer {
    fn open(path: &Path, failing: Arc<AtomicBool>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            inode: metadata.ino(),
            written: metadata.len(),
            failing,
        })
    }

    fn run(&mut self, lines: &Receiver<Message>) {
        while let Ok(Message::Lines(batch)) = lines.recv() {
            self.follow_renames();
            let written = self.file.write_all(&batch);
            self.failing.store(written.is_err(), Ordering::Relaxed);
            self.written += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            if self.written > ROTATE_BYTES {
                self.rotate();
            }
        }
    }

    /// Somebody else (logrotate) may have moved or removed the file.
    fn follow_renames(&mut self) {
        let same = std::fs::metadata(&self.path).is_ok_and(|now| now.ino() == self.inode);
        if !same {
            self.reopen();
        }
    }

    fn rotate(&mut self) {
        let numbered = |number: u8| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let moved = match std::fs::rename(numbered(1), numbered(2)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&self.path, numbered(1)),
        };
        match moved {
            Ok(()) => self.reopen(),
            Err(_) => self.failing.store(true, Ordering::Relaxed),
        }
    }

    fn reopen(&mut self) {
        match Self::open(&self.path, Arc::clone(&self.failing)) {
            Ok(new) => *self = new,
            Err(_) => self.failing.store(true, Ordering::Relaxed),
        }
    }
}

/// `2026-01-31T12:34:56.789Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970-01-01 as a Gregorian date. Years are counted from March, so that the leap day is
/// the last one.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_right_around_leap_days() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
