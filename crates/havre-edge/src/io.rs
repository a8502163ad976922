//! A client's connection, plain or TLS, with the deadlines that hyper does not know: a whole head
//! must arrive in time, and an early answer must be readable before the connection is reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;

use crate::limits;

/// What a connection is doing, shared by its transport and its requests.
#[derive(Debug, Default)]
pub struct Phase {
    in_head: AtomicBool,
    requests: AtomicU32,
    /// Requests whose next bytes the client does not take.
    blocked: AtomicU32,
    moves: AtomicU64,
    unread_body: AtomicBool,
}

/// A request under way on a connection, until dropped.
#[derive(Debug)]
pub struct InRequest {
    phase: Arc<Phase>,
    blocked: bool,
}

impl InRequest {
    /// The client's connection wants more of the answer (false) or has got some and has not asked
    /// for more (true).
    pub fn set_blocked(&mut self, blocked: bool) {
        self.phase.moves.fetch_add(1, Ordering::Relaxed);
        match (self.blocked, blocked) {
            (false, true) => self.phase.blocked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.phase.blocked.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        self.blocked = blocked;
    }
}

impl Drop for InRequest {
    fn drop(&mut self) {
        self.set_blocked(false);
        self.phase.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A look at a connection, to be compared with a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    requests: u32,
    blocked: u32,
    moves: u64,
}

/// What two looks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something goes on, or a replica is waited for.
    Alive,
    /// No request.
    Idle,
    /// Every request waits for the client to take its answer, and it does not.
    Stalled,
}

impl Glance {
    /// Compares with an earlier look.
    pub fn since(self, before: Self) -> Verdict {
        if self.moves != before.moves {
            Verdict::Alive
        } else if self.requests == 0 {
            Verdict::Idle
        } else if self.blocked == self.requests {
            Verdict::Stalled
        } else {
            Verdict::Alive
        }
    }
}

impl Phase {
    /// A head is complete.
    pub fn request(self: &Arc<Self>) -> InRequest {
        self.in_head.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Relaxed);
        InRequest {
            phase: Arc::clone(self),
            blocked: false,
        }
    }

    /// How it stands.
    pub fn glance(&self) -> Glance {
        Glance {
            requests: self.requests.load(Ordering::Relaxed),
            blocked: self.blocked.load(Ordering::Relaxed),
            moves: self.moves.load(Ordering::Relaxed),
        }
    }

    /// No request is under way.
    pub fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// The client may still be sending a body that nobody reads.
    pub fn leaves_body_unread(&self) {
        self.unread_body.store(true, Ordering::Relaxed);
    }
}

/// The transport under a client's connection.
#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// See the module.
#[derive(Debug)]
pub struct ClientIo {
    transport: Transport,
    /// None: HTTP/2, whose connections are watched by pings.
    phase: Option<Arc<Phase>>,
    head_deadline: Option<Pin<Box<Sleep>>>,
    /// Of the silence, and of the whole.
    linger: Option<(Pin<Box<Sleep>>, Instant)>,
    shut: bool,
}

impl ClientIo {
    /// Over TCP.
    pub fn plain(stream: TcpStream, phase: Arc<Phase>) -> Self {
        Self::new(Transport::Plain(stream), Some(phase))
    }

    /// Over TLS; `phase` for HTTP/1.
    pub fn tls(stream: TlsStream<TcpStream>, phase: Option<Arc<Phase>>) -> Self {
        Self::new(Transport::Tls(Box::new(stream)), phase)
    }

    fn new(transport: Transport, phase: Option<Arc<Phase>>) -> Self {
        Self {
            transport,
            phase,
            head_deadline: None,
            linger: None,
            shut: false,
        }
    }

    fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }

    /// Called after bytes came: the first ones on an idle connection begin a head.
    fn note_bytes(&mut self) {
        let Some(phase) = &self.phase else { return };
        if phase.is_idle() && !phase.in_head.swap(true, Ordering::Relaxed) {
            self.head_deadline = None;
        }
    }

    /// Called when no bytes are there.
    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let in_head = self
            .phase
            .as_ref()
            .is_some_and(|phase| phase.in_head.load(Ordering::Relaxed));
        if !in_head {
            self.head_deadline = None;
            return Poll::Pending;
        }
        let deadline = self
            .head_deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limits::HEAD_DEADLINE)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the request's head took too long",
        )))
    }

    /// Reads and forgets until the client has closed its side, or was silent, or time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unread = self
            .phase
            .as_ref()
            .is_some_and(|phase| phase.unread_body.load(Ordering::Relaxed));
        if !unread {
            return Poll::Ready(());
        }
        let now = Instant::now();
        let (mut silence, end) = self.linger.take().unwrap_or_else(|| {
            (
                Box::pin(sleep_until(now + limits::LINGER_SILENCE)),
                now + limits::LINGER,
            )
        });
        let mut space = [0_u8; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match self.poll_transport(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && Instant::now() < end => {
                    silence
                        .as_mut()
                        .reset((Instant::now() + limits::LINGER_SILENCE).min(end));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let over = silence.as_mut().poll(cx);
        self.linger = Some((silence, end));
        over
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match self.poll_transport(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before {
                    self.note_bytes();
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_head_deadline(cx),
        }
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(match &mut self.transport {
                Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            })?;
            self.shut = true;
        }
        ready!(self.poll_linger(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_stalled_connections_are_told_from_busy_ones() {
        let phase = Arc::new(Phase::default());
        let verdict = |change: &mut dyn FnMut()| {
            let before = phase.glance();
            change();
            phase.glance().since(before)
        };
        assert_eq!(verdict(&mut || ()), Verdict::Idle);
        let mut first = phase.request();
        assert_eq!(
            verdict(&mut || ()),
            Verdict::Alive,
            "its replica is waited for"
        );
        first.set_blocked(true);
        assert_eq!(verdict(&mut || ()), Verdict::Stalled);
        let second = phase.request();
        assert_eq!(
            verdict(&mut || ()),
            Verdict::Alive,
            "one of two waits for its replica"
        );
        drop(second);
        assert_eq!(
            verdict(&mut || first.set_blocked(false)),
            Verdict::Alive,
            "it moves"
        );
        assert_eq!(
            verdict(&mut || drop(phase.request())),
            Verdict::Alive,
            "one came and went"
        );
    }
}
