//! The tokens of jobs: what they are called, and what they let them do.

use havre_api::{EnvironmentPattern, Grant, Principal, Role, Who};
use havre_base::one_line;
use havre_model::valid_environment;
use havre_runs::LegKey;

use crate::jobs::box_id;

/// What every token of a job is called by; no other one is.
const PREFIX: &str = "ci-";

/// What a job may do: in its own environment, what a deployer does. A workflow says what that is called, and only the
/// name of one will do, where a grant could have a pattern.
pub(super) fn grant(project: &str, environment: &str) -> Result<Grant, String> {
    granted(project, environment, Role::Deployer)
}

/// What a job may do that does not deploy: look.
pub(super) fn grant_to_look(project: &str, environment: &str) -> Result<Grant, String> {
    granted(project, environment, Role::Viewer)
}

fn granted(project: &str, environment: &str, role: Role) -> Result<Grant, String> {
    match valid_environment(environment) {
        true => of_role(role, &format!("{project}/{environment}")),
        false => Err(format!("{environment:?} is no name of an environment")),
    }
}

/// What whoever pushes may do.
pub(super) fn grant_of_all(project: &str) -> Result<Grant, String> {
    of_role(Role::Deployer, &format!("{project}/*"))
}

fn of_role(role: Role, pattern: &str) -> Result<Grant, String> {
    let pattern: EnvironmentPattern = pattern.parse().map_err(|error| one_line(&error))?;
    Ok(Grant {
        role,
        environments: vec![pattern],
    })
}

/// Whether it is a job that asks: those have no say in what people agree with.
pub(crate) fn is_job(by: &Principal) -> bool {
    matches!(&by.who, Who::Token { name, .. } if is_of_jobs(name))
}

/// Whether a token of this name can be a job's only.
pub(crate) fn is_of_jobs(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// What a job's token is called: whoever removes the job finds it.
pub(super) fn token_name(key: &LegKey) -> String {
    format!("{PREFIX}{}", box_id(key))
}

/// As what history names whoever comes by a token of this name.
pub(super) fn by(name: &str) -> String {
    let who = Who::Token {
        id: name.to_owned(),
        name: name.to_owned(),
    };
    let nothing = Grant {
        role: Role::Viewer,
        environments: Vec::new(),
    };
    Principal {
        who,
        grant: nothing,
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_one_environment_whatever_its_workflow_says() {
        for name in ["*", "prod*", "a/b", "../x", "", "Production", "a,b", "-a"] {
            assert!(grant("shop", name).is_err(), "{name:?}");
        }
        let grant = grant("shop", "production").expect("a name");
        let places: Vec<String> = grant.environments.iter().map(ToString::to_string).collect();
        assert_eq!(places, ["shop/production"]);
    }
}
