//! What is seen of an environment, in the planner's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, SystemTime};

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{JobId, LiveContents, ServiceDigest, Traffic};

/// A replica's (or job's) id, chosen by [`crate::decide`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(pub String);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One look at an environment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// All replicas and jobs, dead ones too.
    pub replicas: Vec<Replica>,
    /// What the edge reports; `None` while it cannot be reached.
    pub edge: Option<EdgeView>,
    /// When a replica that had been named by [`crate::routing`] ceased to be.
    pub unrouted_since: BTreeMap<ReplicaId, SystemTime>,
    /// Reloads that failed, until they do well.
    pub failed_reloads: BTreeMap<ReplicaId, FailedReload>,
}

/// Contents of secrets that change while a replica runs, as it has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What is in its files.
    pub given: LiveContents,
    /// Its program was started with it, or told of it.
    pub loaded: bool,
}

/// A replica that could not be brought to reload its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedReload {
    /// What it was to have.
    pub contents: LiveContents,
    /// How often in a row.
    pub tries: u32,
    /// When last.
    pub last: SystemTime,
    /// Why.
    pub reason: String,
}

/// A replica or a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Identity.
    pub id: ReplicaId,
    /// Its service.
    pub service: ServiceName,
    /// What it is there for.
    pub role: Role,
    /// Its state.
    pub state: ReplicaState,
    /// Starts after the first.
    pub restarts: u32,
    /// How its process ended last.
    pub last_exit: Option<ExitInfo>,
    /// How long its process took to be ready, where that was seen.
    pub ready_after: Option<Duration>,
    /// Tells it from an earlier container under the same id.
    pub start: String,
    /// In whose network namespace it is, where that is not its own.
    pub joined: Option<Joined>,
    /// What it has of secrets that change as it runs; `None`: it has none, or does not run.
    pub contents: Option<Contents>,
}

/// The container whose network namespace another one is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub id: ReplicaId,
    /// [`Replica::start`] of it.
    pub start: String,
}

/// What a container is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves, in a slot of its service.
    Replica {
        /// Its configuration.
        digest: ServiceDigest,
        /// 0-based.
        slot: u32,
    },
    /// Runs once for a release.
    Job {
        /// Which.
        job: JobId,
        /// Number of the release.
        release: u64,
    },
}

/// Which probe says no, and with it whether a new process would help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedProbe {
    /// The health check, and there is no other: the replica is replaced.
    #[default]
    Health,
    /// The health check, while the liveness probe says that a new process would not help: the
    /// replica only gets no requests.
    HealthOnly,
    /// The liveness probe: the replica is replaced.
    Liveness,
}

impl FailedProbe {
    /// Whether a new process is to take the replica's place.
    pub fn asks_for_another(self) -> bool {
        match self {
            Self::Health | Self::Liveness => true,
            Self::HealthOnly => false,
        }
    }

    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Health | Self::HealthOnly => "health check",
            Self::Liveness => "liveness probe",
        }
    }
}

/// State of a replica.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplicaState {
    /// Its start is under way, and there is no container yet to join or to stop: who must not run
    /// beside it waits for what becomes of it.
    Creating,
    /// Running, without a verdict.
    Starting {
        /// Since when it runs.
        since: SystemTime,
    },
    /// Running and fit to serve.
    Ready,
    /// Running, but a probe says no.
    Unhealthy {
        /// Which.
        failed: FailedProbe,
        /// Its newest output.
        probe: String,
    },
    /// Its process has ended and is about to be started again.
    Restarting {
        /// How it ended.
        exit: ExitInfo,
        /// Starts after the first.
        restarts: u32,
    },
    /// Could not be started.
    CannotStart {
        /// Why.
        reason: String,
        /// When that was seen first; `None` right after a restart of the control plane.
        since: Option<SystemTime>,
    },
    /// Told to stop, not yet gone.
    Stopping,
    /// Ended for good.
    Ended {
        /// How.
        exit: ExitInfo,
    },
    /// Running, and what belongs to its start was broken off: nobody knows how far that came, so that
    /// it has to end.
    Interrupted,
    /// Vanished with its supervisor.
    Lost,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitInfo {
    /// Exit code, 128 + signal for a signal.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Ended because it was told to.
    pub requested: bool,
}

/// The edge's view.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeView {
    /// Replicas that get new requests.
    pub serving: BTreeSet<ReplicaId>,
    /// Requests and streams in flight by replica; absent: none.
    pub in_flight: BTreeMap<ReplicaId, u64>,
    /// What it has counted by replica since it started; absent: nothing.
    pub traffic: BTreeMap<ReplicaId, Traffic>,
    /// What it has counted of the whole environment, with requests that found no replica.
    pub total: Traffic,
}

impl ReplicaState {
    /// Whether its process may be running, or is about to.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Creating
            | Self::Starting { .. }
            | Self::Ready
            | Self::Unhealthy { .. }
            | Self::Restarting { .. }
            | Self::Interrupted
            | Self::Stopping => true,
            Self::CannotStart { .. } | Self::Ended { .. } | Self::Lost => false,
        }
    }

    /// Whether there is a container with a process that can be told to stop, and was not.
    pub fn can_be_stopped(&self) -> bool {
        match self {
            Self::Starting { .. }
            | Self::Ready
            | Self::Unhealthy { .. }
            | Self::Restarting { .. }
            | Self::Interrupted => true,
            Self::Creating
            | Self::CannotStart { .. }
            | Self::Stopping
            | Self::Ended { .. }
            | Self::Lost => false,
        }
    }
}
