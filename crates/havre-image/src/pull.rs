//! Fetches images from registries.
//!
//! Blobs stream to `partial/<digest>`, two at a time, and become blobs once their digest holds. A
//! download that was cut, also by the end of the process, goes on where it stopped.

mod download;
mod tries;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use havre_base::blocking;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::sync::Mutex;
use tokio::task::JoinError;

use tries::Tries;

use crate::blobs::{BlobError, MAX_DOCUMENT};
use crate::images::{Image, ImageError, Images};
use crate::layers::LayerError;
use crate::manifest::{Descriptor, Index, Manifest, media};
use crate::names::{NameRefused, NameRights, NameUse};
use crate::progress::{Progress, TransferPhase};
use crate::registry::auth::{Credentials, CredentialsError};
use crate::registry::{self, LoginState, Registry, RequestError, Transport, TransportError};
use crate::{Digest, ImageRef, Platform};

/// What a manifest may be.
const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// How to pull.
#[derive(Clone)]
pub struct PullOptions {
    /// For which kind of machine.
    pub platform: Platform,
    /// Who asks.
    pub credentials: Credentials,
    /// Registries (`host[:port]`) that are spoken to without TLS. Those on this machine are tried
    /// with TLS first and without if that fails.
    pub plain_http: Vec<String>,
    /// Files of certificates to trust beside the machine's.
    pub certificates: Vec<PathBuf>,
    /// For whom the name is given.
    pub names: NameRights,
    /// Whether it is given at all: without one the image goes when nobody holds it.
    pub named: bool,
    /// Told how far it is.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: Platform::of_this_machine(),
            credentials: Credentials::Anonymous,
            plain_http: Vec::new(),
            certificates: Vec::new(),
            names: NameRights::everything(),
            named: true,
            progress: Arc::new(crate::progress::silent),
        }
    }
}

