//! What a connection's transport and its requests tell each other beside the parser between them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use crate::gate::{FirstLine, Refusal};
use crate::lock::lock;

/// Requests of HTTP/2 that the parser has and has not given to us; more than it takes at once.
const LINES: usize = 256;

/// Bytes of interim answers that wait to be written.
const INTERIM_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Asides {
    requests: AtomicU64,
    refusal: Mutex<Option<Box<Refusal>>>,
    /// By their streams, oldest first.
    lines: Mutex<VecDeque<(u32, FirstLine)>>,
    switch: Mutex<Switch>,
    interim: Mutex<Interim>,
}

/// How requests were answered, for the one that asks for another protocol.
#[derive(Debug, Default)]
struct Switch {
    /// Of the last one: its number, and whether it switched.
    answered: Option<(u64, bool)>,
    waits: Option<Waker>,
}

/// Answers of the kind 1xx: they go between two complete messages of the parser's.
#[derive(Debug, Default)]
struct Interim {
    bytes: Vec<u8>,
    being_written: bool,
    /// The transport's task.
    transport: Option<Waker>,
    /// Tasks of requests that wait until all is written.
    requests: Vec<Waker>,
}

impl Asides {
    /// A request comes from the parser: its number on the connection.
    pub fn begin(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// What it stands for, if it was put in another's place.
    pub fn refused(&self, number: u64) -> Option<Box<Refusal>> {
        let mut refusal = lock(&self.refusal);
        let is_this = refusal.as_ref().is_some_and(|it| it.number == number);
        if is_this { refusal.take() } else { None }
    }

    /// A request was refused before the parser saw it.
    pub fn put_refusal(&self, refusal: Box<Refusal>) {
        *lock(&self.refusal) = Some(refusal);
    }

    /// A request of HTTP/2 goes to the parser.
    pub fn put_line(&self, stream: u32, line: FirstLine) {
        let mut lines = lock(&self.lines);
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back((stream, line));
    }

    /// The request on this stream, unless it came from the parser already.
    pub fn take_line(&self, stream: u32) -> Option<FirstLine> {
        let mut lines = lock(&self.lines);
        let place = lines.iter().position(|(of, _)| *of == stream)?;
        lines.remove(place).map(|(_, line)| line)
    }

    /// The newest request that did not come from the parser.
    pub fn take_last_line(&self) -> Option<FirstLine> {
        lock(&self.lines).pop_back().map(|(_, line)| line)
    }

    /// A request is answered: with a switch of protocols, or not.
    pub fn answered(&self, number: u64, switches: bool) {
        let waits = {
            let mut switch = lock(&self.switch);
            switch.answered = Some((number, switches));
            switch.waits.take()
        };
        if let Some(waker) = waits {
            waker.wake();
        }
    }

    /// Whether the request of this number led to a switch; `cx` is woken when it is answered.
    pub fn poll_switch(&self, number: u64, cx: &Context<'_>) -> Poll<bool> {
        let mut switch = lock(&self.switch);
        match switch.answered {
            Some((answered, agreed)) if answered == number => Poll::Ready(agreed),
            _ => {
                switch.waits = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Puts an interim answer in the queue. One for which there is no room is left out.
    pub fn push_interim(&self, bytes: &[u8]) {
        let waker = {
            let mut interim = lock(&self.interim);
            if interim.bytes.len() + bytes.len() > INTERIM_BYTES {
                return;
            }
            interim.bytes.extend_from_slice(bytes);
            interim.transport.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What is to be written now. To be called between two messages.
    pub fn take_interim(&self) -> Vec<u8> {
        let mut interim = lock(&self.interim);
        interim.being_written = !interim.bytes.is_empty();
        std::mem::take(&mut interim.bytes)
    }

    /// What was taken has been written.
    pub fn interim_written(&self) {
        let wakers = {
            let mut interim = lock(&self.interim);
            interim.being_written = false;
            std::mem::take(&mut interim.requests)
        };
        for waker in wakers {
            waker.wake();
        }
    }

    /// The transport's task waits: it is woken for interim answers.
    pub fn transport_waits(&self, cx: &Context<'_>) {
        let mut interim = lock(&self.interim);
        match &mut interim.transport {
            Some(waker) => waker.clone_from(cx.waker()),
            None => interim.transport = Some(cx.waker().clone()),
        }
    }

    /// Ready when no interim answer waits: only then may the final one follow.
    pub fn poll_interim_done(&self, cx: &Context<'_>) -> Poll<()> {
        let mut interim = lock(&self.interim);
        if interim.bytes.is_empty() && !interim.being_written {
            return Poll::Ready(());
        }
        let known = interim.requests.iter();
        if !known.into_iter().any(|waker| waker.will_wake(cx.waker())) {
            interim.requests.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Gives up what waits and is not being written.
    pub fn drop_interim(&self) {
        lock(&self.interim).bytes.clear();
    }
}
