//! Logs of runs.

use havre_job::Told;
use havre_model::ProjectName;
use serde::{Deserialize, Serialize};

use crate::RunLegId;

/// Most places to go on from.
pub const MAX_RUN_MARKS: usize = 4000;

/// Which logs to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogQuery {
    /// Whose.
    pub project: ProjectName,
    /// The run's number there.
    pub number: u64,
    /// Of this job alone, and of what it calls.
    pub job: Option<String>,
    /// Of this place in the job's matrix alone, from 0.
    pub index: Option<u32>,
    /// As they were in this attempt; without it, in each leg's newest.
    pub attempt: Option<u32>,
    /// Go on with what comes, of legs to come too, until the run has ended.
    pub follow: bool,
    /// Where a reader was who goes on: of each leg, what was read. At most [`MAX_RUN_MARKS`].
    #[serde(default)]
    pub from: Vec<RunLogMark>,
}

/// How far a leg's log was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLogMark {
    /// Whose log.
    pub leg: RunLegId,
    /// [`RunLogSaid::Told`]'s `next`.
    pub next: u64,
}

/// What a leg said next, or what there is to say of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunLogItem {
    /// Which.
    pub leg: RunLegId,
    /// What it is called; those that called its workflow stand before it (`deploy / build (1)`).
    pub name: String,
    /// What was said.
    pub said: RunLogSaid,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunLogSaid {
    /// A part of its log: who has it has it whole, and goes on behind it.
    Told {
        /// What its runner told, in its order.
        told: Vec<Told>,
        /// Where the log goes on: bytes.
        next: u64,
    },
    /// It waits. Said once more to a reader who goes on.
    Waits {
        /// For what.
        why: String,
    },
    /// It ended, and its runner does not say why. Said once more to a reader who goes on.
    Ended {
        /// Why.
        why: String,
    },
}
