//! Promotions and environments in the words of the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_api::{
    ApiError, EnvironmentId, EnvironmentInfo, ErrorCode, FreezeRequest, FreezeStatus, ImageChange,
    PlannedAction, Principal, PromotedFrom, PromotionId, PromotionState as State, PromotionStatus,
    PromotionsQuery, ProvenanceQuery, ReleaseId, StatusQuery, TestReportRequest, Timestamp,
    WaitingJob,
};
use havre_base::in_place;
use havre_model::ProjectName;
use havre_release::{Comes, Jobs, PromotionState, Release, TestReport, provenance as statement};

use super::judge::{self, judge, served};
use super::tables::FreezeRow;
use super::words::{approval, gates, release_origin, said};
use super::{Kept, PromotionError, definitions};
use crate::daemon::Daemon;
use crate::environment::tables::LOOKED_THROUGH;
use crate::history::history;
use crate::plans::{changes, others, plan};

/// A promotion with what it would change now.
pub(crate) async fn status(
    daemon: &Arc<Daemon>,
    kept: &Kept,
    now: SystemTime,
) -> Result<PromotionStatus, ApiError> {
    let Kept { promotion, release } = kept;
    let id = &promotion.environment;
    let platform = &daemon.platform;
    let judged_gates = match promotion.state.is_over() {
        true => Vec::new(),
        false => {
            let judged = in_place(|| judge(platform, promotion, release.as_ref(), now))?;
            gates(&judged.gates)
        }
    };
    let from = match &promotion.what {
        Comes::Release { from, release, .. } => Some(PromotedFrom {
            environment: from.clone(),
            release: ReleaseId(*release),
        }),
        Comes::Job { .. } => None,
    };
    let mut told = PromotionStatus {
        promotion: (promotion.id != 0).then_some(PromotionId(promotion.id)),
        environment: id.clone(),
        from,
        job: match &promotion.what {
            Comes::Release { .. } => None,
            Comes::Job { run, job } => Some(WaitingJob {
                run: run.clone(),
                job: job.clone(),
            }),
        },
        by: promotion.by.clone(),
        at: promotion.requested_at.into(),
        expires: promotion.expires_at.into(),
        state: state(&promotion.state),
        reason: reason(&promotion.state),
        gates: judged_gates,
        approvals: promotion.approvals.iter().map(approval).collect(),
        origin: Some(said(&promotion.origin)).filter(|said| *said != Default::default()),
        result: match promotion.state {
            PromotionState::RolledOut { release } => Some(ReleaseId(release)),
            _ => None,
        },
        images: Vec::new(),
        changes: Vec::new(),
        others: Vec::new(),
        differs: Vec::new(),
    };
    if let Some(release) = release {
        difference(daemon, &mut told, release).await?;
    }
    Ok(told)
}

/// What it would change, and how it differs from what served.
async fn difference(
    daemon: &Arc<Daemon>,
    told: &mut PromotionStatus,
    release: &Release,
) -> Result<(), ApiError> {
    let id = told.environment.clone();
    let snapshot = match daemon.environment(&id).await {
        Ok(environment) => Some(environment.status()),
        Err(error) if error.code == ErrorCode::NotFound => None,
        Err(error) => return Err(error),
    };
    let serving = snapshot.as_ref().and_then(|snapshot| snapshot.serving());
    let serving = serving.map(|(_, release)| release);
    let desired = snapshot.as_ref().map(|snapshot| snapshot.desired.clone());
    told.changes = plan(
        &id,
        &desired.unwrap_or_default(),
        serving,
        release,
        Jobs::Run,
    );
    told.changes
        .retain(|planned| planned.action != PlannedAction::Keep);
    told.others = serving.map_or_else(Vec::new, |serving| others(serving, release));
    for (name, service) in &release.services {
        let before = serving.and_then(|serving| serving.services.get(name));
        let before = before.map(|before| before.image.clone());
        if before.as_ref() != Some(&service.image) {
            told.images.push(ImageChange {
                service: name.clone(),
                before,
                after: service.image.clone(),
            });
        }
    }
    if let Some(PromotedFrom {
        environment,
        release: number,
    }) = &told.from
    {
        let there = EnvironmentId {
            project: id.project.clone(),
            environment: environment.clone(),
        };
        let past = in_place(|| served(&daemon.platform, &there))?;
        let source = past.iter().find(|one| one.number == number.0);
        if let Some(source) = source {
            told.differs = differs(&source.release, release);
        }
    }
    Ok(())
}

/// Contents are each environment's own, and always differ.
fn differs(source: &Release, release: &Release) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, service) in &release.services {
        if let Some(before) = source.services.get(name) {
            let changes = changes(before, service).into_iter();
            let told = changes.filter(|change| !change.starts_with("content of "));
            lines.extend(told.map(|change| format!("{name}: {change}")));
        }
    }
    let gone = source.services.keys();
    let gone = gone.filter(|name| !release.services.contains_key(*name));
    lines.extend(gone.map(|name| format!("{name}: not there")));
    lines
}

fn state(state: &PromotionState) -> State {
    match state {
        PromotionState::Waiting => State::Waiting,
        PromotionState::Approved => State::Approved,
        PromotionState::RollingOut => State::RollingOut,
        PromotionState::RolledOut { .. } => State::RolledOut,
        PromotionState::Entered => State::Entered,
        PromotionState::Failed { .. } => State::Failed,
        PromotionState::Rejected { .. } => State::Rejected,
        PromotionState::Refused { .. } => State::Refused,
        PromotionState::Superseded { .. } => State::Superseded,
        PromotionState::Expired => State::Expired,
    }
}

fn reason(state: &PromotionState) -> Option<String> {
    match state {
        PromotionState::Failed { why }
        | PromotionState::Refused { why }
        | PromotionState::Superseded { why } => Some(why.clone()),
        PromotionState::Rejected { by, comment } => Some(match comment {
            Some(comment) => format!("{by}: {comment}"),
            None => format!("by {by}"),
        }),
        PromotionState::Waiting
        | PromotionState::Approved
        | PromotionState::RollingOut
        | PromotionState::RolledOut { .. }
        | PromotionState::Entered
        | PromotionState::Expired => None,
    }
}

/// Promotions that wait or are under way, as far as who asks sees them, or one of them all.
pub(crate) async fn list(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: &PromotionsQuery,
) -> Result<Vec<PromotionStatus>, ApiError> {
    let promotions = &daemon.platform.promotions;
    let found = match query.promotion {
        Some(id) => vec![in_place(|| promotions.get(id.0))?],
        None => in_place(|| promotions.pending())?,
    };
    let mut told = Vec::new();
    for kept in found {
        let id = &kept.promotion.environment;
        let is_meant = query
            .project
            .as_ref()
            .is_none_or(|name| *name == id.project)
            && query
                .environment
                .as_ref()
                .is_none_or(|name| *name == id.environment);
        if is_meant && by.grant.sees(id) {
            told.push(status(daemon, &kept, SystemTime::now()).await?);
        }
    }
    if let (Some(id), true) = (query.promotion, told.is_empty()) {
        // One of what they do not see is not there for them.
        return Err(PromotionError::NotFound { id: id.0 }.into());
    }
    Ok(told)
}

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
    let release = match daemon.environment(&id).await {
        Ok(environment) => environment.status().desired.current,
        Err(error) if error.code == ErrorCode::NotFound => None,
        Err(error) => return Err(error),
    };
    let platform = &daemon.platform;
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
        id,
    })
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
    let serving = daemon.environment(id).await?.status().desired.current;
    let number = request.release.map(|release| release.0).or(serving);
    in_place(|| {
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
