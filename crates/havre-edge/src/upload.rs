//! A request's body on its way from the client to a replica.
//!
//! A small body of known length is read before a replica is chosen: a client that sends it byte by
//! byte occupies us, not one of a replica's few workers. Anything else is passed on as it comes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::headers;
use crate::limits;
use crate::phase::ConnectionActivity;
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
    Client,
    /// Deadline.
    #[error("the request body stopped arriving")]
    Stalled,
}

/// The body given to a replica's connection. Of its trailers those pass that no replica could take for
/// fields of the head ([`headers::safe_trailers`]).
#[derive(Debug)]
pub struct Upload<B: Remainder = Incoming> {
    source: UploadBody<B>,
    progress: Arc<UploadProgress>,
    phase: Arc<ConnectionActivity>,
    clock: Clock,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The client waits for `100 Continue` before it sends.
    waits: bool,
    /// Silence is no fault.
    is_call: bool,
}

#[derive(Debug)]
enum UploadBody<B> {
    Streaming(B),
    /// Its first bytes were read to see whether there are any.
    Begun(Bytes, B),
    Whole(Bytes),
    Done,
}

/// A client's body, of which something may be left when its replica wants no more.
pub trait Remainder: Body<Data = Bytes> + Unpin + Send + 'static {}
impl<B: Body<Data = Bytes> + Unpin + Send + 'static> Remainder for B {}

impl<B: Remainder> Upload<B> {
    /// Wraps a request's body.
    pub fn new(body: B, waits: bool, phase: Arc<ConnectionActivity>, clock: Clock) -> Self {
        let source = if body.is_end_stream() {
            UploadBody::Done
        } else {
            UploadBody::Streaming(body)
        };
        Self {
            source,
            progress: Arc::default(),
            phase,
            clock,
            deadline: None,
            waits,
            is_call: false,
        }
    }

    /// It is of a call whose client may say nothing for any time.
    pub fn become_call(&mut self) {
        self.is_call = true;
    }

    /// Reads the first bytes of a body of unknown length, to see whether there are any: a request that
    /// usually has none is then sent as usual. Tells whether there was anything to wait for.
    pub async fn peek(&mut self) -> Result<bool, UploadError> {
        let measured = match &self.source {
            UploadBody::Streaming(body) => body.size_hint().exact().is_some(),
            UploadBody::Begun(..) | UploadBody::Whole(_) | UploadBody::Done => true,
        };
        if measured {
            return Ok(false);
        }
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data()
                && !data.is_empty()
            {
                self.source = match std::mem::replace(&mut self.source, UploadBody::Done) {
                    UploadBody::Streaming(body) => UploadBody::Begun(data, body),
                    UploadBody::Begun(..) | UploadBody::Whole(_) | UploadBody::Done => {
                        UploadBody::Whole(data)
                    }
                };
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Reads the whole body now if it is small and its length is known. Tells whether it did.
    pub async fn gather(&mut self) -> Result<bool, UploadError> {
        let UploadBody::Streaming(body) = &self.source else {
            return Ok(false);
        };
        let Some(length) = body.size_hint().exact() else {
            return Ok(false);
        };
        if length > limits::GATHER_BYTES {
            return Ok(false);
        }
        let mut gathered = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                gathered.extend_from_slice(&data);
            }
        }
        self.source = UploadBody::Whole(gathered.freeze());
        Ok(true)
    }

    /// The same body for sending the request a second time; None if it is not here as a whole.
    pub fn spare(&self) -> Option<Self> {
        let source = match &self.source {
            UploadBody::Streaming(_) | UploadBody::Begun(..) => return None,
            UploadBody::Whole(bytes) => UploadBody::Whole(bytes.clone()),
            UploadBody::Done => UploadBody::Done,
        };
        Some(Self {
            source,
            progress: Arc::clone(&self.progress),
            phase: Arc::clone(&self.phase),
            clock: self.clock,
            deadline: None,
            waits: false,
            is_call: self.is_call,
        })
    }

    /// Whether [`Upload::spare`] gives something.
    pub fn is_here(&self) -> bool {
        !matches!(
            self.source,
            UploadBody::Streaming(_) | UploadBody::Begun(..)
        )
    }

