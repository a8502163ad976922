//! Follows an environment's snapshots for those who watch an operation.

use std::sync::Arc;

use havre_api::{Event, EventSink};
use havre_release::FailureKind;

use crate::environment::Snapshot;
use crate::progress::Teller;

/// Sends what happened between two snapshots, the report of a failure first.
pub(super) fn tell(teller: &mut Teller, last: &Snapshot, next: &Snapshot, events: &EventSink) {
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
pub(super) async fn changed(
    watch: &mut tokio::sync::watch::Receiver<Arc<Snapshot>>,
    events: &EventSink,
) -> bool {
    tokio::select! {
        changed = watch.changed() => changed.is_ok(),
        () = events.cancellation().cancelled() => true,
    }
}
