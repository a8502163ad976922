//! The ends of the streams that are handed to whoever answers a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::*;

/// Where an operation reports. A slow or absent reader never holds an operation up: events that
/// do not fit are counted and left out.
#[derive(Clone, Debug)]
pub struct EventSink {
    events: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl EventSink {
    /// Events that may wait for a slow reader.
    pub const CAPACITY: usize = 1024;

    /// A sink and the end that reads it. `cancel` is what `cancelled` listens to.
    pub fn new(cancel: CancellationToken) -> (Self, EventSource) {
        let (sender, receiver) = mpsc::channel(Self::CAPACITY);
        let missed = Arc::new(AtomicU64::new(0));
        let sink = Self {
            events: sender,
            missed: Arc::clone(&missed),
            cancel,
        };
        (
            sink,
            EventSource {
                events: receiver,
                missed,
            },
        )
    }

    /// Reports; never waits.
    pub fn emit(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A user asked to stop. The operation undoes what it did and ends; further requests are
    /// ignored.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }
}

/// The reading end of an [`EventSink`].
#[derive(Debug)]
pub struct EventSource {
    events: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl EventSource {
    /// The next event; `None` once every sink is gone. What was left out is told first.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        event.or_else(|| self.take_missed())
    }

    /// An event that is already there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok().or_else(|| self.take_missed())
    }

    /// The note about events that were left out since the last one.
    fn take_missed(&self) -> Option<Event> {
        let count = self.missed.swap(0, Ordering::Relaxed);
        (count > 0).then_some(Event::Missed { count })
    }
}

/// Where the items of a [`Feed`] go. A slow reader holds the sender back.
#[derive(Clone, Debug)]
pub struct ItemSink<T>(mpsc::Sender<T>);

impl<T> ItemSink<T> {
    /// A sink and the end that reads it.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// Hands an item over, waiting for room; `Err` when the reader is gone.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        self.0.send(item).await.map_err(|_| Closed)
    }

    /// Hands an item over from a thread that may block; `Err` when the reader is gone.
    pub fn blocking_send(&self, item: T) -> Result<(), Closed> {
        self.0.blocking_send(item).map_err(|_| Closed)
    }

    /// Ends when the reader is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// Where lines of output go.
pub type LogSink = ItemSink<LogLine>;

/// The reader is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader is gone")]
pub struct Closed;

/// The client's end of a command. The client is gone (or the daemon stops) when
/// `output.closed()`; the end of standard input alone is [`ExecInput::StdinClosed`]. Drop `output` once the command has printed all.
#[derive(Debug)]
pub struct ExecSession {
    /// What the client sends.
    pub input: mpsc::Receiver<ExecInput>,
    /// What the client gets; waits for a slow client.
    pub output: mpsc::Sender<ExecOutput>,
}
