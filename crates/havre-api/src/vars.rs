//! Variables of a project that its workflows read as `vars`; nothing secret.

use havre_model::{EnvironmentName, ProjectName};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Gives variables their values, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarsSetRequest {
    /// Whose.
    pub project: ProjectName,
    /// Of its jobs in this environment; none: of all its jobs.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// Names and values.
    pub vars: Vec<(String, String)>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarsSetOutcome {
    /// How many have another value than before.
    pub changed: u32,
}

/// Which variables to list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarsQuery {
    /// Whose.
    pub project: ProjectName,
    /// What its jobs in this environment get; none: all there are.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
}

/// A variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarInfo {
    /// In upper case: names are the same in any.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The environment that it is of; none: of the whole project.
    pub environment: Option<EnvironmentName>,
    /// When it was set.
    pub set: Timestamp,
    /// By whom.
    pub by: String,
}

/// Removes variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VarsRemoveRequest {
    /// Whose.
    pub project: ProjectName,
    /// Of this environment; none: of the whole project.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// Which.
    pub names: Vec<String>,
}
