//! Makes a release, has the environment move to it and tells what happens until it serves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{ApiError, EnvironmentId, ErrorCode, Event, EventSink};
use havre_base::{in_place, one_line};
use havre_model::FoundDatabases;
use havre_release::{
    Analysis, Applied, ApplyError, Cause, Change, Desired, Failure, IN_TOTO, JobId, Jobs, Move,
    Origin, Record, Release, SLSA, Scale, TargetStatus,
};
use tokio::time::{Instant, timeout_at};

use super::follow::{SlowStarts, changed, emit_changes};
use super::refusals::{daemon_ends, ended, ended_early, gone, not_done, not_undone, stands_still};
use crate::daemon::Daemon;
use crate::handle::EnvironmentHandle;
use crate::leases::lease;
use crate::platform::Platform;
use crate::progress::EventDiff;
use crate::secrets::rotation;
use crate::volumes::owner::Nobodys;
use crate::{admission, domains, rivals, shared_networks};

/// How long the end of a rollout that the user gave up is waited for: replicas may take any time to
/// stop.
const UNDONE_WITHIN: Duration = Duration::from_secs(30);
/// How long a round of an environment's task may take at most.
const SHOWN: Duration = Duration::from_secs(10);

/// A release to move to.
pub(crate) struct NewRelease {
    pub(crate) release: Release,
    pub(crate) scale: Scale,
    pub(crate) jobs: Jobs,
    pub(crate) cause: Cause,
    pub(crate) by: String,
    /// Where it comes from, as far as that is known.
    pub(crate) origin: Option<Origin>,
    /// What was found where its services and those before write.
    pub(crate) databases: FoundDatabases,
}

/// Makes a release, moves to it and tells what happens; returns its number.
pub(crate) async fn roll_out(
    daemon: &Arc<Daemon>,
    environment: &EnvironmentHandle,
    new: NewRelease,
    events: &EventSink,
) -> Result<u64, ApiError> {
    match begin(daemon, environment, new).await {
        Ok(begun) => begun.follow(environment, events).await,
        Err(NotBegun::Refused(error)) => Err(error),
        Err(NotBegun::Ended) => Err(ended(environment).await),
    }
}

/// Why a rollout did not begin. Nothing was changed.
pub(super) enum NotBegun {
    Refused(ApiError),
    /// The environment's task has ended meanwhile.
    Ended,
}

/// A rollout that is on disk.
pub(super) struct Begun {
    number: u64,
    jobs: Jobs,
    revision: u64,
    /// What was seen before it.
    last: Arc<TargetStatus>,
}

/// Makes a release and has the environment move to it.
pub(super) async fn begin(
    daemon: &Arc<Daemon>,
    environment: &EnvironmentHandle,
    new: NewRelease,
) -> Result<Begun, NotBegun> {
    let _alone = daemon.beginning.lock().await;
    let services = new.release.services.iter();
    let services = services.map(|(name, config)| (name, &config.service));
    // What nobody had when it was asked for is taken by now.
    let volumes = &new.release.volumes;
    let allowed = admission::check(daemon, &environment.id, services, volumes, Nobodys::Refuse);
    allowed.await.map_err(NotBegun::Refused)?;
    let alone = rivals::check(daemon, &environment.id, &new.release, &new.databases).await;
    alone.map_err(NotBegun::Refused)?;
    let heard = domains::check_release(daemon, &environment.id, &new.release).await;
    heard.map_err(NotBegun::Refused)?;
    let current = in_place(|| rotation::check(&daemon.platform, &environment.id, &new.release));
    current.map_err(NotBegun::Refused)?;
    // Reads and writes the database, which may be locked for seconds.
    in_place(|| lease(&daemon.platform, environment, &new.release)).map_err(NotBegun::Refused)?;
    let networks = shared_networks::calls::make(daemon, &new.release);
    let _networks = networks.await.map_err(NotBegun::Refused)?;
    let NewRelease {
        release,
        scale,
        jobs,
        cause,
        by,
        origin,
        databases,
    } = new;
    let analysis = match cause {
        // What it runs is the same, what it runs with is not.
        Cause::Up | Cause::Rotation { .. } | Cause::Promotion { .. } => Analysis::Enabled,
        Cause::Restart { .. } | Cause::Rollback { .. } => Analysis::Skipped,
    };
    let record = Record {
        cause,
        by: Some(by),
        started_at: Some(SystemTime::now()),
        origin,
        ..Record::default()
    };
    let last = environment.status();
    // What a release of the same images would say has been said.
    let is_news = matches!(record.cause, Cause::Up | Cause::Promotion { .. });
    let told = is_news.then(|| (release.clone(), record.clone()));
    let moved = Move {
        release,
        record,
        scale,
        jobs,
        analysis,
        databases,
    };
    match environment.apply(Change::RollOut(Box::new(moved))).await {
        Ok(Applied {
            revision,
            release: Some(number),
        }) => {
            if let Some((release, record)) = told {
                in_place(|| attest(&daemon.platform, &environment.id, number, &release, &record));
            }
            shown(environment, revision).await;
            Ok(Begun {
                number,
                jobs,
                revision,
                last,
            })
        }
        // A move always makes one.
        Ok(Applied { release: None, .. }) => {
            let message = format!("no release of {} came of the move to it", environment.id);
            let error = ApiError::new(ErrorCode::Internal, message);
            Err(NotBegun::Refused(error))
        }
        Err(ApplyError::Ended) => Err(NotBegun::Ended),
        Err(error) => Err(NotBegun::Refused(not_done(&environment.id, error))),
    }
}

