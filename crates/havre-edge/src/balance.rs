//! Which replica takes a request. Pure.

/// What is known of a replica when a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests in flight (for a stream: streams as well).
    pub load: u64,
    /// Not to be used before this instant, in ms of the edge's clock, unless there is no other.
    pub ejected_until: u64,
    /// This request has been refused a connection by it already.
    pub tried: bool,
}

/// The least loaded usable candidate; ties go to the first at or after `start`, so that equal
/// replicas take turns. When all are ejected the one whose time is up first is tried: an outage seen
/// from here must not be made worse by us.
pub fn choose(candidates: &[Candidate], now: u64, start: usize) -> Option<usize> {
    let count = candidates.len();
    let order = (0..count).map(|step| (start % count.max(1) + step) % count);
    order
        .filter(|index| !candidates[*index].tried)
        .min_by_key(|index| {
            let candidate = candidates[*index];
            if candidate.ejected_until > now {
                (1, candidate.ejected_until)
            } else {
                (0, candidate.load)
            }
        })
}

/// How long a replica stays ejected after `failures` refused connections in a row, in ms.
pub fn ejection_ms(failures: u32) -> u64 {
    (250_u64 << failures.min(6)).min(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(load: u64, ejected_until: u64, tried: bool) -> Candidate {
        Candidate {
            load,
            ejected_until,
            tried,
        }
    }

    #[test]
    fn the_least_loaded_usable_one_is_chosen() {
        let free = candidate(0, 0, false);
        let busy = candidate(5, 0, false);
        let ejected = candidate(0, 900, false);
        let later = candidate(0, 950, false);
        let tried = candidate(0, 0, true);
        for (candidates, start, expected) in [
            (vec![], 0, None),
            (vec![busy, free], 0, Some(1)),
            (vec![free, free, free], 1, Some(1)),
            (vec![free, free, free], 5, Some(2)),
            (vec![ejected, busy], 0, Some(1)),
            (vec![later, ejected], 0, Some(1)),
            (vec![tried, busy], 0, Some(1)),
            (vec![tried, tried], 1, None),
        ] {
            assert_eq!(
                choose(&candidates, 500, start),
                expected,
                "{candidates:?} {start}"
            );
        }
        assert_eq!(choose(&[ejected, busy], 1000, 0), Some(0), "its time is up");
    }

    #[test]
    fn ejection_grows_to_ten_seconds() {
        let times: Vec<u64> = (1..9).map(ejection_ms).collect();
        assert_eq!(times, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
    }
}
