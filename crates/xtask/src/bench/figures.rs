//! Figures and how they are told.

use std::time::Duration;

/// The middle one, or the mean of the middle two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => (value + sorted[middle - 1]) / 2.0,
    }
}

/// For JSON: three digits behind the point.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What this thread has used: others on the machine do not count.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours; the clock exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// One figure and whether it holds its bar.
pub fn print_figure(what: &str, value: f64, unit: &str, bar: f64) {
    eprintln!("{}", line(what, value, unit, bar));
}

/// A figure without a bar.
pub fn mention(what: &str, value: f64, unit: &str) {
    eprintln!("{what:<44} {value:>10.2} {unit}");
}

fn line(what: &str, value: f64, unit: &str, bar: f64) -> String {
    let verdict = if value <= bar { "held" } else { "missed" };
    format!("{what:<44} {value:>10.2} {unit}   bar ≤ {bar} {unit}: {verdict}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[3.0], 3.0),
            (&[9.0, 1.0, 2.0], 2.0),
            (&[4.0, 1.0, 2.0, 9.0], 3.0),
        ] {
            assert!((median(values) - expected).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn a_bar_is_held_by_what_is_not_above_it() {
        assert!(line("x", 60.0, "ms", 60.0).ends_with("bar ≤ 60 ms: held"));
        assert!(line("x", 60.1, "ms", 60.0).ends_with("bar ≤ 60 ms: missed"));
    }
}
