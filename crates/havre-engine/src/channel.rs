//! The daemon's side of a connection to a shim.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout};

use crate::protocol::{MAX_PACKET, Reply, Request};
use crate::rundir::RunDir;
use crate::sys;

/// Longest wait for an answer that a shim gives at once.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// Connects; `ConnectionRefused` or `NotFound` without a shim.
    pub async fn connect(dir: &RunDir) -> io::Result<Self> {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        loop {
            match dir.connect() {
                Ok(socket) => return Ok(Self(sys::async_fd(socket)?)),
                // Its queue is full.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline =>
                {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a request with descriptors.
    pub async fn send(&self, request: &Request, fds: &[OwnedFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(request)?;
        if bytes.len() > MAX_PACKET {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "the request is too large",
            ));
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let sent = self
            .0
            .async_io(Interest::WRITABLE, |fd| sys::send(fd, &bytes, &fds));
        timeout(ANSWER_DEADLINE, sent).await?
    }

    /// The next answer; `None` when the shim has closed. Cancel-safe.
    pub async fn receive(&self) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        let read = |fd: &OwnedFd| {
            let mut buffer = vec![0; 64 * 1024];
            Ok(sys::receive(fd, &mut buffer, false)?.map(|(len, fds)| {
                buffer.truncate(len);
                (buffer, fds)
            }))
        };
        match self.0.async_io(Interest::READABLE, read).await? {
            None => Ok(None),
            Some((bytes, fds)) => Ok(Some((serde_json::from_slice(&bytes)?, fds))),
        }
    }

    /// Asks, with descriptors, and awaits the one answer.
    pub async fn call(
        &self,
        request: &Request,
        fds: &[OwnedFd],
    ) -> io::Result<(Reply, Vec<OwnedFd>)> {
        self.send(request, fds).await?;
        let answer = timeout(ANSWER_DEADLINE, self.receive()).await??;
        answer.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))
    }
}
