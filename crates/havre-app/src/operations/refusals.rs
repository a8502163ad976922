//! What an operation answers that does not do what was asked: the words, the code and the hint.

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_release::{
    ApplyError, Failure, FailureKind, Intent, Refusal, RolloutPhase, TargetStatus,
};

use crate::handle::EnvironmentHandle;

pub(super) fn stands_still(failure: &Failure, id: &EnvironmentId) -> ApiError {
    let message = format!(
        "the rollout of {id} failed at service `{}` and is paused, as `on_failure: pause` asks",
        failure.service
    );
    ApiError::new(ErrorCode::RolledBack, message).with_hint(
        "`havre rollout abort` rolls back; `havre rollout resume` continues in spite of it",
    )
}

/// Why a rollout is no longer there though its release does not serve.
pub(super) fn ended_early(last: &TargetStatus, id: &EnvironmentId) -> ApiError {
    let desired = &last.desired;
    let served = match desired.current {
        Some(number) => format!("release {number} still serves"),
        None => "nothing serves: it was the first release".to_owned(),
    };
    // The failure of an earlier rollout is there until one succeeds.
    let went_back = desired.intent == Intent::Run && desired.rollout.is_none();
    match desired.last_failure.as_ref().filter(|_| went_back) {
        Some(failure) if failure.kind == FailureKind::Aborted => cancelled(&served),
        Some(failure) => {
            let message = format!(
                "the rollout of {id} failed at service `{}`; {served}",
                failure.service
            );
            ApiError::new(ErrorCode::RolledBack, message)
        }
        None => superseded(id),
    }
}

/// The end of a rollout that was given up takes longer than anybody waits for it.
pub(super) fn not_undone(last: &TargetStatus, id: &EnvironmentId) -> ApiError {
    let rollout = last.desired.rollout.as_ref();
    let state = match rollout.map(|rollout| (&rollout.phase, rollout.from)) {
        Some((RolloutPhase::RollingBack { .. }, Some(from))) => {
            format!("{id} is still rolling back to release {from}")
        }
        Some((RolloutPhase::RollingBack { .. }, None)) | None => {
            format!("{id} is still removing what it began")
        }
        Some((
            RolloutPhase::Preparing
            | RolloutPhase::Canary { .. }
            | RolloutPhase::Baking { .. }
            | RolloutPhase::Finishing { .. },
            _,
        )) => format!("the rollout of {id} had come too far and continues"),
    };
    cancelled(&state).with_hint("`havre status` tells how far it is")
}

pub(super) fn not_done(id: &EnvironmentId, error: ApplyError) -> ApiError {
    let conflict = |message: String| ApiError::new(ErrorCode::Conflict, message);
    match error {
        ApplyError::Persist(error) => {
            let message = format!("the state of {id} cannot be written: nothing was changed");
            ApiError::new(ErrorCode::Failed, message)
                .caused_by(Some(&*error))
                .with_hint("`df -h` shows whether the disk is full")
        }
        ApplyError::Refused(Refusal::NothingMoves) => {
            conflict(format!("no rollout of {id} is under way"))
        }
        ApplyError::Refused(Refusal::TooLate) => conflict(format!(
            "the rollout of {id} has come too far: it is decided which release serves"
        ))
        .with_hint("`havre status` tells which; `havre rollback` rolls back from there"),
        ApplyError::Refused(Refusal::PausedAlready) => {
            conflict(format!("the rollout of {id} is paused already"))
        }
        ApplyError::Refused(Refusal::NotPaused) => {
            conflict(format!("the rollout of {id} is not paused"))
        }
        ApplyError::Ended => daemon_ends(id),
    }
}

/// Why an environment's task takes no commands any more.
pub(super) async fn ended(environment: &EnvironmentHandle) -> ApiError {
    match environment.is_gone().await {
        true => gone(&environment.id),
        false => daemon_ends(&environment.id),
    }
}

pub(super) fn cancelled(state: &str) -> ApiError {
    ApiError::new(ErrorCode::Cancelled, format!("cancelled; {state}"))
}

pub(super) fn superseded(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("another operation changed {id}"),
    )
}

pub(super) fn daemon_ends(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("the daemon ends; the next one goes on with {id}"),
    )
}

pub(super) fn gone(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("{id} was taken down meanwhile"),
    )
}
