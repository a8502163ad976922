//! The releases of an environment.

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, PlannedService, ReleaseId, Timestamp};

/// Which releases to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesQuery {
    /// Where.
    pub environment: EnvironmentId,
    /// Number of releases to show, the newest first.
    pub most: u32,
}

/// A release and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseStatus {
    /// Its number.
    pub release: ReleaseId,
    /// When it was made.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: Option<String>,
    /// Why: `up`, `restart of web`, `rollback to 3`, `promoted from staging 7`.
    pub cause: String,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<crate::ReleaseOrigin>,
    /// What became of it.
    pub state: ReleaseState,
    /// Why it went back.
    pub reason: Option<String>,
    /// Until traffic moved.
    pub prepared_ms: Option<u64>,
    /// Until it had been watched long enough.
    #[serde(default)]
    pub accepted_ms: Option<u64>,
    /// Until its rollout was over.
    pub elapsed_ms: Option<u64>,
    /// Requests from the beginning of its rollout to its end.
    #[serde(default)]
    pub requests: Option<RequestCount>,
    /// How it differs from the release that served before it; services that stay as they are
    /// are left out.
    pub changes: Vec<PlannedService>,
    /// `rollback` can go there: its images are kept.
    pub kept: bool,
}

/// Requests of an environment during a rollout, over all its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCount {
    /// Answered.
    pub served: u64,
    /// With 5xx among them.
    pub server_errors: u64,
    /// Not answered, or not to the end.
    pub dropped: u64,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// It serves.
    Serving,
    /// Its rollout is under way.
    UnderWay,
    /// It served, until another one did.
    Served,
    /// Its rollout failed.
    WentBack,
    /// Another one was wanted before its rollout was over.
    Superseded,
}
