//! Jobs of a run that are run again; what they came to before is kept.

use std::collections::HashSet;
use std::fmt;

use super::step::settle;
use super::{
    Definition, Earlier, Effect, JobResult, JobRun, JobState, LegResult, LegState, Millis, Run,
};

/// Most attempts of a run; GitHub's bound.
pub const MAX_ATTEMPTS: u32 = 50;

/// What is run again, with all that needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// Everything.
    All,
    /// What failed or was cancelled; of a matrix, only those legs. Of a cancelled run, also what was skipped.
    Failed,
    /// One job, with all its legs.
    Job(String),
}

/// Why nothing is run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This job would be run again, and has not ended.
    Running(String),
    /// There is no such job.
    NoSuchJob(String),
    /// Nothing failed.
    NothingFailed,
    /// It was run [`MAX_ATTEMPTS`] times.
    TooManyAttempts,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(job) => write!(f, "job `{job}` has not ended: cancel the run, or wait"),
            Self::NoSuchJob(job) => write!(f, "there is no job `{job}`"),
            Self::NothingFailed => f.write_str("nothing failed: say which job, or all"),
            Self::TooManyAttempts => write!(f, "a run has {MAX_ATTEMPTS} attempts at most"),
        }
    }
}

/// Runs jobs again as one more attempt, also while others run.
pub fn rerun(
    run: &Run,
    of: &Definition<'_>,
    now: Millis,
    what: &Again,
) -> Result<(Run, Vec<Effect>), Refusal> {
    if run.attempt >= MAX_ATTEMPTS {
        return Err(Refusal::TooManyAttempts);
    }
    let chosen: HashSet<&str> = match what {
        Again::All => run.jobs.iter().map(|job| job.id.as_str()).collect(),
        Again::Failed => {
            let failed = run.jobs.iter().filter(|job| has_failed(run, job));
            failed.map(|job| job.id.as_str()).collect()
        }
        Again::Job(id) => match run.job(id) {
            Some(job) if job.result().is_none() => return Err(Refusal::Running(id.clone())),
            Some(job) => [job.id.as_str()].into(),
            None => return Err(Refusal::NoSuchJob(id.clone())),
        },
    };
    if chosen.is_empty() {
        return Err(Refusal::NothingFailed);
    }
    let behind = behind(&chosen, of);
    let again =
        |job: &&JobRun| chosen.contains(job.id.as_str()) || behind.contains(job.id.as_str());
    let mut affected = run.jobs.iter().filter(again);
    // What waits has nothing to run again.
    let lives = |job: &&JobRun| job.result().is_none() && job.state != JobState::Waiting;
    if let Some(job) = affected.find(lives) {
        return Err(Refusal::Running(job.id.clone()));
    }
    if let (true, Some(job)) = (run.cancelled, run.jobs.iter().find(lives)) {
        return Err(Refusal::Running(job.id.clone()));
    }
    let mut next = run.clone();
    next.attempt += 1;
    next.cancelled = false;
    for job in &mut next.jobs {
        let is_behind = behind.contains(job.id.as_str());
        // What nobody asked for runs once somebody does.
        let is_named = *what == Again::Job(job.id.clone());
        if job.state == JobState::NotAsked && !is_named {
            continue;
        }
        if job.state == JobState::Waiting || !(is_behind || chosen.contains(job.id.as_str())) {
            continue;
        }
        let legs_only = *what == Again::Failed && !is_behind;
        let state = match &job.state {
            JobState::Begun {
                fail_fast,
                max_parallel,
                legs,
            } if legs_only => {
                let mut legs = legs.clone();
                for leg in &mut legs {
                    let succeeded = matches!(
                        leg.state,
                        LegState::Ended {
                            result: LegResult::Success,
                            ..
                        }
                    );
                    if !succeeded {
                        leg.state = LegState::Queued;
                        leg.attempt = next.attempt;
                    }
                }
                JobState::Begun {
                    fail_fast: *fail_fast,
                    max_parallel: *max_parallel,
                    legs,
                }
            }
            _ => JobState::Waiting,
        };
        job.earlier.push(Earlier {
            attempt: run.attempt,
            state: std::mem::replace(&mut job.state, state),
        });
    }
    let before = run.due();
    settle(&mut next, of, now);
    let mut due = next.due();
    due.retain(|effect| !before.contains(effect));
    Ok((next, due))
}

fn has_failed(run: &Run, job: &JobRun) -> bool {
    match job.result() {
        Some(JobResult::Failure | JobResult::Cancelled) => true,
        Some(JobResult::Skipped) => run.cancelled,
        Some(JobResult::Success) | None => false,
    }
}

/// All that needs one of these, directly or not.
fn behind<'w>(chosen: &HashSet<&str>, of: &Definition<'w>) -> HashSet<&'w str> {
    let mut found: HashSet<&str> = HashSet::new();
    loop {
        let jobs = of.workflow.jobs.values();
        let more: Vec<&str> = jobs
            .filter(|job| {
                let mut needs = job.needs.iter().map(|need| need.value.as_str());
                needs.any(|need| chosen.contains(need) || found.contains(need))
            })
            .map(|job| job.id.value.as_str())
            .filter(|id| !found.contains(id))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}
