//! What is told of something that goes on, to a job that may not listen.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use havre_job::images::{Answer, Failed, MAX_ANSWER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

/// Answers that wait until the job has taken those before.
const WAITING: usize = 4096;

/// Something on its way to the job.
pub(super) enum Item {
    Answer(Answer),
    /// So many bytes of a file, after an answer that says so.
    File(File, u64),
}

/// Tells a job.
#[derive(Clone)]
pub(super) struct Teller {
    items: mpsc::Sender<Item>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    pub(super) fn new() -> (Self, mpsc::Receiver<Item>) {
        let (items, receiver) = mpsc::channel(WAITING);
        let lost = Arc::default();
        (Self { items, lost }, receiver)
    }

    /// Tells something on the way; a job that does not keep up is told how much it missed.
    pub(super) fn tell(&self, answer: Answer) {
        if self.items.try_send(Item::Answer(answer)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same; waits for a job that does not keep up.
    pub(super) async fn tell_each(&self, answer: Answer) {
        // Nobody is there any more: nothing of it matters then.
        drop(self.items.send(Item::Answer(answer)).await);
    }

    pub(super) fn line(&self, text: impl Into<String>) {
        self.tell(Answer::Line(text.into()));
    }

    pub(super) fn warn(&self, text: impl Into<String>) {
        self.tell(Answer::Warning(text.into()));
    }

    /// Tells what comes last.
    pub(super) async fn end(self, item: Item) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines came faster than the job took them, and are left out");
            // Nobody is there any more: nothing of it matters then.
            drop(self.items.send(Item::Answer(Answer::Warning(text))).await);
        }
        drop(self.items.send(item).await);
    }
}

/// Writes what is told until nobody tells any more, or nobody takes it.
pub(super) async fn write(mut items: mpsc::Receiver<Item>, mut out: OwnedWriteHalf) {
    while let Some(item) = items.recv().await {
        let written = match item {
            Item::Answer(answer) => out.write_all(&line(&answer)).await,
            Item::File(file, bytes) => {
                let mut file = tokio::fs::File::from_std(file).take(bytes);
                tokio::io::copy(&mut file, &mut out).await.map(drop)
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn line(answer: &Answer) -> Vec<u8> {
    let fallback = |why: String| Answer::Failed(Box::new(failed(why)));
    let most = usize::try_from(MAX_ANSWER).unwrap_or(usize::MAX) - 1;
    let text = match serde_json::to_vec(answer) {
        Ok(text) if text.len() <= most => text,
        Ok(_) => match answer {
            Answer::Line(_) | Answer::ErrorLine(_) | Answer::Warning(_) => {
                br#"{"warning":"a line is too long, and is left out"}"#.to_vec()
            }
            Answer::Failed(failed) => {
                let why = havre_base::clipped(&failed.why, 4096).to_string();
                serde_json::to_vec(&fallback(why)).unwrap_or_default()
            }
            Answer::Image(_) | Answer::Bytes(_) | Answer::Exited { .. } => Vec::new(),
        },
        Err(error) => serde_json::to_vec(&fallback(error.to_string())).unwrap_or_default(),
    };
    [text, b"\n".to_vec()].concat()
}

/// Why something was not done, in a sentence.
pub(super) fn failed(why: impl Into<String>) -> Failed {
    Failed {
        why: why.into(),
        ..Failed::default()
    }
}
