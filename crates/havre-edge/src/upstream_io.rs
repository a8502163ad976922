//! The transport of a connection to a replica.
//!
//! A replica may answer an upload before it has read it all, and close. Its answer is here, or on its
//! way, when our next write fails; so a failed write waits for the answer and is passed over.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits;
use crate::upstream_stream::UpstreamStream;

/// See the module.
#[derive(Debug)]
pub struct UpstreamIo {
    stream: UpstreamStream,
    failed: Option<Failed>,
}

/// Writing has failed.
#[derive(Debug)]
struct Failed {
    /// Bytes that may still be written to nowhere.
    passed_over: u64,
    /// The writer that waits for the answer: without that a client that sends fast enough would use
    /// up what may be passed over before anybody reads.
    waits: Option<(Pin<Box<Sleep>>, Waker)>,
}

impl UpstreamIo {
    /// Over what is connected.
    pub fn new(stream: UpstreamStream) -> Self {
        Self {
            stream,
            failed: None,
        }
    }

    /// What a write has come to, seen by hyper.
    fn outcome(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_closed(&error) => {
                let failed = self.failed.get_or_insert_with(|| Failed {
                    passed_over: limits::DRAIN_BYTES,
                    waits: Some((Box::pin(sleep(limits::ANSWER_WAIT)), cx.waker().clone())),
                });
                ready!(failed.poll_answer(cx));
                Poll::Ready(failed.pass_over(length).ok_or(error))
            }
            other => other,
        }
    }
}

impl Failed {
    /// Ready when something was read since, or nothing will be.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((sleep, waker)) = &mut self.waits {
            waker.clone_from(cx.waker());
            ready!(sleep.as_mut().poll(cx));
            self.waits = None;
        }
        Poll::Ready(())
    }

    fn answered(&mut self) {
        if let Some((_, waker)) = self.waits.take() {
            waker.wake();
        }
    }

    fn pass_over(&mut self, length: usize) -> Option<usize> {
        let bytes = u64::try_from(length).ok()?;
        self.passed_over = self.passed_over.checked_sub(bytes)?;
        Some(length)
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let (Poll::Ready(_), Some(failed)) = (&read, &mut self.failed) {
            failed.answered();
        }
        read
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.outcome(cx, written, buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.outcome(cx, written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    #[tokio::test]
    async fn a_failed_write_waits_until_the_answer_was_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let stream = UpstreamStream::Tcp(stream.await.unwrap());
        let (mut replica, _) = listener.accept().await.unwrap();
        let mut io = UpstreamIo::new(stream);
        io.write_all(b"an upload").await.unwrap();
        replica.readable().await.unwrap();
        replica.write_all(b"too large").await.unwrap();
        // With the upload unread: a reset.
        drop(replica);
        answer_is_read(io).await;
    }

    #[tokio::test]
    async fn so_it_does_with_a_socket() {
        let (stream, mut server) = UnixStream::pair().unwrap();
        let mut io = UpstreamIo::new(UpstreamStream::Unix(stream));
        io.write_all(b"an upload").await.unwrap();
        server.write_all(b"too large").await.unwrap();
        drop(server);
        answer_is_read(io).await;
    }

    async fn answer_is_read(mut io: UpstreamIo) {
        let chunk = [7; 8192];
        let write = loop {
            let mut write = Box::pin(io.write(&chunk));
            let polled = std::future::poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await;
            match polled {
                Poll::Ready(written) => assert_eq!(written.unwrap(), chunk.len()),
                Poll::Pending => break write,
            }
        };
        drop(write);
        assert!(io.failed.is_some());
        let mut answer = [0; 9];
        io.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"too large");
        for _ in 0..limits::DRAIN_BYTES / 8192 {
            assert_eq!(io.write(&chunk).await.unwrap(), chunk.len());
        }
        assert!(io.write(&chunk).await.is_err());
    }
}
