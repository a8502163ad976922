//! How much repositories, artifacts and caches may take, and on what jobs run.

use std::collections::BTreeMap;
use std::time::Duration;

use super::value;
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::schema::machine as schema;

/// Most labels that have an image.
const MAX_LABELS: usize = 100;

/// `git`; sizes are bytes. What is not said is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Git {
    /// One push.
    pub push: Option<u64>,
    /// One repository, on disk.
    pub repository: Option<u64>,
    /// All of them together, on disk.
    pub total: Option<u64>,
    /// How many there may be.
    pub repositories: Option<usize>,
}

/// `ci`; sizes are bytes. What is not said is as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ci {
    /// Images by labels of `runs-on`.
    pub labels: BTreeMap<String, String>,
    /// All artifacts of a repository.
    pub artifacts: Option<u64>,
    /// All caches of a repository.
    pub caches: Option<u64>,
    /// All artifacts and caches together.
    pub total: Option<u64>,
    /// How long artifacts are kept that do not ask for less.
    pub keep: Option<Duration>,
}

pub(super) fn git(field: Field<'_>, report: &mut Report) -> Option<Git> {
    let fields = field.fields(&schema::GIT.section, report)?;
    Some(Git {
        push: size(&fields, "push", report),
        repository: size(&fields, "repository", report),
        total: size(&fields, "total", report),
        repositories: fields
            .get("repositories")
            .and_then(|field| field.number(report)),
    })
}

pub(super) fn ci(field: Field<'_>, report: &mut Report) -> Option<Ci> {
    let fields = field.fields(&schema::CI.section, report)?;
    let labels = fields.get("labels").map(|field| labels(field, report));
    Some(Ci {
        labels: labels.unwrap_or_default(),
        artifacts: size(&fields, "artifacts", report),
        caches: size(&fields, "caches", report),
        total: size(&fields, "total", report),
        keep: fields.get("keep").and_then(|field| field.duration(report)),
    })
}

fn labels(field: Field<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (label, image) in field.pairs(report) {
        match image {
            Some(image) if !image.trim().is_empty() => drop(labels.insert(label, image)),
            _ => drop(value(field, report, format!("`{label}` names no image"))),
        }
    }
    if labels.len() > MAX_LABELS {
        value(field, report, format!("more than {MAX_LABELS} labels"));
    }
    labels
}

fn size(fields: &Fields<'_>, key: &str, report: &mut Report) -> Option<u64> {
    let field = fields.get(key)?;
    let bytes = field.bytes(report)?;
    if bytes == 0 {
        value(field, report, format!("`{key}` lets nothing in"));
    }
    Some(bytes)
}
