//! A request's body on its way from the client to a replica.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::io::Phase;
use crate::limits;
use crate::replica::Clock;

/// What others see of an upload.
#[derive(Debug, Default)]
pub struct UploadProgress {
    bytes: AtomicU64,
    last_ms: AtomicU64,
    stalled: AtomicBool,
    broken: AtomicBool,
}

impl UploadProgress {
    /// Bytes received.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When the last bytes came, on the edge's clock; 0 before the first.
    pub fn last_ms(&self) -> u64 {
        self.last_ms.load(Ordering::Relaxed)
    }

    /// Given up since nothing came for [`limits::UPLOAD_STALL`].
    pub fn stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// The client broke its own request off.
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// Why an upload ended early.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// From the client's connection.
    #[error("the client broke off its request")]
    Client(#[source] hyper::Error),
    /// Deadline.
    #[error("the request body stopped arriving")]
    Stalled,
}

/// The body given to a replica's connection. Only data passes: trailers of requests have no use that
/// is worth their abuse.
#[derive(Debug)]
pub struct Upload {
    body: Option<Incoming>,
    progress: Arc<UploadProgress>,
    phase: Arc<Phase>,
    clock: Clock,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client waits for `100 Continue` before it sends.
    waits: bool,
}

impl Upload {
    /// Wraps a request's body.
    pub fn new(body: Incoming, waits: bool, phase: Arc<Phase>, clock: Clock) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        Self {
            body,
            progress: Arc::default(),
            phase,
            clock,
            deadline: None,
            waits,
        }
    }

    /// No body, for a request sent a second time.
    pub fn empty(&self) -> Self {
        Self {
            body: None,
            progress: Arc::clone(&self.progress),
            phase: Arc::clone(&self.phase),
            clock: self.clock,
            deadline: None,
            waits: false,
        }
    }

    /// For the log and the deadlines.
    pub fn progress(&self) -> Arc<UploadProgress> {
        Arc::clone(&self.progress)
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        let until = Instant::now() + limits::UPLOAD_STALL;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(deadline.as_mut().poll(cx));
        self.progress.stalled.store(true, Ordering::Relaxed);
        Poll::Ready(UploadError::Stalled)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.waits = false;
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return self.poll_stall(cx).map(|error| Some(Err(error))),
                Poll::Ready(None) => {
                    self.body = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.body = None;
                    self.progress.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(UploadError::Client(error))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    self.deadline = None;
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    self.progress.bytes.fetch_add(length, Ordering::Relaxed);
                    self.progress
                        .last_ms
                        .store(self.clock.now_ms(), Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    /// A replica may answer before it has read everything. What is left is read to its end if that
    /// is near, so that the connection can be used again and the client reads the answer.
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if body.is_end_stream() || self.progress.stalled() {
            return;
        }
        let near = body
            .size_hint()
            .upper()
            .is_some_and(|left| left <= limits::DRAIN_BYTES);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if near && !self.waits => {
                runtime.spawn(tokio::time::timeout(limits::DRAIN_TIME, drain(body)));
            }
            _ => self.phase.leaves_body_unread(),
        }
    }
}

async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
