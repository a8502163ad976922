//! Durations, sizes, ages and digests for people.

use std::time::Duration;

/// `84 ms`, `3.2 s`, `42 s`, `2 min 5 s`, `1 h 2 min`.
pub fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{ms} ms"),
        1..=9 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// [`duration`] of milliseconds.
pub fn millis(ms: u64) -> String {
    duration(Duration::from_millis(ms))
}

/// The coarse age of something: `3 s`, `5 min`, `2 h`, `4 d`.
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Decimal units, as for downloads and disks: `999 B`, `12.3 MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// Binary units, as for memory: `512 MiB`.
pub fn memory(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn scaled(bytes: u64, base: u64, units: &[&str]) -> String {
    let mut unit = 1_u64;
    let mut index = 0;
    while bytes / unit >= base && index + 1 < units.len() {
        unit *= base;
        index += 1;
    }
    let whole = bytes / unit;
    let tenth = (bytes % unit) * 10 / unit;
    match tenth {
        0 => format!("{whole} {}", units[index]),
        _ if whole >= 100 => format!("{whole} {}", units[index]),
        _ => format!("{whole}.{tenth} {}", units[index]),
    }
}

/// The first 12 digits of `sha256:…`, as everyone shortens them.
pub fn digest(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.chars().take(12).collect()
}

/// Reads `90s`, `15m`, `2h`, `3d`, or several of them (`1h30m`).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |offset| digits + offset);
        let seconds = match &rest[digits..unit_end] {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total)
}

/// `1 step`, `2 steps`.
pub fn count(number: u64, one: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {one}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_two_figures_that_matter() {
        let shown = [0, 84, 3_249, 42_900, 125_000, 3_720_000].map(millis);
        assert_eq!(
            shown,
            ["0 ms", "84 ms", "3.2 s", "42 s", "2 min 5 s", "1 h 2 min"]
        );
    }

    #[test]
    fn ages_are_coarse() {
        let shown = [3, 119, 300, 7200, 400_000].map(|s| age(Duration::from_secs(s)));
        assert_eq!(shown, ["3 s", "119 s", "5 min", "2 h", "4 d"]);
    }

    #[test]
    fn sizes_use_the_unit_of_their_field() {
        assert_eq!(
            [0, 999, 12_345_678, 123_456_789].map(size),
            ["0 B", "999 B", "12.3 MB", "123 MB"]
        );
        assert_eq!([536_870_912, 1536].map(memory), ["512 MiB", "1.5 KiB"]);
        assert_eq!(size(u64::MAX), "18446 PB");
    }

    #[test]
    fn since_takes_what_docker_takes() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
        for wrong in ["", "10", "m", "1x", "99999999999999999999s", "1h-"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }
}
