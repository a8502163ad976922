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

/// A service and its labels, their names in small letters as Traefik takes them.
struct Of<'s> {
    name: &'s ServiceName,
    service: &'s Service,
    labels: BTreeMap<String, &'s str>,
}

/// Reads the labels of every service. Pure.
pub(crate) fn labelled(services: &BTreeMap<ServiceName, Service>) -> Labelled {
    let all: Vec<Of<'_>> = services.iter().filter_map(Of::enabled).collect();
    let mut found = Labelled::default();
    let routers = all.iter().flat_map(|of| {
        let rules = of.values(ROUTERS, ".rule");
        rules.map(move |(name, rule)| Router { name, rule, of })
    });
    for (index, router) in routers.filter(|router| !router.is_internal()).enumerate() {
        if index == MAX_ROUTERS {
            found.leave(&router, "there are too many");
            break;
        }
        match router.routes(&all, &mut found.guessed) {
            Ok(routes) => found.take(&router, routes),
            Err(why) => found.leave(&router, &why),
        }
    }
    found
}

impl Labelled {
    fn leave(&mut self, router: &Router<'_>, why: &str) {
        let why = format!("router `{}`: {why}", router.name);
        self.unread.push((router.of.name.clone(), why));
    }

    fn take(&mut self, router: &Router<'_>, routes: Vec<Route>) {
        for route in routes {
            let mut known = self.routes.iter();
            let twin = known.find(|known| (&known.host, &known.path) == (&route.host, &route.path));
            match twin.map(|twin| twin.service.clone()) {
                None => self.routes.push(route),
                // A router for each of HTTP and HTTPS.
                Some(twin) if twin == route.service => {}
                Some(twin) => self.leave(router, &format!("it takes what `{twin}` has")),
            }
        }
        if !self.services.contains(router.of.name) {
            self.services.push(router.of.name.clone());
        }
    }
}

impl<'s> Of<'s> {
    fn enabled((name, service): (&'s ServiceName, &'s Service)) -> Option<Self> {
        let labels = service.labels.iter();
        let labels = labels.map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()));
        let of = Self {
            name,
            service,
            labels: labels.collect(),
        };
        let enable = of.labels.get("traefik.enable");
        let disabled = enable.is_some_and(|enable| enable.eq_ignore_ascii_case("false"));
        (!disabled).then_some(of)
    }

    /// Names between `start` and `end` among the labels, with their values.
    fn values(
        &self,
        start: &'static str,
        end: &'static str,
    ) -> impl Iterator<Item = (&str, &'s str)> {
        self.labels.iter().filter_map(move |(key, value)| {
            let name = key.strip_prefix(start)?.strip_suffix(end)?;
            (!name.is_empty() && !name.contains('.')).then_some((name, *value))
        })
    }
}

/// One router of a service's labels.
struct Router<'l> {
    name: &'l str,
    rule: &'l str,
    of: &'l Of<'l>,
}

impl Router<'_> {
    fn part(&self, what: &str) -> Option<&str> {
        let key = format!("{ROUTERS}{}.{what}", self.name);
        self.of.labels.get(&key).copied()
    }

    /// Traefik's own: its dashboard and what only redirects.
    fn is_internal(&self) -> bool {
        let to = self.part("service");
        to.is_some_and(|to| to.ends_with("@internal"))
    }

    fn routes(
        &self,
        all: &[Of<'_>],
        guessed: &mut Vec<(ServiceName, u16)>,
    ) -> Result<Vec<Route>, String> {
        let matches =
            rule::parse(self.rule).map_err(|NotRead(what)| format!("`{what}` is not read"))?;
        let (service, port) = self.target(all).ok_or("it leads to what is no port")?;
        let port = port.unwrap_or_else(|| {
            guessed.push((service.clone(), USUAL_PORT));
            USUAL_PORT
        });
        let stripped = self.part("middlewares").map(|names| stripped(names, all));
        let routes = matches.into_iter().map(|one| {
            let path = one.path.unwrap_or_else(|| "/".to_owned());
            Route {
                host: one.host,
                strip_prefix: stripped.iter().flatten().any(|prefix| *prefix == path),
                protocol: self.protocol(),
                ..route(&path, &service, port)
            }
        });
        Ok(routes.collect())
    }

    fn protocol(&self) -> RouteProtocol {
        let mut schemes = self.of.values(SERVICES, ".loadbalancer.server.scheme");
        match schemes.any(|(_, scheme)| scheme.eq_ignore_ascii_case("h2c")) {
            true => RouteProtocol::H2c,
            false => RouteProtocol::Http,
        }
    }

    /// The service that it leads to, and its port if anything says it; `None`: what says it is no
    /// port.
    fn target(&self, all: &[Of<'_>]) -> Option<(ServiceName, Option<u16>)> {
        const PORT: &str = ".loadbalancer.server.port";
        let number = |port: &str| port.trim().parse().ok().filter(|port| *port > 0);
        let wanted = self.part("service").map(plain_name);
        let own: Vec<(&str, &str)> = self.of.values(SERVICES, PORT).collect();
        let port = match &wanted {
            Some(wanted) => own.iter().find(|(known, _)| known == wanted),
            None => own.first(),
        };
        if let Some((_, port)) = port {
            return Some((self.of.name.clone(), Some(number(port)?)));
        }
        if let Some(wanted) = &wanted {
            for other in all {
                let mut ports = other.values(SERVICES, PORT);
                if let Some((_, port)) = ports.find(|(known, _)| known == wanted) {
                    return Some((other.name.clone(), Some(number(port)?)));
                }
            }
        }
        Some((self.of.name.clone(), likely_port(self.of.service)))
    }
}

/// Without the provider: `app@docker` is `app`.
fn plain_name(name: &str) -> String {
    let name = name.trim();
    name.split('@').next().unwrap_or(name).to_ascii_lowercase()
}

/// Prefixes that the named middlewares take away.
fn stripped<'l>(names: &str, all: &'l [Of<'_>]) -> Vec<&'l str> {
    let names: Vec<String> = names.split(',').map(plain_name).collect();
    all.iter()
        .flat_map(|of| of.values(MIDDLEWARES, ".stripprefix.prefixes"))
        .filter(|(name, _)| names.iter().any(|wanted| wanted == name))
        .flat_map(|(_, prefixes)| prefixes.split(','))
        .map(|prefix| prefix.trim().trim_end_matches('/'))
        .collect()
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
