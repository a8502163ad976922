//! What jobs have around them: a daemon, or a run of a working tree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use futures_util::future::BoxFuture;
use havre_box::{Tools, Workspace};
use havre_image::{Images, NameRights};
use havre_job::Sources;
use havre_runs::{LegKey, LegStart};

use super::doors::Doors;
use super::rights::Rights;
use crate::workshop::Workshop;

/// What a daemon and a local run each see to in their own way.
pub(crate) trait Surroundings: Send + Sync {
    /// How the workspace of a leg comes about.
    fn ground(&self, leg: &LegStart) -> Result<Grounded, String>;
    /// Whether a job may make calls of the API: with these variables of its processes.
    fn calls(&self, leg: &LegStart) -> Result<Option<BTreeMap<String, String>>, String>;
    /// What answers those calls; `None`: nobody.
    fn api(&self) -> Option<Router>;
    /// What else a box is served, by git's protocol and for identity tokens; `None`: nothing.
    fn own(&self, id: &str, rights: &Rights) -> Option<Router>;
    /// The token by which a job asks for identity tokens; otherwise why there is none that it asks for, if it does.
    fn identity(&self, id: &str, rights: &Rights) -> Result<Option<String>, String>;
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
    /// The machine's own proxy; `None`: none is there.
    fn proxy(&self) -> Option<Proxy> {
        None
    }
    /// Whether a leg may ask it for names of `localhost`.
    fn wants_proxy<'a>(&'a self, _: &'a LegStart) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(false))
    }
    /// Nothing of the leg is there any more.
    fn removed(&self, key: &LegKey);
}

/// How the workspace of a leg comes about.
pub(crate) struct Grounded {
    pub(crate) workspace: Workspace,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) sources: Sources,
    /// Kept from job to job.
    pub(crate) tools: Tools,
}

/// The machine's own proxy.
#[derive(Default)]
pub(crate) struct Proxy {
    pub(crate) doors: Doors,
    /// Who signs what it serves, in PEM.
    pub(crate) authority: String,
}
