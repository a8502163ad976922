//! How much of the past is kept.

use std::time::{Duration, SystemTime};

use havre_base::time;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records that are older go.
    pub age: Duration,
    /// The oldest go where the texts of all take more.
    pub bytes: u64,
}

impl Default for Retention {
    /// 400 days, so that a year can be looked back on; 64 MiB are some 200,000 records.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(400 * 86_400),
            bytes: 64 << 20,
        }
    }
}

/// A record, as far as this is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) sequence: u64,
    pub(crate) at: String,
    pub(crate) bytes: u64,
}

/// The record up to which, itself included, the trail is cut; `oldest`: from the first on, as many as one
/// looks at. A time that cannot be read, or is yet to come, is as old as its neighbours say: only what is certainly old
/// goes for its age.
pub(crate) fn cut_after(
    retention: Retention,
    oldest: &[Kept],
    all_bytes: u64,
    now: SystemTime,
) -> Option<u64> {
    let is_old = |kept: &Kept| {
        time::parse(&kept.at)
            .and_then(|at| now.duration_since(at).ok())
            .is_some_and(|age| age > retention.age)
    };
    let mut left = all_bytes;
    let mut cut = None;
    for kept in oldest {
        if left <= retention.bytes && !is_old(kept) {
            break;
        }
        left = left.saturating_sub(kept.bytes);
        cut = Some(kept.sequence);
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn kept(sequence: u64, day: u64) -> Kept {
        let at = UNIX_EPOCH + Duration::from_secs(day * 86_400);
        Kept {
            sequence,
            at: time::rfc3339(at, 3),
            bytes: 100,
        }
    }

    #[test]
    fn the_oldest_go_by_age_and_by_size() {
        let now = UNIX_EPOCH + Duration::from_secs(1000 * 86_400);
        let rows: Vec<Kept> = (0..10).map(|n| kept(n + 1, 500 + n * 20)).collect();
        let days = |days: u64, bytes| Retention {
            age: Duration::from_secs(days * 86_400),
            bytes,
        };
        let cut = |retention| cut_after(retention, &rows, 1000, now);
        assert_eq!(cut(days(500, 1000)), None);
        assert_eq!(cut(days(450, 1000)), Some(3));
        assert_eq!(cut(days(500, 750)), Some(3));
        assert_eq!(cut(days(450, 500)), Some(5));
        assert_eq!(cut(days(1, 1000)), Some(10));
    }

    #[test]
    fn a_broken_clock_removes_nothing() {
        let rows = [
            kept(1, 5000),
            Kept {
                at: "?".into(),
                ..kept(2, 0)
            },
        ];
        assert_eq!(
            cut_after(Retention::default(), &rows, 200, UNIX_EPOCH),
            None
        );
    }
}
