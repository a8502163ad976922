//! The project's routes: those of havre.yaml, else those of labels, else what names and ports tell.

use std::collections::BTreeMap;

use super::Places;
use crate::diagnostic::Severity;
use crate::hosts::Hosts;
use crate::project::{Protocol, Route, RouteProtocol, Service, ServiceName};
use crate::report::Report;
use crate::routes::{self, Candidate, Inference, Labelled, WEB_PORTS};
use crate::settings::{Settings, WrittenRoute, valid_domain};
use crate::source::Span;
use crate::suggest;

/// Most routes that a note lists.
const MAX_SHOWN: usize = 20;

/// The project's routes, longest path first. What a label says of domains is taken into `hosts`,
/// and ports of a gateway that Havre's proxy replaces are taken out of its service.
pub(crate) fn routes(
    settings: &Settings,
    services: &mut BTreeMap<ServiceName, Service>,
    hosts: &mut Hosts,
    places: &Places,
    report: &mut Report,
) -> Vec<Route> {
    let mut routes = match &settings.routes {
        Some(written) => written_routes(written, services, hosts, report),
        None => match labelled_routes(services, hosts, places, report) {
            Some(routes) => routes,
            None => {
                let mut routes = inferred_routes(settings, services, hosts, places, report);
                for route in &mut routes {
                    if let Some(service) = services.get(&route.service) {
                        route.protocol = spoken(service, route.port);
                    }
                }
                routes
            }
        },
    };
    routes.sort_by(|a, b| {
        let by_length = b.path.len().cmp(&a.path.len());
        by_length
            .then_with(|| a.path.cmp(&b.path))
            .then_with(|| b.host.cmp(&a.host))
    });
    routes
}

fn written_routes(
    written: &[WrittenRoute],
    services: &BTreeMap<ServiceName, Service>,
    hosts: &Hosts,
    report: &mut Report,
) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for route in written {
        let (name, place) = &route.service;
        let name = ServiceName::new(name.as_str());
        let Some(service) = services.get(&name) else {
            let message = format!("a route leads to service `{name}`, which is not there");
            let near = suggest::nearest(name.as_str(), services.keys().map(ServiceName::as_str));
            let error = report.error("havre/route", *place, message);
            if let Some(near) = near {
                error.hint(format!("did you mean `{near}`?"));
            }
            continue;
        };
        let host = match &route.host {
            None => None,
            Some((written, place)) => match host_of(written, *place, hosts, report) {
                Some(host) => Some(host),
                None => continue,
            },
        };
        let written = route.port.map(|(port, _)| port);
        let port = written.or_else(|| routes::likely_port(service));
        let Some(port) = port else {
            let message = format!("a route to `{name}` needs the `port` it listens on");
            report.error("havre/route", route.span, message);
            continue;
        };
        let path = route.path.0.clone();
        if routes
            .iter()
            .any(|known| known.host == host && known.path == path)
        {
            let message = format!("two routes for {path}");
            report
                .error("havre/route", route.path.1, message)
                .hint("keep one of them");
            continue;
        }
        let strip_prefix = route.strip_prefix;
        routes.push(Route {
            host,
            path,
            service: name,
            port,
            strip_prefix,
            protocol: route.protocol.unwrap_or_else(|| spoken(service, port)),
            inferred: false,
        });
    }
    routes
}

/// What a port says of itself.
fn spoken(service: &Service, port: u16) -> RouteProtocol {
    let said = service.ports.iter().find(|one| one.target == port);
    said.map_or(RouteProtocol::Http, |port| port.app_protocol)
}

fn host_of(written: &str, place: Span, hosts: &Hosts, report: &mut Report) -> Option<String> {
    let host = hosts.of_route(written).filter(|_| valid_domain(written));
    if host.is_none() {
        let message =
            format!("a route is for `{written}`, which is neither a domain nor below one");
        let hint = format!("the domains are {}", hosts.all().join(", "));
        report.error("havre/route", place, message).hint(hint);
    }
    host
}

