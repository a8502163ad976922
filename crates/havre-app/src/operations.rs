//! Operations that change an environment: up, down, restart, scale. Each prepares, hands one
//! command to the environment's task and tells what then happens.

mod follow;
mod queue;
mod refusals;
mod rollout;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, ChangeOutcome, Course, DownOutcome, DownRequest, EnvironmentId, ErrorCode, Event,
    EventSink, OperationPhase, Principal, ReleaseId, RestartRequest, ScaleRequest, SteerOutcome,
    SteerRequest, UpOutcome, UpRequest,
};
use havre_base::in_place;
use havre_model::ServiceName;
use havre_release::{
    Applied, ApplyError, Cause, Change, Desired, Intent, Jobs, Origin, Release, Scale, TargetStatus,
};

use crate::clock::elapsed_ms;
use crate::daemon::Daemon;
use crate::files::keep_files;
use crate::handle::EnvironmentHandle;
use crate::masks;
use crate::plans::plan;
use crate::progress::EventDiff;
use crate::promotions::direct::{Direct, before_up};
use crate::promotions::{configurations, judge};
use crate::secrets::needed::{self, Found};
use crate::volumes::named_volumes;
use crate::{
    admission, capabilities, databases, domains, ports, scaling, shared_networks, sources, status,
};

pub(crate) use queue::{Held, hold};
pub(crate) use rollout::{NewRelease, roll_out};

use follow::{changed, emit_changes};
use refusals::{cancelled, daemon_ends, ended, gone, not_done, superseded};
use rollout::{NotBegun, begin};

/// Brings an environment to what the project says.
pub(crate) async fn up(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: UpRequest,
    events: &EventSink,
) -> Result<UpOutcome, ApiError> {
    let started = SystemTime::now();
    let UpRequest {
        mut project,
        options,
        origin,
        overridden,
        entry,
        elsewhere,
    } = request;
    let id = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let _sent = in_place(|| sources::settle(&daemon.platform, by, &mut project))?;
    capabilities::check(&daemon.targets.capabilities(), &id, &project)?;
    let direct = Direct {
        by,
        id: &id,
        origin: origin.as_ref(),
        overridden: overridden.as_deref(),
        entry,
    };
    let configurations = configurations::kept(by, &project, elsewhere, events)?;
    before_up(daemon, &direct, &project, events)?;
    // Before images are built that need them.
    in_place(|| needed::of(&daemon.platform.secrets, &id, &project))?;
    ports::check(daemon, &id, &project).await?;
    domains::check(daemon, &id, &project).await?;
    let nobodys = admission::nobodys(by);
    admission::check(daemon, &id, &project.services, &project.volumes, nobodys).await?;
    let (mut environment, mut held) = take(daemon, &id, "up", by, events).await?;
    // A `down` from before is taken over, one from now on is the later command.
    let was_going = environment.status().is_going();
    events.emit(Event::Phase {
        phase: OperationPhase::Images,
    });
    // Until the release holds them: they may have no names, or lose them.
    let images_held = daemon.platform.images.hold();
    let images = daemon
        .builder
        .images(by, &project, &options, events)
        .await?;
    if events.cancellation().is_cancelled() {
        return Err(cancelled("nothing was changed"));
    }
    let fetch = Some((&options, events));
    daemon
        .builder
        .hook_images(by, &mut project, &images, fetch)
        .await?;
    events.emit(Event::Phase {
        phase: OperationPhase::Prepare,
    });
    let files_held = daemon.platform.contents.hold();
    let platform = &daemon.platform;
    let Found { secrets, values } = in_place(|| needed::of(&platform.secrets, &id, &project))?;
    let files = in_place(|| keep_files(platform, &project, &values))
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    drop(values);
    shared_networks::resolve(&daemon.platform.networks, &mut project)?;
    let mut release = Release::new(&project, &images, &files);
    release.secrets = secrets;
    let mut origin = in_place(|| direct.check(daemon, &release))?;
    if !configurations.is_empty() {
        origin.get_or_insert_default().configurations = configurations;
    }
    warn_of_unmasked(daemon, &id, &release, events)?;
    let outcome = |release: &Release, number, previous: Option<u64>| UpOutcome {
        environment: id.clone(),
        release: ReleaseId(number),
        previous: previous.map(ReleaseId),
        changed: previous != Some(number),
        urls: status::urls(release, daemon.https_port()),
        elapsed_ms: elapsed_ms(started),
    };
    loop {
        let before = environment.status();
        if before.is_going() && !was_going {
            return Err(gone(&id));
        }
        let current = before.desired.current;
        let serving = current.and_then(|number| before.releases.get(&number));
        release.keep_restarts(serving);
        if let (Some(current), true) = (current, serving == Some(&release))
            && before.is_as_wanted()
        {
            in_place(|| judge::renew_origin(platform, &id, current, origin))?;
            return Ok(outcome(&release, current, Some(current)));
        }
        warn_of_scale(&before, events);
        let databases = databases::found(daemon, &id, serving, &release).await?;
        let situation = Desired {
            databases: databases.clone(),
            ..before.desired.clone()
        };
        events.emit(Event::Plan {
            services: plan(&id, &situation, serving, &release, Jobs::Run),
        });
        let new = NewRelease {
            databases,
            release: release.clone(),
            scale: Scale::FromFile,
            jobs: Jobs::Run,
            cause: Cause::Up,
            by: by.to_string(),
            origin: origin.clone(),
        };
        match begin(daemon, &environment, new).await {
            Ok(begun) => {
                drop((files_held, images_held));
                let number = begun.follow(&environment, events).await?;
                return Ok(outcome(&release, number, current));
            }
            Err(NotBegun::Refused(error)) => return Err(error),
            Err(NotBegun::Ended) if !was_going => return Err(ended(&environment).await),
            Err(NotBegun::Ended) => {
                // That `down` has ended it while images were built: it is made anew.
                drop(held);
                (environment, held) = take(daemon, &id, "up", by, events).await?;
            }
        }
    }
}

