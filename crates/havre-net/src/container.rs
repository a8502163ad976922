//! Containers: a namespace of their own with one link into each of their networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::NetlinkError;
use crate::config::check_name;
use crate::error::NetError;
use crate::files::{self, Durability};
use crate::leases::{Lease, Leases, Lookup};
use crate::ledger::NetworkAllocation;
use crate::links::{bring_up, gone, loopback_up, mac, set_address};
use crate::net::Net;
use crate::netlink::Socket;
use crate::netlink::link::{Change, Link, VethEnd};
use crate::netlink::route::{IfPresent, NewRoute};
use crate::netns;
use crate::subnet::Subnet;
use crate::sysctl;

/// Places tried for a container's link name, `eth0` first.
const LINK_NAMES: u32 = 4096;

/// What the names of containers' ends start with.
const FAR_PREFIX: &str = "eth";
/// What the names of the router's ends start with.
const NEAR_PREFIX: char = 'v';

/// A container's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where its namespace is pinned.
    pub netns: PathBuf,
    /// Its address in each network.
    pub addresses: BTreeMap<String, Ipv4Addr>,
}

impl Net {
    /// Gives the container a namespace with a link into each of `networks` (`eth0`, `eth1`, … in
    /// that order) and no other. Its default route leads through the first that is not internal.
    /// A repeat gives the same addresses.
    pub fn attach(
        &self,
        environment: &str,
        container: &str,
        networks: &[&str],
    ) -> Result<Attached, NetError> {
        check_name(environment, "an environment")?;
        check_name(container, "a container")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        let not_set_up = || NetError::NotSetUp {
            environment: environment.to_owned(),
        };
        let router_pin = places.router();
        let router_netns = netns::open(&router_pin)?.ok_or_else(not_set_up)?;
        let allocation = self.allocation(environment)?;
        let chosen = choose(environment, networks, &allocation.networks)?;

        let mut leases: Leases = files::read(&places.leases())?;
        let before = leases.clone();
        let had = leases
            .containers
            .get(container)
            .cloned()
            .unwrap_or_default();
        let wanted = leases
            .assign(container, &chosen)
            .map_err(|full| NetError::NoAddress {
                environment: environment.to_owned(),
                subnet: allocation.networks[&full.0].subnet,
                network: full.0,
            })?;
        if leases != before {
            files::replace(&places.leases(), &leases, Durability::UntilReboot)?;
        }

        let pin = places.container(container);
        let netns = match netns::open(&pin)? {
            Some(netns) => netns,
            None => netns::create(&pin, prepare_container)?,
        };
        let mut router = socket_in(&router_netns, &router_pin)?;
        let mut inside = socket_in(&netns, &pin)?;
        let failed = || NetError::kernel(format!("attach container {container}"));
        for lease in had.iter().filter(|lease| !wanted.contains(lease)) {
            remove_near_end(&mut router, lease).map_err(failed())?;
        }
        let plugs = Plugs {
            environment,
            container,
            netns: netns.as_fd(),
        };
        let mut plugged = Vec::with_capacity(wanted.len());
        for (lease, (_, network)) in wanted.iter().zip(&chosen) {
            let link = plugs.ensure(&mut router, &mut inside, lease, network)?;
            plugged.push((link, network));
        }
        remove_other_links(&mut inside, &plugged).map_err(failed())?;
        set_default_route(&mut inside, &plugged).map_err(failed())?;
        set_shared_routes(&mut inside, &plugged).map_err(failed())?;
        Ok(Attached {
            netns: pin,
            addresses: wanted
                .into_iter()
                .map(|lease| (lease.network, lease.address))
                .collect(),
        })
    }

    /// What [`Net::attach`] has given the container, if it has one still: for another one that is to
    /// be in the same namespace.
    pub fn attached(
        &self,
        environment: &str,
        container: &str,
    ) -> Result<Option<Attached>, NetError> {
        check_name(environment, "an environment")?;
        check_name(container, "a container")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        let pin = places.container(container);
        let leases: Leases = files::read(&places.leases())?;
        let (Some(_), Some(leases)) = (netns::open(&pin)?, leases.containers.get(container)) else {
            return Ok(None);
        };
        let addresses = leases
            .iter()
            .map(|lease| (lease.network.clone(), lease.address));
        Ok(Some(Attached {
            netns: pin,
            addresses: addresses.collect(),
        }))
    }

