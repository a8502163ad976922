//! What happens to a repository.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// Something happened that may start workflows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Commits came.
    Push {
        /// Where to.
        to: Reference,
        /// Files that differ from before, from the repository's root; `None` where nobody knows.
        changed: Option<Vec<String>>,
        /// Of the newest commit; empty where nobody knows.
        message: String,
    },
    /// A branch is to go into another.
    PullRequest {
        /// `opened`, `synchronize` or `reopened`.
        action: String,
        /// The branch that it goes into.
        base: String,
        /// The branch that it comes from.
        head: String,
        /// Files that differ; `None` where nobody knows.
        changed: Option<Vec<String>>,
        /// Of the newest commit; empty where nobody knows.
        message: String,
    },
    /// Somebody wants it.
    Dispatch {
        /// Where its file is taken from.
        on: Reference,
        /// Inputs, as they were written.
        #[serde(with = "pairs")]
        inputs: IndexMap<String, String>,
    },
    /// A time came.
    Schedule {
        /// As the file writes it.
        cron: String,
        /// The default branch.
        branch: String,
    },
    /// Another workflow calls it.
    Call {
        /// What that one runs on.
        on: Reference,
    },
    /// Something happened elsewhere.
    Repository {
        /// What it is called there.
        kind: String,
        /// The default branch.
        branch: String,
    },
    /// Another workflow ran, or begins to.
    WorkflowRun {
        /// Its name.
        workflow: String,
        /// `requested`, `in_progress` or `completed`.
        action: String,
        /// What it ran on.
        ran_on: String,
        /// The default branch.
        branch: String,
    },
}

/// A branch or a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// `refs/heads/…`
    Branch(String),
    /// `refs/tags/…`
    Tag(String),
}

impl Event {
    /// As `on` writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Push { .. } => "push",
            Self::PullRequest { .. } => "pull_request",
            Self::Dispatch { .. } => "workflow_dispatch",
            Self::Schedule { .. } => "schedule",
            Self::Call { .. } => "workflow_call",
            Self::Repository { .. } => "repository_dispatch",
            Self::WorkflowRun { .. } => "workflow_run",
        }
    }

    /// What a run runs on.
    pub fn reference(&self) -> Reference {
        match self {
            Self::Push { to: on, .. } | Self::Dispatch { on, .. } | Self::Call { on } => on.clone(),
            Self::PullRequest { head, .. } => Reference::Branch(head.clone()),
            Self::Schedule { branch, .. }
            | Self::Repository { branch, .. }
            | Self::WorkflowRun { branch, .. } => Reference::Branch(branch.clone()),
        }
    }
}

impl Reference {
    /// Without `refs/heads/` or `refs/tags/`.
    pub fn name(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }

    /// `branch` or `tag`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Branch(_) => "branch",
            Self::Tag(_) => "tag",
        }
    }

    /// As git has it.
    pub fn full(&self) -> String {
        match self {
            Self::Branch(name) => format!("refs/heads/{name}"),
            Self::Tag(name) => format!("refs/tags/{name}"),
        }
    }
}

/// Inputs as they are kept: in their order.
mod pairs {
    use indexmap::IndexMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        inputs: &IndexMap<String, String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        inputs.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        from: D,
    ) -> Result<IndexMap<String, String>, D::Error> {
        let inputs = Vec::<(String, String)>::deserialize(from)?;
        Ok(inputs.into_iter().collect())
    }
}
