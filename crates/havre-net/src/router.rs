//! The inside of a router namespace: its settings, uplink and bridges.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::Errno;

use crate::error::NetError;
use crate::firewall::ROUTER_UPLINK;
use crate::leases::Leases;
use crate::ledger::{Allocation, NetworkAllocation};
use crate::links::{bring_up, gone, loopback_up, mac, set_address, set_addresses};
use crate::netlink::link::{Change, Link, VethEnd};
use crate::netlink::route::{IfPresent, NewRoute};
use crate::netlink::{NetlinkError, Socket};
use crate::netns;
use crate::subnet::Subnet;
use crate::sysctl;

/// Sockets of the router's namespace.
pub struct RouterSockets {
    /// For links, addresses and routes.
    pub route: Socket,
    /// For rules.
    pub netfilter: Socket,
}

/// Settings of a new router namespace.
pub fn prepare_router() -> Result<(), NetError> {
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

/// Links, addresses and routes inside the router namespace.
pub fn configure_router(
    router: &mut Socket,
    allocation: &Allocation,
    leases: &Leases,
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
    configure_bridges(router, allocation, leases)
}

/// Addresses of the bridges: the gateway's, and those of services.
pub fn configure_bridges(
    router: &mut Socket,
    allocation: &Allocation,
    leases: &Leases,
) -> Result<(), NetError> {
    for (name, network) in &allocation.networks {
        let failed = || NetError::kernel(format!("set the addresses of network {name}"));
        let bridge = network.bridge();
        let link = router
            .link(&bridge)
            .map_err(failed())?
            .ok_or_else(|| gone(&bridge))?;
        let services = leases.services.get(name).into_iter().flatten();
        let addresses: Vec<(Ipv4Addr, u8)> =
            std::iter::once((network.subnet.gateway(), network.subnet.length()))
                .chain(services.map(|(_, lease)| (lease.address, 32)))
                .collect();
        set_addresses(router, link.index, &addresses).map_err(failed())?;
    }
    Ok(())
}

/// Sockets inside the router's namespace, pinned at `pin`.
pub fn router_sockets(netns: BorrowedFd<'_>, pin: &Path) -> Result<RouterSockets, NetError> {
    netns::enter(netns, pin, || {
        Ok(RouterSockets {
            route: Socket::route().map_err(NetError::kernel("talk to the kernel"))?,
            netfilter: Socket::netfilter().map_err(NetError::kernel("talk to nf_tables"))?,
        })
    })
}

fn ensure_bridge(
    router: &mut Socket,
    links: &[Link],
    name: &str,
    network: &NetworkAllocation,
    mtu: u32,
) -> Result<(), NetlinkError> {
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
                return Err(NetlinkError::Refused {
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
    bring_up(router, &link, mtu)
}
