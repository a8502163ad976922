//! Where a release comes from.

use std::collections::BTreeMap;
use std::time::SystemTime;

use havre_model::EnvironmentName;
use havre_model::grant::Role;
use serde::{Deserialize, Serialize};

/// Where a release comes from: what the daemon knows of the job that brought it, or what somebody said. Whoever may
/// deploy says what they like of the commit: that is evidence of what was meant, and opens no gate.
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
    /// The job of this machine that it comes of: all of the above is what the daemon itself knows of it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<OfJob>,
    /// Who said the above, where no job of this machine did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said_by: Option<String>,
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
    /// How the same files configure other environments of the project: as JSON, by environment. Nothing secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configurations: BTreeMap<EnvironmentName, String>,
}

impl Origin {
    /// The commit, where it is not only said.
    pub fn known_commit(&self) -> Option<&str> {
        self.job.as_ref().and(self.commit.as_deref())
    }
}

/// A job of a run of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfJob {
    /// Its run's number in the project.
    pub run: u64,
    /// Which attempt of it.
    pub attempt: u32,
    /// Its name.
    pub job: String,
    /// The file of its workflow.
    pub workflow: String,
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
    /// Which person that is, where they have other names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// What they might do in that environment then.
    pub role: Role,
    /// When.
    pub at: SystemTime,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Approval {
    /// Who it is, by whatever name they came.
    pub fn person(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.by)
    }
}

/// Whether the name of a test is that of a workflow's file: only its jobs say that it passed.
pub fn is_workflow(test: &str) -> bool {
    test.ends_with(".yml") || test.ends_with(".yaml")
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
    /// Whether that was a job, of that workflow where the name is a file's, and not a person.
    #[serde(default)]
    pub by_job: bool,
    /// When.
    pub at: SystemTime,
}
