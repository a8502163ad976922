//! Gives images to registries.
//!
//! Blobs that the repository lacks go first, one after the other, then the manifest as it is, byte for byte: the digest
//! that a registry has is the one that was built. Whoever pushes need not have the store: bytes come from a
//! [`BlobSource`].

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use havre_base::blocking;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinError;

use crate::manifest::{Manifest, media};
use crate::pull::request_hint;
use crate::registry::auth::{Credentials, CredentialsError};
use crate::registry::{Registry, RequestError, Sent, Transport, TransportError, broken};
use crate::{Digest, ImageRef};

/// How often something is sent that failed for a reason that may pass, and how long is waited before.
const TRIES: [std::time::Duration; 3] = [
    std::time::Duration::ZERO,
    std::time::Duration::from_secs(1),
    std::time::Duration::from_secs(4),
];
/// Bytes of a blob that are in memory.
const CHUNK: usize = 128 << 10;

/// Bytes of a blob.
pub type BlobBytes = Box<dyn AsyncRead + Send + Unpin>;

/// Has the blobs of an image.
pub trait BlobSource: Send + Sync {
    /// All bytes of a blob; asked again for another try.
    fn open(&self, digest: &Digest) -> io::Result<BlobBytes>;
}

/// An image as it travels.
#[derive(Clone, Debug)]
pub struct Pushable {
    manifest: Bytes,
    media_type: String,
    blobs: Vec<(Digest, u64)>,
}

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Who asks.
    pub credentials: Credentials,
    /// Files of certificates to trust beside the machine's.
    pub certificates: Vec<PathBuf>,
}

/// A push that failed; what was sent before is kept by the registry for the next try.
#[derive(Debug, thiserror::Error)]
#[error("cannot push {reference}")]
pub struct PushError {
    /// The image.
    pub reference: ImageRef,
    /// The reason.
    pub source: PushFault,
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushFault {
    /// The registry.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The connection cannot even be tried.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Its own digest cannot be chosen.
    #[error("a name to push to has no digest")]
    Pinned,
    /// A thread of the process ended early.
    #[error("the process is shutting down")]
    ShuttingDown,
}

impl From<JoinError> for PushFault {
    fn from(_: JoinError) -> Self {
        Self::ShuttingDown
    }
}

impl PushError {
    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        match &self.source {
            PushFault::Request(RequestError::Connect { .. } | RequestError::Timeout { .. }) => {
                let registry = self.reference.registry();
                Some(format!(
                    "check the network and the name of the registry {registry}"
                ))
            }
            PushFault::Request(error) => request_hint(error, self.reference.registry()),
            PushFault::Pinned => Some("leave `@sha256:…` out".to_owned()),
            PushFault::Credentials(_) | PushFault::Transport(_) | PushFault::ShuttingDown => None,
        }
    }
}

impl Pushable {
    /// Of a manifest's exact bytes.
    pub fn read(manifest: Vec<u8>) -> Result<Self, serde_json::Error> {
        let parsed: Manifest = serde_json::from_slice(&manifest)?;
        let mut blobs = vec![(parsed.config.digest, parsed.config.size)];
        for layer in &parsed.layers {
            if !blobs.iter().any(|(known, _)| *known == layer.digest) {
                blobs.push((layer.digest, layer.size));
            }
        }
        Ok(Self {
            manifest: manifest.into(),
            media_type: parsed.media_type.unwrap_or(media::MANIFEST.to_owned()),
            blobs,
        })
    }

    /// What names it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Sends what a repository lacks of it, and gives it its name there. `tell` hears how many bytes are about to be
    /// sent of which blob.
    pub async fn push(
        &self,
        source: &dyn BlobSource,
        reference: &ImageRef,
        options: &PushOptions,
        tell: &(dyn Fn(&Digest, u64) + Send + Sync),
    ) -> Result<(), PushError> {
        let pushed = self.push_to(source, reference, options, tell).await;
        pushed.map_err(|source| PushError {
            reference: reference.clone(),
            source,
        })
    }

    async fn push_to(
        &self,
        source: &dyn BlobSource,
        reference: &ImageRef,
        options: &PushOptions,
        tell: &(dyn Fn(&Digest, u64) + Send + Sync),
    ) -> Result<(), PushFault> {
        if reference.digest().is_some() {
            return Err(PushFault::Pinned);
        }
        let host = reference.registry().to_owned();
        let options = options.clone();
        let (login, transport) = blocking(move || -> Result<_, PushFault> {
            let transport = Transport::new(&options.certificates)?;
            Ok((options.credentials.find(&host)?, transport))
        })
        .await??;
        let host = reference.registry();
        let registry = Registry::new(transport, host, reference.repository(), login, false);
        for (digest, size) in &self.blobs {
            let sending = async || {
                if registry.has_blob(digest).await? {
                    return Ok(());
                }
                tell(digest, *size);
                let body = || body(source, digest, *size, host);
                registry.put_blob(digest, *size, &body).await
            };
            patiently(sending).await?;
        }
        let tag = reference.tag().unwrap_or("latest");
        let naming = async || {
            registry
                .put_manifest(tag, &self.media_type, &self.manifest)
                .await
        };
        Ok(patiently(naming).await?)
    }
}

async fn patiently(
    mut work: impl AsyncFnMut() -> Result<(), RequestError>,
) -> Result<(), RequestError> {
    let mut last = Ok(());
    for pause in TRIES {
        let asked = match &last {
            Err(error) => RequestError::retry_after(error),
            Ok(()) => None,
        };
        tokio::time::sleep(asked.unwrap_or(pause).min(MAX_PAUSE)).await;
        last = work().await;
        match &last {
            Err(error) if error.transient() => {}
            _ => break,
        }
    }
    last
}

/// However long a registry wants to be left alone.
const MAX_PAUSE: std::time::Duration = std::time::Duration::from_secs(30);

fn body(
    source: &dyn BlobSource,
    digest: &Digest,
    size: u64,
    host: &str,
) -> Result<Sent, RequestError> {
    let bytes = source.open(digest).map_err(|error| broken(host, error))?;
    let body = Reading {
        bytes,
        left: size,
        buffer: vec![0; CHUNK],
    };
    Ok(body.boxed_unsync())
}

/// A body of known length, as it is read.
struct Reading {
    bytes: BlobBytes,
    left: u64,
    buffer: Vec<u8>,
}

impl Body for Reading {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let most = usize::try_from(this.left).unwrap_or(CHUNK).min(CHUNK);
        let mut buffer = ReadBuf::new(&mut this.buffer[..most]);
        if let Err(error) = ready!(Pin::new(&mut this.bytes).poll_read(cx, &mut buffer)) {
            return Poll::Ready(Some(Err(error)));
        }
        let read = buffer.filled();
        if read.is_empty() {
            let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Poll::Ready(Some(Err(cut)));
        }
        this.left -= read.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(read)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
