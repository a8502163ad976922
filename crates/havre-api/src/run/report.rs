//! A run in full.

use havre_job::{Annotation, StepResult};
use serde::{Deserialize, Serialize};

use crate::{RunPhase, RunSummary, Timestamp};

/// A run in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// What a list says of it.
    pub run: RunSummary,
    /// 1, and one more each time that jobs were run again.
    pub attempt: u32,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// The concurrency group that it waits for.
    pub waits_for: Option<String>,
    /// Why it ended as it did, where its jobs do not say it.
    pub why: Option<String>,
    /// In the order of the file.
    pub jobs: Vec<RunJob>,
    /// Steps, annotations and summaries that were left out, as there were too many.
    pub left_out: u64,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunJob {
    /// Its key in the file.
    pub id: String,
    /// How far it is.
    pub state: RunPhase,
    /// Why it began, did not begin, or waits.
    pub why: Option<String>,
    /// In the order of its matrix; one where it has none, none where it has not begun.
    pub legs: Vec<RunLeg>,
    /// How it was in earlier attempts, the oldest first.
    pub earlier: Vec<RunEarlier>,
}

/// How a job was in an earlier attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEarlier {
    /// The last attempt in which it was so.
    pub attempt: u32,
    /// How it was.
    pub state: RunPhase,
}

/// Which leg, in which attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunLegId {
    /// The run that it belongs to: that of the called workflow, where it is in one. The daemon's own number for it.
    pub run: i64,
    /// Its job's key.
    pub job: String,
    /// Its place in the matrix, from 0.
    pub index: u32,
    /// The attempt.
    pub attempt: u32,
}

/// A leg of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunLeg {
    /// Which.
    pub id: RunLegId,
    /// What it is called.
    pub name: String,
    /// How far it is.
    pub state: RunPhase,
    /// Whether the run goes well even if it fails.
    pub may_fail: bool,
    /// The environment that it deploys to.
    pub environment: Option<String>,
    /// Where that answers.
    pub environment_url: Option<String>,
    /// What it waits for.
    pub waits: Option<RunWait>,
    /// Why it ended as it did, where it did not say it itself.
    pub why: Option<String>,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// In their order.
    pub steps: Vec<RunStep>,
    /// What its steps found; the first 50.
    pub annotations: Vec<RunAnnotation>,
    /// How many more there were.
    pub more_annotations: u64,
    /// Summaries of its steps.
    pub summaries: Vec<RunStepSummary>,
    /// Images that it made.
    pub images: Vec<RunImage>,
    /// The workflow that it calls.
    pub called: Option<RunCalled>,
}

/// What a leg waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunWait {
    /// For a person: `approval of production`.
    pub why: String,
    /// When it is looked at again at the latest.
    pub until: Option<Timestamp>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStep {
    /// What it is called.
    pub name: String,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How, before `continue-on-error`.
    pub outcome: Option<StepResult>,
    /// How, after it.
    pub conclusion: Option<StepResult>,
    /// Of its process, if one ended by itself.
    pub exit_code: Option<i32>,
    /// Why it failed or was skipped.
    pub why: Option<String>,
}

/// Something that a step found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAnnotation {
    /// The step's place; none: it is of the job as a whole.
    pub step: Option<u32>,
    /// What it found.
    #[serde(flatten)]
    pub annotation: Annotation,
}

/// The summary of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStepSummary {
    /// The step's place.
    pub step: u32,
    /// Markdown, as the step wrote it.
    pub text: String,
}

/// An image that a leg made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunImage {
    /// What it is called.
    pub name: String,
    /// Its digest.
    pub digest: String,
}

/// A workflow that a leg calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCalled {
    /// Its file.
    pub path: String,
    /// How far it is.
    pub state: RunPhase,
    /// Why it ended as it did, where its jobs do not say it.
    pub why: Option<String>,
    /// Its jobs.
    pub jobs: Vec<RunJob>,
}

impl RunReport {
    /// All legs, those of called workflows behind the ones that call them; the names of these stand before theirs.
    pub fn legs(&self) -> Vec<(String, &RunLeg)> {
        let mut all = Vec::new();
        gather(&self.jobs, "", &mut all);
        all
    }
}

fn gather<'r>(jobs: &'r [RunJob], before: &str, all: &mut Vec<(String, &'r RunLeg)>) {
    for leg in jobs.iter().flat_map(|job| &job.legs) {
        let name = format!("{before}{}", leg.name);
        let below = format!("{name} / ");
        all.push((name, leg));
        if let Some(called) = &leg.called {
            gather(&called.jobs, &below, all);
        }
    }
}
