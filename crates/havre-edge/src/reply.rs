//! An answer's body on its way to the client: a page of ours, or what a replica sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::io::InRequest;
use crate::record::Record;
use crate::replica::{InFlight, Outcome};
use crate::upstream::{ConnectionPool, Lease};
use crate::{headers, limits};

/// Why a body ends before its end: the client's connection is broken off, so that it can tell.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// From the replica's connection.
    #[error("the replica broke off its answer")]
    Replica(#[source] hyper::Error),
    /// [`limits::RESPONSE_STALL`].
    #[error("the replica stopped in the middle of its answer")]
    Stalled,
}

/// The body given to the client's connection.
#[derive(Debug)]
pub struct Reply {
    source: Source,
    record: Option<Box<Record>>,
    under_way: Option<InRequest>,
}

#[derive(Debug)]
enum Source {
    Page(Bytes),
    Relay(Box<Relay>),
    /// Of a 101: what follows is a tunnel.
    Nothing,
}

/// A replica's body and all that hangs on it.
#[derive(Debug)]
pub struct Relay {
    body: Incoming,
    /// Given up at the end.
    held: Option<Held>,
    server_error: bool,
    /// The client takes trailers.
    trailers: bool,
    stall: Option<Pin<Box<Sleep>>>,
    events: Option<EventStream>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    in_flight: InFlight,
    pool: Arc<ConnectionPool>,
}

#[derive(Debug)]
struct EventStream {
    told: Pin<Box<WaitForCancellationFutureOwned>>,
    ending: Option<Pin<Box<Sleep>>>,
    /// The last bytes passed, newest last: an event ends with an empty line.
    tail: [u8; 2],
}

impl Relay {
    /// The body of an answer that came through `lease`.
    pub fn new(
        body: Incoming,
        lease: Lease,
        in_flight: InFlight,
        pool: Arc<ConnectionPool>,
        server_error: bool,
    ) -> Self {
        let held = Some(Held {
            lease,
            in_flight,
            pool,
        });
        Self {
            body,
            held,
            server_error,
            trailers: false,
            stall: None,
            events: None,
        }
    }

    /// The client takes trailers.
    pub fn pass_trailers(&mut self) {
        self.trailers = true;
    }

    /// It is an event stream: it may be silent for any time, and ends when told.
    pub fn become_event_stream(&mut self) {
        let Some(held) = &mut self.held else { return };
        let token: CancellationToken = held.in_flight.become_stream();
        self.events = Some(EventStream {
            told: Box::pin(token.cancelled_owned()),
            ending: None,
            tail: *b"\n\n",
        });
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(Held {
            lease,
            in_flight,
            pool,
        }) = self.held.take()
        else {
            return;
        };
        in_flight.finish(outcome);
        if matches!(outcome, Outcome::Answered { .. }) {
            pool.give_back(lease);
        }
    }

    fn answered(&self) -> Outcome {
        Outcome::Answered {
            server_error: self.server_error,
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<ReplyError> {
        if self.events.is_some() {
            return Poll::Pending;
        }
        let until = Instant::now() + limits::RESPONSE_STALL;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(ReplyError::Stalled)
    }
}

impl EventStream {
    fn note(&mut self, data: &[u8]) {
        for byte in data.iter().skip(data.len().saturating_sub(2)) {
            self.tail = [self.tail[1], *byte];
        }
    }

    /// Ready when the stream is to end here.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending.is_none() {
            ready!(self.told.as_mut().poll(cx));
            let until = Instant::now() + limits::STREAM_BOUNDARY;
            self.ending = Some(Box::pin(sleep_until(until)));
        }
        if self.tail == *b"\n\n" {
            return Poll::Ready(());
        }
        match &mut self.ending {
            Some(ending) => ending.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Reply {
    /// A page of ours.
    pub fn page(bytes: Bytes, record: Box<Record>, under_way: InRequest) -> Self {
        Self {
            source: Source::Page(bytes),
            record: Some(record),
            under_way: Some(under_way),
        }
    }

    /// A replica's answer.
    pub fn relay(relay: Relay, record: Box<Record>, under_way: InRequest) -> Self {
        Self {
            source: Source::Relay(Box::new(relay)),
            record: Some(record),
            under_way: Some(under_way),
        }
    }

    /// No body; the request goes on as a tunnel.
    pub fn nothing() -> Self {
        Self {
            source: Source::Nothing,
            record: None,
            under_way: None,
        }
    }

    fn count(&mut self, length: usize) {
        if let Some(record) = &mut self.record {
            record.bytes += u64::try_from(length).unwrap_or(0);
        }
    }

    fn fail(&mut self, error: &ReplyError) {
        if let Some(record) = &mut self.record {
            record.cause = crate::error_chain(error);
        }
        if let Source::Relay(relay) = &mut self.source {
            relay.finish(Outcome::Failed);
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        if let Some(under_way) = &mut self.under_way {
            under_way.set_blocked(blocked);
        }
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        if let Source::Page(bytes) = &mut self.source {
            let bytes = std::mem::take(bytes);
            self.count(bytes.len());
            return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
        }
        self.poll_relay(cx)
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let Source::Relay(relay) = &mut self.source else {
            return Poll::Ready(None);
        };
        if let Some(events) = &mut relay.events
            && events.poll_end(cx).is_ready()
        {
            if let Some(record) = &mut self.record {
                "closed as the replica drains".clone_into(&mut record.cause);
            }
            // The replica's connection has more to say and is closed, not kept.
            if let Some(held) = relay.held.take() {
                held.in_flight.finish(Outcome::Abandoned);
            }
            return Poll::Ready(None);
        }
        let error = match Pin::new(&mut relay.body).poll_frame(cx) {
            Poll::Pending => ready!(relay.poll_stall(cx)),
            Poll::Ready(None) => {
                let outcome = relay.answered();
                relay.finish(outcome);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(frame))) => {
                relay.stall = None;
                if let Some(data) = frame.data_ref() {
                    if let Some(events) = &mut relay.events {
                        events.note(data);
                    }
                    let length = data.len();
                    self.count(length);
                    return Poll::Ready(Some(Ok(frame)));
                }
                let passes = relay.trailers;
                let trailers = frame.into_trailers().ok().filter(|_| passes);
                return match trailers.and_then(headers::safe_trailers) {
                    Some(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                    // The body's end comes next.
                    None => self.poll_relay(cx),
                };
            }
            Poll::Ready(Some(Err(error))) => ReplyError::Replica(error),
        };
        self.fail(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        self.set_blocked(false);
        let polled = self.poll_source(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.set_blocked(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Page(bytes) => bytes.is_empty(),
            Source::Relay(relay) => relay.body.is_end_stream(),
            Source::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Page(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0)),
            Source::Relay(relay) => relay.body.size_hint(),
            Source::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let Source::Relay(relay) = &mut self.source else {
            return;
        };
        if relay.held.is_none() {
            return;
        }
        if relay.body.is_end_stream() {
            let outcome = relay.answered();
            relay.finish(outcome);
            return;
        }
        relay.finish(Outcome::Abandoned);
        if let Some(record) = &mut self.record
            && record.cause.is_empty()
        {
            "the client left before the end of the answer".clone_into(&mut record.cause);
        }
    }
}