/// A pull that failed; what was fetched before is kept for the next try.
#[derive(Debug, thiserror::Error)]
#[error("cannot pull {reference}")]
pub struct PullError {
    /// The image.
    pub reference: ImageRef,
    /// The reason.
    pub source: PullFault,
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullFault {
    /// The registry.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The connection cannot even be tried.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Not for this kind of machine.
    #[error("there is no image for {wanted}, only for {}", offered.join(", "))]
    NoPlatform {
        /// What is needed.
        wanted: Platform,
        /// What there is.
        offered: Vec<String>,
    },
    /// The manifest is of a kind this store does not know.
    #[error("its manifest has the type {media_type:?}, which is not supported")]
    ManifestType {
        /// The kind.
        media_type: String,
    },
    /// The manifest does not have the expected form.
    #[error("its manifest is not valid")]
    Manifest(#[source] serde_json::Error),
    /// The registry gave something else than was asked for.
    #[error("the registry gave {found} where {expected} was asked for")]
    Digest {
        /// Asked for.
        expected: Digest,
        /// Given.
        found: Digest,
    },
    /// A blob is longer than its descriptor says.
    #[error("blob {digest} is longer than the {size} bytes that its manifest says")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// Its announced length.
        size: u64,
    },
    /// The store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A partial download.
    #[error("cannot {operation} {path}", path = path.display())]
    Partial {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The layers.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The documents.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A thread of the process ended early.
    #[error("the process is shutting down")]
    ShuttingDown,
}

impl PullError {
    /// Why the name is not for who fetches it.
    pub fn refusal(&self) -> Option<&NameRefused> {
        match &self.source {
            PullFault::Image(ImageError::Refused(refused)) => Some(refused),
            _ => None,
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        let registry = self.reference.registry();
        match &self.source {
            PullFault::Request(error) => request_hint(error, registry),
            PullFault::Credentials(_)
            | PullFault::Transport(_)
            | PullFault::NoPlatform { .. }
            | PullFault::ManifestType { .. }
            | PullFault::Manifest(_)
            | PullFault::Digest { .. }
            | PullFault::TooLong { .. }
            | PullFault::Blob(_)
            | PullFault::Partial { .. }
            | PullFault::Layer(_)
            | PullFault::ShuttingDown => None,
            PullFault::Image(ImageError::Refused(refused)) => refused.hint.clone(),
            PullFault::Image(_) => None,
        }
    }
}

pub(crate) fn request_hint(error: &RequestError, registry: &str) -> Option<String> {
    Some(match error {
        RequestError::Connect { .. } | RequestError::Timeout { .. } => format!(
            "check the network and the name of the registry {registry}; without one, import the \
             image from a file: havre image import FILE --tag NAME"
        ),
        RequestError::Certificate { .. } => format!(
            "trust the certificate's issuer on this machine (update-ca-certificates), or list \
             {registry} as a registry without TLS"
        ),
        RequestError::Unauthorized { login, .. } => match login {
            LoginState::None => format!(
                "it is private or does not exist; store credentials for {registry} with docker \
                 login or in Docker's config.json"
            ),
            LoginState::Refused { user } => {
                format!("the credentials of {user} are wrong or do not reach this repository")
            }
            LoginState::Helper { helper } => format!(
                "Docker's configuration keeps the credentials in the helper {helper}, which is \
                 not supported: put them under auths in config.json"
            ),
            LoginState::Withheld { user, realm } => format!(
                "the login of {user} was not sent: {registry} wants it to go to {realm}, which is \
                 neither the same address nor in the same domain"
            ),
        },
        RequestError::NotFound { .. } => "check its name and tag".to_owned(),
        RequestError::Status { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
            "the registry limits how often it may be asked: wait, or use credentials".to_owned()
        }
        RequestError::Status { .. }
        | RequestError::Broken { .. }
        | RequestError::Protocol { .. } => {
            return None;
        }
    })
}

impl Images {
    /// Fetches an image, unpacks it and gives it its name. Fetches even if the name is known: a
    /// tag may have moved; blobs that are there already are not fetched again. Dropping the
    /// future stops the pull and keeps what was fetched.
    pub async fn pull(
        &self,
        reference: &ImageRef,
        options: &PullOptions,
    ) -> Result<Image, PullError> {
        let hold = self.hold();
        let result = self.pull_held(reference, options).await;
        drop(hold);
        result.map_err(|source| PullError {
            reference: reference.clone(),
            source,
        })
    }

    async fn pull_held(
        &self,
        reference: &ImageRef,
        options: &PullOptions,
    ) -> Result<Image, PullFault> {
        // Nothing comes over the network for a name that is not to be given.
        if options.named {
            let (images, wanted, names) = (self.clone(), reference.clone(), options.names.clone());
            blocking(move || images.check_name(NameUse::Give, &wanted, &names)).await??;
        }
        let host = reference.registry().to_owned();
        let (credentials, certificates) =
            (options.credentials.clone(), options.certificates.clone());
        let (login, transport) = blocking(move || -> Result<_, PullFault> {
            Ok((credentials.find(&host)?, Transport::new(&certificates)?))
        })
        .await??;
        let host = reference.registry();
        let plain = options.plain_http.iter().any(|known| known == host);
        let registry = Registry::new(transport, host, reference.repository(), login, plain);
        let pull = Pull {
            images: self,
            registry,
            host,
            options,
        };
        let (digest, manifest) = pull.manifest(reference).await?;
        let parsed: Manifest = serde_json::from_slice(&manifest).map_err(PullFault::Manifest)?;
        pull.blobs(&parsed).await?;
        let images = self.clone();
        let reference = reference.clone();
        let (progress, names) = (options.progress.clone(), options.names.clone());
        let named = options.named;
        blocking(move || -> Result<Image, PullFault> {
            images.write_blob(&mut manifest.as_ref(), Some(&digest))?;
            let image = images.image(digest)?;
            let emit = |phase| {
                for layer in &image.layers {
                    progress(Progress {
                        digest: layer.digest,
                        phase,
                        done: layer.size,
                        total: Some(layer.size),
                    });
                }
            };
            emit(TransferPhase::Unpacking);
            images.ensure_unpacked(&image)?;
            emit(TransferPhase::Done);
            match named {
                true => Ok(images.tag_as(&reference, digest, &names)?),
                false => Ok(image),
            }
        })
        .await?
    }
}

impl From<JoinError> for PullFault {
    /// Work that does not panic is only cut off when the program ends.
    fn from(_: JoinError) -> Self {
        Self::ShuttingDown
    }
}

struct Pull<'a> {
    images: &'a Images,
    registry: Registry,
    host: &'a str,
    options: &'a PullOptions,
}

impl Pull<'_> {
    /// The manifest of the image for the wanted platform: its digest and exact bytes.
    async fn manifest(&self, reference: &ImageRef) -> Result<(Digest, Bytes), PullFault> {
        let pinned = reference.digest();
        let name = match (&pinned, reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let (media_type, digest, bytes) = self.document(&name, pinned).await?;
        if media::is_manifest(&media_type) {
            return Ok((digest, bytes));
        }
        if !media::is_index(&media_type) {
            return Err(PullFault::ManifestType { media_type });
        }
        let index: Index = serde_json::from_slice(&bytes).map_err(PullFault::Manifest)?;
        let Some(chosen) = index.choose(&self.options.platform) else {
            return Err(PullFault::NoPlatform {
                wanted: self.options.platform.clone(),
                offered: index.platforms(),
            });
        };
        let (media_type, digest, bytes) = self
            .document(&chosen.digest.to_string(), Some(chosen.digest))
            .await?;
        if !media::is_manifest(&media_type) {
            return Err(PullFault::ManifestType { media_type });
        }
        Ok((digest, bytes))
    }

    async fn document(
        &self,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<(String, Digest, Bytes), PullFault> {
        let path = format!("manifests/{name}");
        let mut tries = Tries::default();
        let (headers, bytes) = loop {
            let attempt = async {
                let response = self.registry.get(&path, ACCEPT_MANIFEST, 0).await?;
                let headers = response.headers().clone();
                let limit = usize::try_from(MAX_DOCUMENT).unwrap_or(usize::MAX);
                registry::body(response, self.host, limit)
                    .await
                    .map(|bytes| (headers, bytes))
            };
            match attempt.await {
                Ok(found) => break found,
                Err(error) => tries.pause(error, false).await?,
            }
        };
        let found = Digest::of(&bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(PullFault::Digest { expected, found });
        }
        Ok((media_type(&headers, &bytes), found, bytes))
    }

    /// The configuration first, it is small; then the layers, two at a time.
    async fn blobs(&self, manifest: &Manifest) -> Result<(), PullFault> {
        self.blob(&manifest.config).await?;
        let mut waiting: Vec<&Descriptor> = Vec::new();
        for layer in manifest.layers.iter().rev() {
            if !waiting.iter().any(|known| known.digest == layer.digest) {
                waiting.push(layer);
            }
        }
        let waiting = Mutex::new(waiting);
        let worker = || async {
            loop {
                let next = waiting.lock().await.pop();
                match next {
                    Some(layer) => self.blob(layer).await?,
                    None => return Ok::<(), PullFault>(()),
                }
            }
        };
        tokio::try_join!(worker(), worker()).map(drop)
    }

    fn emit(&self, descriptor: &Descriptor, phase: TransferPhase, done: u64) {
        (self.options.progress)(Progress {
            digest: descriptor.digest,
            phase,
            done,
            total: Some(descriptor.size),
        });
    }
}

/// From the header, or from the document where the header says nothing.
fn media_type(headers: &HeaderMap, bytes: &[u8]) -> String {
    let by_header = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned())
        .unwrap_or_default();
    if media::is_manifest(&by_header) || media::is_index(&by_header) {
        return by_header;
    }
    let by_document = serde_json::from_slice::<serde_json::Value>(bytes)
        .ok()
        .and_then(|value| value.get("mediaType")?.as_str().map(str::to_owned));
    by_document.unwrap_or(by_header)
}
