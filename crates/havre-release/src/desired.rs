//! What an environment should be: persisted, the only input of a reconciler that survives a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{ExitInfo, ReplicaId};

/// An environment's desired state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Run or go.
    #[serde(default)]
    pub intent: Intent,
    /// The release that serves; `None` before the first rollout has succeeded.
    pub current: Option<u64>,
    /// When `current` began to serve.
    pub current_since: Option<SystemTime>,
    /// The move to another release, while it lasts.
    pub rollout: Option<Rollout>,
    /// Numbers of replicas set by hand; cleared by the next `up`.
    #[serde(default)]
    pub scale: BTreeMap<ServiceName, u32>,
    /// Why the newest rollout went back; cleared by the next success.
    pub last_failure: Option<Failure>,
    /// Services whose replicas were replaced since they were not well.
    #[serde(default)]
    pub heals: BTreeMap<ServiceName, Heal>,
}

/// What was done for a service that was not well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heal {
    /// Replicas replaced without a longer time of peace in between.
    pub count: u32,
    /// When the newest was chosen.
    pub last: SystemTime,
    /// The one that is to end, until it has.
    pub replica: Option<ReplicaId>,
}

/// Whether the environment is wanted at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// Run the current release.
    #[default]
    Run,
    /// Stop everything, then forget the environment.
    Down {
        /// Remove the named volumes too.
        volumes: bool,
    },
}

/// A move from one release to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The release before; `None` for the first.
    pub from: Option<u64>,
    /// The release to reach.
    pub to: u64,
    /// When it began.
    pub started_at: SystemTime,
    /// How far it is.
    pub phase: Phase,
    /// Jobs of `to` that have ended with 0.
    #[serde(default)]
    pub jobs_done: BTreeSet<JobId>,
}

/// How far a rollout is. What is finer than this is seen from the replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Jobs run and new replicas come up; traffic goes to the old ones.
    Preparing,
    /// Traffic goes to the new replicas; the old ones drain and end.
    Shifted {
        /// When traffic moved.
        at: SystemTime,
    },
    /// New replicas end; those of the old release that had ended start again.
    GoingBack {
        /// What forced it.
        failure: Failure,
    },
}

/// A job of a release: a `pre_start` hook or a service that runs to completion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId {
    /// The service.
    pub service: ServiceName,
    /// Index of the `pre_start` hook; `None`: the service itself.
    pub hook: Option<u32>,
}

/// Why a rollout cannot succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The service.
    pub service: ServiceName,
    /// The replica or job, where one is to blame.
    pub replica: Option<ReplicaId>,
    /// What happened.
    pub kind: FailureKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FailureKind {
    /// The process could not be started.
    CannotStart {
        /// The engine's reason.
        reason: String,
    },
    /// The process keeps ending.
    Crashed {
        /// The newest end.
        exit: ExitInfo,
        /// Starts after the first.
        restarts: u32,
    },
    /// The health check fails.
    Unhealthy {
        /// Output of the newest probe.
        probe: String,
    },
    /// Neither ready nor dead within the deadline.
    NotReady {
        /// The deadline.
        after: Duration,
    },
    /// A job ended with other than 0.
    JobFailed {
        /// Its end.
        exit: ExitInfo,
    },
    /// A person or a signal asked for it.
    Aborted,
}

/// Deadlines of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a replica may take from start to ready.
    pub ready_deadline: Duration,
    /// How long a whole rollout may take until traffic moves.
    pub rollout_deadline: Duration,
    /// Ends of a new replica's process, in a row, that count as a crash loop.
    pub crash_limit: u32,
    /// Old replicas keep running at least this long after the shift: names are cached that long.
    pub min_drain: Duration,
    /// Requests still in flight after this are given up.
    pub drain_deadline: Duration,
    /// Pause after a replica that was not well was replaced; twice as long after each further one.
    pub heal_pause: Duration,
    /// That pause at most.
    pub longest_heal_pause: Duration,
    /// After so much time in peace a service counts as never replaced.
    pub heal_memory: Duration,
    /// Pause before a replica that could not be started is tried again outside a rollout.
    pub retry: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            ready_deadline: Duration::from_secs(300),
            rollout_deadline: Duration::from_secs(900),
            crash_limit: 3,
            min_drain: Duration::from_millis(1200),
            drain_deadline: Duration::from_secs(30),
            heal_pause: Duration::from_secs(10),
            longest_heal_pause: Duration::from_secs(300),
            heal_memory: Duration::from_secs(900),
            retry: Duration::from_secs(10),
        }
    }
}

impl Policy {
    /// How long a service rests after so many replacements.
    pub fn pause_after(&self, heals: u32) -> Duration {
        let doublings = heals.saturating_sub(1).min(16);
        self.heal_pause
            .saturating_mul(1 << doublings)
            .min(self.longest_heal_pause)
    }
}

impl Desired {
    /// Number of replicas wanted of a service whose file says `configured`.
    pub fn replicas(&self, service: &ServiceName, configured: u32) -> u32 {
        self.scale.get(service).copied().unwrap_or(configured)
    }
}
