//! A run: what became of each job, and what is to be done next.
//!
//! ```text
//! Run + Event ─► step ─► Run, and what of it is newly due: start, enter a group, cancel
//! ```
//!
//! What is due follows from the state alone ([`Run::due`]): whoever carries it out persists the run first, and after a
//! restart does again all that is due. Doing it twice must do no harm; events that come twice, or of an attempt that is
//! over, change nothing.

mod rerun;
mod step;
mod why;

use std::fmt;

use havre_expressions::Object;
use havre_workflow::{Job, Workflow};
use serde::{Deserialize, Serialize};

use crate::group::{Member, Stage};
use crate::known::Known;
use crate::serial;

pub use rerun::{Again, MAX_ATTEMPTS, Refusal, rerun};
pub use step::{MAX_LEG_OUTPUTS, MAX_RUN_OUTPUTS, begin, begin_only, step};
pub use why::why;

/// Milliseconds since any moment that stays the same as long as a run lasts.
pub type Millis = u64;

/// What a run runs: nothing of it is kept with the run.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'w> {
    /// The file, as it was when the run began.
    pub workflow: &'w Workflow,
    /// All contexts but `needs`, `matrix` and `strategy`.
    pub known: &'w Known,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// 1, and one more each time that jobs are run again.
    pub attempt: u32,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// In the order of the file.
    pub jobs: Vec<JobRun>,
    /// How many legs ended so far: the order of their outputs.
    ended: u64,
}

/// A job of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRun {
    /// Its key in the file.
    pub id: String,
    /// How far it is.
    pub state: JobState,
    /// How it was when an attempt began that ran it again, the oldest first.
    pub earlier: Vec<Earlier>,
}

/// How a job was in an earlier attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// The last attempt in which it was so.
    pub attempt: u32,
    /// How it was.
    pub state: JobState,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// What it needs has not ended.
    Waiting,
    /// Its `if` did not hold.
    Skipped,
    /// The run was begun for other jobs, which do not need it: it counts as skipped.
    NotAsked,
    /// It could not begin: why.
    Broken(String),
    /// It has legs; one, where it has no matrix.
    Begun {
        /// Whether the first that fails ends the others.
        fail_fast: bool,
        /// How many run at once, if there is a bound.
        max_parallel: Option<usize>,
        /// In the order of the matrix.
        legs: Vec<LegRun>,
    },
}

/// A leg of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegRun {
    /// What it is called.
    pub name: String,
    /// The attempt that it belongs to.
    pub attempt: u32,
    /// Its combination.
    #[serde(with = "serial")]
    pub matrix: Object,
    /// Labels of what it runs on; none where it calls a workflow.
    pub runs_on: Vec<String>,
    /// The environment that it deploys to.
    pub environment: Option<String>,
    /// What may not run beside it.
    pub group: Option<GroupUse>,
    /// Whether the run goes well even if it fails.
    pub continue_on_error: bool,
    /// How long it may run.
    pub timeout: Millis,
    /// How far it is.
    pub state: LegState,
}

/// A group that a run or a leg is in; see [`crate::group`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupUse {
    /// Its name.
    pub name: String,
    /// Whether it ends the one that runs.
    pub cancel_in_progress: bool,
    /// Whether those before it go on waiting.
    pub queue_all: bool,
}

/// How far a leg is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    /// Others of its job run, as many as may.
    Queued,
    /// It waits for its group.
    Entering {
        /// When it began to.
        since: Millis,
    },
    /// It is to start.
    Starting,
    /// It runs.
    Running {
        /// When it started.
        since: Millis,
    },
    /// It is to end.
    Cancelling {
        /// Why.
        cause: Cause,
    },
    /// It ended.
    Ended {
        /// How.
        result: LegResult,
        /// Why it was cancelled, if it was; why it could not start, if it could not.
        cause: Option<Cause>,
        /// Names and values.
        outputs: Vec<(String, String)>,
        /// Its place among all that ended.
        order: u64,
    },
}

/// Why a leg was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody cancelled the run.
    Requested,
    /// Another leg failed.
    FailFast,
    /// It took too long.
    TimedOut,
    /// A newer one of its group came.
    Superseded,
}

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegResult {
    /// All went well.
    Success,
    /// Something failed.
    Failure,
    /// It was cancelled.
    Cancelled,
}