    /// Sets how the container, which is attached already, looks names up.
    pub fn set_lookup(
        &self,
        environment: &str,
        container: &str,
        lookup: &Lookup,
    ) -> Result<(), NetError> {
        check_name(environment, "an environment")?;
        check_name(container, "a container")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        let mut leases: Leases = files::read(&places.leases())?;
        let before = leases.clone();
        if *lookup == Lookup::default() {
            leases.lookups.remove(container);
        } else {
            leases.lookups.insert(container.to_owned(), lookup.clone());
        }
        if leases != before {
            files::replace(&places.leases(), &leases, Durability::UntilReboot)?;
        }
        Ok(())
    }

    /// Unpins the container's namespace and takes its addresses back. What is gone already is no
    /// error.
    ///
    /// The kernel removes the links with the namespace, soon after the last process in it has
    /// ended; removing them here would wait some 35 ms for the same. Links of a process that
    /// outlives its container are removed by `ensure_environment` and `sweep`.
    pub fn detach(&self, environment: &str, container: &str) -> Result<(), NetError> {
        check_name(environment, "an environment")?;
        check_name(container, "a container")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        netns::unpin(&places.container(container))?;
        // Last: until now a repeat knows what is left to be done.
        let mut leases: Leases = files::read(&places.leases())?;
        if !leases.release(container).is_empty() {
            files::replace(&places.leases(), &leases, Durability::UntilReboot)?;
        }
        Ok(())
    }
}

/// Removes the router's ends of links whose address no container has (any more).
pub(crate) fn remove_stray_links(
    router: &mut Socket,
    links: &[Link],
    leases: &Leases,
) -> Result<(), NetlinkError> {
    let known: BTreeSet<String> = leases
        .containers
        .values()
        .flatten()
        .map(|lease| near_name(lease.address))
        .collect();
    for link in links
        .iter()
        .filter(|link| link.name.starts_with(NEAR_PREFIX))
    {
        if !known.contains(&link.name) {
            router.delete_link(link.index)?;
        }
    }
    Ok(())
}

fn choose<'a>(
    environment: &str,
    networks: &[&'a str],
    present: &BTreeMap<String, NetworkAllocation>,
) -> Result<Vec<(&'a str, NetworkAllocation)>, NetError> {
    let mut chosen: Vec<(&str, NetworkAllocation)> = Vec::with_capacity(networks.len());
    for name in networks {
        let network = present.get(*name).ok_or_else(|| NetError::UnknownNetwork {
            environment: environment.to_owned(),
            network: (*name).to_owned(),
        })?;
        if chosen.iter().all(|(other, _)| other != name) {
            chosen.push((*name, *network));
        }
    }
    Ok(chosen)
}

/// Settings of a new container namespace, equal to Docker's.
fn prepare_container() -> Result<(), NetError> {
    sysctl::set("net/ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::set("net/ipv4/ping_group_range", "0\t2147483647")?;
    // Links to come have no IPv6; the loopback link keeps ::1.
    sysctl::set_if_present("net/ipv6/conf/default/disable_ipv6", "1")?;
    let mut socket = Socket::route().map_err(NetError::kernel("talk to the kernel"))?;
    loopback_up(&mut socket)
}

fn socket_in(netns: &std::fs::File, pin: &Path) -> Result<Socket, NetError> {
    netns::enter(netns.as_fd(), pin, || {
        Socket::route().map_err(NetError::kernel("talk to the kernel"))
    })
}

/// Name of the router's end: addresses are unique in an environment.
fn near_name(address: Ipv4Addr) -> String {
    format!("{NEAR_PREFIX}{:08x}", address.to_bits())
}

fn remove_near_end(router: &mut Socket, lease: &Lease) -> Result<(), NetlinkError> {
    match router.link(&near_name(lease.address))? {
        Some(link) => router.delete_link(link.index),
        None => Ok(()),
    }
}

/// Whose links are made.
struct Plugs<'a> {
    environment: &'a str,
    container: &'a str,
    netns: std::os::fd::BorrowedFd<'a>,
}

