//! Operations that change an environment: up, down, restart, scale. Each prepares, hands one
//! command to the environment's task and tells what then happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use havre_api::{
    ApiError, ChangeOutcome, Course, DownOutcome, DownRequest, EnvironmentId, ErrorCode, Event,
    EventSink, Phase as ApiPhase, ReleaseId, RestartRequest, ScaleRequest, SteerOutcome,
    SteerRequest, UpOutcome, UpRequest,
};
use havre_model::{FoundDatabases, ServiceName};
use havre_release::{
    Cause, Desired, Failure, FailureKind, Intent, JobId, Record, Refusal, Release,
};
use tokio::task::block_in_place;

use crate::daemon::Daemon;
use crate::environment::{
    Command, EnvironmentHandle, Jobs, Move, NotDone, Scale, Snapshot, Watch, Written,
};
use crate::execute::keep_files;
use crate::leases::lease;
use crate::plans::plan;
use crate::progress::{Teller, elapsed_ms};
use crate::volumes::named_volumes;
use crate::{builds, databases, ports, scaling, status};

/// Brings an environment to what the project says.
pub(crate) async fn up(
    daemon: &Arc<Daemon>,
    request: UpRequest,
    events: &EventSink,
) -> Result<UpOutcome, ApiError> {
    let started = SystemTime::now();
    let UpRequest {
        mut project,
        options,
        by,
    } = request;
    let id = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    ports::check(daemon, &id, &project).await?;
    let (mut environment, mut held) = take(daemon, &id, by.as_deref(), events).await?;
    // A `down` from before is taken over, one from now on is the later wish.
    let was_going = is_going(&environment.snapshot());
    events.emit(Event::Phase {
        phase: ApiPhase::Images,
    });
    let images = builds::images(daemon, &project, &options, events).await?;
    if events.cancellation().is_cancelled() {
        return Err(cancelled("nothing was changed"));
    }
    let fetch = Some((&options, events));
    builds::hook_images(daemon, &mut project, &images, fetch).await?;
    events.emit(Event::Phase {
        phase: ApiPhase::Prepare,
    });
    let files_held = daemon.platform.vault.hold();
    let files = keep_files(&daemon.platform, &project)
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    let mut release = Release::new(&project, &images, &files);
    let outcome = |release: &Release, number, previous: Option<u64>| UpOutcome {
        environment: id.clone(),
        release: ReleaseId(number),
        previous: previous.map(ReleaseId),
        changed: previous != Some(number),
        urls: status::urls(release, daemon.https_port()),
        elapsed_ms: elapsed_ms(started),
    };
    loop {
        let before = environment.snapshot();
        if is_going(&before) && !was_going {
            return Err(gone(&id));
        }
        let current = before.desired.current;
        let serving = current.and_then(|number| before.releases.get(&number));
        keep_restarts(&mut release, serving);
        if let (Some(current), true) = (current, serving == Some(&release))
            && is_as_wanted(&before)
        {
            return Ok(outcome(&release, current, Some(current)));
        }
        tell_of_scale(&before, events);
        let databases = found_databases(daemon, &id, serving, &release).await?;
        let situation = Desired {
            databases: databases.clone(),
            ..before.desired.clone()
        };
        events.emit(Event::Plan {
            services: plan(&id, &situation, serving, &release),
        });
        let change = Change {
            databases,
            release: release.clone(),
            scale: Scale::FromFile,
            jobs: Jobs::Run,
            cause: Cause::Up,
            by: by.clone(),
        };
        match begin(daemon, &environment, change).await {
            Ok(begun) => {
                drop(files_held);
                let number = begun.follow(&environment, events).await?;
                return Ok(outcome(&release, number, current));
            }
            Err(NotBegun::Refused(error)) => return Err(error),
            Err(NotBegun::Ended) if !was_going => return Err(ended(&environment).await),
            Err(NotBegun::Ended) => {
                // That `down` has ended it while images were built: it is made anew.
                drop(held);
                (environment, held) = take(daemon, &id, by.as_deref(), events).await?;
            }
        }
    }
}

fn is_going(snapshot: &Snapshot) -> bool {
    match snapshot.desired.intent {
        Intent::Run => false,
        Intent::Down { .. } => true,
    }
}

/// Nothing moves, and no wish stands against the files.
fn is_as_wanted(snapshot: &Snapshot) -> bool {
    let desired = &snapshot.desired;
    !is_going(snapshot) && desired.rollout.is_none() && desired.scale.is_empty() && snapshot.settled
}

