//! What a runner has told, read from the spool: from its start, whoever has read it before.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use havre_engine::{Exit, LogLine, LogQuery, LogReader, LogStream, WaitError, read_logs};
use havre_job::{LineKind, MAX_TEXT, Told};
use tokio::task::JoinHandle;

use crate::container;
use crate::error::BoxError;
use crate::inner::Inner;

/// Most bytes of one line of the spool: a summary of a mebibyte, each character escaped.
const MAX_LINE: usize = 8 << 20;

/// What comes of a box, in its order.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// From the runner; or a line of its own output that is nothing of the kind.
    Told(Told),
    /// The runner's process has ended: the last.
    Ended(Ending),
}

/// How a runner's process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, or it was killed.
    Exited {
        /// 128 + signal where one ended it.
        code: i32,
        /// Memory was out.
        oom_killed: bool,
    },
    /// It could not be started.
    Failed(String),
    /// It was ended since it took what others need; why, for a person.
    Stopped(String),
    /// Nobody knows: the machine was started anew, or the box was removed.
    Lost,
}

/// Reads what a runner tells.
pub struct Follow {
    reader: LogReader,
    /// Waits for the end; `None` once it has come.
    end: Option<JoinHandle<Result<Exit, WaitError>>>,
    ending: Ending,
    of: (Arc<Inner>, String),
    /// Lines whose ends have not come, of both streams; what is longer than [`MAX_LINE`] is cut.
    begun: [Vec<u8>; 2],
    /// Told before what is read next.
    waiting: std::collections::VecDeque<Told>,
    over: bool,
}

impl Follow {
    pub(crate) fn new(inner: &Arc<Inner>, id: &str, spool: PathBuf) -> Self {
        let engine = &inner.engine;
        let container = container::runner_id(id);
        let query = LogQuery {
            follow: Some(engine.log_changes()),
            ..LogQuery::default()
        };
        let engine = engine.clone();
        Self {
            reader: read_logs(&spool, query),
            end: Some(tokio::spawn(async move { engine.wait(&container).await })),
            ending: Ending::Lost,
            of: (Arc::clone(inner), id.to_owned()),
            begun: [Vec::new(), Vec::new()],
            waiting: Default::default(),
            over: false,
        }
    }

    /// The next that was told; `None` after [`Heard::Ended`]. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Heard>, BoxError> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                return Ok(Some(Heard::Told(told)));
            }
            if self.over {
                return Ok(None);
            }
            let Some(end) = &mut self.end else {
                match self.reader.next().await.map_err(BoxError::Spool)? {
                    Some(line) => self.take(line),
                    None if self.flush() => {}
                    None => {
                        self.over = true;
                        return Ok(Some(Heard::Ended(self.ending.clone())));
                    }
                }
                continue;
            };
            tokio::select! {
                line = self.reader.next() => match line.map_err(BoxError::Spool)? {
                    Some(line) => self.take(line),
                    None => return Err(BoxError::Spool(io::ErrorKind::UnexpectedEof.into())),
                },
                ended = end => {
                    self.end = None;
                    let (inner, id) = &self.of;
                    self.ending = match inner.why_ended(id) {
                        Some(why) => Ending::Stopped(why),
                        None => ending(ended?),
                    };
                    // All that it has said is on disk by now.
                    self.reader.finish();
                }
            }
        }
    }

    /// Tells of lines that never ended; whether there were any.
    fn flush(&mut self) -> bool {
        for begun in &mut self.begun {
            let rest = std::mem::take(begun);
            if !rest.is_empty() {
                self.waiting.extend(plain(&String::from_utf8_lossy(&rest)));
            }
        }
        !self.waiting.is_empty()
    }

    fn take(&mut self, line: LogLine) {
        let begun = &mut self.begun[usize::from(line.stream == LogStream::Stderr)];
        let room = MAX_LINE.saturating_sub(begun.len());
        let text = havre_base::clipped(&line.text, room);
        begun.extend_from_slice(text.as_bytes());
        if line.partial {
            return;
        }
        let whole = std::mem::take(begun);
        let whole = String::from_utf8_lossy(&whole);
        let told = match line.stream {
            LogStream::Stdout => understood(&whole),
            LogStream::Stderr => plain(&whole),
        };
        self.waiting.extend(told);
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            end.abort();
        }
    }
}

fn ending(ended: Result<Exit, WaitError>) -> Ending {
    match ended {
        Ok(exit) => Ending::Exited {
            code: exit.code,
            oom_killed: exit.oom_killed,
        },
        Err(WaitError::Failed { reason, .. }) => Ending::Failed(reason),
        Err(WaitError::Lost { .. } | WaitError::NotFound { .. }) => Ending::Lost,
    }
}

/// One line of a runner's output. A program in the box may have written anything there.
fn understood(line: &str) -> Vec<Told> {
    match serde_json::from_str(line) {
        Ok(told) => vec![told],
        Err(_) => plain(line),
    }
}

/// Lines of the job as a whole.
fn plain(mut text: &str) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        let piece = havre_base::clipped(text, MAX_TEXT);
        told.push(Told::Line {
            step: None,
            kind: LineKind::Plain,
            text: piece.to_owned(),
        });
        text = &text[piece.len()..];
        if text.is_empty() {
            return told;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_document_is_a_line_of_the_job() {
        let began = Told::Began {
            at_ms: 1,
            steps: vec!["one".to_owned()],
        };
        let line = serde_json::to_string(&began).expect("JSON");
        assert_eq!(understood(&line), [began]);
        for line in [
            "",
            "hello",
            "{\"told\":\"nothing\"}",
            "{\"told\":\"began\"}",
            "[]",
        ] {
            let lines = understood(line);
            let [
                Told::Line {
                    step: None,
                    kind: LineKind::Plain,
                    text,
                },
            ] = &lines[..]
            else {
                panic!("{lines:?}");
            };
            assert_eq!(text, line);
        }
        let long = "é".repeat(MAX_TEXT);
        let pieces = understood(&long);
        let texts = pieces.iter().map(|told| match told {
            Told::Line { text, .. } if text.len() <= MAX_TEXT => text.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<String>(), long);
    }
}
