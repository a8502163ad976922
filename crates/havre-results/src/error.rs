//! Faults of this machine.

use std::io;

use havre_store::StoreError;

/// What could not be done, by a fault of this machine.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The database's.
    #[error("cannot do it with artifacts and caches")]
    Store(#[from] StoreError),
    /// A file's.
    #[error("cannot {doing}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl ResultsError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}
