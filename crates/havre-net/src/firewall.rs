//! The firewall rules as data: one table in each router namespace, one of the instance on the
//! host. Pure; [`crate::netlink::nft`] puts them into the kernel.
//!
//! ```text
//!  container ── br0 ┐                       forward: br→up0 (unless internal), replies,
//!  container ── br0 ┤ router ── up0 ═ hv-… ── host ── internet        host→br
//!  container ── br1 ┘                       source NAT: host→br becomes the gateway's address
//!                                           (so that an internal network needs no route back)
//! ```

pub mod accept;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::leases::Leases;
use crate::ledger::{Allocation, Ledger};
use crate::netlink::nft::{
    ADMIN_PROHIBITED, Chain, Expr, Hook, PORT_UNREACHABLE, Rate, Table, Verdict, state,
};
use crate::subnet::Subnet;

/// Name of the uplink inside the router namespace.
pub const ROUTER_UPLINK: &str = "up0";
/// Name of the table in a router namespace.
const ROUTER_TABLE: &str = "havre";

/// Name of the chain for what leaves by a link that is to pass nothing on.
const GUARDED: &str = "guarded";

const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);
const DROP: Expr = Expr::Verdict(Verdict::Drop);
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DNS: u16 = 53;

/// Where clouds tell a machine what is its alone: on link-local addresses, as nearly all do, Alibaba's, and Azure's.
const OF_THE_MACHINE: [Subnet; 3] = [
    Subnet::containing(Ipv4Addr::new(169, 254, 0, 0), 16),
    Subnet::containing(Ipv4Addr::new(100, 100, 100, 200), 32),
    Subnet::containing(Ipv4Addr::new(168, 63, 129, 16), 32),
];
/// New connections out of a confined network. All share the table of those that Linux follows, 262144 by default, where
/// each is for two minutes after it has ended, or has never begun.
const CONNECTIONS: Rate = Rate {
    per_second: 250,
    at_once: 4096,
};

/// Rules of an environment's router.
pub fn router_table(allocation: &Allocation, leases: &Leases) -> Table {
    let uplink = || ROUTER_UPLINK.to_owned();
    let host = Subnet::containing(allocation.host_address(), 32);
    let established = || vec![Expr::State(state::ESTABLISHED | state::RELATED), ACCEPT];

    let mut input = vec![vec![Expr::InputIs("lo".to_owned()), ACCEPT], established()];
    let mut forward = Vec::new();
    for network in allocation.networks.values() {
        let bridge = || Expr::InputIs(network.bridge());
        // A network's resolver answers that network only: what is asked of another network's
        // gateway would be answered with that network's names.
        let gateway = Expr::To(network.subnet.gateway());
        for protocol in [UDP, TCP] {
            let dns = [Expr::Protocol(protocol), Expr::Port(DNS), ACCEPT];
            input.push([bridge(), gateway.clone()].into_iter().chain(dns).collect());
        }
        input.push(vec![bridge(), gateway, Expr::Protocol(ICMP), ACCEPT]);
        // Traffic inside a bridge gets here only where br_netfilter is loaded and on.
        forward.push(vec![bridge(), Expr::OutputIs(network.bridge()), ACCEPT]);
    }
    input.push(vec![Expr::InputIs(uplink()), Expr::Protocol(ICMP), ACCEPT]);
    input.push(vec![Expr::Reject(PORT_UNREACHABLE)]);

    forward.push(established());
    for network in allocation.networks.values().filter(|it| it.confined) {
        let out = [Expr::InputIs(network.bridge()), Expr::OutputIs(uplink())];
        let refused = OF_THE_MACHINE.map(|it| [Expr::Within(it), Expr::Reject(ADMIN_PROHIBITED)]);
        // Not refused: who tries again a second later gets there.
        for rest in refused
            .into_iter()
            .chain([[Expr::Beyond(CONNECTIONS), DROP]])
        {
            forward.push(out.iter().cloned().chain(rest).collect());
        }
    }
    forward.push(vec![Expr::InputIs(uplink()), Expr::From(host), ACCEPT]);
    for network in allocation
        .networks
        .values()
        .filter(|network| !network.internal)
    {
        forward.push(vec![
            Expr::InputIs(network.bridge()),
            Expr::OutputIs(uplink()),
            Expr::From(network.subnet),
            ACCEPT,
        ]);
    }
    for network in allocation.networks.values() {
        let Some(block) = network.block else {
            continue;
        };
        // The host lets nothing else through that has one of the block's addresses.
        forward.push(vec![
            Expr::InputIs(uplink()),
            Expr::OutputIs(network.bridge()),
            Expr::From(block),
            Expr::Within(network.subnet),
            ACCEPT,
        ]);
        forward.push(vec![
            Expr::InputIs(network.bridge()),
            Expr::OutputIs(uplink()),
            Expr::From(network.subnet),
            Expr::Within(block),
            ACCEPT,
        ]);
    }
    forward.push(vec![Expr::Reject(ADMIN_PROHIBITED)]);

    Table {
        name: ROUTER_TABLE.to_owned(),
        chains: vec![
            Chain {
                name: "input",
                hook: Some(Hook::Input),
                policy: Verdict::Drop,
                rules: input,
            },
            Chain {
                name: "forward",
                hook: Some(Hook::Forward),
                policy: Verdict::Drop,
                rules: forward,
            },
            Chain {
                name: "source",
                hook: Some(Hook::SourceNat),
                policy: Verdict::Accept,
                rules: vec![
                    vec![
                        Expr::From(host),
                        Expr::OutputIsNot(uplink()),
                        Expr::Masquerade,
                    ],
                    // A replica would answer a client of its own network directly, which knows
                    // only the service's address.
                    vec![Expr::DestinationTranslated, Expr::Masquerade],
                ],
            },
            Chain {
                name: "services",
                hook: Some(Hook::DestinationNat),
                policy: Verdict::Accept,
                rules: services(leases),
            },
        ],
    }
}

