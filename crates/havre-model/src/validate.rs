//! What only shows when everything is read: cycles, clashes, routes.

mod routes;

pub(crate) use routes::routes;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::bounds::{MAX_HOSTS, MAX_ROUTES};
use crate::hosts::Hosts;
use crate::image_name::ImageName;
use crate::project::{
    Build, BuildContext, Condition, FileSource, Healthcheck, Network, NetworkName, Port, Project,
    ProjectName, Protocol, RestartPolicy, Service, ServiceName,
};
use crate::report::Report;
use crate::settings::{Settings, WrittenService};
use crate::source::Span;
use crate::suggest;

/// Where each service is written.
pub(crate) type Places = BTreeMap<ServiceName, Span>;

/// `depends_on` must not lead back to its start.
pub(crate) fn cycles(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    let mut done: BTreeSet<&ServiceName> = BTreeSet::new();
    for start in services.keys() {
        // Depth first with a path of its own: long chains must not use the stack.
        let mut path: Vec<(&ServiceName, Vec<&ServiceName>)> = Vec::new();
        let edges = |name: &ServiceName| -> Vec<&ServiceName> {
            services
                .get(name)
                .map(|s| s.depends_on.keys().rev().collect())
                .unwrap_or_default()
        };
        if done.contains(start) {
            continue;
        }
        path.push((start, edges(start)));
        let mut on_path: HashMap<&ServiceName, usize> = HashMap::from([(start, 0)]);
        while let Some((name, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                done.insert(*name);
                on_path.remove(*name);
                path.pop();
                continue;
            };
            if let Some(&from) = on_path.get(next) {
                let names: Vec<_> = path[from..].iter().map(|(n, _)| n.as_str()).collect();
                let message = format!(
                    "services depend on each other: {} → {next}",
                    names.join(" → ")
                );
                report
                    .error("compose/cycle", places.get(next).copied(), message)
                    .hint("remove one `depends_on`");
            } else if !done.contains(next) {
                on_path.insert(next, path.len());
                path.push((next, edges(next)));
            }
        }
    }
}

/// The image of a service must not be made from itself.
pub(crate) fn build_cycles(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    let mut waiting: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for (name, service) in services {
        let contexts = service
            .build
            .iter()
            .flat_map(|build| build.contexts.values());
        let needs = contexts.filter_map(|context| match context {
            BuildContext::Service { name } => Some(name),
            BuildContext::Folder { .. } | BuildContext::Git(_) | BuildContext::Image { .. } => None,
        });
        waiting.insert(name, needs.collect());
    }
    loop {
        let ready: Vec<&ServiceName> = waiting
            .iter()
            .filter(|(_, needs)| !needs.iter().any(|other| waiting.contains_key(other)))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            break;
        }
        waiting.retain(|name, _| !ready.contains(name));
    }
    if let Some(first) = waiting.keys().next() {
        let names: Vec<&str> = waiting.keys().map(|name| name.as_str()).collect();
        let message = format!("images are made from each other: {}", names.join(", "));
        report
            .error("compose/cycle", places.get(*first).copied(), message)
            .hint("remove one of the `additional_contexts`");
    }
}

/// Whose network another service joins must have one of its own.
pub(crate) fn joined_networks(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    for (name, service) in services {
        let Some(provider) = &service.network_of else {
            continue;
        };
        let Some(joined) = services.get(provider) else {
            continue;
        };
        let (why, hint) = match &joined.network_of {
            Some(other) => (
                format!("is on the network of `{other}` itself"),
                format!("write `network_mode: service:{other}`"),
            ),
            None if joined.networks.is_empty() => (
                "has no network of its own".to_owned(),
                format!("give `{name}` the `network_mode` of `{provider}`"),
            ),
            None => continue,
        };
        let message = format!("`{name}` joins the network of `{provider}`, which {why}");
        report
            .error("compose/conflict", places.get(name).copied(), message)
            .hint(hint);
    }
}

