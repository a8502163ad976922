//! Points in time as text: RFC 3339, in UTC.

use std::time::SystemTime;

use jiff::Timestamp;

/// As `2026-01-31T23:59:59.123Z`, with so many digits of a second, nine at most. A time beyond the year
/// 9999, as of a broken clock, is the last moment before.
pub fn rfc3339(at: SystemTime, digits: usize) -> String {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::MAX);
    format!("{at:.digits$}")
}

/// Reads what [`rfc3339`] writes, with any number of digits; other time zones are refused.
pub fn parse(text: &str) -> Option<SystemTime> {
    if !text.ends_with('Z') {
        return None;
    }
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn known_dates_both_ways() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        for (time, digits, text) in [
            (at(0, 0), 0, "1970-01-01T00:00:00Z"),
            (at(0, 0), 9, "1970-01-01T00:00:00.000000000Z"),
            (at(951_782_400, 5), 9, "2000-02-29T00:00:00.000000005Z"),
            (at(951_868_799, 0), 0, "2000-02-29T23:59:59Z"),
            (at(1_709_251_199, 0), 0, "2024-02-29T23:59:59Z"),
            (at(1_709_251_200, 0), 3, "2024-03-01T00:00:00.000Z"),
            (
                at(1_767_225_599, 999_999_999),
                9,
                "2025-12-31T23:59:59.999999999Z",
            ),
            (at(4_107_542_400, 0), 0, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(time, digits), text);
            assert_eq!(parse(text), Some(time));
        }
    }

    #[test]
    fn digits_are_cut_off_and_years_of_a_broken_clock_end() {
        let late = UNIX_EPOCH + Duration::new(1, 999_999_999);
        assert_eq!(rfc3339(late, 3), "1970-01-01T00:00:01.999Z");
        let never = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert!(rfc3339(never, 0).starts_with("9999-12-3"));
    }

    #[test]
    fn other_forms() {
        let half = UNIX_EPOCH + Duration::from_millis(1500);
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(half));
        for bad in [
            "",
            "Z",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-01-01T25:00:00Z",
            "1970-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
