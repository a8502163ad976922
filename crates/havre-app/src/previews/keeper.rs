//! Removes environments of branches, when the branch is gone or nobody came for long.

use std::sync::Arc;
use std::time::Duration;

use havre_api::{DownOptions, DownRequest, EnvironmentId, ErrorCode, EventSink};
use havre_audit::{Entry, Outcome, Principal};
use havre_base::{blocking, in_place, one_line};
use havre_git::Repositories;
use havre_model::{EnvironmentName, ProjectName};
use havre_runs::{Filter, Runs};
use havre_secrets::SecretError;

use super::now;
use super::tables::Preview;
use crate::audit;
use crate::daemon::Daemon;
use crate::operations;
use crate::secrets::scope::scope_of;
use crate::supervisor::Supervised;

/// How often branches are looked at.
const EVERY: Duration = Duration::from_secs(15);
/// Runs of a branch that are cancelled at once.
const MOST_RUNS: u32 = 100;
/// Longest reason that is kept.
const MOST_WHY: usize = 300;

/// What it works with.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) repositories: Repositories,
    pub(crate) runs: Runs,
}

/// Until the daemon ends.
pub(crate) async fn keep(keeper: Keeper, task: Supervised) {
    loop {
        match in_place(|| keeper.daemon.platform.previews.all()) {
            Ok(all) => {
                let count = all.len();
                for one in all {
                    if task.end.is_cancelled() {
                        return;
                    }
                    keeper.look(one).await;
                }
                task.report(Ok(format!("{count} environments of branches")));
            }
            Err(error) => task.report(Err(one_line(&error))),
        }
        tokio::select! {
            () = task.end.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

impl Keeper {
    async fn look(&self, mut one: Preview) {
        if one.goes.is_none() {
            let goes = match self.ends(&one).await {
                Ok(goes) => goes,
                Err(why) => return self.stays(&one, Some(&why)),
            };
            let Some(goes) = goes else {
                return self.stays(&one, None);
            };
            match in_place(|| self.daemon.platform.previews.let_go(&one, &goes)) {
                Ok(true) => one.goes = Some(goes),
                Ok(false) => return,
                Err(error) => return self.stays(&one, Some(&one_line(&error))),
            }
        }
        match self.remove(&one).await {
            Ok(true) => self.note(&one),
            // Its jobs end first.
            Ok(false) => {}
            Err(why) => self.stays(&one, Some(&why)),
        }
    }

    /// Why it is to go; `None`: it is not.
    async fn ends(&self, one: &Preview) -> Result<Option<String>, String> {
        let name = one.project.parse().map_err(|error| one_line(&error))?;
        if !self.repositories.exists(&name) {
            // Whether its branches are gone nobody can say.
            return Err(format!("there is no repository {name}"));
        }
        let objects = self.repositories.objects(&name);
        let branch = objects.resolve(&reference(one)).await;
        if branch.map_err(|error| one_line(&error))?.is_none() {
            return Ok(Some(format!("the branch {} is gone", one.branch)));
        }
        let is_old = one.used_ms.saturating_add(one.after_ms) <= now();
        match is_old && self.live(one)?.is_empty() {
            true => Ok(Some("no job came into it for long".to_owned())),
            false => Ok(None),
        }
    }

    /// Runs of its branch that have not ended.
    fn live(&self, one: &Preview) -> Result<Vec<havre_runs::RunId>, String> {
        let filter = Filter {
            reference: Some(reference(one)),
            live: true,
            ..Filter::default()
        };
        let live = in_place(|| self.runs.list(&one.project, &filter, None, MOST_RUNS));
        let live = live.map_err(|error| one_line(&error))?;
        Ok(live.into_iter().map(|run| run.id).collect())
    }

    /// Whether there is nothing of it any more. Safe to run twice.
    async fn remove(&self, one: &Preview) -> Result<bool, String> {
        // What they would still bring there nobody would remove.
        let live = self.live(one)?;
        for run in &live {
            in_place(|| self.runs.cancel(*run, false)).map_err(|error| one_line(&error))?;
        }
        if !live.is_empty() {
            return Ok(false);
        }
        let id = EnvironmentId {
            project: ProjectName::new(one.project.as_str()),
            environment: EnvironmentName::new(one.environment.as_str()),
        };
        // Its events are nobody's.
        let (events, _source) = EventSink::new(self.daemon.end.child_token());
        let request = DownRequest {
            environment: id.clone(),
            options: DownOptions { volumes: true },
        };
        match operations::down(&self.daemon, request, &events).await {
            Ok(outcome) if outcome.errors.is_empty() => {}
            Ok(outcome) => return Err(outcome.errors.join("; ")),
            // It was never brought up, or is down already.
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(error) => return Err(one_line(&error)),
        }
        let (daemon, own, one) = (Arc::clone(&self.daemon), id, one.clone());
        let forgotten = blocking(move || {
            let platform = &daemon.platform;
            let scope = scope_of(Some(&own));
            let secrets = platform.secrets.list(|other| *other == scope);
            for secret in secrets.map_err(|error| one_line(&error))? {
                let Ok(name) = secret.name.parse() else {
                    continue;
                };
                match platform.secrets.remove(&scope, &name) {
                    Ok(()) | Err(SecretError::NotFound { .. }) => {}
                    Err(error) => return Err(one_line(&error)),
                }
            }
            platform
                .previews
                .forget(&one)
                .map_err(|error| one_line(&error))
        });
        forgotten.await.map_err(|error| one_line(&error))??;
        Ok(true)
    }

    fn stays(&self, one: &Preview, why: Option<&str>) {
        let why = why.map(|why| havre_base::clipped(why, MOST_WHY));
        if one.why.as_deref() == why {
            return;
        }
        if let Some(why) = why {
            let (project, environment) = (&one.project, &one.environment);
            tracing::warn!(
                project,
                environment,
                why,
                "a branch's environment is not looked after"
            );
        }
        if let Err(error) = in_place(|| self.daemon.platform.previews.stays(one, why)) {
            tracing::error!(error = one_line(&error), "why it stays is not kept");
        }
    }

    fn note(&self, one: &Preview) {
        let entry = Entry {
            project: Some(one.project.clone()),
            environment: Some(one.environment.clone()),
            subject: Some(one.branch.clone()),
            detail: one.goes.clone(),
            ..Entry::new(Principal::havre(), "previews/removed", Outcome::Ok)
        };
        in_place(|| audit::note(&self.daemon.platform.trail, entry));
    }
}

fn reference(one: &Preview) -> String {
    format!("refs/heads/{}", one.branch)
}
