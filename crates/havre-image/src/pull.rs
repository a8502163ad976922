//! Fetches images from registries.
//!
//! Blobs stream to `partial/<digest>`, two at a time, and become blobs once their digest holds. A
//! download that was cut, also by the end of the process, goes on where it stopped.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tempfile::TempPath;
use tokio::sync::{Mutex, mpsc};

use crate::blobs::{BlobError, MAX_DOCUMENT};
use crate::digest::Hashing;
use crate::images::{Image, ImageError, Images, locked};
use crate::layers::LayerError;
use crate::manifest::{Descriptor, Index, Manifest, media};
use crate::progress::{Phase, Progress};
use crate::registry::auth::{Credentials, CredentialsError};
use crate::registry::{
    self, IDLE_TIMEOUT, LoginState, Registry, RequestError, Transport, TransportError,
};
use crate::{Digest, ImageRef, Platform};

/// What a manifest may be.
const ACCEPT_MANIFEST: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Tries in a row that bring nothing; those without a connection count twice.
const MAX_FRUITLESS: u32 = 4;
/// Tries of one blob in all.
const MAX_TRIES: u32 = 50;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Chunks between the network and the disk.
const QUEUE: usize = 16;

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
            | PullFault::Image(_)
            | PullFault::ShuttingDown => None,
        }
    }
}

fn request_hint(error: &RequestError, registry: &str) -> Option<String> {
    Some(match error {
        RequestError::Connect { .. } | RequestError::Timeout { .. } => format!(
            "check the network and the name of the registry {registry}; without one, import the \
             image from a file: havre image import FILE NAME"
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
        let progress = options.progress.clone();
        blocking(move || -> Result<Image, PullFault> {
            images.write_blob(&mut manifest.as_ref(), Some(&digest))?;
            let image = images.image(digest)?;
            let tell = |phase| {
                for layer in &image.layers {
                    progress(Progress {
                        digest: layer.digest,
                        phase,
                        done: layer.size,
                        total: Some(layer.size),
                    });
                }
            };
            tell(Phase::Unpacking);
            images.ensure_unpacked(&image)?;
            tell(Phase::Done);
            Ok(images.tag(&reference, digest)?)
        })
        .await?
    }
}

/// Runs `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PullFault> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| PullFault::ShuttingDown)
}

struct Pull<'a> {
    images: &'a Images,
    registry: Registry,
    host: &'a str,
    options: &'a PullOptions,
}

/// A download as far as it got.
struct Partial {
    file: Hashing<File>,
    path: PathBuf,
    at: u64,
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

    async fn blob(&self, descriptor: &Descriptor) -> Result<(), PullFault> {
        let digest = descriptor.digest;
        let lock = self.download_lock(digest);
        let _guard = lock.lock().await;
        let images = self.images.clone();
        if blocking(move || images.inner.blobs.touch(&digest)).await?? {
            self.tell(descriptor, Phase::Present, descriptor.size);
            return Ok(());
        }
        let path = self.images.inner.root.join("partial").join(digest.hex());
        let mut tries = Tries::default();
        let mut fresh = false;
        loop {
            let mut partial = open_partial(path.clone(), descriptor.size).await?;
            partial = self.fetch(partial, descriptor, &mut tries).await?;
            let images = self.images.clone();
            match blocking(move || finish(&images, partial, digest)).await? {
                // A resumed download may have started from damaged bytes: once more from scratch.
                Err(PullFault::Digest { .. }) if !fresh => fresh = true,
                other => {
                    other?;
                    self.tell(descriptor, Phase::Done, descriptor.size);
                    return Ok(());
                }
            }
        }
    }

    /// Reads on until all bytes are there.
    async fn fetch(
        &self,
        mut partial: Partial,
        descriptor: &Descriptor,
        tries: &mut Tries,
    ) -> Result<Partial, PullFault> {
        let path = format!("blobs/{}", descriptor.digest);
        while partial.at < descriptor.size {
            let before = partial.at;
            let error = match self.registry.get(&path, "*/*", before).await {
                Err(error) => error,
                Ok(response) => {
                    if starts_at(&response, before) {
                        let (back, result) = self.receive(partial, response, descriptor).await?;
                        partial = back;
                        match result {
                            Ok(()) => continue,
                            Err(error) => error,
                        }
                    } else if response.status() == StatusCode::OK {
                        // No ranges here: everything comes again.
                        let (back, result) = self
                            .receive(partial.restart().await?, response, descriptor)
                            .await?;
                        partial = back;
                        match result {
                            Ok(()) => continue,
                            Err(error) => error,
                        }
                    } else {
                        partial = partial.restart().await?;
                        registry::cut(self.host)
                    }
                }
            };
            self.tell(descriptor, Phase::Retrying, partial.at);
            tries.pause(error, partial.at > before).await?;
        }
        Ok(partial)
    }

