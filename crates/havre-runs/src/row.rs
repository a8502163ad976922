//! A run as it is kept.

use std::sync::Arc;

use havre_pipeline::Event;
use havre_pipeline::run::{Conclusion, GroupUse, Run};
use serde::{Deserialize, Serialize};

use crate::contexts::Contexts;
use crate::ports::{LegKey, Origin, RunId};
use crate::trigger::Source;

/// A run as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: RunId,
    /// Itself, where nobody called it.
    pub(crate) root: RunId,
    pub(crate) parent: Option<LegKey>,
    pub(crate) project: String,
    pub(crate) path: String,
    pub(crate) workflow: String,
    pub(crate) actor: String,
    pub(crate) queued_ms: u64,
    pub(crate) text: Arc<str>,
    pub(crate) facts: Facts,
    pub(crate) contexts: Contexts,
    pub(crate) change: Change,
}

/// What of a run changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// Whether it is in its group, or needs none.
    pub(crate) entered: bool,
    /// Whether nothing goes on of it.
    pub(crate) forced: bool,
    pub(crate) state: Run,
    pub(crate) ended_ms: Option<u64>,
    pub(crate) why: Option<String>,
}

/// What of a run stays as it is, beside what is looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) title: String,
    /// Of the root, in its project.
    pub(crate) number: u64,
    /// Runs in a row that each followed another's end.
    pub(crate) chain: u32,
    /// Calls in a row.
    pub(crate) depth: u32,
    pub(crate) event: Event,
    pub(crate) source: Source,
    pub(crate) reference: String,
    pub(crate) group: Option<GroupUse>,
    pub(crate) foreign: bool,
    /// Where its file is, if that is in another repository.
    #[serde(default)]
    pub(crate) origin: Option<Origin>,
}

impl Change {
    /// How it ended, if it has: also where its group ended it before it began.
    pub(crate) fn conclusion(&self) -> Option<Conclusion> {
        self.state.conclusion()
    }
}

/// As GitHub writes it.
pub(crate) fn word(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Success => "success",
        Conclusion::Failure => "failure",
        Conclusion::Cancelled => "cancelled",
        Conclusion::Skipped => "skipped",
    }
}

pub(crate) fn of_word(word: &str) -> Option<Conclusion> {
    let all = [
        Conclusion::Success,
        Conclusion::Failure,
        Conclusion::Cancelled,
        Conclusion::Skipped,
    ];
    all.into_iter()
        .find(|conclusion| self::word(*conclusion) == word)
}
