//! Secrets and configs: what they are, and which service gets them where.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::volume::external;
use super::{Surroundings, undefined};
use crate::keys::{self, Section};
use crate::project::{Account, FileGrant, FileSource};
use crate::read::{Field, Fields};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::Node;

pub(super) fn secret(name: &str, node: &Node, around: &mut Surroundings<'_>) -> Option<FileSource> {
    let owner = format!("secret `{name}`");
    let fields = Fields::open(&owner, node, &keys::SECRET, around.report)?;
    match external(&fields, around.report) {
        (true, older_name) => stored(name, older_name, &fields, around.report),
        (false, _) => source(&owner, node, &keys::SECRET, around),
    }
}

pub(super) fn config(name: &str, node: &Node, around: &mut Surroundings<'_>) -> Option<FileSource> {
    source(&format!("config `{name}`"), node, &keys::CONFIG, around)
}

/// A missing file or variable matters only where the secret or config is used.
pub(super) fn check_exists(
    kind: &str,
    name: &str,
    source: &FileSource,
    at: Span,
    report: &mut Report,
) {
    match source {
        FileSource::File { path } if !path.is_file() => {
            let message = format!("{kind} `{name}`: {} does not exist", report.shown(path));
            report
                .error("compose/missing-file", at, message)
                .hint("write the file; keep it out of version control");
        }
        FileSource::Environment { variable, value } if value.is_empty() => {
            let message = format!("{kind} `{name}`: variable `{variable}` is not set");
            report
                .error("compose/unset-variable", at, message)
                .hint("set it in the environment");
        }
        FileSource::File { .. }
        | FileSource::Sent { .. }
        | FileSource::Environment { .. }
        | FileSource::Store { .. }
        | FileSource::Content { .. } => {}
    }
}

/// One that the machine's store has: under the name that is given, or its own.
fn stored(
    name: &str,
    older_name: Option<String>,
    fields: &Fields<'_>,
    report: &mut Report,
) -> Option<FileSource> {
    for key in ["file", "environment"] {
        if let Some(field) = fields.get(key) {
            let message = format!("{}: `{key}` of an external secret", fields.owner);
            report
                .error("compose/conflict", field.span(), message)
                .hint(
                    "it comes from the machine's store (`havre secret set`); remove one of the two",
                );
            return None;
        }
    }
    let given = fields.string("name", report).or(older_name);
    Some(FileSource::Store {
        name: given.unwrap_or_else(|| name.to_owned()),
    })
}

fn source(
    owner: &str,
    node: &Node,
    section: &Section,
    around: &mut Surroundings<'_>,
) -> Option<FileSource> {
    let report = &mut *around.report;
    let fields = Fields::open(owner, node, section, report)?;
    let given: Vec<_> = ["file", "environment", "content"]
        .into_iter()
        .filter(|key| fields.get(key).is_some())
        .collect();
    match given[..] {
        ["file"] => {
            let path = PathBuf::from(fields.string("file", report)?);
            Some(FileSource::File { path })
        }
        ["environment"] => {
            let variable = fields.string("environment", report)?;
            let value = around
                .variables
                .get(&variable)
                .unwrap_or_default()
                .to_owned();
            Some(FileSource::Environment { variable, value })
        }
        ["content"] => Some(FileSource::Content {
            content: fields.string("content", report)?,
        }),
        // An external config has been refused by the table already.
        [] if fields.has("external") => None,
        [] => {
            let message = format!("{owner} has no source");
            report
                .error("compose/missing-key", fields.span, message)
                .hint("say where it comes from: `file: ./path` or `environment: NAME`");
            None
        }
        _ => {
            let message = format!("{owner} has more than one source: {}", given.join(", "));
            report
                .error("compose/conflict", fields.span, message)
                .hint("keep one of them");
            None
        }
    }
}

/// `secrets` or `configs` of a service.
pub(super) fn grants(
    service: &Fields<'_>,
    key: &str,
    known: &BTreeSet<String>,
    report: &mut Report,
) -> Vec<FileGrant> {
    let Some(field) = service.get(key) else {
        return Vec::new();
    };
    let kind = key.trim_end_matches('s');
    let mut grants = Vec::new();
    let mut targets: BTreeMap<String, Span> = BTreeMap::new();
    for item in field.items(report) {
        let Some(grant) = grant(item, kind, report) else {
            continue;
        };
        if !known.contains(&grant.source) {
            undefined(
                kind,
                &grant.source,
                item.span(),
                &service.owner,
                known,
                report,
            );
            continue;
        }
        if targets.insert(grant.target.clone(), item.span()).is_some() {
            let message = format!("{}: two {key} are put at {}", service.owner, grant.target);
            report
                .error("compose/duplicate-target", item.span(), message)
                .hint("give one of them another `target`");
        }
        grants.push(grant);
    }
    grants
}

fn grant(item: Field<'_>, kind: &str, report: &mut Report) -> Option<FileGrant> {
    let fields = item.fields(&keys::GRANT, report)?;
    let Some(source) = fields.string("source", report) else {
        let message = format!("{} has no `source`", fields.owner);
        report.error("compose/missing-key", fields.span, message);
        return None;
    };
    let folder = if kind == "secret" {
        "/run/secrets/"
    } else {
        "/"
    };
    let target = match fields.string("target", report) {
        Some(target) if target.starts_with('/') => target,
        Some(target) => format!("{folder}{target}"),
        None => format!("{folder}{source}"),
    };
    Some(FileGrant {
        uid: fields
            .get("uid")
            .and_then(|f| f.account(report))
            .unwrap_or(Account::ROOT),
        gid: fields
            .get("gid")
            .and_then(|f| f.account(report))
            .unwrap_or(Account::ROOT),
        mode: fields
            .get("mode")
            .and_then(|f| f.mode(report))
            .unwrap_or(0o444),
        source,
        target,
    })
}
