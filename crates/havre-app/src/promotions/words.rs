//! Gates and origins in the words of the API, and what is said of them to people.

use std::time::SystemTime;

use havre_api::{
    ApiError, ApprovalStatus, EnvironmentId, ErrorCode, GateStatus, JobOrigin, Principal,
    PromotedFrom, PromotionId, ReleaseId, ReleaseOrigin, Timestamp,
};
use havre_release::{Approval, Gate, GateState, Origin};

/// Gates in the words of the API.
pub(crate) fn gates(gates: &[Gate]) -> Vec<GateStatus> {
    let told = gates.iter().map(|gate| {
        let (state, why, until) = match &gate.state {
            GateState::Open => (havre_api::GateState::Open, None, None),
            GateState::Waits { why, until } => {
                (havre_api::GateState::Waits, Some(why.clone()), *until)
            }
            GateState::Refused { why } => (havre_api::GateState::Refused, Some(why.clone()), None),
        };
        GateStatus {
            gate: gate.name.word().to_owned(),
            state,
            why,
            until: until.map(Timestamp::from),
        }
    });
    told.collect()
}

/// Somebody's agreement.
pub(crate) fn approval(approval: &Approval) -> ApprovalStatus {
    ApprovalStatus {
        by: approval.by.clone(),
        role: approval.role,
        at: approval.at.into(),
        comment: approval.comment.clone(),
    }
}

/// What somebody said of where a release comes from, to be kept as that.
pub(crate) fn origin_of(said: havre_api::Origin, by: &Principal) -> Origin {
    let said_by = (said != havre_api::Origin::default()).then(|| by.to_string());
    let havre_api::Origin {
        commit,
        repository,
        reference,
        run,
        actor,
    } = said;
    Origin {
        commit,
        repository,
        reference,
        run,
        actor,
        said_by,
        ..Origin::default()
    }
}

fn of(origin: &Origin) -> havre_api::Origin {
    havre_api::Origin {
        commit: origin.commit.clone(),
        repository: origin.repository.clone(),
        reference: origin.reference.clone(),
        run: origin.run.clone(),
        actor: origin.actor.clone(),
    }
}

/// Where a release comes from.
pub(crate) fn release_origin(origin: &Origin) -> ReleaseOrigin {
    ReleaseOrigin {
        origin: of(origin),
        job: origin.job.as_ref().map(|job| JobOrigin {
            run: job.run,
            attempt: job.attempt,
            job: job.job.clone(),
            workflow: job.workflow.clone(),
        }),
        said_by: origin.said_by.clone(),
        promotion: origin.promotion.map(PromotionId),
        promoted_from: origin.promoted_from.as_ref().map(|from| PromotedFrom {
            environment: from.environment.clone(),
            release: ReleaseId(from.release),
        }),
        approvals: origin.approvals.iter().map(approval).collect(),
        overridden: origin.overridden.clone(),
    }
}

/// Nothing comes into that environment now.
pub(crate) fn frozen(id: &EnvironmentId, why: &str, until: Option<SystemTime>) -> ApiError {
    let message = format!("{id} is frozen{}: {why}", self::until(until));
    ApiError::new(ErrorCode::Conflict, message).with_hint(format!(
        "`havre env ls` shows it; `havre freeze {} --off` ends one that was begun by hand",
        id.environment
    ))
}

/// ` until …`, or nothing.
pub(crate) fn until(until: Option<SystemTime>) -> String {
    let until = until.map(|at| format!(" until {:.0}", Timestamp::from(at)));
    until.unwrap_or_default()
}
