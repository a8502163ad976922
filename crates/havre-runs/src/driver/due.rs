//! What is due for a leg, by how far it is.

use std::collections::HashMap;
use std::sync::Arc;

use havre_pipeline::run::{Conclusion, Event, LegResult, LegState};
use havre_pipeline::{Answer, call as calls};

use super::tasks::{Kind, Stop, TaskKey, Tasks};
use super::{boxed, call, leg_task};
use crate::book::{Book, Inner, LegEnd, Wait, key};
use crate::error::RunsError;
use crate::ports::{LegKey, RunId};
use havre_workflow::Work;

const RESTARTED: &str = "its box is gone: the machine was restarted while it ran; run it again";

/// How far a leg is, as far as something can be due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Running,
    Cancelling,
}

fn stage(state: &LegState) -> Option<Stage> {
    match state {
        LegState::Starting => Some(Stage::Starting),
        LegState::Running { .. } => Some(Stage::Running),
        LegState::Cancelling { .. } => Some(Stage::Cancelling),
        LegState::Queued | LegState::Entering { .. } | LegState::Ended { .. } => None,
    }
}

struct Leg {
    key: LegKey,
    stage: Stage,
    entered: bool,
    forced: bool,
    calls: bool,
}

fn legs(book: &Book) -> Vec<Leg> {
    let mut found = Vec::new();
    for (run, live) in &book.live {
        let change = &live.row.change;
        for (id, leg) in change.state.legs() {
            let Some(stage) = stage(&leg.state) else {
                continue;
            };
            let job = live.defined.workflow.jobs.get(&id.job);
            let calls = job.is_some_and(|job| matches!(job.work, Work::Call(_)));
            found.push(Leg {
                key: key(*run, id),
                stage,
                entered: change.entered,
                forced: change.forced,
                calls,
            });
        }
    }
    found
}

/// Does what is due for each leg; whether a run changed by it.
pub(super) fn settle(
    inner: &Arc<Inner>,
    book: &mut Book,
    tasks: &mut Tasks,
) -> Result<bool, RunsError> {
    let mut changed = false;
    for leg in legs(book) {
        changed |= match leg.calls {
            true => calling(inner, book, tasks, &leg)?,
            false => boxing(inner, book, tasks, &leg)?,
        };
    }
    Ok(changed)
}

fn boxing(
    inner: &Arc<Inner>,
    book: &mut Book,
    tasks: &mut Tasks,
    leg: &Leg,
) -> Result<bool, RunsError> {
    let (gate, boxed) = (
        leg_task(Kind::Gate, &leg.key),
        leg_task(Kind::Box, &leg.key),
    );
    if leg.stage == Stage::Cancelling {
        tasks.stop(
            &boxed,
            match leg.forced {
                true => Stop::AtOnce,
                false => Stop::Softly,
            },
        );
    }
    if tasks.has(&boxed) {
        return Ok(false);
    }
    if book.there.contains(&leg.key) {
        follow(inner, tasks, boxed, &leg.key);
        return Ok(false);
    }
    match leg.stage {
        Stage::Starting if leg.entered && !book.ready.contains(&leg.key) => {
            let (inner, key) = (inner.clone(), leg.key.clone());
            tasks.spawn(gate, |_| boxed::gate(inner, key));
            Ok(false)
        }
        Stage::Starting => Ok(false),
        Stage::Running => inner.finish(book, &leg.key, LegEnd::failed(RESTARTED)),
        Stage::Cancelling if tasks.has(&gate) => {
            tasks.abort(&gate);
            Ok(false)
        }
        Stage::Cancelling => inner.finish(book, &leg.key, LegEnd::cancelled()),
    }
}

fn follow(inner: &Arc<Inner>, tasks: &mut Tasks, task: TaskKey, key: &LegKey) {
    let (inner, key) = (inner.clone(), key.clone());
    tasks.spawn(task, |stop| boxed::drive(inner, key, stop, true));
}

