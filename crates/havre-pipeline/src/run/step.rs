//! The only place where a run's state changes while it runs.

use std::collections::HashSet;

use havre_expressions::{Object, Value};

use super::{
    Cause, Definition, Effect, Event, GroupUse, JobResult, JobRun, JobState, LegId, LegResult,
    LegRun, LegState, Millis, Run,
};
use crate::known::{Answer, Before, Known};
use crate::plan::{self, Leg};

/// Most bytes of all outputs of a leg together; GitHub's.
pub const MAX_LEG_OUTPUTS: usize = 1 << 20;
/// Most bytes of all outputs of a run together: all of it is kept with every change. GitHub's is larger.
pub const MAX_RUN_OUTPUTS: usize = 16 << 20;
/// Milliseconds of a minute.
const MINUTE: f64 = 60_000.0;

/// A run that begins, and what is due.
pub fn begin(of: &Definition<'_>, now: Millis) -> (Run, Vec<Effect>) {
    begin_where(of, now, |_| true)
}

/// A run of these jobs, and of all that they need, directly or not; names that no job has change nothing.
pub fn begin_only(of: &Definition<'_>, jobs: &[String], now: Millis) -> (Run, Vec<Effect>) {
    let mut asked: HashSet<&str> = HashSet::new();
    let mut left: Vec<&str> = jobs.iter().map(String::as_str).collect();
    while let Some(id) = left.pop() {
        if asked.insert(id)
            && let Some(job) = of.job(id)
        {
            left.extend(job.needs.iter().map(|need| need.value.as_str()));
        }
    }
    begin_where(of, now, |id| asked.contains(id))
}

fn begin_where(
    of: &Definition<'_>,
    now: Millis,
    asked: impl Fn(&str) -> bool,
) -> (Run, Vec<Effect>) {
    let jobs = of.workflow.jobs.keys().map(|id| JobRun {
        id: id.clone(),
        state: match asked(id) {
            true => JobState::Waiting,
            false => JobState::NotAsked,
        },
        earlier: Vec::new(),
    });
    let mut run = Run {
        attempt: 1,
        cancelled: false,
        jobs: jobs.collect(),
        ended: 0,
    };
    settle(&mut run, of, now);
    let due = run.due();
    (run, due)
}

/// What becomes of a run when something happens, and what is newly due.
pub fn step(mut run: Run, of: &Definition<'_>, now: Millis, event: Event) -> (Run, Vec<Effect>) {
    if run.conclusion().is_some() {
        return (run, Vec::new());
    }
    let before = run.due();
    match event {
        Event::Tick => {}
        Event::Admitted(id) => change(&mut run, &id, |leg| match leg.state {
            LegState::Entering { .. } => leg.state = LegState::Starting,
            LegState::Queued
            | LegState::Starting
            | LegState::Running { .. }
            | LegState::Cancelling { .. }
            | LegState::Ended { .. } => {}
        }),
        Event::Started(id) => change(&mut run, &id, |leg| match leg.state {
            LegState::Starting => leg.state = LegState::Running { since: now },
            LegState::Queued
            | LegState::Entering { .. }
            | LegState::Running { .. }
            | LegState::Cancelling { .. }
            | LegState::Ended { .. } => {}
        }),
        Event::Superseded(id) => {
            let mut ended = run.ended;
            change(&mut run, &id, |leg| {
                cancel(leg, Cause::Superseded, &mut ended)
            });
            run.ended = ended;
        }
        Event::Finished {
            leg,
            result,
            outputs,
        } => finish(&mut run, &leg, result, outputs),
        Event::Cancel => cancel_run(&mut run, of),
        Event::CancelAtOnce => cancel_at_once(&mut run),
    }
    time_out(&mut run, now);
    settle(&mut run, of, now);
    let mut due = run.due();
    due.retain(|effect| !before.contains(effect));
    (run, due)
}

