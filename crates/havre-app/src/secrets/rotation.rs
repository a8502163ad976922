//! Rotations of secrets: what the machine does for them. Scripts that make values valid and invalid are run by
//! the command line, between these steps.
//!
//! ```text
//! rotate ─► staged ─(add, verify)─► switch ─► every environment has it ─► step: retiring ─(retire)─► done
//!                                        └─ back: every environment has the one before ─(retire)─► aborted
//! ```
//! Each step is on disk before anything is done for it, and may be taken again. From `retiring` on no release
//! with the version before can be begun, and those that are kept have the new one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, EventSink, Principal, ReleaseId, SecretOrigin,
    SecretRotateRequest, SecretRotated, SecretRotation, SecretRotationStep, SecretStepRequest,
    SecretSwitchOutcome,
};
use havre_base::in_place;
use havre_model::{EnvironmentName, ProjectName};
use havre_release::{Cause, Jobs, Release, Scale, StoreSecret, TargetStatus};
use havre_secrets::{Rotation, RotationStep, Scope, SecretError, SecretName, Value};

use super::scope::scope_of;
use super::words::{named, refusal, refusal_to, time, warnings};
use crate::clock::elapsed_ms;
use crate::contents::ContentsError;
use crate::daemon::Daemon;
use crate::databases;
use crate::environment::tables::PlacedRelease;
use crate::handle::EnvironmentHandle;
use crate::masks;
use crate::operations::{self, NewRelease, hold, roll_out, serving};
use crate::platform::Platform;

/// Begins a rotation, or says how far the one is that is under way. What runs masks the new value before anybody
/// is told: a program that learns of it from the script may print it.
pub(crate) async fn rotate(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretRotateRequest,
) -> Result<SecretRotated, ApiError> {
    let rotated = in_place(|| begin(daemon, by, request))?;
    let scope = scope_of(request.environment.as_ref());
    let name = named(&request.name)?;
    for environment in daemon.environments().await {
        let uses = || uses_in_play(&environment.status(), &scope, &name);
        if of_scope(&scope, &environment.id) && uses() {
            environment.target.keep_masked().await.map_err(|error| {
                let mut whole = not_masked(&environment.id, &name);
                whole.causes.push(havre_base::one_line(&*error));
                whole
            })?;
        }
    }
    Ok(rotated)
}

fn not_masked(id: &EnvironmentId, name: &SecretName) -> ApiError {
    let message = format!("the output of {id} cannot be kept free of the new value of `{name}`");
    ApiError::new(ErrorCode::Failed, message)
        .with_hint("the value is staged: `havre secret rotate` tries again, --abort gives it up")
}

/// Values that rotations under way have in store for these releases, by what will stand for them. One that
/// cannot be had is in the log.
pub(crate) fn staged(
    platform: &Platform,
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
) -> masks::Values {
    let mut values = masks::Values::new();
    // Then nothing else can be opened either, which is told.
    if platform.seal.locked().is_some() {
        return values;
    }
    let own = scope_of(Some(id));
    for scope in [&Scope::Machine, &own] {
        let mut add = || {
            for rotation in platform.secrets.rotations_under_way(scope)? {
                let (name, rotation) = match rotation {
                    Ok(rotation) => rotation,
                    Err(error) => {
                        not_staged(id, &error);
                        continue;
                    }
                };
                let mut users = releases.values();
                if !users.any(|release| used(release, scope, &name).is_some()) {
                    continue;
                }
                match platform.secrets.get(scope, &name, Some(rotation.to)) {
                    Ok(value) => {
                        let fingerprint = platform.secrets.fingerprint(&own, &value.plain)?;
                        values.insert(fingerprint, value.plain);
                    }
                    Err(error) => not_staged(id, &error),
                }
            }
            Ok(())
        };
        if let Err(error) = add() {
            not_staged(id, &error);
        }
    }
    values
}

fn not_staged(id: &EnvironmentId, error: &SecretError) {
    let error: &dyn std::error::Error = error;
    tracing::warn!(environment = %id, error, "the new value of a rotation is not masked");
}

