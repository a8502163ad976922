//! Counting.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What a load has met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadReport {
    /// Requests begun, streams not counted.
    pub requests: u64,
    /// Requests failed.
    pub failed: u64,
    /// Why, with how often; at most [`REASONS`] of them, the rest under `other`.
    pub reasons: BTreeMap<String, u64>,
    /// When requests failed, in ms from the start; at most [`TIMES`] of them.
    pub failed_at_ms: Vec<u64>,
    /// The first failures: when (ms from the start), what, why.
    pub first_failures: Vec<String>,
    /// Streams opened.
    pub streams_opened: u64,
    /// Streams that broke: no Close frame, no proper end of the body, no answer to a ping.
    pub streams_cut: u64,
    /// Streams that the server ended in good order.
    pub streams_closed: u64,
    /// Attempts to open a stream that failed.
    pub streams_refused: u64,
    /// Events and frames received.
    pub stream_messages: u64,
    /// Connections made.
    pub connections: u64,
    /// Median latency of successful requests.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Longest.
    pub max_ms: f64,
    /// Longest time without a request that succeeded.
    pub max_gap_ms: f64,
    /// How long it ran.
    pub seconds: f64,
}

/// Distinct reasons kept.
const REASONS: usize = 32;
/// Instants of failures kept.
const TIMES: usize = 10_000;
/// Failures kept with all that is known.
const FIRST: usize = 20;

/// A report in the making.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    report: LoadReport,
    latency: Histogram,
    last_success: Instant,
    max_gap: Duration,
}

impl Tally {
    pub fn new(begun: Instant) -> Self {
        let counts = Counts {
            report: LoadReport::default(),
            latency: Histogram::default(),
            last_success: begun,
            max_gap: Duration::ZERO,
        };
        Self {
            begun,
            counts: Mutex::new(counts),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(&self) {
        self.lock().report.requests += 1;
    }

    pub fn connection(&self) {
        self.lock().report.connections += 1;
    }

    pub fn success(&self, planned: Instant) {
        let now = Instant::now();
        let mut counts = self.lock();
        counts.latency.add(now.saturating_duration_since(planned));
        counts.max_gap = counts
            .max_gap
            .max(now.saturating_duration_since(counts.last_success));
        counts.last_success = now;
    }

    pub fn failure(&self, what: &str, why: &str) {
        let mut counts = self.lock();
        counts.report.failed += 1;
        if counts.report.failed_at_ms.len() < TIMES {
            let at = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            counts.report.failed_at_ms.push(at);
        }
        self.note(&mut counts.report, what, why);
    }

    pub fn stream_opened(&self) {
        self.lock().report.streams_opened += 1;
    }

    pub fn stream_message(&self) {
        self.lock().report.stream_messages += 1;
    }

    pub fn stream_closed(&self) {
        self.lock().report.streams_closed += 1;
    }

    pub fn stream_cut(&self, what: &str, why: &str) {
        let mut counts = self.lock();
        counts.report.streams_cut += 1;
        self.note(&mut counts.report, what, why);
    }

    pub fn stream_refused(&self, what: &str, why: &str) {
        let mut counts = self.lock();
        counts.report.streams_refused += 1;
        self.note(&mut counts.report, what, why);
    }

    fn note(&self, report: &mut LoadReport, what: &str, why: &str) {
        let known = report.reasons.contains_key(why) || report.reasons.len() < REASONS;
        let key = if known { why } else { "other" };
        *report.reasons.entry(key.to_owned()).or_insert(0) += 1;
        if report.first_failures.len() < FIRST {
            let at = self.begun.elapsed().as_millis();
            report
                .first_failures
                .push(format!("{at} ms: {what}: {why}"));
        }
    }

    pub fn report(&self, now: Instant) -> LoadReport {
        let counts = self.lock();
        let mut report = counts.report.clone();
        report.p50_ms = counts.latency.quantile(0.5);
        report.p99_ms = counts.latency.quantile(0.99);
        report.max_ms = counts.latency.quantile(1.0);
        let gap = if report.requests > report.failed {
            counts.max_gap
        } else {
            now - self.begun
        };
        report.max_gap_ms = gap.as_secs_f64() * 1e3;
        report.seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        report
    }
}

/// Buckets that grow by one in a hundred, from 1 µs up.
#[derive(Debug, Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

const GROWTH: f64 = 1.01;

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let micros = (duration.as_secs_f64() * 1e6).max(1.0);
        // At most some 2,500 for an hour.
        let bucket = (micros.ln() / GROWTH.ln()) as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
    }

    /// In ms; 0 when there is nothing.
    fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return GROWTH.powf(bucket as f64 + 0.5) / 1e3;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_one_in_a_hundred() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = histogram.quantile(share);
            assert!((got / expected - 1.0_f64).abs() < 0.011, "{share}: {got}");
        }
        assert!(Histogram::default().quantile(0.5).abs() < f64::EPSILON);
    }

    #[test]
    fn reasons_are_bounded() {
        let tally = Tally::new(Instant::now());
        for number in 0..100 {
            tally.failure("GET /", &format!("reason {number}"));
        }
        let report = tally.report(Instant::now());
        assert_eq!(report.failed, 100);
        assert_eq!(report.reasons.len(), REASONS + 1);
        assert_eq!(report.reasons["other"], 100 - 32);
        assert_eq!(report.first_failures.len(), FIRST);
    }
}
