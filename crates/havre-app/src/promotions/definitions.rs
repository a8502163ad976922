//! What has to hold before anything new comes into an environment, as it is in force: on this machine, and not in the
//! files of whoever wants something to come in.
//!
//! As long as nothing is, a push of the default branch or an admin's files put it in force; from then on an admin does
//! (`havre env apply`).

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Event, EventSink, GatesRequest, Grant, Principal, Role,
    Scope,
};
use havre_base::in_place;
use havre_model::{EnvironmentGates, Project, ProjectName};

use super::PromotionError;
use crate::platform::Platform;

/// What is in force in a project's environments, in their order.
pub(crate) fn in_force(
    platform: &Platform,
    project: &ProjectName,
) -> Result<Vec<EnvironmentGates>, ApiError> {
    let rows = platform.promotions.tables.gates(project.as_str());
    let rows = rows.map_err(|source| PromotionError::Store { source })?;
    let read = rows.iter().map(|(environment, gates)| {
        // What cannot be read may say that somebody has to agree: it is not passed over.
        serde_json::from_str(gates).map_err(|error| {
            let message = format!(
                "what has to hold in {project}/{environment} is not readable by this version"
            );
            ApiError::new(ErrorCode::Failed, message).caused_by(Some(&error))
        })
    });
    read.collect()
}

/// What is in force in one.
pub(crate) fn of(platform: &Platform, id: &EnvironmentId) -> Result<EnvironmentGates, ApiError> {
    let all = in_force(platform, &id.project)?;
    if let Some(found) = all.iter().find(|one| one.name == id.environment) {
        return Ok(found.clone());
    }
    // Of a branch, what holds for all branches.
    let of_branch = EnvironmentGates::preview_of(&all, &id.environment);
    Ok(match of_branch {
        Some((gates, _)) => EnvironmentGates {
            name: id.environment.clone(),
            previews: None,
            ..gates.clone()
        },
        None => EnvironmentGates::open(id.environment.clone()),
    })
}

/// Puts in force what the files of an admin say, where nothing is. Whether what is in force in the project's own
/// environment is as its files say; refused where they ask for something, and nothing is in force.
pub(crate) fn take(
    platform: &Platform,
    by: &Principal,
    project: &Project,
) -> Result<bool, ApiError> {
    let grant = &by.grant;
    take_gates(
        platform,
        (grant, Role::Admin),
        &project.name,
        &project.gates,
    )?;
    let said = |all: &[EnvironmentGates]| {
        let mut all = all.iter();
        let own = all.find(|one| one.name == project.environment).cloned();
        own.unwrap_or_else(|| EnvironmentGates::open(project.environment.clone()))
    };
    let in_force = said(&in_force(platform, &project.name)?);
    let wanted = said(&project.gates);
    if in_force.are_open() && !wanted.are_open() {
        let id = id_of(&project.name, &wanted);
        let message = format!(
            "havre.yaml says what has to hold before anything comes into {id}, and nothing of it is in force"
        );
        return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
            "an admin puts it in force by `havre env apply`, and so does a push of the default branch",
        ));
    }
    Ok(in_force == wanted)
}

/// Puts in force what is said, where nothing is and whoever has the grant has the role.
pub(crate) fn take_gates(
    platform: &Platform,
    (grant, role): (&Grant, Role),
    project: &ProjectName,
    said: &[EnvironmentGates],
) -> Result<(), ApiError> {
    let known = in_force(platform, project)?;
    let mut new = Vec::new();
    for (position, gates) in said.iter().enumerate() {
        let id = id_of(project, gates);
        let is_open = known
            .iter()
            .find(|one| one.name == gates.name)
            .is_none_or(|one| one.are_open() && !gates.are_open());
        if is_open && grant.allows(role, &Scope::Environment(id)) {
            new.push((position, gates));
        }
    }
    match new.is_empty() {
        true => Ok(()),
        false => put(platform, project, &new),
    }
}

/// Environments of which something else is in force than is said, where that says anything. Pure.
pub(crate) fn differing(in_force: &[EnvironmentGates], said: &[EnvironmentGates]) -> Vec<String> {
    let differs = said.iter().filter(|one| {
        let known = in_force.iter().find(|known| known.name == one.name);
        known.map_or(!one.are_open(), |known| known != *one)
    });
    differs.map(|one| one.name.to_string()).collect()
}

/// As [`take`]; says where another thing is in force than the files have.
pub(crate) fn take_and_tell(
    platform: &Platform,
    by: &Principal,
    project: &Project,
    events: &EventSink,
) -> Result<(), ApiError> {
    if !in_place(|| take(platform, by, project))? {
        let (name, environment) = (&project.name, &project.environment);
        events.emit(Event::Warning {
            message: format!(
                "what has to hold before anything comes into {name}/{environment} is not what havre.yaml says"
            ),
            hint: Some("`havre env apply` of an admin puts in force what it says".to_owned()),
        });
    }
    Ok(())
}

/// Puts in force what an admin's files say, of each environment.
pub(crate) fn apply(
    platform: &Platform,
    by: &Principal,
    request: &GatesRequest,
) -> Result<(), ApiError> {
    let known = in_force(platform, &request.project)?;
    let mut all: Vec<EnvironmentGates> = request.gates.clone();
    // What the files have no more is open from now on.
    let gone = known.iter().filter(|one| {
        let mut names = request.gates.iter().map(|gates| &gates.name);
        !names.any(|name| *name == one.name)
    });
    all.extend(gone.map(|one| EnvironmentGates::open(one.name.clone())));
    for gates in &all {
        let id = id_of(&request.project, gates);
        if !by
            .grant
            .allows(Role::Admin, &Scope::Environment(id.clone()))
        {
            let message = format!("to change what has to hold in {id} needs the role admin there");
            return Err(
                ApiError::new(ErrorCode::Forbidden, message).with_hint("nothing was changed")
            );
        }
    }
    let all: Vec<_> = all.iter().enumerate().collect();
    put(platform, &request.project, &all)?;
    platform.promotions.wake();
    Ok(())
}

fn put(
    platform: &Platform,
    project: &ProjectName,
    gates: &[(usize, &EnvironmentGates)],
) -> Result<(), ApiError> {
    let rows = gates.iter().map(|(position, gates)| {
        let text = serde_json::to_string(gates);
        text.map(|text| (gates.name.to_string(), *position as u64, text))
    });
    let rows: Result<Vec<_>, _> = rows.collect();
    let rows = rows.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
    let put = platform.promotions.tables.gates_put(project.as_str(), rows);
    put.map_err(|source| PromotionError::Store { source }.into())
}

fn id_of(project: &ProjectName, gates: &EnvironmentGates) -> EnvironmentId {
    EnvironmentId {
        project: project.clone(),
        environment: gates.name.clone(),
    }
}
