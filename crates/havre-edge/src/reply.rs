//! An answer's body on its way to the client: a page of ours, or what a replica sends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::phase::InRequest;
use crate::record::Record;
use crate::replica::{InFlight, Outcome};
use crate::stream::{OpenStream, Turn};
use crate::upstream::{ConnectionPool, Lease};
use crate::{grpc, headers, limits};

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
    source: ReplyBody,
    record: Option<Box<Record>>,
    under_way: Option<InRequest>,
}

#[derive(Debug)]
enum ReplyBody {
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
    stream: Option<OpenStream>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    in_flight: InFlight,
    pool: Arc<ConnectionPool>,
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
            stream: None,
        }
    }

    /// The client takes trailers.
    pub fn pass_trailers(&mut self) {
        self.trailers = true;
    }

    /// It is an event stream: it may be silent for any time, and ends when told.
    pub fn become_event_stream(&mut self) {
        let Some(held) = &mut self.held else { return };
        self.stream = Some(OpenStream::events(held.in_flight.become_stream()));
    }

    /// It answers a gRPC call: it may be silent, and is a stream once it has lasted.
    pub fn become_call(&mut self) {
        let Some(held) = &mut self.held else { return };
        let mut call = OpenStream::call();
        if held.in_flight.is_stream() {
            call.begin(held.in_flight.become_stream());
        }
        self.stream = Some(call);
    }

    /// Ready when a stream is to end here.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(stream), Some(held)) = (&mut self.stream, &mut self.held) else {
            return Poll::Pending;
        };
        loop {
            match ready!(stream.poll_turn(cx)) {
                Turn::Becomes => stream.begin(held.in_flight.become_stream()),
                Turn::Ends => return Poll::Ready(()),
            }
        }
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
        if self.stream.is_some() {
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

impl Reply {
    /// A page of ours.
    pub fn page(bytes: Bytes, record: Box<Record>, under_way: InRequest) -> Self {
        Self {
            source: ReplyBody::Page(bytes),
            record: Some(record),
            under_way: Some(waiting(under_way)),
        }
    }

    /// A replica's answer.
    pub fn relay(relay: Relay, record: Box<Record>, under_way: InRequest) -> Self {
        Self {
            source: ReplyBody::Relay(Box::new(relay)),
            record: Some(record),
            under_way: Some(waiting(under_way)),
        }
    }

    /// No body; the request goes on as a tunnel.
    pub fn nothing() -> Self {
        Self {
            source: ReplyBody::Nothing,
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
            record.cause = havre_base::one_line(error);
            record.failed = true;
        }
        if let ReplyBody::Relay(relay) = &mut self.source {
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
        if let ReplyBody::Page(bytes) = &mut self.source {
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
        let ReplyBody::Relay(relay) = &mut self.source else {
            return Poll::Ready(None);
        };
        if relay.poll_stream(cx).is_ready() {
            if let Some(record) = &mut self.record {
                "closed as the replica drains".clone_into(&mut record.cause);
            }
            // The replica's connection has more to say and is closed, not kept.
            if let Some(held) = relay.held.take() {
                held.in_flight.finish(Outcome::Abandoned);
            }
            let passes = relay.trailers;
            let goodbye = relay.stream.as_ref().and_then(OpenStream::goodbye);
            self.source = ReplyBody::Nothing;
            let goodbye = goodbye.filter(|_| passes).map(Frame::trailers);
            return Poll::Ready(goodbye.map(Ok));
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
                    if let Some(stream) = &mut relay.stream {
                        stream.note(data);
                    }
                    let length = data.len();
                    self.count(length);
                    return Poll::Ready(Some(Ok(frame)));
                }
                let passes = relay.trailers;
                let trailers = frame.into_trailers().ok();
                relay.server_error |= trailers.as_ref().is_some_and(grpc::is_failure);
                let trailers = trailers.filter(|_| passes);
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

/// Until it is asked for, an answer waits for its client.
fn waiting(mut under_way: InRequest) -> InRequest {
    under_way.set_blocked(true);
    under_way
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
            ReplyBody::Page(bytes) => bytes.is_empty(),
            ReplyBody::Relay(relay) => relay.body.is_end_stream(),
            ReplyBody::Nothing => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            ReplyBody::Page(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0)),
            ReplyBody::Relay(relay) => relay.body.size_hint(),
            ReplyBody::Nothing => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let cut_off = self.under_way.as_ref().is_some_and(InRequest::is_cut_off);
        let mut cause = cut_off.then_some("the client took nothing of the answer for too long");
        if let ReplyBody::Relay(relay) = &mut self.source
            && relay.held.is_some()
        {
            let outcome = match relay.body.is_end_stream() {
                true => relay.answered(),
                false => {
                    cause = cause.or(Some("the client left before the end of the answer"));
                    Outcome::Abandoned
                }
            };
            relay.finish(outcome);
        }
        if let (Some(cause), Some(record)) = (cause, &mut self.record)
            && record.cause.is_empty()
        {
            cause.clone_into(&mut record.cause);
        }
    }
}