impl Plugs<'_> {
    /// The pair between the network's bridge and the container, complete on both sides; the
    /// index of the container's end.
    fn ensure(
        &self,
        router: &mut Socket,
        inside: &mut Socket,
        lease: &Lease,
        network: &NetworkAllocation,
    ) -> Result<u32, NetError> {
        let failed = || {
            NetError::kernel(format!(
                "put {} on network {}",
                self.container, lease.network
            ))
        };
        let bridge = router
            .link(&network.bridge())
            .map_err(failed())?
            .ok_or_else(|| NetError::NotSetUp {
                environment: self.environment.to_owned(),
            })?;
        let name = near_name(lease.address);
        let near = router.link(&name).map_err(failed())?;
        let links = inside.links().map_err(failed())?;
        let (near, far) = match near.and_then(|near| with_peer(near, &links)) {
            Some(pair) => pair,
            None => self.plug(router, inside, &links, lease, &bridge)?,
        };
        if near.master != bridge.index || !near.up || near.mtu != bridge.mtu {
            let change = Change {
                up: true,
                mtu: Some(bridge.mtu),
                master: Some(bridge.index),
                ..Change::default()
            };
            router.change_link(near.index, &change).map_err(failed())?;
        }
        bring_up(inside, &far, bridge.mtu).map_err(failed())?;
        set_address(inside, far.index, lease.address, network.subnet.length()).map_err(failed())?;
        Ok(far.index)
    }

    /// Makes the pair anew.
    fn plug(
        &self,
        router: &mut Socket,
        inside: &mut Socket,
        links: &[Link],
        lease: &Lease,
        bridge: &Link,
    ) -> Result<(Link, Link), NetError> {
        let failed = || {
            NetError::kernel(format!(
                "make the link of {} to {}",
                self.container, lease.network
            ))
        };
        remove_near_end(router, lease).map_err(failed())?;
        let near_name = near_name(lease.address);
        let far_name = (0..LINK_NAMES)
            .map(|number| format!("{FAR_PREFIX}{number}"))
            .find(|name| links.iter().all(|link| link.name != *name))
            .ok_or_else(|| gone("eth0"))?;
        let mut near_mac = mac(lease.address);
        // Both ends of a pair need their own; the container's is the one others learn.
        near_mac[1] ^= 0x80;
        let near = VethEnd {
            name: &near_name,
            mac: near_mac,
            mtu: bridge.mtu,
        };
        let far = VethEnd {
            name: &far_name,
            mac: mac(lease.address),
            mtu: bridge.mtu,
        };
        router
            .add_veth(&near, &far, self.netns, Some(bridge.index))
            .map_err(failed())?;
        let near = router
            .link(&near_name)
            .map_err(failed())?
            .ok_or_else(|| gone(&near_name))?;
        let far = inside
            .link(&far_name)
            .map_err(failed())?
            .ok_or_else(|| gone(&far_name))?;
        router
            .change_link(
                near.index,
                &Change {
                    up: true,
                    alias: Some(self.container),
                    ..Change::default()
                },
            )
            .map_err(failed())?;
        Ok((Link { up: true, ..near }, far))
    }
}

/// The pair, if the other end of `near` is among `links` of the container.
fn with_peer(near: Link, links: &[Link]) -> Option<(Link, Link)> {
    let far = links
        .iter()
        .find(|far| far.peer == near.index && near.peer == far.index)?
        .clone();
    Some((near, far))
}

/// Links of ours that lead nowhere any more (to a router that was replaced).
fn remove_other_links(
    inside: &mut Socket,
    plugged: &[(u32, &NetworkAllocation)],
) -> Result<(), NetlinkError> {
    for link in inside.links()? {
        let wanted = plugged.iter().any(|(index, _)| *index == link.index);
        if link.name.starts_with(FAR_PREFIX) && !wanted {
            inside.delete_link(link.index)?;
        }
    }
    Ok(())
}

/// To the other environments on shared networks, with the address that those know.
fn set_shared_routes(
    inside: &mut Socket,
    plugged: &[(u32, &NetworkAllocation)],
) -> Result<(), NetlinkError> {
    for (link, network) in plugged {
        if let Some(block) = network.block {
            let route = NewRoute {
                to: block,
                link: *link,
                via: Some(network.subnet.gateway()),
                source: None,
            };
            inside.add_route(&route, IfPresent::Replace)?;
        }
    }
    Ok(())
}

fn set_default_route(
    inside: &mut Socket,
    plugged: &[(u32, &NetworkAllocation)],
) -> Result<(), NetlinkError> {
    let everywhere = Subnet::containing(Ipv4Addr::UNSPECIFIED, 0);
    if let Some((link, network)) = plugged.iter().find(|(_, network)| !network.internal) {
        let route = NewRoute {
            to: everywhere,
            link: *link,
            via: Some(network.subnet.gateway()),
            source: None,
        };
        return inside.add_route(&route, IfPresent::Replace);
    }
    let routes = inside.routes()?;
    for route in routes.iter().filter(|route| route.is_main_default()) {
        let route = NewRoute {
            to: everywhere,
            link: route.link,
            via: None,
            source: None,
        };
        inside.delete_route(&route)?;
    }
    Ok(())
}
