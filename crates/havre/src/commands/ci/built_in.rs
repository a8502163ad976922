//! What steps ask of actions that come along, and those do not do: known before any job runs.

use std::path::Path;

use havre_actions::{BuiltIn, Finding};
use havre_model::Diagnostic;
use havre_workflow::repository::File;
use havre_workflow::{Action, Limits, Pairs, Remote, Span, Step, UsedAction, Work};

/// Warnings about the steps of a file; none where it cannot be read.
pub fn warnings(file: &File, limits: &Limits) -> Vec<Diagnostic> {
    let text = String::from_utf8_lossy(&file.bytes);
    let Ok(read) = havre_workflow::read(Path::new(""), &file.shown, &text, limits) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for job in read.workflow.jobs.values() {
        if let Work::Steps(steps) = &job.work {
            let mut tell = |at: Span, what: &str, fails: bool| {
                let id = &job.id.value;
                let message = match fails {
                    true => format!("job `{id}` fails before its first step: {what}"),
                    false => what.to_owned(),
                };
                found.push((at, message));
            };
            steps.steps.iter().for_each(|step| of_step(step, &mut tell));
        }
    }
    read.warnings_at("workflow/unsupported", found)
}

fn of_step(step: &Step, tell: &mut dyn FnMut(Span, &str, bool)) {
    match &step.action {
        Action::Parallel(steps) => steps.iter().for_each(|step| of_step(step, tell)),
        Action::Uses { action, with } => {
            if let UsedAction::Remote(remote) = &action.value
                && let Some(built_in) = built_in(remote)
            {
                match built_in.refusal() {
                    Some(why) => tell(action.span, &why, true),
                    None => inputs(built_in, action.span, with.as_ref(), tell),
                }
            }
        }
        Action::Run { .. } | Action::Wait(_) | Action::WaitAll(_) | Action::Cancel(_) => {}
    }
}

fn built_in(remote: &Remote) -> Option<&'static BuiltIn> {
    havre_actions::find(&remote.owner, &remote.repository, &remote.path)
}

fn inputs(
    built_in: &BuiltIn,
    at: Span,
    with: Option<&Pairs>,
    tell: &mut dyn FnMut(Span, &str, bool),
) {
    let given = match with {
        None => None,
        // Nobody knows what it will be.
        Some(with) if with.fixed().is_none() => return,
        Some(with) => with.fixed(),
    };
    for (name, pair) in given.into_iter().flatten() {
        // What is not known yet is taken for nothing, which all inputs accept.
        let value = pair.value.fixed().unwrap_or_default();
        match built_in.judge(name, value) {
            None => {}
            Some(Finding::Ignored(why)) => tell(pair.key, &why, false),
            Some(Finding::Refused(why)) => tell(pair.key, &why, true),
        }
    }
    for input in built_in.inputs {
        let mut names = given.into_iter().flat_map(|given| given.keys());
        let is_given = names.any(|name| name.eq_ignore_ascii_case(input.name));
        if input.required && input.default.is_none() && !is_given {
            let why = format!("{} needs the input `{}`", built_in.name, input.name);
            tell(at, &why, true);
        }
    }
}
