//! Why COPY, ADD or WORKDIR could not write files.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::TarError;
use crate::dockerfile::excerpt;

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source does not exist.
    #[error("{}", not_found(.source_path, .from.as_deref(), *.ignored))]
    NotFound {
        /// As written.
        source_path: String,
        /// Where it was looked for: a stage, an image, a folder beside the context; `None`: the
        /// context.
        from: Option<String>,
        /// It exists, but the build must not see it.
        ignored: bool,
    },
    /// A pattern that cannot be read.
    #[error("pattern {:?} has a bracket or escape without its end", excerpt(.pattern))]
    Pattern {
        /// As written.
        pattern: String,
    },
    /// A pattern of `--exclude` that cannot be read.
    #[error("--exclude: {reason}")]
    Exclude {
        /// Why.
        reason: String,
    },
    /// A device in the context.
    #[error("{path} is a device, which no build context can hold", path = path.display())]
    Special {
        /// The file.
        path: PathBuf,
    },
    /// Files changed between the making of the key and the copy.
    #[error("the files to copy keep changing; build again when they are at rest")]
    Changed,
    /// Folders in folders in folders.
    #[error("folders lie more than {limit} deep in each other, at {}", excerpt(&path.display().to_string()))]
    TooDeep {
        /// The most.
        limit: usize,
        /// The folder that is too deep.
        path: PathBuf,
    },
    /// Several files for one name.
    #[error("{path} is not a folder, and there are several sources: end the destination with /", path = path.display())]
    NotAFolder {
        /// The destination.
        path: PathBuf,
    },
    /// A file where a folder must go, or the other way round.
    #[error("{path} is {found} in the image and would become {wanted}", path = path.display())]
    InTheWay {
        /// Path in the image.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What should be.
        wanted: &'static str,
    },
    /// `--chown` names somebody unknown.
    #[error("--chown={text}: {reason}")]
    Owner {
        /// As written.
        text: String,
        /// Why.
        reason: String,
    },
    /// An archive that ADD cannot unpack.
    #[error("cannot unpack {path}", path = path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// The reason.
        source: TarError,
    },
    /// An archive with an entry that is refused.
    #[error("archive {path}: entry {entry:?} is refused: {reason}", path = path.display())]
    Entry {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// A compression ADD does not know.
    #[error("{path} is compressed with {form}, which ADD does not unpack; use gzip or zstd, or --unpack=false", path = path.display())]
    Compression {
        /// The archive.
        path: PathBuf,
        /// The compression.
        form: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", excerpt(&path.display().to_string()))]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

fn not_found(path: &str, from: Option<&str>, ignored: bool) -> String {
    let path = excerpt(path);
    match (from, ignored) {
        (_, true) => format!("{path:?} is not there: .dockerignore leaves it out"),
        (None, false) => format!("{path:?} is not there"),
        (Some(from), false) => format!("{from} has no {path:?}"),
    }
}

impl CopyError {
    pub(super) fn io(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
