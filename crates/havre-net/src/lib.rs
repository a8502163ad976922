//! The network of an environment on one machine.
//!
//! ```text
//!   host                      router namespace (one per environment)      container namespaces
//!   ────                      ──────────────────────────────────────      ────────────────────
//!   hv-<instance>-<slot> ═══ up0     br0 (gateway of network 0) ═══ veth ═══ eth0
//!   100.64.x.y/32            100.64… br1 (gateway of network 1) ═══ veth ═══ eth1
//!   route: subnets via up0           rules: who may talk to whom
//!   masquerade on the way out        `havre dns`: port 53 of every gateway
//! ```
//!
//! Every namespace is pinned by a bind mount under the run folder, so nothing here needs a
//! process to stay alive except the resolver. All calls are synchronous, take a few
//! milliseconds, may be repeated, and finish what a killed predecessor began.
//!
//! A network that environments share is a block of addresses in the ledger. Each environment on it has a
//! subnet of the block on a bridge of its own; containers on it have a route to the block, and routers and
//! host pass on what comes from the block and goes to it:
//!
//! ```text
//!   container of a ═ br1 router of a ═ up0 ══ host ══ up0 router of b br1 ═ container of b
//!   10.89.224.2/25     .1                                    .129           10.89.224.130/25
//!   10.89.224.0/19 via .1                                    10.89.224.0/19 via .129
//! ```
//!
//! The edge and the daemon reach containers from the host's own namespace by a route to the
//! environment's subnets; containers see the network's gateway as the peer. Other environments
//! and other machines do not get in.
//!
//! On the host stay, besides the uplinks and their routes: one nf_tables table `havre-<instance>`,
//! and an accept pair in DOCKER-USER or FORWARD where another firewall filters what is
//! forwarded. The host's `net.ipv4.ip_forward` is switched on when an environment needs a way
//! out; where it was off, the links that the machine had then go on to pass nothing on to each other,
//! and it is switched off again with the last environment unless others may rely on it by then.

mod config;
mod container;
mod dns;
mod environment;
mod error;
mod files;
mod firewall;
mod forwarding;
mod host;
mod leases;
mod ledger;
mod links;
mod neighbours;
mod net;
mod netlink;
mod netns;
mod probe;
mod program;
mod resolver;
mod router;
mod services;
mod subnet;
mod sysctl;

use std::ffi::OsString;
use std::process::ExitCode;

pub use config::NetConfig;
pub use container::Attached;
pub use dns::view::{DOMAIN, Records};
pub use environment::{Environment, Network};
pub use error::NetError;
pub use leases::{Backends, Lookup};
pub use ledger::NetworkSpec;
pub use net::Net;
pub use netlink::NetlinkError;
pub use probe::{Requirement, probe};
pub use resolver::{Resolver, hosts_file};
pub use services::ServiceAddresses;
pub use subnet::{ParseSubnetError, Subnet};

/// Runs the process of this crate that `name` stands for (`dns`), if it is one; to be asked by
/// the binary before anything else, while the process has one thread.
pub fn entrypoint(name: &str, arguments: &[OsString]) -> Option<ExitCode> {
    match (name, arguments) {
        ("dns", [folder]) => Some(dns::process::main(folder)),
        _ => None,
    }
}
