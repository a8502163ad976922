//! Work that blocks for a moment, on the thread at hand.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Lets others take the thread's tasks over meanwhile, where there are other threads.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}
