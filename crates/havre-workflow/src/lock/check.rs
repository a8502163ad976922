//! Whether a workflow and its lock file agree.

use std::path::PathBuf;

use havre_yaml::{Diagnostic, Report};

use super::{CODE, Lock, key};
use crate::decode::steps::each;
use crate::model::{Action, Remote, Spanned, Step, UsedAction, Work, Workflow};
use crate::read::{CODES, Read};

/// Actions that steps of a workflow name, in the order of the file.
pub fn used(workflow: &Workflow) -> Vec<&Spanned<UsedAction>> {
    let jobs = workflow.jobs.values();
    let steps = jobs.filter_map(|job| match &job.work {
        Work::Steps(job) => Some(of_steps(&job.steps)),
        Work::Call(_) => None,
    });
    steps.flatten().collect()
}

/// Actions that these steps name.
pub fn of_steps(steps: &[Step]) -> Vec<&Spanned<UsedAction>> {
    let each = each(steps).filter_map(|step| match &step.action {
        Action::Uses { action, .. } => Some(action),
        Action::Run { .. }
        | Action::Parallel(_)
        | Action::Wait(_)
        | Action::WaitAll(_)
        | Action::Cancel(_) => None,
    });
    each.collect()
}

/// What a workflow uses that its lock file does not have; `path` is that of the workflow from the repository's root.
pub fn check(read: &Read, path: &str, lock: &Lock) -> Vec<Diagnostic> {
    let mut report = Report::new(PathBuf::new(), CODES);
    report.sources = read.sources.clone();
    if !lock.lists(path) {
        return Vec::new();
    }
    for action in used(&read.workflow) {
        let (message, hint) = match &action.value {
            UsedAction::Remote(remote) if !is_locked(lock, path, remote) => (
                format!("`{}` is not in the lock file", key(remote)),
                "`havre ci lock` puts it there",
            ),
            UsedAction::Workspace(folder) => (
                format!("`{folder}` may use what no lock file knows, and this workflow has one"),
                "name it by `$/PATH`, or take the workflow out of the lock file",
            ),
            UsedAction::Remote(_) | UsedAction::Own(_) | UsedAction::Image(_) => continue,
        };
        report.error(CODE, action.span, message).hint(hint);
    }
    report.finish().0
}

fn is_locked(lock: &Lock, path: &str, remote: &Remote) -> bool {
    lock.commit(path, &key(remote)).is_some()
}
