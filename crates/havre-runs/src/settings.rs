//! How much is done at once and how long things are kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ports::{Gate, Legs, Sources};

/// How much is done at once and how long things are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Legs in boxes at once, on the whole machine; at least one.
    pub at_once: usize,
    /// Of these, legs of one project; at least one.
    pub per_project: usize,
    /// Runs of a project that have not ended; more are refused.
    pub live_runs: usize,
    /// Finished runs that a project keeps.
    pub kept_runs: usize,
    /// How long they are kept.
    pub kept_for: Duration,
    /// Bytes of one leg's log; what comes behind is not kept, and the log says so.
    pub log_bytes: u64,
    /// Bytes of all logs of a project; those of the oldest runs go first.
    pub project_log_bytes: u64,
    /// How long a leg may take to clean up after it was cancelled.
    pub cancel_grace: Duration,
    /// How long a box may take to start, its images included.
    pub start_within: Duration,
    /// Owners of other repositories, in small letters, whose workflows may be given all secrets at once
    /// (`secrets: inherit`).
    pub trusted_owners: Vec<String>,
    /// Whether runs of workflows may start others (`workflow_run`), and times do.
    pub starts_by_itself: bool,
    /// Whether driving ends where something cannot be kept; otherwise it is tried again, for ever.
    pub gives_up: bool,
}

impl Settings {
    /// What one project may have of so many legs at once, where nobody says so: one is left for others.
    pub fn share(at_once: usize) -> usize {
        at_once.saturating_sub(1).max(1)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            at_once: 4,
            per_project: Self::share(4),
            live_runs: 500,
            kept_runs: 500,
            kept_for: Duration::from_secs(90 * 24 * 3600),
            log_bytes: 64 << 20,
            project_log_bytes: 1 << 30,
            cancel_grace: Duration::from_secs(5 * 60),
            start_within: Duration::from_secs(30 * 60),
            trusted_owners: Vec::new(),
            starts_by_itself: true,
            gives_up: false,
        }
    }
}

/// What a driver drives.
#[derive(Clone)]
pub struct Ports {
    /// Boxes.
    pub legs: Arc<dyn Legs>,
    /// Who lets them go on.
    pub gate: Arc<dyn Gate>,
    /// Files of commits.
    pub sources: Arc<dyn Sources>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// That of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        elapsed.map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
    }
}
