//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Asks `condition` until it holds. Panics once `deadline` has passed, naming `what`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(
            Instant::now() < end,
            "waited {deadline:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
