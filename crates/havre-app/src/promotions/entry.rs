//! What the pipeline asks: whether a job may begin in an environment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnterRequest, EntryState, EntryStatus, ErrorCode, Principal, PromotionId,
};
use havre_base::in_place;
use havre_release::{Comes, EXPIRES_AFTER, Origin, Promotion, PromotionEvent, PromotionState};

use super::{judge, keeper, settle, tell, words};
use crate::daemon::Daemon;
use crate::pipeline::token::is_job;

/// What a caller of the API asks for a job of some other pipeline: what it says of it is said.
pub(crate) async fn asked(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: EnterRequest,
) -> Result<EntryStatus, ApiError> {
    if is_job(by) {
        let message =
            "a job of this machine does not ask for itself: it was let in before it began";
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    let origin = words::origin_of(request.origin.clone(), by);
    enter(daemon, by, request, origin).await
}

/// Whether a job of a run may begin in an environment, with its secrets. May be asked again and again: what waits is
/// written down once, people agree with it as with a promotion, and once it was let in it stays so. Another attempt of a
/// run is to have another name.
pub(crate) async fn enter(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: EnterRequest,
    origin: Origin,
) -> Result<EntryStatus, ApiError> {
    let promotions = &daemon.platform.promotions;
    let known = in_place(|| job_of(daemon, by, &request))?;
    let promotion = match known {
        Some(promotion) => promotion,
        None => {
            let new = promotions.add(new_job(by, &request, origin), None)?;
            let kept = keeper::look(daemon, new.id).await?;
            if kept.promotion.state == PromotionState::Waiting {
                tell::waits(daemon, &kept.promotion);
            }
            kept.promotion
        }
    };
    let mut promotion = match promotion.state.is_over() {
        true => promotion,
        false => keeper::look(daemon, promotion.id).await?.promotion,
    };
    if promotion.state == PromotionState::Approved {
        let (before, after) = in_place(|| promotions.step(promotion.id, PromotionEvent::Entered))?;
        settle::became(daemon, &before, &after);
        promotion = after;
    }
    told(daemon, &promotion)
}

fn told(daemon: &Daemon, promotion: &Promotion) -> Result<EntryStatus, ApiError> {
    let state = match promotion.state {
        PromotionState::Entered => EntryState::Entered,
        PromotionState::Waiting | PromotionState::Approved => EntryState::Waits,
        PromotionState::RollingOut
        | PromotionState::RolledOut { .. }
        | PromotionState::Failed { .. }
        | PromotionState::Rejected { .. }
        | PromotionState::Refused { .. }
        | PromotionState::Superseded { .. }
        | PromotionState::Expired => EntryState::Refused,
    };
    let gates = match state {
        EntryState::Waits => {
            let judged =
                in_place(|| judge::judge(&daemon.platform, promotion, None, SystemTime::now()))?;
            words::gates(&judged.gates)
        }
        EntryState::Entered | EntryState::Refused => Vec::new(),
    };
    Ok(EntryStatus {
        promotion: PromotionId(promotion.id),
        state,
        reason: (state == EntryState::Refused).then(|| promotion.state.sentence()),
        gates,
        secrets: (state == EntryState::Entered).then(|| promotion.environment.clone()),
    })
}

/// What was written down of that job, the newest.
fn job_of(
    daemon: &Daemon,
    by: &Principal,
    request: &EnterRequest,
) -> Result<Option<Promotion>, ApiError> {
    let all = daemon.platform.promotions.of(&request.environment)?;
    let mut all = all.into_iter().map(|kept| kept.promotion);
    let is_it = |promotion: &Promotion| match &promotion.what {
        Comes::Job { run, job } => {
            (run, job) == (&request.run, &request.job) && promotion.by == by.to_string()
        }
        Comes::Release { .. } => false,
    };
    Ok(all.find(is_it))
}

fn new_job(by: &Principal, request: &EnterRequest, origin: Origin) -> Promotion {
    let now = SystemTime::now();
    Promotion {
        id: 0,
        environment: request.environment.clone(),
        what: Comes::Job {
            run: request.run.clone(),
            job: request.job.clone(),
        },
        by: by.to_string(),
        requested_at: now,
        expires_at: now + EXPIRES_AFTER,
        origin: Origin {
            run: origin.run.clone().or_else(|| Some(request.run.clone())),
            ..origin
        },
        by_files: false,
        authors: BTreeSet::new(),
        approvals: Vec::new(),
        state: PromotionState::Waiting,
    }
}
