//! Who may do what with a project as a whole: its repository, and its runs. Pure.

use havre_api::{ApiError, ErrorCode, Principal, Role};
use havre_model::ProjectName;

/// Refuses what somebody may not do: to look needs the role in some environment of the project, all else in all that it
/// has and can have, as what a workflow does may reach any of them.
pub(crate) fn permit(
    by: &Principal,
    project: &ProjectName,
    needed: Role,
    doing: &str,
) -> Result<(), ApiError> {
    let grant = &by.grant;
    let (sees, place) = match needed {
        Role::Viewer => (
            grant.sees_some_of(project),
            format!("an environment of {project}"),
        ),
        Role::Deployer | Role::Admin => (grant.sees_all_of(project), format!("{project}/*")),
    };
    match grant.role >= needed && sees {
        true => Ok(()),
        false => {
            let message = format!("{doing} needs the role {needed} in {place}");
            let error = ApiError::new(ErrorCode::Forbidden, message);
            Err(error.with_hint(format!("{by} is {grant}")))
        }
    }
}
