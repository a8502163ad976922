//! What cannot be done.

use std::io;

use havre_store::StoreError;

use crate::ports::{RunId, SourcesError};

/// What cannot be done with runs.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The database cannot do it.
    #[error("cannot keep or look up runs")]
    Store(#[from] StoreError),
    /// A log cannot be written, read or removed.
    #[error("cannot {attempt} the log of {of}")]
    Log {
        /// `write`, `read`, `remove`.
        attempt: &'static str,
        /// A leg or a run.
        of: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Files of a commit cannot be had.
    #[error("cannot read the workflows of {project}")]
    Sources {
        /// Whose.
        project: String,
        /// Why.
        source: SourcesError,
    },
    /// There is no such run.
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    /// It cannot be done as things are: why, and what to do.
    #[error("{0}")]
    Refused(String),
}