fn begin(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: &SecretRotateRequest,
) -> Result<SecretRotated, ApiError> {
    let scope = scope_of(request.environment.as_ref());
    let name = named(&request.name)?;
    let platform = &daemon.platform;
    let secrets = &platform.secrets;
    let under_way = secrets.rotation(&scope, &name).map_err(refusal)?;
    let resumed = under_way.is_some();
    let rotation = match (under_way, &request.value) {
        (Some(rotation), _) => rotation,
        (None, Some(value)) => {
            let origin = match request.origin {
                SecretOrigin::Set => "rotated",
                SecretOrigin::Generated => "generated",
                SecretOrigin::Imported => "imported",
            };
            secrets
                .begin_rotation(
                    &scope,
                    &name,
                    value.bytes(),
                    (&by.to_string(), origin),
                    request.values,
                )
                .map_err(|error| refusal_to(platform, by, error))?
        }
        (None, None) => {
            // One that is not there is named first.
            let there = secrets.get(&scope, &name, None);
            there.map_err(|error| refusal_to(platform, by, error))?;
            let message = format!("no rotation of `{name}` is under way");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_hint("begin one with a new value: --generate, --stdin or --from-file"));
        }
    };
    let value = |version| {
        let value = secrets.get(&scope, &name, Some(version)).map_err(refusal)?;
        Ok::<_, ApiError>(value.plain)
    };
    let (old, new) = (value(rotation.from), value(rotation.to)?);
    let warnings = warnings(&name, &new);
    if request.values {
        let (from, to, reason) = (rotation.from, rotation.to, &request.reason);
        tracing::info!(secret = %name, of = %scope, from, to, %by, reason, "a secret was read to be rotated");
    }
    let (old, new) = match request.values {
        true => (Some(old?.into()), Some(new.into())),
        false => (None, None),
    };
    Ok(SecretRotated {
        rotation: told(&rotation),
        resumed,
        old,
        new,
        warnings,
    })
}

/// Makes the new version the one in use, or the one before again, and has every environment that uses the secret
/// move to it. One that fails goes back by itself; it may be tried again, or the other way.
pub(crate) async fn switch(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: SecretStepRequest,
    events: &EventSink,
) -> Result<SecretSwitchOutcome, ApiError> {
    let started = SystemTime::now();
    let scope = scope_of(request.environment.as_ref());
    let name = named(&request.name)?;
    let step = match request.step {
        SecretRotationStep::Switched => RotationStep::Switched,
        SecretRotationStep::Aborting => RotationStep::Aborting,
        SecretRotationStep::Staged
        | SecretRotationStep::Retiring
        | SecretRotationStep::Done
        | SecretRotationStep::Aborted => return Err(another_call(request.step)),
    };
    let secrets = &daemon.platform.secrets;
    let rotation = in_place(|| secrets.advance_rotation(&scope, &name, request.version, step));
    let rotation = rotation.map_err(refusal)?;
    let mut environments = Vec::new();
    for environment in daemon.environments().await {
        if environment.has_ended() || !of_scope(&scope, &environment.id) {
            continue;
        }
        let moved = move_to(daemon, &environment, by, (&scope, &name, &rotation), events).await;
        let moved = moved.map_err(|error| match error.code {
            // What follows is known to whoever stopped it.
            ErrorCode::Cancelled => error,
            _ => not_moved(&environment.id, &name, &rotation, error),
        })?;
        environments.extend(moved.map(|release| (environment.id.clone(), ReleaseId(release))));
    }
    Ok(SecretSwitchOutcome {
        rotation: told(&rotation),
        environments,
        elapsed_ms: elapsed_ms(started),
    })
}

fn not_moved(
    id: &EnvironmentId,
    name: &SecretName,
    rotation: &Rotation,
    error: ApiError,
) -> ApiError {
    let message = format!("{id} does not have version {} of `{name}`", rotation.to);
    let mut whole = match rotation.step {
        RotationStep::Aborting => {
            let message = format!("{id} does not have version {} of `{name}` back", rotation.from);
            ApiError::new(error.code, message)
                .with_hint("`havre secret rotate --abort` goes on with it")
        }
        RotationStep::Staged
        | RotationStep::Switched
        | RotationStep::Retiring
        | RotationStep::Done
        | RotationStep::Aborted => ApiError::new(error.code, message).with_hint(
            "the version before works still: `havre secret rotate` tries again, with --abort it goes back",
        ),
    };
    whole.causes.push(error.message);
    whole.causes.extend(error.causes);
    whole
}

