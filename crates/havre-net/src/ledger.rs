//! Which subnets and uplinks this instance has given to which environment. Pure: the caller
//! reads and writes the file and asks the kernel what is taken.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::NetworkSpec;
use crate::error::NetError;
use crate::subnet::Subnet;

/// Addresses of uplinks: shared address space, which no private network uses.
const UPLINKS: Subnet = Subnet::containing(Ipv4Addr::new(100, 64, 0, 0), 10);
/// Most environments of an instance; a slot fits into four hex digits of a link's name.
const SLOTS: u32 = 0x1_0000;
/// Prefix length of a network: 253 containers.
const NETWORK_LENGTH: u8 = 24;

/// All that is given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// By environment.
    pub environments: BTreeMap<String, Allocation>,
}

/// What one environment has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Number of its uplink.
    pub slot: u32,
    /// Its networks.
    pub networks: BTreeMap<String, NetworkAllocation>,
}

/// What one network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAllocation {
    /// Number of its bridge, unique in the environment.
    pub index: u32,
    /// Its addresses.
    pub subnet: Subnet,
    /// Without a way out.
    pub internal: bool,
}

impl Allocation {
    /// The host's address on the uplink.
    pub fn host_address(&self) -> Ipv4Addr {
        uplink_pair(self.slot).0
    }

    /// The router's address on the uplink.
    pub fn router_address(&self) -> Ipv4Addr {
        uplink_pair(self.slot).1
    }

    fn claims(&self) -> impl Iterator<Item = Subnet> {
        let (host, router) = uplink_pair(self.slot);
        [Subnet::containing(host, 32), Subnet::containing(router, 32)]
            .into_iter()
            .chain(self.networks.values().map(|network| network.subnet))
    }
}

impl NetworkAllocation {
    /// Name of its bridge, in the environment's own router namespace.
    pub fn bridge(&self) -> String {
        format!("br{}", self.index)
    }
}

/// What the kernel knows about addresses, as far as a choice depends on it.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Destinations of the machine's routes (default routes aside) that are not this
    /// environment's own, those of other instances included.
    pub taken: Vec<Subnet>,
    /// Destinations of this environment's own routes: held, whatever else is there.
    pub held: Vec<Subnet>,
}

impl Surroundings {
    fn is_free(&self, subnet: Subnet) -> bool {
        !self.taken.iter().any(|taken| taken.overlaps(subnet))
    }

    /// Whether something given away earlier can be used (again): nobody took it in between.
    fn is_usable(&self, subnet: Subnet) -> bool {
        self.held.contains(&subnet) || self.is_free(subnet)
    }
}

impl Ledger {
    /// Makes sure the environment has an uplink and each of `networks` a subnet, keeping what it
    /// has where that can be. Networks not named stay: containers may still be on them.
    pub fn reserve(
        &mut self,
        environment: &str,
        networks: &[NetworkSpec],
        pools: &[Subnet],
        around: &Surroundings,
    ) -> Result<Allocation, NetError> {
        let slot = self.choose_slot(environment, around)?;
        let allocation = self
            .environments
            .entry(environment.to_owned())
            .or_insert_with(|| Allocation {
                slot,
                networks: BTreeMap::new(),
            });
        allocation.slot = slot;
        let mut current = allocation.networks.clone();
        for spec in networks {
            let kept = current
                .get(&spec.name)
                .filter(|had| around.is_usable(had.subnet));
            let network = match kept {
                Some(had) => NetworkAllocation {
                    internal: spec.internal,
                    ..*had
                },
                None => NetworkAllocation {
                    index: current
                        .get(&spec.name)
                        .map_or_else(|| free_index(&current), |had| had.index),
                    subnet: self.choose_subnet(pools, around, &current).ok_or_else(|| {
                        NetError::NoSubnet {
                            environment: environment.to_owned(),
                            network: spec.name.clone(),
                            pools: list(pools),
                        }
                    })?,
                    internal: spec.internal,
                },
            };
            current.insert(spec.name.clone(), network);
        }
        let allocation = Allocation {
            slot,
            networks: current,
        };
        self.environments
            .insert(environment.to_owned(), allocation.clone());
        Ok(allocation)
    }

    fn choose_slot(&self, environment: &str, around: &Surroundings) -> Result<u32, NetError> {
        let usable = |slot: u32| {
            let (host, router) = uplink_pair(slot);
            around.is_usable(Subnet::containing(router, 32))
                && !around.taken.contains(&Subnet::containing(host, 32))
        };
        let had = self
            .environments
            .get(environment)
            .map(|allocation| allocation.slot);
        if let Some(slot) = had.filter(|slot| usable(*slot)) {
            return Ok(slot);
        }
        let given: Vec<u32> = self
            .environments
            .iter()
            .filter(|(name, _)| name.as_str() != environment)
            .map(|(_, allocation)| allocation.slot)
            .collect();
        (0..SLOTS)
            .find(|slot| !given.contains(slot) && usable(*slot))
            .ok_or_else(|| NetError::NoUplink {
                environment: environment.to_owned(),
            })
    }

