//! Reading what shims have spooled, across rotations.
//!
//! A reader holds the file it reads open; when that has been rotated away it reads it to its end
//! and goes on with the next newer one, found by inode, so no entry is missed or seen twice.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;
use tokio::time::timeout;

mod changes;
mod cursor;

pub use changes::LogChanges;
use changes::Watching;
use cursor::Cursor;

/// Looked again at least this often while following.
const POLL: Duration = Duration::from_secs(1);

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<SystemTime>,
    /// Wait for more at the end, which these tell of.
    pub follow: Option<LogChanges>,
}

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the shim read it.
    pub at: SystemTime,
    /// Where it came from.
    pub stream: LogStream,
    /// The line goes on in the next one of its stream: it is longer than 256 KiB, or was not
    /// finished when it was read.
    pub partial: bool,
    /// Without the line's end; bytes that are no UTF-8 are replaced. At most about 256 KiB of them.
    pub text: String,
}

/// Reads the spool in `dir`, which need not exist yet.
pub fn read_logs(dir: &Path, query: LogQuery) -> LogReader {
    LogReader {
        follow: query.follow.clone(),
        reading: Reading::Idle(Box::new(Cursor::new(dir, query))),
        lines: VecDeque::new(),
        watching: None,
        dir: dir.to_owned(),
    }
}

/// A stream of entries.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    follow: Option<LogChanges>,
    reading: Reading,
    lines: VecDeque<LogLine>,
    watching: Option<Watching>,
}

/// Who has the cursor.
#[derive(Debug)]
enum Reading {
    /// The reader.
    Idle(Box<Cursor>),
    /// A blocking thread; a call that was cancelled leaves it to the next one.
    Busy(JoinHandle<(Box<Cursor>, io::Result<VecDeque<LogLine>>)>),
    /// The thread panicked.
    Lost,
}

