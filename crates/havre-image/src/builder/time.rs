//! Times in image documents.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-01-02T03:04:05Z`, of seconds since 1970.
pub(super) fn of_epoch(seconds: u64) -> String {
    // Beyond what a clock can show there is only its end.
    let end = UNIX_EPOCH + Duration::from_secs(u64::from(u32::MAX) << 8);
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    havre_base::time::rfc3339(at.unwrap_or(end), 0)
}

/// The current time.
pub(super) fn now() -> String {
    havre_base::time::rfc3339(SystemTime::now(), 0)
}

#[cfg(test)]
mod tests {
    use super::of_epoch;

    #[test]
    fn any_number_of_seconds_is_a_time() {
        assert_eq!(of_epoch(951_782_400), "2000-02-29T00:00:00Z");
        assert!(of_epoch(u64::MAX).starts_with("9999-12-3"));
    }
}
