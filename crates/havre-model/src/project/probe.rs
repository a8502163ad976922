//! How a replica is asked whether it is well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `healthcheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Healthcheck {
    /// `disable: true` or `test: NONE`: also removes the image's.
    Disabled,
    /// A probe; unset fields fall back to the image's, then to the defaults.
    Probe {
        /// `None`: the image's test.
        test: Option<Probe>,
        /// When it runs.
        #[serde(flatten)]
        timing: ProbeTiming,
    },
}

/// A liveness probe; unset fields have the defaults of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// What it runs.
    pub test: Probe,
    /// When.
    #[serde(flatten)]
    pub timing: ProbeTiming,
}

/// When a probe runs, and what its results mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTiming {
    /// Default 30 s.
    pub interval: Option<Duration>,
    /// Default 30 s.
    pub timeout: Option<Duration>,
    /// Default 3.
    pub retries: Option<u32>,
    /// Default 0 s.
    pub start_period: Option<Duration>,
    /// In the start period. Default 1 s, where Docker has 5.
    pub start_interval: Option<Duration>,
}

impl ProbeTiming {
    /// How long a process may take at most until the probe gives it up, with the defaults.
    pub(super) fn longest_start(&self) -> Duration {
        let usual = Duration::from_secs(30);
        let interval = self.interval.unwrap_or(usual);
        let one = interval.saturating_add(self.timeout.unwrap_or(usual));
        one.saturating_mul(self.retries.unwrap_or(3).max(1))
            .saturating_add(self.start_period.unwrap_or_default())
    }
}

/// What a health check runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", content = "value", rename_all = "snake_case")]
pub enum Probe {
    /// `["CMD", …]`.
    Exec(Vec<String>),
    /// `["CMD-SHELL", "…"]` or a plain string; run by `/bin/sh -c`.
    Shell(String),
}
