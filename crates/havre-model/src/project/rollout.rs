//! How one release takes the place of another.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Healthcheck, Service};

/// `deploy.update_config`; unset fields get safe defaults in the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// `start-first` or `stop-first`; `None`: the planner decides and says why.
    pub order: Option<UpdateOrder>,
    /// Replicas replaced at a time; `None`: all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Rest between two such groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// How long the release is watched because of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Duration>,
    /// What becomes of a release that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// `deploy.rollback_config.order`: the order on the way back, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_order: Option<UpdateOrder>,
}

/// `rollout` of `havre.yaml`: how an environment moves from one release to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutSettings {
    /// How requests move to the new release.
    pub strategy: RolloutStrategy,
    /// How long the new release is watched when it has all requests.
    pub bake: Duration,
    /// So many more of a thousand requests may fail than before.
    pub max_errors_permille: u32,
    /// So many times the latency of before is still borne (95th percentile, in hundredths).
    pub max_slowdown_percent: u32,
    /// How long a replica may take until it is ready.
    pub ready_timeout: Duration,
    /// Requests and streams of a replica that leaves are given up after this.
    pub drain_timeout: Duration,
    /// How long requests wait for a service without a replica; `None`: as long as its last start
    /// took, and a margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
    /// What becomes of a rollout that fails.
    pub on_failure: OnFailure,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            bake: Duration::from_secs(10),
            max_errors_permille: 10,
            max_slowdown_percent: 300,
            ready_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            hold: None,
            on_failure: OnFailure::default(),
        }
    }
}

impl RolloutSettings {
    /// Nobody waits longer for an answer.
    pub const LONGEST_HOLD: Duration = Duration::from_secs(600);
    /// Requests wait so long for a service that nobody has seen start.
    pub const USUAL_HOLD: Duration = Duration::from_secs(30);

    /// How long requests wait for a service without a replica that took `start` to be ready when
    /// it was last seen to start. `end`: all the time of one that has to end before.
    pub fn hold_for(&self, start: Option<Duration>, end: Duration) -> Duration {
        // Half as long again, and a margin.
        let measured = start.map(|start| start.saturating_mul(3) / 2 + Duration::from_secs(15));
        let usual = measured.unwrap_or_default().max(Self::USUAL_HOLD);
        let usual = usual.saturating_add(end);
        self.hold.unwrap_or(usual).min(Self::LONGEST_HOLD)
    }

    /// Whether nothing was said about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long a replica of this service may take until it is ready: where nobody chose a time,
    /// at least as long as its own health check bears.
    pub fn ready_within(&self, service: &Service) -> Duration {
        let usual = Self::default().ready_timeout;
        match &service.healthcheck {
            Some(Healthcheck::Probe { timing, .. }) if self.ready_timeout == usual => {
                usual.max(timing.longest_start())
            }
            Some(Healthcheck::Probe { .. } | Healthcheck::Disabled) | None => self.ready_timeout,
        }
    }
}

/// How requests move to a new release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "kebab-case")]
pub enum RolloutStrategy {
    /// All at once, when every service is ready.
    #[default]
    BlueGreen,
    /// A share of the visitors first.
    Canary {
        /// The shares in a thousand, growing.
        steps: Vec<u32>,
        /// How long each is watched.
        step: Duration,
    },
}

/// What becomes of a rollout that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The release before serves again.
    #[default]
    Rollback,
    /// It stops where it is until a person decides.
    Pause,
}

/// Order of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new replica starts before the old one ends.
    StartFirst,
    /// The old replica ends before the new one starts.
    StopFirst,
}