/// Has an environment move to the version that is in use; its release, where it uses the secret.
async fn move_to(
    daemon: &Arc<Daemon>,
    environment: &EnvironmentHandle,
    by: &Principal,
    (scope, name, rotation): (&Scope, &SecretName, &Rotation),
    events: &EventSink,
) -> Result<Option<u64>, ApiError> {
    let id = &environment.id;
    if !uses_in_play(&environment.status(), scope, name) {
        return Ok(None);
    }
    let _held = hold(environment, "rotate", by, events).await?;
    let Some(status) = stands(environment, events).await? else {
        return Ok(None);
    };
    let Some(current) = status.desired.current else {
        return Ok(None);
    };
    let now = serving(&status, id)?;
    let Some(used) = used(now, scope, name) else {
        return Ok(None);
    };
    let platform = &daemon.platform;
    let (has, is_back) = (used.version, rotation.step == RotationStep::Aborting);
    let to = in_place(|| Judged::new(platform, id, scope, name, rotation.to))?;
    let (wanted, is_due) = match is_back {
        true => (rotation.from, to.is_in(now, scope, name)),
        false => (rotation.to, to.is_not_all_of(now, scope, name)),
    };
    // A rollout that stands still would go on to what it was.
    if !is_due && status.desired.rollout.is_none() {
        return Ok(Some(current));
    }
    let held = platform.contents.hold();
    let mut release = now.clone();
    in_place(|| {
        let old = value_of(platform, scope, name, has)?;
        let new = needed_value(platform, scope, name, wanted)?;
        replace(
            platform,
            id,
            &mut release,
            (name, wanted),
            (old.as_ref(), &new),
        )
    })?;
    operations::warn_of_unmasked(daemon, id, &release, events)?;
    let databases = databases::found(daemon, id, Some(now), &release).await?;
    let new = NewRelease {
        databases,
        release,
        scale: Scale::Kept,
        // They belong to the release, whose configuration is the same.
        jobs: Jobs::Skip,
        cause: Cause::Rotation {
            secret: name.to_string(),
        },
        by: by.to_string(),
        origin: operations::origin(daemon, id, &status)?,
    };
    let number = roll_out(daemon, environment, new, events).await;
    drop(held);
    number.map(Some)
}

/// Waits until no rollout moves any more: one that a daemon has left to the next one goes on by itself. `None`:
/// the environment is gone, or goes.
async fn stands(
    environment: &EnvironmentHandle,
    events: &EventSink,
) -> Result<Option<Arc<TargetStatus>>, ApiError> {
    let mut watch = environment.watch();
    let stands = |status: &Arc<TargetStatus>| {
        let rollout = status.desired.rollout.as_ref();
        status.gone.is_some()
            || status.is_going()
            || rollout.is_none_or(|rollout| rollout.pause.is_some())
    };
    tokio::select! {
        status = watch.wait_for(stands) => Ok(match status {
            Ok(status) if status.gone.is_none() && !status.is_going() => Some(Arc::clone(&status)),
            Ok(_) | Err(_) => None,
        }),
        () = events.cancellation().cancelled() => {
            let message = format!("cancelled while a rollout of {} is under way, which continues", environment.id);
            Err(ApiError::new(ErrorCode::Cancelled, message))
        }
    }
}

/// Takes a step that changes nothing that runs.
pub(crate) async fn step(
    daemon: &Arc<Daemon>,
    request: &SecretStepRequest,
) -> Result<SecretRotation, ApiError> {
    let scope = scope_of(request.environment.as_ref());
    let name = named(&request.name)?;
    let step = match request.step {
        SecretRotationStep::Retiring => RotationStep::Retiring,
        SecretRotationStep::Done => RotationStep::Done,
        SecretRotationStep::Aborted => RotationStep::Aborted,
        SecretRotationStep::Staged
        | SecretRotationStep::Switched
        | SecretRotationStep::Aborting => return Err(another_call(request.step)),
    };
    let platform = &daemon.platform;
    // Nobody begins a release with the version that is to be retired meanwhile.
    let _alone = daemon.beginning.lock().await;
    let rotation = in_place(|| platform.secrets.rotations(&scope, &name)).map_err(refusal)?;
    let rotation = rotation.into_iter().find(|one| one.to == request.version);
    let (stale, stays) = match (rotation, step) {
        (Some(rotation), RotationStep::Aborted) => (rotation.to, rotation.from),
        (Some(rotation), _) => (rotation.from, rotation.to),
        // The store says what there is.
        (None, _) => (0, request.version),
    };
    if step != RotationStep::Done {
        for environment in daemon.environments().await {
            let status = environment.status();
            if !of_scope(&scope, &environment.id) || !uses_in_play(&status, &scope, &name) {
                continue;
            }
            // Going forward any other than the new one is stale, since nobody knows how old those work.
            let is_back = stale > stays;
            let judged = if is_back { stale } else { stays };
            let judged =
                in_place(|| Judged::new(platform, &environment.id, &scope, &name, judged))?;
            let has_stale = in_play(&status).any(|release| match is_back {
                true => judged.is_in(release, &scope, &name),
                false => judged.is_not_all_of(release, &scope, &name),
            });
            if has_stale {
                let message = format!(
                    "{} still runs with another version of `{name}` than {stays}",
                    environment.id
                );
                return Err(ApiError::new(ErrorCode::Conflict, message)
                    .with_hint("`havre secret rotate` goes on; `havre status` tells what moves"));
            }
        }
    }
    in_place(|| {
        let secrets = &platform.secrets;
        let advanced = secrets.advance_rotation(&scope, &name, request.version, step);
        let advanced = advanced.map_err(refusal)?;
        replace_kept(platform, (&scope, &name), stale, stays)?;
        Ok(told(&advanced))
    })
}