/// Changes a leg, unless it belongs to another attempt or is not there.
fn change(run: &mut Run, id: &LegId, change: impl FnOnce(&mut LegRun)) {
    let job = run.jobs.iter_mut().find(|job| job.id == id.job);
    if let Some(JobRun {
        state: JobState::Begun { legs, .. },
        ..
    }) = job
        && let Some(leg) = legs
            .get_mut(id.index)
            .filter(|leg| leg.attempt == id.attempt)
    {
        change(leg);
    }
}

fn finish(run: &mut Run, id: &LegId, result: LegResult, outputs: Vec<(String, String)>) {
    let mut ended = run.ended;
    // What needs outputs that are not there must not go on as if they were empty.
    let size = size(&outputs);
    let (result, outputs) = match size > MAX_LEG_OUTPUTS || size > run.room_for_outputs() {
        true => (LegResult::Failure, Vec::new()),
        false => (result, outputs),
    };
    change(run, id, |leg| {
        let (result, cause) = match (&leg.state, result) {
            // It ended before it was cancelled.
            (LegState::Cancelling { .. }, LegResult::Success) => (LegResult::Success, None),
            (LegState::Cancelling { cause }, _) => (LegResult::Cancelled, Some(*cause)),
            (LegState::Starting | LegState::Running { .. }, result) => (result, None),
            (LegState::Queued | LegState::Entering { .. } | LegState::Ended { .. }, _) => return,
        };
        end(leg, result, cause, outputs, &mut ended);
    });
    run.ended = ended;
}

/// Bytes of outputs.
fn size(outputs: &[(String, String)]) -> usize {
    let sizes = outputs.iter().map(|(name, value)| name.len() + value.len());
    sizes.sum()
}

impl Run {
    /// Bytes of outputs that legs of it may still have, all together.
    pub fn room_for_outputs(&self) -> usize {
        let sizes = self.legs().map(|(_, leg)| match &leg.state {
            LegState::Ended { outputs, .. } => size(outputs),
            LegState::Queued
            | LegState::Entering { .. }
            | LegState::Starting
            | LegState::Running { .. }
            | LegState::Cancelling { .. } => 0,
        });
        MAX_RUN_OUTPUTS.saturating_sub(sizes.sum())
    }
}

fn end(
    leg: &mut LegRun,
    result: LegResult,
    cause: Option<Cause>,
    outputs: Vec<(String, String)>,
    ended: &mut u64,
) {
    leg.state = LegState::Ended {
        result,
        cause,
        outputs,
        order: *ended,
    };
    *ended += 1;
}

/// What runs is to end; what does not has ended.
fn cancel(leg: &mut LegRun, cause: Cause, ended: &mut u64) {
    match leg.state {
        LegState::Queued | LegState::Entering { .. } => {
            end(leg, LegResult::Cancelled, Some(cause), Vec::new(), ended);
        }
        LegState::Starting | LegState::Running { .. } => {
            leg.state = LegState::Cancelling { cause };
        }
        LegState::Cancelling { .. } | LegState::Ended { .. } => {}
    }
}

/// Jobs whose `if` holds for a cancelled run go on.
fn cancel_run(run: &mut Run, of: &Definition<'_>) {
    if std::mem::replace(&mut run.cancelled, true) {
        return;
    }
    let goes_on: Vec<bool> = run
        .jobs
        .iter()
        .map(|job| match (&job.state, of.job(&job.id)) {
            (JobState::Begun { .. }, Some(definition)) => {
                let mut known = of.known.clone();
                known.whole("needs", needs(run, of, &job.id));
                let holds = known.condition(definition.condition.as_ref(), Before::Cancelled);
                holds == Answer::Known(true)
            }
            _ => true,
        })
        .collect();
    let mut ended = run.ended;
    for (job, goes_on) in run.jobs.iter_mut().zip(goes_on) {
        if let (JobState::Begun { legs, .. }, false) = (&mut job.state, goes_on) {
            for leg in legs {
                cancel(leg, Cause::Requested, &mut ended);
            }
        }
    }
    run.ended = ended;
}

