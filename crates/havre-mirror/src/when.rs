//! When something is tried again. Pure.

use std::time::Duration;

/// How often the other side is asked, where nobody says otherwise.
pub const EVERY: Duration = Duration::from_secs(300);
/// As often as it may be asked.
pub const LEAST_EVERY: Duration = Duration::from_secs(30);
/// As seldom.
pub const MOST_EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often a commit's state is told in vain before it is given up: most of a day.
pub const MOST_TRIES: u32 = 24;

const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(3600);

/// How long to wait after so many failures in a row: 10 s, and twice as long each time, an hour at most.
pub fn after_failure(failures: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled.max(1)).min(LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_to_its_end() {
        let seconds = |failures| after_failure(failures).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 9, 10].map(seconds),
            [10, 10, 20, 40, 2560, 3600]
        );
        assert_eq!([31, 32, 33, u32::MAX].map(seconds), [3600; 4]);
        let all: Duration = (1..MOST_TRIES).map(after_failure).sum();
        assert!(all > Duration::from_secs(12 * 3600));
    }
}
