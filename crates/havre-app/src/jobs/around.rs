//! What jobs have around them: a daemon, or a run of a working tree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use havre_box::Workspace;
use havre_image::{Images, NameRights};
use havre_job::Sources;
use havre_runs::{LegKey, LegStart};

use crate::workshop::Workshop;

/// What a daemon and a local run each see to in their own way.
pub(crate) trait Surroundings: Send + Sync {
    /// How the workspace of a leg comes about.
    fn ground(&self, leg: &LegStart) -> Result<Grounded, String>;
    /// Whether a job may make calls of the API: with these variables of its processes.
    fn calls(&self, leg: &LegStart) -> Result<Option<BTreeMap<String, String>>, String>;
    /// What answers those calls; `None`: nobody.
    fn api(&self) -> Option<Router>;
    /// Where images are kept; opened when the first is wanted.
    fn images(&self) -> Result<Images, String>;
    /// Whether somebody has opened that.
    fn has_images(&self) -> bool;
    /// Where they are built.
    fn workshop(&self) -> Result<Arc<Workshop>, String>;
    /// The run whose artifacts a leg sees: one that never was before, where artifacts and caches are kept.
    fn artifacts_of(&self, leg: &LegStart) -> String {
        leg.root.to_string()
    }
    /// For whom images of a project's jobs are used and named.
    fn names(&self, project: &str) -> NameRights;
    /// Nothing of the leg is there any more.
    fn removed(&self, key: &LegKey);
}

/// How the workspace of a leg comes about.
pub(crate) struct Grounded {
    pub(crate) workspace: Workspace,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) sources: Sources,
    /// Kept from job to job; none for what comes from outside.
    pub(crate) tool_cache: Option<PathBuf>,
}
