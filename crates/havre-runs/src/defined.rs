//! What a run runs: its file and its contexts.

use std::path::Path;
use std::sync::Arc;

use havre_pipeline::Answer;
use havre_pipeline::Known;
use havre_pipeline::run::{Definition, GroupUse};
use havre_workflow::{Limits, Workflow, read};

/// Longest name of a workflow or a run, in bytes.
pub(crate) const MAX_NAME: usize = 1000;

/// What a run runs.
#[derive(Clone, Debug)]
pub(crate) struct Defined {
    pub(crate) workflow: Arc<Workflow>,
    pub(crate) known: Known,
}

impl Defined {
    pub(crate) fn of(&self) -> Definition<'_> {
        Definition {
            workflow: &self.workflow,
            known: &self.known,
        }
    }
}

/// The workflow of a text, or the first that is wrong with it, and where.
pub(crate) fn workflow(path: &str, text: &str) -> Result<Workflow, String> {
    match read(Path::new(""), Path::new(path), text, &Limits::default()) {
        Ok(read) => Ok(read.workflow),
        Err(failure) => Err(match failure.errors.first() {
            Some(error) => error.to_string(),
            None => format!("{path} is no workflow"),
        }),
    }
}

/// What may not run beside a run.
pub(crate) fn group(workflow: &Workflow, known: &Known) -> Result<Option<GroupUse>, String> {
    let plan = havre_pipeline::plan::plan(workflow, known);
    let Some(group) = plan.group else {
        return Ok(None);
    };
    let name = certain("`concurrency`", group.name)?;
    let cancel = certain("`cancel-in-progress`", group.cancel_in_progress)?;
    Ok(Some(GroupUse {
        name,
        cancel_in_progress: cancel,
        queue_all: group.queue_all,
    })
    .filter(|group| !group.name.is_empty()))
}

/// The value, or why there is none.
pub(crate) fn certain<T>(what: &str, answer: Answer<T>) -> Result<T, String> {
    match answer {
        Answer::Known(value) => Ok(value),
        Answer::Waits(names) => Err(format!("{what}: nobody knows {}", names.join(", "))),
        Answer::Wrong(why) => Err(format!("{what}: {why}")),
    }
}
