//! Where a release comes from.

use std::time::SystemTime;

use havre_model::EnvironmentName;
use havre_model::grant::Role;
use serde::{Deserialize, Serialize};

/// Where a release comes from, as far as somebody has said so. Whoever may deploy says what they like of the
/// commit: it is evidence of what was meant, and no proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The commit that its files were taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Of which repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// By which name: `refs/heads/main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The run of a workflow that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Who pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The promotion that brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotion: Option<u64>,
    /// Where it served before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted_from: Option<Source>,
    /// Who agreed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Why an administrator did not wait for what has to hold.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub overridden: Option<String>,
}

/// A release of another environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which environment of the same project.
    pub environment: EnvironmentName,
    /// Its release.
    pub release: u64,
}

/// Somebody's agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whose, as history shows them.
    pub by: String,
    /// What they might do in that environment then.
    pub role: Role,
    /// When.
    pub at: SystemTime,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a test said of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestReport {
    /// The workflow or command.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// Where it can be looked at: a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Who reported it.
    pub by: String,
    /// When.
    pub at: SystemTime,
}
