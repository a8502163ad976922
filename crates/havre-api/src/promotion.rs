//! Environments in their order, and what goes from one to the next.

use std::fmt;
use std::str::FromStr;

use havre_model::{EnvironmentGates, EnvironmentName, Project, ProjectName, ServiceName};
use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, PlannedService, ReleaseId, Role, Timestamp};

/// Number of a promotion, counted on each machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromotionId(pub u64);

impl fmt::Display for PromotionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for PromotionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a release is made of, as whoever asks for it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The commit of its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Of which repository: an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// By which name: `refs/heads/main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The run of a workflow that asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Where a release comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrigin {
    /// What is known of it, by its job, or was said.
    #[serde(flatten)]
    pub origin: Origin,
    /// The job of this machine that it comes of, as the daemon knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobOrigin>,
    /// Who said what `origin` has, where no job of this machine did: that opens no gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_by: Option<String>,
    /// The promotion that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<PromotionId>,
    /// Where it served before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_from: Option<PromotedFrom>,
    /// Who agreed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<ApprovalStatus>,
    /// Why an administrator did not wait for what has to hold.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// A job of a run of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOrigin {
    /// Its run's number in the project.
    pub run: u64,
    /// Which attempt of it.
    pub attempt: u32,
    /// Its name.
    pub job: String,
    /// The file of its workflow.
    pub workflow: String,
}

/// A release of another environment of the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotedFrom {
    /// Which environment.
    pub environment: EnvironmentName,
    /// Its release.
    pub release: ReleaseId,
}

/// Somebody's agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalStatus {
    /// Whose.
    pub by: String,
    /// What they might do there then.
    pub role: Role,
    /// When.
    pub at: Timestamp,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Bring a release of one environment to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromoteRequest {
    /// The validated project as the environment it is to come to has it: its configuration. Nothing of it is built.
    pub project: Project,
    /// Where its images come from.
    pub from: EnvironmentName,
    /// Which of the releases there; `None`: the one that serves.
    pub release: Option<ReleaseId>,
    /// What is known of where it comes from, where that differs from what is known of that release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The entry of the job that asks: who agreed with it has agreed with what it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<PromotionId>,
    /// Say what it would change, and do nothing of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which promotions to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionsQuery {
    /// This one; `None`: those that wait or are under way.
    pub promotion: Option<PromotionId>,
    /// `None`: of every project.
    pub project: Option<ProjectName>,
    /// `None`: of every environment.
    pub environment: Option<EnvironmentName>,
}

/// Agree with a promotion, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionAnswer {
    /// Where it is to come in.
    pub environment: EnvironmentId,
    /// Which.
    pub promotion: PromotionId,
    /// Why.
    pub comment: Option<String>,
}

/// A promotion and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionStatus {
    /// Its number; `None`: it would get one.
    pub promotion: Option<PromotionId>,
    /// Where it is to come in.
    pub environment: EnvironmentId,
    /// The release that is to come there; `None`: it is a job.
    pub from: Option<PromotedFrom>,
    /// The job that wants to begin there; `None`: it is a release.
    pub job: Option<WaitingJob>,
    /// Who asked for it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// When nobody waits any longer.
    pub expires: Timestamp,
    /// How far it is.
    pub state: PromotionState,
    /// Why it is so.
    pub reason: Option<String>,
    /// What has to hold.
    pub gates: Vec<GateStatus>,
    /// Who agreed.
    pub approvals: Vec<ApprovalStatus>,
    /// Where it comes from.
    pub origin: Option<ReleaseOrigin>,
    /// Of which files its configuration is; `None`: it is a job.
    pub configuration: Option<String>,
    /// The release that came of it.
    pub result: Option<ReleaseId>,
    /// The images that the environment would run; those of services that keep theirs are left out.
    pub images: Vec<ImageChange>,
    /// What would become of each service.
    pub changes: Vec<PlannedService>,
    /// What else would be different, a line each.
    pub others: Vec<String>,
    /// How its configuration differs from that with which it served, a line each.
    pub differs: Vec<String>,
}

impl PromotionStatus {
    /// Which one it is, for the record.
    pub(crate) fn told(&self) -> String {
        match self.promotion {
            Some(id) => format!("promotion {id}"),
            None => "nothing was asked for".to_owned(),
        }
    }
}

/// A job of a run that waits for an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingJob {
    /// The run.
    pub run: String,
    /// Its name.
    pub job: String,
}

