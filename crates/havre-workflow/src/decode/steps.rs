//! The steps of a job.

use std::collections::{HashMap, HashSet};

use havre_yaml::{Map, Node};

use super::formats;
use super::values::{Reader, core};
use crate::model::{Action, Spanned, Step, Template};
use crate::text::short;
use havre_yaml::tree::core::Core;

/// Shells of other systems.
const FOREIGN_SHELLS: [&str; 2] = ["cmd", "powershell"];

pub(crate) fn steps(node: &Node, reader: &mut Reader<'_>) -> Vec<Step> {
    let items = node.as_list().unwrap_or_default();
    let steps: Vec<Step> = items
        .iter()
        .filter_map(|item| step(item, false, reader))
        .collect();
    ids(&steps, reader);
    waits(&steps, reader);
    steps
}

fn step(node: &Node, parallel: bool, reader: &mut Reader<'_>) -> Option<Step> {
    let map = node.as_map()?;
    let action = action(map, parallel, reader)?;
    let background = reader.truth(map.get("background"));
    if let (true, Some(at)) = (parallel, map.key_span("background")) {
        let message = "`background` says nothing inside `parallel`: its steps run side by side";
        reader
            .error("workflow/conflict", at, message.to_owned())
            .hint("leave it out");
    }
    Some(Step {
        span: node.span,
        id: map.get("id").and_then(|node| reader.text(node)),
        name: map.get("name").and_then(|node| reader.template(node)),
        condition: map.get("if").and_then(|node| reader.condition(node)),
        continue_on_error: map
            .get("continue-on-error")
            .and_then(|node| reader.boolean(node)),
        timeout: map
            .get("timeout-minutes")
            .and_then(|node| reader.number(node)),
        env: map.get("env").and_then(|node| reader.pairs(node)),
        background,
        action,
    })
}

fn action(map: &Map, parallel: bool, reader: &mut Reader<'_>) -> Option<Action> {
    if let Some(run) = map.get("run") {
        return Some(Action::Run {
            script: reader.template(run)?,
            shell: map.get("shell").and_then(|node| shell(node, reader)),
            working_directory: map
                .get("working-directory")
                .and_then(|node| reader.template(node)),
        });
    }
    if let Some(uses) = map.get("uses") {
        let text = reader.text(uses)?;
        let value = match formats::action(&text.value) {
            Ok(action) => action,
            Err(hint) => {
                if !text.value.is_empty() && !text.value.contains("${{") {
                    let message = format!("`uses` names no action: `{}`", short(&text.value));
                    reader.error("workflow/uses", text.span, message).hint(hint);
                }
                return None;
            }
        };
        return Some(Action::Uses {
            action: Spanned {
                value,
                span: text.span,
            },
            with: map.get("with").and_then(|node| reader.pairs(node)),
        });
    }
    if parallel {
        return None;
    }
    if let Some(wait) = map.get("wait") {
        return Some(Action::Wait(reader.texts(wait)));
    }
    if let Some(all) = map.get("wait-all") {
        return Some(Action::WaitAll(core(all) != Core::Boolean(false)));
    }
    if let Some(cancel) = map.get("cancel") {
        return reader.text(cancel).map(Action::Cancel);
    }
    let items = map.get("parallel")?.as_list()?;
    let inner = items.iter().filter_map(|item| step(item, true, reader));
    Some(Action::Parallel(inner.collect()))
}

/// A shell, which may be one of another system.
pub(super) fn shell(node: &Node, reader: &mut Reader<'_>) -> Option<Template> {
    let template = reader.template(node)?;
    if let Some(name) = template
        .fixed()
        .filter(|name| FOREIGN_SHELLS.contains(name))
    {
        let message = format!("shell `{name}` is of Windows; jobs run on Linux here");
        reader.warn("workflow/foreign", node.span, message);
    }
    Some(template)
}

/// All steps, those side by side as well.
pub(crate) fn each(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().flat_map(|step| {
        let inner = match &step.action {
            Action::Parallel(inner) => inner.as_slice(),
            _ => &[],
        };
        std::iter::once(step).chain(inner)
    })
}

fn ids(steps: &[Step], reader: &mut Reader<'_>) {
    let mut seen = HashSet::new();
    for id in each(steps).filter_map(|step| step.id.as_ref()) {
        let text = &id.value;
        if text.is_empty() {
            continue;
        }
        if !formats::is_id(text) || text.starts_with("__") {
            let message = format!("`{}` is no id of a step", short(text));
            reader
                .error("workflow/id", id.span, message)
                .hint("ids are letters, digits, `_` and `-`; they begin with a letter or one `_`");
        } else if !seen.insert(text.to_lowercase()) {
            let message = format!("a step before has the id `{text}` as well");
            reader.error("workflow/id", id.span, message);
        }
    }
}

/// `wait` and `cancel` name steps before them that run in the background.
fn waits(steps: &[Step], reader: &mut Reader<'_>) {
    let mut before: HashMap<String, bool> = HashMap::new();
    for step in steps {
        let named: &[Spanned<String>] = match &step.action {
            Action::Wait(ids) => ids,
            Action::Cancel(id) => std::slice::from_ref(id),
            Action::Run { .. } | Action::Uses { .. } | Action::WaitAll(_) | Action::Parallel(_) => {
                &[]
            }
        };
        for id in named.iter().filter(|id| !id.value.is_empty()) {
            let name = short(&id.value);
            let message = match before.get(&id.value.to_lowercase()) {
                Some(true) => continue,
                Some(false) => format!("step `{name}` does not run in the background"),
                None => format!("no step before has the id `{name}`"),
            };
            reader.error("workflow/wait", id.span, message);
        }
        if let Some(id) = &step.id {
            before.insert(id.value.to_lowercase(), step.background);
        }
    }
}