    /// For the log and the deadlines.
    pub fn progress(&self) -> Arc<UploadProgress> {
        Arc::clone(&self.progress)
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<UploadError> {
        if self.is_call {
            return Poll::Pending;
        }
        let until = Instant::now() + limits::UPLOAD_STALL;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(deadline.as_mut().poll(cx));
        self.progress.stalled.store(true, Ordering::Relaxed);
        Poll::Ready(UploadError::Stalled)
    }

    fn count(&mut self, data: &Bytes) {
        self.deadline = None;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.progress.bytes.fetch_add(length, Ordering::Relaxed);
        self.progress
            .last_ms
            .store(self.clock.now_ms(), Ordering::Relaxed);
    }
}

impl<B: Remainder> Body for Upload<B> {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.waits = false;
        loop {
            if let UploadBody::Begun(..) = &self.source
                && let UploadBody::Begun(first, body) =
                    std::mem::replace(&mut self.source, UploadBody::Done)
            {
                self.source = UploadBody::Streaming(body);
                return Poll::Ready(Some(Ok(Frame::data(first))));
            }
            let body = match &mut self.source {
                UploadBody::Done | UploadBody::Begun(..) => return Poll::Ready(None),
                UploadBody::Whole(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.source = UploadBody::Done;
                    return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
                }
                UploadBody::Streaming(body) => body,
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return self.poll_stall(cx).map(|error| Some(Err(error))),
                Poll::Ready(None) => {
                    self.source = UploadBody::Done;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(_))) => {
                    self.source = UploadBody::Done;
                    self.progress.broken.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(UploadError::Client)));
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.count(&data);
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(frame) => {
                        let safe = frame.into_trailers().ok().and_then(headers::safe_trailers);
                        if let Some(trailers) = safe {
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            UploadBody::Streaming(body) => body.is_end_stream(),
            UploadBody::Begun(..) => false,
            UploadBody::Whole(bytes) => bytes.is_empty(),
            UploadBody::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            UploadBody::Streaming(body) => body.size_hint(),
            UploadBody::Begun(..) => SizeHint::default(),
            UploadBody::Whole(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(0))
            }
            UploadBody::Done => SizeHint::with_exact(0),
        }
    }
}

impl<B: Remainder> Drop for Upload<B> {
    /// A replica may answer before it has read everything. What is left is read to its end if that
    /// is near, so that the connection can be used again and the client reads the answer.
    fn drop(&mut self) {
        let body = match std::mem::replace(&mut self.source, UploadBody::Done) {
            UploadBody::Streaming(body) | UploadBody::Begun(_, body) => body,
            UploadBody::Whole(_) | UploadBody::Done => return,
        };
        if body.is_end_stream() {
            return;
        }
        // Of unknown length, too: how much comes shows then.
        let near = body
            .size_hint()
            .upper()
            .is_none_or(|left| left <= limits::DRAIN_BYTES);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if near && !self.waits && !self.progress.stalled() => {
                runtime.spawn(finish(body, Arc::clone(&self.phase)));
            }
            _ => self.phase.leaves_body_unread(),
        }
    }
}

/// Reads what is left, and tells its connection where its end was not so near.
async fn finish<B: Remainder>(mut body: B, phase: Arc<ConnectionActivity>) {
    let read = tokio::time::timeout(limits::DRAIN_TIME, drain(&mut body)).await;
    // Before the body goes, with which its connection may end.
    if !matches!(read, Ok(true)) {
        phase.leaves_body_unread();
    }
    drop(body);
}