    fn choose_subnet(
        &self,
        pools: &[Subnet],
        around: &Surroundings,
        also: &BTreeMap<String, NetworkAllocation>,
    ) -> Option<Subnet> {
        let given: Vec<Subnet> = self
            .environments
            .values()
            .flat_map(Allocation::claims)
            .chain(also.values().map(|network| network.subnet))
            .collect();
        pools
            .iter()
            .flat_map(|pool| pool.split(NETWORK_LENGTH))
            .find(|candidate| {
                around.is_free(*candidate) && !given.iter().any(|given| given.overlaps(*candidate))
            })
    }
}

/// Host's and router's address on the uplink of a slot.
fn uplink_pair(slot: u32) -> (Ipv4Addr, Ipv4Addr) {
    // 100.64.0.0 itself is left alone: some tools refuse an address that ends a network.
    let first = UPLINKS.base().to_bits() + 2 + 2 * (slot % SLOTS);
    (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + 1))
}

fn free_index(networks: &BTreeMap<String, NetworkAllocation>) -> u32 {
    // Ends: there are fewer networks than numbers.
    (0..=u32::MAX)
        .find(|index| networks.values().all(|network| network.index != *index))
        .unwrap_or(u32::MAX)
}

fn list(pools: &[Subnet]) -> String {
    pools
        .iter()
        .map(Subnet::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().expect("a subnet")
    }

    fn pools() -> Vec<Subnet> {
        vec![subnet("10.89.0.0/22"), subnet("172.30.0.0/24")]
    }

    fn networks(names: &[&str]) -> Vec<NetworkSpec> {
        names
            .iter()
            .map(|name| NetworkSpec {
                name: (*name).to_owned(),
                internal: name.starts_with('i'),
            })
            .collect()
    }

    fn around(taken: &[&str], held: &[&str]) -> Surroundings {
        Surroundings {
            taken: taken.iter().map(|text| subnet(text)).collect(),
            held: held.iter().map(|text| subnet(text)).collect(),
        }
    }

    fn reserve(
        ledger: &mut Ledger,
        environment: &str,
        names: &[&str],
        around: &Surroundings,
    ) -> Vec<String> {
        let allocation = ledger
            .reserve(environment, &networks(names), &pools(), around)
            .expect("room enough");
        names
            .iter()
            .map(|name| allocation.networks[*name].subnet.to_string())
            .collect()
    }

    #[test]
    fn environments_never_share_and_repeats_change_nothing() {
        let mut ledger = Ledger::default();
        let free = around(&[], &[]);
        assert_eq!(
            reserve(&mut ledger, "a", &["x", "i"], &free),
            ["10.89.0.0/24", "10.89.1.0/24"]
        );
        assert_eq!(reserve(&mut ledger, "b", &["x"], &free), ["10.89.2.0/24"]);
        let before = ledger.clone();
        assert_eq!(
            reserve(&mut ledger, "a", &["i", "x"], &free),
            ["10.89.1.0/24", "10.89.0.0/24"]
        );
        assert_eq!(ledger, before);
        let (a, b) = (&ledger.environments["a"], &ledger.environments["b"]);
        assert!(a.networks["i"].internal && !a.networks["x"].internal);
        assert_ne!(a.networks["i"].index, a.networks["x"].index);
        assert_ne!(a.slot, b.slot);
        assert!(
            a.claims()
                .all(|ours| b.claims().all(|theirs| !ours.overlaps(theirs)))
        );
    }

    #[test]
    fn routes_of_the_machine_are_avoided_and_pools_follow_each_other() {
        let mut ledger = Ledger::default();
        let vpn = around(&["10.0.0.0/8", "100.64.0.2/32"], &[]);
        assert_eq!(reserve(&mut ledger, "a", &["x"], &vpn), ["172.30.0.0/24"]);
        assert_eq!(
            ledger.environments["a"].host_address(),
            Ipv4Addr::new(100, 64, 0, 4)
        );
        let error = ledger
            .reserve("b", &networks(&["x"]), &pools(), &vpn)
            .expect_err("nothing left")
            .to_string();
        assert!(error.contains("10.89.0.0/22, 172.30.0.0/24"), "{error}");
    }

    #[test]
    fn what_was_taken_meanwhile_is_given_up_unless_held() {
        let mut ledger = Ledger::default();
        reserve(&mut ledger, "a", &["x"], &around(&[], &[]));
        let held = around(&["10.89.0.0/16"], &["10.89.0.0/24"]);
        assert_eq!(reserve(&mut ledger, "a", &["x"], &held), ["10.89.0.0/24"]);
        let lost = around(&["10.89.0.0/24", "100.64.0.3/32"], &[]);
        let index = ledger.environments["a"].networks["x"].index;
        assert_eq!(reserve(&mut ledger, "a", &["x"], &lost), ["10.89.1.0/24"]);
        assert_eq!(ledger.environments["a"].networks["x"].index, index);
        assert_eq!(ledger.environments["a"].slot, 1);
    }
}
