//! Environments: the router namespace, its uplink, its bridges, and what the host needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::config::{NetConfig, Places, check_instance, check_name};
use crate::container::remove_stray_links;
use crate::error::NetError;
use crate::files::{self, Durability, Lock};
use crate::firewall::{self, ROUTER_UPLINK, accept};
use crate::leases::Leases;
use crate::ledger::{Allocation, Ledger, NetworkAllocation, Surroundings};
use crate::netlink::Socket;
use crate::netlink::link::{Change, Link, Mac, VethEnd};
use crate::netlink::route::{IfPresent, NewRoute, Route};
use crate::netns;
use crate::resolver::publish_zones;
use crate::subnet::Subnet;
use crate::sysctl;

/// How often a subnet is chosen anew because another program took it first.
const ATTEMPTS: u32 = 8;
/// Where the machine has no default route to copy it from.
const DEFAULT_MTU: u32 = 1500;

/// A network an environment shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name, as in compose.
    pub name: String,
    /// Without a way out.
    pub internal: bool,
}

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

/// The networks of one instance.
#[derive(Debug)]
pub struct Net {
    pub(crate) config: NetConfig,
}

impl Net {
    /// Prepares the folders; touches nothing else.
    pub fn new(config: NetConfig) -> Result<Self, NetError> {
        check_instance(&config.instance)?;
        files::make_dir(&config.state_dir)?;
        files::make_dir(&config.locks())?;
        Ok(Self { config })
    }

