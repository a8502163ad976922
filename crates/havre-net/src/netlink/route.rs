//! IPv4 addresses and routes.

use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::{Attributes, CREATE, DUMP, EXCL, Message, NetlinkError, REPLACE, Socket};
use crate::subnet::Subnet;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;

const AF_INET: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TYPE_UNICAST: u8 = 1;
/// `RTM_F_CLONED`: a cache entry, not a route.
const CLONED: u32 = 0x200;

/// The main routing table.
pub const MAIN_TABLE: u32 = 254;

/// Who made the route (`ip route` shows it as `proto 72`): no other program's number, so that
/// daemons which clean up their own routes leave ours alone.
const PROTOCOL: u8 = 72;

/// A route as the kernel describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Subnet,
    /// Index of the link it leaves by; 0: none (blackhole, …) or several.
    pub link: u32,
    /// Lower wins.
    pub metric: u32,
    /// Routing table.
    pub table: u32,
    /// `RTN_*`.
    pub kind: u8,
}

impl Route {
    /// Whether this is a default route in use by ordinary traffic.
    pub fn is_main_default(&self) -> bool {
        self.to.length() == 0 && self.table == MAIN_TABLE && self.kind == TYPE_UNICAST
    }
}

/// A route to be made in the main table.
#[derive(Clone, Copy, Debug)]
pub struct NewRoute {
    /// Where to.
    pub to: Subnet,
    /// Index of the link it leaves by.
    pub link: u32,
    /// Next hop; `None`: on the link.
    pub via: Option<Ipv4Addr>,
    /// Source address of packets that start here.
    pub source: Option<Ipv4Addr>,
}

/// What happens when a route to the same place is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfPresent {
    /// `EEXIST`: the kernel decides who was first.
    Refuse,
    /// It is replaced.
    Replace,
}

impl Socket {
    /// Gives a link an address; one that is there already is no error.
    pub fn add_address(
        &mut self,
        link: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> Result<(), NetlinkError> {
        match self.request(address_message(
            RTM_NEWADDR,
            CREATE | EXCL,
            link,
            address,
            length,
        )) {
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            result => result,
        }
    }

    /// Takes an address from a link; one that is gone already is no error.
    pub fn delete_address(
        &mut self,
        link: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> Result<(), NetlinkError> {
        match self.request(address_message(RTM_DELADDR, 0, link, address, length)) {
            Err(error) if error.errno() == Some(Errno::ADDRNOTAVAIL) => Ok(()),
            result => result,
        }
    }

    /// The IPv4 addresses of a link with their prefix lengths.
    pub fn addresses(&mut self, link: u32) -> Result<Vec<(Ipv4Addr, u8)>, NetlinkError> {
        let mut addresses = Vec::new();
        let message = Message::new(RTM_GETADDR, DUMP).fixed(&[AF_INET, 0, 0, 0, 0, 0, 0, 0]);
        self.ask(message, |kind, body| {
            if kind != RTM_NEWADDR {
                return Ok(());
            }
            let header = body.first_chunk::<8>().ok_or(NetlinkError::Malformed)?;
            let index = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
            if index == link {
                let address = read_address(Attributes(&body[8..]), IFA_LOCAL)
                    .ok_or(NetlinkError::Malformed)?;
                addresses.push((address, header[1]));
            }
            Ok(())
        })?;
        Ok(addresses)
    }

    /// Makes a route.
    pub fn add_route(&mut self, route: &NewRoute, present: IfPresent) -> Result<(), NetlinkError> {
        let flags = match present {
            IfPresent::Refuse => CREATE | EXCL,
            IfPresent::Replace => CREATE | REPLACE,
        };
        self.request(route_message(RTM_NEWROUTE, flags, route))
    }

    /// Removes a route; one that is gone already is no error.
    pub fn delete_route(&mut self, route: &NewRoute) -> Result<(), NetlinkError> {
        match self.request(route_message(RTM_DELROUTE, 0, route)) {
            Err(error) if error.errno() == Some(Errno::SRCH) => Ok(()),
            result => result,
        }
    }

    /// All IPv4 routes of all tables.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        let mut header = [0; 12];
        header[0] = AF_INET;
        self.ask(
            Message::new(RTM_GETROUTE, DUMP).fixed(&header),
            |kind, body| {
                if kind == RTM_NEWROUTE {
                    routes.extend(read_route(body).ok_or(NetlinkError::Malformed)?);
                }
                Ok(())
            },
        )?;
        Ok(routes)
    }
}

fn address_message(kind: u16, flags: u16, link: u32, address: Ipv4Addr, length: u8) -> Message {
    let mut header = [AF_INET, length, 0, SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    let mut message = Message::new(kind, flags).fixed(&header);
    message
        .attr(IFA_LOCAL, &address.octets())
        .attr(IFA_ADDRESS, &address.octets());
    message
}

fn route_message(kind: u16, flags: u16, route: &NewRoute) -> Message {
    let scope = if route.via.is_some() {
        SCOPE_UNIVERSE
    } else {
        SCOPE_LINK
    };
    let table = MAIN_TABLE as u8;
    let mut message = Message::new(kind, flags).fixed(&[
        AF_INET,
        route.to.length(),
        0,
        0,
        table,
        PROTOCOL,
        scope,
        TYPE_UNICAST,
        0,
        0,
        0,
        0,
    ]);
    if route.to.length() > 0 {
        message.attr(RTA_DST, &route.to.base().octets());
    }
    message.attr_u32(RTA_OIF, route.link);
    if let Some(via) = route.via {
        message.attr(RTA_GATEWAY, &via.octets());
    }
    if let Some(source) = route.source {
        message.attr(RTA_PREFSRC, &source.octets());
    }
    message
}

/// `Ok(None)`-like inner option: the entry is a cache entry.
fn read_route(body: &[u8]) -> Option<Option<Route>> {
    let header = body.first_chunk::<12>()?;
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    if flags & CLONED != 0 || header[0] != AF_INET {
        return Some(None);
    }
    let attributes = Attributes(&body[12..]);
    let to = read_address(attributes, RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some(Some(Route {
        to: Subnet::containing(to, header[1]),
        link: attributes.find_u32(RTA_OIF).unwrap_or(0),
        metric: attributes.find_u32(RTA_PRIORITY).unwrap_or(0),
        table: attributes
            .find_u32(RTA_TABLE)
            .unwrap_or(u32::from(header[4])),
        kind: header[7],
    }))
}

fn read_address(attributes: Attributes<'_>, kind: u16) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = attributes.find(kind)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}
