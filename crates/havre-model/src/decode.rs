//! The merged tree → services, networks, volumes, secrets and configs.

mod addresses;
mod build;
mod deploy;
mod grants;
mod image;
mod machine;
mod mounts;
mod network;
mod process;
mod reads;
mod resolver;
mod service;
mod volume;
mod volumes_from;

pub(crate) use machine::is_of_machine;
pub(crate) use service::is_capability;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diagnostic::Severity;
use crate::files::Files;
use crate::interpolate::Variables;
use crate::keys;
use crate::project::{
    FileSource, Liveness, Mount, Network, NetworkName, Service, ServiceName, Volume, VolumeName,
};

use crate::read::{Field, Fields};
use crate::report::Report;
use crate::source::Span;
use crate::suggest;
use crate::yaml::{Map, Node};
pub(crate) use machine::HostContext;
use volume::Backing;

/// What decoding needs to know beside the tree.
pub(crate) struct Surroundings<'a> {
    pub variables: &'a Variables,
    pub files: &'a mut Files,
    pub report: &'a mut Report,
    /// Active profiles; `*` activates all.
    pub profiles: &'a BTreeSet<String>,
    pub host_ca: bool,
    /// The project is about to run on this machine.
    pub to_run: bool,
    /// Absolute.
    pub directory: &'a Path,
    pub ground: HostContext<'a>,
    /// Secrets that havre.yaml gives to services as variables.
    pub secret_variables: &'a BTreeSet<String>,
    /// What havre.yaml would have to say, by service.
    pub to_allow: Vec<machine::ToAllow>,
}

/// The compose part of a project.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub services: BTreeMap<ServiceName, Service>,
    pub networks: BTreeMap<NetworkName, Network>,
    /// Networks that the file has, those that nobody is on too.
    pub declared_networks: BTreeSet<String>,
    pub volumes: BTreeMap<VolumeName, Volume>,
    pub secrets: BTreeMap<String, FileSource>,
    pub configs: BTreeMap<String, FileSource>,
    /// Where each enabled service is written.
    pub places: BTreeMap<ServiceName, Span>,
    /// Services that no active profile enables, with their profiles.
    pub disabled: BTreeMap<String, Vec<String>>,
}

/// `liveness` of havre.yaml, which is written like a health check.
pub(crate) fn liveness(field: Field<'_>, report: &mut Report) -> Option<Liveness> {
    process::liveness(field, report)
}

/// The name of a signal; an error is one that is near.
pub(crate) fn signal(written: &str) -> Result<String, &'static str> {
    process::signal(written)
}

/// The names that services may refer to.
pub(crate) struct Names {
    pub services: BTreeSet<String>,
    pub disabled: BTreeMap<String, Vec<String>>,
    pub networks: BTreeSet<String>,
    pub volumes: BTreeSet<String>,
    /// Volumes that are no folders of Havre's.
    pub backings: BTreeMap<String, Backing>,
    /// Enabled services by the volumes they name.
    pub users: BTreeMap<String, BTreeSet<String>>,
    pub secrets: BTreeSet<String>,
    pub configs: BTreeSet<String>,
    /// Of those, what is read from the machine.
    pub secret_files: reads::Sources,
    pub config_files: reads::Sources,
    /// What is mounted must be there.
    pub to_run: bool,
}

