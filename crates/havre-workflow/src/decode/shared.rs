//! What a workflow and its jobs have alike.

use havre_yaml::{Map, Node};
use indexmap::IndexMap;

use super::steps::shell;
use super::values::Reader;
use crate::model::{CacheMode, Concurrency, Granted, Level, Permissions, RunDefaults};

pub(super) fn permissions(node: &Node, reader: &mut Reader<'_>) -> Option<Permissions> {
    let granted = match node.as_map() {
        Some(map) => {
            let mut each = IndexMap::new();
            for (name, entry) in &map.entries {
                let level = match entry.value.text() {
                    Some("write") => Level::Write,
                    Some("read") => Level::Read,
                    _ => Level::None,
                };
                each.insert(name.clone(), level);
            }
            Granted::Each(each)
        }
        None => match reader.text(node)?.value.as_str() {
            "read-all" => Granted::ReadAll,
            "write-all" => Granted::WriteAll,
            _ => return None,
        },
    };
    Some(Permissions {
        span: node.span,
        granted,
    })
}

pub(super) fn concurrency(node: &Node, reader: &mut Reader<'_>) -> Option<Concurrency> {
    let Some(map) = node.as_map() else {
        return Some(Concurrency {
            span: node.span,
            group: reader.template(node)?,
            cancel_in_progress: None,
            queue_all: false,
        });
    };
    let queue_all = map.get("queue").and_then(Node::text) == Some("max");
    let cancel = map
        .get("cancel-in-progress")
        .and_then(|node| reader.boolean(node));
    let cancels = cancel.as_ref().and_then(|cancel| cancel.fixed()) == Some(&true);
    if let (true, true, Some(at)) = (queue_all, cancels, map.key_span("queue")) {
        let message = "`queue: max` and `cancel-in-progress: true` exclude each other";
        reader.error("workflow/conflict", at, message.to_owned());
    }
    Some(Concurrency {
        span: node.span,
        group: reader.template(map.get("group")?)?,
        cancel_in_progress: cancel,
        queue_all,
    })
}

/// `defaults`, of which there is `run`.
pub(super) fn run_defaults(map: &Map, reader: &mut Reader<'_>) -> RunDefaults {
    let Some(run) = map.get("run").and_then(Node::as_map) else {
        return RunDefaults::default();
    };
    RunDefaults {
        shell: run.get("shell").and_then(|node| shell(node, reader)),
        working_directory: run
            .get("working-directory")
            .and_then(|node| reader.template(node)),
    }
}

pub(super) fn cache_mode(node: &Node) -> Option<CacheMode> {
    match node.text()? {
        "read" => Some(CacheMode::Read),
        "write" => Some(CacheMode::Write),
        "write-only" => Some(CacheMode::WriteOnly),
        "none" => Some(CacheMode::None),
        _ => None,
    }
}
