//! The access log: one JSON object per request, written by a thread of its own.
//!
//! Threads collect lines and hand them over when they have [`BATCH`] or after [`FLUSH`]. A disk that
//! cannot keep up, or is full, costs whole lines (counted, and said in a line of its own once there is
//! room), never requests and never a part of a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use havre_base::time::rfc3339;
use serde::Serialize;

use crate::lock::lock;

/// Bytes collected before a hand-over.
const BATCH: usize = 32 * 1024;
/// Age of the oldest line at a hand-over.
const FLUSH: Duration = Duration::from_millis(500);
/// How often a log that cannot be written is tried without lines.
const RETRY: Duration = Duration::from_secs(1);
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
    trouble: Arc<Trouble>,
    path: PathBuf,
}

/// What threads and writer tell each other.
#[derive(Debug, Default)]
struct Trouble {
    /// Lines that nobody will find, and that have not been told of.
    lost: AtomicU64,
    failing: AtomicBool,
}

impl AccessLog {
    /// Opens the file and starts the writer. It ends at [`AccessLog::finish`].
    pub fn open(path: &Path) -> io::Result<(Self, JoinHandle<()>)> {
        let (queue, lines) = sync_channel(QUEUE);
        let trouble = Arc::new(Trouble::default());
        let mut writer = Writer::open(path, Arc::clone(&trouble))?;
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || writer.run(&lines))?;
        Ok((
            Self {
                queue,
                trouble,
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
        let failing = self.trouble.failing.load(Ordering::Relaxed);
        failing.then(|| format!("the access log {} cannot be written", self.path.display()))
    }

    fn hand_over(&self, batch: Vec<u8>) {
        let lines = count(&batch);
        if self.queue.try_send(Message::Lines(batch)).is_err() {
            self.trouble.lost.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    let ends = lines.iter().filter(|byte| **byte == b'\n').count();
    u64::try_from(ends).unwrap_or(u64::MAX)
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
    /// The file ends in the middle of a line.
    torn: bool,
    trouble: Arc<Trouble>,
}

impl Writer {
    fn open(path: &Path, trouble: Arc<Trouble>) -> io::Result<Self> {
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
            torn: false,
            trouble,
        })
    }

    fn run(&mut self, lines: &Receiver<Message>) {
        loop {
            let failing = self.trouble.failing.load(Ordering::Relaxed);
            let message = match failing {
                true => lines.recv_timeout(RETRY),
                false => lines.recv().map_err(RecvTimeoutError::from),
            };
            let batch = match message {
                Ok(Message::Lines(batch)) => batch,
                // Nobody may ask for a page for days.
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return,
            };
            self.follow_renames();
            let told = self.record_lost();
            let kept = match told {
                true => self.append(&batch),
                false => 0,
            };
            let lost = count(batch.get(kept..).unwrap_or_default());
            self.trouble.lost.fetch_add(lost, Ordering::Relaxed);
            self.trouble
                .failing
                .store(!told || lost > 0, Ordering::Relaxed);
            if self.written > ROTATE_BYTES {
                self.rotate();
            }
        }
    }

    /// Says how many lines are missing here. Returns whether nothing is left to tell.
    fn record_lost(&mut self) -> bool {
        let lost = self.trouble.lost.load(Ordering::Relaxed);
        if lost == 0 {
            return true;
        }
        let now = rfc3339(SystemTime::now(), 3);
        let line = format!("{{\"ts\":\"{now}\",\"lines_lost\":{lost}}}\n");
        let told = self.append(line.as_bytes()) == line.len();
        if told {
            self.trouble.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        told
    }

    /// Appends whole lines, as many as fit, and returns their length.
    fn append(&mut self, lines: &[u8]) -> usize {
        if self.torn && self.file.write_all(b"\n").is_err() {
            return 0;
        }
        self.torn = false;
        let mut length = 0;
        while let Some(rest) = lines.get(length..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => break,
                Ok(written) => length += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let whole = lines[..length]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        self.written += u64::try_from(whole).unwrap_or(u64::MAX);
        if whole < length {
            let part = u64::try_from(length - whole).unwrap_or(u64::MAX);
            self.torn = self.cut_off(part).is_err();
        }
        whole
    }

    /// Removes the last bytes, unless another edge, which this one takes over from or is replaced by,
    /// has appended to them.
    fn cut_off(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.file.stream_position()?;
        if self.file.metadata()?.len() != end {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length = end.checked_sub(bytes);
        self.file.set_len(length.ok_or(io::ErrorKind::InvalidData)?)
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
            Err(_) => self.trouble.failing.store(true, Ordering::Relaxed),
        }
    }

    fn reopen(&mut self) {
        match Self::open(&self.path, Arc::clone(&self.trouble)) {
            Ok(new) => *self = new,
            Err(_) => self.trouble.failing.store(true, Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };

    use super::*;

    /// A file system that is full soon, attached nowhere.
    fn small_disk(bytes: u64) -> (OwnedFd, PathBuf) {
        let disk = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("a tmpfs: needs root");
        fsconfig_set_string(&disk, "size", bytes.to_string()).expect("a size");
        fsconfig_create(&disk).expect("a file system");
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&disk, flags, MountAttrFlags::empty()).expect("a mount");
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        (mount, path.into())
    }

    #[test]
    fn a_full_disk_costs_whole_lines_and_says_how_many() {
        let (_disk, folder) = small_disk(64 * 1024);
        let path = folder.join("access.log");
        let ballast = folder.join("ballast");
        let trouble = Arc::new(Trouble::default());
        let mut writer = Writer::open(&path, Arc::clone(&trouble)).expect("a log");
        let mut handed_over = 0;
        let mut hand_over = |writer: &mut Writer, lines: u64| {
            let mut batch = Vec::new();
            for number in handed_over..handed_over + lines {
                // Of a length that pages are no multiple of.
                let line = format!("{{\"number\":{number},\"x\":\"{:>70}\"}}\n", "");
                batch.extend_from_slice(line.as_bytes());
            }
            handed_over += lines;
            let (queue, lines) = sync_channel(2);
            queue.send(Message::Lines(batch)).expect("room");
            queue.send(Message::End).expect("room");
            writer.run(&lines);
        };
        let read = || -> (u64, u64) {
            let text = std::fs::read_to_string(&path).expect("the log");
            assert!(text.ends_with('\n'), "it ends with a line");
            let (mut kept, mut lost) = (0, 0);
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect(line);
                match line.get("lines_lost") {
                    Some(number) => lost += number.as_u64().expect("a number"),
                    None => kept += 1,
                }
            }
            (kept, lost)
        };
        std::fs::write(&ballast, vec![0; 40 * 1024]).expect("ballast");
        for _ in 0..10 {
            hand_over(&mut writer, 70);
        }
        let (kept, told) = read();
        assert_eq!(kept + trouble.lost.load(Ordering::Relaxed) + told, 700);
        assert!(kept > 100, "{kept}");
        assert!(trouble.failing.load(Ordering::Relaxed));

        std::fs::remove_file(&ballast).expect("room again");
        hand_over(&mut writer, 70);
        let (kept, told) = read();
        assert!(told > 0);
        assert_eq!(kept + told, 770, "each is there or told of");
        assert!(!trouble.failing.load(Ordering::Relaxed));
    }

    #[test]
    fn it_is_well_again_when_there_is_room_though_nobody_asks_for_anything() {
        let (_disk, folder) = small_disk(16 * 1024);
        let ballast = folder.join("ballast");
        let (log, thread) = AccessLog::open(&folder.join("access.log")).expect("a log");
        std::fs::write(&ballast, vec![0; 8 * 1024]).expect("ballast");
        let wait = |what: &str, failing: bool| {
            let reached = || log.problem().is_some() == failing;
            havre_testing::wait_until(what, Duration::from_secs(30), reached);
        };
        log.hand_over(b"{\"a\":1}\n".repeat(4 * 1024));
        wait("it fails", true);
        std::fs::remove_file(&ballast).expect("room again");
        wait("it is well again", false);
        log.finish();
        thread.join().expect("no panic");
    }

    #[test]
    fn a_part_that_cannot_be_cut_off_is_a_line_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut writer = Writer::open(&path, Arc::default()).expect("a log");
        writer.file.write_all(b"{\"a\":1}\n{\"b").expect("to write");
        // Another edge's.
        let mut other = OpenOptions::new().append(true).open(&path).expect("a log");
        other.write_all(b"{\"c\":3}\n").expect("to write");
        writer.torn = writer.cut_off(3).is_err();
        assert!(writer.torn);
        assert_eq!(writer.append(b"{\"d\":4}\n"), 8);
        let text = std::fs::read_to_string(&path).expect("the log");
        assert!(text.starts_with("{\"a\":1}\n"), "{text}");
        assert!(text.ends_with("\n{\"d\":4}\n"), "{text}");
    }
}
