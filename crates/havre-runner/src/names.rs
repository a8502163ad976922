//! What steps are called, and other words.

use std::collections::HashMap;

use havre_base::clipped;
use havre_job::{Sources, StepResult};
use havre_workflow::{Action, Part, Step, Template, UsedAction};

/// Most bytes of a name that is made of a script.
const MAX_NAME: usize = 200;

/// What a step is called before its expressions can be evaluated.
pub(crate) fn initial(step: &Step) -> String {
    match &step.name {
        Some(name) => written(name),
        None => default(step),
    }
}

/// What a step without a name is called.
pub(crate) fn default(step: &Step) -> String {
    match &step.action {
        Action::Run { script, .. } => {
            let text = written(script);
            let first = text.trim().lines().next().unwrap_or_default();
            format!("Run {}", clipped(first.trim(), MAX_NAME))
        }
        Action::Uses { action, .. } => format!("Run {}", of_action(&action.value)),
        Action::Wait(ids) => {
            let ids: Vec<&str> = ids.iter().map(|id| id.value.as_str()).collect();
            format!("Wait for {}", ids.join(", "))
        }
        Action::WaitAll(_) => "Wait for all".to_owned(),
        Action::Cancel(id) => format!("Cancel {}", id.value),
        Action::Parallel(_) => "Run in parallel".to_owned(),
    }
}

fn written(template: &Template) -> String {
    let parts = template.parts.iter().map(|part| match part {
        Part::Text(text) => text.clone(),
        Part::Expression(expression) => format!("${{{{ {} }}}}", expression.text),
    });
    parts.collect()
}

/// As a workflow names it.
pub(crate) fn of_action(action: &UsedAction) -> String {
    match action {
        UsedAction::Image(image) => format!("docker://{image}"),
        UsedAction::Workspace(path) => path.clone(),
        UsedAction::Own(path) => format!("$/{path}"),
        UsedAction::Remote(remote) => remote.to_string(),
    }
}

/// As the `steps` context has it.
pub(crate) fn of_result(result: StepResult) -> &'static str {
    match result {
        StepResult::Success => "success",
        StepResult::Failure => "failure",
        StepResult::Cancelled => "cancelled",
        StepResult::Skipped => "skipped",
    }
}

/// As built-in actions have it.
pub(crate) fn of_sources(sources: &Sources) -> &'static str {
    match sources {
        Sources::Tree => "tree",
        Sources::Repository => "repository",
    }
}

/// Makes `github.action` of steps.
#[derive(Default)]
pub(crate) struct Ids(HashMap<String, u32>);

impl Ids {
    /// The step's id; without one, one that is made of what it runs, with a number from the second on.
    pub fn of(&mut self, step: &Step) -> String {
        if let Some(id) = &step.id {
            return id.value.clone();
        }
        let base = match &step.action {
            Action::Uses { action, .. } => match &action.value {
                UsedAction::Remote(remote) => {
                    let plain = |c: char| {
                        if c.is_ascii_alphanumeric() || c == '-' {
                            c
                        } else {
                            '_'
                        }
                    };
                    let name = format!("{}_{}", remote.owner, remote.repository);
                    format!("__{}", name.chars().map(plain).collect::<String>())
                }
                UsedAction::Image(_) | UsedAction::Workspace(_) | UsedAction::Own(_) => {
                    "__self".to_owned()
                }
            },
            Action::Run { .. } => "__run".to_owned(),
            Action::Wait(_) | Action::WaitAll(_) | Action::Cancel(_) | Action::Parallel(_) => {
                "__control".to_owned()
            }
        };
        let count = self.0.entry(base.clone()).or_insert(0);
        *count += 1;
        match *count {
            1 => base,
            count => format!("{base}_{count}"),
        }
    }
}