pub(crate) fn decode(root: &Node, around: &mut Surroundings<'_>) -> Option<Decoded> {
    let top = Fields::open("the compose file", root, &keys::TOP, around.report)?;
    top.string("name", around.report);
    let Some(services) = top.get("services") else {
        around
            .report
            .error(
                "compose/no-services",
                top.span,
                "the compose file has no services",
            )
            .hint("list them under `services:`");
        return None;
    };
    let services = services.entries(around.report);
    let mut decoded = Decoded {
        disabled: disabled(&services, around),
        ..Decoded::default()
    };
    let networks = resources(&top, "networks", around, network::network);
    let mut volumes = resources(&top, "volumes", around, volume::volume);
    let secrets = resources(&top, "secrets", around, grants::secret);
    let configs = resources(&top, "configs", around, grants::config);
    let names = Names {
        backings: volumes
            .iter_mut()
            .filter_map(|(name, (_, volume))| Some((name.clone(), volume.backing.take()?)))
            .collect(),
        users: volume::users(&services, &decoded.disabled),
        services: services
            .iter()
            .map(|(name, ..)| (*name).to_owned())
            .collect(),
        disabled: decoded.disabled.clone(),
        networks: keys_of(root, "networks"),
        volumes: keys_of(root, "volumes"),
        secrets: keys_of(root, "secrets"),
        configs: keys_of(root, "configs"),
        secret_files: files_of(&secrets),
        config_files: files_of(&configs),
        to_run: around.to_run,
    };

    decoded.declared_networks.clone_from(&names.networks);
    for (name, place, node) in services {
        if !valid_name(name) {
            let message = format!("`{name}` is not a valid service name");
            around
                .report
                .error("compose/name", place, message)
                .hint("letters, digits, `.`, `_` and `-`, at most 63, the first a letter or digit");
            continue;
        }
        let enabled = !decoded.disabled.contains_key(name);
        let mark = around.report.mark();
        let to_allow = around.to_allow.len();
        let service = service::service(name, node, &names, around);
        if !enabled {
            around.to_allow.truncate(to_allow);
            // Slips are reported everywhere; what only running would meet is not.
            around.report.retain_since(mark, |finding| {
                matches!(
                    finding.code,
                    "compose/unknown-key" | "compose/type" | "compose/port"
                )
            });
            continue;
        }
        if let Some(service) = service {
            let name = ServiceName::new(name);
            decoded.places.insert(name.clone(), place);
            decoded.services.insert(name, service);
        }
    }
    machine::suggest_lines(std::mem::take(&mut around.to_allow), around.report);
    volumes_from::resolve(root, &mut decoded, around.report);
    addresses::look(root, &decoded.places, around.report);
    keep_used(&mut decoded, networks, volumes, secrets, configs, around);
    Some(decoded)
}

fn files_of(sources: &BTreeMap<String, (Span, FileSource)>) -> reads::Sources {
    let files = sources
        .iter()
        .filter_map(|(name, (_, source))| match source {
            FileSource::File { path } => Some((name.clone(), path.clone())),
            FileSource::Sent { .. }
            | FileSource::Environment { .. }
            | FileSource::Store { .. }
            | FileSource::Content { .. } => None,
        });
    files.collect()
}

/// `[A-Za-z0-9][A-Za-z0-9._-]*`, short enough to be a host name's label.
pub(crate) fn valid_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Reports a name that does not exist, with the nearest that does.
pub(crate) fn undefined(
    kind: &str,
    name: &str,
    at: Span,
    owner: &str,
    known: &BTreeSet<String>,
    report: &mut Report,
) {
    let message = format!("{owner} refers to {kind} `{name}`, which is not defined");
    let near = if report.is_full(Severity::Error) {
        None
    } else {
        suggest::nearest(name, known.iter().map(String::as_str))
    };
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if kind == "service" => "add it under `services:`, or remove the reference".into(),
        None => {
            let source = match kind {
                "secret" => format!("\n    file: ./{name}.txt"),
                "config" => format!("\n    file: ./{name}"),
                _ => String::new(),
            };
            format!("add it at the end of the file:\n{kind}s:\n  {name}:{source}")
        }
    };
    report.error("compose/undefined", at, message).hint(hint);
}

