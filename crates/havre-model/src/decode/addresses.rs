//! Addresses that services ask for. Each replica has its own while it is replaced, so none is kept;
//! that matters only where another value names the address.

use std::collections::BTreeMap;

use crate::diagnostic::Severity;
use crate::project::ServiceName;
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Map, Node, Value};

const KEYS: [&str; 2] = ["ipv4_address", "ipv6_address"];

/// An address and where it is asked for.
struct Fixed<'n> {
    service: &'n str,
    key: &'static str,
    address: &'n str,
    place: Span,
}

/// Warns of each fixed address of the enabled services, and refuses what refers to one.
pub(super) fn look(root: &Node, enabled: &BTreeMap<ServiceName, Span>, report: &mut Report) {
    let services = root.as_map().and_then(|top| top.get("services"));
    let services: Vec<(&str, &Map)> = services
        .and_then(Node::as_map)
        .into_iter()
        .flat_map(|services| &services.entries)
        .filter(|(name, _)| enabled.contains_key(&ServiceName::new(name.as_str())))
        .filter_map(|(name, entry)| Some((name.as_str(), entry.value.as_map()?)))
        .collect();
    let fixed: Vec<Fixed<'_>> = services
        .iter()
        .flat_map(|(name, service)| asked(name, service))
        .collect();
    for fixed in &fixed {
        let Fixed {
            service,
            key,
            place,
            ..
        } = fixed;
        let message = format!(
            "service `{service}`: `{key}` has no effect: each replica has an address of its own"
        );
        report
            .warn("compose/ignored", *place, message)
            .hint("other services reach this one by its name");
    }
    if fixed.is_empty() {
        return;
    }
    for (name, service) in &services {
        for (key, entry) in &service.entries {
            if key != "networks" {
                referrers(name, key, &entry.value, &fixed, report);
            }
        }
    }
}

fn asked<'n>(service: &'n str, map: &'n Map) -> impl Iterator<Item = Fixed<'n>> {
    let networks = map.get("networks").and_then(Node::as_map);
    let attachments = networks.into_iter().flat_map(|map| map.entries.values());
    attachments.flat_map(move |attachment| {
        KEYS.into_iter().filter_map(move |key| {
            let node = attachment.value.as_map()?.get(key)?;
            Some(Fixed {
                service,
                key,
                address: node.text().filter(|text| !text.is_empty())?,
                place: node.span,
            })
        })
    })
}

fn referrers(name: &str, key: &str, node: &Node, fixed: &[Fixed<'_>], report: &mut Report) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            let Some(found) = fixed.iter().find(|one| names(&scalar.text, one.address)) else {
                return;
            };
            let at = match report.is_full(Severity::Error) {
                true => None,
                false => report.sources.find(node.span, found.address),
            };
            let message = format!(
                "service `{name}`: `{key}` refers to {}, an address that `{}` asks for and that \
                 is not kept",
                found.address, found.service
            );
            let hint = match key {
                "dns" => "remove it: the project's names are known without a resolver".to_owned(),
                _ => format!(
                    "write `{}`: its name leads to the replica that serves",
                    found.service
                ),
            };
            report
                .error("compose/unsupported", at.unwrap_or(node.span), message)
                .hint(hint);
        }
        Value::List(items) => {
            for item in items {
                referrers(name, key, item, fixed, report);
            }
        }
        Value::Map(map) => {
            for entry in map.entries.values() {
                referrers(name, key, &entry.value, fixed, report);
            }
        }
    }
}

/// Whether the text holds the address by itself, not as a part of another one.
fn names(text: &str, address: &str) -> bool {
    let part = |c: char| c.is_ascii_hexdigit() || c == '.';
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + address.len()..].chars().next();
        !before.is_some_and(part) && !behind.is_some_and(part)
    })
}
