//! The history of an environment, and the way back in it.

use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Event, EventSink, PlannedAction, Principal, ReleaseId,
    ReleaseState, ReleaseStatus, ReleasesQuery, RequestCount, RollbackRequest, UpOutcome,
};
use havre_base::in_place;
use havre_release::{Cause, Desired, FailureKind, Jobs, Outcome, Scale};

use crate::clock::elapsed_ms;
use crate::daemon::Daemon;
use crate::environment::EnvironmentError;
use crate::environment::tables::LOOKED_THROUGH;
use crate::history::{History, Past, history, kept};
use crate::leases::stored_image;
use crate::operations::{NewRelease, hold, roll_out, serving};
use crate::plans::plan;
use crate::platform::Platform;
use crate::promotions::words::release_origin;
use crate::{databases, report, status};

/// The releases of an environment, the newest first.
pub(crate) async fn list(
    daemon: &Arc<Daemon>,
    query: &ReleasesQuery,
) -> Result<Vec<ReleaseStatus>, ApiError> {
    let id = &query.environment;
    let environment = daemon.environment(id).await?;
    let desired = environment.status().desired.clone();
    let current = desired.current;
    let most = query.most.min(LOOKED_THROUGH);
    // One more: the release before the last one shown.
    let history = history(&daemon.platform.tables, id, most.saturating_add(1));
    let past = history.map_err(internal)?.past;
    let kept: Vec<u64> = kept(&daemon.platform.tables, id, None)
        .map_err(internal)?
        .iter()
        .map(|kept| kept.number)
        .collect();
    let shown = past
        .iter()
        .take(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(shown
        .enumerate()
        .map(|(index, one)| {
            let before = past[index + 1..]
                .iter()
                .find(|before| before.record.has_served());
            ReleaseStatus {
                kept: kept.contains(&one.number) && current != Some(one.number),
                ..release_status(id, &desired, one, before)
            }
        })
        .collect())
}

fn release_status(
    id: &EnvironmentId,
    desired: &Desired,
    one: &Past,
    before: Option<&Past>,
) -> ReleaseStatus {
    let current = desired.current;
    let record = &one.record;
    let (state, reason) = match &record.outcome {
        _ if current == Some(one.number) => (ReleaseState::Serving, None),
        Outcome::UnderWay => (ReleaseState::UnderWay, None),
        Outcome::Served => (ReleaseState::Served, None),
        Outcome::Superseded => (ReleaseState::Superseded, None),
        Outcome::WentBack { failure } => {
            let (sentence, _) = report::explain(&failure.kind, &failure.service);
            let reason = format!("{}: {sentence}", failure.service);
            (ReleaseState::WentBack, Some(reason))
        }
    };
    let since_start = |at: Option<SystemTime>| {
        let elapsed = at?.duration_since(record.started_at?).ok()?;
        u64::try_from(elapsed.as_millis()).ok()
    };
    let jobs = match &record.cause {
        Cause::Up | Cause::Promotion { .. } => Jobs::Run,
        Cause::Restart { .. } | Cause::Rotation { .. } | Cause::Rollback { .. } => Jobs::Skip,
    };
    let mut changes = plan(
        id,
        desired,
        before.map(|before| &before.release),
        &one.release,
        jobs,
    );
    changes.retain(|planned| planned.action != PlannedAction::Keep);
    ReleaseStatus {
        release: ReleaseId(one.number),
        at: record.started_at.unwrap_or(one.created_at).into(),
        by: record.by.clone(),
        cause: cause(&record.cause),
        origin: record.origin.as_ref().map(release_origin),
        state,
        reason,
        prepared_ms: since_start(record.shifted_at),
        accepted_ms: since_start(record.accepted_at),
        elapsed_ms: since_start(record.ended_at),
        requests: record.traffic.as_ref().map(|traffic| RequestCount {
            served: traffic.requests,
            server_errors: traffic.server_errors,
            dropped: traffic.failed,
        }),
        changes,
        kept: false,
    }
}

fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Up => "up".to_owned(),
        Cause::Rollback { to } => format!("rollback to {to}"),
        Cause::Promotion { from } => {
            format!("promoted from {} {}", from.environment, from.release)
        }
        Cause::Rotation { secret } => format!("rotation of {secret}"),
        Cause::Restart { services } => {
            let names: Vec<&str> = services.iter().map(|name| name.as_str()).collect();
            format!("restart of {}", names.join(", "))
        }
    }
}

