//! The one-screen report of what failed.

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{ExitReport, ReplicaState, Timestamp};

/// What failed, with all that a person needs to repair it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "failed", rename_all = "snake_case")]
pub enum FailureReport {
    /// A build step.
    Build(BuildFailure),
    /// A job that had to end with 0 before replicas start.
    Job(JobFailure),
    /// A replica that never became ready.
    Service(ServiceFailure),
}

/// A build step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFailure {
    /// The image being built.
    pub image: String,
    /// Services that need it.
    pub services: Vec<ServiceName>,
    /// What went wrong, in one sentence.
    pub reason: String,
    /// The Dockerfile and the line of the step.
    pub place: Option<SourceLocation>,
    /// The instruction as written.
    pub instruction: Option<String>,
    /// Exit code of a RUN step.
    pub exit_code: Option<i32>,
    /// Last lines of the step's output, at most 20.
    pub log: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// A job that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// The service whose job it is.
    pub service: ServiceName,
    /// What went wrong, in one sentence.
    pub reason: String,
    /// The command.
    pub command: Vec<String>,
    /// How it ended.
    pub exit: Option<ExitReport>,
    /// Last lines of its output, at most 20.
    pub log: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// A replica that never became ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFailure {
    /// Its service.
    pub service: ServiceName,
    /// Its id.
    pub replica: Option<String>,
    /// What went wrong, in one sentence (`not healthy after 60 s`).
    pub reason: String,
    /// State when it was given up.
    pub state: Option<ReplicaState>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Starts after the first.
    pub restarts: u32,
    /// What its probe said last.
    pub probe: Option<ProbeReport>,
    /// How its process ended last.
    pub exit: Option<ExitReport>,
    /// Last lines of its output, at most 20.
    pub log: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// What the probe decides.
    pub kind: ProbeKind,
    /// The command, or what was asked of which address.
    pub probe: String,
    /// Exit code of a command; `None`: it ran into its timeout.
    pub exit_code: Option<i32>,
    /// What it printed, shortened.
    pub output: String,
    /// Failures in a row.
    pub failing_streak: u32,
}

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Whether the replica gets requests.
    Health,
    /// Whether it is replaced.
    Liveness,
}

/// A place in a user's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLocation {
    /// The file, as the user would name it.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: Option<u32>,
}
