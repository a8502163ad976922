//! Images on this machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A stored image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Names that point to it; none for one that only a release holds.
    pub references: Vec<String>,
    /// Bytes of its blobs; layers shared with others are counted in each.
    pub size_bytes: u64,
    /// When it was stored.
    pub created: Option<Timestamp>,
    /// Who needs it (`fnt/production release 7`).
    pub used_by: Vec<String>,
}

/// Read an OCI layout or docker-archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageImportRequest {
    /// Absolute path on the daemon's machine: a folder or a tar file, plain or compressed.
    pub path: PathBuf,
    /// Name for the image; `None`: the names in the archive.
    pub reference: Option<String>,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageImportOutcome {
    /// The images.
    pub images: Vec<ImageSummary>,
}

/// Remove names, and what nothing else needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRemoveRequest {
    /// References or digests; never empty.
    pub images: Vec<String>,
}

/// Remove what nothing needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePruneRequest {
    /// Named images that no release uses too, and the build cache.
    pub all: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRemoveOutcome {
    /// References and digests that are gone.
    pub removed: Vec<String>,
    /// Bytes freed on disk.
    pub freed_bytes: u64,
    /// What could not be removed and why; the rest was.
    pub errors: Vec<String>,
}
