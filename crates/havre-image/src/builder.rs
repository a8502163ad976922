//! Building images from Dockerfiles.
//!
//! ```text
//! Dockerfile ─ dockerfile::parse ─► plan (reachable stages) ─► interpret (one instruction)
//!                                                                  │ configuration: done
//!                                                                  ▼ work on files
//!  context, stages ─► key ─ in the cache? ── yes ─────────────────► layer
//!                            └── no: RUN through a StepRunner,      ▲
//!                                COPY into a mounted overlay ── upper
//! ```
//!
//! Deciding is pure (`plan`, `interpret`, `scope`, keys); executing is `execute`. A layer is an
//! overlay's upper folder; its row in the build cache is written when the layer is durable, so a
//! build may be killed anywhere and leaves only scratch folders, which the next
//! [`Images::open`] sweeps.
//!
//! A build from the cache gives the same image, bit for bit: the times in its documents are those
//! at which its layers were made (or `SOURCE_DATE_EPOCH`, given as a build argument).
//!
//! Secrets reach a RUN step that mounts them, in memory or as a variable, and nothing else: neither
//! a key, nor a layer, nor the history knows what they are.
//!
//! Refused with file and line, where a needed stage asks for it: SSH mounts, writable bind mounts, cache mounts with a source, the host's network, extra privileges, ADD of anything
//! remote and of bzip2 or xz archives, other platforms than this machine's.

mod action;
mod add;
mod cache;
mod chmod;
mod content;
mod context;
mod copy;
mod copy_error;
mod error;
mod execute;
mod interpret;
pub(crate) mod kept;
mod mounted;
mod owner;
mod plan;
mod problem;
mod reach;
mod run;
mod scope;
mod select;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{Digest, Image, ImageRef, Images, NameRights, root};
use execute::Helpers;

pub(crate) use cache::StepRecord;
pub use context::{ContextError, context_paths};
pub use copy_error::CopyError;
pub use error::{BuildError, BuildLocation};
pub use reach::Reach;
pub use run::{StepError, StepExit, StepFuture, StepLine, StepMount, StepRunner, StepSpec, Stream};

/// What to build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Folder whose files COPY and ADD see.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: DockerfileSource,
    /// Stage to build; `None`: the last.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Labels added to the result.
    pub labels: BTreeMap<String, String>,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// Names the result gets. Without one it goes when nobody holds it any more.
    pub tags: Vec<ImageRef>,
    /// For whom those are given, and names of stored images used.
    pub names: NameRights,
    /// Run every step; the results are kept for later builds all the same.
    pub no_cache: bool,
    /// Ask registries for base images that are stored already.
    pub pull: bool,
    /// The host's CA bundle (PEM), which RUN steps get to see; see [`host_ca_bundle`]. It is
    /// mounted below `/dev` and named in environment variables of the step, so neither a layer,
    /// nor the image's configuration, nor a cache key knows of it.
    pub host_ca: Option<PathBuf>,
    /// What RUN steps may ask for with `--mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Further places that FROM, `--from=` and `from=` may name; they hide stages and images of
    /// the same name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What RUN steps get beside the usual.
    pub steps: StepSettings,
    /// What of the machine may be read as context or Dockerfile.
    pub reach: Reach,
}

/// Bytes that are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps them.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for who hands them on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A place beside the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder; it may have a `.dockerignore` of its own.
    Folder(PathBuf),
    /// An image, which is fetched where it is not stored.
    Image(String),
    /// A stored image.
    Stored(Digest),
}

/// What RUN steps get beside the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSettings {
    /// Whose cache mounts and kept results they get: those of one id, and of one command, are others
    /// for another owner.
    pub cache_of: String,
    /// Whose kept results they take where there are none of their own, and never change.
    pub cache_from: Vec<String>,
    /// No network, whatever a step asks for.
    pub offline: bool,
    /// Lines of `/etc/hosts`, as in [`StepSpec`].
    pub hosts: BTreeMap<String, Vec<String>>,
    /// Size of `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
    /// Limits of the process: name → (soft, hard).
    pub ulimits: BTreeMap<String, (u64, u64)>,
}

/// Where the Dockerfile is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerfileSource {
    /// A file; relative to the context, or absolute.
    Path(PathBuf),
    /// Its text.
    Inline(String),
    /// The text of a file that is elsewhere, and what that is called.
    Sent {
        /// For messages.
        name: String,
        /// What it holds.
        text: String,
    },
}

