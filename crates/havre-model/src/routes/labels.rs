//! Routes that labels for Traefik say, for projects that come with it: Havre's own proxy takes its
//! place.

use std::collections::BTreeMap;

use super::rule::{self, NotRead};
use super::{likely_port, route};
use crate::image_name::ImageName;
use crate::project::{Route, RouteProtocol, Service, ServiceName};

const ROUTERS: &str = "traefik.http.routers.";
const SERVICES: &str = "traefik.http.services.";
const MIDDLEWARES: &str = "traefik.http.middlewares.";
/// Traefik takes the port that the image exposes, which is not known here; this one mostly.
const USUAL_PORT: u16 = 80;
/// Most routers read.
const MAX_ROUTERS: usize = 500;

/// What labels say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Labelled {
    /// Each with the host that the label names.
    pub routes: Vec<Route>,
    /// The services whose labels they are.
    pub services: Vec<ServiceName>,
    /// Services whose port nobody says, with the one that was taken.
    pub guessed: Vec<(ServiceName, u16)>,
    /// What could not be read: of which service, and why.
    pub unread: Vec<(ServiceName, String)>,
}

/// Labels of one service, their names in small letters as Traefik takes them.
type Labels<'s> = BTreeMap<String, &'s str>;

/// Reads the labels of every service. Pure.
pub(crate) fn labelled(services: &BTreeMap<ServiceName, Service>) -> Labelled {
    let all: Vec<(&ServiceName, &Service, Labels<'_>)> = services
        .iter()
        .map(|(name, service)| {
            let labels = service.labels.iter();
            let labels = labels.map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()));
            (name, service, labels.collect::<Labels<'_>>())
        })
        .filter(|(_, _, labels)| {
            let enable = labels.get("traefik.enable");
            !enable.is_some_and(|enable| enable.eq_ignore_ascii_case("false"))
        })
        .collect();
    let mut found = Labelled::default();
    let mut routers = 0;
    for (name, service, labels) in &all {
        for (router, rule) in values(labels, ROUTERS, ".rule") {
            routers += 1;
            if routers > MAX_ROUTERS {
                return found;
            }
            let part = |what: &str| labels.get(&format!("{ROUTERS}{router}.{what}")).copied();
            // Traefik's own: its dashboard and what only redirects.
            if part("service").is_some_and(|to| to.ends_with("@internal")) {
                continue;
            }
            let matches = match rule::parse(rule) {
                Ok(matches) => matches,
                Err(NotRead(what)) => {
                    let why = format!("router `{router}`: `{what}` is not read");
                    found.unread.push(((*name).clone(), why));
                    continue;
                }
            };
            let Some((target, port)) = target(name, service, labels, part("service"), &all) else {
                let why = format!("router `{router}` leads to what is no port");
                found.unread.push(((*name).clone(), why));
                continue;
            };
            let port = port.unwrap_or_else(|| {
                found.guessed.push((target.clone(), USUAL_PORT));
                USUAL_PORT
            });
            let mut schemes = values(labels, SERVICES, ".loadbalancer.server.scheme");
            let protocol = match schemes.any(|(_, scheme)| scheme.eq_ignore_ascii_case("h2c")) {
                true => RouteProtocol::H2c,
                false => RouteProtocol::Http,
            };
            let stripped = part("middlewares").map(|names| stripped(names, &all));
            for one in matches {
                let path = one.path.unwrap_or_else(|| "/".to_owned());
                let strip_prefix = stripped.iter().flatten().any(|prefix| *prefix == path);
                let route = Route {
                    host: one.host,
                    strip_prefix,
                    protocol,
                    ..route(&path, &target, port)
                };
                let known = found.routes.iter();
                let twin = known
                    .into_iter()
                    .find(|known| (&known.host, &known.path) == (&route.host, &route.path));
                match twin {
                    None => found.routes.push(route),
                    // A router for each of HTTP and HTTPS.
                    Some(twin) if twin.service == route.service => {}
                    Some(twin) => {
                        let why = format!("router `{router}` takes what `{}` has", twin.service);
                        found.unread.push(((*name).clone(), why));
                    }
                }
            }
            if !found.services.contains(name) {
                found.services.push((*name).clone());
            }
        }
    }
    found
}

/// Whether this is the proxy that reads such labels.
pub(crate) fn is_traefik(service: &Service) -> bool {
    let image = service
        .image
        .as_deref()
        .map(|image| ImageName::new(image).path);
    let named = image.is_some_and(|path| path.rsplit('/').next() == Some("traefik"));
    let mut words = service.command.iter().flatten();
    named || words.any(|word| word.starts_with("--providers.docker"))
}

/// Names between `start` and `end` among the labels, with their values.
fn values<'l>(
    labels: &'l Labels<'_>,
    start: &'l str,
    end: &'l str,
) -> impl Iterator<Item = (&'l str, &'l str)> {
    labels.iter().filter_map(move |(key, value)| {
        let name = key.strip_prefix(start)?.strip_suffix(end)?;
        (!name.is_empty() && !name.contains('.')).then_some((name, *value))
    })
}

/// The service that a router leads to, and its port if anything says it; `None`: what says it is
/// no port.
fn target(
    name: &ServiceName,
    service: &Service,
    labels: &Labels<'_>,
    wanted: Option<&str>,
    all: &[(&ServiceName, &Service, Labels<'_>)],
) -> Option<(ServiceName, Option<u16>)> {
    const PORT: &str = ".loadbalancer.server.port";
    let wanted = wanted.map(|wanted| {
        wanted
            .split('@')
            .next()
            .unwrap_or(wanted)
            .to_ascii_lowercase()
    });
    let own: Vec<(&str, &str)> = values(labels, SERVICES, PORT).collect();
    let port = match &wanted {
        Some(wanted) => own.iter().find(|(known, _)| known == wanted),
        None => own.first(),
    };
    let number = |port: &str| port.trim().parse().ok().filter(|port| *port > 0);
    if let Some((_, port)) = port {
        return Some((name.clone(), Some(number(port)?)));
    }
    if let Some(wanted) = &wanted {
        for (other, _, labels) in all {
            let mut ports = values(labels, SERVICES, PORT);
            if let Some((_, port)) = ports.find(|(known, _)| known == wanted) {
                return Some(((*other).clone(), Some(number(port)?)));
            }
        }
    }
    Some((name.clone(), likely_port(service)))
}

/// Prefixes that the named middlewares take away.
fn stripped<'l>(names: &str, all: &'l [(&ServiceName, &Service, Labels<'_>)]) -> Vec<&'l str> {
    let names: Vec<String> = names
        .split(',')
        .map(|name| {
            name.trim()
                .split('@')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase()
        })
        .collect();
    let labels = all
        .iter()
        .flat_map(|(_, _, labels)| values(labels, MIDDLEWARES, ".stripprefix.prefixes"));
    labels
        .filter(|(name, _)| names.iter().any(|wanted| wanted == name))
        .flat_map(|(_, prefixes)| prefixes.split(','))
        .map(|prefix| prefix.trim().trim_end_matches('/'))
        .collect()
}
