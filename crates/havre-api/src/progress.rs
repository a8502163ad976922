//! What a long operation says while it runs. One kind of event for `up`, `down`, `restart` and
//! `scale`, so that one view shows them all.

use havre_model::ServiceName;
use serde::{Deserialize, Serialize};

use crate::{FailureReport, HealthState, LogStream};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What will be done; sent once it is known, before the first service changes.
    Plan {
        /// In the order of the rollout.
        services: Vec<PlannedService>,
    },
    /// The operation entered a phase.
    Phase {
        /// Which.
        phase: OperationPhase,
    },
    /// An image is being fetched.
    Pull {
        /// Its reference.
        reference: String,
        /// News.
        #[serde(flatten)]
        progress: PullProgress,
    },
    /// An image is being built.
    Build {
        /// The name the result gets; several builds may be under way.
        image: String,
        /// News.
        #[serde(flatten)]
        progress: BuildProgress,
    },
    /// A job runs (`pre_start`, or a service that runs to completion).
    Job {
        /// Its service.
        service: ServiceName,
        /// News.
        #[serde(flatten)]
        progress: JobProgress,
    },
    /// A service is being changed.
    Service {
        /// Which.
        service: ServiceName,
        /// News.
        #[serde(flatten)]
        progress: ServiceProgress,
    },
    /// Something that does not stop the operation but that a person should know.
    Warning {
        /// What, in one sentence.
        message: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Something failed; the operation is undone or ends.
    Failure {
        /// What and why.
        report: Box<FailureReport>,
    },
    /// The reader was too slow and that many events were left out.
    Missed {
        /// How many.
        count: u64,
    },
}

/// Phases of an operation, in the order in which they come; not every operation has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationPhase {
    /// Waiting for another operation on the environment to end.
    Queue,
    /// Fetching and building images.
    Images,
    /// Networks, volumes, secrets.
    Prepare,
    /// Jobs that run once before replicas start.
    Jobs,
    /// Replacing replicas.
    Rollout,
    /// Watching the new release on a share of the visitors.
    Canary,
    /// Watching the new release.
    Bake,
    /// Standing still until somebody decides.
    Pause,
    /// Going back to the release before.
    RollBack,
    /// Stopping replicas (`down`).
    Stop,
    /// Removing what is no longer needed.
    CleanUp,
}

/// What will happen to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedService {
    /// Which.
    pub service: ServiceName,
    /// What will happen.
    pub action: PlannedAction,
    /// Replicas at the end.
    pub replicas: u32,
    /// How the new replaces the old and what decided it (`start-first: default for a routed
    /// service`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// What is different, a line each; values of variables are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// What will happen to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    /// It is new.
    Create,
    /// Its replicas are replaced.
    Replace,
    /// It is a job, and runs once for this release.
    Run,
    /// Only the number of replicas changes.
    Scale,
    /// Its replicas stay, and get other contents of their secrets.
    Reload,
    /// Nothing changes.
    Keep,
    /// It is no longer desired.
    Remove,
}

/// News of a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum PullProgress {
    /// Asking the registry.
    Started,
    /// Bytes have come.
    Bytes {
        /// So far.
        done: u64,
        /// In all, once known.
        total: Option<u64>,
    },
    /// Stored and verified.
    Done {
        /// Of the manifest.
        digest: String,
        /// How long it took.
        elapsed_ms: u64,
    },
}

/// News of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum BuildProgress {
    /// The Dockerfile is read.
    Started {
        /// Services that need the image.
        services: Vec<ServiceName>,
        /// Steps to come.
        steps: u32,
    },
    /// A step began.
    StepStarted {
        /// Counted from 1.
        index: u32,
        /// Stage it belongs to, where the Dockerfile has several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
        /// The instruction, on one line.
        instruction: String,
    },
    /// A step printed a line.
    StepOutput {
        /// Counted from 1.
        index: u32,
        /// Where it printed.
        stream: LogStream,
        /// Without its line end.
        text: String,
    },
    /// A step ended well.
    StepDone {
        /// Counted from 1.
        index: u32,
        /// Its result was already there.
        cached: bool,
        /// How long it took.
        elapsed_ms: u64,
    },
    /// The image is stored.
    Done {
        /// Of the manifest.
        digest: String,
        /// How long it took.
        elapsed_ms: u64,
    },
}

/// News of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum JobProgress {
    /// It runs.
    Started {
        /// Its command.
        command: Vec<String>,
    },
    /// It printed a line.
    Output {
        /// Where it printed.
        stream: LogStream,
        /// Without its line end.
        text: String,
    },
    /// It ended with 0.
    Done {
        /// How long it took.
        elapsed_ms: u64,
    },
}

/// News of a service's change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum ServiceProgress {
    /// Waiting until another service is as `depends_on` asks.
    Waiting {
        /// For which.
        dependency: ServiceName,
    },
    /// A replica is being made.
    Starting {
        /// Its id.
        replica: String,
    },
    /// A replica's probe changed its verdict.
    Health {
        /// Its id.
        replica: String,
        /// The verdict.
        health: HealthState,
        /// First line of what the probe said when it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A replica is ready.
    Ready {
        /// Its id.
        replica: String,
        /// New replicas ready so far.
        ready: u32,
        /// New replicas desired.
        wanted: u32,
    },
    /// New requests go to the new replicas.
    Shifting,
    /// An old replica gets no new requests.
    Draining {
        /// Its id.
        replica: String,
        /// Requests and streams still in flight.
        in_flight: u64,
    },
    /// An old replica was told to end.
    Stopping {
        /// Its id.
        replica: String,
    },
    /// An old replica is gone.
    Stopped {
        /// Its id.
        replica: String,
    },
    /// The service goes back to what it was.
    RollingBack,
    /// The service is as it should be.
    Done {
        /// How long it took.
        elapsed_ms: u64,
    },
}