/// Goes back to an earlier release. Its jobs do not run: they have, and those of later releases
/// cannot be undone.
pub(crate) async fn rollback(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: RollbackRequest,
    events: &EventSink,
) -> Result<UpOutcome, ApiError> {
    let started = SystemTime::now();
    let id = request.environment;
    let environment = daemon.environment(&id).await?;
    let _held = hold(&environment, "rollback", by, events).await?;
    let snapshot = environment.status();
    let now = serving(&snapshot, &id)?;
    let current = snapshot.desired.current.unwrap_or_default();
    let history = history(&daemon.platform.tables, &id, LOOKED_THROUGH).map_err(internal)?;
    let target = target(
        &history,
        current,
        request.release.map(|release| release.0),
        &id,
    )?;
    let _files_held = daemon.platform.contents.hold();
    in_place(|| complete(&daemon.platform, target))?;
    if !now.all_jobs().is_empty() {
        events.emit(Event::Warning {
            message: format!(
                "what jobs (such as migrations) of later releases have changed stays: release {} \
                 runs with it",
                target.number
            ),
            hint: None,
        });
    }
    let databases = databases::found(daemon, &id, Some(now), &target.release).await?;
    let situation = Desired {
        databases: databases.clone(),
        ..snapshot.desired.clone()
    };
    events.emit(Event::Plan {
        services: plan(&id, &situation, Some(now), &target.release, Jobs::Skip),
    });
    let new = NewRelease {
        release: target.release.clone(),
        scale: Scale::Kept,
        jobs: Jobs::Skip,
        cause: Cause::Rollback { to: target.number },
        by: by.to_string(),
        origin: target.record.origin.clone(),
        databases,
    };
    let number = roll_out(daemon, &environment, new, events).await?;
    Ok(UpOutcome {
        environment: id,
        release: ReleaseId(number),
        previous: Some(ReleaseId(current)),
        changed: true,
        urls: status::urls(&target.release, daemon.https_port()),
        elapsed_ms: elapsed_ms(started),
    })
}

/// The release that is meant: by its number, else the one that served before the one that serves.
fn target<'a>(
    History { past, unreadable }: &'a History,
    current: u64,
    wanted: Option<u64>,
    id: &EnvironmentId,
) -> Result<&'a Past, ApiError> {
    let not_found = |message: String| {
        ApiError::new(ErrorCode::NotFound, message)
            .with_hint("`havre releases` lists where a rollback can go")
    };
    let Some(wanted) = wanted else {
        // Behind a rollback it goes on from where that led.
        let origin = origin(past, current);
        return past
            .iter()
            .find(|one| one.record.has_served() && self::origin(past, one.number) < origin)
            .ok_or_else(|| not_found(format!("{id} has no release that served before {current}")));
    };
    if wanted == current {
        let message = format!("release {current} of {id} serves already");
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    if let Some(error) = unreadable.get(&wanted) {
        let message = format!("release {wanted} of {id} is not readable by this version");
        return Err(ApiError::new(ErrorCode::Failed, message).caused_by(Some(error)));
    }
    let found = past.iter().find(|one| one.number == wanted);
    let found = found.ok_or_else(|| not_found(format!("{id} has no release {wanted}")))?;
    match &found.record.outcome {
        // One that was given up by hand, or by a later `up`, may be good.
        Outcome::WentBack { failure } if failure.kind != FailureKind::Aborted => {
            let message =
                format!("release {wanted} of {id} failed and was rolled back, and would be again");
            Err(ApiError::new(ErrorCode::Invalid, message)
                .with_hint("`havre releases` lists where a rollback can go, and why it failed"))
        }
        Outcome::WentBack { .. } | Outcome::Served | Outcome::Superseded | Outcome::UnderWay => {
            Ok(found)
        }
    }
}

/// The number under which the content of a release was made first.
fn origin(past: &[Past], mut number: u64) -> u64 {
    while let Some(Cause::Rollback { to }) = past
        .iter()
        .find(|one| one.number == number)
        .map(|one| &one.record.cause)
        && *to < number
    {
        number = *to;
    }
    number
}

/// Whether everything the release runs with is still there.
fn complete(platform: &Platform, target: &Past) -> Result<(), ApiError> {
    let number = target.number;
    for (name, service) in &target.release.services {
        let is_gone = |digest| stored_image(&platform.images, digest).is_err();
        let lacking = match service.images().any(is_gone) {
            true => Some("image"),
            false => service
                .files
                .values()
                .any(|digest| !platform.contents.has(digest))
                .then_some("secrets or configs"),
        };
        if let Some(what) = lacking {
            let message =
                format!("release {number} cannot come back: the {what} of `{name}` are gone");
            return Err(ApiError::new(ErrorCode::Failed, message)
                .with_hint("check its files out and run `havre up`"));
        }
    }
    Ok(())
}

fn internal(error: EnvironmentError) -> ApiError {
    ApiError::from_error(ErrorCode::Internal, &error)
}