    /// Makes the environment's network as `networks` says, or completes or changes it. Networks
    /// not named any more are removed once no container is on them.
    pub fn ensure_environment(
        &self,
        environment: &str,
        networks: &[NetworkSpec],
    ) -> Result<Environment, NetError> {
        check_name(environment, "an environment")?;
        for network in networks {
            check_name(&network.name, "a network")?;
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
            errors.extend(remove_dir(&places.dir).err());
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

    pub(crate) fn lock(&self, environment: &str) -> Result<Lock, NetError> {
        Lock::acquire(self.config.locks().join(environment))
    }

    /// The environment's allocation, if it has one.
    pub(crate) fn allocation(&self, environment: &str) -> Result<Allocation, NetError> {
        files::read::<Ledger>(&self.config.ledger())?
            .environments
            .remove(environment)
            .ok_or_else(|| NetError::NotSetUp {
                environment: environment.to_owned(),
            })
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
        let mut router = netns::enter(netns.as_fd(), &pin, || {
            // br_netfilter may have been loaded since; it is on in every namespace then.
            sysctl::set_if_present("net/bridge/bridge-nf-call-iptables", "0")?;
            Ok(RouterSockets {
                route: Socket::route().map_err(NetError::kernel("talk to the kernel"))?,
                netfilter: Socket::netfilter().map_err(NetError::kernel("talk to nf_tables"))?,
            })
        })?;
        let uplink = self.ensure_uplink(host, &mut router.route, netns.as_fd(), reserved)?;
        if claim_routes(host, uplink, reserved)? == Claim::LostToAnother {
            return Ok(Claim::LostToAnother);
        }
        configure_router(&mut router.route, allocation, reserved.mtu)?;
        let links = router
            .route
            .links()
            .map_err(NetError::kernel("list the router's links"))?;
        remove_stray_links(&mut router.route, &links, &files::read(&places.leases())?)
            .map_err(NetError::kernel("remove links of containers that are gone"))?;
        router
            .netfilter
            .put_table(&firewall::router_table(allocation))
            .map_err(NetError::kernel("set the router's firewall rules"))?;
        Ok(Claim::Held)
    }

    /// The pair between host and router, configured on the host's side; its index there.
    fn ensure_uplink(
        &self,
        host: &mut Socket,
        router: &mut Socket,
        netns: std::os::fd::BorrowedFd<'_>,
        reserved: &Reserved,
    ) -> Result<u32, NetError> {
        let allocation = &reserved.allocation;
        let name = self.config.uplink_name(allocation.slot);
        let failed = || NetError::kernel(format!("set up link {name}"));
        let near = host.link(&name).map_err(failed())?;
        let far = router.link(ROUTER_UPLINK).map_err(failed())?;
        let near = match (near, far) {
            (Some(near), Some(far)) if near.peer == far.index && far.peer == near.index => near,
            (near, far) => {
                if let Some(near) = near {
                    host.delete_link(near.index).map_err(failed())?;
                }
                if let Some(far) = far {
                    router.delete_link(far.index).map_err(failed())?;
                }
                let mtu = reserved.mtu;
                let near = VethEnd {
                    name: &name,
                    mac: mac(allocation.host_address()),
                    mtu,
                };
                let far = VethEnd {
                    name: ROUTER_UPLINK,
                    mac: mac(allocation.router_address()),
                    mtu,
                };
                host.add_veth(&near, &far, netns, None).map_err(failed())?;
                host.link(&name)
                    .map_err(failed())?
                    .ok_or_else(|| gone(&name))?
            }
        };
        // The host must not take part in IPv6 on a link that has none.
        sysctl::set_if_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        bring_up(host, &near, reserved.mtu).map_err(failed())?;
        host.add_address(near.index, allocation.host_address(), 32)
            .map_err(failed())?;
        Ok(near.index)
    }

    /// Brings host-wide rules and settings to what the ledger says.
    fn publish(&self) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        self.publish_locked(&files::read(&self.config.ledger())?)
    }

    /// [`Self::publish`] for a caller that holds the ledger's lock.
    fn publish_locked(&self, ledger: &Ledger) -> Result<(), NetError> {
        let (instance, prefix) = (&self.config.instance, self.config.uplink_prefix());
        let tag = self.config.firewall_tag();
        let mut netfilter = Socket::netfilter().map_err(NetError::kernel("talk to nf_tables"))?;
        if ledger.environments.is_empty() {
            let table = firewall::host_table_name(instance);
            netfilter
                .delete_table(&table)
                .map_err(NetError::kernel(format!("remove firewall table {table}")))?;
            return accept::remove(&tag, &prefix);
        }
        netfilter
            .put_table(&firewall::host_table(instance, &prefix, ledger))
            .map_err(NetError::kernel("set the host's firewall rules"))?;
        let leads_out = ledger
            .environments
            .values()
            .flat_map(|allocation| allocation.networks.values())
            .any(|network| !network.internal);
        if leads_out && sysctl::set("net/ipv4/ip_forward", "1")? {
            tracing::info!("switched on net.ipv4.ip_forward: containers need a way out");
        }
        accept::ensure(&tag, &prefix)
    }

    fn find_uplink(&self, host: &mut Socket, slot: u32) -> Result<Option<Link>, NetError> {
        let name = self.config.uplink_name(slot);
        host.link(&name)
            .map_err(NetError::kernel(format!("look up link {name}")))
    }

    /// Removing the link takes its addresses, routes and its end in the router along.
    fn remove_uplink(&self, environment: &str) -> Result<(), NetError> {
        let ledger: Ledger = files::read(&self.config.ledger())?;
        let Some(allocation) = ledger.environments.get(environment) else {
            return Ok(());
        };
        let mut host = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
        if let Some(link) = self.find_uplink(&mut host, allocation.slot)? {
            host.delete_link(link.index)
                .map_err(NetError::kernel(format!("remove link {}", link.name)))?;
        }
        Ok(())
    }

    /// Links of this instance that no environment in the ledger has (its file was lost).
    fn remove_stray_uplinks(&self) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        let ledger: Ledger = files::read(&self.config.ledger())?;
        let known: BTreeSet<String> = ledger
            .environments
            .values()
            .map(|allocation| self.config.uplink_name(allocation.slot))
            .collect();
        let prefix = self.config.uplink_prefix();
        let mut host = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
        for link in host
            .links()
            .map_err(NetError::kernel("list the machine's links"))?
        {
            if link.name.starts_with(&prefix) && !known.contains(&link.name) {
                host.delete_link(link.index)
                    .map_err(NetError::kernel(format!("remove link {}", link.name)))?;
            }
        }
        Ok(())
    }