/// Refuses a release with a version of a secret that a rotation has retired: it was looked up before.
pub(crate) fn check(
    platform: &Platform,
    id: &EnvironmentId,
    release: &Release,
) -> Result<(), ApiError> {
    let runs_with = release
        .secrets
        .iter()
        .filter(|(_, secret)| !secret.services.is_empty());
    for (name, secret) in runs_with {
        let scope = scope_of(secret.own.then_some(id));
        let parsed = named(name)?;
        let retired = platform.secrets.out_of_use(&scope, &parsed);
        if retired.map_err(refusal)?.contains(&secret.version) {
            let version = secret.version;
            let message = format!("version {version} of secret `{name}` was retired by a rotation");
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .with_hint("run it again: releases get the version that is in use"));
        }
    }
    Ok(())
}

/// Gives releases that are kept for a rollback the version that stays.
fn replace_kept(
    platform: &Platform,
    (scope, name): (&Scope, &SecretName),
    stale: u32,
    stays: u32,
) -> Result<(), ApiError> {
    let _held = platform.contents.hold();
    let internal = |error: &dyn std::error::Error| ApiError::from_error(ErrorCode::Internal, error);
    let rows = platform
        .tables
        .all_releases()
        .map_err(|error| internal(&error))?;
    let mut values: Option<(Option<Value>, Value)> = None;
    let mut changed: Vec<(PlacedRelease, String)> = Vec::new();
    for row in rows {
        let id = EnvironmentId {
            project: ProjectName::new(row.project.clone()),
            environment: EnvironmentName::new(row.environment.clone()),
        };
        if !of_scope(scope, &id) {
            continue;
        }
        // Nobody goes back to one that cannot be read.
        let Ok(mut release) = serde_json::from_str::<Release>(&row.content) else {
            continue;
        };
        if used(&release, scope, name).is_none()
            || !Judged::new(platform, &id, scope, name, stale)?.is_in(&release, scope, name)
        {
            continue;
        }
        if values.is_none() {
            let new = needed_value(platform, scope, name, stays)?;
            values = Some((value_of(platform, scope, name, stale)?, new));
        }
        let Some((old, new)) = &values else { continue };
        replace(
            platform,
            &id,
            &mut release,
            (name, stays),
            (old.as_ref(), new),
        )?;
        let content = serde_json::to_string(&release).map_err(|error| internal(&error))?;
        changed.push((row, content));
    }
    let written = platform.tables.replace_releases(changed);
    written.map_err(|error| internal(&error))
}

/// Gives a release another version of a secret.
fn replace(
    platform: &Platform,
    id: &EnvironmentId,
    release: &mut Release,
    (name, version): (&SecretName, u32),
    (old, new): (Option<&Value>, &Value),
) -> Result<(), ApiError> {
    let failed = |error: ContentsError| ApiError::from_error(ErrorCode::Failed, &error);
    let own = scope_of(Some(id));
    let contents = &platform.contents;
    let before = match old {
        Some(old) => contents.fingerprint(&own, &old.plain).map_err(failed)?,
        // Forgotten: only what says which key leads to it is found.
        None => String::new(),
    };
    let after = contents.keep(&own, &new.plain).map_err(failed)?;
    release.replace_secret(name.as_str(), version, (&before, &after));
    Ok(())
}

/// A version's value; `None`: it is not kept any more.
fn value_of(
    platform: &Platform,
    scope: &Scope,
    name: &SecretName,
    version: u32,
) -> Result<Option<Value>, ApiError> {
    match platform.secrets.get(scope, name, Some(version)) {
        Ok(value) => Ok(Some(value)),
        Err(SecretError::NoVersion { .. }) => Ok(None),
        Err(error) => Err(refusal(error)),
    }
}

