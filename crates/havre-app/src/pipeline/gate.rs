//! What lets jobs into environments, and gives them what is secret there.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use havre_api::EnvironmentId;
use havre_base::{in_place, one_line};
use havre_model::{EnvironmentName, ProjectName};
use havre_runs::{Answer, Asked, Gate, Opened};
use havre_secrets::SecretError;

use crate::platform::Platform;
use crate::secrets::scope::scope_of;

/// Milliseconds until a seal that is locked is looked at again.
const AGAIN_MS: u64 = 30_000;

pub(super) struct Environments(pub(super) Arc<Platform>);

impl Gate for Environments {
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let Some(environment) = &asked.environment else {
                return Answer::Open(Opened::default());
            };
            if asked.foreign {
                return Answer::Refused {
                    why: format!("what comes from outside does not get into {environment}"),
                };
            }
            in_place(|| self.open(&asked.project, environment))
        })
    }

    fn vars<'a>(&'a self, _: &'a str) -> BoxFuture<'a, BTreeMap<String, String>> {
        Box::pin(std::future::ready(BTreeMap::new()))
    }
}

impl Environments {
    fn open(&self, project: &str, environment: &str) -> Answer {
        let id = EnvironmentId {
            project: ProjectName::new(project),
            environment: EnvironmentName::new(environment),
        };
        if let Some(reason) = self.0.seal.locked() {
            return Answer::Waits {
                why: format!(
                    "the secrets of {id} are locked ({reason}): `havre secret seal unlock`"
                ),
                until: Some(now_ms().saturating_add(AGAIN_MS)),
            };
        }
        match self.secrets(&id) {
            Ok(secrets) => Answer::Open(Opened {
                environment_secrets: secrets,
                ..Opened::default()
            }),
            Err(error) => Answer::Refused {
                why: format!("the secrets of {id} cannot be read: {}", one_line(&error)),
            },
        }
    }

    /// The secrets of an environment and the machine's for all, by name; those that are no text are for files.
    fn secrets(&self, id: &EnvironmentId) -> Result<BTreeMap<String, String>, SecretError> {
        let scope = scope_of(Some(id));
        let store = &self.0.secrets;
        let wanted = [scope.clone(), scope_of(None)];
        let listed = store.list(|scope| wanted.contains(scope))?;
        let mut names: Vec<_> = listed.into_iter().map(|one| one.name).collect();
        names.sort();
        names.dedup();
        let names: Vec<havre_secrets::SecretName> =
            names.iter().filter_map(|name| name.parse().ok()).collect();
        let values = store.resolve_all(&scope, &names)?;
        let mut secrets = BTreeMap::new();
        for (name, value) in names.iter().zip(values) {
            match value {
                Ok(value) => {
                    let text = String::from_utf8(value.plain.to_vec());
                    secrets.extend(text.ok().map(|text| (name.to_string(), text)));
                }
                // Removed meanwhile.
                Err(SecretError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(secrets)
    }
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