/// `None`: no label says a route.
fn labelled_routes(
    services: &mut BTreeMap<ServiceName, Service>,
    hosts: &mut Hosts,
    places: &Places,
    report: &mut Report,
) -> Option<Vec<Route>> {
    let Labelled {
        routes: found,
        services: labelled,
        guessed,
        unread,
    } = routes::labelled(services);
    for (service, port) in guessed {
        let message =
            format!("no label says which port of `{service}` a route leads to: {port} is taken");
        report
            .warn("havre/label", places.get(&service).copied(), message)
            .hint(format!(
                "say it: `traefik.http.services.{service}.loadbalancer.server.port={port}`, or `expose`"
            ));
    }
    for (service, why) in unread {
        let message = format!("a label of `{service}` says no route that Havre has: {why}");
        report
            .warn("havre/label", places.get(&service).copied(), message)
            .hint("write `routes:` in havre.yaml instead");
    }
    let mut domains: Vec<String> = Vec::new();
    for host in found.iter().filter_map(|route| route.host.as_ref()) {
        if valid_domain(host) && !domains.contains(host) {
            domains.push(host.clone());
        }
    }
    hosts.declare(domains);
    let only = hosts.all().len() == 1;
    let mut routes = Vec::new();
    for mut route in found {
        if let Some(host) = route.host.take() {
            let Some(here) = hosts.of_route(&host) else {
                let service = &route.service;
                let message =
                    format!("a label of `{service}` is for `{host}`, which is none of the domains");
                report
                    .warn("havre/label", places.get(service).copied(), message)
                    .hint("write `routes:` in havre.yaml, or put it among its `domains`");
                continue;
            };
            route.host = (!only || !hosts.all().contains(&here)).then_some(here);
        }
        routes.push(route);
    }
    if routes.is_empty() {
        return None;
    }
    let shown = routes.iter().take(MAX_SHOWN).map(|route| {
        let host = route.host.clone().unwrap_or_else(|| hosts.all().join(", "));
        format!("{host}{} to {}:{}", route.path, route.service, route.port)
    });
    let shown: Vec<String> = shown.collect();
    let message = format!(
        "labels for Traefik are read as routes: {}",
        shown.join("; ")
    );
    let place = labelled.first().and_then(|name| places.get(name)).copied();
    report
        .record(Severity::Note, "havre/labels-as-routes", place, message)
        .hint("`routes:` in havre.yaml takes their place");
    replace_gateways(services, places, report);
    Some(routes)
}

/// Havre's own proxy answers where the project's gateway would.
fn replace_gateways(
    services: &mut BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    for (name, service) in services {
        if !routes::is_traefik(service) {
            continue;
        }
        let before = service.ports.len();
        let web = |port: Option<u16>| port.is_some_and(|port| WEB_PORTS.contains(&port));
        service.ports.retain(|port| !web(port.published));
        if service.ports.len() < before {
            let message = format!(
                "`{name}` publishes a port on which Havre's own proxy answers with the routes of \
                 the labels: it is not opened"
            );
            report
                .warn("havre/gateway", places.get(name).copied(), message)
                .hint("the service is not needed here");
        }
    }
}

fn inferred_routes(
    settings: &Settings,
    services: &BTreeMap<ServiceName, Service>,
    hosts: &Hosts,
    places: &Places,
    report: &mut Report,
) -> Vec<Route> {
    let running = services
        .iter()
        .filter(|(_, service)| service.is_reachable());
    let mut candidates = routes::candidates(running);
    if candidates.len() > 1 {
        for candidate in &mut candidates {
            let service = services.get(&candidate.service);
            candidate.front_end = service.is_some_and(routes::is_front_end);
        }
    }
    match routes::infer(&candidates) {
        Inference::Routes(routes) => {
            if routes.is_empty() && !report.has_errors() {
                nothing_reachable(settings, services, hosts, report);
            }
            routes
        }
        Inference::Ambiguous(candidates) => {
            ambiguous(settings, &candidates, hosts, places, report);
            Vec::new()
        }
    }
}

