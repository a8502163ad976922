//! Environments: the router namespace, its uplink, its bridges, and what the host needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::config::{Places, check_name, check_network_name};
use crate::container::remove_stray_links;
use crate::error::NetError;
use crate::files::{self, Durability, Lock};
use crate::firewall;
use crate::host::{Claim, Reserved, claim_routes, default_mtu, surroundings};
use crate::leases::Leases;
use crate::ledger::{Allocation, Ledger, NetworkSpec};
use crate::net::Net;
use crate::netlink::Socket;
use crate::netns;
use crate::resolver::publish_zones;
use crate::router::{configure_router, prepare_router, router_sockets};
use crate::subnet::Subnet;
use crate::sysctl;

/// How often a subnet is chosen anew because another program took it first.
const ATTEMPTS: u32 = 8;

/// An environment whose network is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where the router's namespace is pinned.
    pub router_netns: PathBuf,
    /// The networks asked for.
    pub networks: BTreeMap<String, Network>,
    /// The host as containers reach it (compose's `host-gateway`).
    pub host: Ipv4Addr,
}

/// A network that is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its addresses.
    pub subnet: Subnet,
    /// The router's address in it, where the resolver listens too.
    pub gateway: Ipv4Addr,
    /// Without a way out.
    pub internal: bool,
}

impl Net {
    /// Makes the environment's network as `networks` says, or completes or changes it. Networks
    /// not named any more are removed once no container is on them.
    pub fn ensure_environment(
        &self,
        environment: &str,
        networks: &[NetworkSpec],
    ) -> Result<Environment, NetError> {
        check_name(environment, "an environment")?;
        for network in networks {
            check_network_name(&network.name)?;
        }
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        files::make_dir(&places.containers())?;
        for _ in 0..ATTEMPTS {
            let mut host = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
            let reserved = self.reserve(environment, networks, &mut host)?;
            if self.realise(&places, &reserved, &mut host)? == Claim::LostToAnother {
                continue;
            }
            publish_zones(&places, &reserved.allocation)?;
            self.publish()?;
            self.learn_foreign_names(environment)?;
            return Ok(describe(&places, networks, &reserved.allocation));
        }
        Err(NetError::Contended {
            environment: environment.to_owned(),
            attempts: ATTEMPTS,
        })
    }

    /// Removes the environment's network and all that belongs to it, containers' namespaces
    /// included. Goes on after an error; what is gone already is no error.
    pub fn remove_environment(&self, environment: &str) -> Vec<NetError> {
        let mut errors = Vec::new();
        if let Err(error) = check_name(environment, "an environment") {
            return vec![error];
        }
        let lock = match self.lock(environment) {
            Ok(lock) => lock,
            Err(error) => return vec![error],
        };
        let places = self.config.places(environment);
        let neighbours = self.neighbours(environment).unwrap_or_else(|error| {
            errors.push(error);
            BTreeSet::new()
        });
        errors.extend(self.end_dns(environment).err());
        errors.extend(self.remove_uplink(environment).err());
        match names_in(&places.containers()) {
            Ok(names) => {
                let pins = names.iter().map(|name| places.container(name));
                errors.extend(pins.filter_map(|pin| netns::unpin(&pin).err()));
            }
            Err(error) => errors.push(error),
        }
        errors.extend(netns::unpin(&places.router()).err());
        if errors.is_empty() {
            errors.extend(self.remove_files(&places).err());
        }
        for neighbour in neighbours {
            errors.extend(self.learn_foreign_names(&neighbour).err());
        }
        if errors.is_empty() {
            errors.extend(self.forget(environment).err());
        }
        if errors.is_empty() {
            errors.extend(self.unlock_for_good(environment, lock).err());
        }
        errors
    }

    /// Removes what belongs to neither: environments that are not in `keep_environments`, and in
    /// those kept, containers that are not in `keep_containers`.
    pub fn sweep(&self, keep_environments: &[&str], keep_containers: &[&str]) -> Vec<NetError> {
        let known = match self.known_environments() {
            Ok(known) => known,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        for environment in known {
            if keep_environments.contains(&environment.as_str()) {
                match self.known_containers(&environment) {
                    Ok(containers) => {
                        for container in containers {
                            if !keep_containers.contains(&container.as_str()) {
                                errors.extend(self.detach(&environment, &container).err());
                            }
                        }
                    }
                    Err(error) => errors.push(error),
                }
            } else {
                errors.extend(self.remove_environment(&environment));
            }
        }
        errors.extend(self.remove_stray_uplinks().err());
        errors.extend(self.publish().err());
        errors
    }

    /// Chooses and writes down what the environment gets.
    fn reserve(
        &self,
        environment: &str,
        networks: &[NetworkSpec],
        host: &mut Socket,
    ) -> Result<Reserved, NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        let before: Ledger = files::read(&self.config.ledger())?;
        let leases: Leases = files::read(&self.config.places(environment).leases())?;
        let had = before.environments.get(environment);
        let uplink = match had {
            Some(had) => self.find_uplink(host, had.slot)?,
            None => None,
        };
        let routes = host
            .routes()
            .map_err(NetError::kernel("list the machine's routes"))?;
        let around = surroundings(&routes, uplink.as_ref());
        let mut after = before.clone();
        if let Some(allocation) = after.environments.get_mut(environment) {
            let wanted: BTreeSet<&str> = networks.iter().map(|spec| spec.name.as_str()).collect();
            allocation
                .networks
                .retain(|name, _| wanted.contains(name.as_str()) || leases.uses(name));
        }
        let allocation = after.reserve(environment, networks, &self.config.pools, &around)?;
        if let Some(had) = had.filter(|had| had.slot != allocation.slot)
            && let Some(stale) = self.find_uplink(host, had.slot)?
        {
            host.delete_link(stale.index)
                .map_err(NetError::kernel(format!("remove link {}", stale.name)))?;
        }
        if after != before {
            files::replace(&self.config.ledger(), &after, Durability::Durable)?;
        }
        Ok(Reserved {
            allocation,
            held: around.held,
            mtu: default_mtu(&routes, host)?,
        })
    }

