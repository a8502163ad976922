//! Whose secrets are, in the store's words and in those of the API.

use havre_api::EnvironmentId;
use havre_model::{EnvironmentName, ProjectName};
use havre_secrets::Scope;

/// Whose a secret is, in the store's words.
pub(crate) fn scope_of(id: Option<&EnvironmentId>) -> Scope {
    match id {
        None => Scope::Machine,
        Some(id) => Scope::Environment {
            project: id.project.to_string(),
            environment: id.environment.to_string(),
        },
    }
}

pub(crate) fn environment_of(scope: &Scope) -> Option<EnvironmentId> {
    match scope {
        Scope::Machine => None,
        Scope::Environment {
            project,
            environment,
        } => Some(EnvironmentId {
            project: ProjectName::new(project.clone()),
            environment: EnvironmentName::new(environment.clone()),
        }),
    }
}