/// How a job ended, as `needs.<job>.result` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// All legs went well, or may fail.
    Success,
    /// A leg failed.
    Failure,
    /// None failed, and one was cancelled.
    Cancelled,
    /// It did not run.
    Skipped,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// No job failed.
    Success,
    /// A job failed, or took too long.
    Failure,
    /// It was cancelled, or part of it gave way to a newer one.
    Cancelled,
    /// No job ran.
    Skipped,
}

/// A leg, named from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LegId {
    /// Its job.
    pub job: String,
    /// Its place in the matrix, from 0.
    pub index: usize,
    /// The attempt that it belongs to.
    pub attempt: u32,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A leg is let into its group.
    Admitted(LegId),
    /// A leg gives way to a newer one of its group, whether it waits or runs.
    Superseded(LegId),
    /// A leg runs.
    Started(LegId),
    /// A leg ended, by itself or because it was cancelled.
    Finished {
        /// Which.
        leg: LegId,
        /// How.
        result: LegResult,
        /// Names and values.
        outputs: Vec<(String, String)>,
    },
    /// Time passed.
    Tick,
    /// Somebody cancels the run; what asks for it by its `if` goes on.
    Cancel,
    /// Somebody cancels the run, and nothing goes on.
    CancelAtOnce,
}

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A leg asks to be let into its group; [`Event::Admitted`] or [`Event::Superseded`] follows.
    Enter(LegId, GroupUse),
    /// A leg is to be started, once its environment lets it; [`Event::Started`] follows, or [`Event::Finished`].
    Start(LegId),
    /// A leg is to be cancelled, whether or not it has started; [`Event::Finished`] follows in any case.
    Cancel(LegId, Cause),
}

impl Run {
    /// All that is due, whether or not it was said before.
    pub fn due(&self) -> Vec<Effect> {
        let mut due = Vec::new();
        for (id, leg) in self.legs() {
            match (&leg.state, &leg.group) {
                (LegState::Entering { .. }, Some(group)) => {
                    due.push(Effect::Enter(id, group.clone()))
                }
                (LegState::Starting, _) => due.push(Effect::Start(id)),
                (LegState::Cancelling { cause }, _) => due.push(Effect::Cancel(id, *cause)),
                (
                    LegState::Queued
                    | LegState::Entering { .. }
                    | LegState::Running { .. }
                    | LegState::Ended { .. },
                    _,
                ) => {}
            }
        }
        due
    }

    /// When a [`Event::Tick`] will change something, if nothing else happens.
    pub fn deadline(&self) -> Option<Millis> {
        let deadlines = self.legs().filter_map(|(_, leg)| leg.deadline());
        deadlines.min()
    }

    /// All legs there are so far.
    pub fn legs(&self) -> impl Iterator<Item = (LegId, &LegRun)> {
        self.jobs.iter().flat_map(|job| {
            let legs = job.legs().iter().enumerate();
            legs.map(|(index, leg)| {
                let id = LegId {
                    job: job.id.clone(),
                    index,
                    attempt: leg.attempt,
                };
                (id, leg)
            })
        })
    }

    /// How it ended, if it has.
    pub fn conclusion(&self) -> Option<Conclusion> {
        let results: Option<Vec<JobResult>> = self.jobs.iter().map(JobRun::result).collect();
        let results = results?;
        let timed_out = |(_, leg): (LegId, &LegRun)| match &leg.state {
            LegState::Ended { cause, .. } => {
                *cause == Some(Cause::TimedOut) && !leg.continue_on_error
            }
            LegState::Queued
            | LegState::Entering { .. }
            | LegState::Starting
            | LegState::Running { .. }
            | LegState::Cancelling { .. } => false,
        };
        Some(if self.cancelled {
            Conclusion::Cancelled
        } else if results.contains(&JobResult::Failure) || self.legs().any(timed_out) {
            Conclusion::Failure
        } else if results.contains(&JobResult::Cancelled) {
            Conclusion::Cancelled
        } else if results.contains(&JobResult::Success) {
            Conclusion::Success
        } else {
            Conclusion::Skipped
        })
    }

