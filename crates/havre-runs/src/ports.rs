//! What a driver needs of the world: boxes, gates, and files of commits.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use havre_job::Told;
use havre_pipeline::run::LegId;
use havre_workflow::{CacheMode, Granted, Level, Remote};
use serde::{Deserialize, Serialize};

use crate::trigger::Source;

/// A run of this machine; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One attempt of a leg: what a box is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LegKey {
    /// Its run: that of the called workflow, where it is in one.
    pub run: RunId,
    /// Which of it.
    pub leg: LegId,
}

impl fmt::Display for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.run, self.leg, self.leg.attempt)
    }
}

/// Boxes, in which legs run.
pub trait Legs: Send + Sync {
    /// Starts a leg; once it is there, starting it again does nothing. Where the future is dropped or fails, `remove`
    /// follows, and takes away whatever there is.
    fn start(&self, leg: LegStart) -> BoxFuture<'_, Result<(), StartError>>;
    /// All that a leg told and tells, from its very beginning each time, in the same lines. Ends after
    /// [`Followed::Ended`], or after `Told::Ended`.
    fn follow(&self, key: &LegKey) -> BoxStream<'static, Followed>;
    /// Asks a leg to end; at once: without its cleaning up. That it ended is told by `follow`.
    fn cancel<'a>(&'a self, key: &'a LegKey, at_once: bool) -> BoxFuture<'a, ()>;
    /// Removes all there is of a leg, running or not; nothing there is no fault.
    fn remove<'a>(&'a self, key: &'a LegKey) -> BoxFuture<'a, ()>;
    /// Legs of which there is something, running or ended and not removed.
    fn there(&self) -> BoxFuture<'_, Vec<LegKey>>;
}

/// What is told of a leg.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// By its runner.
    Told(Told),
    /// It ended, and its runner did not say how.
    Ended {
        /// What became of it.
        how: BoxEnd,
    },
}

/// How a box ended whose runner did not say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoxEnd {
    /// The runner ended, with this status of its process.
    Exited(Option<i32>),
    /// It needed more memory than it may have.
    OutOfMemory,
    /// It took what others need, and was ended; a sentence for a person.
    Stopped(String),
    /// It is gone: the machine was restarted, or somebody removed it.
    Lost,
}

/// Why a leg did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct StartError {
    /// For a person: what is wrong, and what to do.
    pub why: String,
    /// Whether it may start if it is tried again.
    pub passing: bool,
}

/// All that a box and its runner need to know, but for what the box itself decides. Holds secrets: it is neither kept
/// nor shown. The same leg always gets the same, as long as its gate answers the same.
#[derive(Clone, PartialEq)]
pub struct LegStart {
    /// Which.
    pub key: LegKey,
    /// The run that nobody called: artifacts belong to it.
    pub root: RunId,
    /// Its number in the project.
    pub number: u64,
    /// The project.
    pub project: String,
    /// What the leg is called.
    pub name: String,
    /// `owner/name`.
    pub repository: String,
    /// What runs.
    pub commit: String,
    /// As git has it: `refs/…`.
    pub reference: String,
    /// What happened, as `on` writes it.
    pub event: String,
    /// Who.
    pub actor: String,
    /// Whether it comes from outside of the repository: no secrets, a cache that is only read.
    pub foreign: bool,
    /// The file that holds the job, from the repository's root; of another repository, as its caller names it.
    pub path: String,
    /// Where that is, if it is in another repository.
    pub origin: Option<Origin>,
    /// What it holds.
    pub workflow: String,
    /// JSON texts of `github`, `needs`, `strategy`, `matrix`, `inputs`, `vars`, `secrets`, for [`havre_job::Document`].
    pub contexts: BTreeMap<String, String>,
    /// Values that no output may show, beside those of `secrets`.
    pub masks: Vec<String>,
    /// What it asks to run on.
    pub labels: Vec<String>,
    /// The environment that it is in.
    pub environment: Option<String>,
    /// Whether it deploys there (not: `deployment: false`).
    pub deploys: bool,
    /// `container:`, if one is wanted.
    pub container: Option<ContainerStart>,
    /// `services:`, by name.
    pub services: Vec<(String, ContainerStart)>,
    /// What its tokens may do.
    pub permissions: Permissions,
    /// What it may do with the cache, where a workflow says so.
    pub cache_mode: Option<CacheMode>,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
}

/// What a job's tokens may do, of what there is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// With the repository.
    pub contents: Level,
    /// To write: it may ask for identity tokens.
    pub id_token: Level,
}

impl Permissions {
    /// Where nothing is said.
    pub const USUAL: Self = Self {
        contents: Level::Read,
        id_token: Level::None,
    };

