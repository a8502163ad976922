//! What names stand for inside an environment. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use havre_api::EnvironmentId;
use havre_net::{Backends, Records, ServiceAddresses};
use havre_release::{Release, ReplicaId, Role, Routing};

use crate::labels::MACHINE;
use crate::observe::ObservedContainer;
use crate::shared_networks::{full_names, is_reserved, is_shared};

/// Replicas that answer for each service on each of its networks; services of which none does
/// are there too, so that they keep their addresses.
pub(crate) fn backends(
    releases: &BTreeMap<u64, Release>,
    routing: &Routing,
    seen: &[ObservedContainer],
) -> Backends {
    let mut backends = Backends::new();
    for (name, service) in releases.values().flat_map(|release| &release.services) {
        for network in service.service.networks.keys() {
            let services = backends.entry(network.as_str().to_owned()).or_default();
            services.entry(name.as_str().to_owned()).or_default();
        }
    }
    for one in replicas(seen).filter(|one| answers(routing, &one.id())) {
        for (network, address) in on_networks(one) {
            let services = backends.entry(network.clone()).or_default();
            let service = one.place.service.as_str().to_owned();
            services.entry(service).or_default().push(*address);
        }
    }
    backends
}

/// Names by network: each service and its aliases stand for the service's own address,
/// `tasks.SERVICE` for the replicas that answer, each replica's id for itself. Where the environment is
/// on a shared network, services of which nobody answers are named as well: they are not looked for in
/// other environments then.
pub(crate) fn records(
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
    backends: &Backends,
    addresses: &ServiceAddresses,
    seen: &[ObservedContainer],
) -> Records {
    let mut records = Records::default();
    for one in replicas(seen) {
        let id = one.id();
        for (network, address) in on_networks(one) {
            add(&mut records, network, &id.0, *address);
            let host = id.0.replace(['.', '_'], "-");
            add(&mut records, network, &host, *address);
        }
    }
    let has_neighbours = backends.keys().any(|network| is_shared(releases, network));
    for (network, services) in backends {
        let is_shared = is_shared(releases, network);
        for (service, replicas) in services {
            let tasks = Some(format!("tasks.{service}")).filter(|name| !is_reserved(name));
            let mut names = names(releases, network, service);
            names.retain(|name| !is_reserved(name));
            if is_shared {
                names.extend(full_names(id, service));
            }
            if replicas.is_empty() {
                if has_neighbours {
                    for name in names.iter().chain(&tasks) {
                        of_name(&mut records, network, name);
                    }
                }
                continue;
            }
            if let Some(name) = &tasks {
                for replica in replicas {
                    add(&mut records, network, name, *replica);
                }
            }
            // Without an address of its own (the network is full) as well as it goes.
            let own = addresses.get(network).and_then(|all| all.get(service));
            let stands_for = own.map_or(replicas.as_slice(), std::slice::from_ref);
            for name in &names {
                for address in stands_for {
                    add(&mut records, network, name, *address);
                }
            }
        }
    }
    records
}

/// A service's name and its aliases on a network, of all releases in play.
fn names(releases: &BTreeMap<u64, Release>, network: &str, service: &str) -> Vec<String> {
    let services = releases.values().flat_map(|release| &release.services);
    let aliases = services
        .filter(|(name, _)| name.as_str() == service)
        .flat_map(|(_, config)| &config.service.networks)
        .filter(|(name, _)| name.as_str() == network)
        .flat_map(|(_, attachment)| attachment.aliases.iter().cloned());
    std::iter::once(service.to_owned()).chain(aliases).collect()
}

fn replicas(seen: &[ObservedContainer]) -> impl Iterator<Item = &ObservedContainer> {
    seen.iter()
        .filter(|one| matches!(one.place.role, Role::Replica { .. }))
}

/// Its addresses on networks of the environment.
fn on_networks(one: &ObservedContainer) -> impl Iterator<Item = (&String, &Ipv4Addr)> {
    let addresses = one.place.addresses.iter();
    addresses.filter(|(network, _)| *network != MACHINE)
}

fn answers(routing: &Routing, id: &ReplicaId) -> bool {
    routing
        .services
        .values()
        .any(|service| service.named.contains(id))
}

fn add(records: &mut Records, network: &str, name: &str, address: Ipv4Addr) {
    let addresses = of_name(records, network, name);
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

/// What a name stands for so far.
fn of_name<'a>(records: &'a mut Records, network: &str, name: &str) -> &'a mut Vec<Ipv4Addr> {
    let names = records.networks.entry(network.to_owned()).or_default();
    names.entry(name.to_ascii_lowercase()).or_default()
}
