//! `build`.

mod git;
mod given;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Names, Surroundings, image, network, process};
use crate::canonical::{clean, is_remote_context};
use crate::keys;
use crate::project::{Build, GitContext};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::rules;
use crate::suggest;

pub(super) fn build(
    service: &str,
    field: Field<'_>,
    names: &Names,
    around: &mut Surroundings<'_>,
) -> Option<Build> {
    let fields = &field.fields(&keys::BUILD, around.report)?;
    let (context, git) = context(fields, around)?;
    let report = &mut *around.report;
    let dockerfile_inline = fields.string("dockerfile_inline", report);
    let named = fields.string("dockerfile", report);
    if named.is_some() && dockerfile_inline.is_some() {
        let message = format!(
            "{} has both `dockerfile` and `dockerfile_inline`",
            fields.owner
        );
        let at = fields.key_span("dockerfile_inline");
        report
            .error("compose/conflict", at, message)
            .hint("keep one of them");
    }
    let dockerfile = PathBuf::from(named.unwrap_or_else(|| "Dockerfile".to_owned()));
    match &git {
        Some(_) => check_fetched_dockerfile(&dockerfile, fields, report),
        None if dockerfile_inline.is_none() => {
            check_dockerfile(&context, &dockerfile, fields, report);
        }
        None => {}
    }
    let target = fields.string("target", report);
    platforms(fields, report);
    let offline = offline(fields, report);
    let build = Build {
        dockerfile,
        dockerfile_inline,
        target,
        args: args(fields, around),
        tags: fields.strings("tags", around.report),
        labels: fields.labels("labels", around.report),
        no_cache: fields.truth("no_cache", around.report).unwrap_or(false),
        host_ca: around.host_ca,
        secrets: given::secrets(fields, names, around.report),
        contexts: given::contexts(service, fields, names, around.report),
        extra_hosts: network::extra_hosts(fields, around.report),
        shm_size_bytes: fields.get("shm_size").and_then(|f| f.bytes(around.report)),
        ulimits: process::ulimits(fields, around.report),
        offline,
        context,
        git,
    };
    check_target(&build, fields, around.report);
    Some(build)
}

/// The builder would find out only when its turn comes.
fn check_target(build: &Build, fields: &Fields<'_>, report: &mut Report) {
    let (Some(target), Some(field)) = (&build.target, fields.get("target")) else {
        return;
    };
    // What is wrong with the file itself is said elsewhere.
    let Some(stages) = rules::stages(build) else {
        return;
    };
    let number = target
        .parse()
        .is_ok_and(|number: usize| number < stages.len());
    let named = stages.iter().flatten();
    if number
        || named
            .clone()
            .any(|stage| stage.eq_ignore_ascii_case(target))
    {
        return;
    }
    let names: Vec<&str> = named.map(String::as_str).collect();
    let message = format!("{}: the Dockerfile has no stage `{target}`", fields.owner);
    let hint = match (suggest::nearest(target, names.iter().copied()), &names[..]) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => format!("write `FROM … AS {target}`, or remove `target`"),
        (None, names) => format!("its stages are {}", names.join(", ")),
    };
    report
        .error("compose/undefined", field.span(), message)
        .hint(hint);
}

/// The folder, the project's own where none is named, or the address of what is fetched.
fn context(
    fields: &Fields<'_>,
    around: &mut Surroundings<'_>,
) -> Option<(PathBuf, Option<GitContext>)> {
    let Some(field) = fields.get("context") else {
        return Some((around.directory.to_owned(), None));
    };
    let text = field.string(around.report)?;
    if is_remote_context(&text) {
        let git = git::context(&text, field, around.report)?;
        return Some((PathBuf::from(text), Some(git)));
    }
    let context = PathBuf::from(text);
    if !context.is_dir() {
        let shown = around.report.shown(&context);
        let message = format!(
            "{}: the build context {shown} is not a folder",
            fields.owner
        );
        around
            .report
            .error("compose/missing-file", field.span(), message);
        return None;
    }
    Some((context, None))
}

/// One that is not here yet: it must be in what is fetched.
fn check_fetched_dockerfile(dockerfile: &Path, fields: &Fields<'_>, report: &mut Report) {
    if git::stays_inside(dockerfile) {
        return;
    }
    let message = format!(
        "{}: {} is not in the repository",
        fields.owner,
        dockerfile.display()
    );
    let at = fields.key_span("dockerfile");
    report
        .error("compose/value", at, message)
        .hint("write a path without `..` that begins in the context");
}

fn check_dockerfile(context: &Path, dockerfile: &Path, fields: &Fields<'_>, report: &mut Report) {
    let path = clean(&context.join(dockerfile));
    if path.is_file() {
        return;
    }
    let at = fields
        .get("dockerfile")
        .or_else(|| fields.get("context"))
        .map(|f| f.span());
    let message = format!("{}: {} does not exist", fields.owner, report.shown(&path));
    report
        .error("compose/missing-file", at.unwrap_or(fields.span), message)
        .hint("write the Dockerfile, or name another one with `dockerfile:`");
}

/// Whether steps have no network.
fn offline(fields: &Fields<'_>, report: &mut Report) -> bool {
    let Some(field) = fields.get("network") else {
        return false;
    };
    match field.string(report).as_deref() {
        Some("none") => true,
        Some("default") | None => false,
        Some(_) => {
            let why = "build steps have a network of their own with a way out";
            refuse(field, why, "remove it, or write `none`", report);
            false
        }
    }
}

fn platforms(fields: &Fields<'_>, report: &mut Report) {
    if let Some(field) = fields.get("platforms") {
        for item in field.items(report) {
            if let Some(platform) = item.string(report) {
                image::check_platform(&platform, item, report);
            }
        }
    }
}

/// An argument without a value takes the caller's; without one there, the Dockerfile's default.
fn args(fields: &Fields<'_>, around: &mut Surroundings<'_>) -> BTreeMap<String, String> {
    let pairs = fields.pairs("args", around.report);
    pairs
        .into_iter()
        .filter_map(|(name, value)| {
            let value = value.or_else(|| around.variables.get(&name).map(str::to_owned))?;
            Some((name, value))
        })
        .collect()
}
