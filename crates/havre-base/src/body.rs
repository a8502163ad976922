//! Reading what comes over HTTP as a whole.

use bytes::{Buf, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a body is not there as a whole.
#[derive(Debug)]
pub enum BodyError {
    /// It has more bytes than may come.
    TooLong(TooLong),
    /// It ended early.
    Broken(Cause),
}

/// More came than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    most: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "length limit of {} bytes exceeded", self.most)
    }
}

impl std::error::Error for TooLong {}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLong(too_long) => too_long.fmt(f),
            Self::Broken(cause) => cause.fmt(f),
        }
    }
}

/// What it says itself is not said again.
impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooLong(_) => None,
            Self::Broken(cause) => cause.source(),
        }
    }
}

/// Pieces put together in one buffer, which is never larger than what may come, nor than twice what has come.
///
/// Pieces are copied: each shares the buffer that it was read into, so that who keeps pieces of one byte keeps
/// a read buffer for each.
#[derive(Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    most: usize,
}

impl Gathered {
    /// Nothing yet, and `most` bytes at most.
    pub fn new(most: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, most }
    }

    /// How many bytes have come.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none have come.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes it takes up once so many more have come.
    pub fn size_with(&self, more: usize) -> Result<usize, TooLong> {
        let length = self.bytes.len().checked_add(more);
        let length = length.filter(|length| *length <= self.most);
        let length = length.ok_or(TooLong { most: self.most })?;
        let size = self.bytes.capacity();
        Ok(match length <= size {
            true => size,
            false => length.max(size.saturating_mul(2)).min(self.most),
        })
    }

    /// Adds a piece.
    pub fn add(&mut self, mut piece: impl Buf) -> Result<(), TooLong> {
        let size = self.size_with(piece.remaining())?;
        self.bytes.reserve_exact(size - self.bytes.len());
        while piece.has_remaining() {
            let chunk = piece.chunk();
            let length = chunk.len();
            self.bytes.extend_from_slice(chunk);
            piece.advance(length);
        }
        Ok(())
    }

    /// The whole.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

/// Reads a body of `most` bytes at most, in whatever pieces it comes. Trailers are left out.
pub async fn collect<B>(body: B, most: usize) -> Result<Bytes, BodyError>
where
    B: Body<Error: Into<Cause>>,
{
    let mut body = std::pin::pin!(body);
    let mut gathered = Gathered::new(most);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.into()))?;
        if let Ok(piece) = frame.into_data() {
            gathered.add(piece).map_err(BodyError::TooLong)?;
        }
    }
    Ok(gathered.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    const READ: usize = 8 * 1024;

    /// A buffer that was read into, and how many of them are held now and were at most.
    struct ReadBuffer([u8; READ], Arc<Held>);

    #[derive(Default)]
    struct Held {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl AsRef<[u8]> for ReadBuffer {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for ReadBuffer {
        fn drop(&mut self) {
            self.1.now.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// So many pieces of one byte, each from a read of its own, as chunks come.
    struct Chunks(usize, Arc<Held>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Ready(None);
            };
            self.0 = left;
            let now = self.1.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.1.most.fetch_max(now, Ordering::Relaxed);
            let read = Bytes::from_owner(ReadBuffer([b'x'; READ], Arc::clone(&self.1)));
            Poll::Ready(Some(Ok(Frame::data(read.slice(..1)))))
        }
    }

    /// Of a body that is there at once.
    fn now<T>(reading: impl Future<Output = T>) -> T {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(reading).poll(&mut context) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn a_body_in_small_pieces_takes_up_what_it_has() {
        let held = Arc::new(Held::default());
        let body = now(collect(Chunks(60_000, Arc::clone(&held)), 64 * 1024));
        assert_eq!(body.expect("it fits").len(), 60_000);
        assert_eq!(held.most.load(Ordering::Relaxed), 1);
        assert_eq!(held.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_comes_than_may() {
        let held = Arc::new(Held::default());
        let read = |pieces, most| now(collect(Chunks(pieces, Arc::clone(&held)), most));
        assert_eq!(read(0, 0).expect("it fits").len(), 0);
        assert_eq!(read(100, 100).expect("it fits").len(), 100);
        let refused = read(101, 100).expect_err("one too many");
        assert!(matches!(refused, BodyError::TooLong(_)), "{refused}");
    }

    #[test]
    fn what_is_gathered_is_at_most_twice_what_came_and_never_above_the_limit() {
        let mut gathered = Gathered::new(1000);
        for length in 1..=1000 {
            let size = gathered.size_with(1).expect("it fits");
            gathered.add(&b"x"[..]).expect("it fits");
            assert_eq!(gathered.bytes.capacity(), size);
            assert!(size <= 1000 && size <= 2 * length, "{size} for {length}");
        }
        assert!(gathered.size_with(1).is_err());
        assert!(gathered.add(&b"x"[..]).is_err());
        assert_eq!(gathered.len(), 1000);
    }
}
