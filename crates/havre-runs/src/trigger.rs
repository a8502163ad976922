//! What starts runs.

use havre_pipeline::Event;
use serde::{Deserialize, Serialize};

/// Something happened in a project that may start workflows.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Whose repository it is.
    pub project: String,
    /// What happened.
    pub event: Event,
    /// What is there now.
    pub source: Source,
    /// What was there before a push; `None` where there was nothing.
    pub before: Option<String>,
    /// Whether the push threw commits away.
    pub forced: bool,
    /// Who did it.
    pub actor: String,
    /// `github.event.client_payload` of a `repository_dispatch`, or the number of a pull request as `number`: further
    /// names of the payload, as JSON. At most [`MAX_PAYLOAD`] bytes.
    pub payload: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whether it comes from outside of the repository, as a pull request of a fork.
    pub foreign: bool,
}

/// Most bytes of [`Trigger::payload`] as JSON.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// A commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `owner/name`.
    pub repository: String,
    /// Its default branch.
    pub default_branch: String,
    /// The commit, as its full hash.
    pub commit: String,
    /// Its message.
    pub message: String,
    /// Who wrote it: name and address.
    pub author: (String, String),
    /// When, as RFC 3339; empty where nobody knows.
    pub at: String,
}
