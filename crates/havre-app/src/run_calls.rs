//! What people ask of runs, answered.
//!
//! ```text
//! havre ci … ─► the guard ─► project_rights: may they? ─► Runs, Results, Commits
//! ```
//!
//! A project has no scope that the guard knows: each handler decides by what the principal has of the project.

mod dispatch;
mod log;
mod report;
mod results;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use havre_api::{
    ApiError, ArtifactGet, Artifacts, CacheRemove, Caches, Empty, ErrorCode, Principal, RerunWhat,
    Role, Routes, RunCancel, RunCancelOutcome, RunCancelRequest, RunDispatch, RunEvent, RunLog,
    RunLogsRemove, RunRerun, RunRerunOutcome, RunRerunRequest, RunShow, RunSummary, Timestamp,
};
use havre_box::Boxes;
use havre_git::Repositories;
use havre_model::ProjectName;
use havre_results::Results;
use havre_runs::{Again, Filter, RunId, Runs, RunsError, Sources};

use crate::jobs::ToolCaches;
use crate::project_rights::permit;

pub(crate) use report::summary;

use dispatch::{Commits, Pushed};

/// What answers.
#[derive(Clone)]
pub(crate) struct RunCalls {
    runs: Runs,
    results: Results,
    tools: Option<ToolsOfJobs>,
    commits: Arc<dyn Commits>,
}

/// Tools that jobs keep, and who uses them.
#[derive(Clone)]
pub(crate) struct ToolsOfJobs {
    pub(crate) caches: ToolCaches,
    pub(crate) boxes: Boxes,
}

impl RunCalls {
    /// Over what is pushed to these repositories; `sources` are those of the runs.
    pub(crate) fn new(
        runs: Runs,
        results: Results,
        sources: Arc<dyn Sources>,
        repositories: Repositories,
        tools: Option<ToolsOfJobs>,
    ) -> Self {
        Self {
            runs,
            results,
            tools,
            commits: Arc::new(Pushed {
                sources,
                repositories,
            }),
        }
    }
}

/// What answers, or why nothing does: then each call says so.
type State = Result<RunCalls, String>;

/// The calls about runs.
pub(crate) fn routes(state: State) -> Routes<()> {
    Routes::new(state)
        .call::<havre_api::Runs, _>(async |state, by, query| {
            let calls = allowed(state, &by, &query.project, Role::Viewer, "seeing the runs")?;
            blocking(move || calls.list(&query)).await
        })
        .call::<RunShow, _>(async |state, by, query| {
            let calls = allowed(state, &by, &query.project, Role::Viewer, "seeing a run")?;
            blocking(move || {
                let run = calls.find(&query.project, query.number)?;
                report::report(&calls.runs, run)
            })
            .await
        })
        .call::<RunCancel, _>(async |state, by, request| {
            let doing = "cancelling a run";
            let calls = allowed(state, &by, &request.project, Role::Deployer, doing)?;
            blocking(move || calls.cancel(&request)).await
        })
        .call::<RunRerun, _>(async |state, by, request| {
            let doing = "running jobs again";
            let calls = allowed(state, &by, &request.project, Role::Deployer, doing)?;
            blocking(move || calls.rerun(request)).await
        })
        .call::<RunDispatch, _>(async |state, by, request| {
            let doing = "starting a workflow";
            let calls = allowed(state, &by, &request.project, Role::Deployer, doing)?;
            dispatch::start(&calls.runs, &*calls.commits, &by, request).await
        })
        .call::<RunEvent, _>(async |state, by, request| {
            let doing = "telling the workflows of an event";
            let calls = allowed(state, &by, &request.project, Role::Deployer, doing)?;
            dispatch::event(&calls.runs, &*calls.commits, &by, request).await
        })
        .call::<RunLogsRemove, _>(async |state, by, query| {
            let doing = "removing the logs of a run";
            let calls = allowed(state, &by, &query.project, Role::Admin, doing)?;
            blocking(move || {
                let run = calls.find(&query.project, query.number)?;
                calls.runs.remove_logs(run).map_err(failed)?;
                Ok(Empty {})
            })
            .await
        })
        .call::<Caches, _>(async |state, by, query| {
            let calls = allowed(
                state,
                &by,
                &query.project,
                Role::Viewer,
                "seeing the caches",
            )?;
            blocking(move || results::caches(&calls, &query.project)).await
        })
        .call::<CacheRemove, _>(async |state, by, request| {
            let doing = "removing a cache";
            let calls = allowed(state, &by, &request.project, Role::Deployer, doing)?;
            blocking(move || results::remove_cache(&calls, &request)).await
        })
        .call::<Artifacts, _>(async |state, by, query| {
            let doing = "seeing the artifacts of a run";
            let calls = allowed(state, &by, &query.project, Role::Viewer, doing)?;
            blocking(move || {
                let run = calls.find(&query.project, query.number)?;
                results::artifacts(&calls.results, run)
            })
            .await
        })
        .feed::<RunLog, _>(async |state, by, query, items| {
            let doing = "reading the logs of a run";
            let calls = allowed(state, &by, &query.project, Role::Viewer, doing)?;
            let run = calls.find(&query.project, query.number)?;
            log::send(calls.runs, run, query, items).await
        })
        .feed::<ArtifactGet, _>(async |state, by, query, items| {
            let doing = "fetching an artifact";
            let calls = allowed(state, &by, &query.project, Role::Viewer, doing)?;
            blocking(move || {
                let run = calls.find(&query.project, query.number)?;
                results::send(&calls.results, run, &query.name, &items)
            })
            .await
        })
        .erased()
}