    /// What a workflow or a job says.
    pub fn of(granted: &Granted) -> Self {
        match granted {
            Granted::ReadAll => Self::USUAL,
            Granted::WriteAll => Self {
                contents: Level::Write,
                id_token: Level::Write,
            },
            Granted::Each(named) => {
                let level = |name: &str| named.get(name).copied().unwrap_or(Level::None);
                Self {
                    contents: level("contents"),
                    id_token: level("id-token"),
                }
            }
        }
    }

    /// What both let it do.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            contents: self.contents.min(other.contents),
            id_token: self.id_token.min(other.id_token),
        }
    }
}

/// A container that a job asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerStart {
    /// Not empty.
    pub image: String,
    /// As for `docker create`.
    pub options: String,
    /// Names and values.
    pub env: Vec<(String, String)>,
    /// `PORT` or `PORT:PORT`.
    pub ports: Vec<String>,
    /// `NAME:PATH` or `PATH:PATH`.
    pub volumes: Vec<String>,
    /// User and password for the registry.
    pub credentials: Option<(String, String)>,
    /// Instead of the image's.
    pub entrypoint: Option<String>,
    /// Instead of the image's.
    pub command: Option<String>,
}

/// Who lets legs go on, and gives them what is secret.
pub trait Gate: Send + Sync {
    /// Whether a leg may go on. Asked for each leg, with an environment or without, and again until it is open: when it
    /// says so, after [`crate::Runs::gates_changed`], and once more just before the leg starts.
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer>;
    /// Variables of a project (`vars`), known to every run from its beginning; nothing secret. Without them no
    /// run begins: it would go by others than it should.
    fn vars<'a>(
        &'a self,
        project: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>>;
}

/// A leg that asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which.
    pub key: LegKey,
    /// The run that nobody called.
    pub root: RunId,
    /// Its number in the project.
    pub number: u64,
    /// The project.
    pub project: String,
    /// The file of its workflow.
    pub path: String,
    /// The environment that the leg deploys to.
    pub environment: Option<String>,
    /// As git has it: `refs/…`.
    pub reference: String,
    /// What runs.
    pub commit: String,
    /// What happened, as `on` writes it.
    pub event: String,
    /// Who.
    pub actor: String,
    /// Whether it comes from outside of the repository.
    pub foreign: bool,
}

/// What a gate says.
#[derive(Clone, PartialEq)]
pub enum Answer {
    /// Go on, with these.
    Open(Opened),
    /// Not yet.
    Waits {
        /// For what, for a person.
        why: String,
        /// When to ask again at the latest, in milliseconds since 1970.
        until: Option<u64>,
    },
    /// Never.
    Refused {
        /// Why, for a person.
        why: String,
    },
}

/// What a leg gets that may go on.
#[derive(Clone, Default, PartialEq)]
pub struct Opened {
    /// Secrets of the project: a called workflow gets those that its callers pass on.
    pub secrets: BTreeMap<String, String>,
    /// Secrets of the environment; they come before those of the project.
    pub environment_secrets: BTreeMap<String, String>,
    /// Variables of the environment; they come before those of the project.
    pub vars: BTreeMap<String, String>,
    /// `github.token`.
    pub token: String,
}

/// Paths from a repository's root, and what is there.
pub type Files = Vec<(String, Vec<u8>)>;

/// Files of commits.
pub trait Sources: Send + Sync {
    /// All workflow files of a commit: paths from the root, and what they hold.
    fn workflows<'a>(
        &'a self,
        project: &'a str,
        commit: &'a str,
    ) -> BoxFuture<'a, Result<Files, SourcesError>>;
    /// One file of a commit; `None` where there is no such.
    fn file<'a>(
        &'a self,
        project: &'a str,
        commit: &'a str,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Vec<u8>>, SourcesError>>;
    /// A file of another repository, in the commit that is given, or in what the reference leads to now.
    fn elsewhere<'a>(
        &'a self,
        remote: &'a Remote,
        commit: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Elsewhere, SourcesError>>;
    /// The newest commit of the default branch; `None` where there is none.
    fn newest<'a>(
        &'a self,
        project: &'a str,
    ) -> BoxFuture<'a, Result<Option<Source>, SourcesError>>;
}

/// What there is in another repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Where it was looked for.
    pub commit: String,
    /// `None` where there is no such file.
    pub file: Option<Vec<u8>>,
}

/// Where a workflow of another repository comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Whose repository it is.
    pub owner: String,
    /// The repository.
    pub repository: String,
    /// What it was called by.
    pub reference: String,
    /// What that led to, or what a lock file says.
    pub commit: String,
    /// The file, from its repository's root.
    pub path: String,
}

impl Origin {
    /// A file of the same repository.
    pub fn file(&self, path: &str) -> Remote {
        Remote {
            owner: self.owner.clone(),
            repository: self.repository.clone(),
            path: path.to_owned(),
            reference: self.reference.clone(),
        }
    }
}

/// Why files of a commit cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourcesError(pub String);
