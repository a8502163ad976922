//! Promotions and environments in the words of the API.

use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, ImageChange, PlannedAction, Principal, PromotedFrom,
    PromotionGlance, PromotionId, PromotionState as State, PromotionStatus, PromotionsQuery,
    ReleaseId, WaitingJob,
};
use havre_base::in_place;
use havre_release::{Comes, Jobs, Promotion, PromotionState, Release};

use super::judge::{judge, served};
use super::words::{approval, gates, release_origin};
use super::{Kept, PromotionError, tell};
use crate::daemon::Daemon;
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
        origin: Some(&promotion.origin)
            .filter(|origin| **origin != Default::default())
            .map(release_origin),
        configuration: configuration(promotion),
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

/// What wants into an environment, in short.
pub(crate) fn glance(
    daemon: &Daemon,
    id: &EnvironmentId,
) -> Result<Vec<PromotionGlance>, ApiError> {
    let platform = &daemon.platform;
    let pending = in_place(|| platform.promotions.pending())?;
    let here = pending
        .into_iter()
        .filter(|kept| kept.promotion.environment == *id);
    let told = here.map(|Kept { promotion, release }| {
        let judged = in_place(|| judge(platform, &promotion, release.as_ref(), SystemTime::now()))?;
        let waits = gates(&judged.gates).into_iter();
        let waits = waits.filter(|gate| gate.state == havre_api::GateState::Waits);
        Ok(PromotionGlance {
            promotion: PromotionId(promotion.id),
            what: tell::what(&promotion),
            by: promotion.by.clone(),
            at: promotion.requested_at.into(),
            state: state(&promotion.state),
            waits_for: Vec::from_iter(waits.map(|gate| match gate.why {
                Some(why) => format!("{}: {why}", gate.gate),
                None => gate.gate,
            })),
        })
    });
    told.collect()
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

fn configuration(promotion: &Promotion) -> Option<String> {
    let Comes::Release { from, release, .. } = &promotion.what else {
        return None;
    };
    Some(match promotion.by_files {
        false => format!("as the files of release {release} of {from} have it"),
        true => format!(
            "of the files of whoever asked: release {release} of {from} keeps none for {}",
            promotion.environment.environment
        ),
    })
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
