//! The table of calls: path, request, answer, and how long a client waits.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::*;

/// A call that answers with one document.
pub trait Call {
    /// `/v1/<name>`.
    const PATH: &'static str;
    /// How long a client waits for the answer.
    const DEADLINE: Duration = Duration::from_secs(30);
    /// Body of the request.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// Body of the answer.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// A call that changes an environment: answers with [`StreamItem`]s of [`Event`] and ends with
/// its outcome.
pub trait Operation {
    /// `/v1/<name>`.
    const PATH: &'static str;
    /// Body of the request.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// What the last item carries.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;
}

/// Path of the call that streams [`LogLine`]s for a [`LogQuery`].
pub const LOGS_PATH: &str = "/v1/logs";

/// Path of the call that upgrades to [`ExecFrame`]s for an [`ExecRequest`].
pub const EXEC_PATH: &str = "/v1/exec";

/// Header of the answer to an [`Operation`] that carries its [`OperationId`].
pub const OPERATION_HEADER: &str = "havre-operation";

/// Most bytes of a request, an answer, or one line of a stream. A project with inline configs
/// is the largest of them.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident = $path:literal ($request:ty) -> $answer:ty
        $(, within $seconds:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Call for $name {
            const PATH: &'static str = $path;
            $(const DEADLINE: Duration = Duration::from_secs($seconds);)?
            type Request = $request;
            type Answer = $answer;
        }
    )*};
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $path:literal ($request:ty) -> $outcome:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Operation for $name {
            const PATH: &'static str = $path;
            type Request = $request;
            type Outcome = $outcome;
        }
    )*};
}

calls! {
    /// Who answers.
    Info = "/v1/info" (Empty) -> DaemonInfo, within 5;
    /// Environments and their services.
    Status = "/v1/status" (StatusQuery) -> Vec<EnvironmentStatus>;
    /// Replicas.
    Replicas = "/v1/replicas" (ReplicaQuery) -> Vec<ReplicaStatus>;
    /// What `up` would do; it waits for a build that is under way.
    Plan = "/v1/plan" (PlanRequest) -> PlanOutcome, within 1800;
    /// The releases of an environment, the newest first.
    Releases = "/v1/releases" (ReleasesQuery) -> Vec<ReleaseStatus>;
    /// Why a service is as it is.
    Why = "/v1/why" (WhyQuery) -> WhyReport;
    /// Pauses, resumes or gives up the rollout under way.
    Steer = "/v1/steer" (SteerRequest) -> SteerOutcome;
    /// Stops a running operation.
    Cancel = "/v1/cancel" (CancelRequest) -> Empty;
    /// Stored images.
    Images = "/v1/images" (Empty) -> Vec<ImageSummary>;
    /// Reads images from an archive.
    ImageImport = "/v1/images/import" (ImageImportRequest) -> ImageImportOutcome, within 1800;
    /// Removes images by name.
    ImageRemove = "/v1/images/remove" (ImageRemoveRequest) -> ImageRemoveOutcome, within 300;
    /// Removes images that nothing needs.
    ImagePrune = "/v1/images/prune" (ImagePruneRequest) -> ImageRemoveOutcome, within 300;
    /// Networks that environments share.
    Networks = "/v1/networks" (Empty) -> Vec<SharedNetwork>;
    /// Makes one.
    NetworkCreate = "/v1/networks/create" (NetworkCreateRequest) -> SharedNetwork;
    /// Removes one that no environment is on.
    NetworkRemove = "/v1/networks/remove" (NetworkRemoveRequest) -> Empty;
    /// The certificate of the machine's CA.
    Ca = "/v1/ca" (Empty) -> CaCertificate;
    /// Ends the daemon and the edge.
    Shutdown = "/v1/shutdown" (ShutdownRequest) -> Empty, within 60;
}

operations! {
    /// Brings an environment to what its project says.
    Up = "/v1/up" (UpRequest) -> UpOutcome;
    /// Takes an environment down.
    Down = "/v1/down" (DownRequest) -> DownOutcome;
    /// Replaces replicas by new ones of the same release.
    Restart = "/v1/restart" (RestartRequest) -> ChangeOutcome;
    /// Goes back to an earlier release.
    Rollback = "/v1/rollback" (RollbackRequest) -> UpOutcome;
    /// Changes the number of replicas.
    Scale = "/v1/scale" (ScaleRequest) -> ChangeOutcome;
}
