//! `volumes_from`: the mounts of another service, at the same places.

use std::collections::{BTreeMap, BTreeSet};

use super::Decoded;
use crate::project::{Condition, Dependency, Mount, ServiceName};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::Node;

/// One item of a service's list.
struct From {
    service: ServiceName,
    read_only: bool,
    place: Span,
}

/// Gives each enabled service the mounts that it takes from others, first theirs.
pub(super) fn resolve(root: &Node, decoded: &mut Decoded, report: &mut Report) {
    let services = root.as_map().and_then(|top| top.get("services"));
    let services = services.and_then(Node::as_map);
    let mut waiting: BTreeMap<ServiceName, Vec<From>> = BTreeMap::new();
    for name in decoded.services.keys() {
        let node = services.and_then(|map| map.get(name.as_str()));
        let list = node.and_then(|node| node.as_map()?.get("volumes_from")?.as_list());
        let list = list.unwrap_or_default().iter();
        let froms: Vec<From> = list
            .filter_map(|item| from(name, item, decoded, report))
            .collect();
        if !froms.is_empty() {
            waiting.insert(name.clone(), froms);
        }
    }
    // Who takes from others gives only when it has what it takes.
    while !waiting.is_empty() {
        let ready: Vec<ServiceName> = waiting
            .iter()
            .filter(|(_, froms)| !froms.iter().any(|from| waiting.contains_key(&from.service)))
            .map(|(name, _)| name.clone())
            .collect();
        if ready.is_empty() {
            let names: Vec<&str> = waiting.keys().map(ServiceName::as_str).collect();
            let message = format!(
                "services take volumes from each other: {}",
                names.join(", ")
            );
            let place = waiting.values().flatten().next().map(|from| from.place);
            report
                .error("compose/cycle", place, message)
                .hint("name the volumes in each of them");
            return;
        }
        for name in ready {
            for from in waiting.remove(&name).unwrap_or_default() {
                take(&name, &from, decoded, report);
            }
        }
    }
}

fn from(name: &ServiceName, item: &Node, decoded: &Decoded, report: &mut Report) -> Option<From> {
    let Some(text) = item.text() else {
        let message = format!(
            "service `{name}`: each item of `volumes_from` must be a service, not {}",
            item.kind()
        );
        report.error("compose/type", item.span, message);
        return None;
    };
    let (other, mode) = text.split_once(':').unwrap_or((text, "rw"));
    let problem = match mode {
        _ if other == "container" => "containers of other projects cannot be reached".to_owned(),
        "ro" | "rw" if decoded.services.contains_key(&ServiceName::new(other)) => {
            return Some(From {
                service: ServiceName::new(other),
                read_only: mode == "ro",
                place: item.span,
            });
        }
        "ro" | "rw" => format!("no enabled service is called `{other}`"),
        _ => format!("`{mode}` is neither `ro` nor `rw`"),
    };
    let message = format!("service `{name}`: `volumes_from: {text}`: {problem}");
    report
        .error("compose/undefined", item.span, message)
        .hint("name the volumes in both services");
    None
}

fn take(name: &ServiceName, from: &From, decoded: &mut Decoded, report: &mut Report) {
    let given: Vec<Mount> = decoded
        .services
        .get(&from.service)
        .map(|other| other.mounts.clone())
        .unwrap_or_default();
    let Some(service) = decoded.services.get_mut(name) else {
        return;
    };
    let mut taken: BTreeSet<String> = service
        .mounts
        .iter()
        .map(|mount| {
            super::mounts::target_of(mount)
                .trim_end_matches('/')
                .to_owned()
        })
        .collect();
    for mut mount in given {
        let target = super::mounts::target_of(&mount)
            .trim_end_matches('/')
            .to_owned();
        match &mut mount {
            Mount::Volume { read_only, .. } | Mount::Bind { read_only, .. } => {
                *read_only |= from.read_only;
            }
            // Memory is nobody else's.
            Mount::Tmpfs { .. } => continue,
            Mount::Anonymous { .. } => {
                let message = format!(
                    "service `{name}` takes the volume at {target} from `{}`, which has no name to \
                     share it by",
                    from.service
                );
                report
                    .error("compose/unsupported", from.place, message)
                    .hint(format!("write `NAME:{target}` in `{}`", from.service));
                continue;
            }
        }
        if taken.insert(target) {
            service.mounts.push(mount);
        }
    }
    service
        .depends_on
        .entry(from.service.clone())
        .or_insert(Dependency {
            condition: Condition::ServiceStarted,
            required: true,
            restart: false,
        });
}
