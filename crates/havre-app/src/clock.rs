//! Time for decisions: the wall clock's when the daemon began, and from there on a clock that nobody
//! sets. A jump of the wall clock would otherwise let every deadline pass at once, or none.

use std::time::SystemTime;

use tokio::time::Instant;

/// Such a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: SystemTime,
    since: Instant,
}

impl Clock {
    /// Set by the wall clock.
    pub(crate) fn start() -> Self {
        Self {
            began: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// Never less than before.
    pub(crate) fn now(self) -> SystemTime {
        self.began + self.since.elapsed()
    }
}

/// Milliseconds since `start`.
pub(crate) fn elapsed_ms(start: SystemTime) -> u64 {
    let elapsed = SystemTime::now().duration_since(start).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
