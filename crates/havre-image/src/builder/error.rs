//! Why a build failed, with what a person needs to go on.

use std::io;
use std::path::PathBuf;

use havre_store::StoreError;

use crate::dockerfile::{DockerfileError, IgnoreError, Span, excerpt};
use crate::limits::MAX_LAYERS;
use crate::{CommitError, ImageError, LayerError, NameRefused, RefError};

use super::copy_error::CopyError;
use super::run::StepError;

/// Where a build failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLocation {
    /// The Dockerfile as the user names it.
    pub file: String,
    /// Line, counted from 1.
    pub line: u32,
    /// The instruction on one line.
    pub instruction: String,
}

impl BuildLocation {
    pub(super) fn new(file: &str, span: Span, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: span.line,
            instruction: excerpt(text),
        }
    }
}

/// Why a build failed. `Display` is one sentence (plus the line, for mistakes in the Dockerfile),
/// the sources say why, the methods give the rest.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A mistake in the Dockerfile.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The Dockerfile or `.dockerignore` cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A mistake in `.dockerignore`.
    #[error("cannot use {path}", path = path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IgnoreError,
    },
    /// The context cannot be opened.
    #[error("cannot open the build context {path}", path = path.display())]
    Context {
        /// The folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A step would have to be carried out, and that was not wanted.
    #[error("{file}:{line}: {} has not been carried out yet", .place.instruction, file = place.file, line = place.line)]
    NotCached {
        /// Where.
        place: Box<BuildLocation>,
    },
    /// A base image has an impossible name.
    #[error("{file}:{line}: {} names no image", .place.instruction, file = place.file, line = place.line)]
    Reference {
        /// Where.
        place: Box<BuildLocation>,
        /// What is wrong.
        source: RefError,
    },
    /// A base image is neither here nor to be had.
    #[error(
        "{file}:{line}: image {reference} is not stored on this machine and could not be fetched \
         from {registry}",
        file = place.file, line = place.line
    )]
    Base {
        /// Where.
        place: Box<BuildLocation>,
        /// The image.
        reference: String,
        /// The registry that was asked.
        registry: String,
        /// A stage that may be meant.
        stage: Option<String>,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored image cannot be read.
    #[error("{file}:{line}: cannot use image {reference}", file = place.file, line = place.line)]
    Image {
        /// Where.
        place: Box<BuildLocation>,
        /// The image.
        reference: String,
        /// The reason.
        source: Box<ImageError>,
    },
    /// A command ended with other than 0.
    #[error("{file}:{line}: {} {}", .place.instruction, ended(*.code, *.oom_killed),
        file = place.file, line = place.line)]
    Failed {
        /// Where.
        place: Box<BuildLocation>,
        /// Its exit code.
        code: i32,
        /// The kernel killed it for memory.
        oom_killed: bool,
        /// Its last lines.
        log: Vec<String>,
    },
    /// A command could not be run.
    #[error("{file}:{line}: cannot run {}", .place.instruction, file = place.file, line = place.line)]
    Run {
        /// Where.
        place: Box<BuildLocation>,
        /// Its last lines.
        log: Vec<String>,
        /// The reason.
        source: StepError,
    },
    /// A step asks for a secret that cannot be given.
    #[error("{file}:{line}: secret `{id}` {reason}", file = place.file, line = place.line)]
    Secret {
        /// Where.
        place: Box<BuildLocation>,
        /// Its id.
        id: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Files could not be copied.
    #[error("{file}:{line}: cannot carry out {}", .place.instruction, file = place.file, line = place.line)]
    Copy {
        /// Where.
        place: Box<BuildLocation>,
        /// The reason.
        source: Box<CopyError>,
    },
    /// A layer could not be made or read.
    #[error("{file}:{line}: cannot keep the result of {}", .place.instruction, file = place.file, line = place.line)]
    Layer {
        /// Where.
        place: Box<BuildLocation>,
        /// The reason.
        source: Box<LayerError>,
    },
    /// An image of more layers than can be mounted.
    #[error("{file}:{line}: {} would be layer {} of its image, and the kernel mounts no more than \
         {MAX_LAYERS}", .place.instruction, MAX_LAYERS + 1, file = place.file, line = place.line)]
    Layers {
        /// Where.
        place: Box<BuildLocation>,
    },
    /// Scratch folders or mounts failed.
    #[error("cannot {operation}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The build cache failed.
    #[error("cannot use the build cache")]
    Cache(#[from] StoreError),
    /// The result could not be stored.
    #[error("cannot store the built image")]
    Commit(#[source] Box<CommitError>),
    /// The result could not be named.
    #[error("cannot name the built image")]
    Tag(#[source] Box<ImageError>),
    /// The build was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

fn ended(code: i32, oom_killed: bool) -> String {
    match (oom_killed, code) {
        (true, code) => format!("was killed for using too much memory (exit code {code})"),
        (false, 137) => "was killed (exit code 137)".to_owned(),
        (false, 127) => "ended with exit code 127 (command not found)".to_owned(),
        (false, code) => format!("ended with exit code {code}"),
    }
}

impl BuildError {
    pub(super) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self + Copy {
        move |source| Self::Io { operation, source }
    }

    /// File and line of the Dockerfile, where the failure has them.
    pub fn place(&self) -> Option<(&str, u32)> {
        match self {
            Self::Dockerfile(error) => Some((&error.file, error.line)),
            other => other.step().map(|place| (place.file.as_str(), place.line)),
        }
    }

    /// The instruction that failed, on one line.
    pub fn instruction(&self) -> Option<&str> {
        match self {
            Self::Dockerfile(error) => Some(&error.text),
            other => other.step().map(|place| place.instruction.as_str()),
        }
    }

    fn step(&self) -> Option<&BuildLocation> {
        match self {
            Self::NotCached { place }
            | Self::Reference { place, .. }
            | Self::Base { place, .. }
            | Self::Image { place, .. }
            | Self::Failed { place, .. }
            | Self::Run { place, .. }
            | Self::Secret { place, .. }
            | Self::Copy { place, .. }
            | Self::Layers { place }
            | Self::Layer { place, .. } => Some(place),
            Self::Dockerfile(_)
            | Self::Read { .. }
            | Self::Ignore { .. }
            | Self::Context { .. }
            | Self::Io { .. }
            | Self::Cache(_)
            | Self::Commit(_)
            | Self::Tag(_)
            | Self::Cancelled => None,
        }
    }

    /// Exit code of the command that failed.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Why a name is not for whom the build is.
    pub fn refusal(&self) -> Option<&NameRefused> {
        match self {
            Self::Image { source, .. } | Self::Tag(source) => match &**source {
                ImageError::Refused(refused) => Some(refused),
                _ => None,
            },
            Self::Commit(source) => match &**source {
                CommitError::Name(ImageError::Refused(refused)) => Some(refused),
                _ => None,
            },
            _ => None,
        }
    }

    /// The last lines of the command's output, at most 20.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Failed { log, .. } | Self::Run { log, .. } => log,
            _ => &[],
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Base {
                reference,
                stage: Some(stage),
                ..
            } => Some(format!(
                "no stage is called {reference}; did you mean {stage}?"
            )),
            Self::Base { reference, .. } => Some(format!(
                "check the name and the network, or import it: havre image import FILE --tag \
                 {reference}; a Debian base without any registry: mmdebstrap --variant=minbase \
                 bookworm base.tar"
            )),
            Self::Layers { .. } => Some(
                "join RUN instructions with &&, or copy what they made into a new stage".to_owned(),
            ),
            Self::Failed {
                oom_killed: true, ..
            } => Some("the step needs more memory than builds may use".to_owned()),
            Self::Failed { code: 137, .. } => {
                Some("exit code 137 is SIGKILL; often the machine was short of memory".to_owned())
            }
            Self::Failed { code: 127, .. } => Some(
                "the image has no such program; install it in an earlier step, or check PATH"
                    .to_owned(),
            ),
            Self::Secret { id, .. } => Some(format!(
                "list it in the compose file: secrets of the `build`, and its source at the end: \
                 `secrets: {{{id}: {{file: …}}}}`"
            )),
            Self::Copy { source, .. } => match **source {
                CopyError::NotFound { ignored: true, .. } => {
                    Some("add a line !PATH to .dockerignore to take it back".to_owned())
                }
                CopyError::NotFound { from: Some(_), .. } => Some(
                    "paths of --from start at its root folder, whatever its WORKDIR is".to_owned(),
                ),
                CopyError::NotFound { ignored: false, .. } => Some(
                    "paths of COPY are relative to the build context, not to the Dockerfile"
                        .to_owned(),
                ),
                _ => None,
            },
            other => other.refusal().and_then(|refused| refused.hint.clone()),
        }
    }
}

impl From<tokio::task::JoinError> for BuildError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::io("wait for a thread")(io::Error::other(error))
    }
}
