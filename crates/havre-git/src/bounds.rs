//! What all processes of one git have together, where the machine can bound that.

use std::any::Any;
use std::fmt;
use std::os::fd::OwnedFd;

/// Makes control groups for git. Without it each process has bounds of its own, as it has anyway.
pub trait Bounds: Send + Sync {
    /// A new group; the name is unlike any other's at the time. `None`: there can be none, which it says itself.
    /// Called where nothing may wait for long.
    fn group(&self, name: &str) -> Option<Bound>;
}

/// A control group, until it is dropped.
pub struct Bound {
    /// Whoever writes `0` to each is in it.
    pub doors: Vec<OwnedFd>,
    /// Kept as long as the processes run.
    pub held: Box<dyn Any + Send>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}
