//! Networks, ports and names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::volume::external;
use super::{Names, Surroundings, undefined};
use crate::bounds::is_network_name;
use crate::keys;
use crate::project::{Attachment, Network, NetworkName, Port, Protocol, RouteProtocol};
use crate::read::{Field, Fields, refuse};
use crate::report::Report;
use crate::source::Span;
use crate::yaml::Node;

pub(super) fn network(name: &str, node: &Node, around: &mut Surroundings<'_>) -> Option<Network> {
    let report = &mut *around.report;
    let fields = Fields::open(format!("network `{name}`"), node, &keys::NETWORK, report)?;
    if let Some(field) = fields.get("driver")
        && let Some(driver) = field.string(report)
        && !matches!(driver.as_str(), "bridge" | "default")
    {
        if driver == "overlay" {
            let message = format!(
                "{}: `driver: overlay` has no effect: every service runs on this machine",
                fields.owner
            );
            report.warn("compose/ignored", field.span(), message);
        } else {
            refuse(
                field,
                "every network is inside this machine",
                "remove it",
                report,
            );
        }
    }
    let (is_external, older_name) = external(&fields, report);
    let given_name = fields.string("name", report).or(older_name);
    // `default` is no name to be known by on a machine.
    let is_shared = around.ground.shared.contains(name)
        && (given_name.is_some() || is_external || name != "default");
    let on_machine = given_name.unwrap_or_else(|| name.to_owned());
    if is_shared && !is_network_name(&on_machine) {
        let message = format!("network `{name}`: `{on_machine}` is no name for a shared one");
        report
            .error("havre/value", node.span, message)
            .hint("letters, digits, `.`, `_` and `-`, at most 63, the first a letter or digit");
    }
    Some(Network {
        internal: fields.truth("internal", report).unwrap_or(false),
        external: is_external.then(|| on_machine.clone()),
        shared: is_shared.then_some(on_machine),
        labels: fields.labels("labels", report),
    })
}

/// Says of a network that services use what it is not, where another tool would have made it.
pub(super) fn warn_of_external(
    name: &str,
    network: &Network,
    at: Span,
    around: &mut Surroundings<'_>,
) {
    let Some(external) = network.external.as_ref() else {
        return;
    };
    let own = "it is the environment's own, and services of other projects are not on it";
    let message = match around.ground.known {
        _ if network.shared.is_some() => return,
        Some(known) if known.contains(external) => return,
        Some(_) => format!(
            "network `{name}` is external, and this machine has none that is called \
             `{external}`: {own}"
        ),
        None => format!(
            "network `{name}` is external: unless the machine has one that is called \
             `{external}`, {own}"
        ),
    };
    let make = match is_network_name(external) {
        true => format!("`havre network create {external}` makes one that projects share; "),
        false => String::new(),
    };
    around
        .report
        .warn("compose/external-network", at, message)
        .hint(format!("{make}the proxy needs none"));
}

/// The networks a service joins; without a word about them, `default`.
pub(super) fn attachments(
    service: &Fields<'_>,
    names: &Names,
    report: &mut Report,
) -> BTreeMap<NetworkName, Attachment> {
    if let Some(field) = service.get("network_mode")
        && !has_networks(field, service, report)
    {
        return BTreeMap::new();
    }
    let mut joined = BTreeMap::new();
    if let Some(field) = service.get("networks") {
        for (name, place, node) in field.entries(report) {
            if name != "default" && !names.networks.contains(name) {
                undefined(
                    "network",
                    name,
                    place,
                    &service.owner,
                    &names.networks,
                    report,
                );
                continue;
            }
            let owner = format!("{}: `networks.{name}`", service.owner);
            let attachment = attachment(&owner, node, report);
            joined.insert(NetworkName::new(name), attachment);
        }
    }
    if joined.is_empty() {
        joined.insert(NetworkName::new("default"), Attachment::default());
    }
    joined
}

/// Whether the service is on networks of its project. What its network is otherwise is looked at
/// elsewhere.
fn has_networks(field: Field<'_>, service: &Fields<'_>, report: &mut Report) -> bool {
    let Some(mode) = field.string(report) else {
        return true;
    };
    match mode.as_str() {
        "bridge" | "default" => return true,
        "none" | "host" => {}
        mode if mode.starts_with("service:") => {}
        mode if mode.starts_with("container:") => {
            let why = "containers have other names in every release";
            let hint = "write `service:NAME` for a service of this project";
            refuse(field, why, hint, report);
            return true;
        }
        _ => {
            refuse(field, "it is not known", "use `networks`", report);
            return true;
        }
    }
    if service.has("networks") {
        let message = format!(
            "{}: `network_mode: {mode}` and `networks` exclude each other",
            service.owner
        );
        report.error("compose/conflict", field.span(), message);
    }
    false
}

/// `expose` and `ports`. What is on the machine's own network is there with all its ports.
pub(super) fn reached(
    service: &Fields<'_>,
    on_the_machine: bool,
    report: &mut Report,
) -> (Vec<u16>, Vec<Port>) {
    let mut exposed = expose(service, report);
    let published = ports(service, report);
    if !on_the_machine {
        return (exposed, published);
    }
    if let Some(field) = service.get("ports") {
        let message = format!(
            "{}: `ports` opens nothing: with `network_mode: host` all of its ports are the machine's",
            service.owner
        );
        report
            .warn("compose/ignored", field.span(), message)
            .hint("remove it; a route may lead to the port all the same");
    }
    let tcp = published
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp);
    exposed.extend(tcp.map(|port| port.target));
    exposed.sort_unstable();
    exposed.dedup();
    (exposed, Vec::new())
}

