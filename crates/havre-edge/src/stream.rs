//! Answers that go on for any time: event streams, and long gRPC calls. They may be silent, and end
//! when told, between two events or messages.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::grpc::{self, Messages};
use crate::limits;

/// See the module.
#[derive(Debug)]
pub struct OpenStream {
    /// `None`: it counts as a request still.
    told: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// When a request becomes a stream.
    becomes: Pin<Box<Sleep>>,
    ending: Option<Pin<Box<Sleep>>>,
    parts: Parts,
}

/// What a body is made of.
#[derive(Debug)]
enum Parts {
    /// The last bytes passed, newest last: an event ends with an empty line.
    Events { tail: [u8; 2] },
    /// Of gRPC.
    Messages(Messages),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has lasted long enough to be a stream.
    Becomes,
    /// It ends here.
    Ends,
}

impl OpenStream {
    /// An event stream.
    pub fn events(token: CancellationToken) -> Self {
        let mut stream = Self::new(Parts::Events { tail: *b"\n\n" });
        stream.begin(token);
        stream
    }

    /// A gRPC call.
    pub fn call() -> Self {
        Self::new(Parts::Messages(Messages::default()))
    }

    fn new(parts: Parts) -> Self {
        Self {
            told: None,
            becomes: Box::pin(sleep_until(Instant::now() + limits::CALL)),
            ending: None,
            parts,
        }
    }

    /// From here on it is a stream: told by `token` when it is to end.
    pub fn begin(&mut self, token: CancellationToken) {
        self.told = Some(Box::pin(token.cancelled_owned()));
    }

    /// Bytes that passed.
    pub fn note(&mut self, data: &[u8]) {
        match &mut self.parts {
            Parts::Events { tail } => {
                for byte in data.iter().skip(data.len().saturating_sub(2)) {
                    *tail = [tail[1], *byte];
                }
            }
            Parts::Messages(messages) => messages.note(data),
        }
    }

    /// Ready when something is to be done.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let Some(told) = &mut self.told else {
            ready!(self.becomes.as_mut().poll(cx));
            return Poll::Ready(Turn::Becomes);
        };
        if self.ending.is_none() {
            ready!(told.as_mut().poll(cx));
            let until = Instant::now() + limits::STREAM_BOUNDARY;
            self.ending = Some(Box::pin(sleep_until(until)));
        }
        let at_boundary = match &self.parts {
            Parts::Events { tail } => tail == b"\n\n",
            Parts::Messages(messages) => messages.at_boundary(),
        };
        if at_boundary {
            return Poll::Ready(Turn::Ends);
        }
        match &mut self.ending {
            Some(ending) => ending.as_mut().poll(cx).map(|()| Turn::Ends),
            None => Poll::Pending,
        }
    }

    /// What is said at the end.
    pub fn goodbye(&self) -> Option<HeaderMap> {
        match self.parts {
            Parts::Events { .. } => None,
            Parts::Messages(_) => Some(grpc::draining_trailers()),
        }
    }
}
