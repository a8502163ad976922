//! What names stand for inside an environment. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use havre_net::Records;
use havre_release::{Release, ReplicaId, Role, Routing};

use crate::observe::Seen;

/// Names by network: each service and its aliases stand for the replicas that answer for it, each
/// replica's id and host name for itself.
pub(crate) fn records(
    releases: &BTreeMap<u64, Release>,
    routing: &Routing,
    seen: &[Seen],
) -> Records {
    let mut records = Records::default();
    for one in seen
        .iter()
        .filter(|one| matches!(one.place.role, Role::Replica { .. }))
    {
        let id = one.id();
        let answers = answers(routing, &id);
        let service = releases
            .get(&one.place.release)
            .and_then(|release| release.services.get(&one.place.service));
        for (network, address) in &one.place.addresses {
            let mut name = |name: &str| add(&mut records, network, name, *address);
            name(&id.0);
            name(&id.0.replace(['.', '_'], "-"));
            if !answers {
                continue;
            }
            name(one.place.service.as_str());
            let attachment = service
                .and_then(|service| {
                    service
                        .service
                        .networks
                        .iter()
                        .find(|(n, _)| n.as_str() == network)
                })
                .map(|(_, attachment)| attachment);
            for alias in attachment
                .into_iter()
                .flat_map(|attachment| &attachment.aliases)
            {
                name(alias);
            }
        }
    }
    records
}

fn answers(routing: &Routing, id: &ReplicaId) -> bool {
    routing
        .services
        .values()
        .any(|service| service.named.contains(id))
}

fn add(records: &mut Records, network: &str, name: &str, address: Ipv4Addr) {
    let addresses = records
        .networks
        .entry(network.to_owned())
        .or_default()
        .entry(name.to_ascii_lowercase())
        .or_default();
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}
