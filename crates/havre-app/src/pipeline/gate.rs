//! What lets jobs into environments, and gives them what is secret there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use havre_api::{EnterRequest, EntryState, EntryStatus, EnvironmentId, GateState, Principal, Who};
use havre_base::{in_place, one_line};
use havre_git::Repositories;
use havre_model::{EnvironmentGates, EnvironmentName, ProjectName};
use havre_release::{OfJob, Origin};
use havre_runs::{Answer, Asked, Gate, LegKey, Opened};
use havre_secrets::SecretError;

use super::job_key::{JobKey, Purpose};
use super::token::{grant, token_name};
use crate::daemon::Daemon;
use crate::jobs::box_id;
use crate::mirrors::{self, Mirrors};
use crate::previews::{self, Refusal};
use crate::promotions::{definitions, entry};
use crate::secrets::scope::scope_of;

/// Milliseconds until a seal that is locked is looked at again.
const AGAIN_MS: u64 = 30_000;

/// What lets jobs into environments.
pub(super) struct Environments {
    pub(super) daemon: Arc<Daemon>,
    pub(super) mirrors: Arc<Mirrors>,
    pub(super) repositories: Repositories,
    pub(super) key: JobKey,
}

impl Gate for Environments {
    fn ask<'a>(&'a self, asked: &'a Asked) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let Some(environment) = &asked.environment else {
                return Answer::Open(Opened {
                    token: self.token(&asked.key),
                    ..Opened::default()
                });
            };
            if asked.foreign {
                return Answer::Refused {
                    why: format!("what comes from outside does not get into {environment}"),
                };
            }
            self.enter(asked, environment).await
        })
    }

    fn vars<'a>(
        &'a self,
        project: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        let vars = in_place(|| self.daemon.platform.vars.of(project, None));
        Box::pin(std::future::ready(vars.map_err(|error| one_line(&error))))
    }
}

impl Environments {
    async fn enter(&self, asked: &Asked, environment: &str) -> Answer {
        let named = EnvironmentId {
            project: ProjectName::new(asked.project.as_str()),
            environment: EnvironmentName::new(environment),
        };
        if environment == mirrors::ENVIRONMENT && self.is_mirrored(&asked.project) {
            let why =
                format!("{named} holds the secrets of the project's mirrors: no job gets into it");
            return Answer::Refused { why };
        }
        let known = in_place(|| definitions::in_force(&self.daemon.platform, &named.project));
        let known = match known {
            Ok(known) => known,
            Err(error) => return later(format!("{named}: {}", one_line(&error))),
        };
        let gates = known.iter().find(|one| one.name == named.environment);
        let id = match gates {
            None if known.is_empty() => named.clone(),
            None => {
                let known: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
                let why = format!(
                    "there is no environment {named}; there are {}",
                    known.join(", ")
                );
                return Answer::Refused { why };
            }
            Some(gates) => match self.preview(asked, &named, &known, gates).await {
                Ok(id) => id,
                Err(answer) => return answer,
            },
        };
        let by = match principal(&asked.key, &asked.project, id.environment.as_str()) {
            Ok(by) => by,
            Err(why) => return Answer::Refused { why },
        };
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
            EntryState::Entered => in_place(|| self.open(&id, &named, &asked.key)),
            EntryState::Refused => Answer::Refused {
                why: format!("{id}: {}", status.reason.unwrap_or_default()),
            },
            EntryState::Waits => waits(&id, &status),
        }
    }

    /// What the job has as `github.token`.
    fn token(&self, key: &LegKey) -> String {
        self.key.token(Purpose::Repository, &box_id(key))
    }

    /// What is not known is taken to be so.
    fn is_mirrored(&self, project: &str) -> bool {
        let all = in_place(|| self.mirrors.tables.all());
        all.map_or(true, |all| all.iter().any(|one| one.project == project))
    }

    /// Of an environment that each branch has one of, the branch's; else itself.
    async fn preview(
        &self,
        asked: &Asked,
        named: &EnvironmentId,
        known: &[EnvironmentGates],
        gates: &EnvironmentGates,
    ) -> Result<EnvironmentId, Answer> {
        let Some(said) = &gates.previews else {
            return Ok(named.clone());
        };
        let Some(branch) = asked.reference.strip_prefix("refs/heads/") else {
            let why = format!("{named} is of branches, and {} is none", asked.reference);
            return Err(Answer::Refused { why });
        };
        // Of one that is gone a run may be told to run again.
        match self.is_there(asked).await {
            Ok(true) => {}
            Ok(false) => {
                let why = format!("{named} is of branches, and {branch} is gone");
                return Err(Answer::Refused { why });
            }
            Err(why) => return Err(later(why)),
        }
        let claimed = previews::claim(&self.daemon, &named.project, known, gates, said, branch);
        claimed.await.map_err(|refusal| match refusal {
            Refusal::Later(why) => later(why),
            Refusal::Never(why) => Answer::Refused { why },
        })
    }

    /// Whether what a run is of is in its repository still.
    async fn is_there(&self, asked: &Asked) -> Result<bool, String> {
        let name = asked.project.parse().map_err(|error| one_line(&error))?;
        let found = self
            .repositories
            .objects(&name)
            .resolve(&asked.reference)
            .await;
        Ok(found.map_err(|error| one_line(&error))?.is_some())
    }

    /// `named`: as the workflow has it.
    fn open(&self, id: &EnvironmentId, named: &EnvironmentId, key: &LegKey) -> Answer {
        if let Some(reason) = self.daemon.platform.seal.locked() {
            return later(format!(
                "the secrets of {id} are locked ({reason}): `havre secret seal unlock`"
            ));
        }
        let vars = &self.daemon.platform.vars;
        let vars = match vars.of(named.project.as_str(), Some(named.environment.as_str())) {
            Ok(vars) => vars,
            Err(error) => {
                return later(format!("the variables of {named}: {}", one_line(&error)));
            }
        };
        let secrets = match id == named {
            true => Ok(()),
            false => previews::give_secrets(&self.daemon.platform, named, id),
        };
        match secrets.and_then(|()| self.secrets(id)) {
            Ok(secrets) => Answer::Open(Opened {
                environment_secrets: secrets,
                vars,
                token: self.token(key),
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
