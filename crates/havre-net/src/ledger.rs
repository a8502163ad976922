//! Which subnets and uplinks this instance has given to which environment. Pure: the caller
//! reads and writes the file and asks the kernel what is taken.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::error::NetError;
use crate::subnet::Subnet;

/// Addresses of uplinks: shared address space, which no private network uses.
const UPLINKS: Subnet = Subnet::containing(Ipv4Addr::new(100, 64, 0, 0), 10);
/// Most environments of an instance; a slot fits into four hex digits of a link's name.
const SLOTS: u32 = 0x1_0000;
/// Prefix length of a network: 253 containers.
const NETWORK_LENGTH: u8 = 24;
/// Prefix length of all that a shared network takes: room for 64 environments.
const BLOCK_LENGTH: u8 = 19;
/// Prefix length of what one environment has of a shared network: 125 containers and services.
const SHARE_LENGTH: u8 = 25;

/// A network an environment shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name, as in compose.
    pub name: String,
    /// Without a way out.
    pub internal: bool,
    /// One with the networks of this name that other environments have: what is on them reaches each
    /// other, and finds each other by name where it has no such name itself.
    pub shared: bool,
    /// For programs that nobody of the machine vouches for: they do not reach what clouds tell a machine alone, as its
    /// credentials, and open connections so fast at most.
    pub confined: bool,
}