impl LogReader {
    /// The next entry; `None` at the end, which a reader that follows never reaches. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            // Before reading, so that what comes in between is noticed.
            if let (Some(changes), None) = (&self.follow, &self.watching) {
                self.watching = changes.watch(&self.dir)?;
            }
            if self.read_batch().await? {
                continue;
            }
            if self.follow.is_none() {
                if let Reading::Idle(cursor) = &mut self.reading {
                    self.lines.extend(cursor.unfinished());
                }
                match self.lines.is_empty() {
                    true => return Ok(None),
                    false => continue,
                }
            }
            // A prompt is no line and yet to be seen.
            if !self.wait_for_change().await?
                && let Reading::Idle(cursor) = &mut self.reading
            {
                self.lines.extend(cursor.unfinished());
            }
        }
    }

    /// Nothing more will be written: a reader that follows ends where the spool does.
    pub fn finish(&mut self) {
        self.follow = None;
        self.watching = None;
    }

    /// Whether anything came.
    async fn read_batch(&mut self) -> io::Result<bool> {
        if let Reading::Idle(_) = self.reading
            && let Reading::Idle(mut cursor) = std::mem::replace(&mut self.reading, Reading::Lost)
        {
            self.reading = Reading::Busy(tokio::task::spawn_blocking(move || {
                let result = cursor.batch();
                (cursor, result)
            }));
        }
        let Reading::Busy(task) = &mut self.reading else {
            return Err(io::Error::other("an earlier read failed"));
        };
        let done = task.await;
        self.reading = Reading::Lost;
        let (cursor, result) = done.map_err(io::Error::other)?;
        self.reading = Reading::Idle(cursor);
        self.lines = result?;
        Ok(!self.lines.is_empty())
    }

    /// Whether there was one; not where the time was up.
    async fn wait_for_change(&mut self) -> io::Result<bool> {
        let Some(watching) = &mut self.watching else {
            tokio::time::sleep(POLL / 5).await;
            return Ok(false);
        };
        // In time or not, the file is looked at.
        match timeout(POLL, watching.changed()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(true)) => Ok(true),
            Ok(Ok(false)) => {
                self.watching = None;
                // It may be some time until there is another.
                tokio::time::sleep(POLL / 5).await;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cursor::MAX_LINE;
    use super::*;
    use crate::shim::spool::{Spool, Stream};
    use crate::spec::LogSpec;

    fn spool(dir: &Path, max_size_bytes: u64) -> Spool {
        Spool::new(LogSpec {
            dir: dir.to_owned(),
            max_size_bytes,
            max_files: 100,
        })
    }

    fn feed(spool: &mut Spool, numbers: std::ops::Range<u32>) {
        for n in numbers {
            spool.feed(Stream::Stdout, format!("line {n}\n").as_bytes());
        }
    }

    async fn all(dir: &Path, query: LogQuery) -> Vec<String> {
        let mut reader = read_logs(dir, query);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.expect("readable") {
            lines.push(line.text);
        }
        lines
    }

    fn lines(numbers: std::ops::Range<u32>) -> Vec<String> {
        numbers.map(|n| format!("line {n}")).collect()
    }

    fn tail(count: usize) -> LogQuery {
        LogQuery {
            tail: Some(count),
            ..LogQuery::default()
        }
    }

    #[tokio::test]
    async fn everything_and_tails_across_files() {
        let dir = tempfile::tempdir().expect("a folder");
        feed(&mut spool(dir.path(), 300), 0..40);
        assert!(dir.path().join("5.log").exists(), "rotated");
        assert_eq!(all(dir.path(), LogQuery::default()).await, lines(0..40));
        for count in [0, 1, 2, 5, 6, 17, 39, 40, 100] {
            let first = 40_u32.saturating_sub(count);
            assert_eq!(
                all(dir.path(), tail(count as usize)).await,
                lines(first..40),
                "{count}"
            );
        }
    }

    #[tokio::test]
    async fn pieces_belong_to_their_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 1 << 20);
        feed(&mut spool, 0..3);
        let long = vec![b'x'; 100_000];
        spool.feed(Stream::Stdout, &long);
        spool.feed(Stream::Stdout, b"\n");
        feed(&mut spool, 3..4);
        let expected = vec!["x".repeat(100_000), "line 3".to_owned()];
        assert_eq!(all(dir.path(), tail(2)).await, expected);
    }

    #[tokio::test]
    async fn lines_are_joined_whatever_comes_between_and_say_where_a_limit_cuts_them() {
        let dir = tempfile::tempdir().expect("a folder");
        // Rotated in the midst of a line.
        let mut spool = spool(dir.path(), 50_000);
        let long = "\u{65e5}".repeat(MAX_LINE / 2);
        for (number, chunk) in long.as_bytes().chunks(10_001).enumerate() {
            spool.feed(Stream::Stdout, chunk);
            spool.feed(Stream::Stderr, format!("error {number}\n").as_bytes());
        }
        spool.feed(Stream::Stdout, b"\nprompt> ");
        spool.flush_partial(Stream::Stdout);
        let mut reader = read_logs(dir.path(), LogQuery::default());
        let (mut text, mut cut) = (String::new(), 0);
        while let Some(line) = reader.next().await.expect("readable") {
            if line.stream == LogStream::Stdout {
                assert!(line.text.len() < MAX_LINE + 20_000);
                cut += usize::from(line.partial);
                text += &line.text;
                text += if line.partial { "" } else { "\n" };
            }
        }
        assert_eq!((text == format!("{long}\nprompt> "), cut), (true, 2));
    }

    #[tokio::test]
    async fn who_follows_sees_a_prompt() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 1 << 20);
        spool.feed(Stream::Stdout, b"password: ");
        spool.flush_partial(Stream::Stdout);
        let query = LogQuery {
            follow: Some(LogChanges::default()),
            ..LogQuery::default()
        };
        let mut reader = read_logs(dir.path(), query);
        let mut next = async || {
            let line = timeout(Duration::from_secs(20), reader.next()).await;
            let line = line.expect("in time").expect("readable").expect("no end");
            (line.text, line.partial)
        };
        assert_eq!(next().await, ("password: ".to_owned(), true));
        spool.feed(Stream::Stdout, b"****\n");
        assert_eq!(next().await, ("****".to_owned(), false));
    }

    #[tokio::test]
    async fn since_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut spool = spool(dir.path(), 300);
        feed(&mut spool, 0..10);
        let query = LogQuery::default();
        let mut reader = read_logs(dir.path(), query.clone());
        let mut times = Vec::new();
        while let Some(line) = reader.next().await.expect("readable") {
            times.push(line.at);
        }
        let query = LogQuery {
            since: Some(times[7]),
            ..query
        };
        assert_eq!(all(dir.path(), query).await, lines(7..10));
    }

    #[tokio::test]
    async fn following_misses_nothing_through_rotations() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("not/there/yet");
        let query = LogQuery {
            follow: Some(LogChanges::default()),
            ..LogQuery::default()
        };
        let mut reader = read_logs(&path, query);
        let writer = std::thread::spawn(move || feed(&mut spool(&path, 2000), 0..3000));
        let mut got = Vec::new();
        while got.len() < 3000 {
            let next = timeout(Duration::from_secs(20), reader.next()).await;
            let line = next.expect("in time").expect("readable").expect("no end");
            got.push(line.text);
            if got.last().is_some_and(|l| l == "line 2999") {
                break;
            }
        }
        writer.join().expect("written");
        // 100 files of 36 lines are kept: a slow reader may lose the oldest, but nothing else.
        let expected = lines(3000 - got.len() as u32..3000);
        assert!(
            got == expected,
            "{} lines, first {:?}",
            got.len(),
            got.first()
        );
    }

    /// How many watches there are of the process, and through how many descriptors.
    fn watched(changes: &LogChanges) -> (usize, usize) {
        let Some(fd) = changes.descriptor() else {
            return (0, 0);
        };
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
        let info = info.expect("readable");
        (info.matches("inotify wd:").count(), 1)
    }

    #[tokio::test]
    async fn however_many_follow_they_share_a_descriptor_and_each_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let changes = LogChanges::default();
        let query = LogQuery {
            follow: Some(changes.clone()),
            ..LogQuery::default()
        };
        let paths: Vec<PathBuf> = (0..3).map(|n| dir.path().join(n.to_string())).collect();
        let mut spools: Vec<Spool> = paths.iter().map(|path| spool(path, 1 << 20)).collect();
        for spool in &mut spools {
            feed(spool, 0..1);
        }
        // Far more than there may be descriptors of that kind.
        let mut readers: Vec<LogReader> = (0..300)
            .map(|n| read_logs(&paths[n % 3], query.clone()))
            .collect();
        for reader in &mut readers {
            let line = reader.next().await.expect("readable").expect("no end");
            assert_eq!(line.text, "line 0");
        }
        assert_eq!(watched(&changes), (3, 1));
        let told = next_of_each(&mut readers);
        for spool in &mut spools {
            feed(spool, 1..2);
        }
        let told = timeout(Duration::from_secs(20), told).await;
        assert_eq!(told.expect("in time"), vec!["line 1"; 300]);
        readers.truncate(2);
        assert_eq!(watched(&changes), (2, 1));
        drop(readers);
        assert_eq!(watched(&changes), (0, 1));
    }

    /// The next line of each, waited for together.
    async fn next_of_each(readers: &mut Vec<LogReader>) -> Vec<String> {
        let mut waiting = tokio::task::JoinSet::new();
        for mut reader in readers.drain(..) {
            waiting.spawn(async move {
                let line = reader.next().await.expect("readable").expect("no end");
                (reader, line.text)
            });
        }
        let mut texts = Vec::new();
        while let Some(next) = waiting.join_next().await {
            let (reader, text) = next.expect("no panic");
            readers.push(reader);
            texts.push(text);
        }
        readers.sort_by(|a, b| a.dir.cmp(&b.dir));
        readers.dedup_by(|a, b| a.dir == b.dir);
        texts
    }

    #[tokio::test]
    async fn rubbish_is_skipped() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut bytes = b"rubbish\n\n\xff\xfe stdout F x\n".to_vec();
        bytes.extend(vec![b'z'; 200_000]);
        bytes.extend(b"\n1970-01-01T00:00:01Z stderr F good \xff\n");
        std::fs::write(dir.path().join("current.log"), bytes).expect("written");
        assert_eq!(
            all(dir.path(), LogQuery::default()).await,
            ["good \u{fffd}"]
        );
    }
}