/// Names the secrets that show in output: nobody is to find that out from a log.
pub(crate) fn warn_of_unmasked(
    daemon: &Daemon,
    id: &EnvironmentId,
    release: &Release,
    events: &EventSink,
) -> Result<(), ApiError> {
    let found = in_place(|| masks::unmasked(&daemon.platform.contents, id, release));
    let found = found.map_err(|error| {
        let message = format!("the contents of secrets cannot be read: {error}");
        ApiError::new(ErrorCode::Failed, message)
    })?;
    for (name, why) in found {
        events.emit(Event::Warning {
            message: format!("secret `{name}`: {why}"),
            hint: None,
        });
    }
    Ok(())
}

fn warn_of_scale(before: &TargetStatus, events: &EventSink) {
    for service in before.desired.scale.keys() {
        events.emit(Event::Warning {
            message: format!(
                "the number of replicas of {service} set by `havre scale` is replaced by the file's"
            ),
            hint: Some("write it as deploy.replicas to keep it".to_owned()),
        });
    }
}

/// An environment, made when it does not exist, and the right to change it.
pub(crate) async fn take(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    what: &'static str,
    by: &(dyn Display + Sync),
    events: &EventSink,
) -> Result<(EnvironmentHandle, Held), ApiError> {
    loop {
        let environment = daemon.environment_or_new(id).await?;
        let held = hold(&environment, what, by, events).await?;
        if !environment.has_ended() {
            return Ok((environment, held));
        }
        if !environment.is_gone().await {
            return Err(daemon_ends(id));
        }
    }
}

/// Replaces replicas by new ones of the same configuration.
pub(crate) async fn restart(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: RestartRequest,
    events: &EventSink,
) -> Result<ChangeOutcome, ApiError> {
    let started = SystemTime::now();
    let environment = daemon.environment(&request.environment).await?;
    let _held = hold(&environment, "restart", by, events).await?;
    let snapshot = environment.status();
    let mut release = serving(&snapshot, &request.environment)?.clone();
    let services = chosen(&release, &request.services)?;
    for name in &services {
        if let Some(service) = release.services.get_mut(name) {
            service.set_restarts(service.restarts() + 1);
        }
    }
    release.follow();
    // Those that follow one of them are among them now.
    let before = serving(&snapshot, &request.environment)?;
    let replaced = |name: &&ServiceName| {
        let old = before.services.get(*name).map(|service| service.digest());
        release.services.get(*name).map(|service| service.digest()) != old
    };
    let services: Vec<ServiceName> = release.services.keys().filter(replaced).cloned().collect();
    let databases = databases::found(daemon, &environment.id, Some(before), &release).await?;
    let new = NewRelease {
        databases,
        release,
        scale: Scale::Kept,
        // They belong to the release, which is the same.
        jobs: Jobs::Skip,
        cause: Cause::Restart {
            services: services.clone(),
        },
        by: by.to_string(),
        origin: origin(daemon, &environment.id, &snapshot)?,
    };
    roll_out(daemon, &environment, new, events).await?;
    Ok(ChangeOutcome {
        environment: request.environment,
        services,
        elapsed_ms: elapsed_ms(started),
    })
}

