//! `volumes` and `tmpfs` of a service.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::machine::{self, AllowRequests};
use super::volume::{Backing, Memory, memory_option};
use super::{Names, undefined};
use crate::diagnostic::Severity;
use crate::files::means_file;
use crate::host_path;
use crate::keys;
use crate::project::{Mount, VolumeName};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::source::Span;

pub(super) fn mounts(
    service: &Fields<'_>,
    names: &Names,
    requests: &mut AllowRequests<'_>,
    report: &mut Report,
) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let mut targets = BTreeSet::new();
    let mut add = |mut mount: Mount, at: Span, report: &mut Report| {
        let target = target_of(&mount).trim_end_matches('/').to_owned();
        if !target_of(&mount).starts_with('/') {
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
        } else if machine::mount(&mut mount, at, service, requests, report) {
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

pub(super) fn target_of(mount: &Mount) -> &str {
    match mount {
        Mount::Volume { target, .. }
        | Mount::Anonymous { target, .. }
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
            let options = volume_options(fields, report);
            if !names.volumes.contains(&name) {
                let at = item.span();
                undefined("volume", &name, at, &service.owner, &names.volumes, report);
                return None;
            }
            let (backing, forced) = match names.backings.get(&name) {
                None => (None, false),
                Some(Backing::Folder { path, read_only }) => (Some(path.clone()), *read_only),
                Some(Backing::Memory(memory)) => {
                    return in_memory(&name, memory, target, &options, item, names, report);
                }
            };
            Some(Mount::Volume {
                name: VolumeName::new(name),
                target,
                read_only: read_only || forced,
                nocopy: options.nocopy,
                subpath: options.subpath.map(|(path, _)| path),
                backing,
            })
        }
        ("volume", None) => {
            let options = volume_options(fields, report);
            if let Some((_, field)) = options.subpath {
                let why = "a volume without a name begins empty";
                refuse(field, why, "give it a name, or remove it", report);
            }
            Some(Mount::Anonymous {
                target,
                read_only,
                nocopy: options.nocopy,
            })
        }
        ("bind", Some(source)) => {
            let mut create_host_path = bind_options(fields, report);
            let source = PathBuf::from(source);
            if host_path::is_engine_socket(&source) {
                // A folder in its place would stand in the way of that engine.
                create_host_path = false;
            } else {
                check_bind(&source, &target, create_host_path, item, names, report);
            }
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
            if let Some(field) = fields.get("read_only").filter(|_| read_only) {
                let why = "memory that nobody writes to stays empty";
                refuse(field, why, "remove it", report);
            }
            let memory = Memory {
                size_bytes,
                mode,
                ..Memory::default()
            };
            Some(memory.at(target))
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

/// `volume` of a mount.
#[derive(Default)]
struct VolumeOptions<'n> {
    nocopy: bool,
    /// With where it is written.
    subpath: Option<(String, Field<'n>)>,
}

fn volume_options<'n>(fields: &'n Fields<'n>, report: &mut Report) -> VolumeOptions<'n> {
    let Some(field) = fields.get("volume") else {
        return VolumeOptions::default();
    };
    let Some(options) = field.fields(&keys::VOLUME_OPTIONS, report) else {
        return VolumeOptions::default();
    };
    let map = field.node.as_map();
    let subpath = map.and_then(|map| map.get("subpath")).map(|node| Field {
        owner: field.owner,
        key: "subpath",
        node,
    });
    let subpath = subpath.filter(|f| !f.node.is_null() && f.node.text() != Some(""));
    VolumeOptions {
        nocopy: options.truth("nocopy", report).unwrap_or(false),
        subpath: subpath.and_then(|f| Some((self::subpath(f, report)?, f))),
    }
}

/// A path that stays in the volume; `None` for all of it, and after an error.
fn subpath(field: Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.string(report)?;
    let parts = || text.split('/').filter(|part| !matches!(*part, "" | "."));
    if text.starts_with('/') || parts().any(|part| part == "..") {
        let message = format!("{}: `{text}` is not a path inside the volume", field.owner);
        report
            .error("compose/volume", field.span(), message)
            .hint("write it without `/` at its begin and without `..`");
        return None;
    }
    let clean: Vec<&str> = parts().collect();
    (!clean.is_empty()).then(|| clean.join("/"))
}

/// A named volume that is memory: nobody else sees it, so each container can have its own.
fn in_memory(
    name: &str,
    memory: &Memory,
    target: String,
    options: &VolumeOptions<'_>,
    item: Field<'_>,
    names: &Names,
    report: &mut Report,
) -> Option<Mount> {
    if let Some((_, field)) = &options.subpath {
        refuse(*field, "the volume is memory", "remove it", report);
        return None;
    }
    if let Some(users) = names.users.get(name).filter(|users| users.len() > 1) {
        let users: Vec<&str> = users.iter().map(String::as_str).collect();
        let message = format!(
            "volume `{name}` is memory, which {} cannot share",
            users.join(" and ")
        );
        report
            .error("compose/unsupported", item.span(), message)
            .hint("remove its `driver_opts`, so that it is a folder, or give each its own");
        return None;
    }
    Some(memory.at(target))
}

/// Whether a missing folder is made: by default, as the specification says.
fn bind_options(fields: &Fields<'_>, report: &mut Report) -> bool {
    let options = fields
        .get("bind")
        .and_then(|f| f.fields(&keys::BIND_OPTIONS, report));
    let Some(options) = options else { return true };
    if let Some(field) = options.get("propagation")
        && let Some(value) = field.string(report)
    {
        match value.as_str() {
            "rprivate" | "private" => {}
            "rslave" | "slave" => {
                let message = format!(
                    "{}: `propagation: {value}` has no effect: what the machine mounts there later is \
                     seen from the next start on",
                    fields.owner
                );
                report.warn("compose/ignored", field.span(), message);
            }
            _ => refuse(field, "mounts inside stay inside", "remove it", report),
        }
    }
    if let Some(field) = options.get("recursive")
        && let Some(value) = field.string(report)
        && value != "enabled"
    {
        refuse(field, "mounts inside stay inside", "remove it", report);
    }
    options.truth("create_host_path", report).unwrap_or(true)
}

/// A missing folder is made. A missing file is not known to be one, but by its name: docker makes a
/// folder of it, with which the program fails and which is in the way of the file.
fn check_bind(
    source: &Path,
    target: &str,
    create: bool,
    item: Field<'_>,
    names: &Names,
    report: &mut Report,
) {
    if source.exists() {
        return;
    }
    let shown = report.shown(source);
    let message = format!("{}: {shown} does not exist on this machine", item.owner);
    if create && means_file(source, Path::new(target)) {
        let (severity, hint) = match names.to_run {
            true => (
                Severity::Error,
                "by its name it is a file: write it first; a folder that is meant, make first",
            ),
            false => (
                Severity::Warning,
                "by its name it is a file: `havre up` refuses to go on without it",
            ),
        };
        report
            .record(severity, "compose/missing-file", item.span(), message)
            .hint(hint);
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
    let mut memory = Memory::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        memory_option(option, item, &mut memory, report);
    }
    Some(memory.at(target.to_owned()))
}
