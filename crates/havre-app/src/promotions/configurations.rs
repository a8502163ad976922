//! How a release would be configured in the project's other environments, by the files that it was brought up with: a
//! promotion goes by that, and not by the files of whoever asks for it. What is secret is not among it.

use std::collections::BTreeMap;

use havre_api::{ApiError, ErrorCode, Event, EventSink, Principal};
use havre_model::{EnvironmentName, FileSource, Project};
use havre_release::Origin;

use crate::sources;

/// Most bytes of all of them together.
const MOST_BYTES: usize = 1 << 20;

/// What is kept of them with a release: by environment, as JSON. What is not is told.
pub(crate) fn kept(
    by: &Principal,
    project: &Project,
    elsewhere: Vec<Project>,
    events: &EventSink,
) -> Result<BTreeMap<EnvironmentName, String>, ApiError> {
    let mut all = BTreeMap::new();
    let mut bytes = 0;
    for mut other in elsewhere {
        if other.name != project.name || other.environment == project.environment {
            let message = format!(
                "{} is no other environment of {}",
                other.environment, project.name
            );
            return Err(ApiError::new(ErrorCode::Invalid, message));
        }
        strip(&mut other);
        // Whoever promotes it may have more rights than who wrote it.
        if let Err(error) = sources::permit(by, &mut other) {
            tell(&other, &error.message, events);
            continue;
        }
        let text = serde_json::to_string(&other);
        let text = text.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
        bytes += text.len();
        if bytes > MOST_BYTES {
            tell(
                &other,
                &format!("all have more than {MOST_BYTES} bytes"),
                events,
            );
            break;
        }
        all.insert(other.environment, text);
    }
    Ok(all)
}

fn tell(other: &Project, why: &str, events: &EventSink) {
    events.emit(Event::Warning {
        message: format!(
            "how {} would be configured is not kept with the release: {why}",
            other.environment
        ),
        hint: Some("a promotion to it goes by the files of whoever asks for it".to_owned()),
    });
}

/// Images are those of the release, and secrets the other environment's own.
fn strip(project: &mut Project) {
    for service in project.services.values_mut() {
        service.build = None;
    }
    project.gates.clear();
    project
        .secrets
        .retain(|_, source| matches!(source, FileSource::Store { .. }));
}

/// The project as the files of a release have it, and with the secrets that `asked` has from files; `None`: nothing is
/// kept for that environment.
pub(super) fn of(origin: Option<&Origin>, asked: &Project) -> Result<Option<Project>, ApiError> {
    let kept = origin.and_then(|origin| origin.configurations.get(&asked.environment));
    let Some(text) = kept else { return Ok(None) };
    let mut project: Project = serde_json::from_str(text).map_err(|error| {
        let message = format!(
            "what is kept of the configuration of {} is not readable by this version",
            asked.environment
        );
        ApiError::new(ErrorCode::Failed, message).caused_by(Some(&error))
    })?;
    project.directory.clone_from(&asked.directory);
    project.gates.clone_from(&asked.gates);
    let services = project.services.values();
    let granted = services.flat_map(|one| one.secrets.iter().map(|grant| grant.source.clone()));
    for name in granted.collect::<Vec<_>>() {
        if project.secrets.contains_key(&name) {
            continue;
        }
        let Some(source) = asked.secrets.get(&name) else {
            let message = format!("secret `{name}` comes from a file, and no file at hand is it");
            return Err(ApiError::new(ErrorCode::Conflict, message).with_hint(
                "ask from a folder that has the files of that release, or keep it with `havre secret set`",
            ));
        };
        project.secrets.insert(name, source.clone());
    }
    Ok(Some(project))
}
