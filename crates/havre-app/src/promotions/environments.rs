//! Environments in their order: what waits for each, what is frozen, what tests said, and where releases come from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_api::{
    ApiError, EnvironmentId, EnvironmentInfo, ErrorCode, FreezeRequest, FreezeStatus, PreviewInfo,
    Principal, PromotionsQuery, ProvenanceQuery, ReleaseId, Role, Scope, StatusQuery,
    TestReportRequest, Timestamp, Who,
};
use havre_base::in_place;
use havre_model::ProjectName;
use havre_release::{TestReport, is_workflow, provenance as statement};

use super::jobs::origin_of_job;
use super::judge::served;
use super::show::list;
use super::tables::FreezeRow;
use super::words::release_origin;
use super::{PromotionError, definitions, judge};
use crate::daemon::Daemon;
use crate::environment::tables::LOOKED_THROUGH;
use crate::history::history;
use crate::pipeline::token::is_job;
use crate::platform::Platform;

/// Environments that are there or have gates, in their order within each project.
pub(crate) async fn environments(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: &StatusQuery,
) -> Result<Vec<EnvironmentInfo>, ApiError> {
    let mut projects: BTreeMap<ProjectName, Vec<EnvironmentId>> = BTreeMap::new();
    for handle in daemon.environments().await {
        let all = projects.entry(handle.id.project.clone()).or_default();
        all.push(handle.id.clone());
    }
    if let Some(project) = &query.project {
        projects.entry(project.clone()).or_default();
    }
    let mut told = Vec::new();
    for (project, mut ids) in projects {
        let in_force = in_place(|| definitions::in_force(&daemon.platform, &project))?;
        let order = |id: &EnvironmentId| {
            let mut names = in_force.iter().map(|gates| &gates.name);
            names
                .position(|name| *name == id.environment)
                .unwrap_or(usize::MAX)
        };
        for gates in &in_force {
            let id = EnvironmentId {
                project: project.clone(),
                environment: gates.name.clone(),
            };
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.sort_by_key(|id| (order(id), id.environment.clone()));
        let is_meant = |id: &EnvironmentId| {
            let named = query.environment.as_ref();
            query
                .project
                .as_ref()
                .is_none_or(|name| *name == id.project)
                && named.is_none_or(|name| *name == id.environment)
        };
        ids.retain(|id| by.grant.sees(id) && is_meant(id));
        for id in ids {
            told.push(environment(daemon, by, id).await?);
        }
    }
    Ok(told)
}

/// One environment.
pub(crate) async fn environment(
    daemon: &Arc<Daemon>,
    by: &Principal,
    id: EnvironmentId,
) -> Result<EnvironmentInfo, ApiError> {
    let (release, hosts) = match daemon.environment(&id).await {
        Ok(environment) => {
            let status = environment.status();
            let current = status.desired.current;
            let release = current.and_then(|number| status.releases.get(&number));
            let hosts = release.map(|release| release.hosts.clone());
            (current, hosts.unwrap_or_default())
        }
        Err(error) if error.code == ErrorCode::NotFound => (None, Vec::new()),
        Err(error) => return Err(error),
    };
    let platform = &daemon.platform;
    let preview = in_place(|| preview(platform, &id))?;
    let origin = match release {
        Some(number) => in_place(|| judge::record_origin(platform, &id, number))?,
        None => None,
    };
    let gates = in_place(|| definitions::of(platform, &id))?;
    let frozen = in_place(|| judge::freeze(platform, &id, SystemTime::now()))?;
    let query = PromotionsQuery {
        promotion: None,
        project: Some(id.project.clone()),
        environment: Some(id.environment.clone()),
    };
    Ok(EnvironmentInfo {
        release: release.map(ReleaseId),
        origin: origin.as_ref().map(release_origin),
        gates: (!gates.are_open()).then_some(gates),
        frozen: frozen.map(|(frozen, by)| FreezeStatus {
            reason: frozen.why,
            until: frozen.until.map(Timestamp::from),
            by,
        }),
        waiting: list(daemon, by, &query).await?,
        preview,
        hosts,
        id,
    })
}

/// Whose branch's it is.
fn preview(platform: &Platform, id: &EnvironmentId) -> Result<Option<PreviewInfo>, ApiError> {
    let all = platform.previews.all();
    let all = all.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    let mut all = all.into_iter();
    let own = all.find(|one| {
        (one.project.as_str(), one.environment.as_str())
            == (id.project.as_str(), id.environment.as_str())
    });
    Ok(own.map(|one| {
        let until = one.used_ms.saturating_add(one.after_ms);
        let until = Duration::from_millis(u64::try_from(until).unwrap_or_default());
        PreviewInfo {
            branch: one.branch,
            until: (UNIX_EPOCH + until).into(),
            goes: one.goes,
            why: one.why,
        }
    }))
}

/// Whether there is such an environment, or havre.yaml has named one: a slip is not to freeze nothing.
async fn is_known(daemon: &Arc<Daemon>, id: &EnvironmentId) -> Result<(), ApiError> {
    let in_force = in_place(|| definitions::in_force(&daemon.platform, &id.project))?;
    match in_force.iter().any(|gates| gates.name == id.environment) {
        true => Ok(()),
        false => daemon.environment(id).await.map(drop),
    }
}

/// Lets nothing new come in, or no longer does so.
pub(crate) async fn freeze(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: FreezeRequest,
) -> Result<EnvironmentInfo, ApiError> {
    let id = request.environment;
    is_known(daemon, &id).await?;
    let row = match request.freeze {
        Some(order) => {
            let until = order.until.map(SystemTime::from);
            if until.is_some_and(|until| until <= SystemTime::now()) {
                let message = "the end of the freeze is over already";
                return Err(ApiError::new(ErrorCode::Invalid, message));
            }
            let seconds = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
            let seconds = seconds.map(|since: Duration| since.as_secs());
            Some(FreezeRow {
                reason: order.reason.unwrap_or_else(|| "no reason given".to_owned()),
                by: by.to_string(),
                until: seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
            })
        }
        None => None,
    };
    let promotions = &daemon.platform.promotions;
    let put = in_place(|| promotions.tables.freeze_put(&id, row));
    put.map_err(|source| PromotionError::Store { source })?;
    promotions.wake();
    environment(daemon, by, id).await
}

/// Keeps what a test said of a release that has served.
pub(crate) async fn report(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: TestReportRequest,
) -> Result<(), ApiError> {
    let id = &request.environment;
    // A job may that only looks: what it says is known to be a job's.
    if !is_job(by)
        && !by
            .grant
            .allows(Role::Deployer, &Scope::Environment(id.clone()))
    {
        let message = format!("to report a test of {id} needs the role deployer there");
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    let serving = daemon.environment(id).await?.status().desired.current;
    let number = request.release.map(|release| release.0).or(serving);
    in_place(|| {
        let by_job = by_job(&daemon.platform, by, &request)?;
        let mut past = served(&daemon.platform, id)?.into_iter();
        let tested = past.find(|one| Some(one.number) == number);
        let tested = tested.ok_or_else(|| {
            let message = match number {
                Some(number) => format!("{id} has no release {number} that has served"),
                None => format!("nothing serves in {id}"),
            };
            ApiError::new(ErrorCode::NotFound, message)
        })?;
        let report = TestReport {
            name: request.test.clone(),
            passed: request.passed,
            run: request.run.clone(),
            by: by.to_string(),
            by_job,
            at: SystemTime::now(),
        };
        let text = serde_json::to_string(&report);
        let text = text.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
        let promotions = &daemon.platform.promotions;
        let kept = promotions
            .tables
            .report_add(id, &judge::images(&tested.release), text);
        kept.map_err(|source| PromotionError::Store { source })?;
        promotions.wake();
        Ok(())
    })
}

/// Whether it is a job that reports. That a workflow passed nobody else says, and no job of another one.
fn by_job(
    platform: &Platform,
    by: &Principal,
    request: &TestReportRequest,
) -> Result<bool, ApiError> {
    let test = &request.test;
    let refused = |message: String| {
        let hint = "a test that people or other programs report has a name that is no file's";
        Err(ApiError::new(ErrorCode::Forbidden, message).with_hint(hint))
    };
    let job = origin_of_job(platform, by, &request.environment)?.and_then(|origin| origin.job);
    match job {
        _ if !is_workflow(test) || !request.passed => Ok(job.is_some()),
        Some(job) if is_file(&job.workflow, test) => Ok(true),
        Some(job) => refused(format!(
            "that `{test}` passed only its own jobs say, and this one is of {}",
            job.workflow
        )),
        None if is_elsewheres(by) => Ok(true),
        None => refused(format!(
            "that `{test}` passed only its own jobs say, and {by} is none"
        )),
    }
}

/// A workflow is called by its path, or by the last part of it.
fn is_file(path: &str, test: &str) -> bool {
    path == test || path.rsplit_once('/').is_some_and(|(_, name)| name == test)
}

/// Whether it is a job of GitHub's, by what GitHub vouches for.
fn is_elsewheres(by: &Principal) -> bool {
    matches!(&by.who, Who::Login { subject, .. } if subject.starts_with("repo:"))
}

/// What can be said of where a release comes from.
pub(crate) async fn provenance(
    daemon: &Arc<Daemon>,
    query: &ProvenanceQuery,
) -> Result<serde_json::Value, ApiError> {
    let id = &query.environment;
    daemon.environment(id).await?;
    let history = in_place(|| history(&daemon.platform.tables, id, LOOKED_THROUGH));
    let history = history.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
    let number = query.release.0;
    let found = history.past.iter().find(|one| one.number == number);
    let found = found.ok_or_else(|| {
        let message = format!("{id} has no release {number}");
        ApiError::new(ErrorCode::NotFound, message).with_hint("`havre releases` lists them")
    })?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(statement(
        id,
        number,
        &found.release,
        &found.record,
        version,
    ))
}