/// Each connection to a service goes to one of its replicas, to all of them equally often: the
/// first of n takes every n-th, the next every (n-1)-th of the rest, the last all that is left.
fn services(leases: &Leases) -> Vec<Vec<Expr>> {
    let services = leases.services.values().flat_map(BTreeMap::values);
    services
        .flat_map(|lease| {
            let count = u32::try_from(lease.backends.len()).unwrap_or(u32::MAX);
            lease.backends.iter().zip(0..).map(move |(backend, place)| {
                let chance = Expr::OneIn(count - place);
                let to = [Expr::To(lease.address), chance, Expr::TranslateTo(*backend)];
                to.into_iter().filter(|e| *e != Expr::OneIn(1)).collect()
            })
        })
        .collect()
}

/// Name of the instance's table on the host.
pub fn host_table_name(instance: &str) -> String {
    format!("havre-{instance}")
}

/// Rules on the host: egress is masqueraded, and nothing but the host itself and what is on the same
/// shared network opens connections towards containers (neighbours of the machine included). The `guarded` links
/// pass nothing on to each other.
pub fn host_table(
    instance: &str,
    uplink_prefix: &str,
    ledger: &Ledger,
    guarded: &BTreeSet<String>,
) -> Table {
    let masqueraded: BTreeMap<Subnet, ()> = ledger
        .environments
        .values()
        .flat_map(|allocation| allocation.networks.values())
        .filter(|network| !network.internal)
        .map(|network| (network.subnet, ()))
        .collect();
    let masquerade = masqueraded
        .into_keys()
        .map(|subnet| {
            vec![
                Expr::From(subnet),
                Expr::OutputStartsNot(uplink_prefix.to_owned()),
                Expr::Masquerade,
            ]
        })
        .collect();
    let mut forward = Vec::new();
    for block in ledger.shared.values() {
        forward.push(vec![
            Expr::InputStarts(uplink_prefix.to_owned()),
            Expr::OutputStarts(uplink_prefix.to_owned()),
            Expr::From(*block),
            Expr::Within(*block),
            ACCEPT,
        ]);
        // Of an environment that is not there any more, or not yet.
        forward.push(vec![
            Expr::InputStarts(uplink_prefix.to_owned()),
            Expr::OutputStartsNot(uplink_prefix.to_owned()),
            Expr::Within(*block),
            Expr::Reject(ADMIN_PROHIBITED),
        ]);
    }
    forward.push(vec![
        Expr::OutputStarts(uplink_prefix.to_owned()),
        Expr::StateNot(state::ESTABLISHED | state::RELATED),
        DROP,
    ]);
    let to_guarded = Expr::Verdict(Verdict::Jump(GUARDED));
    forward.extend(
        guarded
            .iter()
            .map(|link| vec![Expr::InputIs(link.clone()), to_guarded.clone()]),
    );
    let mut chains = vec![
        Chain {
            name: "forward",
            hook: Some(Hook::Forward),
            policy: Verdict::Accept,
            rules: forward,
        },
        Chain {
            name: "source",
            hook: Some(Hook::SourceNat),
            policy: Verdict::Accept,
            rules: masquerade,
        },
    ];
    if !guarded.is_empty() {
        let drop = |link: &String| vec![Expr::OutputIs(link.clone()), DROP];
        chains.push(Chain {
            name: GUARDED,
            hook: None,
            policy: Verdict::Accept,
            rules: guarded.iter().map(drop).collect(),
        });
    }
    Table {
        name: host_table_name(instance),
        chains,
    }
}