/// Conditions that can never hold.
pub(crate) fn conditions(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    for (name, service) in services {
        for (other, edge) in &service.depends_on {
            let Some(target) = services.get(other) else {
                continue;
            };
            let place = places.get(name).copied();
            match edge.condition {
                Condition::ServiceStarted => {}
                Condition::ServiceHealthy => {
                    if target.healthcheck == Some(Healthcheck::Disabled) {
                        let message = format!(
                            "`{name}` waits for `{other}` to be healthy, but the health check of \
                             `{other}` is disabled"
                        );
                        report
                            .error("compose/condition", place, message)
                            .hint("give it a health check, or wait for service_started");
                    }
                }
                Condition::ServiceCompletedSuccessfully => {
                    let again = [RestartPolicy::Always, RestartPolicy::UnlessStopped];
                    if again.contains(&target.restart) {
                        let message = format!(
                            "`{name}` waits for `{other}` to end, but `{other}` is restarted \
                             whenever it ends"
                        );
                        report
                            .error("compose/condition", place, message)
                            .hint(format!("give `{other}` the policy `restart: on-failure`"));
                    }
                }
            }
        }
    }
}

/// A name can mean one image only. A service without `build` may run what another one builds.
pub(crate) fn image_names(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    let mut built: HashMap<_, (&ServiceName, &Build)> = HashMap::new();
    for (name, service) in services {
        let (Some(image), Some(build)) = (&service.image, &service.build) else {
            continue;
        };
        let full = ImageName::new(image).in_full();
        match built.get(&full) {
            None => {
                built.insert(full, (name, build));
            }
            Some((_, other)) if *other == build => {}
            Some((other, _)) => {
                let message =
                    format!("services `{other}` and `{name}` build different images named {image}");
                report
                    .error("compose/image-clash", places.get(name).copied(), message)
                    .hint("give one of them another `image`, or both the same `build`");
            }
        }
    }
}

/// An image that is built without a name gets the service's, in which fewer characters are allowed.
pub(crate) fn own_image_names(
    project: &ProjectName,
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    for (name, service) in services {
        let image = format!("{project}-{name}");
        if service.build.is_none() || service.image.is_some() || is_repository(&image) {
            continue;
        }
        let lower = image.to_ascii_lowercase();
        let hint = match is_repository(&lower) {
            true => format!("give it another name, or `image: {lower}`"),
            false => "give it another name, or an `image` to be called by".to_owned(),
        };
        let message = format!(
            "the image of service `{name}` would be called `{image}`, which is not an image's name"
        );
        report
            .error("compose/name", places.get(name).copied(), message)
            .hint(hint);
    }
}

/// One part of a repository's name: small letters and digits, with `.`, `_`, `__` or dashes between.
fn is_repository(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let between = name.split(plain).filter(|between| !between.is_empty());
    let allowed =
        |between: &str| matches!(between, "." | "_" | "__") || between.chars().all(|c| c == '-');
    name.starts_with(plain) && name.ends_with(plain) && between.into_iter().all(allowed)
}

/// What to do with a port of the proxy's that leads to TLS.
const AT_HTTP: &str = "the proxy speaks HTTPS for it: write a route to the port at which it speaks HTTP, \
                       perhaps this one";
/// What to do with any other port of the proxy's.
const OTHERWISE: &str = "remove the port, and give the service that should answer a route, with the port \
                         at which it speaks HTTP";

