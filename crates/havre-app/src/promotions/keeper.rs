//! Keeps promotions going: looks at their gates when something changes or a clock says so, and rolls out what may come in.
//! Every step is safe to be taken again by the next daemon: what came of a rollout stands in the environment's history.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{ApiError, EnvironmentId, ErrorCode, EventSink};
use havre_base::in_place;
use havre_release::{
    Cause, Comes, Entry, Jobs, Outcome, Promotion, PromotionEvent, PromotionState, RolloutEnd,
    Scale, Source, TargetStatus,
};
use tokio_util::sync::CancellationToken;

use super::judge::judge;
use super::settle::{became, lease};
use super::{Kept, LEASE, lease_name};
use crate::daemon::Daemon;
use crate::databases;
use crate::environment::tables::LOOKED_THROUGH;
use crate::history::{Past, history};
use crate::operations::{self, NewRelease, roll_out};
use crate::report;
use crate::supervisor::Supervised;

/// How long nobody looks, where nothing changes: what was said of an environment may have been forgotten to be told.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Until the daemon ends.
pub(crate) async fn keep(daemon: Arc<Daemon>, task: Supervised) {
    let mut changes = daemon.platform.promotions.changes();
    if let Err(error) = in_place(|| hold_images(&daemon)) {
        tracing::error!(%error, "images of promotions may be pruned");
    }
    loop {
        // What changes from here on is looked at in another round.
        changes.mark_unchanged();
        let next = round(&daemon).await;
        task.report(match &next {
            Ok(_) => Ok("all that may come in does".to_owned()),
            Err(error) => Err(havre_base::one_line(error)),
        });
        let pause = next.ok().flatten().and_then(|next| {
            let now = SystemTime::now();
            next.duration_since(now).ok()
        });
        let pause = pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE);
        tokio::select! {
            () = task.end.cancelled() => return,
            // The sender is the daemon's own.
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause.max(Duration::from_millis(10))) => {}
        }
    }
}

/// Looks at each promotion, and begins to roll out those that may come in; when to look again, where a clock says so.
pub(crate) async fn round(daemon: &Arc<Daemon>) -> Result<Option<SystemTime>, ApiError> {
    let promotions = &daemon.platform.promotions;
    let pending = in_place(|| promotions.pending())?;
    let mut next: Option<SystemTime> = None;
    for kept in pending {
        let id = kept.promotion.id;
        let (kept, again) = match look_again(daemon, id).await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(promotion = id, error = %error.message, "cannot be looked at");
                continue;
            }
        };
        let at = again.into_iter().chain([kept.promotion.expires_at]);
        for at in at.filter(|_| !kept.promotion.state.is_over()) {
            next = Some(next.map_or(at, |next| next.min(at)));
        }
        let is_due = match (&kept.promotion.what, &kept.promotion.state) {
            (Comes::Release { .. }, PromotionState::Approved | PromotionState::RollingOut) => true,
            (Comes::Release { .. } | Comes::Job { .. }, _) => false,
        };
        if let (true, Some(begun)) = (is_due, promotions.begin(id)) {
            let daemon = Arc::clone(daemon);
            daemon.supervisor.clone().spawn(async move {
                let _begun = begun;
                if let Err(error) = carry_out(&daemon, id).await {
                    tracing::warn!(promotion = id, error = %error.message, "is tried again");
                    // Whatever it is, it is not tried again at once.
                    tokio::select! {
                        () = daemon.end.cancelled() => {}
                        () = tokio::time::sleep(LONGEST_PAUSE) => {}
                    }
                }
            });
        }
    }
    Ok(next)
}

/// Judges one by what is known now.
pub(crate) async fn look(daemon: &Arc<Daemon>, id: u64) -> Result<Kept, ApiError> {
    look_again(daemon, id).await.map(|(kept, _)| kept)
}

async fn look_again(daemon: &Arc<Daemon>, id: u64) -> Result<(Kept, Option<SystemTime>), ApiError> {
    let platform = &daemon.platform;
    let kept = in_place(|| platform.promotions.get(id))?;
    match kept.promotion.state {
        PromotionState::Waiting | PromotionState::Approved => {}
        _ => return Ok((kept, None)),
    }
    let moved_on = match &kept.promotion.what {
        Comes::Release { base, .. } => moved_on(daemon, &kept.promotion.environment, *base).await?,
        Comes::Job { .. } => None,
    };
    let now = SystemTime::now();
    let (event, again) = match moved_on {
        Some(why) => (PromotionEvent::Superseded { why }, None),
        None => {
            let judged = in_place(|| judge(platform, &kept.promotion, kept.release.as_ref(), now))?;
            let again = match &judged.entry {
                Entry::Waits { until } => *until,
                Entry::Open | Entry::Refused { .. } => None,
            };
            let entry = judged.entry;
            (PromotionEvent::Looked { entry, now }, again)
        }
    };
    let (before, promotion) = in_place(|| platform.promotions.step(id, event))?;
    became(daemon, &before, &promotion);
    let release = kept.release.filter(|_| !promotion.state.is_over());
    Ok((Kept { promotion, release }, again))
}

