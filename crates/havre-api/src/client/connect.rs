//! Opening a connection to a daemon, wherever it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::address::Address;
use super::endpoint::{Endpoint, Token};
use super::ssh::{self, SshError, SshStream};
use super::tls::{self, TlsError, TlsStream};

/// How long `ssh` and its other end may take, where nobody has to type anything.
const SSH_DEADLINE: Duration = Duration::from_secs(30);
/// The same where somebody may have to.
const ASKING_DEADLINE: Duration = Duration::from_secs(180);
/// How long an address may take to be found and to answer.
const HTTPS_DEADLINE: Duration = Duration::from_secs(15);

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kernel refused it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// `ssh` did, or what it leads to.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// What answers cannot show that it is the server, or cannot speak TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody answered in time.
    #[error("nothing came for {} s", deadline.as_secs())]
    Slow {
        /// How long was waited.
        deadline: Duration,
    },
}

impl ConnectError {
    /// Whether there is no daemon on this machine.
    pub fn means_nobody(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Io(error) if matches!(error.kind(), NotFound | ConnectionRefused))
    }

    /// Whether this machine's daemon does not listen to this user.
    pub fn means_forbidden(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ssh(error) => error.hint(),
            Self::Tls(error) => error.hint(),
            Self::Io(_) | Self::Slow { .. } => None,
        }
    }
}

/// An open connection; it ends when it is dropped.
pub(super) enum Stream {
    Socket(UnixStream),
    Ssh(Box<SshStream>),
    Tls(Box<TlsStream>),
}

/// Opens a connection, in as much time as the way there may take.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Stream, ConnectError> {
    match &endpoint.address {
        Address::Socket(path) | Address::Unix(path) => {
            Ok(Stream::Socket(UnixStream::connect(path).await?))
        }
        Address::Ssh(address) => {
            let deadline = match endpoint.ssh.asking {
                true => ASKING_DEADLINE,
                false => SSH_DEADLINE,
            };
            let connecting = ssh::connect(address, &endpoint.ssh);
            let stream = timeout(deadline, connecting).await;
            let stream = stream.map_err(|_| ConnectError::Slow { deadline })??;
            Ok(Stream::Ssh(Box::new(stream)))
        }
        Address::Https(address) => {
            let deadline = HTTPS_DEADLINE;
            let connecting = tls::connect(address, endpoint.ca_file.as_deref());
            let stream = timeout(deadline, connecting).await;
            let stream = stream.map_err(|_| ConnectError::Slow { deadline })??;
            Ok(Stream::Tls(Box::new(stream)))
        }
    }
}

/// What requests to this address say of host and caller.
pub(super) fn heads(endpoint: &Endpoint) -> (String, Option<&Token>) {
    match &endpoint.address {
        Address::Socket(_) | Address::Ssh(_) => ("havre".to_owned(), None),
        Address::Https(address) => (address.authority(), endpoint.token.as_ref()),
        Address::Unix(_) => ("havre".to_owned(), endpoint.token.as_ref()),
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $do:expr) => {
        match $stream.get_mut() {
            Stream::Socket($inner) => $do,
            Stream::Ssh($inner) => $do,
            Stream::Tls($inner) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