/// News of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum BuildEvent {
    /// The Dockerfile is read.
    Started {
        /// Instructions of the stages that are needed.
        steps: u32,
    },
    /// Something that works but is probably not meant.
    Warning {
        /// Line of the Dockerfile, where there is one.
        line: Option<u32>,
        /// What and what to do.
        message: String,
    },
    /// An instruction begins.
    StepStarted {
        /// Counted from 1.
        index: u32,
        /// Of how many.
        steps: u32,
        /// Its stage: the name, or the number where the Dockerfile has several.
        stage: Option<String>,
        /// On one line.
        instruction: String,
        /// Line of the Dockerfile.
        line: u32,
    },
    /// A command printed a line.
    StepOutput {
        /// Counted from 1.
        index: u32,
        /// Where to.
        stream: Stream,
        /// Without its line end.
        text: String,
    },
    /// An instruction ended well.
    StepDone {
        /// Counted from 1.
        index: u32,
        /// Its result was already there.
        cached: bool,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// The image is stored.
    Done {
        /// Of the manifest.
        digest: String,
        /// How long the build took.
        elapsed_ms: u64,
    },
}

/// A future of [`BaseImages`].
pub type FetchFuture<'a> = Pin<
    Box<dyn Future<Output = Result<Image, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>,
>;

/// Fetches images that the store does not have.
pub trait BaseImages: Send + Sync {
    /// Fetches `reference` into the store under that name.
    fn fetch<'a>(
        &'a self,
        reference: &'a ImageRef,
        cancel: &'a CancellationToken,
    ) -> FetchFuture<'a>;
}

/// Receives the news of a build; called from the build's task.
pub type Progress<'a> = &'a (dyn Fn(BuildEvent) + Send + Sync);

/// Builds an image and names it. Await it to its end: cancel by the token.
pub async fn build(
    images: &Images,
    bases: &dyn BaseImages,
    runner: &dyn StepRunner,
    request: &BuildRequest,
    progress: Progress<'_>,
    cancel: &CancellationToken,
) -> Result<Image, BuildError> {
    let started = Instant::now();
    let helpers = Helpers {
        bases,
        runner,
        progress,
        cancel,
    };
    let image = execute::build(images, request, helpers).await?;
    progress(BuildEvent::Done {
        digest: image.manifest_digest.to_string(),
        elapsed_ms: milliseconds(started),
    });
    Ok(image)
}

/// What a build would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// Every step is in the layer cache: this image (manifest digest).
    Image(Digest),
    /// This step and those after it would be carried out.
    Steps {
        /// The Dockerfile.
        file: String,
        /// Line of the step.
        line: u32,
        /// On one line.
        instruction: String,
    },
    /// A base image would be fetched first.
    Fetch {
        /// The image.
        reference: String,
    },
}

/// Looks what [`build`] would do, and does nothing of it: no step runs, nothing is fetched or
/// named.
pub async fn dry_run(
    images: &Images,
    request: &BuildRequest,
    cancel: &CancellationToken,
) -> Result<DryRun, BuildError> {
    let helpers = Helpers {
        bases: &Nobody,
        runner: &Nobody,
        progress: &|_| {},
        cancel,
    };
    match execute::dry_run(images, request, helpers).await {
        Ok(digest) => Ok(DryRun::Image(digest)),
        Err(BuildError::NotCached { place }) => Ok(DryRun::Steps {
            file: place.file,
            line: place.line,
            instruction: place.instruction,
        }),
        Err(BuildError::Base { reference, .. }) => Ok(DryRun::Fetch { reference }),
        Err(error) => Err(error),
    }
}

/// Fetches nothing and runs nothing.
struct Nobody;

impl BaseImages for Nobody {
    fn fetch<'a>(&'a self, _: &'a ImageRef, _: &'a CancellationToken) -> FetchFuture<'a> {
        Box::pin(async { Err("nothing is fetched to dry_run a build".into()) })
    }
}

impl StepRunner for Nobody {
    fn run<'a>(
        &'a self,
        _: &'a StepSpec,
        _: &'a mut (dyn FnMut(StepLine) + Send),
        _: &'a CancellationToken,
    ) -> StepFuture<'a> {
        Box::pin(async { Err(StepError::Cancelled) })
    }
}

/// Where this machine keeps its CA bundle, if it has one.
pub fn host_ca_bundle() -> Option<PathBuf> {
    let known = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    known
        .into_iter()
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .find_map(|path| std::fs::canonicalize(path).ok())
}

/// Folders in which an administrator puts further authorities for the machine to trust.
const LOCAL_AUTHORITIES: [&str; 2] = [
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
];

/// Whether somebody has put authorities there, beside this machine's own.
pub fn has_local_authorities() -> bool {
    let is_foreign = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        (name.ends_with(".crt") || name.ends_with(".pem")) && !name.starts_with("havre")
    };
    LOCAL_AUTHORITIES
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .any(|entries| entries.flatten().any(is_foreign))
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