/// Ports that are passed on as they are: the machine's web ports are the proxy's, and one that is
/// not chosen cannot be opened again on the same number.
pub(crate) fn forwarded_ports(
    project: &Project,
    hosts: &Hosts,
    places: &Places,
    report: &mut Report,
) {
    if report.has_errors() {
        return;
    }
    for (name, port) in project.forwarded_ports() {
        let place = places.get(name).copied();
        let target = port.target;
        match (port.protocol, port.published) {
            (Protocol::Tcp, Some(published @ (80 | 443))) => {
                let message = format!(
                    "`{name}` publishes port {published}, which Havre's own proxy listens on, and \
                     no route leads to its port {target}"
                );
                let (advice, speaks) = match target {
                    443 => (AT_HTTP, 80),
                    8443 => (AT_HTTP, 8080),
                    other => (OTHERWISE, other),
                };
                report
                    .error("havre/proxy-port", place, message)
                    .hint(format!(
                        "{advice}:\nroutes:\n  - {{host: {}, service: {name}, port: {speaks}}}",
                        hosts.of_service(name.as_str())
                    ));
            }
            (Protocol::Tcp | Protocol::Udp, None) => {
                let message = format!(
                    "`{name}` publishes port {target} without saying as which one of the machine: \
                     it is not opened"
                );
                report
                    .warn("compose/port-unchosen", place, message)
                    .hint(match port.protocol {
                        Protocol::Tcp => {
                            format!("write `PORT:{target}`; other services need no published port")
                        }
                        Protocol::Udp => format!(
                            "write `PORT:{target}/udp`; other services need no published port"
                        ),
                    });
            }
            (Protocol::Tcp | Protocol::Udp, Some(_)) => {}
        }
    }
}

/// One address and port of the machine belongs to one service.
pub(crate) fn port_clashes(
    services: &BTreeMap<ServiceName, Service>,
    places: &Places,
    report: &mut Report,
) {
    let mut taken: BTreeMap<(u16, bool), Vec<(&ServiceName, &Port)>> = BTreeMap::new();
    for (name, service) in services {
        for port in &service.ports {
            let Some(published) = port.published else {
                continue;
            };
            let key = (published, port.protocol == Protocol::Udp);
            let others = taken.entry(key).or_default();
            let clash = others.iter().find(|(_, other)| overlap(port, other));
            if let Some((other, _)) = clash {
                let whose = if *other == name {
                    format!("{name} publishes port {published} twice")
                } else {
                    format!("{other} and {name} both publish port {published}")
                };
                report.error("compose/port-clash", places.get(name).copied(), whose);
            }
            others.push((name, port));
        }
    }
}

fn overlap(a: &Port, b: &Port) -> bool {
    let any = |ip: &Option<String>| ip.as_deref().is_none_or(|ip| ip == "0.0.0.0" || ip == "::");
    any(&a.host_ip) || any(&b.host_ip) || a.host_ip == b.host_ip
}

/// More hosts or routes than one environment may have.
pub(crate) fn numbers_of_hosts(project: &Project, report: &mut Report) {
    for (what, many, most) in [
        ("domains", project.hosts.len(), MAX_HOSTS),
        ("routes", project.routes.len(), MAX_ROUTES),
    ] {
        if many > most {
            let message = format!("{many} {what}: an environment has at most {most}");
            report.error("havre/value", None, message);
        }
    }
}

/// Volumes, files and databases grow apart when two volumes have one name.
pub(crate) fn volume_names(project: &Project, report: &mut Report) {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for (key, volume) in &project.volumes {
        let name = volume
            .name
            .clone()
            .unwrap_or_else(|| format!("{}_{key}", project.name));
        if let Some(other) = known.insert(name.clone(), key.as_str()) {
            let message = format!("volumes `{other}` and `{key}` are both named `{name}`");
            report
                .error("compose/conflict", None, message)
                .hint("one entry can serve both");
        }
    }
}

