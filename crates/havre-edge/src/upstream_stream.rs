//! The connection under one to a replica: TCP, or a Unix socket of this machine.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::limits;
use crate::replica::Address;

/// See the module.
#[derive(Debug)]
pub enum UpstreamStream {
    /// To an address of a network.
    Tcp(TcpStream),
    /// To a socket.
    Unix(UnixStream),
}

/// Between two looks whether a socket's queue has room.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// A connection could not be made; nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// By the operating system.
    #[error("{0}")]
    Refused(String),
    /// [`limits::CONNECT`].
    #[error("no answer within {} s", limits::CONNECT.as_secs())]
    Timeout,
    /// By hyper.
    #[error("the connection closed at once")]
    Handshake(#[source] hyper::Error),
}

impl UpstreamStream {
    /// Connects, within [`limits::CONNECT`].
    pub async fn connect(address: &Address) -> Result<Self, ConnectError> {
        let connecting = async {
            match address {
                Address::Network(address) => {
                    let stream = TcpStream::connect(address).await;
                    stream
                        .and_then(|stream| stream.set_nodelay(true).map(|()| Self::Tcp(stream)))
                        .map_err(|error| at_network(&error))
                }
                Address::Socket(path) => connect_socket(path)
                    .await
                    .map(Self::Unix)
                    .map_err(|error| at_socket(path, &error)),
            }
        };
        tokio::time::timeout(limits::CONNECT, connecting)
            .await
            .map_err(|_| ConnectError::Timeout)?
            .map_err(ConnectError::Refused)
    }
}

/// With a queue that is full the kernel does not wait, as it does with TCP, but says so.
async fn connect_socket(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
            connected => return connected,
        }
    }
}

/// Without `(os error 111)`.
fn at_network(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    }
}

fn at_socket(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket {path}"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens on {path}"),
        io::ErrorKind::PermissionDenied => format!("the edge may not connect to {path}"),
        _ => format!("{path}: {error}"),
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    fn socket(path: &Path) -> Address {
        Address::Socket(Arc::from(path))
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener
            .bind(&SockAddr::unix(&path).expect("a path"))
            .expect("to bind");
        listener.listen(0).expect("to listen");
        let first = UpstreamStream::connect(&socket(&path)).await;
        first.expect("the queue's one place");
        assert_eq!(
            UnixStream::connect(&path).await.expect_err("full").kind(),
            io::ErrorKind::WouldBlock
        );
        let waiting = tokio::spawn({
            let address = socket(&path);
            async move { UpstreamStream::connect(&address).await }
        });
        tokio::task::yield_now().await;
        listener.accept().expect("the first");
        waiting.await.expect("its end").expect("a connection");
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_socket_is_said_with_its_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let failed = async || {
            let connected = UpstreamStream::connect(&socket(&path)).await;
            connected.expect_err("nobody is there").to_string()
        };
        assert_eq!(
            failed().await,
            format!("there is no socket {}", path.display())
        );
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        assert_eq!(
            failed().await,
            format!("nobody listens on {}", path.display())
        );
    }
}
