//! Links: bridges, veth pairs and their settings.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::{Attributes, CREATE, DUMP, EXCL, Message, NetlinkError, Socket};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;

const IFF_UP: u32 = 1;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Bytes.
    pub mtu: u32,
    /// Index of its other end (in that end's namespace).
    pub peer: u32,
    /// Index of the bridge it belongs to; 0: none.
    pub master: u32,
}

/// One end of a veth pair to be made.
pub struct VethEnd<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// Fixed, so that a reused address never meets a stale neighbour entry and udev never
    /// changes it.
    pub mac: Mac,
    /// Bytes.
    pub mtu: u32,
}

/// What may be changed on a link; `None` stays as it is.
#[derive(Default)]
pub struct Change<'a> {
    /// Bring it up.
    pub up: bool,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Index of its bridge.
    pub master: Option<u32>,
    /// Free text for people (`ip -d link`), at most 255 bytes.
    pub alias: Option<&'a str>,
}

fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn read(body: &[u8]) -> Option<Link> {
    let header = body.first_chunk::<16>()?;
    let attributes = Attributes(&body[16..]);
    Some(Link {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        up: u32::from_ne_bytes(header[8..12].try_into().ok()?) & IFF_UP != 0,
        name: attributes.find_str(IFLA_IFNAME)?.to_owned(),
        mtu: attributes.find_u32(IFLA_MTU).unwrap_or(0),
        peer: attributes.find_u32(IFLA_LINK).unwrap_or(0),
        master: attributes.find_u32(IFLA_MASTER).unwrap_or(0),
    })
}

impl Socket {
    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut links = Vec::new();
        self.ask(
            Message::new(RTM_GETLINK, DUMP).fixed(&header(0, 0, 0)),
            |kind, body| {
                if kind == RTM_NEWLINK {
                    links.push(read(body).ok_or(NetlinkError::Malformed)?);
                }
                Ok(())
            },
        )?;
        Ok(links)
    }

    /// The link of that name.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = Message::new(RTM_GETLINK, 0).fixed(&header(0, 0, 0));
        message.attr_str(IFLA_IFNAME, name);
        let mut link = None;
        let result = self.ask(message, |kind, body| {
            if kind == RTM_NEWLINK {
                link = Some(read(body).ok_or(NetlinkError::Malformed)?);
            }
            Ok(())
        });
        match result {
            Ok(()) => Ok(link),
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a veth pair: `near` here, `far` in the namespace `far_netns`.
    pub fn add_veth(
        &mut self,
        near: &VethEnd<'_>,
        far: &VethEnd<'_>,
        far_netns: BorrowedFd<'_>,
        master: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_NEWLINK, CREATE | EXCL).fixed(&header(0, 0, 0));
        veth_end(&mut message, near);
        if let Some(master) = master {
            message.attr_u32(IFLA_MASTER, master);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&header(0, 0, 0));
                    veth_end(peer, far);
                    peer.attr(IFLA_NET_NS_FD, &far_netns.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.request(message)
    }

    /// Makes a bridge. Its address is fixed: a bridge without one takes its ports' and changes
    /// it under the feet of every neighbour table.
    pub fn add_bridge(&mut self, bridge: &VethEnd<'_>) -> Result<(), NetlinkError> {
        let mut message = Message::new(RTM_NEWLINK, CREATE | EXCL).fixed(&header(0, 0, 0));
        veth_end(&mut message, bridge);
        message.nest(IFLA_LINKINFO, |info| {
            info.attr_str(IFLA_INFO_KIND, "bridge");
            info.nest(IFLA_INFO_DATA, |data| {
                // Nobody queries for multicast groups here, so snooping would only lose packets.
                data.attr(IFLA_BR_MCAST_SNOOPING, &[0]);
            });
        });
        self.request(message)
    }

    /// Changes a link.
    pub fn change_link(&mut self, index: u32, change: &Change<'_>) -> Result<(), NetlinkError> {
        let up = if change.up { IFF_UP } else { 0 };
        let mut message = Message::new(RTM_NEWLINK, 0).fixed(&header(index, up, up));
        if let Some(mtu) = change.mtu {
            message.attr_u32(IFLA_MTU, mtu);
        }
        if let Some(master) = change.master {
            message.attr_u32(IFLA_MASTER, master);
        }
        if let Some(alias) = change.alias {
            message.attr(IFLA_IFALIAS, alias.as_bytes());
        }
        self.request(message)
    }

    /// Removes a link; one that is gone already is no error.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        match self.request(Message::new(RTM_DELLINK, 0).fixed(&header(index, 0, 0))) {
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(()),
            result => result,
        }
    }
}

fn veth_end(message: &mut Message, end: &VethEnd<'_>) {
    message.attr_str(IFLA_IFNAME, end.name);
    message.attr(IFLA_ADDRESS, &end.mac);
    message.attr_u32(IFLA_MTU, end.mtu);
}