fn disabled(
    services: &[(&str, Span, &Node)],
    around: &mut Surroundings<'_>,
) -> BTreeMap<String, Vec<String>> {
    let mut disabled = BTreeMap::new();
    for (name, _, node) in services {
        let Some(profiles) = node.as_map().and_then(|map| map.get("profiles")) else {
            continue;
        };
        // The service's own decoder reports what is wrong with the list.
        let wanted: Vec<String> = profiles
            .as_list()
            .unwrap_or_default()
            .iter()
            .filter_map(|item| item.text().map(str::to_owned))
            .collect();
        // Where nobody names a profile, docker compose looks for the one without a name.
        let nameless = around.profiles.is_empty() && wanted.iter().any(String::is_empty);
        let active = around.profiles.contains("*")
            || wanted.is_empty()
            || nameless
            || wanted
                .iter()
                .any(|profile| around.profiles.contains(profile));
        if !active {
            disabled.insert((*name).to_owned(), wanted);
        }
    }
    disabled
}

fn keys_of(root: &Node, section: &str) -> BTreeSet<String> {
    let map = root
        .as_map()
        .and_then(|top| top.get(section))
        .and_then(Node::as_map);
    map.map(|map| map.entries.keys().cloned().collect())
        .unwrap_or_default()
}

/// Decodes each entry of a top-level section; an empty entry counts as an empty mapping.
fn resources<T>(
    top: &Fields<'_>,
    section: &'static str,
    around: &mut Surroundings<'_>,
    decode: fn(&str, &Node, &mut Surroundings<'_>) -> Option<T>,
) -> BTreeMap<String, (Span, T)> {
    let Some(field) = top.get(section) else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for (name, place, node) in Field::entries(&field, around.report) {
        let empty;
        let node = if node.is_null() {
            empty = Node::map(place, Map::default());
            &empty
        } else {
            node
        };
        if let Some(value) = decode(name, node, around) {
            found.insert(name.to_owned(), (place, value));
        }
    }
    found
}

fn keep_used(
    decoded: &mut Decoded,
    networks: BTreeMap<String, (Span, Network)>,
    volumes: BTreeMap<String, (Span, volume::Read)>,
    secrets: BTreeMap<String, (Span, FileSource)>,
    configs: BTreeMap<String, (Span, FileSource)>,
    around: &mut Surroundings<'_>,
) {
    for service in decoded.services.values() {
        for name in service.networks.keys() {
            if decoded.networks.contains_key(name) {
                continue;
            }
            let mut network = Network::default();
            if let Some((place, known)) = networks.get(name.as_str()) {
                network::warn_of_external(name.as_str(), known, *place, around);
                network.clone_from(known);
            }
            decoded.networks.insert(name.clone(), network);
        }
        for mount in &service.mounts {
            if let Mount::Volume { name, backing, .. } = mount
                && let Some((place, read)) = volumes.get(name.as_str())
                && !decoded.volumes.contains_key(name)
            {
                let mut volume = read.volume.clone();
                volume.backing.clone_from(backing);
                volume::check_exists(name.as_str(), &volume, *place, around.report);
                decoded.volumes.insert(name.clone(), volume);
            }
        }
    }
    for name in around.secret_variables {
        if let Some((place, source)) = secrets.get(name) {
            grants::check_exists("secret", name, source, *place, around.report);
            decoded.secrets.insert(name.clone(), source.clone());
        }
    }
    let grants = [
        ("secret", &mut decoded.secrets, secrets),
        ("config", &mut decoded.configs, configs),
    ];
    for (kind, kept, known) in grants {
        for service in decoded.services.values() {
            let list = if kind == "secret" {
                &service.secrets
            } else {
                &service.configs
            };
            let of_build = service.build.iter().filter(|_| kind == "secret");
            let of_build = of_build.flat_map(|build| build.secrets.values());
            for name in list.iter().map(|grant| &grant.source).chain(of_build) {
                if let Some((place, source)) = known.get(name)
                    && !kept.contains_key(name)
                {
                    grants::check_exists(kind, name, source, *place, around.report);
                    kept.insert(name.clone(), source.clone());
                }
            }
        }
    }
}