/// Whether nothing is left to read.
async fn drain<B: Remainder>(body: &mut B) -> bool {
    let mut left = limits::DRAIN_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(u64::try_from(length).unwrap_or(u64::MAX)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;

    use super::*;

    /// A body fed by hand.
    struct Fed {
        pieces: mpsc::Receiver<&'static [u8]>,
        length: Option<u64>,
    }

    impl Body for Fed {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }

        fn size_hint(&self) -> SizeHint {
            self.length
                .map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    fn fed(length: Option<u64>) -> (mpsc::Sender<&'static [u8]>, Upload<Fed>) {
        let (feed, pieces) = mpsc::channel(8);
        let body = Fed { pieces, length };
        (
            feed,
            Upload::new(body, false, Arc::default(), Clock::start()),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_an_upload_and_slowness_does_not() {
        let (feed, mut upload) = fed(None);
        for _ in 0..10 {
            tokio::time::sleep(limits::UPLOAD_STALL / 2).await;
            feed.send(b"x").await.expect("a reader");
            let frame = upload.frame().await.expect("a frame").expect("data");
            assert_eq!(frame.into_data().expect("data"), "x");
        }
        let begin = Instant::now();
        upload.frame().await.expect("an end").expect_err("a stall");
        assert_eq!(begin.elapsed(), limits::UPLOAD_STALL);
        assert!(upload.progress().stalled());
        assert_eq!(upload.progress().bytes(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_the_clients_fault() {
        let (feed, mut upload) = fed(None);
        feed.send(b"a").await.expect("a reader");
        upload.frame().await.expect("a frame").expect("data");
        // Nothing is there yet: the deadline begins to run …
        let pending = tokio::time::timeout(Duration::from_secs(1), upload.frame()).await;
        assert!(pending.is_err());
        // … then data comes, and nobody reads it for long.
        feed.send(b"b").await.expect("a reader");
        tokio::time::sleep(limits::UPLOAD_STALL * 3).await;
        upload.frame().await.expect("a frame").expect("data");
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_are_gathered() {
        let (feed, mut upload) = fed(Some(4));
        feed.send(b"ab").await.expect("a reader");
        feed.send(b"cd").await.expect("a reader");
        drop(feed);
        upload.gather().await.expect("the whole");
        assert!(upload.is_here());
        let spare = upload.spare().expect("a spare");
        for body in [upload, spare] {
            assert_eq!(body.size_hint().exact(), Some(4));
            assert_eq!(body.collect().await.expect("data").to_bytes(), "abcd");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whether_there_is_a_body_shows_with_its_first_bytes() {
        let (feed, mut upload) = fed(None);
        feed.send(b"").await.expect("a reader");
        drop(feed);
        upload.peek().await.expect("nothing");
        assert!(upload.is_here() && upload.is_end_stream());
        let (feed, mut upload) = fed(None);
        feed.send(b"ab").await.expect("a reader");
        upload.peek().await.expect("the first bytes");
        assert!(!upload.is_here() && !upload.is_end_stream());
        upload.peek().await.expect("no more than those");
        feed.send(b"cd").await.expect("a reader");
        drop(feed);
        let progress = upload.progress();
        assert_eq!(upload.collect().await.expect("data").to_bytes(), "abcd");
        assert_eq!(progress.bytes(), 4);
        // What has a length is left as it is.
        let (_feed, mut upload) = fed(Some(limits::GATHER_BYTES + 1));
        upload.peek().await.expect("nothing to do");
        assert_eq!(upload.progress().bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_read_to_a_near_end_and_told_of_otherwise() {
        const PIECE: &[u8] = &[b'x'; 64 * 1024];
        let near = u64::try_from(PIECE.len()).expect("small") * 3;
        for (length, pieces, ends, is_left) in [
            (Some(near), 3, true, false),
            (None, 3, true, false),
            (None, 5, true, true),
            (Some(limits::DRAIN_BYTES + 1), 0, true, true),
            (Some(near), 1, false, true),
            (None, 0, false, true),
        ] {
            let (feed, upload) = fed(length);
            let phase = Arc::clone(&upload.phase);
            drop(upload);
            for _ in 0..pieces {
                // Nobody reads one that is too long to its end.
                if feed.send(PIECE).await.is_err() {
                    break;
                }
            }
            let kept = (!ends).then_some(feed);
            tokio::time::sleep(limits::DRAIN_TIME * 2).await;
            assert_eq!(phase.has_unread_body(), is_left, "{length:?} {pieces}");
            drop(kept);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_and_unmeasured_bodies_are_not() {
        for length in [None, Some(limits::GATHER_BYTES + 1)] {
            let (_feed, mut upload) = fed(length);
            upload.gather().await.expect("nothing to do");
            assert!(!upload.is_here() && upload.spare().is_none());
        }
    }
}
