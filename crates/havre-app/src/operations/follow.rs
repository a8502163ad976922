//! Follows an environment's snapshots for those who watch an operation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use havre_api::{Event, EventSink};
use havre_model::ServiceName;
use havre_release::{FailureKind, ReplicaState, TargetStatus};

use crate::progress::EventDiff;
use crate::report::{self, not_ready_hint};

/// A port that opens later than this is worth a word, or than half of the time it has.
const SLOW_START: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sends what happened between two snapshots, the report of a failure first.
pub(super) fn emit_changes(
    diff: &mut EventDiff,
    last: &TargetStatus,
    next: &TargetStatus,
    events: &EventSink,
) {
    if let Some(evidence) = &next.failure
        && last.failure.as_ref() != Some(evidence)
        && !next.desired.rollout.as_ref().is_some_and(|rollout| {
            rollout
                .failure()
                .is_some_and(|failure| failure.kind == FailureKind::Aborted)
        })
    {
        events.emit(Event::Failure {
            report: Box::new(report::failure(evidence)),
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
    for event in diff.events(last, next) {
        events.emit(event);
    }
}

/// Services that are slow to open their ports, each reported once.
#[derive(Debug, Default)]
pub(super) struct SlowStarts {
    reported: BTreeSet<ServiceName>,
}

impl SlowStarts {
    /// Reports what those wait for that might wait until the rollout's end.
    pub(super) fn emit(&mut self, snapshot: &TargetStatus, events: &EventSink) {
        for replica in &snapshot.observed.replicas {
            let ReplicaState::Starting { since } = replica.state else {
                continue;
            };
            let one = snapshot.instances.iter().find(|one| one.id == replica.id);
            // A health check has deadlines of its own.
            let Some(one) = one.filter(|one| one.health.is_none()) else {
                continue;
            };
            let Some(release) = snapshot.release_of(one) else {
                continue;
            };
            let slow = SLOW_START.min(release.rollout.ready_timeout / 2);
            let elapsed = since.elapsed().unwrap_or_default();
            if elapsed < slow || self.reported.contains(&replica.service) {
                continue;
            }
            if let Some(hint) = not_ready_hint(one, release) {
                self.reported.insert(replica.service.clone());
                events.emit(Event::Warning {
                    message: format!(
                        "{} is not ready after {} s",
                        replica.service,
                        elapsed.as_secs()
                    ),
                    hint: Some(hint),
                });
            }
        }
    }
}

/// Waits for the next snapshot, a cancellation, or so long that something may have become slow;
/// `false` when the task has ended.
pub(super) async fn changed(
    watch: &mut tokio::sync::watch::Receiver<Arc<TargetStatus>>,
    events: &EventSink,
) -> bool {
    tokio::select! {
        changed = watch.changed() => changed.is_ok(),
        () = tokio::time::sleep(LOOK_EVERY) => true,
        () = events.cancellation().cancelled() => true,
    }
}
