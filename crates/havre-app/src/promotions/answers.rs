//! People agree with a promotion, or say no.

use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{ApiError, ErrorCode, Principal, PromotionAnswer, PromotionStatus};
use havre_base::in_place;
use havre_release::{
    Approval, NoVoice, Promotion, PromotionEvent, PromotionState, approvers, may_approve,
};

use super::people::person;
use super::{Kept, PromotionError, definitions, judge, keeper, settle, show};
use crate::daemon::Daemon;
use crate::pipeline::token::is_job;

/// Somebody agrees.
pub(crate) async fn approve(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: PromotionAnswer,
) -> Result<PromotionStatus, ApiError> {
    let approval = in_place(|| voice(daemon, by, &request))?;
    answer(daemon, &request, PromotionEvent::Agreed(approval)).await
}

/// Somebody says no: who might agree, or asked for it.
pub(crate) async fn reject(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: PromotionAnswer,
) -> Result<PromotionStatus, ApiError> {
    let kept = in_place(|| find(daemon, &request))?;
    if kept.promotion.by != by.to_string() {
        in_place(|| voice_in(daemon, by, &request, &kept.promotion, false))?;
    }
    let event = PromotionEvent::Rejected {
        by: by.to_string(),
        comment: request.comment.clone(),
    };
    answer(daemon, &request, event).await
}

async fn answer(
    daemon: &Arc<Daemon>,
    request: &PromotionAnswer,
    event: PromotionEvent,
) -> Result<PromotionStatus, ApiError> {
    let id = request.promotion.0;
    // What it is now, and not what it was when somebody last looked.
    keeper::look(daemon, id).await?;
    let (before, after) = in_place(|| daemon.platform.promotions.step(id, event))?;
    settle::became(daemon, &before, &after);
    let kept = keeper::look(daemon, id).await?;
    show::status(daemon, &kept, SystemTime::now()).await
}

/// The promotion that is meant; that of another environment is not there.
fn find(daemon: &Daemon, request: &PromotionAnswer) -> Result<Kept, ApiError> {
    let id = request.promotion.0;
    let kept = daemon.platform.promotions.get(id)?;
    match kept.promotion.environment == request.environment {
        true => Ok(kept),
        false => Err(PromotionError::NotFound { id }.into()),
    }
}

/// Somebody's agreement, where it counts.
fn voice(daemon: &Daemon, by: &Principal, request: &PromotionAnswer) -> Result<Approval, ApiError> {
    let kept = find(daemon, request)?;
    if kept.promotion.state.is_over() || kept.promotion.state == PromotionState::RollingOut {
        let message = format!(
            "promotion {} is decided: {}",
            kept.promotion.id,
            kept.promotion.state.sentence()
        );
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    voice_in(daemon, by, request, &kept.promotion, true)
}

fn voice_in(
    daemon: &Daemon,
    by: &Principal,
    request: &PromotionAnswer,
    promotion: &Promotion,
    agrees: bool,
) -> Result<Approval, ApiError> {
    if agrees && is_job(by) {
        let message =
            "a job cannot agree: that is for people, or for programs with tokens of their own";
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    let approval = Approval {
        by: by.to_string(),
        person: person(&daemon.platform.door.register, &by.to_string()),
        role: by.grant.role,
        at: SystemTime::now(),
        comment: request.comment.clone(),
    };
    let id = &request.environment;
    let Some(rule) = definitions::of(&daemon.platform, id)?.approval else {
        return match agrees {
            true => Err(ApiError::new(
                ErrorCode::Conflict,
                format!("nobody has to agree with what comes into {id}"),
            )),
            false => Ok(approval),
        };
    };
    let mut authors = judge::authors(&daemon.platform, promotion);
    if !agrees {
        // Whoever asked for it may take it back.
        authors.clear();
    }
    match may_approve(&rule, &approval, &authors) {
        Ok(()) => Ok(approval),
        Err(NoVoice::Author) => {
            let message = format!(
                "{by} asked for promotion {} or pushed it: somebody else has to agree",
                promotion.id
            );
            Err(ApiError::new(ErrorCode::Forbidden, message))
        }
        Err(NoVoice::NotAmong) => {
            let message = format!("{by} has no say in what comes into {id}");
            Err(ApiError::new(ErrorCode::Forbidden, message)
                .with_hint(format!("it is up to {}", approvers(&rule))))
        }
    }
}