/// Starts legs whose gates are open, as many as may be at all and of a project: of the project first that has the
/// fewest. What waits says for what.
pub(super) fn grant(inner: &Arc<Inner>, book: &mut Book, tasks: &mut Tasks) {
    let mut busy: HashMap<String, usize> = HashMap::new();
    let project =
        |book: &Book, run: RunId| book.live.get(&run).map(|live| live.row.project.clone());
    let mut all = 0;
    for key in tasks.boxes() {
        all += 1;
        *busy
            .entry(project(book, key.run).unwrap_or_default())
            .or_default() += 1;
    }
    let waiting = legs(book).into_iter().filter(|leg| {
        let is_ready = leg.stage == Stage::Starting && book.ready.contains(&leg.key);
        is_ready && !tasks.has(&leg_task(Kind::Box, &leg.key))
    });
    let mut waiting: Vec<(String, LegKey)> = waiting
        .filter_map(|leg| Some((project(book, leg.key.run)?, leg.key)))
        .collect();
    let settings = &inner.settings;
    let (most, share) = (settings.at_once.max(1), settings.per_project.max(1));
    while all < most {
        let has = |at: &usize| busy.get(&waiting[*at].0).copied().unwrap_or_default();
        let fewest = (0..waiting.len()).min_by_key(has);
        let Some(at) = fewest.filter(|at| has(at) < share) else {
            break;
        };
        let (project, key) = waiting.remove(at);
        book.waits.remove(&key);
        let task = leg_task(Kind::Box, &key);
        let inner = inner.clone();
        tasks.spawn(task.clone(), |stop| boxed::drive(inner, key, stop, false));
        if tasks.has(&task) {
            all += 1;
            *busy.entry(project).or_default() += 1;
        }
    }
    for (project, key) in waiting {
        let own = busy.get(&project).copied().unwrap_or_default();
        let why = match all >= most {
            true => format!("{all} jobs run on this machine, as many as may at once"),
            false => format!("{own} jobs of {project} run, as many as one project may at once"),
        };
        waits(book, key, why);
    }
}

fn waits(book: &mut Book, key: LegKey, why: String) {
    let wait = Wait { why, until: None };
    if book.waits.get(&key) == Some(&wait) {
        return;
    }
    if let Some(live) = book.live.get(&key.run) {
        live.changed.send_modify(|count| *count += 1);
    }
    book.waits.insert(key, wait);
}

fn calling(
    inner: &Arc<Inner>,
    book: &mut Book,
    tasks: &mut Tasks,
    leg: &Leg,
) -> Result<bool, RunsError> {
    let task = leg_task(Kind::Call, &leg.key);
    let called = book.called.get(&leg.key).copied();
    let called = called.filter(|run| book.live.contains_key(run));
    let Some(run) = called else {
        return match leg.stage {
            Stage::Starting if leg.entered => {
                let (inner, key) = (inner.clone(), leg.key.clone());
                tasks.spawn(task, |_| call::call(inner, key));
                Ok(false)
            }
            Stage::Starting => Ok(false),
            Stage::Running => inner.finish(
                book,
                &leg.key,
                LegEnd::failed("the run that it called is gone"),
            ),
            Stage::Cancelling if tasks.has(&task) => {
                tasks.abort(&task);
                Ok(false)
            }
            Stage::Cancelling => inner.finish(book, &leg.key, LegEnd::cancelled()),
        };
    };
    if let Some(end) = ended(book, run, leg) {
        return inner.finish(book, &leg.key, end);
    }
    match leg.stage {
        Stage::Starting => {
            inner.event(book, leg.key.run, None, Event::Started(leg.key.leg.clone()))
        }
        Stage::Running => Ok(false),
        Stage::Cancelling => {
            let entered = book
                .live
                .get(&run)
                .is_some_and(|live| live.row.change.entered);
            let at_once = leg.forced || !entered;
            inner.change(book, run, None, |change, of, now| {
                cancelled(change, of, now, at_once)
            })
        }
    }
}

/// A run that is cancelled; where it was already, nothing changes.
pub(crate) fn cancelled(
    mut change: crate::row::Change,
    of: &havre_pipeline::run::Definition<'_>,
    now: u64,
    at_once: bool,
) -> crate::row::Change {
    let event = match at_once {
        true => Event::CancelAtOnce,
        false => Event::Cancel,
    };
    change.forced |= at_once;
    change.state = havre_pipeline::run::step(change.state, of, now, event).0;
    change
}

/// How a leg ends whose called run ended.
fn ended(book: &Book, run: RunId, leg: &Leg) -> Option<LegEnd> {
    let live = book.live.get(&run)?;
    let result = match live.row.change.conclusion()? {
        Conclusion::Success | Conclusion::Skipped => LegResult::Success,
        Conclusion::Failure => LegResult::Failure,
        Conclusion::Cancelled => LegResult::Cancelled,
    };
    let interface = live.defined.workflow.on.workflow_call.as_ref();
    let outputs = interface
        .map(|interface| calls::outputs(interface, &live.row.change.state, &live.defined.known));
    let why = live.row.change.why.clone();
    Some(match outputs {
        None => LegEnd {
            result,
            outputs: Vec::new(),
            why,
        },
        Some(Answer::Known(outputs)) => LegEnd {
            result,
            outputs,
            why,
        },
        Some(Answer::Waits(names)) => LegEnd::failed(format!(
            "outputs of the called workflow: nobody knows {}",
            names.join(", ")
        )),
        Some(Answer::Wrong(why)) => {
            LegEnd::failed(format!("outputs of the called workflow: {why}"))
        }
    })
    .filter(|_| leg.stage != Stage::Starting)
}
