//! What the machine must have for this crate to work, tried out in a namespace of its own.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

use rustix::thread::UnshareFlags;

use crate::firewall::{self, accept};
use crate::leases::{Leases, ServiceLease};
use crate::ledger::{Allocation, Ledger, NetworkAllocation};
use crate::links::mac;
use crate::netlink::link::VethEnd;
use crate::netlink::{NetlinkError, Socket};
use crate::subnet::Subnet;

/// One thing the machine must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What.
    pub name: &'static str,
    /// Whether it has it.
    pub ok: bool,
    /// What was found, or the error.
    pub detail: String,
    /// What to do when it has not.
    pub hint: &'static str,
}

impl Requirement {
    fn new(name: &'static str, hint: &'static str, result: Result<String, String>) -> Self {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| error);
        Self {
            name,
            ok,
            detail,
            hint,
        }
    }
}

/// Tries out everything; changes nothing on the machine.
pub fn probe() -> Vec<Requirement> {
    let tried = std::thread::spawn(in_a_namespace).join();
    let mut requirements = tried.unwrap_or_else(|_| {
        vec![Requirement::new(
            "network namespaces",
            "please report this",
            Err("the probe panicked".to_owned()),
        )]
    });
    requirements.push(Requirement::new(
        "host firewall",
        "firewalld drops what containers send; trust them: \
         firewall-cmd --permanent --zone=trusted --add-source=10.89.0.0/16 && firewall-cmd --reload",
        host_firewall(),
    ));
    requirements.push(Requirement::new(
        "way out",
        "without a default route containers reach this machine only",
        default_route(),
    ));
    requirements.push(Requirement::new(
        "resolvers",
        "name a resolver in /etc/resolv.conf",
        resolvers(),
    ));
    requirements
}

fn in_a_namespace() -> Vec<Requirement> {
    // SAFETY: a new network namespace shares no memory and no descriptor table; the thread ends
    // with this function.
    let entered = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    let mut requirements = vec![Requirement::new(
        "network namespaces",
        "run as root, on a kernel with CONFIG_NET_NS, and outside of containers that forbid it",
        entered
            .map(|()| "can be made".to_owned())
            .map_err(|error| error.to_string()),
    )];
    if entered.is_err() {
        return requirements;
    }
    let works = |result: Result<(), NetlinkError>| {
        result
            .map(|()| "works".to_owned())
            .map_err(|error| error.to_string())
    };
    requirements.push(Requirement::new(
        "bridges",
        "load the kernel module: modprobe bridge",
        works(Socket::route().and_then(|mut socket| {
            socket.add_bridge(&VethEnd {
                name: "br0",
                mac: mac(Ipv4Addr::LOCALHOST),
                mtu: 1500,
            })
        })),
    ));
    requirements.push(Requirement::new(
        "veth pairs",
        "load the kernel module: modprobe veth",
        works(veth_pair()),
    ));
    requirements.push(Requirement::new(
        "nf_tables with address translation",
        "load the kernel modules: modprobe -a nf_tables nft_ct nft_limit nft_nat nft_masq nft_reject_ipv4",
        works(firewall_rules()),
    ));
    requirements
}

fn veth_pair() -> Result<(), NetlinkError> {
    let own = File::open("/proc/thread-self/ns/net").map_err(|error| {
        NetlinkError::Socket(
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
        )
    })?;
    let near = VethEnd {
        name: "near",
        mac: mac(Ipv4Addr::new(10, 0, 0, 1)),
        mtu: 1500,
    };
    let far = VethEnd {
        name: "far",
        mac: mac(Ipv4Addr::new(10, 0, 0, 2)),
        mtu: 1500,
    };
    Socket::route()?.add_veth(&near, &far, own.as_fd(), None)
}

/// The very tables that are used, with every expression that occurs in them.
fn firewall_rules() -> Result<(), NetlinkError> {
    let network = NetworkAllocation {
        index: 0,
        subnet: Subnet::containing(Ipv4Addr::new(10, 89, 0, 0), 24),
        internal: false,
        block: Some(Subnet::containing(Ipv4Addr::new(10, 89, 0, 0), 19)),
        confined: true,
    };
    let allocation = Allocation {
        slot: 0,
        networks: [("x".to_owned(), network)].into(),
    };
    let service = ServiceLease {
        address: Ipv4Addr::new(10, 89, 0, 2),
        backends: [3, 4].map(|last| Ipv4Addr::new(10, 89, 0, last)).into(),
    };
    let leases = Leases {
        services: [("x".to_owned(), [("app".to_owned(), service)].into())].into(),
        ..Leases::default()
    };
    let mut socket = Socket::netfilter()?;
    socket.put_table(&firewall::router_table(&allocation, &leases))?;
    let ledger = Ledger {
        environments: [("e".to_owned(), allocation)].into(),
        shared: [(
            "x".to_owned(),
            Subnet::containing(Ipv4Addr::new(10, 89, 0, 0), 19),
        )]
        .into(),
    };
    let guarded = ["lan0".to_owned()].into();
    socket
        .put_table(&firewall::host_table(
            "probe",
            "hv-probe-",
            &ledger,
            &guarded,
        ))
        .map(|_| ())
}

/// Docker's and plain iptables rules get an accept pair; firewalld rejects in a table of its own
/// where no rule of ours has a say.
fn host_firewall() -> Result<String, String> {
    let mut socket = Socket::netfilter().map_err(|error| error.to_string())?;
    if socket
        .has_inet_table("firewalld")
        .map_err(|error| error.to_string())?
    {
        return Err("firewalld is active".to_owned());
    }
    Ok(match accept::find_program() {
        Some(program) => format!("{} serves to let containers pass", program.display()),
        None => "no iptables, so no rules of it".to_owned(),
    })
}

fn default_route() -> Result<String, String> {
    let mut socket = Socket::route().map_err(|error| error.to_string())?;
    let routes = socket.routes().map_err(|error| error.to_string())?;
    let links = socket.links().map_err(|error| error.to_string())?;
    let best = routes
        .iter()
        .filter(|route| route.is_main_default())
        .min_by_key(|route| route.metric)
        .ok_or("no default route")?;
    Ok(match links.iter().find(|link| link.index == best.link) {
        Some(link) => format!("by {}, MTU {}", link.name, link.mtu),
        None => "by several links".to_owned(),
    })
}

fn resolvers() -> Result<String, String> {
    let text = fs::read_to_string("/etc/resolv.conf").map_err(|error| error.to_string())?;
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    if named.is_empty() {
        Err("none named".to_owned())
    } else {
        Ok(named.join(", "))
    }
}