/// All that is given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// By environment.
    pub environments: BTreeMap<String, Allocation>,
    /// Blocks of the shared networks that environments are on: each has its subnet in there, so that
    /// one rule and one route stand for all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<String, Subnet>,
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
    /// Of a shared network: the addresses of all environments on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Subnet>,
    /// As of [`NetworkSpec::confined`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confined: bool,
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
            let block = match spec.shared {
                true => Some(self.block(environment, spec, pools, around, &current)?),
                false => None,
            };
            let kept = current
                .get(&spec.name)
                .filter(|had| around.is_usable(had.subnet) && had.block == block);
            let network = match kept {
                Some(had) => NetworkAllocation {
                    internal: spec.internal,
                    confined: spec.confined,
                    ..*had
                },
                None => NetworkAllocation {
                    index: current
                        .get(&spec.name)
                        .map_or_else(|| free_index(&current), |had| had.index),
                    subnet: match block {
                        Some(block) => {
                            self.choose(&[block], SHARE_LENGTH, around, &current, Some(block))
                        }
                        None => self.choose(pools, NETWORK_LENGTH, around, &current, None),
                    }
                    .ok_or_else(|| NetError::NoSubnet {
                        environment: environment.to_owned(),
                        network: spec.name.clone(),
                        pools: block.map_or_else(|| list(pools), |block| block.to_string()),
                    })?,
                    internal: spec.internal,
                    block,
                    confined: spec.confined,
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
        self.drop_unused_blocks();
        Ok(allocation)
    }

    /// Takes back all that the environment has; whether it had anything.
    pub fn forget(&mut self, environment: &str) -> bool {
        let known = self.environments.remove(environment).is_some();
        self.drop_unused_blocks();
        known
    }

    /// Environments on a shared network.
    pub fn members(&self, network: &str) -> impl Iterator<Item = &str> {
        self.environments.iter().filter_map(move |(name, has)| {
            let on_it = has.networks.get(network)?.block.is_some();
            on_it.then_some(name.as_str())
        })
    }

    fn drop_unused_blocks(&mut self) {
        let environments = &self.environments;
        self.shared.retain(|name, block| {
            environments
                .values()
                .filter_map(|allocation| allocation.networks.get(name))
                .any(|network| network.block == Some(*block))
        });
    }

    /// The block of a shared network, chosen with its first member.
    fn block(
        &mut self,
        environment: &str,
        spec: &NetworkSpec,
        pools: &[Subnet],
        around: &Surroundings,
        also: &BTreeMap<String, NetworkAllocation>,
    ) -> Result<Subnet, NetError> {
        if let Some(block) = self.shared.get(&spec.name) {
            return Ok(*block);
        }
        // From the other end than networks of one environment.
        let pools: Vec<Subnet> = pools
            .iter()
            .flat_map(|pool| {
                let mut blocks: Vec<Subnet> = pool.split(BLOCK_LENGTH).collect();
                blocks.reverse();
                blocks
            })
            .collect();
        let block = self
            .choose(&pools, BLOCK_LENGTH, around, also, None)
            .ok_or_else(|| NetError::NoSubnet {
                environment: environment.to_owned(),
                network: spec.name.clone(),
                pools: format!("{} for a shared network (/{BLOCK_LENGTH})", list(&pools)),
            })?;
        self.shared.insert(spec.name.clone(), block);
        Ok(block)
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

    /// The first subnet of that length in the pools that nobody has. `inside`: of this block.
    fn choose(
        &self,
        pools: &[Subnet],
        length: u8,
        around: &Surroundings,
        also: &BTreeMap<String, NetworkAllocation>,
        inside: Option<Subnet>,
    ) -> Option<Subnet> {
        let given: Vec<Subnet> = self
            .environments
            .values()
            .flat_map(Allocation::claims)
            .chain(also.values().map(|network| network.subnet))
            .chain(
                self.shared
                    .values()
                    .copied()
                    .filter(|block| inside != Some(*block)),
            )
            .collect();
        pools
            .iter()
            .flat_map(|pool| pool.split(length))
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
                shared: name.ends_with("@shared"),
                confined: false,
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

    #[test]
    fn environments_on_a_shared_network_have_subnets_of_one_block() {
        let pools = [subnet("10.89.0.0/16")];
        let free = around(&[], &[]);
        let mut ledger = Ledger::default();
        let get = |ledger: &mut Ledger, environment: &str, names: &[&str]| {
            let networks = networks(names);
            let allocation = ledger.reserve(environment, &networks, &pools, &free);
            let had = allocation.expect("room").networks;
            names.iter().map(|name| had[*name]).collect::<Vec<_>>()
        };
        let a = get(&mut ledger, "a", &["x", "p@shared"]);
        let b = get(&mut ledger, "b", &["p@shared", "q@shared"]);
        let block = ledger.shared["p@shared"];
        assert_eq!(block.to_string(), "10.89.224.0/19");
        assert_eq!(a[1].subnet.to_string(), "10.89.224.0/25");
        assert_eq!(b[0].subnet.to_string(), "10.89.224.128/25");
        assert_eq!((a[1].block, b[0].block), (Some(block), Some(block)));
        assert_eq!(a[0].block, None);
        assert!(!ledger.shared["q@shared"].overlaps(block));
        assert_eq!(ledger.members("p@shared").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            get(&mut ledger, "a", &["x", "p@shared"]),
            a,
            "twice is once"
        );
        // Its own networks keep off the blocks, and a block goes with its last member.
        let all = vec!["n"; 300].into_iter().enumerate();
        let names: Vec<String> = all
            .map(|(number, name)| format!("{name}{number}"))
            .collect();
        let many: Vec<NetworkSpec> =
            networks(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let error = ledger.clone().reserve("c", &many, &pools, &free);
        assert!(
            error
                .expect_err("too many")
                .to_string()
                .contains("10.89.0.0/16")
        );
        let some = ledger.clone().reserve("c", &many[..180], &pools, &free);
        assert!(
            some.expect("room")
                .networks
                .values()
                .all(|n| !n.subnet.overlaps(block))
        );
        assert!(ledger.forget("b"));
        assert_eq!(ledger.shared.keys().collect::<Vec<_>>(), ["p@shared"]);
        assert!(ledger.forget("a") && !ledger.forget("a"));
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn a_shared_network_has_room_for_64_environments() {
        let pools = [subnet("10.89.0.0/16")];
        let mut ledger = Ledger::default();
        let mut join = |number: u32| {
            let name = format!("e{number}");
            ledger.reserve(&name, &networks(&["p@shared"]), &pools, &around(&[], &[]))
        };
        assert!((0..64).all(|number| join(number).is_ok()));
        let error = join(64).expect_err("full").to_string();
        assert!(error.contains("10.89.224.0/19"), "{error}");
    }
}