/// What answers somebody who may ask.
fn allowed(
    state: State,
    by: &Principal,
    project: &ProjectName,
    needed: Role,
    doing: &str,
) -> Result<RunCalls, ApiError> {
    permit(by, project, needed, &format!("{doing} of {project}"))?;
    state.map_err(|why| {
        let message = format!("this daemon runs no workflows: {why}");
        ApiError::new(ErrorCode::Failed, message)
    })
}

impl RunCalls {
    fn find(&self, project: &ProjectName, number: u64) -> Result<RunId, ApiError> {
        let found = self.runs.numbered(project.as_str(), number);
        found.map_err(failed)?.ok_or_else(|| {
            let message = format!("{project} has no run {number}");
            ApiError::new(ErrorCode::NotFound, message).with_hint("`havre ci ls` lists them")
        })
    }

    fn list(&self, query: &havre_api::RunsQuery) -> Result<Vec<RunSummary>, ApiError> {
        let before = query.before.map(|number| self.find(&query.project, number));
        let filter = Filter {
            workflow: query.workflow.as_deref().map(workflow),
            reference: query.reference.as_deref().map(branch),
            commit: None,
            live: query.live,
        };
        let project = query.project.as_str();
        let listed = self
            .runs
            .list(project, &filter, before.transpose()?, query.most);
        let listed = listed.map_err(failed)?;
        Ok(listed.iter().map(report::summary).collect())
    }

    fn cancel(&self, request: &RunCancelRequest) -> Result<RunCancelOutcome, ApiError> {
        let run = self.find(&request.project, request.number)?;
        let changed = self.runs.cancel(run, request.force).map_err(failed)?;
        Ok(RunCancelOutcome { changed })
    }

    fn rerun(&self, request: RunRerunRequest) -> Result<RunRerunOutcome, ApiError> {
        let run = self.find(&request.project, request.number)?;
        let what = match request.what {
            RerunWhat::All => Again::All,
            RerunWhat::Failed => Again::Failed,
            RerunWhat::Job(job) => Again::Job(job),
        };
        let attempt = self.runs.rerun(run, &what).map_err(failed)?;
        Ok(RunRerunOutcome { attempt })
    }
}

/// A file's name alone stands for the file where workflows are; all else is a path, or the workflow's own name.
fn workflow(name: &str) -> String {
    let is_file = name.ends_with(".yml") || name.ends_with(".yaml");
    match is_file && !name.contains('/') {
        true => format!(".github/workflows/{name}"),
        false => name.to_owned(),
    }
}

fn branch(name: &str) -> String {
    match name.starts_with("refs/") {
        true => name.to_owned(),
        false => format!("refs/heads/{name}"),
    }
}

fn failed(error: RunsError) -> ApiError {
    let code = match &error {
        RunsError::NoSuchRun(_) => ErrorCode::NotFound,
        RunsError::Refused(_) => ErrorCode::Conflict,
        RunsError::Store(_) | RunsError::Log { .. } | RunsError::Sources { .. } => {
            ErrorCode::Failed
        }
    };
    ApiError::from_error(code, &error)
}

fn time(ms: u64) -> Timestamp {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    at.unwrap_or(UNIX_EPOCH).into()
}

/// What asks the database or reads files, on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = havre_base::blocking(work).await;
    done.unwrap_or_else(|error| Err(ApiError::from_error(ErrorCode::Internal, &error)))
}