    /// Its legs that wait for a group or are in one, with the group's name, and since when those wait that do.
    pub fn members(&self) -> impl Iterator<Item = (&str, Option<Millis>, Member<LegId>)> {
        self.legs().filter_map(|(id, leg)| {
            let group = leg.group.as_ref()?;
            let (since, stage) = match leg.state {
                LegState::Entering { since } => (Some(since), Stage::Waiting),
                LegState::Starting | LegState::Running { .. } => (None, Stage::Active),
                LegState::Cancelling { .. } => (None, Stage::Ending),
                LegState::Queued | LegState::Ended { .. } => return None,
            };
            let member = Member {
                id,
                stage,
                cancel_in_progress: group.cancel_in_progress,
                queue_all: group.queue_all,
            };
            Some((group.name.as_str(), since, member))
        })
    }

    pub(crate) fn job(&self, id: &str) -> Option<&JobRun> {
        self.jobs.iter().find(|job| job.id == id)
    }
}

impl JobRun {
    /// Its legs; none before it began.
    pub fn legs(&self) -> &[LegRun] {
        match &self.state {
            JobState::Begun { legs, .. } => legs,
            JobState::Waiting | JobState::Skipped | JobState::NotAsked | JobState::Broken(_) => &[],
        }
    }

    /// How it ended, if it has.
    pub fn result(&self) -> Option<JobResult> {
        let legs = match &self.state {
            JobState::Waiting => return None,
            JobState::Skipped | JobState::NotAsked => return Some(JobResult::Skipped),
            JobState::Broken(_) => return Some(JobResult::Failure),
            JobState::Begun { legs, .. } => legs,
        };
        let results: Option<Vec<LegResult>> = legs.iter().map(LegRun::counts_as).collect();
        let results = results?;
        Some(if results.contains(&LegResult::Failure) {
            JobResult::Failure
        } else if results.contains(&LegResult::Cancelled) {
            JobResult::Cancelled
        } else {
            JobResult::Success
        })
    }

    /// Of all legs together; of one name, the last value that is not empty, in the order in which they ended.
    pub fn outputs(&self) -> Vec<(&str, &str)> {
        let mut ended: Vec<(u64, &[(String, String)])> = Vec::new();
        for leg in self.legs() {
            if let LegState::Ended { outputs, order, .. } = &leg.state {
                ended.push((*order, outputs));
            }
        }
        ended.sort_by_key(|(order, _)| *order);
        let mut all: Vec<(&str, &str)> = Vec::new();
        for (name, value) in ended.into_iter().flat_map(|(_, outputs)| outputs) {
            if value.is_empty() {
                continue;
            }
            match all.iter_mut().find(|(known, _)| known == name) {
                Some(there) => there.1 = value,
                None => all.push((name, value)),
            }
        }
        all
    }
}

impl LegRun {
    /// Whether it counts against `max-parallel`.
    fn is_live(&self) -> bool {
        match self.state {
            LegState::Entering { .. }
            | LegState::Starting
            | LegState::Running { .. }
            | LegState::Cancelling { .. } => true,
            LegState::Queued | LegState::Ended { .. } => false,
        }
    }

    fn deadline(&self) -> Option<Millis> {
        match self.state {
            LegState::Running { since } => Some(since.saturating_add(self.timeout)),
            LegState::Queued
            | LegState::Entering { .. }
            | LegState::Starting
            | LegState::Cancelling { .. }
            | LegState::Ended { .. } => None,
        }
    }

    /// How it ended, where a failure that may be counts as none.
    fn counts_as(&self) -> Option<LegResult> {
        match &self.state {
            LegState::Ended { result, cause, .. } => Some(match (result, cause) {
                (LegResult::Failure, _) | (LegResult::Cancelled, Some(Cause::TimedOut))
                    if self.continue_on_error =>
                {
                    LegResult::Success
                }
                (result, _) => *result,
            }),
            LegState::Queued
            | LegState::Entering { .. }
            | LegState::Starting
            | LegState::Running { .. }
            | LegState::Cancelling { .. } => None,
        }
    }
}

impl<'w> Definition<'w> {
    fn job(&self, id: &str) -> Option<&'w Job> {
        self.workflow.jobs.get(id)
    }
}

impl JobResult {
    /// As `needs.<job>.result` has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for LegId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.job, self.index)
    }
}
