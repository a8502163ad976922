//! Mirrors of a project's repository, from and to other servers.

use std::fmt;

use havre_model::ProjectName;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Which of both has what the other gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MirrorWay {
    /// What is elsewhere comes here.
    From,
    /// What is here goes elsewhere.
    To,
}

impl fmt::Display for MirrorWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "from",
            Self::To => "to",
        })
    }
}

/// Mirror a repository from now on; what was said of that way before holds no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSetRequest {
    /// Whose repository.
    pub project: ProjectName,
    /// Which way.
    pub way: MirrorWay,
    /// The other side: `https://HOST/PATH`.
    pub url: String,
    /// Who we are there; `None`: as GitHub wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The secret that holds the token for it; `None`: everybody may fetch there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
    /// How often the other side is asked, in seconds; `None`: every 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u64>,
    /// Whether it is told what becomes of commits.
    #[serde(default)]
    pub statuses: bool,
    /// The API that is told, where that is not the one that belongs to `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    /// What is in the repository here already may be removed.
    #[serde(default)]
    pub replace: bool,
}

/// Which mirrors to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorsQuery {
    /// `None`: of all projects.
    pub project: Option<ProjectName>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorQuery {
    /// Whose repository.
    pub project: ProjectName,
    /// Which way.
    pub way: MirrorWay,
}

/// A mirror, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorInfo {
    /// Whose repository.
    pub project: ProjectName,
    /// Which way.
    pub way: MirrorWay,
    /// The other side.
    pub url: String,
    /// The secret that holds the token for it.
    pub token_secret: Option<String>,
    /// How often it is asked, in seconds.
    pub every_s: u64,
    /// The API that is told what becomes of commits.
    pub api: Option<String>,
    /// Who said so.
    pub set_by: String,
    /// When.
    pub set: Timestamp,
    /// The last try.
    pub tried: Option<Timestamp>,
    /// The last one that went well.
    pub done: Option<Timestamp>,
    /// How many did not since then.
    pub failures: u32,
    /// Why.
    pub why: Option<String>,
    /// What the last time that something moved led to, a line each.
    pub said: Vec<String>,
    /// The next try.
    pub next: Timestamp,
    /// How many states of commits are to be told still.
    pub untold: u32,
    /// Why they are.
    pub untold_why: Option<String>,
}

/// Where the other side says that something was pushed, and how it proves that it is it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorHook {
    /// `None`: this machine has no host that the API is served on.
    pub url: Option<String>,
    /// By which it signs.
    pub secret: String,
}

/// A mirror that was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSetOutcome {
    /// It.
    pub mirror: MirrorInfo,
    /// Of one that comes from elsewhere.
    pub hook: Option<MirrorHook>,
}
