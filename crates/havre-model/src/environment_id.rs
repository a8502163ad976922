//! Which environment is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::project::{EnvironmentName, ProjectName};

/// Names one environment of one project; `project/environment` to a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EnvironmentId {
    /// The project.
    pub project: ProjectName,
    /// The environment in it.
    pub environment: EnvironmentName,
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.environment)
    }
}
