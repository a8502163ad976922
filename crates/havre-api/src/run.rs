//! Runs of workflows: what people ask of them.

mod log;
mod report;
mod results;

use std::collections::BTreeMap;

use havre_model::ProjectName;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

pub use log::*;
pub use report::*;
pub use results::*;

/// Most runs of an answer.
pub const MAX_RUNS: u32 = 200;

/// Which runs to list, the newest first; what is not said excludes none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsQuery {
    /// Whose.
    pub project: ProjectName,
    /// Of the workflow with this file or name.
    pub workflow: Option<String>,
    /// On this branch, or this reference in full (`refs/tags/v1`).
    pub reference: Option<String>,
    /// Those alone that have not ended.
    pub live: bool,
    /// Those before the run of this number.
    pub before: Option<u64>,
    /// At most so many, and [`MAX_RUNS`].
    pub most: u32,
}

/// One run of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunQuery {
    /// Whose.
    pub project: ProjectName,
    /// Its number there.
    pub number: u64,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its number in the project.
    pub number: u64,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow's file, from the repository's root.
    pub path: String,
    /// What the run is called.
    pub title: String,
    /// What happened, as `on` writes it.
    pub event: String,
    /// As git has it: `refs/…`.
    pub reference: String,
    /// What runs, as its full hash.
    pub commit: String,
    /// Who did what started it.
    pub actor: String,
    /// How far it is.
    pub state: RunPhase,
    /// When it was asked for.
    pub queued: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// How far a run, a job or a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// What it needs has not ended.
    Waiting,
    /// It could go on, and others are before it.
    Queued,
    /// Its box is made, or its environment does not let it yet.
    Starting,
    /// It runs.
    Running,
    /// It is to end.
    Cancelling,
    /// All went well.
    Success,
    /// Something failed.
    Failure,
    /// It was cancelled.
    Cancelled,
    /// It did not run.
    Skipped,
}

impl RunPhase {
    /// Whether nothing follows.
    pub fn is_end(self) -> bool {
        match self {
            Self::Waiting | Self::Queued | Self::Starting | Self::Running | Self::Cancelling => {
                false
            }
            Self::Success | Self::Failure | Self::Cancelled | Self::Skipped => true,
        }
    }
}

/// Cancels a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCancelRequest {
    /// Whose.
    pub project: ProjectName,
    /// Its number there.
    pub number: u64,
    /// At once: no step cleans up, and no job goes on whose `if` asks for it.
    pub force: bool,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCancelOutcome {
    /// Whether it changed anything: what has ended is not cancelled.
    pub changed: bool,
}

/// Runs jobs of a run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRerunRequest {
    /// Whose.
    pub project: ProjectName,
    /// Its number there.
    pub number: u64,
    /// Which of them.
    pub what: RerunWhat,
}

/// What is run again, with all that needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RerunWhat {
    /// Everything.
    All,
    /// What failed or was cancelled.
    Failed,
    /// The job with this key.
    Job(String),
}

/// Jobs run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRerunOutcome {
    /// The number of the attempt that began.
    pub attempt: u32,
}

/// Starts a workflow that can be asked for (`workflow_dispatch`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDispatchRequest {
    /// Whose.
    pub project: ProjectName,
    /// Its file, from the repository's root or in `.github/workflows`.
    pub workflow: String,
    /// A branch or tag, by name or in full; without it, the default branch.
    pub reference: Option<String>,
    /// Its inputs, as they are written.
    pub inputs: BTreeMap<String, String>,
}

/// Tells a project's workflows of something that happened elsewhere (`repository_dispatch`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEventRequest {
    /// Whose.
    pub project: ProjectName,
    /// What happened, as `on.repository_dispatch.types` calls it.
    pub kind: String,
    /// `github.event.client_payload`.
    #[serde(default)]
    pub payload: serde_json::Map<String, serde_json::Value>,
}

/// A run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunBegun {
    /// Its number in the project.
    pub number: u64,
    /// The workflow's name.
    pub workflow: String,
    /// On what: `refs/…`.
    pub reference: String,
    /// The commit, as its full hash.
    pub commit: String,
}