/// Takes offence at settings for networks that are not there.
pub(crate) fn settings_of_networks(
    settings: &Settings,
    networks: &BTreeMap<NetworkName, Network>,
    declared: &BTreeSet<String>,
    report: &mut Report,
) {
    for (name, written) in &settings.networks {
        match networks.get(&NetworkName::new(name.as_str())) {
            // The compose file says nothing of it: it is `default`, which every project has.
            Some(network) if written.shared && network.shared.is_none() => {
                let message = format!("network `{name}` is shared and has no name of its own");
                let hint =
                    format!("name it in the compose file: `networks: {{{name}: {{name: NAME}}}}`");
                report
                    .error("havre/network", written.place, message)
                    .hint(hint);
            }
            Some(_) => {}
            // Nobody is on it, or only an inactive profile's services.
            None if declared.contains(name) => {}
            None => {
                let message =
                    format!("havre.yaml has settings for network `{name}`, which is not there");
                let near = suggest::nearest(name, declared.iter().map(String::as_str));
                let error = report.error("havre/network", written.place, message);
                if let Some(near) = near {
                    error.hint(format!("did you mean `{near}`?"));
                }
            }
        }
    }
}

/// Variables of a service that hold secrets, in place of what the compose file says of them.
fn secret_variables(
    service: &mut Service,
    written: &WrittenService,
    secrets: &BTreeMap<String, FileSource>,
    report: &mut Report,
) {
    for (variable, (secret, place)) in &written.environment {
        if !secrets.contains_key(secret) {
            let message =
                format!("the compose file has no secret `{secret}`, which `{variable}` is to hold");
            let error = report.error("havre/secret", *place, message);
            let hint = match suggest::nearest(secret, secrets.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `secrets: {{{secret}: {{file: …}}}}`"),
            };
            error.hint(hint);
            continue;
        }
        service.environment.remove(variable);
        service
            .secret_environment
            .insert(variable.clone(), secret.clone());
    }
}

/// How a service's replicas learn of other secrets, and which of its secrets take new replicas all the same.
fn reload(name: &str, service: &mut Service, written: &WrittenService, report: &mut Report) {
    let Some((reload, place)) = &written.reload else {
        return;
    };
    service.reload.clone_from(reload);
    if !reload.is_in_place() {
        return;
    }
    let elsewhere = service
        .secrets
        .iter()
        .filter(|grant| !service.is_renewable(grant));
    let elsewhere = elsewhere.map(|grant| format!("`{}` is at {}", grant.source, grant.target));
    let variables = service.secret_environment.iter();
    let variables =
        variables.map(|(variable, secret)| format!("`{secret}` is the variable {variable}"));
    let fixed: Vec<String> = elsewhere.chain(variables).collect();
    if service.secrets.is_empty() && fixed.is_empty() {
        let message = format!("service `{name}` has no secrets that it could reload");
        report
            .warn("havre/reload", *place, message)
            .hint("remove it");
    } else if !fixed.is_empty() {
        let message = format!(
            "service `{name}` is restarted when these change, whatever `reload` says: {}",
            fixed.join(", ")
        );
        report.warn("havre/reload", *place, message).hint(
            "only files below /run/secrets, with no mount of the service there, change as it runs",
        );
    }
}

/// Takes in what havre.yaml says of single services.
pub(crate) fn settings_of_services(
    settings: &Settings,
    services: &mut BTreeMap<ServiceName, Service>,
    disabled: &BTreeMap<String, Vec<String>>,
    secrets: &BTreeMap<String, FileSource>,
    report: &mut Report,
) {
    for (name, written) in &settings.services {
        match services.get_mut(&ServiceName::new(name.as_str())) {
            Some(service) => {
                service.liveness.clone_from(&written.liveness);
                service.allow = written.allow.clone().unwrap_or_default();
                secret_variables(service, written, secrets, report);
                reload(name, service, written, report);
            }
            // An inactive profile's.
            None if disabled.contains_key(name) => {}
            None => {
                let message =
                    format!("havre.yaml has settings for service `{name}`, which is not there");
                let near = suggest::nearest(name, services.keys().map(ServiceName::as_str));
                let error = report.error("havre/service", written.place, message);
                if let Some(near) = near {
                    error.hint(format!("did you mean `{near}`?"));
                }
            }
        }
    }
}
