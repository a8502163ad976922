//! A tree that was checked becomes a [`Workflow`]; what only several values together tell is checked
//! here: ids, needs, what steps wait for, what expressions name.

mod formats;
mod jobs;
mod references;
mod shared;
pub(crate) mod steps;
mod triggers;
pub(crate) mod values;

use havre_yaml::{Map, Node, Report};

use crate::limits::Limits;
use crate::model::Workflow;
use shared::{cache_mode, concurrency, permissions, run_defaults};
use values::Reader;

/// Makes the workflow; where errors are recorded, parts of it may be missing.
pub(crate) fn decode(root: &Node, limits: &Limits, report: &mut Report) -> Workflow {
    let mut reader = Reader { report };
    let reader = &mut reader;
    let empty = Map::default();
    let map = root.as_map().unwrap_or(&empty);
    let defaults = map.get("defaults").and_then(Node::as_map);
    let workflow = Workflow {
        span: root.span,
        name: map.get("name").and_then(|node| reader.template(node)),
        run_name: map.get("run-name").and_then(|node| reader.template(node)),
        on: map
            .get("on")
            .map(|node| triggers::triggers(node, reader))
            .unwrap_or_default(),
        permissions: map
            .get("permissions")
            .and_then(|node| permissions(node, reader)),
        env: map.get("env").and_then(|node| reader.pairs(node)),
        defaults: defaults
            .map(|map| run_defaults(map, reader))
            .unwrap_or_default(),
        concurrency: map
            .get("concurrency")
            .and_then(|node| concurrency(node, reader)),
        cache_mode: map.get("cache-mode").and_then(cache_mode),
        jobs: map
            .get("jobs")
            .map(|node| jobs::jobs(node, limits, reader))
            .unwrap_or_default(),
    };
    references::check(&workflow, reader);
    workflow
}
