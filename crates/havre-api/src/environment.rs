//! Environments as they are: release, services, replicas.

use std::fmt;

use havre_model::{EnvironmentId, EnvironmentName, ProjectName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Number of a release, counted from 1 in each environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(pub u64);

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which environments to report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusQuery {
    /// `None`: of every project.
    pub project: Option<ProjectName>,
    /// `None`: every environment. One that is named and does not exist is `NotFound` where the
    /// project is named too.
    pub environment: Option<EnvironmentName>,
}

/// One environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentStatus {
    /// Which.
    pub id: EnvironmentId,
    /// Overall state.
    pub state: EnvironmentState,
    /// The release that serves; `None` before the first rollout ended.
    pub release: Option<ReleaseId>,
    /// Since when it serves.
    pub since: Option<Timestamp>,
    /// The operation that runs now.
    pub operation: Option<RunningOperation>,
    /// Where it answers, most general path first.
    pub routes: Vec<RouteStatus>,
    /// Its services in dependency order.
    pub services: Vec<ServiceStatus>,
    /// Replicas that have another version of a secret than they are to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<crate::SecretDiffers>,
    /// Promotions to it and jobs that want into it, the oldest first: what waits, or rolls out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<PromotionGlance>,
    /// Runs of its project's workflows; `None`: the project has no repository here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<ProjectRuns>,
    /// What a person should look at; empty when all is well.
    pub problems: Vec<String>,
}

/// Something that wants into an environment, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionGlance {
    /// Its number.
    pub promotion: crate::PromotionId,
    /// What it is, for a person.
    pub what: String,
    /// Who asked for it.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// How far it is.
    pub state: crate::PromotionState,
    /// What it waits for, a line each.
    pub waits_for: Vec<String>,
}

/// Runs of a project, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectRuns {
    /// Those that have not ended, the newest first.
    pub live: Vec<crate::RunSummary>,
    /// The newest of the default branch.
    pub last: Option<crate::RunSummary>,
}

/// Overall state of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentState {
    /// Every service has the replicas it should have, all ready.
    Running,
    /// Fewer ready replicas than desired, or a job that failed.
    Degraded,
    /// A rollout is under way.
    RollingOut,
    /// A failed or cancelled rollout is being undone.
    RollingBack,
    /// Nothing serves: the first rollout has not ended, or failed.
    Down,
    /// Being taken down.
    Removing,
}

/// An operation that holds an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningOperation {
    /// What it is (`up`, `down`, `scale`, …).
    pub kind: String,
    /// Since when.
    pub since: Timestamp,
    /// What it is doing, for a person.
    pub phase: String,
}

/// A route as users see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// `https://host[:port]/path`.
    pub url: String,
    /// The service that answers.
    pub service: ServiceName,
    /// Whether a replica takes requests.
    pub serving: bool,
}

/// A service of an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// Overall state.
    pub state: ServiceState,
    /// Desired number of replicas.
    pub wanted: u32,
    /// Replicas that run and pass their probe.
    pub ready: u32,
    /// Image reference as written or as built.
    pub image: Option<String>,
    /// `sha256:…` of the image that runs.
    pub digest: Option<String>,
    /// Starts after the first, over all replicas of the release.
    pub restarts: u32,
    /// How a process of it ended last.
    pub last_exit: Option<ExitReport>,
    /// Why it is not as it should be, in one sentence.
    pub reason: Option<String>,
}

/// Overall state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// All replicas are ready.
    Running,
    /// Some are starting, none has failed.
    Starting,
    /// Some are not ready.
    Degraded,
    /// None is ready.
    Failed,
    /// A job that ended with 0.
    Completed,
    /// Scaled to 0.
    Stopped,
}

/// Which replicas to report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaQuery {
    /// As in [`StatusQuery`].
    pub project: Option<ProjectName>,
    /// As in [`StatusQuery`].
    pub environment: Option<EnvironmentName>,
    /// Empty: all services.
    pub services: Vec<ServiceName>,
    /// Ended ones too.
    pub all: bool,
}

/// One replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its name, unique on this machine.
    pub id: String,
    /// Where it belongs.
    pub environment: EnvironmentId,
    /// Its service.
    pub service: ServiceName,
    /// The release that made it.
    pub release: ReleaseId,
    /// State of its process.
    pub state: ReplicaState,
    /// Verdict of its probe; `None` without a probe.
    pub health: Option<HealthState>,
    /// Since when it is in `state`.
    pub since: Option<Timestamp>,
    /// Starts after the first.
    pub restarts: u32,
    /// Its address in the environment's network.
    pub address: Option<String>,
    /// Process id on the host.
    pub pid: Option<u32>,
    /// How its process ended last.
    pub last_exit: Option<ExitReport>,
    /// Share of one CPU in percent over the last sample.
    pub cpu_percent: Option<f64>,
    /// Memory in use.
    pub memory_bytes: Option<u64>,
    /// Its limit.
    pub memory_limit_bytes: Option<u64>,
}

/// State of a replica's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Being set up.
    Creating,
    /// Running.
    Running,
    /// Gets no new requests, those in flight are ending.
    Draining,
    /// Was told to end.
    Stopping,
    /// Ended, the next start is planned.
    BackOff,
    /// Could not be started.
    Failed,
    /// Ended for good.
    Exited,
    /// Gone without an exit status.
    Lost,
}

/// Verdict of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No verdict yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// It failed as often as it may.
    Unhealthy,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// When.
    pub at: Timestamp,
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Most memory it had used until then, where the kernel killed it for memory and tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The memory limit it ran into.
    pub memory_limit_bytes: Option<u64>,
}
