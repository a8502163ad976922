//! The secrets of the store that a project needs.

use std::collections::{BTreeMap, BTreeSet};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_base::shell_word;
use havre_model::{FileSource, Project, ServiceName};
use havre_release::StoreSecret;
use havre_secrets::{SecretError, SecretName, Secrets};
use zeroize::Zeroizing;

use super::scope::scope_of;
use super::words::refusal;

/// Who needs a secret.
#[derive(Default)]
struct Needed {
    /// None, where builds alone do.
    services: BTreeSet<ServiceName>,
    /// By which these name it.
    keys: BTreeSet<String>,
}

/// Names in the store, and who needs each.
fn needed(project: &Project) -> BTreeMap<&str, Needed> {
    let mut needed: BTreeMap<&str, Needed> = BTreeMap::new();
    let stored = |key: &str| match project.secrets.get(key) {
        Some(FileSource::Store { name }) => Some(name.as_str()),
        _ => None,
    };
    for (service, config) in &project.services {
        let files = config.secrets.iter().map(|grant| &grant.source);
        let keys = files.chain(config.secret_environment.values());
        for (key, name) in keys.filter_map(|key| Some((key, stored(key)?))) {
            let needed = needed.entry(name).or_default();
            needed.services.insert(service.clone());
            needed.keys.insert(key.clone());
        }
        let build = config.build.iter().flat_map(|build| build.secrets.values());
        for name in build.filter_map(|key| stored(key)) {
            needed.entry(name).or_default();
        }
    }
    needed
}

/// Values by their names in the store.
pub(crate) type Values = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// What the store has for a project, all read at once: the versions that a release says it has are those of its
/// contents, whatever is set meanwhile.
pub(crate) struct Found {
    /// What a release says of each.
    pub(crate) secrets: BTreeMap<String, StoreSecret>,
    pub(crate) values: Values,
}

/// The versions that the project gets now. Fails before anything is begun where some are missing: with all
/// of them, and the commands that set them.
pub(crate) fn of(
    secrets: &Secrets,
    id: &EnvironmentId,
    project: &Project,
) -> Result<Found, ApiError> {
    let scope = scope_of(Some(id));
    let mut found = Found {
        secrets: BTreeMap::new(),
        values: Values::new(),
    };
    let mut missing = Vec::new();
    let needed = needed(project);
    let names: Result<Vec<SecretName>, _> = needed.keys().map(|name| name.parse()).collect();
    let names = names.map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?;
    let values = secrets.resolve_all(&scope, &names).map_err(refusal)?;
    for ((name, Needed { services, keys }), value) in needed.into_iter().zip(values) {
        match value {
            Ok(value) => {
                let secret = StoreSecret {
                    version: value.version,
                    own: value.scope == scope,
                    services,
                    keys,
                };
                found.secrets.insert(name.to_owned(), secret);
                found.values.insert(name.to_owned(), value.plain);
            }
            Err(SecretError::NotFound { .. }) => missing.push(name),
            Err(error) => return Err(refusal(error)),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let what = match missing.len() {
        1 => "a secret that is not set".to_owned(),
        count => format!("{count} secrets that are not set"),
    };
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let message = format!(
        "{id} needs {what}: {}; nothing was changed",
        names.join(", ")
    );
    let mut hint: String = missing.iter().map(|name| command(id, name)).collect();
    let each = if missing.len() == 1 { "it" } else { "one" };
    hint.push_str(&format!(
        "without -p and -E {each} is set for all environments"
    ));
    Err(ApiError::new(ErrorCode::Invalid, message).with_hint(hint))
}

fn command(id: &EnvironmentId, name: &str) -> String {
    format!(
        "havre secret set {} -p {} -E {}\n",
        shell_word(name),
        id.project,
        id.environment
    )
}
