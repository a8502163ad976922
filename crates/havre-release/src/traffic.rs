//! What the edge counts: requests, failures and how long answers took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters of requests, of one replica or several, since some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Requests answered.
    pub requests: u64,
    /// Answers with 5xx among them.
    pub server_errors: u64,
    /// Requests without an answer: no connection, reset, cut short.
    pub failed: u64,
    /// Answers by how long they took at most, in milliseconds.
    pub latency: BTreeMap<u32, u64>,
}

impl Traffic {
    /// Requests that ended, well or not.
    pub fn ended(&self) -> u64 {
        self.requests + self.failed
    }

    /// Those that ended badly.
    pub fn errors(&self) -> u64 {
        self.server_errors + self.failed
    }

    /// What has come since `mark`. An edge that was restarted counts from zero again: then all of
    /// it has.
    #[must_use]
    pub fn since(&self, mark: &Self) -> Self {
        let restarted = self.requests < mark.requests
            || self.failed < mark.failed
            || self.server_errors < mark.server_errors;
        if restarted {
            return self.clone();
        }
        let of_mark = |bound: &u32| mark.latency.get(bound).copied().unwrap_or(0);
        Self {
            requests: self.requests - mark.requests,
            server_errors: self.server_errors - mark.server_errors,
            failed: self.failed - mark.failed,
            latency: self
                .latency
                .iter()
                .map(|(bound, count)| (*bound, count.saturating_sub(of_mark(bound))))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// Adds another's counters.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.server_errors += other.server_errors;
        self.failed += other.failed;
        for (bound, count) in &other.latency {
            *self.latency.entry(*bound).or_default() += count;
        }
    }

    /// 95 of 100 answers took at most so many milliseconds; `None` without answers.
    pub fn p95_ms(&self) -> Option<u32> {
        let all: u64 = self.latency.values().sum();
        let mut left = all - all * 95 / 100;
        self.latency
            .iter()
            .rev()
            .find(|(_, count)| {
                let here = left <= **count;
                left = left.saturating_sub(**count);
                here
            })
            .map(|(bound, _)| *bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(of: &[(u32, u64)]) -> Traffic {
        Traffic {
            requests: of.iter().map(|(_, count)| count).sum(),
            latency: of.iter().copied().collect(),
            ..Traffic::default()
        }
    }

    #[test]
    fn the_95th_percentile_is_the_bound_that_95_of_100_keep() {
        assert_eq!(Traffic::default().p95_ms(), None);
        assert_eq!(latency(&[(8, 1)]).p95_ms(), Some(8));
        assert_eq!(latency(&[(8, 95), (100, 5)]).p95_ms(), Some(100));
        assert_eq!(latency(&[(8, 96), (100, 4)]).p95_ms(), Some(8));
        assert_eq!(latency(&[(8, 50), (16, 49), (100, 1)]).p95_ms(), Some(16));
    }

    #[test]
    fn counters_that_went_back_count_from_zero() {
        let mark = latency(&[(8, 10)]);
        assert_eq!(
            latency(&[(8, 14), (16, 1)]).since(&mark),
            latency(&[(8, 4), (16, 1)])
        );
        assert_eq!(latency(&[(8, 3)]).since(&mark), latency(&[(8, 3)]));
    }
}