/// Nothing goes on, and nothing begins, whatever its `if` says.
fn cancel_at_once(run: &mut Run) {
    run.cancelled = true;
    let mut ended = run.ended;
    for job in &mut run.jobs {
        match &mut job.state {
            JobState::Waiting => job.state = JobState::Skipped,
            JobState::Begun { legs, .. } => {
                for leg in legs {
                    cancel(leg, Cause::Requested, &mut ended);
                }
            }
            JobState::Skipped | JobState::NotAsked | JobState::Broken(_) => {}
        }
    }
    run.ended = ended;
}

fn time_out(run: &mut Run, now: Millis) {
    let legs = run.jobs.iter_mut().filter_map(|job| match &mut job.state {
        JobState::Begun { legs, .. } => Some(legs),
        JobState::Waiting | JobState::Skipped | JobState::NotAsked | JobState::Broken(_) => None,
    });
    for leg in legs.flatten() {
        if leg.deadline().is_some_and(|deadline| deadline <= now) {
            let cause = Cause::TimedOut;
            leg.state = LegState::Cancelling { cause };
        }
    }
}

/// Decides all that can be decided by now.
pub(super) fn settle(run: &mut Run, of: &Definition<'_>, now: Millis) {
    // What one job comes to may decide about those that need it; without circles, this ends.
    loop {
        let mut ended = run.ended;
        for job in &mut run.jobs {
            proceed(&mut job.state, &mut ended, now);
        }
        run.ended = ended;
        let ready = run.jobs.iter().position(|job| is_ready(run, of, job));
        let Some(at) = ready else {
            return;
        };
        let state = decide(run, of, &run.jobs[at].id);
        run.jobs[at].state = state;
    }
}

/// Ends legs that another's failure ends, and starts as many as may run.
fn proceed(state: &mut JobState, ended: &mut u64, now: Millis) {
    let JobState::Begun {
        fail_fast,
        max_parallel,
        legs,
    } = state
    else {
        return;
    };
    if *fail_fast && legs.iter().any(ends_others) {
        for leg in legs.iter_mut() {
            cancel(leg, Cause::FailFast, ended);
        }
    }
    let mut live = legs.iter().filter(|leg| leg.is_live()).count();
    for leg in legs {
        if leg.state == LegState::Queued && max_parallel.is_none_or(|most| live < most) {
            leg.state = match leg.group {
                Some(_) => LegState::Entering { since: now },
                None => LegState::Starting,
            };
            live += 1;
        }
    }
}

fn ends_others(leg: &LegRun) -> bool {
    let LegState::Ended { result, cause, .. } = &leg.state else {
        return false;
    };
    let failed = *result == LegResult::Failure || *cause == Some(Cause::TimedOut);
    failed && !leg.continue_on_error
}

fn is_ready(run: &Run, of: &Definition<'_>, job: &JobRun) -> bool {
    let Some(definition) = of.job(&job.id) else {
        return job.state == JobState::Waiting;
    };
    let has_ended = |id: &str| run.job(id).is_none_or(|need| need.result().is_some());
    job.state == JobState::Waiting && definition.needs.iter().all(|need| has_ended(&need.value))
}

/// What a job becomes whose needs have ended.
fn decide(run: &Run, of: &Definition<'_>, id: &str) -> JobState {
    let Some(job) = of.job(id) else {
        return JobState::Broken("the workflow has no such job".to_owned());
    };
    let mut known = of.known.clone();
    known.whole("needs", needs(run, of, id));
    match known.condition(job.condition.as_ref(), before(run, of, id)) {
        Answer::Known(true) => {}
        Answer::Known(false) => return JobState::Skipped,
        Answer::Waits(names) => return unknown("`if`", &names),
        Answer::Wrong(why) => return JobState::Broken(format!("`if`: {why}")),
    }
    let legs = match plan::legs(job, &known) {
        Answer::Known(legs) => legs,
        Answer::Waits(names) => return unknown("`strategy`", &names),
        Answer::Wrong(why) => return JobState::Broken(format!("`strategy`: {why}")),
    };
    let runs: Result<Vec<LegRun>, String> = legs
        .legs
        .into_iter()
        .map(|leg| queued(leg, run.attempt))
        .collect();
    match runs {
        Ok(runs) => JobState::Begun {
            fail_fast: legs.fail_fast,
            max_parallel: legs.max_parallel,
            legs: runs,
        },
        Err(why) => JobState::Broken(why),
    }
}

