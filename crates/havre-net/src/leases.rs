//! Which container has which address. Pure; the file is also what the resolver reads to know
//! who asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::ledger::NetworkAllocation;
use crate::subnet::Subnet;

/// Replicas that answer, by network and service; a service of which none does is named as well.
pub type Backends = BTreeMap<String, BTreeMap<String, Vec<Ipv4Addr>>>;

/// The addresses of an environment's containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// By container: its networks in the order it was given them.
    pub containers: BTreeMap<String, Vec<Lease>>,
    /// By container: what holds for its questions only.
    #[serde(default)]
    pub lookups: BTreeMap<String, Lookup>,
    /// By network and service: the service's own address, and who answers there.
    #[serde(default)]
    pub services: BTreeMap<String, BTreeMap<String, ServiceLease>>,
    /// By network: where the search for a free address goes on. A freed address is not given
    /// again until the search has come round, so that a client with an old address in hand
    /// meets nobody instead of somebody else.
    pub next: BTreeMap<String, u32>,
}

/// How one container looks names up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Asked for names from outside; none: the host's.
    pub resolvers: Vec<IpAddr>,
    /// Further names: alias, in lower case → name.
    pub aliases: BTreeMap<String, String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: String,
    /// Address in it.
    pub address: Ipv4Addr,
}

/// The address of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLease {
    /// Its own.
    pub address: Ipv4Addr,
    /// Those of the replicas that answer.
    pub backends: Vec<Ipv4Addr>,
}

/// No address is left in the named network.
#[derive(Debug)]
pub struct Full(pub String);

impl Leases {
    /// Gives `container` one address in each of `networks`, keeping those it has, and takes
    /// back others.
    pub fn assign(
        &mut self,
        container: &str,
        networks: &[(&str, NetworkAllocation)],
    ) -> Result<Vec<Lease>, Full> {
        let had = self.containers.get(container).cloned().unwrap_or_default();
        let mut leases = Vec::with_capacity(networks.len());
        for (name, network) in networks {
            let kept = had
                .iter()
                .find(|lease| lease.network == *name && network.subnet.contains(lease.address));
            let lease = match kept {
                Some(lease) => lease.clone(),
                None => Lease {
                    network: (*name).to_owned(),
                    address: self
                        .free_address(name, network.subnet)
                        .ok_or_else(|| Full((*name).to_owned()))?,
                },
            };
            leases.push(lease);
        }
        self.containers.insert(container.to_owned(), leases.clone());
        Ok(leases)
    }

    /// Takes back all addresses of `container`.
    pub fn release(&mut self, container: &str) -> Vec<Lease> {
        self.lookups.remove(container);
        self.containers.remove(container).unwrap_or_default()
    }

    /// Gives each service one address in its network, keeping those it has, and takes those of
    /// other services back. A service whose network is not there or is full gets none.
    pub fn assign_services(
        &mut self,
        backends: &Backends,
        networks: &BTreeMap<String, NetworkAllocation>,
    ) {
        self.services.retain(|name, had| {
            let (wanted, network) = (backends.get(name), networks.get(name));
            had.retain(|service, lease| {
                wanted.is_some_and(|wanted| wanted.contains_key(service))
                    && network.is_some_and(|network| network.subnet.contains(lease.address))
            });
            !had.is_empty()
        });
        for (name, services) in backends {
            let Some(network) = networks.get(name) else {
                continue;
            };
            for (service, backends) in services {
                let had = self.services.get(name).and_then(|had| had.get(service));
                let address = had.map(|lease| lease.address);
                let Some(address) = address.or_else(|| self.free_address(name, network.subnet))
                else {
                    continue;
                };
                let backends = backends.clone();
                let of_network = self.services.entry(name.clone()).or_default();
                of_network.insert(service.clone(), ServiceLease { address, backends });
            }
        }
    }

    /// Whether a container is on the network.
    pub fn uses(&self, network: &str) -> bool {
        self.containers
            .values()
            .flatten()
            .any(|lease| lease.network == network)
    }

