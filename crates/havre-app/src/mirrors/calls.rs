//! What people ask of mirrors, answered.

use std::time::Duration;

use havre_api::{
    ApiError, ErrorCode, MirrorHook, MirrorInfo, MirrorQuery, MirrorSetOutcome, MirrorSetRequest,
    MirrorWay, MirrorsQuery, Principal, Role, Timestamp,
};
use havre_base::{in_place, one_line};
use havre_git::{Git, Name, Remote};
use havre_mirror::{Api, EVERY, LEAST_EVERY, MOST_EVERY, Mirror, Tries, Way};
use havre_model::ProjectName;
use havre_secrets::SecretError;
use havre_store::StoreError;

use super::{ENVIRONMENT, USER, WEBHOOK, now, remote, scope, secret};
use crate::daemon::Daemon;
use crate::mirrors::Mirrors;
use crate::project_rights::permit;

/// Mirrors of a machine.
const MOST: usize = 1000;
/// Bytes of a webhook's secret.
const SECRET_BYTES: usize = 32;

/// What answers.
pub(crate) struct Calls<'a> {
    pub(crate) daemon: &'a Daemon,
    pub(crate) mirrors: &'a Mirrors,
    /// Why there is no git, otherwise.
    pub(crate) git: Result<&'a Git, &'a str>,
}

