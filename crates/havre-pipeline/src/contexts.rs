//! What expressions can know of an event before anything ran.

use havre_expressions::{Object, Value};
use havre_workflow::Workflow;
use indexmap::IndexMap;

use crate::event::{Event, Reference};
use crate::inputs;
use crate::known::{Answer, Known};

impl Known {
    /// What the event alone tells: `github` in part, and `inputs`. `path` is that of the file.
    pub fn of_event(event: &Event, workflow: &Workflow, path: &str) -> Self {
        let mut github = Object::default();
        let mut known = Self::default();
        if let Event::Call { .. } = event {
            // All of it is the caller's.
            return known;
        }
        github.insert("event_name", event.name());
        let is_request = matches!(event, Event::PullRequest { .. });
        if !is_request {
            reference(&event.reference(), &mut github);
            github.insert("base_ref", "");
            github.insert("head_ref", "");
        }
        let mut given = Object::default();
        match event {
            Event::PullRequest {
                action, base, head, ..
            } => {
                github.insert("base_ref", base.as_str());
                github.insert("head_ref", head.as_str());
                github.insert("ref_type", "branch");
                let side = |name: &str| Value::from(object([("ref", name.into())]));
                let request = object([("base", side(base)), ("head", side(head))]);
                let payload = object([
                    ("action", action.as_str().into()),
                    ("pull_request", request.into()),
                ]);
                github.insert("event", payload);
            }
            Event::Push { to, .. } => {
                github.insert("event", object([("ref", to.full().into())]));
            }
            Event::Dispatch { inputs, .. } => {
                given = typed(workflow, inputs);
                // There, every value is a text.
                let texts = given
                    .iter()
                    .map(|(name, value)| (name, Value::from(value.to_text().as_ref())));
                let texts: Object = texts.collect();
                github.insert("event", object([("inputs", texts.into())]));
            }
            Event::Schedule { cron, .. } => {
                github.insert("event", object([("schedule", cron.as_str().into())]));
            }
            Event::Repository { kind, .. } => {
                github.insert("event", object([("action", kind.as_str().into())]));
            }
            Event::WorkflowRun {
                workflow,
                action,
                ran_on,
                ..
            } => {
                let run = object([
                    ("name", workflow.as_str().into()),
                    ("head_branch", ran_on.as_str().into()),
                ]);
                let payload = object([
                    ("action", action.as_str().into()),
                    ("workflow_run", run.into()),
                ]);
                github.insert("event", payload);
            }
            Event::Call { .. } => {}
        }
        known.part("github", github.clone());
        known.whole("inputs", given);
        let name = match &workflow.name {
            None => Answer::Known(path.to_owned()),
            Some(name) => known.text(name),
        };
        if let Answer::Known(name) = name {
            github.insert("workflow", name);
            known.part("github", github);
        }
        known
    }
}

fn reference(on: &Reference, github: &mut Object) {
    github.insert("ref", on.full());
    github.insert("ref_name", on.name());
    github.insert("ref_type", on.kind());
}

fn typed(workflow: &Workflow, given: &IndexMap<String, String>) -> Object {
    let declared = workflow.on.workflow_dispatch.as_deref().unwrap_or_default();
    // What is wrong with them is the trigger's to tell.
    let values = inputs::resolve(declared, given).unwrap_or_default();
    values.into_iter().collect()
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Object {
    entries.into_iter().collect()
}