    /// Brings the kernel to what was reserved.
    fn realise(
        &self,
        places: &Places,
        reserved: &Reserved,
        host: &mut Socket,
    ) -> Result<Claim, NetError> {
        let allocation = &reserved.allocation;
        let pin = places.router();
        let netns = match netns::open(&pin)? {
            Some(netns) => netns,
            None => netns::create(&pin, prepare_router)?,
        };
        netns::enter(netns.as_fd(), &pin, || {
            // br_netfilter may have been loaded since; it is on in every namespace then.
            sysctl::set_if_present("net/bridge/bridge-nf-call-iptables", "0").map(drop)
        })?;
        let mut router = router_sockets(netns.as_fd(), &pin)?;
        let uplink = self.ensure_uplink(host, &mut router.route, netns.as_fd(), reserved)?;
        if claim_routes(host, &uplink, reserved)? == Claim::LostToAnother {
            return Ok(Claim::LostToAnother);
        }
        let leases = files::read(&places.leases())?;
        configure_router(&mut router.route, allocation, &leases, reserved.mtu)?;
        let links = router
            .route
            .links()
            .map_err(NetError::kernel("list the router's links"))?;
        remove_stray_links(&mut router.route, &links, &leases)
            .map_err(NetError::kernel("remove links of containers that are gone"))?;
        router
            .netfilter
            .put_table(&firewall::router_table(allocation, &leases))
            .map_err(NetError::kernel("set the router's firewall rules"))?;
        Ok(Claim::Held)
    }

    /// Takes the environment out of the host-wide rules and then out of the ledger: a crash in
    /// between leaves it known, to be removed again.
    fn forget(&self, environment: &str) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        let mut ledger: Ledger = files::read(&self.config.ledger())?;
        let known = ledger.forget(environment);
        self.publish_locked(&ledger)?;
        if known {
            files::replace(&self.config.ledger(), &ledger, Durability::Durable)?;
        }
        Ok(())
    }

    /// Removes the lock's file while the lock is held; whoever waits for it opens a new one.
    fn unlock_for_good(&self, environment: &str, lock: Lock) -> Result<(), NetError> {
        let path = self.config.locks().join(environment);
        let result = fs::remove_file(&path).map_err(NetError::file("remove", &path));
        drop(lock);
        result
    }

    fn known_environments(&self) -> Result<BTreeSet<String>, NetError> {
        let ledger: Ledger = files::read(&self.config.ledger())?;
        let mut known: BTreeSet<String> = ledger.environments.into_keys().collect();
        known.extend(names_in(&self.config.run_dir)?);
        Ok(known)
    }

    fn known_containers(&self, environment: &str) -> Result<BTreeSet<String>, NetError> {
        let places = self.config.places(environment);
        let leases: Leases = files::read(&places.leases())?;
        let mut known: BTreeSet<String> = leases.containers.into_keys().collect();
        known.extend(names_in(&places.containers())?);
        Ok(known)
    }
}

fn describe(places: &Places, networks: &[NetworkSpec], allocation: &Allocation) -> Environment {
    let asked = |name: &str| networks.iter().any(|spec| spec.name == name);
    Environment {
        router_netns: places.router(),
        networks: allocation
            .networks
            .iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, network)| {
                let network = Network {
                    subnet: network.subnet,
                    gateway: network.subnet.gateway(),
                    internal: network.internal,
                };
                (name.clone(), network)
            })
            .collect(),
        host: allocation.host_address(),
    }
}

/// Entries of a folder that can be names of ours; none when there is no folder.
fn names_in(folder: &Path) -> Result<Vec<String>, NetError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(NetError::file("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(NetError::file("list", folder))?;
        if let Ok(name) = entry.file_name().into_string()
            && check_name(&name, "an entry").is_ok()
        {
            names.push(name);
        }
    }
    Ok(names)
}
