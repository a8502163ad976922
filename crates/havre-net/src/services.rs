//! One address per service and network, which stays while replicas come and go.
//!
//! Many programs look a name up once and keep the address: nginx its upstreams, connection pools
//! their server. So a service's name stands for an address of its own, on the router, which passes
//! each new connection on to one of the replicas that answer then; what is open stays where it is.
//! To a replica such a connection comes from the network's gateway.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use crate::config::check_name;
use crate::error::NetError;
use crate::files::{self, Durability};
use crate::firewall;
use crate::leases::{Backends, Leases};
use crate::net::Net;
use crate::netns;
use crate::router::{configure_bridges, router_sockets};

/// Addresses of services, by network and service.
pub type ServiceAddresses = BTreeMap<String, BTreeMap<String, Ipv4Addr>>;

impl Net {
    /// Replaces the services of an environment; connections made from now on go to these
    /// replicas. Returns each service's address, the same as long as the service is named. Not
    /// among them are services of networks that are not set up, or are full.
    pub fn set_services(
        &self,
        environment: &str,
        backends: &Backends,
    ) -> Result<ServiceAddresses, NetError> {
        check_name(environment, "an environment")?;
        let _lock = self.lock(environment)?;
        let places = self.config.places(environment);
        let pin = places.router();
        let not_set_up = || NetError::NotSetUp {
            environment: environment.to_owned(),
        };
        let netns = netns::open(&pin)?.ok_or_else(not_set_up)?;
        let allocation = self.allocation(environment)?;
        let mut leases: Leases = files::read(&places.leases())?;
        let before = leases.clone();
        leases.assign_services(backends, &allocation.networks);
        if leases != before {
            // First: what the router is to do is known then, and looked after.
            files::replace(&places.leases(), &leases, Durability::UntilReboot)?;
            let mut router = router_sockets(netns.as_fd(), &pin)?;
            configure_bridges(&mut router.route, &allocation, &leases)?;
            router
                .netfilter
                .put_table(&firewall::router_table(&allocation, &leases))
                .map_err(NetError::kernel("set the router's rules for services"))?;
        }
        let addresses = leases.services.into_iter().map(|(network, services)| {
            let addresses = services
                .into_iter()
                .map(|(service, lease)| (service, lease.address));
            (network, addresses.collect())
        });
        Ok(addresses.collect())
    }
}