fn needed_value(
    platform: &Platform,
    scope: &Scope,
    name: &SecretName,
    version: u32,
) -> Result<Value, ApiError> {
    platform
        .secrets
        .get(scope, name, Some(version))
        .map_err(refusal)
}

/// Whether a secret of this scope can be an environment's.
fn of_scope(scope: &Scope, id: &EnvironmentId) -> bool {
    *scope == Scope::Machine || *scope == scope_of(Some(id))
}

/// What a release has of a secret of this scope, where services of it do.
fn used<'a>(release: &'a Release, scope: &Scope, name: &SecretName) -> Option<&'a StoreSecret> {
    let used = release.secrets.get(name.as_str())?;
    let is_it = used.own == (*scope != Scope::Machine) && !used.services.is_empty();
    is_it.then_some(used)
}

/// The releases that serve, or are on their way in or out.
fn in_play(status: &TargetStatus) -> impl Iterator<Item = &Release> {
    let rollout = status.desired.rollout.as_ref();
    let numbers = [
        status.desired.current,
        rollout.and_then(|rollout| rollout.from),
        rollout.map(|rollout| rollout.to),
    ];
    let releases = &status.releases;
    numbers
        .into_iter()
        .flatten()
        .filter_map(|number| releases.get(&number))
}

fn uses_in_play(status: &TargetStatus, scope: &Scope, name: &SecretName) -> bool {
    in_play(status).any(|release| used(release, scope, name).is_some())
}

/// A version, by which releases are judged: numbers alone tell nothing of one that was counted before the secret
/// was removed and set again.
struct Judged {
    version: u32,
    /// Of its value, as an environment's; `None`: it is not kept any more.
    content: Option<String>,
}

impl Judged {
    fn new(
        platform: &Platform,
        id: &EnvironmentId,
        scope: &Scope,
        name: &SecretName,
        version: u32,
    ) -> Result<Self, ApiError> {
        let value = value_of(platform, scope, name, version)?;
        let content = value.map(|value| {
            let own = scope_of(Some(id));
            let content = platform.contents.fingerprint(&own, &value.plain);
            content.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
        });
        let content = content.transpose()?;
        Ok(Self { version, content })
    }

    /// Whether a release has it, by its number or its value.
    fn is_in(&self, release: &Release, scope: &Scope, name: &SecretName) -> bool {
        let content = self.content.as_deref();
        used(release, scope, name).is_some_and(|used| {
            let contents = || release.secret_contents(name.as_str(), None);
            used.version == self.version
                || content.is_some_and(|content| contents().contains(content))
        })
    }

    /// Whether a release has another one, by its number or its value.
    fn is_not_all_of(&self, release: &Release, scope: &Scope, name: &SecretName) -> bool {
        let content = self.content.as_deref();
        used(release, scope, name).is_some_and(|used| {
            let contents = release.secret_contents(name.as_str(), None);
            let is_other = |content: &str| contents.iter().any(|other| *other != content);
            used.version != self.version || content.is_some_and(is_other)
        })
    }
}

fn another_call(step: SecretRotationStep) -> ApiError {
    let message = format!("a rotation does not become `{}` by this call", step.word());
    ApiError::new(ErrorCode::Invalid, message)
}

/// In the API's words.
pub(super) fn told(rotation: &Rotation) -> SecretRotation {
    SecretRotation {
        from: rotation.from,
        to: rotation.to,
        step: match rotation.step {
            RotationStep::Staged => SecretRotationStep::Staged,
            RotationStep::Switched => SecretRotationStep::Switched,
            RotationStep::Retiring => SecretRotationStep::Retiring,
            RotationStep::Done => SecretRotationStep::Done,
            RotationStep::Aborting => SecretRotationStep::Aborting,
            RotationStep::Aborted => SecretRotationStep::Aborted,
        },
        begun_at: time(rotation.begun_at),
        begun_by: rotation.begun_by.clone(),
        scripted: rotation.scripted,
    }
}

/// Rotations under way, by whose they are and name.
pub(super) fn under_way(
    platform: &Platform,
    scope: &Scope,
    name: &SecretName,
) -> Option<SecretRotation> {
    // What cannot be read is told of the secret itself.
    let rotation = platform.secrets.rotation(scope, name).ok().flatten();
    rotation.as_ref().map(told)
}
