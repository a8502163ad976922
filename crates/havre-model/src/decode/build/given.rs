//! What a build is given beside its context: secrets, further contexts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::git;
use crate::decode::{Names, undefined};
use crate::keys;
use crate::project::{BuildContext, ServiceName};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;

/// `secrets`, by their id in the Dockerfile.
pub(super) fn secrets(
    build: &Fields<'_>,
    names: &Names,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    let Some(field) = build.get("secrets") else {
        return secrets;
    };
    for item in field.items(report) {
        let Some(fields) = item.fields(&keys::GRANT, report) else {
            continue;
        };
        let Some(source) = fields.string("source", report) else {
            let message = format!("{} has no `source`", fields.owner);
            report.error("compose/missing-key", fields.span, message);
            continue;
        };
        for key in ["uid", "gid", "mode"] {
            if let Some(field) = fields.get(key) {
                let message = format!(
                    "{}: `{key}` has no effect: `RUN --mount=type=secret` says whose the file is",
                    fields.owner
                );
                report.warn("compose/ignored", field.span(), message);
            }
        }
        if !names.secrets.contains(&source) {
            let (at, owner) = (item.span(), &build.owner);
            undefined("secret", &source, at, owner, &names.secrets, report);
            continue;
        }
        let id = fields.string("target", report);
        let id = id.unwrap_or_else(|| source.clone());
        match secrets.get(&id) {
            Some(known) if *known != source => {
                let message = format!("{}: two secrets have the id `{id}`", build.owner);
                report
                    .error("compose/duplicate-target", item.span(), message)
                    .hint("give one of them another `target`");
            }
            Some(_) | None => {
                secrets.insert(id, source);
            }
        }
    }
    secrets
}

/// `additional_contexts`.
pub(super) fn contexts(
    service: &str,
    build: &Fields<'_>,
    names: &Names,
    report: &mut Report,
) -> BTreeMap<String, BuildContext> {
    let mut contexts = BTreeMap::new();
    let Some(field) = build.get("additional_contexts") else {
        return contexts;
    };
    for (name, _, node) in field.entries(report) {
        let value = Field {
            owner: &build.owner,
            key: name,
            node,
        };
        if let Some(text) = value.string(report)
            && let Some(context) = context(service, &text, value, names, report)
        {
            contexts.insert(name.to_owned(), context);
        }
    }
    contexts
}

fn context(
    service: &str,
    text: &str,
    field: Field<'_>,
    names: &Names,
    report: &mut Report,
) -> Option<BuildContext> {
    if let Some(name) = text.strip_prefix("service:") {
        return of_service(service, name, field, names, report);
    }
    if let Some(reference) = text.strip_prefix("docker-image://") {
        return Some(BuildContext::Image {
            reference: reference.to_owned(),
        });
    }
    if git::is_address(text) {
        return git::context(text, field, report).map(BuildContext::Git);
    }
    if crate::canonical::is_remote_context(text) {
        let why = "a further context is a folder, a git repository, a service or an image";
        let hint = "write a path, the https address of a repository, `service:NAME` or \
                    `docker-image://NAME:TAG`; import what lies elsewhere first";
        refuse(field, why, hint, report);
        return None;
    }
    let path = PathBuf::from(text);
    if !path.is_dir() {
        let shown = report.shown(&path);
        let message = format!("{}: the context {shown} is not a folder", field.owner);
        report.error("compose/missing-file", field.span(), message);
        return None;
    }
    Some(BuildContext::Folder { path })
}

fn of_service(
    service: &str,
    name: &str,
    field: Field<'_>,
    names: &Names,
    report: &mut Report,
) -> Option<BuildContext> {
    let (at, owner) = (field.span(), field.owner);
    if !names.services.contains(name) {
        undefined("service", name, at, owner, &names.services, report);
        return None;
    }
    if name == service {
        let message = format!("{owner} needs its own result");
        report.error("compose/cycle", at, message);
        return None;
    }
    if let Some(profiles) = names.disabled.get(name) {
        let message = format!(
            "{owner} needs the image of `{name}`, which is only enabled by profile {}",
            profiles.join(" or ")
        );
        report
            .error("compose/profile", at, message)
            .hint("enable the profile, or remove `profiles` there");
        return None;
    }
    Some(BuildContext::Service {
        name: ServiceName::new(name),
    })
}