/// What has come into the environment since a promotion was shown to people; new replicas of the same do not count.
async fn moved_on(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    base: Option<u64>,
) -> Result<Option<String>, ApiError> {
    let current = match daemon.environment(id).await {
        Ok(environment) => environment.status().desired.current,
        Err(error) if error.code == ErrorCode::NotFound => None,
        Err(error) => return Err(error),
    };
    if current == base {
        return Ok(None);
    }
    let Some(current) = current else {
        return Ok(Some(format!("{id} was taken down since it was asked for")));
    };
    let since = in_place(|| past(daemon, id))?.into_iter().filter(|one| {
        one.number <= current
            && one.record.has_served()
            && base.is_none_or(|base| one.number > base)
    });
    let is_other = |one: &Past| match one.record.cause {
        Cause::Up | Cause::Rollback { .. } | Cause::Promotion { .. } => true,
        Cause::Restart { .. } | Cause::Rotation { .. } => false,
    };
    let mut others = since.filter(is_other);
    // Numbers count from 1 again where the environment was taken down.
    let is_new = base.is_some_and(|base| current < base);
    let other = others
        .next()
        .map(|one| one.number)
        .or(is_new.then_some(current));
    Ok(other.map(|number| {
        format!("release {number} serves in {id}, which did not when it was asked for")
    }))
}

fn past(daemon: &Daemon, id: &EnvironmentId) -> Result<Vec<Past>, ApiError> {
    let history = history(&daemon.platform.tables, id, LOOKED_THROUGH);
    let history = history.map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
    Ok(history.past)
}

/// Rolls one out, or follows what the daemon before has begun, and writes down what came of it.
async fn carry_out(daemon: &Arc<Daemon>, id: u64) -> Result<(), ApiError> {
    let Kept { promotion, release } = in_place(|| daemon.platform.promotions.get(id))?;
    let environment_id = promotion.environment.clone();
    let events = nobody();
    let known = in_place(|| came_of(daemon, &promotion))?;
    let failed = match (known, &promotion.state) {
        (Came::Ended(end), _) => return ended(daemon, id, end),
        (Came::UnderWay, _) => {
            follow(daemon, &environment_id).await?;
            Some(gone(&environment_id))
        }
        (Came::Nothing, PromotionState::RollingOut) if is_gone(daemon, &promotion).await? => {
            Some(gone(&environment_id))
        }
        (Came::Nothing, PromotionState::Approved | PromotionState::RollingOut) => {
            let Some(release) = release else {
                let why = "its release is not there any more".to_owned();
                return ended(daemon, id, RolloutEnd::Failed { why });
            };
            begin(daemon, &promotion, release, &events).await?
        }
        (Came::Nothing, _) => return Ok(()),
    };
    match (in_place(|| came_of(daemon, &promotion))?, failed) {
        (Came::Ended(end), _) => ended(daemon, id, end),
        (Came::UnderWay, _) => Ok(()),
        // The next daemon begins again.
        (Came::Nothing, Some(_)) if daemon.end.is_cancelled() => Ok(()),
        (Came::Nothing, Some(error)) if error.code == ErrorCode::Unavailable => Ok(()),
        (Came::Nothing, Some(error)) => {
            let causes = error.causes.iter().map(|cause| format!(": {cause}"));
            let why = format!("{}{}", error.message, causes.collect::<String>());
            ended(daemon, id, RolloutEnd::Failed { why })
        }
        (Came::Nothing, None) => Ok(()),
    }
}

/// Whether there was an environment, and is no longer.
async fn is_gone(daemon: &Arc<Daemon>, promotion: &Promotion) -> Result<bool, ApiError> {
    let was_there = matches!(promotion.what, Comes::Release { base: Some(_), .. });
    match daemon.environment(&promotion.environment).await {
        Ok(_) => Ok(false),
        Err(error) if error.code == ErrorCode::NotFound => Ok(was_there),
        Err(error) => Err(error),
    }
}

fn gone(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("{id} was taken down meanwhile"),
    )
}