impl Calls<'_> {
    pub(crate) fn list(
        &self,
        by: &Principal,
        query: &MirrorsQuery,
    ) -> Result<Vec<MirrorInfo>, ApiError> {
        let all = self.mirrors.tables.all().map_err(stored)?;
        let wanted = all.into_iter().filter(|mirror| {
            let project = ProjectName::new(mirror.project.as_str());
            let is_asked = query.project.as_ref().is_none_or(|asked| *asked == project);
            is_asked && by.grant.sees_some_of(&project)
        });
        wanted.map(|mirror| self.info(&mirror)).collect()
    }

    pub(crate) async fn set(
        &self,
        by: &Principal,
        request: MirrorSetRequest,
    ) -> Result<MirrorSetOutcome, ApiError> {
        let git = self
            .git
            .map_err(|why| failed(format!("there are no repositories here: {why}")))?;
        let name: Name = request
            .project
            .as_str()
            .parse()
            .map_err(|error| invalid(one_line(&error)))?;
        let mirror = in_place(|| self.asked(by, &request))?;
        if mirror.way == Way::From && !request.replace {
            self.is_free(git, &name).await?;
        }
        let hook = in_place(|| {
            let hook = match mirror.way {
                Way::From => {
                    self.make_secret(&mirror.project)?;
                    Some(self.hook_of(&mirror.project)?)
                }
                Way::To => None,
            };
            self.mirrors.tables.put(&mirror).map_err(stored)?;
            Ok::<_, ApiError>(hook)
        })?;
        self.mirrors.wake();
        Ok(MirrorSetOutcome {
            mirror: in_place(|| self.info(&mirror))?,
            hook,
        })
    }

    /// What is asked for, where it can be.
    fn asked(&self, by: &Principal, request: &MirrorSetRequest) -> Result<Mirror, ApiError> {
        let every = request.every_s.map_or(EVERY, Duration::from_secs);
        if !(LEAST_EVERY..=MOST_EVERY).contains(&every) {
            let (least, most) = (LEAST_EVERY.as_secs(), MOST_EVERY.as_secs() / 3600);
            return Err(invalid(format!(
                "the other side is asked every {least} s to every {most} h"
            )));
        }
        let api = match (request.statuses, &request.api) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(invalid("an API is only for commit statuses".to_owned()));
            }
            (true, Some(api)) => Some(api.clone()),
            (true, None) => Some(Api::of(&request.url).map_err(|error| invalid(one_line(&error)))?),
        };
        if let Some(api) = &api {
            Api::new(api, &request.url).map_err(|error| invalid(one_line(&error)))?;
            if request.token_secret.is_none() {
                let hint = format!(
                    "havre secret set GITHUB_TOKEN -p {} -E {ENVIRONMENT}, and name it",
                    request.project
                );
                return Err(invalid("commit statuses need a token".to_owned()).with_hint(hint));
            }
        }
        let set_ms = now();
        let mirror = Mirror {
            project: request.project.to_string(),
            way: way(request.way),
            url: request.url.clone(),
            user: request.user.clone().unwrap_or_else(|| USER.to_owned()),
            token: request.token_secret.clone(),
            every,
            api,
            set_by: by.to_string(),
            set_ms,
            tries: Tries {
                next_ms: set_ms,
                ..Tries::default()
            },
        };
        // Before the secret is asked for: what is wrong with the address is said first.
        Remote::new(&mirror.url, None).map_err(|error| invalid(one_line(&error)))?;
        remote(&self.daemon.platform.secrets, &mirror).map_err(invalid)?;
        let all = self.mirrors.tables.all().map_err(stored)?;
        let of_project = all
            .iter()
            .find(|other| other.project == mirror.project && other.way != mirror.way);
        if of_project.is_some_and(|other| other.url == mirror.url) {
            return Err(invalid(format!(
                "{} is mirrored the other way already",
                mirror.url
            )));
        }
        let is_known = all
            .iter()
            .any(|other| (&other.project, other.way) == (&mirror.project, mirror.way));
        match all.len() >= MOST && !is_known {
            true => Err(ApiError::new(
                ErrorCode::TooMany,
                format!("there are {MOST} mirrors already"),
            )),
            false => Ok(mirror),
        }
    }

    /// A mirror removes what the other side does not have.
    async fn is_free(&self, git: &Git, name: &Name) -> Result<(), ApiError> {
        let is_mirror = in_place(|| self.mirrors.origin(name.as_str()))
            .map_err(stored)?
            .is_some();
        let there = git.fingerprint(name).await;
        let there = there.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
        match is_mirror || there.is_none() {
            true => Ok(()),
            false => {
                let message = format!(
                    "there is a repository {name} already, and a mirror has what the other side has alone"
                );
                let error = ApiError::new(ErrorCode::Conflict, message);
                Err(error.with_hint("with `--replace` its branches and tags give way"))
            }
        }
    }

    pub(crate) fn hook(&self, by: &Principal, query: &MirrorQuery) -> Result<MirrorHook, ApiError> {
        permit(
            by,
            &query.project,
            Role::Admin,
            &format!("seeing the webhook of {}", query.project),
        )?;
        self.find(query)?;
        match query.way {
            MirrorWay::From => self.hook_of(query.project.as_str()),
            MirrorWay::To => Err(invalid(
                "only a mirror from elsewhere has a webhook".to_owned(),
            )),
        }
    }

    pub(crate) fn run(&self, by: &Principal, query: &MirrorQuery) -> Result<MirrorInfo, ApiError> {
        permit(
            by,
            &query.project,
            Role::Deployer,
            &format!("mirroring {}", query.project),
        )?;
        self.find(query)?;
        let hurried = self.mirrors.hurry(query.project.as_str(), way(query.way));
        hurried.map_err(stored)?;
        self.info(&self.find(query)?)
    }

    pub(crate) fn remove(&self, by: &Principal, query: &MirrorQuery) -> Result<(), ApiError> {
        permit(
            by,
            &query.project,
            Role::Admin,
            &format!("removing a mirror of {}", query.project),
        )?;
        self.find(query)?;
        let removed = self
            .mirrors
            .tables
            .remove(query.project.as_str(), way(query.way));
        removed.map_err(stored)?;
        self.mirrors.wake();
        Ok(())
    }

    fn find(&self, query: &MirrorQuery) -> Result<Mirror, ApiError> {
        let found = self
            .mirrors
            .tables
            .get(query.project.as_str(), way(query.way));
        found.map_err(stored)?.ok_or_else(|| {
            let message = format!(
                "there is no mirror {} another server of {}",
                query.way, query.project
            );
            ApiError::new(ErrorCode::NotFound, message)
                .with_hint("`havre git mirror ls` lists them")
        })
    }

    fn hook_of(&self, project: &str) -> Result<MirrorHook, ApiError> {
        let secrets = &self.daemon.platform.secrets;
        let api = self.daemon.options.machine.api.as_ref();
        Ok(MirrorHook {
            url: api.map(|api| format!("https://{}/hooks/{project}", api.host)),
            secret: secret(secrets, project, WEBHOOK)
                .map_err(failed)?
                .to_string(),
        })
    }

    /// Where there is none yet.
    fn make_secret(&self, project: &str) -> Result<(), ApiError> {
        let secrets = &self.daemon.platform.secrets;
        let refused = |error: SecretError| {
            failed(format!(
                "the webhook's secret cannot be kept: {}",
                one_line(&error)
            ))
        };
        let name = WEBHOOK.parse().map_err(|error| failed(one_line(&error)))?;
        match secrets.get(&scope(project), &name, None) {
            Ok(_) => return Ok(()),
            Err(SecretError::NotFound { .. }) => {}
            Err(error) => return Err(refused(error)),
        }
        let mut bytes = [0; SECRET_BYTES];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| failed(error.to_string()))?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let set = secrets.set(
            &scope(project),
            &name,
            text.as_bytes(),
            "havre",
            "generated",
        );
        set.map(drop).map_err(refused)
    }

    fn info(&self, mirror: &Mirror) -> Result<MirrorInfo, ApiError> {
        let (untold, untold_why) = match mirror.api {
            Some(_) => self
                .mirrors
                .tables
                .waiting(&mirror.project)
                .map_err(stored)?,
            None => (0, None),
        };
        let tries = &mirror.tries;
        Ok(MirrorInfo {
            project: ProjectName::new(mirror.project.as_str()),
            way: match mirror.way {
                Way::From => MirrorWay::From,
                Way::To => MirrorWay::To,
            },
            url: mirror.url.clone(),
            token_secret: mirror.token.clone(),
            every_s: mirror.every.as_secs(),
            api: mirror.api.clone(),
            set_by: mirror.set_by.clone(),
            set: time(mirror.set_ms),
            tried: tries.tried_ms.map(time),
            done: tries.done_ms.map(time),
            failures: tries.failures,
            why: tries.why.clone(),
            said: tries.said.clone(),
            next: time(tries.next_ms),
            untold,
            untold_why,
        })
    }
}

fn way(way: MirrorWay) -> Way {
    match way {
        MirrorWay::From => Way::From,
        MirrorWay::To => Way::To,
    }
}

fn time(ms: i64) -> Timestamp {
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    let at = std::time::UNIX_EPOCH.checked_add(since);
    at.unwrap_or(std::time::UNIX_EPOCH).into()
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::Invalid, message)
}

fn failed(message: String) -> ApiError {
    ApiError::new(ErrorCode::Failed, message)
}

fn stored(error: StoreError) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, &error)
}
