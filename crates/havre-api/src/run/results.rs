//! Artifacts and caches of runs.

use havre_model::ProjectName;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Most bytes of a part of an artifact.
pub const MAX_ARTIFACT_PART: usize = 256 * 1024;

/// Whose caches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachesQuery {
    /// The project.
    pub project: ProjectName,
}

/// Caches of a project's jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachesReport {
    /// The newest first; at most 10,000.
    pub caches: Vec<CacheInfo>,
    /// Caches that went without being asked to, the newest first.
    pub evictions: Vec<CacheEviction>,
    /// How much is kept of all projects.
    pub usage: ResultsUsage,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheInfo {
    /// To remove it by.
    pub id: i64,
    /// What it is called.
    pub key: String,
    /// The reference that it was saved on.
    pub scope: String,
    /// What the client makes of paths and compression.
    pub version: String,
    /// How large it is.
    pub size_bytes: u64,
    /// When it was saved.
    pub created: Timestamp,
    /// When it was last looked up.
    pub used: Timestamp,
}

/// A cache that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheEviction {
    /// When.
    pub at: Timestamp,
    /// What it was called.
    pub key: String,
    /// The reference that it was saved on.
    pub scope: String,
    /// How large it was.
    pub size_bytes: u64,
    /// Why, for a person.
    pub why: String,
}

/// How much is kept of artifacts and caches, of all projects of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultsUsage {
    /// Number of artifacts.
    pub artifacts: u64,
    /// Their size.
    pub artifact_bytes: u64,
    /// Number of caches.
    pub caches: u64,
    /// Their size.
    pub cache_bytes: u64,
    /// Of uploads that are not finished.
    pub pending_bytes: u64,
    /// Most bytes of all of them.
    pub most_bytes: u64,
}

/// Removes a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRemoveRequest {
    /// Whose.
    pub project: ProjectName,
    /// [`CacheInfo::id`].
    pub id: i64,
}

/// An artifact of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactInfo {
    /// What it is called.
    pub name: String,
    /// What kind of file it is, e.g. `application/zip`.
    pub mime: String,
    /// How large it is.
    pub size_bytes: u64,
    /// `sha256:<hex>` of its bytes.
    pub digest: String,
    /// When it was finished.
    pub created: Timestamp,
    /// When it goes.
    pub expires: Timestamp,
}

/// Which artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactQuery {
    /// Whose.
    pub project: ProjectName,
    /// The run's number there.
    pub number: u64,
    /// What it is called.
    pub name: String,
}

/// An artifact, part by part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactPart {
    /// First: what it is.
    Begins(ArtifactInfo),
    /// What comes next of it; at most [`MAX_ARTIFACT_PART`].
    Bytes(#[serde(with = "crate::base64")] Vec<u8>),
}