    fn free_address(&mut self, network: &str, subnet: Subnet) -> Option<Ipv4Addr> {
        // Without the network's own address, the gateway and the broadcast address.
        let (first, count) = (
            2,
            u32::try_from(subnet.size())
                .unwrap_or(u32::MAX)
                .checked_sub(3)?,
        );
        let start = self.next.get(network).copied().unwrap_or(0);
        let taken: Vec<Ipv4Addr> = self
            .containers
            .values()
            .flatten()
            .map(|lease| lease.address)
            .chain(
                self.services
                    .values()
                    .flatten()
                    .map(|(_, lease)| lease.address),
            )
            .collect();
        for step in 0..count {
            let place = (start.wrapping_add(step)) % count;
            let address = subnet.nth(first + place)?;
            if !taken.contains(&address) {
                self.next.insert(network.to_owned(), (place + 1) % count);
                return Some(address);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> NetworkAllocation {
        NetworkAllocation {
            index: 0,
            subnet: text.parse().expect("a subnet"),
            internal: false,
            block: None,
            confined: false,
        }
    }

    fn addresses(leases: &[Lease]) -> Vec<String> {
        leases
            .iter()
            .map(|lease| format!("{} {}", lease.network, lease.address))
            .collect()
    }

    #[test]
    fn repeats_keep_addresses_and_freed_ones_rest() {
        let (x, y) = (network("10.0.0.0/29"), network("10.0.1.0/29"));
        let mut leases = Leases::default();
        let first = leases.assign("a", &[("y", y), ("x", x)]).expect("room");
        assert_eq!(addresses(&first), ["y 10.0.1.2", "x 10.0.0.2"]);
        assert_eq!(
            leases.assign("a", &[("y", y), ("x", x)]).expect("room"),
            first
        );
        leases.release("a");
        let next = leases.assign("b", &[("x", x)]).expect("room");
        assert_eq!(addresses(&next), ["x 10.0.0.3"]);
        assert!(leases.uses("x") && !leases.uses("y"));
    }

    #[test]
    fn a_full_network_refuses_and_comes_round() {
        let x = network("10.0.0.0/29");
        let mut leases = Leases::default();
        for name in ["a", "b", "c", "d", "e"] {
            leases
                .assign(name, &[("x", x)])
                .expect("five usable addresses");
        }
        assert!(leases.assign("f", &[("x", x)]).is_err());
        leases.release("b");
        assert_eq!(
            addresses(&leases.assign("f", &[("x", x)]).expect("room")),
            ["x 10.0.0.3"]
        );
    }

    #[test]
    fn a_service_keeps_its_address_while_its_replicas_change() {
        let networks: BTreeMap<String, NetworkAllocation> =
            [("x".to_owned(), network("10.0.0.0/28"))].into();
        let backends = |services: &[(&str, &[&str])]| -> Backends {
            let services = services.iter().map(|(service, replicas)| {
                let replicas = replicas
                    .iter()
                    .map(|text| text.parse().expect("an address"));
                ((*service).to_owned(), replicas.collect())
            });
            [("x".to_owned(), services.collect())].into()
        };
        let mut leases = Leases::default();
        leases.assign("c", &[("x", networks["x"])]).expect("room");
        leases.assign_services(&backends(&[("db", &["10.0.0.2"]), ("web", &[])]), &networks);
        let db = leases.services["x"]["db"].clone();
        assert_eq!(db.address.to_string(), "10.0.0.3");
        let web = leases.services["x"]["web"].address;
        leases.assign_services(&backends(&[("db", &["10.0.0.9"])]), &networks);
        assert_eq!(leases.services["x"]["db"].address, db.address);
        assert_eq!(
            leases.services["x"]["db"].backends[0].to_string(),
            "10.0.0.9"
        );
        assert!(!leases.services["x"].contains_key("web"));
        let next = leases.assign("d", &[("x", networks["x"])]).expect("room");
        assert!(next[0].address != db.address && next[0].address != web);
        leases.assign_services(&Backends::new(), &networks);
        assert!(leases.services.is_empty());
    }

    #[test]
    fn an_address_outside_a_moved_subnet_is_replaced() {
        let mut leases = Leases::default();
        leases
            .assign("a", &[("x", network("10.0.0.0/29"))])
            .expect("room");
        let moved = leases
            .assign("a", &[("x", network("10.9.0.0/29"))])
            .expect("room");
        assert_eq!(addresses(&moved), ["x 10.9.0.3"]);
    }
}