/// Says beside each image of a release where it comes from. The release does not wait for it: it keeps the same itself.
fn attest(
    platform: &Platform,
    id: &EnvironmentId,
    number: u64,
    release: &Release,
    record: &Record,
) {
    let version = env!("CARGO_PKG_VERSION");
    let statement = havre_release::provenance(id, number, release, record, version);
    let text = statement.to_string();
    let notes = [
        ("org.opencontainers.image.title", format!("{id} {number}")),
        ("in-toto.io/predicate-type", SLSA.to_owned()),
    ];
    let notes = notes.map(|(name, value)| (name.to_owned(), value)).into();
    let services = release.services.values();
    let images: BTreeSet<&str> = services.flat_map(|service| service.images()).collect();
    for image in images {
        let Ok(digest) = image.parse() else { continue };
        let attested = platform
            .images
            .attest(&digest, IN_TOTO, text.as_bytes(), &notes);
        if let Err(error) = attested {
            let error = one_line(&error);
            tracing::warn!(environment = %id, image, error, "nothing is said beside an image of where it comes from");
        }
    }
}

/// Waits until others see what was written.
async fn shown(environment: &EnvironmentHandle, revision: u64) {
    let mut watch = environment.watch();
    let shown = watch.wait_for(|snapshot| snapshot.revision >= revision);
    match tokio::time::timeout(SHOWN, shown).await {
        // One that has ended meanwhile says so to whoever follows it.
        Ok(Ok(_) | Err(_)) => {}
        Err(_) => tracing::warn!(environment = %environment.id, "is slow to take a release up"),
    }
}

impl Begun {
    /// Tells what happens until the release serves, and returns its number.
    pub(super) async fn follow(
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
        let mut diff = EventDiff::default();
        let mut slow = SlowStarts::default();
        // Until when its end is waited for, once it was given up.
        let mut aborted = None;
        let mut done = BTreeSet::new();
        loop {
            let next = watch.borrow_and_update().clone();
            emit_changes(&mut diff, &last, &next, events);
            slow.emit(&next, events);
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
                warn_of_finished_jobs(&done, events);
                return Err(ended_early(&last, id));
            }
            if events.cancellation().is_cancelled() && aborted.is_none() {
                aborted = Some(Instant::now() + UNDONE_WITHIN);
                match environment.apply(Change::Abort).await {
                    // Too late, or gone: the loop finds out what it came to.
                    Ok(_) | Err(ApplyError::Refused(_) | ApplyError::Ended) => {}
                    Err(error @ ApplyError::Persist(_)) => {
                        return Err(not_done(id, error).with_hint("the rollout continues"));
                    }
                }
            }
            let goes_on = match aborted {
                None => changed(&mut watch, events).await,
                Some(deadline) => match timeout_at(deadline, watch.changed()).await {
                    Ok(changed) => changed.is_ok(),
                    Err(_) => return Err(not_undone(&last, id)),
                },
            };
            if !goes_on {
                return Err(daemon_ends(id));
            }
        }
    }
}

/// A release that goes back leaves what its jobs have done: the one before must run with it.
fn warn_of_finished_jobs(done: &BTreeSet<JobId>, events: &EventSink) {
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
