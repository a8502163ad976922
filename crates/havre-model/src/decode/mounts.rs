//! `volumes` and `tmpfs` of a service, and the project's named volumes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Names, Surroundings, undefined};
use crate::keys;
use crate::project::{Mount, Volume, VolumeName};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::scalar;
use crate::source::Span;
use crate::yaml::Node;

pub(super) fn volume(name: &str, node: &Node, around: &mut Surroundings<'_>) -> Option<Volume> {
    let report = &mut *around.report;
    let owner = format!("volume `{name}`");
    let fields = Fields::open(owner, node, &keys::VOLUME, report)?;
    if let Some(field) = fields.get("driver")
        && let Some(driver) = field.string(report)
        && driver != "local"
    {
        refuse(
            field,
            "volumes are folders of this machine",
            "remove it",
            report,
        );
    }
    let (external, older_name) = external(&fields, report);
    if external {
        for key in ["driver", "labels"] {
            if fields.has(key) {
                let message = format!("{}: `{key}` of an external volume", fields.owner);
                report
                    .error("compose/conflict", fields.key_span(key), message)
                    .hint("remove it: the volume exists already, with what it has");
            }
        }
    }
    // What exists outside the project has no project in its name.
    let own_name = external.then(|| name.to_owned());
    Some(Volume {
        name: fields.string("name", report).or(older_name).or(own_name),
        external,
        labels: fields.labels("labels", report),
    })
}

/// `external: true`, or the older `external: {name: …}`.
fn external(fields: &Fields<'_>, report: &mut Report) -> (bool, Option<String>) {
    let Some(field) = fields.get("external") else {
        return (false, None);
    };
    match field.node.as_map() {
        Some(map) => (
            true,
            map.get("name").and_then(Node::text).map(str::to_owned),
        ),
        None => (field.truth(report).unwrap_or(false), None),
    }
}

pub(super) fn mounts(service: &Fields<'_>, names: &Names, report: &mut Report) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut targets = BTreeSet::new();
    let mut add = |mount: Mount, at: Span, report: &mut Report| {
        let target = target_of(&mount).trim_end_matches('/').to_owned();
        if !target_of(&mount).starts_with('/') || target.is_empty() {
            let message = format!(
                "{}: `{}` is not an absolute path inside the container",
                service.owner,
                target_of(&mount)
            );
            report.error("compose/volume", at, message);
        } else if !targets.insert(target.clone()) {
            let message = format!("{}: two mounts at {target}", service.owner);
            report
                .error("compose/duplicate-target", at, message)
                .hint("keep one of them");
        } else {
            mounts.push(mount);
        }
    };
    for item in service
        .get("volumes")
        .map(|f| f.items(report))
        .unwrap_or_default()
    {
        // A short form that could not be read has become null, its error recorded.
        if !item.node.is_null()
            && let Some(mount) = mount(item, service, names, report)
        {
            add(mount, item.span(), report);
        }
    }
    for item in service
        .get("tmpfs")
        .map(|f| f.one_or_many(report))
        .unwrap_or_default()
    {
        if let Some(mount) = tmpfs(item, report) {
            add(mount, item.span(), report);
        }
    }
    mounts
}

fn target_of(mount: &Mount) -> &str {
    match mount {
        Mount::Volume { target, .. }
        | Mount::Anonymous { target }
        | Mount::Bind { target, .. }
        | Mount::Tmpfs { target, .. } => target,
    }
}

