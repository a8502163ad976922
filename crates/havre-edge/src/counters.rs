//! How requests ended, and how long answers took to begin.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::state::PoolStatus;

/// Upper bounds of the classes of latency, in milliseconds: each about 1.4 times the one before.
const BOUNDS_MS: [u32; 30] = [
    1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048,
    2896, 4096, 5793, 8192, 11_585, 16_384, 32_768, 65_536,
];

/// Counters of requests since the edge started.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    failed: AtomicU64,
    server_errors: AtomicU64,
}

impl Counters {
    /// One that was answered.
    pub fn answered(&self, server_error: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if server_error {
            self.server_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that was not, or not to the end.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How they stand.
    pub fn status(&self) -> PoolStatus {
        PoolStatus {
            requests: self.requests.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            server_errors: self.server_errors.load(Ordering::Relaxed),
        }
    }
}

/// Answers by how long they took to begin.
#[derive(Debug, Default)]
pub struct Latency([AtomicU64; BOUNDS_MS.len()]);

impl Latency {
    /// One answer.
    pub fn add(&self, took: Duration) {
        let class =
            BOUNDS_MS.partition_point(|bound| Duration::from_millis((*bound).into()) < took);
        // The last class takes all that is longer.
        let class = class.min(BOUNDS_MS.len() - 1);
        self.0[class].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds all to `sum`, by upper bound.
    pub fn add_to(&self, sum: &mut BTreeMap<u32, u64>) {
        for (bound, count) in BOUNDS_MS.iter().zip(&self.0) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                *sum.entry(*bound).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_under_the_next_bound() {
        let latency = Latency::default();
        for micros in [0, 1000, 1001, 7900, 8000, 90_000_000] {
            latency.add(Duration::from_micros(micros));
        }
        let mut sum = BTreeMap::new();
        latency.add_to(&mut sum);
        assert_eq!(sum, [(1, 2), (2, 1), (8, 2), (65_536, 1)].into());
    }
}
