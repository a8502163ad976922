//! Work that blocks.

use tokio::task::{JoinError, spawn_blocking};

/// Runs `work` on a thread that may block. It fails where `work` panicked or the runtime ends.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    spawn_blocking(work).await
}
