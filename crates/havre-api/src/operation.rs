//! Operations that change an environment.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use havre_model::{Project, ServiceName};
use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, PlannedService, ReleaseId};

/// Number of a running operation, for [`crate::Cancel`]; new after each start of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub u64);

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for OperationId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Bring an environment to what the project says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpRequest {
    /// The validated project; it names its environment.
    pub project: Project,
    /// How.
    pub options: UpOptions,
    /// What its files are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<crate::Origin>,
    /// Why an administrator does not wait for what has to hold before anything new comes in.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
    /// The entry of the job that asks: who agreed with it has agreed with what it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<crate::PromotionId>,
    /// The same files as other environments of the project have them: kept with the release, for promotions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Project>,
}

/// How `up` goes about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpOptions {
    /// Build without the layer cache.
    pub no_cache: bool,
    /// Ask registries for newer images.
    pub pull: bool,
}

/// Say what `up` would do, and do nothing of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// The validated project; it names its environment.
    pub project: Project,
}

/// What `up` would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOutcome {
    /// Where.
    pub environment: EnvironmentId,
    /// The release that serves now.
    pub release: Option<ReleaseId>,
    /// `false`: everything is already as the project says.
    pub changed: bool,
    /// In the order of the rollout.
    pub services: Vec<PlannedService>,
    /// What else is different (routes, hosts, networks, …), a line each.
    pub others: Vec<String>,
}

/// What `up` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpOutcome {
    /// Where.
    pub environment: EnvironmentId,
    /// The release that serves now.
    pub release: ReleaseId,
    /// The release that served before.
    pub previous: Option<ReleaseId>,
    /// `false`: everything was already as the project says.
    pub changed: bool,
    /// Where it answers, most general path first.
    pub urls: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// Take an environment down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownRequest {
    /// Which.
    pub environment: EnvironmentId,
    /// How.
    pub options: DownOptions,
}

/// How `down` goes about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownOptions {
    /// Remove its named volumes too; what is in them is lost.
    pub volumes: bool,
}

/// What `down` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownOutcome {
    /// Which.
    pub environment: EnvironmentId,
    /// Replicas that were stopped.
    pub replicas: u32,
    /// Volumes that were removed.
    pub removed_volumes: Vec<String>,
    /// Volumes that were kept.
    pub kept_volumes: Vec<String>,
    /// What could not be removed and why; the rest was.
    pub errors: Vec<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// Replace replicas by new ones of the same release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// Empty: all services.
    pub services: Vec<ServiceName>,
}

/// Go back to an earlier release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// `None`: the one that served before the one that serves.
    pub release: Option<ReleaseId>,
}

/// Change the course of the rollout under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteerRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// How.
    pub course: Course,
}

/// What becomes of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// It stands still.
    Pause,
    /// It goes on.
    Resume,
    /// It is given up: the release before serves again.
    Abort,
}

/// The rollout whose course was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteerOutcome {
    /// The release it leads to.
    pub release: ReleaseId,
    /// The release it comes from.
    pub previous: Option<ReleaseId>,
}

/// Change the number of replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// Desired number by service; never empty.
    pub replicas: BTreeMap<ServiceName, u32>,
}

/// What `restart` or `scale` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeOutcome {
    /// Where.
    pub environment: EnvironmentId,
    /// Services that were changed.
    pub services: Vec<ServiceName>,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// Ask a running operation to stop and to undo what it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Which; the answer to the call that started it carries it.
    pub operation: OperationId,
}

/// What a streaming call sends, one JSON document per line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamItem<E, O> {
    /// News.
    Event(E),
    /// The end: it went well.
    Done(O),
    /// The end: it did not.
    Error(crate::ApiError),
}

/// The answer of a call that has nothing to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A query of the machine as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineQuery {}
