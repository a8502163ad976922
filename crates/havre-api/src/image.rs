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
    /// Remove nothing; tell what would be.
    #[serde(default)]
    pub dry_run: bool,
}

/// What kind of thing is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredKind {
    /// An image with a name.
    Image,
    /// What a build step made, which no image has.
    Step,
    /// A folder that RUN steps keep between builds.
    CacheMount,
    /// What nothing refers to.
    Leftover,
}

/// Something stored, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredItem {
    /// What kind of thing it is.
    pub kind: StoredKind,
    /// Its name, its step, or its digest.
    pub what: String,
    /// Bytes that it takes.
    pub size_bytes: u64,
    /// When it was last of use.
    pub used: Option<Timestamp>,
    /// It goes.
    pub removed: bool,
    /// Why it goes or stays.
    pub why: String,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRemoveOutcome {
    /// References and digests that are gone.
    pub removed: Vec<String>,
    /// Bytes freed on disk.
    pub freed_bytes: u64,
    /// Of a prune that removes nothing: all that is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<StoredItem>,
    /// What could not be removed and why; the rest was.
    pub errors: Vec<String>,
}

/// Of which image it is asked what is said of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageProvenanceQuery {
    /// A name, or a digest or its beginning.
    pub image: String,
}

/// Look for secrets in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageScanRequest {
    /// A name, or a digest or its beginning.
    pub image: String,
}

/// What was found in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageScanOutcome {
    /// `sha256:…` of its manifest.
    pub digest: String,
    /// Files of its layers, those that a later layer hides or deletes among them.
    pub files: u64,
    /// Bounded; never a value.
    pub findings: Vec<ImageFinding>,
    /// There is more than is told.
    pub is_cut: bool,
    /// How many files or layers could not be looked at.
    pub unread: u64,
    /// The first of them, and why.
    pub reasons: Vec<String>,
}

/// A secret in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFinding {
    /// The kind, for programs: `github-token`.
    pub rule: String,
    /// What it is.
    pub what: String,
    /// Its layer, from 1; none: it is in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The instruction that made the layer, where that is known and tells no secret itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Path in the image, or the part of the configuration.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
    /// Its first characters.
    pub masked: String,
    /// The name that stands before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
