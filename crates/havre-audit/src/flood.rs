//! What is refused, and what strangers try in vain, bounded: it neither fills the disk nor pushes records out that are
//! younger than are kept.

use std::time::{Duration, Instant};

/// Such that are recorded at once, and then one per so long: 288 a day, which in 400 days are 115,200 of the some 200,000
/// records that are kept.
const BURST: u32 = 100;
const REFILL: Duration = Duration::from_secs(300);

/// A bucket of such that may be recorded.
#[derive(Debug)]
pub(crate) struct Flood {
    left: u32,
    refilled: Instant,
    /// Not recorded since the last one that was.
    dropped: u64,
}

impl Flood {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            refilled: now,
            dropped: 0,
        }
    }

    /// Whether one more is recorded, and then how many before it were not.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.dropped))
            }
            None => {
                self.dropped += 1;
                None
            }
        }
    }

    /// How many were not recorded, where that can be said now; they are forgotten.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        if self.dropped == 0 || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.dropped))
    }

    fn refill(&mut self, now: Instant) {
        let periods = now.duration_since(self.refilled).as_secs() / REFILL.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if let Some(refilled) = REFILL
            .checked_mul(periods)
            .and_then(|by| self.refilled.checked_add(by))
        {
            self.refilled = refilled;
        }
        self.left = self.left.saturating_add(periods).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded_one_by_one() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        for _ in 0..BURST {
            assert_eq!(flood.admit(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(flood.admit(start), None);
        }
        assert_eq!(flood.settle(start), None);
        let later = start + REFILL;
        assert_eq!(flood.admit(later), Some(1000));
        assert_eq!(flood.admit(later), None);
        assert_eq!(flood.settle(later + REFILL), Some(1));
        assert_eq!(flood.settle(later + REFILL * 9), None);
        // A quiet year does not make room for more than a burst.
        let year = start + Duration::from_secs(31_536_000);
        let recorded = (0..BURST * 2).filter(|_| flood.admit(year).is_some());
        assert_eq!(recorded.count() as u32, BURST);
    }
}
