//! Settings of links that hosts, routers and containers share.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::error::NetError;
use crate::netlink::link::{Change, Link, Mac};
use crate::netlink::{NetlinkError, Socket};

/// An Ethernet address (locally administered) made of an IPv4 address.
pub fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x48, a, b, c, d]
}

pub fn gone(name: &str) -> NetError {
    NetError::Kernel {
        action: format!("set up link {name}"),
        source: NetlinkError::Refused {
            errno: Errno::NODEV,
            explanation: Some("it vanished while being set up".to_owned()),
        },
    }
}

/// Brings a link up with that MTU, if it is not.
pub fn bring_up(socket: &mut Socket, link: &Link, mtu: u32) -> Result<(), NetlinkError> {
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

pub fn loopback_up(socket: &mut Socket) -> Result<(), NetError> {
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

/// Makes `address` the link's only one.
pub fn set_address(
    socket: &mut Socket,
    link: u32,
    address: Ipv4Addr,
    length: u8,
) -> Result<(), NetlinkError> {
    set_addresses(socket, link, &[(address, length)])
}

/// Makes these the link's addresses, and no other.
pub fn set_addresses(
    socket: &mut Socket,
    link: u32,
    wanted: &[(Ipv4Addr, u8)],
) -> Result<(), NetlinkError> {
    let present = socket.addresses(link)?;
    for (address, length) in present.iter().filter(|other| !wanted.contains(other)) {
        socket.delete_address(link, *address, *length)?;
    }
    for (address, length) in wanted.iter().filter(|other| !present.contains(other)) {
        socket.add_address(link, *address, *length)?;
    }
    Ok(())
}