fn mount(
    item: Field<'_>,
    service: &Fields<'_>,
    names: &Names,
    report: &mut Report,
) -> Option<Mount> {
    let fields = &item.fields(&keys::VOLUME_MOUNT, report)?;
    let Some(target) = fields.string("target", report) else {
        let message = format!("{}: a mount has no `target`", service.owner);
        report.error("compose/missing-key", fields.span, message);
        return None;
    };
    let source = fields.string("source", report);
    let read_only = fields.truth("read_only", report).unwrap_or(false);
    let Some(kind) = fields.get("type") else {
        let message = format!("{}: a mount has no `type`", service.owner);
        report
            .error("compose/missing-key", fields.span, message)
            .hint("one of volume, bind, tmpfs");
        return None;
    };
    match (kind.string(report)?.as_str(), source) {
        ("volume", Some(name)) => {
            let nocopy = volume_options(fields, report);
            if !names.volumes.contains(&name) {
                let at = item.span();
                undefined("volume", &name, at, &service.owner, &names.volumes, report);
                return None;
            }
            Some(Mount::Volume {
                name: VolumeName::new(name),
                target,
                read_only,
                nocopy,
            })
        }
        ("volume", None) => {
            volume_options(fields, report);
            Some(Mount::Anonymous { target })
        }
        ("bind", Some(source)) => {
            let create_host_path = bind_options(fields, report);
            let source = PathBuf::from(source);
            check_bind(&source, create_host_path, item, service, report);
            Some(Mount::Bind {
                source,
                target,
                read_only,
                create_host_path,
            })
        }
        ("bind", None) => {
            let message = format!("{}: a bind mount has no `source`", service.owner);
            report.error("compose/missing-key", fields.span, message);
            None
        }
        ("tmpfs", None) => {
            let options = fields
                .get("tmpfs")
                .and_then(|f| f.fields(&keys::TMPFS_OPTIONS, report));
            let size = options.as_ref().and_then(|options| options.get("size"));
            let size_bytes = size.and_then(|f| f.bytes(report)).filter(|size| *size > 0);
            let mode = options.as_ref().and_then(|options| options.get("mode"));
            let mode = mode.and_then(|f| f.mode(report));
            Some(Mount::Tmpfs {
                target,
                size_bytes,
                mode,
            })
        }
        ("tmpfs", Some(_)) => {
            let message = format!("{}: a tmpfs has no source", service.owner);
            report
                .error("compose/value", fields.span, message)
                .hint("remove `source`");
            None
        }
        _ => {
            refuse(
                kind,
                "the types are volume, bind and tmpfs",
                "use one of them",
                report,
            );
            None
        }
    }
}

/// Whether `nocopy` is set.
fn volume_options(fields: &Fields<'_>, report: &mut Report) -> bool {
    let options = fields
        .get("volume")
        .and_then(|f| f.fields(&keys::VOLUME_OPTIONS, report));
    options
        .and_then(|options| options.truth("nocopy", report))
        .unwrap_or(false)
}

/// Whether a missing folder is made: by default, as the specification says.
fn bind_options(fields: &Fields<'_>, report: &mut Report) -> bool {
    let options = fields
        .get("bind")
        .and_then(|f| f.fields(&keys::BIND_OPTIONS, report));
    let Some(options) = options else { return true };
    let rules: [(&str, &[&str]); 2] = [
        ("propagation", &["rprivate", "private"]),
        ("recursive", &["enabled"]),
    ];
    for (key, allowed) in rules {
        if let Some(field) = options.get(key)
            && let Some(value) = field.string(report)
            && !allowed.contains(&value.as_str())
        {
            refuse(field, "mounts inside stay inside", "remove it", report);
        }
    }
    options.truth("create_host_path", report).unwrap_or(true)
}

fn check_bind(
    source: &std::path::Path,
    create: bool,
    item: Field<'_>,
    service: &Fields<'_>,
    report: &mut Report,
) {
    if source.exists() {
        return;
    }
    let shown = report.shown(source);
    let looks_like_file = source.extension().is_some();
    let message = format!("{}: {shown} does not exist on this machine", service.owner);
    if create && looks_like_file {
        report
            .warn("compose/missing-file", item.span(), message)
            .hint("an empty folder is made in its place; if a file is meant, write it first");
    } else if !create {
        report
            .error("compose/missing-file", item.span(), message)
            .hint("make it, or remove `create_host_path: false`");
    }
}

/// `/path` or `/path:size=64m,mode=1777`.
fn tmpfs(item: Field<'_>, report: &mut Report) -> Option<Mount> {
    let text = item.string(report)?;
    let (target, options) = text.split_once(':').unwrap_or((&text, ""));
    let (mut size_bytes, mut mode) = (None, None);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let understood = match name {
            "size" => {
                let size = scalar::bytes(value);
                size_bytes = size.filter(|size| *size > 0);
                size.is_some()
            }
            "mode" => {
                mode = scalar::mode(value, true).map(|mode| mode.bits);
                mode.is_some()
            }
            // What every tmpfs of a container gets anyway.
            "rw" | "noexec" | "nosuid" | "nodev" => true,
            _ => false,
        };
        if !understood {
            let why = format!("option `{option}` is not known");
            refuse(item, &why, "options are size=64m and mode=1777", report);
        }
    }
    Some(Mount::Tmpfs {
        target: target.to_owned(),
        size_bytes,
        mode,
    })
}
