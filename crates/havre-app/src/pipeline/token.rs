//! The tokens of jobs: what they are called, and what they let them do.

use havre_api::{EnvironmentPattern, Grant, Role};
use havre_base::one_line;
use havre_runs::LegKey;

use crate::jobs::box_id;

/// What a job may do: in its own environment, what a deployer does.
pub(super) fn grant(project: &str, environment: &str) -> Result<Grant, String> {
    let pattern = format!("{project}/{environment}").parse();
    let pattern: EnvironmentPattern = pattern
        .map_err(|error| format!("{environment:?} is no environment: {}", one_line(&error)))?;
    Ok(Grant {
        role: Role::Deployer,
        environments: vec![pattern],
    })
}

/// What a job's token is called: whoever removes the job finds it.
pub(super) fn token_name(key: &LegKey) -> String {
    format!("ci-{}", box_id(key))
}