/// Warns, but where a port of the machine that is passed on is a way in.
fn nothing_reachable(
    settings: &Settings,
    services: &BTreeMap<ServiceName, Service>,
    hosts: &Hosts,
    report: &mut Report,
) {
    let published: Vec<_> = services
        .values()
        .flat_map(|service| &service.ports)
        .collect();
    let open = |port: &&&crate::project::Port| port.published.is_some() && !routes::is_local(port);
    if published.iter().any(|port| open(&port)) {
        return;
    }
    let local: Vec<(&ServiceName, u16)> = services
        .iter()
        .filter(|(_, service)| {
            service
                .ports
                .iter()
                .any(|port| port.protocol == Protocol::Tcp)
        })
        .filter_map(|(name, service)| Some((name, routes::likely_port(service)?)))
        .collect();
    let (message, lines) = match &local[..] {
        [] => (
            "no service publishes or exposes a port that speaks HTTP, so nothing is reachable from \
             outside",
            "\n  - {path: /, service: SERVICE, port: 8000}".to_owned(),
        ),
        [(name, port)] => (
            "ports are published on this machine's own address only, so nothing is reachable from \
             outside",
            line("path: /", name, *port),
        ),
        several => (
            "ports are published on this machine's own address only, so nothing is reachable from \
             outside",
            several
                .iter()
                .map(|(name, port)| own_host(name, *port, hosts))
                .collect(),
        ),
    };
    let verb = if settings.present { "add to" } else { "write" };
    report.warn("havre/no-routes", None, message).hint(format!(
        "if one should be, {verb} havre.yaml:\nroutes:{lines}"
    ));
}

/// Nobody has to choose where each is reached at a port of its own.
fn ambiguous(
    settings: &Settings,
    candidates: &[Candidate],
    hosts: &Hosts,
    places: &Places,
    report: &mut Report,
) {
    let names: Vec<_> = candidates
        .iter()
        .map(|Candidate { service, port, .. }| format!("{service} (port {port})"))
        .collect();
    let mut message = format!(
        "several services could answer requests, and it is not clear which at which path: {}",
        names.join(", ")
    );
    let own = |candidate: &Candidate| candidate.at.filter(|at| !WEB_PORTS.contains(at));
    let passed_on: Option<Vec<String>> = candidates
        .iter()
        .map(|candidate| Some(own(candidate)?.to_string()))
        .collect();
    let severity = match passed_on {
        Some(ports) => {
            message.push_str(&format!(
                "; {} leads nowhere, and each is reached at its published port: {}",
                hosts.all().join(", "),
                ports.join(", ")
            ));
            Severity::Warning
        }
        None => Severity::Error,
    };
    let first = candidates.first().map(|c| &c.service);
    let place = first.and_then(|name| places.get(name)).copied();
    let front = routes::front_end(candidates);
    let lines: String = candidates
        .iter()
        .map(|candidate| match front {
            Some(front) if front == candidate => line("path: /", &front.service, front.port),
            _ => own_host(&candidate.service, candidate.port, hosts),
        })
        .collect();
    let verb = if settings.present { "add to" } else { "write" };
    let left_out = match front {
        Some(_) => "",
        None => " (without `host` it is for the domain itself)",
    };
    report
        .record(severity, "havre/ambiguous-routes", place, message)
        .hint(format!(
            "{verb} havre.yaml, with the hosts and paths you want{left_out}:\nroutes:{lines}"
        ));
}

/// A host for the service alone: most programs do not live under a prefix.
fn own_host(service: &ServiceName, port: u16, hosts: &Hosts) -> String {
    let host = format!("host: {}", hosts.of_service(service.as_str()));
    line(&host, service, port)
}

fn line(at: &str, service: &ServiceName, port: u16) -> String {
    format!("\n  - {{{at}, service: {service}, port: {port}}}")
}
