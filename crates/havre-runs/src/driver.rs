//! The driver: looks at all that did not end, and does what is due. Nothing is due because of what it did before, but
//! of how things are, so that it may end between any two lines, and another go on.

mod boxed;
mod call;
mod due;
mod feed;
mod groups;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use havre_pipeline::run::Event;
use tokio_util::sync::CancellationToken;

use crate::book::{Book, Inner, is_under_way};
use crate::error::RunsError;
use tasks::{Kind, TaskKey, Tasks};

pub(crate) use due::cancelled;
pub(crate) use feed::refresh;

/// How long nothing is looked at where nothing happens: clocks may be set.
const LOOK: u64 = 30_000;
/// How long it is waited after something could not be done.
const AGAIN: Duration = Duration::from_secs(5);
/// How often what is kept is looked through.
const CLEAN: u64 = 3_600_000;

/// Drives until told to stop; boxes go on.
pub(crate) async fn drive(inner: Arc<Inner>, stop: CancellationToken) -> Result<(), RunsError> {
    let Ok(_driver) = inner.driver.try_lock() else {
        return Err(RunsError::Refused("runs are driven already".to_owned()));
    };
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = recover(&inner) => {}
    }
    let mut tasks = Tasks::new();
    let mut clean_ms = 0;
    loop {
        let now = inner.now();
        if clean_ms <= now {
            clean_ms = now + CLEAN;
            tasks.spawn(TaskKey::Clean, |_| crate::clean::clean(inner.clone()));
        }
        let wake = match pass(&inner, &mut tasks) {
            Ok(wake) => wake.min(clean_ms),
            Err(error) if inner.settings.gives_up => return Err(error),
            Err(error) => {
                tracing::error!(
                    error = havre_base::one_line(&error),
                    "what is due cannot be done"
                );
                now + AGAIN.as_millis() as u64
            }
        };
        let pause = wake.saturating_sub(inner.now()).clamp(1, LOOK);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = inner.poke.notified() => {}
            ended = tasks.ended(&inner) => ended?,
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
        }
    }
}

/// What is there of boxes is followed, or belongs to nothing any more.
async fn recover(inner: &Arc<Inner>) {
    let there = inner.ports.legs.there().await;
    let mut orphans = Vec::new();
    {
        let mut book = inner.book();
        for key in there {
            let state = book.leg_state(&key);
            match state.is_some_and(is_under_way) {
                true => {
                    book.there.insert(key);
                }
                false => orphans.push(key),
            }
        }
    }
    for key in orphans {
        tracing::info!(leg = %key, "removing what is left of a leg");
        inner.ports.legs.remove(&key).await;
    }
}

/// Does what is due; when to look again if nothing happens, in milliseconds since 1970.
fn pass(inner: &Arc<Inner>, tasks: &mut Tasks) -> Result<u64, RunsError> {
    let mut book = inner.book();
    let now = inner.now();
    // Each round ends something, or lets something in: it comes to an end.
    loop {
        let mut changed = tick(inner, &mut book, now)?;
        changed |= groups::settle(inner, &mut book)?;
        changed |= due::settle(inner, &mut book, tasks)?;
        if !changed {
            break;
        }
    }
    due::grant(inner, &mut book, tasks);
    sweep(&mut book, tasks);
    let feeds = book.outbox || book.schedule_ms.is_some_and(|at| at <= now);
    if feeds && inner.settings.starts_by_itself {
        tasks.spawn(TaskKey::Feed, |_| feed::feed(inner.clone()));
    }
    let deadlines = book
        .live
        .values()
        .filter_map(|live| live.row.change.state.deadline());
    let schedule = book
        .schedule_ms
        .filter(|at| *at > now && inner.settings.starts_by_itself);
    let wakes = deadlines.chain(schedule).chain(tasks.again_ms());
    Ok(wakes.min().unwrap_or(u64::MAX).min(now + LOOK))
}

fn tick(inner: &Inner, book: &mut Book, now: u64) -> Result<bool, RunsError> {
    let late = book.live.values().filter(|live| {
        let deadline = live.row.change.state.deadline();
        deadline.is_some_and(|deadline| deadline <= now)
    });
    let late: Vec<_> = late.map(|live| live.row.id).collect();
    let mut changed = false;
    for run in late {
        changed |= inner.event(book, run, None, Event::Tick)?;
    }
    Ok(changed)
}

/// Lets go of runs that ended, with all that were called for them, once their boxes are gone.
fn sweep(book: &mut Book, tasks: &Tasks) {
    let ended = book
        .live
        .values()
        .filter(|live| live.row.parent.is_none() && live.row.change.conclusion().is_some());
    let ended: Vec<_> = ended.map(|live| live.row.id).collect();
    for root in ended {
        let family = book.live.values().filter(|live| live.row.root == root);
        let family: Vec<_> = family.map(|live| live.row.id).collect();
        let busy = |key: &TaskKey| match key {
            TaskKey::Leg(_, leg) => family.contains(&leg.run),
            TaskKey::Feed | TaskKey::Clean => false,
        };
        if tasks.any(busy) {
            continue;
        }
        book.live.retain(|id, _| !family.contains(id));
        book.called.retain(|_, run| !family.contains(run));
    }
}

/// The task of a leg.
fn leg_task(kind: Kind, key: &crate::ports::LegKey) -> TaskKey {
    TaskKey::Leg(kind, key.clone())
}