/// An image that gives way to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageChange {
    /// Of which service.
    pub service: ServiceName,
    /// `sha256:…` of the one that runs; `None`: the service is new.
    pub before: Option<String>,
    /// `sha256:…` of the one that comes.
    pub after: String,
}

/// How far a promotion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionState {
    /// Something that has to hold does not yet.
    Waiting,
    /// All of it does.
    Approved,
    /// The environment moves to it.
    RollingOut,
    /// It has served there.
    RolledOut,
    /// The job was let in.
    Entered,
    /// Its rollout failed.
    Failed,
    /// Somebody said no.
    Rejected,
    /// Something that has to hold never will.
    Refused,
    /// Something else came before it.
    Superseded,
    /// Nobody had agreed in time.
    Expired,
}

impl PromotionState {
    /// Whether nothing becomes of it any more.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Approved | Self::RollingOut)
    }
}

/// Something that has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStatus {
    /// Its key in havre.yaml: `needs`, `approval`, …
    pub gate: String,
    /// Whether it holds.
    pub state: GateState,
    /// Why not.
    pub why: Option<String>,
    /// When it will at the earliest, where a clock decides.
    pub until: Option<Timestamp>,
}

/// Whether something that has to hold does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// It does.
    Open,
    /// Not yet.
    Waits,
    /// It does not, and will not by waiting.
    Refused,
}

/// An environment, in the order in which releases go through them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInfo {
    /// Which.
    pub id: EnvironmentId,
    /// The release that serves.
    pub release: Option<ReleaseId>,
    /// Where it comes from.
    pub origin: Option<ReleaseOrigin>,
    /// What has to hold before anything new comes in, as it is in force; `None`: nothing.
    pub gates: Option<EnvironmentGates>,
    /// Nothing new comes in now.
    pub frozen: Option<FreezeStatus>,
    /// What waits, the oldest first.
    pub waiting: Vec<PromotionStatus>,
    /// It was made for a branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewInfo>,
    /// Under which it is served.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// An environment of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewInfo {
    /// Which.
    pub branch: String,
    /// When it goes, unless another job gets into it.
    pub until: Timestamp,
    /// It goes, and why.
    pub goes: Option<String>,
    /// Why it is there still, or is not looked after.
    pub why: Option<String>,
}

/// Nothing new comes into an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeStatus {
    /// Why.
    pub reason: String,
    /// Until when; `None`: until somebody ends it.
    pub until: Option<Timestamp>,
    /// Who said so; `None`: havre.yaml.
    pub by: Option<String>,
}

/// Let nothing new come into an environment, or no longer do so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRequest {
    /// Which.
    pub environment: EnvironmentId,
    /// How; `None`: what somebody said before no longer counts.
    pub freeze: Option<FreezeOrder>,
}

/// How nothing new comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeOrder {
    /// Until when; `None`: until somebody ends it.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// Put what a project's files say of its environments in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatesRequest {
    /// The project.
    pub project: ProjectName,
    /// All of them, in their order.
    pub gates: Vec<EnvironmentGates>,
}

/// What a test said of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReportRequest {
    /// Where it was tested.
    pub environment: EnvironmentId,
    /// Which release; `None`: the one that serves.
    pub release: Option<ReleaseId>,
    /// The workflow or command, as `e2e` of another environment names it.
    pub test: String,
    /// Whether it passed.
    pub passed: bool,
    /// Where it can be looked at.
    pub run: Option<String>,
}

/// Ask whether a job of a run may begin in an environment; to be asked again while it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterRequest {
    /// Where.
    pub environment: EnvironmentId,
    /// The run, and which attempt of it.
    pub run: String,
    /// The job's name; legs of a matrix have one each.
    pub job: String,
    /// What it runs.
    #[serde(default)]
    pub origin: Origin,
}

/// Whether a job may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryStatus {
    /// What people agree with by `havre approve`; of one that was let in, what its `up` and `promote` name.
    pub promotion: PromotionId,
    /// Whether it may.
    pub state: EntryState,
    /// Why not.
    pub reason: Option<String>,
    /// What has to hold, while it waits.
    pub gates: Vec<GateStatus>,
    /// Whose secrets it gets; `None`: nobody's yet.
    pub secrets: Option<EnvironmentId>,
}

/// Whether a job may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// It may.
    Entered,
    /// Not yet.
    Waits,
    /// It may not, and will not by waiting.
    Refused,
}

/// Of which release the provenance is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceQuery {
    /// Where.
    pub environment: EnvironmentId,
    /// Which.
    pub release: ReleaseId,
}