/// Begins its rollout, once nobody else changes the environment, and waits for its end. `Some`: why it did not serve;
/// history may know more.
async fn begin(
    daemon: &Arc<Daemon>,
    promotion: &Promotion,
    release: havre_release::Release,
    events: &EventSink,
) -> Result<Option<ApiError>, ApiError> {
    let Comes::Release {
        from,
        release: number,
        ..
    } = &promotion.what
    else {
        return Ok(None);
    };
    let source = Source {
        environment: from.clone(),
        release: *number,
    };
    let id = &promotion.environment;
    let (environment, _held) =
        operations::take(daemon, id, "promote", &promotion.by, events).await?;
    // While it waited for others something may have come in, or a freeze.
    let now = look(daemon, promotion.id).await?.promotion;
    match now.state {
        PromotionState::Approved => {}
        PromotionState::RollingOut => {}
        _ => return Ok(None),
    }
    let (before, after) = in_place(|| {
        daemon
            .platform
            .promotions
            .step(promotion.id, PromotionEvent::Begun)
    })?;
    became(daemon, &before, &after);
    let snapshot = environment.status();
    let serving = snapshot.serving().map(|(_, release)| release);
    let databases = match databases::found(daemon, id, serving, &release).await {
        Ok(databases) => databases,
        Err(error) => return Ok(Some(error)),
    };
    let mut origin = after.origin.clone();
    origin.promotion = Some(promotion.id);
    origin.approvals.clone_from(&after.approvals);
    let new = NewRelease {
        release,
        scale: Scale::FromFile,
        jobs: Jobs::Run,
        cause: Cause::Promotion { from: source },
        by: promotion.by.clone(),
        databases,
        origin: Some(origin),
    };
    Ok(roll_out(daemon, &environment, new, events).await.err())
}

/// Waits until the rollout under way is over.
async fn follow(daemon: &Arc<Daemon>, id: &EnvironmentId) -> Result<(), ApiError> {
    let environment = daemon.environment(id).await?;
    let mut watch = environment.watch();
    let over = |status: &Arc<TargetStatus>| {
        status.gone.is_some() || status.looked_at && status.desired.rollout.is_none()
    };
    tokio::select! {
        // One that has ended is looked for once more.
        _ended = watch.wait_for(over) => Ok(()),
        () = daemon.end.cancelled() => Ok(()),
    }
}

/// What history knows of a promotion.
enum Came {
    Nothing,
    UnderWay,
    Ended(RolloutEnd),
}

fn came_of(daemon: &Daemon, promotion: &Promotion) -> Result<Came, ApiError> {
    let past = past(daemon, &promotion.environment)?;
    let brought = |one: &&Past| {
        let origin = one.record.origin.as_ref();
        let is_it = matches!(one.record.cause, Cause::Promotion { .. });
        is_it && origin.is_some_and(|origin| origin.promotion == Some(promotion.id))
    };
    let Some(one) = past.iter().find(brought) else {
        return Ok(Came::Nothing);
    };
    let release = one.number;
    Ok(match &one.record.outcome {
        Outcome::UnderWay => Came::UnderWay,
        Outcome::Served => Came::Ended(RolloutEnd::Served { release }),
        Outcome::WentBack { failure } => {
            let (sentence, _) = report::explain(&failure.kind, &failure.service);
            let why = format!(
                "release {release} went back: {}: {sentence}",
                failure.service
            );
            Came::Ended(RolloutEnd::Failed { why })
        }
        Outcome::Superseded => {
            let why = format!("another one was wanted before release {release} served");
            Came::Ended(RolloutEnd::Failed { why })
        }
    })
}

fn ended(daemon: &Daemon, id: u64, end: RolloutEnd) -> Result<(), ApiError> {
    let promotions = &daemon.platform.promotions;
    in_place(|| {
        if promotions.get(id)?.promotion.state == PromotionState::Approved {
            // It had begun before that was written down.
            promotions.step(id, PromotionEvent::Begun)?;
        }
        let (before, after) = promotions.step(id, PromotionEvent::Ended(end))?;
        became(daemon, &before, &after);
        Ok(())
    })
}

/// Those that are not over hold their images, and no others.
fn hold_images(daemon: &Daemon) -> Result<(), ApiError> {
    let platform = &daemon.platform;
    let pending = platform.promotions.pending()?;
    let is_pending = |holder: &str| {
        let mut ids = pending.iter().map(|kept| lease_name(kept.promotion.id));
        ids.any(|name| name == holder)
    };
    let failed = |error: &dyn std::error::Error| ApiError::from_error(ErrorCode::Failed, error);
    let holders = platform.images.all_holders();
    for holder in holders.map_err(|error| failed(&error))? {
        if holder.starts_with(LEASE) && !is_pending(&holder) {
            let released = platform.images.release(&holder);
            released.map_err(|error| failed(&error))?;
        }
    }
    for kept in &pending {
        if let Some(release) = &kept.release
            && let Err(error) = lease(platform, kept.promotion.id, release)
        {
            // Its rollout says so to whoever waits for it.
            tracing::warn!(promotion = kept.promotion.id, error = %error.message, "an image is gone");
        }
    }
    Ok(())
}

/// Events that nobody reads, and a rollout that nobody cancels but by `havre rollout abort`.
fn nobody() -> EventSink {
    EventSink::new(CancellationToken::new()).0
}
