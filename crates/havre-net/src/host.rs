//! What environments need in the host's own namespace: uplinks, routes, rules, forwarding.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::error::NetError;
use crate::files::{self, Lock};
use crate::firewall::{self, ROUTER_UPLINK, accept};
use crate::ledger::{Allocation, Ledger, Surroundings};
use crate::links::{bring_up, gone, mac};
use crate::net::Net;
use crate::netlink::Socket;
use crate::netlink::link::{Link, VethEnd};
use crate::netlink::route::{IfPresent, NewRoute, Route};
use crate::subnet::Subnet;
use crate::sysctl;

/// Where the machine has no default route to copy it from.
const DEFAULT_MTU: u32 = 1500;

/// Whether the routes that stand for our choice are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// They are.
    Held,
    /// Another program has one of them; another choice is due.
    LostToAnother,
}

/// The host's end of an uplink.
pub struct Uplink {
    /// Its index.
    pub index: u32,
    /// It was made just now, so no route leads to it yet.
    pub fresh: bool,
}

/// What was decided for an environment.
pub struct Reserved {
    /// What it gets.
    pub allocation: Allocation,
    /// Routes it has already.
    pub held: Vec<Subnet>,
    /// Of its links.
    pub mtu: u32,
}

impl Net {
    /// The pair between host and router, configured on the host's side.
    pub(crate) fn ensure_uplink(
        &self,
        host: &mut Socket,
        router: &mut Socket,
        netns: BorrowedFd<'_>,
        reserved: &Reserved,
    ) -> Result<Uplink, NetError> {
        let allocation = &reserved.allocation;
        let name = self.config.uplink_name(allocation.slot);
        let failed = || NetError::kernel(format!("set up link {name}"));
        let near = host.link(&name).map_err(failed())?;
        let far = router.link(ROUTER_UPLINK).map_err(failed())?;
        let (near, fresh) = match (near, far) {
            (Some(near), Some(far)) if near.peer == far.index && far.peer == near.index => {
                (near, false)
            }
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
                let near = host.link(&name).map_err(failed())?;
                (near.ok_or_else(|| gone(&name))?, true)
            }
        };
        // The host must not take part in IPv6 on a link that has none.
        sysctl::set_if_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        bring_up(host, &near, reserved.mtu).map_err(failed())?;
        host.add_address(near.index, allocation.host_address(), 32)
            .map_err(failed())?;
        Ok(Uplink {
            index: near.index,
            fresh,
        })
    }

    /// Brings host-wide rules and settings to what the ledger says.
    pub(crate) fn publish(&self) -> Result<(), NetError> {
        let _lock = Lock::acquire(self.config.ledger_lock())?;
        self.publish_locked(&files::read(&self.config.ledger())?)
    }

    /// [`Self::publish`] for a caller that holds the ledger's lock.
    pub(crate) fn publish_locked(&self, ledger: &Ledger) -> Result<(), NetError> {
        let (instance, prefix) = (&self.config.instance, self.config.uplink_prefix());
        let tag = self.config.firewall_tag();
        let mut netfilter = Socket::netfilter().map_err(NetError::kernel("talk to nf_tables"))?;
        let leads_out = ledger
            .environments
            .values()
            .flat_map(|allocation| allocation.networks.values())
            .any(|network| !network.internal || network.block.is_some());
        let forwarding = match ledger.environments.is_empty() {
            true => self.end_forwarding()?,
            false => self.guard_forwarding(leads_out)?,
        };
        let table = firewall::host_table(instance, &prefix, ledger, &forwarding.guarded);
        if ledger.environments.is_empty() && forwarding.guarded.is_empty() {
            netfilter
                .delete_table(&table.name)
                .map_err(NetError::kernel(format!(
                    "remove firewall table {}",
                    table.name
                )))?;
        } else {
            netfilter
                .put_table(&table)
                .map_err(NetError::kernel("set the host's firewall rules"))?;
        }
        if ledger.environments.is_empty() {
            return accept::remove(&tag, &prefix);
        }
        // Only now that nothing passes that did not before.
        if leads_out {
            self.switch_forwarding_on()?;
        }
        accept::ensure(&tag, &prefix)
    }

    /// The host's end of the uplink of a slot.
    pub(crate) fn find_uplink(
        &self,
        host: &mut Socket,
        slot: u32,
    ) -> Result<Option<Link>, NetError> {
        let name = self.config.uplink_name(slot);
        host.link(&name)
            .map_err(NetError::kernel(format!("look up link {name}")))
    }

    /// Removing the link takes its addresses, routes and its end in the router along.
    pub(crate) fn remove_uplink(&self, environment: &str) -> Result<(), NetError> {
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
    pub(crate) fn remove_stray_uplinks(&self) -> Result<(), NetError> {
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
}

/// MTU of the link with the machine's best default route.
pub fn default_mtu(routes: &[Route], host: &mut Socket) -> Result<u32, NetError> {
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

/// Sorts the machine's routes into those by the environment's own uplink and all others.
pub fn surroundings(routes: &[Route], uplink: Option<&Link>) -> Surroundings {
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
pub fn claim_routes(
    host: &mut Socket,
    uplink: &Uplink,
    reserved: &Reserved,
) -> Result<Claim, NetError> {
    let allocation = &reserved.allocation;
    let held: &[Subnet] = if uplink.fresh { &[] } else { &reserved.held };
    let router = allocation.router_address();
    let to_router = NewRoute {
        to: Subnet::containing(router, 32),
        link: uplink.index,
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
    for route in wanted.clone().filter(|route| !held.contains(&route.to)) {
        match host.add_route(&route, IfPresent::Refuse) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                tracing::info!(subnet = %route.to, "another program took the subnet first");
                return Ok(Claim::LostToAnother);
            }
            result => result.map_err(NetError::kernel(format!("add a route to {}", route.to)))?,
        }
    }
    let host_itself = Subnet::containing(allocation.host_address(), 32);
    for stale in held {
        if *stale != host_itself && wanted.clone().all(|route| route.to != *stale) {
            host.delete_route(&to_network(*stale))
                .map_err(NetError::kernel(format!("remove the route to {stale}")))?;
        }
    }
    Ok(Claim::Held)
}