    /// Takes the environment out of the host-wide rules and then out of the ledger: a crash in
    /// between leaves it known, to be removed again.
    fn forget(&self, environment: &str) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        let mut ledger: Ledger = files::read(&self.config.ledger())?;
        let known = ledger.environments.remove(environment).is_some();
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

/// Whether the routes that stand for our choice are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Held,
    LostToAnother,
}

struct Reserved {
    allocation: Allocation,
    held: Vec<Subnet>,
    mtu: u32,
}

struct RouterSockets {
    route: Socket,
    netfilter: Socket,
}

/// An Ethernet address (locally administered) made of an IPv4 address.
pub(crate) fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x48, a, b, c, d]
}

pub(crate) fn gone(name: &str) -> NetError {
    NetError::Kernel {
        action: format!("set up link {name}"),
        source: crate::NetlinkError::Refused {
            errno: Errno::NODEV,
            explanation: Some("it vanished while being set up".to_owned()),
        },
    }
}

/// Brings a link up with that MTU, if it is not.
pub(crate) fn bring_up(
    socket: &mut Socket,
    link: &Link,
    mtu: u32,
) -> Result<(), crate::NetlinkError> {
    if link.up && link.mtu == mtu {
        return Ok(());
    }
    socket.change_link(
        link.index,
        &Change {
            up: true,
            mtu: Some(mtu),
            ..Change::default()
        },
    )
}

/// MTU of the link with the machine's best default route.
fn default_mtu(routes: &[Route], host: &mut Socket) -> Result<u32, NetError> {
    let best = routes
        .iter()
        .filter(|route| route.is_main_default() && route.link != 0)
        .min_by_key(|route| route.metric);
    let Some(best) = best else {
        return Ok(DEFAULT_MTU);
    };
    let links = host
        .links()
        .map_err(NetError::kernel("list the machine's links"))?;
    Ok(links
        .iter()
        .find(|link| link.index == best.link)
        .map_or(DEFAULT_MTU, |link| link.mtu))
}

fn surroundings(routes: &[Route], uplink: Option<&Link>) -> Surroundings {
    let own = |route: &&Route| uplink.is_some_and(|uplink| route.link == uplink.index);
    let specific = routes.iter().filter(|route| route.to.length() > 0);
    let (held, taken): (Vec<&Route>, Vec<&Route>) = specific.partition(own);
    Surroundings {
        taken: taken.into_iter().map(|route| route.to).collect(),
        held: held.into_iter().map(|route| route.to).collect(),
    }
}

/// Adds the routes that are missing. The kernel says who was first where two programs choose
/// the same subnet at the same time.
fn claim_routes(host: &mut Socket, uplink: u32, reserved: &Reserved) -> Result<Claim, NetError> {
    let allocation = &reserved.allocation;
    let router = allocation.router_address();
    let to_router = NewRoute {
        to: Subnet::containing(router, 32),
        link: uplink,
        via: None,
        source: Some(allocation.host_address()),
    };
    let to_network = |subnet| NewRoute {
        to: subnet,
        via: Some(router),
        ..to_router
    };
    let wanted = std::iter::once(to_router).chain(
        allocation
            .networks
            .values()
            .map(|network| to_network(network.subnet)),
    );
    for route in wanted
        .clone()
        .filter(|route| !reserved.held.contains(&route.to))
    {
        match host.add_route(&route, IfPresent::Refuse) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                tracing::info!(subnet = %route.to, "another program took the subnet first");
                return Ok(Claim::LostToAnother);
            }
            result => result.map_err(NetError::kernel(format!("add a route to {}", route.to)))?,
        }
    }
    let host_itself = Subnet::containing(allocation.host_address(), 32);
    for held in &reserved.held {
        if *held != host_itself && wanted.clone().all(|route| route.to != *held) {
            host.delete_route(&to_network(*held))
                .map_err(NetError::kernel(format!("remove the route to {held}")))?;
        }
    }
    Ok(Claim::Held)
}

