//! The transport of a connection to a replica.
//!
//! A replica may answer an upload before it has read it all, and close. Its answer is here, or on its
//! way, when our next write fails; so a failed write is passed over and the answer is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits;

/// See the module.
#[derive(Debug)]
pub struct UpstreamIo {
    stream: TcpStream,
    /// Bytes that may still be written to nowhere, once writing has failed.
    passed_over: Option<u64>,
}

impl UpstreamIo {
    /// Over TCP.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            passed_over: None,
        }
    }

    /// What a write has come to, seen by hyper.
    fn outcome(
        &mut self,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) if is_closed(&error) => self.pass_over(length, error),
            other => other,
        }
    }

    fn pass_over(&mut self, length: usize, error: io::Error) -> Poll<io::Result<usize>> {
        let left = self.passed_over.unwrap_or(limits::DRAIN_BYTES);
        let length_u64 = u64::try_from(length).unwrap_or(u64::MAX);
        match left.checked_sub(length_u64) {
            Some(left) => {
                self.passed_over = Some(left);
                Poll::Ready(Ok(length))
            }
            None => Poll::Ready(Err(error)),
        }
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.outcome(written, buf.len())
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
        self.outcome(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
