//! The project's named volumes, and what `driver_opts` make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Surroundings;
use crate::bounds::{is_volume_key, is_volume_name};
use crate::keys;
use crate::project::{Mount, Volume};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::scalar;
use crate::source::Span;
use crate::yaml::{Node, Value};

/// A named volume as it is read.
pub(crate) struct Read {
    pub volume: Volume,
    /// `driver_opts`.
    pub backing: Option<Backing>,
}

/// What a volume is, where it is no folder of Havre's.
pub(crate) enum Backing {
    Folder { path: PathBuf, read_only: bool },
    Memory(Memory),
}

/// Options of a tmpfs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub size_bytes: Option<u64>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub exec: bool,
}

impl Memory {
    pub fn at(&self, target: String) -> Mount {
        let Self {
            size_bytes,
            mode,
            uid,
            gid,
            exec,
        } = *self;
        Mount::Tmpfs {
            target,
            size_bytes,
            mode,
            uid,
            gid,
            exec,
        }
    }
}

pub(super) fn volume(name: &str, node: &Node, around: &mut Surroundings<'_>) -> Option<Read> {
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
    let backing = match fields.get("driver_opts") {
        Some(field) if external => {
            let message = format!(
                "{}: an external volume is what it is, and has no `driver_opts`",
                fields.owner
            );
            report
                .error("compose/conflict", field.span(), message)
                .hint("keep one of the two");
            None
        }
        Some(field)
            if field
                .node
                .as_map()
                .is_some_and(|map| map.entries.is_empty()) =>
        {
            None
        }
        Some(field) => backing(field, report),
        None => None,
    };
    let written = fields.string("name", report).or(older_name);
    let wrong = match &written {
        _ if !is_volume_key(name) => Some((name, fields.span)),
        Some(name) if !is_volume_name(name) => Some((name.as_str(), fields.key_span("name"))),
        Some(_) | None => None,
    };
    if let Some((name, place)) = wrong {
        let message = format!("`{name}` is not a name for a volume");
        report
            .error("compose/name", place, message)
            .hint("letters, digits, `.`, `_` and `-`, the first a letter or digit");
        return None;
    }
    Some(Read {
        volume: Volume {
            name: written.or(own_name),
            external,
            backing: None,
            labels: fields.labels("labels", report),
        },
        backing,
    })
}

/// `external: true`, or the older `external: {name: …}`.
pub(super) fn external(fields: &Fields<'_>, report: &mut Report) -> (bool, Option<String>) {
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

/// `driver_opts` of docker's local driver: what mount(8) would be given.
fn backing(field: Field<'_>, report: &mut Report) -> Option<Backing> {
    let mut options = BTreeMap::new();
    for (name, place, node) in field.entries(report) {
        if matches!(name, "type" | "o" | "device") {
            let option = Field {
                owner: field.owner,
                key: name,
                node,
            };
            options.insert(name, (option.string(report)?, option));
        } else {
            let message = format!("{}: driver option `{name}` is not known", field.owner);
            report
                .error("compose/unsupported", place, message)
                .hint("the options are type, o and device");
            return None;
        }
    }
    let text = |name: &str| options.get(name).map_or("", |(text, _)| text.as_str());
    let flags: Vec<&str> = text("o").split(',').filter(|o| !o.is_empty()).collect();
    let is_bind = flags.iter().any(|flag| matches!(*flag, "bind" | "rbind"));
    match text("type") {
        "tmpfs" => {
            let mut memory = Memory::default();
            for flag in flags {
                memory_option(flag, options["o"].1, &mut memory, report);
            }
            Some(Backing::Memory(memory))
        }
        "none" | "bind" | "" if is_bind => {
            let mut read_only = false;
            for flag in flags {
                match flag {
                    "bind" | "rbind" | "rw" => {}
                    "ro" => read_only = true,
                    _ => {
                        let why = format!("option `{flag}` is not known");
                        refuse(options["o"].1, &why, "options are bind and ro", report);
                    }
                }
            }
            let Some((device, _)) = options.get("device") else {
                let message = format!("{} names no `device`", field.owner);
                report.error("compose/missing-key", field.span(), message);
                return None;
            };
            Some(Backing::Folder {
                path: PathBuf::from(device),
                read_only,
            })
        }
        "none" | "bind" | "" => {
            let message = format!(
                "{}: `driver_opts` without `o: bind` mount nothing",
                field.owner
            );
            report
                .error("compose/volume", field.span(), message)
                .hint("for a folder of this machine: {type: none, o: bind, device: /path}");
            None
        }
        _ => {
            let why = "file systems are the machine's to mount";
            let hint = "mount it on this machine, and name its folder: {type: none, o: bind, \
                        device: /path}";
            refuse(options["type"].1, why, hint, report);
            None
        }
    }
}

/// A missing folder matters only where the volume is used.
pub(super) fn check_exists(name: &str, volume: &Volume, at: Span, report: &mut Report) {
    if let Some(path) = volume.backing.as_ref().filter(|path| !path.is_dir()) {
        let shown = report.shown(path);
        let message = format!("volume `{name}`: {shown} is not a folder of this machine");
        report
            .error("compose/missing-file", at, message)
            .hint("make it first: such a volume is a folder that is there already");
    }
}

/// One option of a tmpfs, as mount(8) takes it.
pub(super) fn memory_option(option: &str, at: Field<'_>, memory: &mut Memory, report: &mut Report) {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let number = || value.parse::<u32>().ok();
    let understood = match name {
        "size" => {
            let size = scalar::bytes(value);
            memory.size_bytes = size.filter(|size| *size > 0);
            size.is_some()
        }
        "mode" => {
            memory.mode = scalar::mode(value, true).map(|mode| mode.bits);
            memory.mode.is_some()
        }
        "uid" => {
            memory.uid = number();
            memory.uid.is_some()
        }
        "gid" => {
            memory.gid = number();
            memory.gid.is_some()
        }
        "exec" => {
            memory.exec = true;
            true
        }
        // What every tmpfs of a container gets anyway.
        "rw" | "noexec" | "nosuid" | "nodev" | "defaults" => true,
        // When a file was read is nobody's business in memory.
        "atime" | "noatime" | "relatime" | "norelatime" | "strictatime" | "diratime"
        | "nodiratime" => true,
        _ => false,
    };
    if !understood {
        let why = format!("option `{option}` is not known");
        let hint = "options are size=64m, mode=1777, uid=1000, gid=1000 and exec";
        refuse(at, &why, hint, report);
    }
}

/// The enabled services that name each volume.
pub(super) fn users(
    services: &[(&str, Span, &Node)],
    disabled: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut users = BTreeMap::<String, BTreeSet<String>>::new();
    for (name, _, node) in services {
        if disabled.contains_key(*name) {
            continue;
        }
        let mounts = node.as_map().and_then(|map| map.get("volumes"));
        let Some(Value::List(items)) = mounts.map(|node| &node.value) else {
            continue;
        };
        for item in items {
            let part = |key| item.as_map().and_then(|map| map.get(key));
            if part("type").and_then(Node::text) == Some("volume")
                && let Some(source) = part("source").and_then(Node::text)
            {
                let of_volume = users.entry(source.to_owned()).or_default();
                of_volume.insert((*name).to_owned());
            }
        }
    }
    users
}