/// Where what serves comes from.
pub(crate) fn origin(
    daemon: &Daemon,
    id: &EnvironmentId,
    snapshot: &TargetStatus,
) -> Result<Option<Origin>, ApiError> {
    let Some(current) = snapshot.desired.current else {
        return Ok(None);
    };
    in_place(|| judge::record_origin(&daemon.platform, id, current))
}

/// Changes numbers of replicas until the next `up`.
pub(crate) async fn scale(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: ScaleRequest,
    events: &EventSink,
) -> Result<ChangeOutcome, ApiError> {
    let started = SystemTime::now();
    let environment = daemon.environment(&request.environment).await?;
    let _held = hold(&environment, "scale", by, events).await?;
    let snapshot = environment.status();
    let release = serving(&snapshot, &request.environment)?;
    let names: Vec<ServiceName> = request.replicas.keys().cloned().collect();
    chosen(release, &names)?;
    let jobs = release.jobs();
    if let Some(job) = names.iter().find(|name| jobs.contains(name)) {
        let message = format!("service `{job}` is a job: it runs once per release");
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    let databases = databases::found(daemon, &environment.id, None, release).await?;
    scaling::check(release, &databases, &request.replicas)?;
    let mut watch = environment.watch();
    let mut diff = EventDiff::default();
    let mut last = snapshot;
    let scale = Change::Scale(request.replicas.clone());
    let written = apply(&environment, scale).await?;
    let wanted = |desired: &Desired| {
        request
            .replicas
            .iter()
            .all(|(name, count)| desired.scale.get(name) == Some(count))
    };
    loop {
        let next = watch.borrow_and_update().clone();
        emit_changes(&mut diff, &last, &next, events);
        last = next;
        if last.gone.is_some() {
            return Err(gone(&request.environment));
        }
        let shown = last.revision >= written.revision;
        if shown && !wanted(&last.desired) {
            return Err(superseded(&request.environment));
        }
        if shown && last.settled {
            break;
        }
        if events.cancellation().is_cancelled() {
            return Err(cancelled(
                "the new numbers stay; set others with `havre scale`",
            ));
        }
        if !changed(&mut watch, events).await {
            return Err(daemon_ends(&request.environment));
        }
    }
    Ok(ChangeOutcome {
        environment: request.environment,
        services: names,
        elapsed_ms: elapsed_ms(started),
    })
}

/// Changes the course of the rollout under way. Not after the operation under way: it is its
/// rollout.
pub(crate) async fn steer(
    daemon: &Arc<Daemon>,
    request: &SteerRequest,
) -> Result<SteerOutcome, ApiError> {
    let environment = daemon.environment(&request.environment).await?;
    let rollout = environment.status().desired.rollout.clone();
    apply(
        &environment,
        match request.course {
            Course::Pause => Change::Pause,
            Course::Resume => Change::Resume,
            Course::Abort => Change::Abort,
        },
    )
    .await?;
    let rollout = rollout.ok_or_else(|| gone(&request.environment))?;
    Ok(SteerOutcome {
        release: ReleaseId(rollout.to),
        previous: rollout.from.map(ReleaseId),
    })
}

/// Takes an environment down.
pub(crate) async fn down(
    daemon: &Arc<Daemon>,
    request: DownRequest,
    events: &EventSink,
) -> Result<DownOutcome, ApiError> {
    let started = SystemTime::now();
    let id = request.environment;
    let environment = daemon.environment(&id).await?;
    // Not after the operation under way: `down` is how one that hangs is ended.
    events.emit(Event::Phase {
        phase: OperationPhase::Stop,
    });
    let mut watch = environment.watch();
    let mut diff = EventDiff::default();
    let mut last = environment.status();
    // One may be made yet by what is under way, or not be seen yet by a daemon that has just begun.
    let mut stopped: BTreeSet<_> = last.instances.iter().map(|one| one.id.clone()).collect();
    let volumes = named_volumes(&id, &last.releases);
    let not_its_own = in_place(|| admission::remains(&daemon.platform, &id, &volumes));
    if request.options.volumes {
        for why in not_its_own.values() {
            events.emit(Event::Warning {
                message: why.clone(),
                hint: None,
            });
        }
    }
    let take_down = Change::TakeDown {
        volumes: request.options.volumes,
    };
    let written = apply(&environment, take_down).await?;
    let errors = loop {
        let next = watch.borrow_and_update().clone();
        if let Some(errors) = &next.gone {
            let errors = errors.as_ref().clone();
            last = next;
            break errors;
        }
        emit_changes(&mut diff, &last, &next, events);
        last = next;
        stopped.extend(last.instances.iter().map(|one| one.id.clone()));
        if last.revision >= written.revision && last.desired.intent == Intent::Run {
            return Err(superseded(&id).with_hint("an `up` took it over: it runs on"));
        }
        if events.cancellation().is_cancelled() {
            let state = format!("{id} is still being taken down; `havre up` brings it back");
            return Err(cancelled(&state));
        }
        if !changed(&mut watch, events).await {
            return Err(daemon_ends(&id));
        }
    };
    let dir = daemon.platform.volumes_dir();
    let is_there = |name: &str| dir.join(name).try_exists().unwrap_or(true);
    let (removed_volumes, mut kept_volumes) =
        fate_of_volumes(volumes, &last.desired.intent, is_there);
    kept_volumes.retain(|name| !not_its_own.contains_key(name));
    Ok(DownOutcome {
        environment: id,
        replicas: u32::try_from(stopped.len()).unwrap_or(u32::MAX),
        removed_volumes,
        kept_volumes,
        errors,
        elapsed_ms: elapsed_ms(started),
    })
}

/// Which volumes were removed and which are kept, by what was carried out: another `down` may have
/// said otherwise after this one, and one that is still there could not be removed.
fn fate_of_volumes(
    mut volumes: BTreeSet<String>,
    intent: &Intent,
    is_there: impl Fn(&str) -> bool,
) -> (Vec<String>, Vec<String>) {
    let unwanted = match intent {
        Intent::Down { remove_volumes } => remove_volumes.clone(),
        Intent::Run => BTreeSet::new(),
    };
    volumes.extend(unwanted.iter().cloned());
    volumes
        .into_iter()
        .partition(|name| unwanted.contains(name) && !is_there(name))
}

/// Hands a command to the environment's task; it is on disk when this returns, or nothing has
/// changed.
pub(crate) async fn apply(
    environment: &EnvironmentHandle,
    change: Change,
) -> Result<Applied, ApiError> {
    match environment.apply(change).await {
        Ok(written) => Ok(written),
        Err(ApplyError::Ended) => Err(ended(environment).await),
        Err(error) => Err(not_done(&environment.id, error)),
    }
}

pub(crate) fn serving<'a>(
    snapshot: &'a TargetStatus,
    id: &EnvironmentId,
) -> Result<&'a Release, ApiError> {
    snapshot
        .desired
        .current
        .and_then(|number| snapshot.releases.get(&number))
        .ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, format!("{id} has no release yet"))
                .with_hint("run `havre up` first")
        })
}

/// The named services; all that stay when none is named.
fn chosen(release: &Release, names: &[ServiceName]) -> Result<BTreeSet<ServiceName>, ApiError> {
    if names.is_empty() {
        return Ok(release.lasting().map(|(name, _)| name.clone()).collect());
    }
    for name in names {
        if !release.services.contains_key(name) {
            return Err(status::no_service(name, release.services.keys()));
        }
    }
    Ok(names.iter().cloned().collect())
}

#[cfg(test)]
mod tests;