/// Settings of a new router namespace.
fn prepare_router() -> Result<(), NetError> {
    // Forwarding first: switching it resets other settings to a router's defaults.
    sysctl::set("net/ipv4/ip_forward", "1")?;
    for scope in ["all", "default"] {
        // A container cannot use an address of a network other than the packet's own.
        sysctl::set(&format!("net/ipv4/conf/{scope}/rp_filter"), "1")?;
        sysctl::set(&format!("net/ipv4/conf/{scope}/send_redirects"), "0")?;
        sysctl::set(&format!("net/ipv4/conf/{scope}/accept_redirects"), "0")?;
        sysctl::set_if_present(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
    }
    let mut socket = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
    loopback_up(&mut socket)
}

pub(crate) fn loopback_up(socket: &mut Socket) -> Result<(), NetError> {
    let failed = || NetError::kernel("bring up the loopback link");
    let link = socket
        .link("lo")
        .map_err(failed())?
        .ok_or_else(|| gone("lo"))?;
    socket
        .change_link(
            link.index,
            &Change {
                up: true,
                ..Change::default()
            },
        )
        .map_err(failed())
}

/// Links, addresses and routes inside the router namespace.
fn configure_router(
    router: &mut Socket,
    allocation: &Allocation,
    mtu: u32,
) -> Result<(), NetError> {
    let failed = || NetError::kernel("set up the router's uplink");
    let uplink = router
        .link(ROUTER_UPLINK)
        .map_err(failed())?
        .ok_or_else(|| gone(ROUTER_UPLINK))?;
    bring_up(router, &uplink, mtu).map_err(failed())?;
    set_address(router, uplink.index, allocation.router_address(), 32).map_err(failed())?;
    let host = allocation.host_address();
    let to_host = NewRoute {
        to: Subnet::containing(host, 32),
        link: uplink.index,
        via: None,
        source: Some(allocation.router_address()),
    };
    let out = NewRoute {
        to: Subnet::containing(Ipv4Addr::UNSPECIFIED, 0),
        via: Some(host),
        ..to_host
    };
    for route in [to_host, out] {
        router
            .add_route(&route, IfPresent::Replace)
            .map_err(failed())?;
    }
    let links = router.links().map_err(failed())?;
    for (name, network) in &allocation.networks {
        ensure_bridge(router, &links, name, network, mtu).map_err(NetError::kernel(format!(
            "set up the bridge of network {name}"
        )))?;
    }
    let wanted: BTreeSet<String> = allocation
        .networks
        .values()
        .map(NetworkAllocation::bridge)
        .collect();
    for link in links.iter().filter(|link| link.name.starts_with("br")) {
        if !wanted.contains(&link.name) {
            router
                .delete_link(link.index)
                .map_err(NetError::kernel(format!("remove bridge {}", link.name)))?;
        }
    }
    Ok(())
}

fn ensure_bridge(
    router: &mut Socket,
    links: &[Link],
    name: &str,
    network: &NetworkAllocation,
    mtu: u32,
) -> Result<(), crate::NetlinkError> {
    let bridge = network.bridge();
    let present = links.iter().find(|link| link.name == bridge).cloned();
    let gateway = network.subnet.gateway();
    let link = match present {
        Some(link) => link,
        None => {
            router.add_bridge(&VethEnd {
                name: &bridge,
                mac: mac(gateway),
                mtu,
            })?;
            let Some(link) = router.link(&bridge)? else {
                return Err(crate::NetlinkError::Refused {
                    errno: Errno::NODEV,
                    explanation: None,
                });
            };
            router.change_link(
                link.index,
                &Change {
                    alias: Some(name),
                    ..Change::default()
                },
            )?;
            link
        }
    };
    bring_up(router, &link, mtu)?;
    set_address(router, link.index, gateway, network.subnet.length())
}

/// Makes `address` the link's only one.
pub(crate) fn set_address(
    socket: &mut Socket,
    link: u32,
    address: Ipv4Addr,
    length: u8,
) -> Result<(), crate::NetlinkError> {
    let mut present = false;
    for (other, other_length) in socket.addresses(link)? {
        if (other, other_length) == (address, length) {
            present = true;
        } else {
            socket.delete_address(link, other, other_length)?;
        }
    }
    if present {
        Ok(())
    } else {
        socket.add_address(link, address, length)
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
fn names_in(folder: &std::path::Path) -> Result<Vec<String>, NetError> {
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

fn remove_dir(path: &std::path::Path) -> Result<(), NetError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