    /// Writes a body behind what is there. The partial download comes back also when the
    /// connection breaks.
    async fn receive(
        &self,
        partial: Partial,
        response: Response<Incoming>,
        descriptor: &Descriptor,
    ) -> Result<(Partial, Result<(), RequestError>), PullFault> {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let mut at = partial.at;
        let writer = tokio::task::spawn_blocking(move || partial.write(queue));
        let mut body = response.into_body();
        let result = loop {
            match tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await {
                Err(_) => {
                    break Err(RequestError::Timeout {
                        host: self.host.to_owned(),
                        limit: IDLE_TIMEOUT,
                    });
                }
                Ok(None) if at < descriptor.size => break Err(registry::cut(self.host)),
                Ok(None) => break Ok(()),
                Ok(Some(Err(error))) => break Err(registry::broken(self.host, error)),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    at += data.len() as u64;
                    if at > descriptor.size {
                        return Err(PullFault::TooLong {
                            digest: descriptor.digest,
                            size: descriptor.size,
                        });
                    }
                    // A closed queue means that the writer failed; it tells why below.
                    if chunks.send(data).await.is_err() {
                        break Ok(());
                    }
                    self.tell(descriptor, Phase::Transferring, at);
                }
            }
        };
        drop(chunks);
        let partial = writer.await.map_err(|_| PullFault::ShuttingDown)??;
        Ok((partial, result))
    }

    fn download_lock(&self, digest: Digest) -> Arc<Mutex<()>> {
        let mut downloads = locked(&self.images.inner.downloads);
        downloads.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = downloads.get(&digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(Mutex::new(()));
        downloads.insert(digest, Arc::downgrade(&lock));
        lock
    }

    fn tell(&self, descriptor: &Descriptor, phase: Phase, done: u64) {
        (self.options.progress)(Progress {
            digest: descriptor.digest,
            phase,
            done,
            total: Some(descriptor.size),
        });
    }
}

impl Partial {
    fn write(mut self, mut queue: mpsc::Receiver<Bytes>) -> Result<Self, PullFault> {
        while let Some(chunk) = queue.blocking_recv() {
            self.file
                .write_all(&chunk)
                .map_err(partial_error("write", &self.path))?;
            self.at += chunk.len() as u64;
        }
        Ok(self)
    }

    /// From the first byte again.
    async fn restart(self) -> Result<Self, PullFault> {
        blocking(move || {
            let (_, _, file) = self.file.finish();
            file.set_len(0)
                .and_then(|()| (&file).seek(SeekFrom::Start(0)))
                .map_err(partial_error("empty", &self.path))?;
            Ok(Self {
                file: Hashing::new(file),
                path: self.path,
                at: 0,
            })
        })
        .await?
    }
}

/// Opens what an earlier try left and hashes it.
async fn open_partial(path: PathBuf, size: u64) -> Result<Partial, PullFault> {
    blocking(move || {
        let error = |operation| partial_error(operation, &path);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error("open"))?;
        if file.metadata().map_err(error("look at"))?.len() > size {
            file.set_len(0).map_err(error("empty"))?;
        }
        let mut hashing = Hashing::new(io::sink());
        io::copy(&mut file, &mut hashing).map_err(error("read"))?;
        Ok(Partial {
            at: hashing.passed(),
            file: hashing.replace(file),
            path: path.clone(),
        })
    })
    .await?
}

/// Makes the complete download a blob; one with other bytes is removed.
fn finish(images: &Images, partial: Partial, digest: Digest) -> Result<(), PullFault> {
    let (found, _, file) = partial.file.finish();
    if found != digest {
        fs::remove_file(&partial.path).map_err(partial_error("remove", &partial.path))?;
        return Err(PullFault::Digest {
            expected: digest,
            found,
        });
    }
    let path =
        TempPath::try_from_path(&partial.path).map_err(partial_error("find", &partial.path))?;
    Ok(images.inner.blobs.adopt_file(&file, path, &digest)?)
}

fn partial_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> PullFault + use<> {
    let path = path.to_owned();
    move |source| PullFault::Partial {
        operation,
        path,
        source,
    }
}

/// The answer continues at byte `at`.
fn starts_at(response: &Response<Incoming>, at: u64) -> bool {
    match response.status() {
        StatusCode::OK => at == 0,
        StatusCode::PARTIAL_CONTENT => response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
            .is_some_and(|(start, _)| start.parse() == Ok(at)),
        _ => false,
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

/// Counts tries and waits between them.
#[derive(Default)]
struct Tries {
    all: u32,
    fruitless: u32,
}

impl Tries {
    /// Waits before the next try, or gives the error back when there is none.
    async fn pause(&mut self, error: RequestError, progressed: bool) -> Result<(), RequestError> {
        match self.next(&error, progressed) {
            Some(pause) => {
                tracing::debug!(error = %error, ?pause, "trying the registry again");
                tokio::time::sleep(pause).await;
                Ok(())
            }
            None => Err(error),
        }
    }

    fn next(&mut self, error: &RequestError, progressed: bool) -> Option<Duration> {
        self.all += 1;
        // A host that is not there takes its time to say so.
        let cost = match error {
            RequestError::Connect { .. } | RequestError::Timeout { .. } => 2,
            _ => 1,
        };
        self.fruitless = if progressed { 0 } else { self.fruitless + cost };
        if !error.transient() || self.fruitless >= MAX_FRUITLESS || self.all >= MAX_TRIES {
            return None;
        }
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.fruitless);
        Some(error.retry_after().unwrap_or(doubled).min(LONGEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, retry_after: Option<u64>) -> RequestError {
        RequestError::Status {
            host: "r".to_owned(),
            status: StatusCode::from_u16(code).unwrap(),
            what: "x".to_owned(),
            detail: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_with_growing_pauses() {
        let mut tries = Tries::default();
        let pauses: Vec<_> = (0..5)
            .map(|_| tries.next(&status(503, None), false))
            .collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(pauses, [ms(500), ms(1000), ms(2000), None, None]);
        assert_eq!(Tries::default().next(&status(403, None), false), None);
        let long = Tries::default().next(&status(429, Some(7)), false);
        assert_eq!(long, Some(Duration::from_secs(7)));
        let longer = Tries::default().next(&status(429, Some(7000)), false);
        assert_eq!(longer, Some(LONGEST_PAUSE));
    }

    #[test]
    fn a_slow_trickle_ends_too() {
        let mut tries = Tries::default();
        let error = registry::cut("r");
        let count = (0..1000)
            .take_while(|_| tries.next(&error, true).is_some())
            .count();
        assert_eq!(count, MAX_TRIES as usize - 1);
    }
}