fn attachment(owner: &str, node: &Node, report: &mut Report) -> Attachment {
    if node.is_null() {
        return Attachment::default();
    }
    let Some(fields) = Fields::open(owner, node, &keys::ATTACHMENT, report) else {
        return Attachment::default();
    };
    let mut aliases: Vec<String> = Vec::new();
    if let Some(field) = fields.get("aliases") {
        for item in field.items(report) {
            let Some(alias) = item.string(report) else {
                continue;
            };
            if !alias.split('.').all(super::valid_name) {
                let message = format!("{owner}: `{alias}` is not a host name");
                report.error("compose/name", item.span(), message);
            } else if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
    }
    Attachment { aliases }
}

fn expose(service: &Fields<'_>, report: &mut Report) -> Vec<u16> {
    let Some(field) = service.get("expose") else {
        return Vec::new();
    };
    let mut ports = Vec::new();
    for item in field.items(report) {
        let Some(text) = item.string(report) else {
            continue;
        };
        let range = text.split('/').next().unwrap_or(&text);
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if first > 0 && first <= last && last - first < 1024 => {
                ports.extend(first..=last);
            }
            _ => {
                let message = format!("{}: `{text}` is not a port", service.owner);
                report.error("compose/port", item.span(), message);
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn ports(service: &Fields<'_>, report: &mut Report) -> Vec<Port> {
    let Some(field) = service.get("ports") else {
        return Vec::new();
    };
    let mut ports: Vec<Port> = Vec::new();
    for item in field.items(report) {
        let Some(port) = port(item, report) else {
            continue;
        };
        if ports.contains(&port) {
            let message = format!("{}: port {} is published twice", service.owner, port.target);
            report.warn("compose/duplicate-port", item.span(), message);
        } else {
            ports.push(port);
        }
    }
    ports
}

fn port(item: Field<'_>, report: &mut Report) -> Option<Port> {
    let fields = item.fields(&keys::PORT, report)?;
    let Some(target) = fields.get("target") else {
        let message = format!("{} has no `target`", fields.owner);
        report.error("compose/missing-key", fields.span, message);
        return None;
    };
    let target = target.port(report)?;
    let published = match fields
        .get("published")
        .filter(|f| f.node.text() != Some(""))
    {
        Some(field) if field.node.text() == Some("0") => None,
        Some(field) => match field.node.text().and_then(|text| text.split_once('-')) {
            Some(range) => first_of(range, field, report),
            None => Some(field.port(report)?),
        },
        None => None,
    };
    let host_ip = fields.get("host_ip").and_then(|field| {
        let ip = field.string(report)?;
        if ip.parse::<IpAddr>().is_err() {
            let message = format!("{}: `{ip}` is not an IP address", fields.owner);
            report.error("compose/port", field.span(), message);
        }
        Some(ip)
    });
    let protocol = match fields.get("protocol") {
        None => Protocol::Tcp,
        Some(field) => match field.string(report)?.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => {
                refuse(
                    field,
                    "only TCP and UDP are forwarded",
                    "use one of them",
                    report,
                );
                return None;
            }
        },
    };
    // What else there may be (`http`, `postgres`) is for people.
    let app_protocol = match fields.string("app_protocol", report).as_deref() {
        Some("h2c" | "grpc" | "kubernetes.io/h2c") => RouteProtocol::H2c,
        Some(_) | None => RouteProtocol::Http,
    };
    Some(Port {
        target,
        published,
        host_ip,
        protocol,
        app_protocol,
    })
}

/// Docker takes whichever port of a range is free; the first one is taken here, so that it is known.
fn first_of((first, last): (&str, &str), field: Field<'_>, report: &mut Report) -> Option<u16> {
    let first: Option<u16> = first.trim().parse().ok().filter(|port| *port > 0);
    let last: Option<u16> = last.trim().parse().ok();
    let (Some(first), Some(last)) = (first, last) else {
        let message = format!("{} publishes no port that can be read", field.owner);
        report.error("compose/port", field.span(), message);
        return None;
    };
    let message = format!(
        "{}: a port is not chosen from a range: {first} of {first} to {last} is published",
        field.owner
    );
    report
        .warn("compose/ignored", field.span(), message)
        .hint("name one port");
    Some(first)
}

pub(super) fn extra_hosts(
    service: &Fields<'_>,
    report: &mut Report,
) -> BTreeMap<String, Vec<String>> {
    let mut hosts = BTreeMap::new();
    let Some(field) = service.get("extra_hosts") else {
        return hosts;
    };
    for (host, _, node) in field.entries(report) {
        let addresses = Field {
            owner: &service.owner,
            key: host,
            node,
        };
        let mut known = Vec::new();
        for item in addresses.one_or_many(report) {
            let Some(address) = item.string(report) else {
                continue;
            };
            if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
                let message = format!("{}: `{address}` is not an IP address", service.owner);
                report
                    .error("compose/value", item.span(), message)
                    .hint("write `name:address`, or `name:host-gateway` for this machine");
            } else {
                known.push(address);
            }
        }
        hosts.insert(host.to_owned(), known);
    }
    hosts
}