fn tell_of_scale(before: &Snapshot, events: &EventSink) {
    for service in before.desired.scale.keys() {
        events.emit(Event::Warning {
            message: format!(
                "the number of replicas of {service} set by `havre scale` gives way to the file's"
            ),
            hint: Some("write it as deploy.replicas to keep it".to_owned()),
        });
    }
}

/// An environment, made when it does not exist, and the right to change it.
async fn take(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    by: Option<&str>,
    events: &EventSink,
) -> Result<(EnvironmentHandle, Held), ApiError> {
    loop {
        let environment = daemon.environment_or_new(id).await?;
        let held = hold(&environment, "up", by, events).await?;
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
    request: RestartRequest,
    events: &EventSink,
) -> Result<ChangeOutcome, ApiError> {
    let started = SystemTime::now();
    let environment = daemon.environment(&request.environment).await?;
    let _held = hold(&environment, "restart", request.by.as_deref(), events).await?;
    let snapshot = environment.snapshot();
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
    let databases = found_databases(daemon, &environment.id, Some(before), &release).await?;
    let change = Change {
        databases,
        release,
        scale: Scale::Kept,
        // They belong to the release, which is the same.
        jobs: Jobs::Skip,
        cause: Cause::Restart {
            services: services.clone(),
        },
        by: request.by,
    };
    roll_out(daemon, &environment, change, events).await?;
    Ok(ChangeOutcome {
        environment: request.environment,
        services,
        elapsed_ms: elapsed_ms(started),
    })
}

/// Changes numbers of replicas until the next `up`.
pub(crate) async fn scale(
    daemon: &Arc<Daemon>,
    request: ScaleRequest,
    events: &EventSink,
) -> Result<ChangeOutcome, ApiError> {
    let started = SystemTime::now();
    let environment = daemon.environment(&request.environment).await?;
    let _held = hold(&environment, "scale", None, events).await?;
    let snapshot = environment.snapshot();
    let release = serving(&snapshot, &request.environment)?;
    let names: Vec<ServiceName> = request.replicas.keys().cloned().collect();
    chosen(release, &names)?;
    let jobs = release.jobs();
    if let Some(job) = names.iter().find(|name| jobs.contains(name)) {
        let message = format!("service `{job}` is a job: it runs once per release");
        return Err(ApiError::new(ErrorCode::Invalid, message));
    }
    let databases = found_databases(daemon, &environment.id, None, release).await?;
    scaling::check(release, &databases, &request.replicas)?;
    let mut watch = environment.watch();
    let mut teller = Teller::default();
    let mut last = snapshot;
    let scale = Command::Scale(request.replicas.clone());
    let written = command(&environment, scale).await?;
    let wanted = |desired: &Desired| {
        request
            .replicas
            .iter()
            .all(|(name, count)| desired.scale.get(name) == Some(count))
    };
    loop {
        let next = watch.borrow_and_update().clone();
        tell(&mut teller, &last, &next, events);
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
    let rollout = environment.snapshot().desired.rollout.clone();
    command(
        &environment,
        match request.course {
            Course::Pause => Command::Pause,
            Course::Resume => Command::Resume,
            Course::Abort => Command::Abort,
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
        phase: ApiPhase::Stop,
    });
    let mut watch = environment.watch();
    let mut teller = Teller::default();
    let mut last = environment.snapshot();
    let replicas = u32::try_from(last.seen.len()).unwrap_or(u32::MAX);
    let volumes = named_volumes(&id, &last.releases);
    let take_down = Command::TakeDown {
        volumes: request.options.volumes,
    };
    let written = command(&environment, take_down).await?;
    let errors = loop {
        let next = watch.borrow_and_update().clone();
        if let Some(errors) = &next.gone {
            let errors = errors.as_ref().clone();
            last = next;
            break errors;
        }
        tell(&mut teller, &last, &next, events);
        last = next;
        if last.revision >= written.revision && last.desired.intent == Intent::Run {
            return Err(superseded(&id).with_hint("an `up` took it over: it runs on"));
        }
        if events.cancellation().is_cancelled() {
            let state = format!("{id} goes on being taken down; `havre up` brings it back");
            return Err(cancelled(&state));
        }
        if !changed(&mut watch, events).await {
            return Err(daemon_ends(&id));
        }
    };
    let dir = daemon.platform.volumes_dir();
    let is_there = |name: &str| dir.join(name).try_exists().unwrap_or(true);
    let (removed_volumes, kept_volumes) = fate_of_volumes(volumes, &last.desired.intent, is_there);
    Ok(DownOutcome {
        environment: id,
        replicas,
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

/// What is found where services of these two releases write.
pub(crate) async fn found_databases(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
    serving: Option<&Release>,
    next: &Release,
) -> Result<FoundDatabases, ApiError> {
    let releases: Vec<Release> = serving.into_iter().chain([next]).cloned().collect();
    let (platform, id) = (Arc::clone(&daemon.platform), id.clone());
    let found = tokio::task::spawn_blocking(move || {
        let releases: Vec<&Release> = releases.iter().collect();
        databases::find(&platform, &id, &releases)
    });
    found
        .await
        .map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))
}

/// A release to move to.
pub(crate) struct Change {
    pub(crate) release: Release,
    pub(crate) scale: Scale,
    pub(crate) jobs: Jobs,
    pub(crate) cause: Cause,
    pub(crate) by: Option<String>,
    /// What was found where its services and those before write.
    pub(crate) databases: FoundDatabases,
}

/// Makes a release, moves to it and tells what happens; returns its number.
pub(crate) async fn roll_out(
    daemon: &Arc<Daemon>,
    environment: &EnvironmentHandle,
    change: Change,
    events: &EventSink,
) -> Result<u64, ApiError> {
    match begin(daemon, environment, change).await {
        Ok(begun) => begun.follow(environment, events).await,
        Err(NotBegun::Refused(error)) => Err(error),
        Err(NotBegun::Ended) => Err(ended(environment).await),
    }
}

/// Why a rollout did not begin. Nothing was changed.
enum NotBegun {
    Refused(ApiError),
    /// The environment's task has ended meanwhile.
    Ended,
}

/// A rollout that is on disk.
struct Begun {
    number: u64,
    jobs: Jobs,
    revision: u64,
    /// What was seen before it.
    last: Arc<Snapshot>,
}

/// Makes a release and has the environment move to it.
async fn begin(
    daemon: &Arc<Daemon>,
    environment: &EnvironmentHandle,
    change: Change,
) -> Result<Begun, NotBegun> {
    // Reads and writes the database, which may be locked for seconds.
    block_in_place(|| lease(daemon, environment, &change.release)).map_err(NotBegun::Refused)?;
    let Change {
        release,
        scale,
        jobs,
        cause,
        by,
        databases,
    } = change;
    let watch = match cause {
        Cause::Up => Watch::Yes,
        Cause::Restart { .. } | Cause::Rollback { .. } => Watch::No,
    };
    let record = Record {
        cause,
        by,
        started_at: Some(SystemTime::now()),
        ..Record::default()
    };
    let last = environment.snapshot();
    let wish = Move {
        release,
        record,
        scale,
        jobs,
        watch,
        databases,
    };
    match environment.command(Command::RollOut(Box::new(wish))).await {
        Ok(Written { revision, release }) => Ok(Begun {
            number: release.unwrap_or_default(),
            jobs,
            revision,
            last,
        }),
        Err(NotDone::Ended) => Err(NotBegun::Ended),
        Err(error) => Err(NotBegun::Refused(not_done(&environment.id, error))),
    }
}

impl Begun {
    /// Tells what happens until the release serves, and returns its number.
    async fn follow(
        self,
        environment: &EnvironmentHandle,
        events: &EventSink,
    ) -> Result<u64, ApiError> {
        let Self {
            number,
            jobs,
            revision,
            mut last,
        } = self;
        let id = &environment.id;
        let mut watch = environment.watch();
        let mut teller = Teller::default();
        let mut aborted = false;
        let mut done = BTreeSet::new();
        loop {
            let next = watch.borrow_and_update().clone();
            tell(&mut teller, &last, &next, events);
            last = next;
            let rollout = last.desired.rollout.as_ref();
            let rollout = rollout.filter(|rollout| rollout.to == number);
            if let (Some(rollout), Jobs::Run) = (rollout, jobs) {
                done.clone_from(&rollout.jobs_done);
            }
            if last.gone.is_some() {
                return Err(gone(id));
            }
            let serves = last.desired.current == Some(number);
            if serves && last.desired.rollout.is_none() {
                return Ok(number);
            }
            if let Some(failure) = stopped(&last.desired, number) {
                return Err(stands_still(failure, id));
            }
            if last.revision >= revision && !serves && rollout.is_none() {
                tell_what_stays(&done, events);
                return Err(ended_early(&last, id));
            }
            if events.cancellation().is_cancelled() && !aborted {
                aborted = true;
                match environment.command(Command::Abort).await {
                    // Too late, or gone: the loop finds out what it came to.
                    Ok(_) | Err(NotDone::Refused(_) | NotDone::Ended) => {}
                    Err(error @ NotDone::NotWritten(_)) => {
                        return Err(not_done(id, error).with_hint("the rollout goes on"));
                    }
                }
            }
            if !changed(&mut watch, if aborted { None } else { Some(events) }).await {
                return Err(daemon_ends(id));
            }
        }
    }
}

/// A release that goes back leaves what its jobs have done: the one before must run with it.
fn tell_what_stays(done: &BTreeSet<JobId>, events: &EventSink) {
    if done.is_empty() {
        return;
    }
    let jobs: Vec<String> = done
        .iter()
        .map(|job| match job.hook {
            Some(_) => format!("pre_start of {}", job.service),
            None => job.service.to_string(),
        })
        .collect();
    events.emit(Event::Warning {
        message: format!(
            "jobs of the release that failed have run and cannot be undone: {}",
            jobs.join(", ")
        ),
        hint: Some("the release before runs with what they changed (migrations)".to_owned()),
    });
}

/// Why the rollout to this release waits for a person.
fn stopped(desired: &Desired, number: u64) -> Option<&Failure> {
    let rollout = desired
        .rollout
        .as_ref()
        .filter(|rollout| rollout.to == number)?;
    rollout.pause.as_ref()?.failure.as_ref()
}

fn stands_still(failure: &Failure, id: &EnvironmentId) -> ApiError {
    let message = format!(
        "the rollout of {id} failed at service `{}` and stands still, as `on_failure: pause` asks",
        failure.service
    );
    ApiError::new(ErrorCode::RolledBack, message).with_hint(
        "`havre abort` goes back to the release before; `havre resume` goes on, come what may",
    )
}

/// Why a rollout is no longer there though its release does not serve.
fn ended_early(last: &Snapshot, id: &EnvironmentId) -> ApiError {
    let desired = &last.desired;
    let served = match desired.current {
        Some(number) => format!("release {number} serves on"),
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

/// Sends what happened between two snapshots, the report of a failure first.
fn tell(teller: &mut Teller, last: &Snapshot, next: &Snapshot, events: &EventSink) {
    if let Some(report) = &next.failure
        && last.failure.as_ref() != Some(report)
        && !next.desired.rollout.as_ref().is_some_and(|rollout| {
            rollout
                .failure()
                .is_some_and(|failure| failure.kind == FailureKind::Aborted)
        })
    {
        events.emit(Event::Failure {
            report: Box::new(report.as_ref().clone()),
        });
    }
    for problem in next
        .problems
        .iter()
        .filter(|problem| !last.problems.contains(problem))
    {
        events.emit(Event::Warning {
            message: problem.clone(),
            hint: None,
        });
    }
    for event in teller.events(last, next) {
        events.emit(event);
    }
}

/// Waits for the next snapshot, or a wish to cancel; `false` when the task has ended.
async fn changed(
    watch: &mut tokio::sync::watch::Receiver<Arc<Snapshot>>,
    events: impl Into<Option<&EventSink>>,
) -> bool {
    match events.into() {
        Some(events) => tokio::select! {
            changed = watch.changed() => changed.is_ok(),
            () = events.cancellation().cancelled() => true,
        },
        None => watch.changed().await.is_ok(),
    }
}

/// The right to change an environment, while it lasts.
pub(crate) struct Held {
    _guard: tokio::sync::OwnedMutexGuard<()>,
    holder: Arc<std::sync::Mutex<Option<Holder>>>,
}

/// Who changes an environment.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    what: &'static str,
    by: Option<String>,
    since: SystemTime,
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Waits until no other operation changes the environment; tells for which.
pub(crate) async fn hold(
    environment: &EnvironmentHandle,
    what: &'static str,
    by: Option<&str>,
    events: &EventSink,
) -> Result<Held, ApiError> {
    let lock = Arc::clone(&environment.operation);
    let holder = Arc::clone(&environment.holder);
    let guard = match Arc::clone(&lock).try_lock_owned() {
        Ok(guard) => guard,
        Err(_) => {
            events.emit(Event::Phase {
                phase: ApiPhase::Queue,
            });
            let other = holder
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(other) = other {
                events.emit(Event::Warning {
                    message: other.sentence(),
                    hint: None,
                });
            }
            tokio::select! {
                guard = lock.lock_owned() => guard,
                () = events.cancellation().cancelled() => {
                    return Err(cancelled("nothing was changed"));
                }
            }
        }
    };
    *holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(Holder {
        what,
        by: by.map(str::to_owned),
        since: SystemTime::now(),
    });
    Ok(Held {
        _guard: guard,
        holder,
    })
}

impl Holder {
    fn sentence(&self) -> String {
        let by = self.by.as_deref().unwrap_or("somebody");
        let seconds = elapsed_ms(self.since) / 1000;
        format!(
            "waiting for `{}` of {by}, under way for {seconds} s",
            self.what
        )
    }
}

/// Hands a command to the environment's task; it is on disk when this returns, or nothing has
/// changed.
pub(crate) async fn command(
    environment: &EnvironmentHandle,
    command: Command,
) -> Result<Written, ApiError> {
    match environment.command(command).await {
        Ok(written) => Ok(written),
        Err(NotDone::Ended) => Err(ended(environment).await),
        Err(error) => Err(not_done(&environment.id, error)),
    }
}

fn not_done(id: &EnvironmentId, error: NotDone) -> ApiError {
    let conflict = |message: String| ApiError::new(ErrorCode::Conflict, message);
    match error {
        NotDone::NotWritten(error) => {
            let message = format!("the state of {id} cannot be written: nothing was changed");
            ApiError::new(ErrorCode::Failed, message)
                .caused_by(Some(&error))
                .with_hint("`df -h` shows whether the disk is full")
        }
        NotDone::Refused(Refusal::NothingMoves) => {
            conflict(format!("no rollout of {id} is under way"))
        }
        NotDone::Refused(Refusal::TooLate) => conflict(format!(
            "the rollout of {id} has come too far: it is decided which release serves"
        ))
        .with_hint("`havre status` tells which; `havre rollback` goes back from there"),
        NotDone::Refused(Refusal::PausedAlready) => {
            conflict(format!("the rollout of {id} is paused already"))
        }
        NotDone::Refused(Refusal::NotPaused) => {
            conflict(format!("the rollout of {id} is not paused"))
        }
        NotDone::Ended => daemon_ends(id),
    }
}

/// Why an environment's task takes no commands any more.
async fn ended(environment: &EnvironmentHandle) -> ApiError {
    match environment.is_gone().await {
        true => gone(&environment.id),
        false => daemon_ends(&environment.id),
    }
}

pub(crate) fn serving<'a>(
    snapshot: &'a Snapshot,
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
            let known: Vec<&str> = release.services.keys().map(ServiceName::as_str).collect();
            return Err(
                ApiError::new(ErrorCode::NotFound, format!("no service `{name}`"))
                    .with_hint(format!("services: {}", known.join(", "))),
            );
        }
    }
    Ok(names.iter().cloned().collect())
}

/// A restart by hand is no part of the files: without this, the next `up` would undo it by
/// replacing the replicas once more.
pub(crate) fn keep_restarts(release: &mut Release, serving: Option<&Release>) {
    let counts: BTreeMap<&ServiceName, u64> = serving
        .into_iter()
        .flat_map(|serving| &serving.services)
        .map(|(name, service)| (name, service.restarts()))
        .collect();
    for (name, service) in &mut release.services {
        service.set_restarts(counts.get(name).copied().unwrap_or(0));
    }
    release.follow();
}

fn cancelled(state: &str) -> ApiError {
    ApiError::new(ErrorCode::Cancelled, format!("cancelled; {state}"))
}

fn superseded(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("another operation changed {id}"),
    )
}

fn daemon_ends(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Unavailable,
        format!("the daemon ends; the next one goes on with {id}"),
    )
}

fn gone(id: &EnvironmentId) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("{id} was taken down meanwhile"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_counts_as_removed_where_that_was_carried_out() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all = || BTreeSet::from(["data".to_owned(), "uploads".to_owned()]);
        let remove_volumes = all();
        let down = Intent::Down { remove_volumes };
        let fate = fate_of_volumes(all(), &down, |name| name == "data");
        assert_eq!(fate, (names(&["uploads"]), names(&["data"])));
        // A later `down` without `--volumes` was the last word.
        let spare = Intent::Down {
            remove_volumes: BTreeSet::new(),
        };
        let fate = fate_of_volumes(all(), &spare, |_| false);
        assert_eq!(fate, (names(&[]), names(&["data", "uploads"])));
        // One of before, whose release this `down` has not seen.
        let fate = fate_of_volumes(BTreeSet::new(), &down, |_| false);
        assert_eq!(fate, (names(&["data", "uploads"]), names(&[])));
    }
}