fn unknown(key: &str, names: &[String]) -> JobState {
    JobState::Broken(format!("{key}: nobody knows {}", names.join(", ")))
}

fn queued(leg: Leg, attempt: u32) -> Result<LegRun, String> {
    let group = match leg.group {
        None => None,
        Some(group) => Some(GroupUse {
            name: certain("`concurrency`", group.name)?,
            cancel_in_progress: certain("`cancel-in-progress`", group.cancel_in_progress)?,
            queue_all: group.queue_all,
        }),
    };
    let minutes = certain("`timeout-minutes`", leg.timeout)?;
    Ok(LegRun {
        name: certain("`name`", leg.name)?,
        attempt,
        matrix: leg.matrix,
        runs_on: certain("`runs-on`", leg.runs_on)?,
        environment: match leg.environment {
            Some(name) => Some(certain("`environment`", name)?),
            None => None,
        },
        // An empty name is no group.
        group: group.filter(|group| !group.name.is_empty()),
        continue_on_error: certain("`continue-on-error`", leg.continue_on_error)?,
        timeout: (minutes * MINUTE) as Millis,
        state: LegState::Queued,
    })
}

fn certain<T>(key: &str, answer: Answer<T>) -> Result<T, String> {
    match answer {
        Answer::Known(value) => Ok(value),
        Answer::Waits(names) => Err(format!("{key}: nobody knows {}", names.join(", "))),
        Answer::Wrong(why) => Err(format!("{key}: {why}")),
    }
}

/// How all that a job needs, directly or not, ended.
pub(super) fn before(run: &Run, of: &Definition<'_>, id: &str) -> Before {
    if run.cancelled {
        return Before::Cancelled;
    }
    let mut seen = HashSet::new();
    let mut pending = vec![id];
    let mut found = Before::Succeeded;
    while let Some(job) = pending.pop().and_then(|id| of.job(id)) {
        for need in &job.needs {
            if !seen.insert(need.value.as_str()) {
                continue;
            }
            pending.push(&need.value);
            match run.job(&need.value).and_then(JobRun::result) {
                Some(JobResult::Success) => {}
                Some(JobResult::Failure) => return Before::Failed,
                Some(JobResult::Cancelled | JobResult::Skipped) | None => {
                    found = Before::Incomplete;
                }
            }
        }
    }
    found
}

/// The context `needs` of a job.
pub(super) fn needs(run: &Run, of: &Definition<'_>, id: &str) -> Object {
    let needs = of
        .job(id)
        .map(|job| job.needs.as_slice())
        .unwrap_or_default();
    let needs = needs.iter().filter_map(|need| {
        let job = run.job(&need.value)?;
        let result = job.result().map(JobResult::word).unwrap_or_default();
        let outputs: Object = job.outputs().into_iter().collect();
        let entry: Object = [("result", Value::from(result)), ("outputs", outputs.into())]
            .into_iter()
            .collect();
        Some((need.value.as_str(), entry))
    });
    needs.collect()
}

impl Known {
    /// What a leg of a run knows of its job: `needs`, `matrix` and `strategy` beside the rest.
    pub fn of_leg(run: &Run, of: &Definition<'_>, id: &LegId) -> Self {
        let mut known = of.known.clone();
        known.whole("needs", needs(run, of, &id.job));
        let state = run.job(&id.job).map(|job| &job.state);
        if let Some(JobState::Begun {
            fail_fast,
            max_parallel,
            legs,
        }) = state
            && let Some(leg) = legs.get(id.index)
        {
            let place = plan::place(*fail_fast, *max_parallel, id.index, legs.len());
            known.whole("strategy", place);
            known.whole("matrix", leg.matrix.clone());
        }
        known
    }
}
