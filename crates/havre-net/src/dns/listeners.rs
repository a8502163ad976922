//! The sockets that containers ask at: two for each network, on its gateway.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::poll::{Poll, Token};
use super::view::Zone;
use crate::error::NetError;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// What is listened on for one network.
pub struct Listener {
    zone: String,
    gateway: Ipv4Addr,
    /// Questions one by one.
    pub udp: UdpSocket,
    /// Connections.
    pub tcp: TcpListener,
}

impl Listener {
    /// Sends an answer from the gateway that was asked. One that cannot be sent is lost as any
    /// datagram may be: the client asks again.
    pub fn send(&self, answer: &[u8], client: SocketAddr) {
        if let Err(error) = self.udp.send_to(answer, client) {
            tracing::debug!(%client, %error, "answer not sent");
        }
    }
}

/// Those of all networks.
#[derive(Default)]
pub struct Listeners(Vec<Listener>);

impl Listeners {
    /// Those at this gateway, if it is one.
    pub fn at(&self, gateway: Ipv4Addr) -> Option<&Listener> {
        self.0.iter().find(|it| it.gateway == gateway)
    }

    /// Sends an answer from the gateway that was asked, if it is one still.
    pub fn send(&self, gateway: Ipv4Addr, answer: &[u8], client: SocketAddr) {
        if let Some(listener) = self.at(gateway) {
            listener.send(answer, client);
        }
    }

    /// Listens in these networks and in no others.
    pub fn set(&mut self, zones: &[Zone], poll: &Poll) -> Result<(), NetError> {
        self.0.retain(|listener| {
            zones
                .iter()
                .any(|it| (it.gateway, &it.name) == (listener.gateway, &listener.zone))
        });
        for zone in zones {
            if self.at(zone.gateway).is_none() {
                let listener = listen(zone, poll).map_err(|source| NetError::Listen {
                    address: SocketAddr::new(zone.gateway.into(), 53),
                    source,
                })?;
                self.0.push(listener);
            }
        }
        Ok(())
    }
}

fn listen(zone: &Zone, poll: &Poll) -> io::Result<Listener> {
    let address = SocketAddr::new(zone.gateway.into(), 53);
    let bound = |kind| -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
        if kind == SocketType::STREAM {
            // For connections of a predecessor that linger.
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        // The bridge may get its address a moment later.
        sockopt::set_ip_freebind(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        Ok(socket)
    };
    let udp = bound(SocketType::DGRAM)?;
    let tcp = bound(SocketType::STREAM)?;
    rustix::net::listen(&tcp, BACKLOG)?;
    poll.add(&udp, Token::Udp(zone.gateway), EventFlags::IN)?;
    poll.add(&tcp, Token::Tcp(zone.gateway), EventFlags::IN)?;
    Ok(Listener {
        zone: zone.name.clone(),
        gateway: zone.gateway,
        udp: UdpSocket::from(udp),
        tcp: TcpListener::from(tcp),
    })
}
