//! What lets jobs into environments, and gives them what is secret there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use havre_api::{EnterRequest, EntryState, EntryStatus, EnvironmentId, GateState, Principal, Who};
use havre_base::{in_place, one_line};
use havre_model::{EnvironmentName, ProjectName};
use havre_release::{OfJob, Origin};
use havre_runs::{Answer, Asked, Gate, LegKey, Opened};
use havre_secrets::SecretError;

use super::token::{grant, token_name};
use crate::daemon::Daemon;
use crate::promotions::{definitions, entry};
use crate::secrets::scope::scope_of;

/// Milliseconds until a seal that is locked is looked at again.
const AGAIN_MS: u64 = 30_000;

/// What lets jobs into environments.
pub(super) struct Environments {
    pub(super) daemon: Arc<Daemon>,
}

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
            self.enter(asked, environment).await
        })
    }

    fn vars<'a>(&'a self, _: &'a str) -> BoxFuture<'a, BTreeMap<String, String>> {
        Box::pin(std::future::ready(BTreeMap::new()))
    }
}

impl Environments {
    async fn enter(&self, asked: &Asked, environment: &str) -> Answer {
        let id = EnvironmentId {
            project: ProjectName::new(asked.project.as_str()),
            environment: EnvironmentName::new(environment),
        };
        let by = match principal(&asked.key, &asked.project, environment) {
            Ok(by) => by,
            Err(why) => return Answer::Refused { why },
        };
        match in_place(|| definitions::in_force(&self.daemon.platform, &id.project)) {
            Ok(known) if known.is_empty() || known.iter().any(|one| one.name == id.environment) => {
            }
            Ok(known) => {
                let known: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
                let why = format!(
                    "there is no environment {id}; there are {}",
                    known.join(", ")
                );
                return Answer::Refused { why };
            }
            Err(error) => return later(format!("{id}: {}", one_line(&error))),
        }
        let leg = &asked.key.leg;
        let request = EnterRequest {
            environment: id.clone(),
            run: format!("{}#{}.{}", asked.project, asked.number, leg.attempt),
            job: match leg.index {
                0 => leg.job.clone(),
                index => format!("{}[{index}]", leg.job),
            },
            origin: havre_api::Origin::default(),
        };
        let job = request.job.clone();
        let origin = origin(asked, job);
        let status = match entry::enter(&self.daemon, &by, request, origin).await {
            Ok(status) => status,
            Err(error) => return later(format!("{id}: {}", one_line(&error))),
        };
        match status.state {
            EntryState::Entered => in_place(|| self.open(&id)),
            EntryState::Refused => Answer::Refused {
                why: format!("{id}: {}", status.reason.unwrap_or_default()),
            },
            EntryState::Waits => waits(&id, &status),
        }
    }

    fn open(&self, id: &EnvironmentId) -> Answer {
        if let Some(reason) = self.daemon.platform.seal.locked() {
            return later(format!(
                "the secrets of {id} are locked ({reason}): `havre secret seal unlock`"
            ));
        }
        match self.secrets(id) {
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
        let store = &self.daemon.platform.secrets;
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

/// What the daemon knows of a job.
fn origin(asked: &Asked, job: String) -> Origin {
    let attempt = asked.key.leg.attempt;
    Origin {
        commit: Some(asked.commit.clone()),
        repository: Some(asked.project.clone()),
        reference: Some(asked.reference.clone()),
        run: Some(match attempt {
            1 => asked.number.to_string(),
            _ => format!("{}, attempt {attempt}", asked.number),
        }),
        actor: Some(asked.actor.clone()),
        job: Some(OfJob {
            run: asked.number,
            attempt,
            job,
            workflow: asked.path.clone(),
        }),
        ..Origin::default()
    }
}

/// What there is to wait for, and what to do about it.
fn waits(id: &EnvironmentId, status: &EntryStatus) -> Answer {
    let open = status
        .gates
        .iter()
        .filter(|gate| gate.state == GateState::Waits);
    let whys = open.clone().map(|gate| match &gate.why {
        Some(why) => format!("{}: {why}", gate.gate),
        None => gate.gate.clone(),
    });
    let whys: Vec<String> = whys.collect();
    let until = open.filter_map(|gate| gate.until).min();
    let until = until.map(|until| millis(until.into()));
    Answer::Waits {
        why: format!(
            "{id} ({}); `havre approve {}` agrees",
            whys.join(", "),
            status.promotion
        ),
        until,
    }
}

fn later(why: String) -> Answer {
    let now = millis(SystemTime::now());
    Answer::Waits {
        why,
        until: Some(now.saturating_add(AGAIN_MS)),
    }
}

/// As what the job comes to the daemon, by its token.
fn principal(key: &LegKey, project: &str, environment: &str) -> Result<Principal, String> {
    let name = token_name(key);
    Ok(Principal {
        who: Who::Token {
            id: name.clone(),
            name,
        },
        grant: grant(project, environment)?,
    })
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
