//! Listening sockets: one per address and thread, in one SO_REUSEPORT group.
//!
//! The first socket of a group is bound and made to listen *without* SO_REUSEPORT, so that the
//! kernel refuses a port that anybody else listens on, another edge included; only then is the
//! option set and the group filled up.
//!
//! A group is opened, handed over and closed as a whole. For datagrams that is more than order: the
//! kernel finds a client's socket by a hash over the group's size, and a client that found another
//! one in the middle would be a new client there.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::datagram;
use crate::state::{EdgeState, TakenPort, Transport};

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Plain.
    Http,
    /// TLS.
    Https,
    /// Passed on as it is.
    Tcp,
    /// Datagrams, passed on as they are.
    Udp,
}

impl Kind {
    fn transport(self) -> Transport {
        match self {
            Self::Http | Self::Https | Self::Tcp => Transport::Tcp,
            Self::Udp => Transport::Udp,
        }
    }
}

/// A listening address as the state names it.
pub type Wanted = (SocketAddr, Kind);

/// Where a state listens.
pub fn wanted(state: &EdgeState) -> Vec<Wanted> {
    let with = |kind| move |address: &SocketAddr| (*address, kind);
    let http = state.http.iter().map(with(Kind::Http));
    let (streams, datagrams) = (&state.forwards, &state.datagram_forwards);
    http.chain(state.https.iter().map(with(Kind::Https)))
        .chain(streams.iter().map(|it| (it.listen, Kind::Tcp)))
        .chain(datagrams.iter().map(|it| (it.listen, Kind::Udp)))
        .collect()
}

/// One thread's socket of a group.
#[derive(Debug)]
pub struct Share {
    /// Listening, or bound for datagrams; non-blocking.
    pub socket: Socket,
    /// What is spoken, and where, as the state names it.
    pub wanted: Wanted,
    /// Cancelled when it is to be closed.
    pub stop: CancellationToken,
    /// Dropped when it has been closed.
    pub closed: mpsc::Sender<()>,
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("port {} is taken (wanted {})", .0.address.port(), .0.address)]
    Taken(TakenPort),
    /// Anything else.
    #[error("cannot listen on {address}")]
    Bind {
        /// Wanted.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The groups that are open.
#[derive(Debug, Default)]
pub struct Listeners {
    groups: HashMap<Wanted, Group>,
    changes: u64,
}

#[derive(Debug)]
struct Group {
    actual: SocketAddr,
    stop: CancellationToken,
    /// Kept to be handed over to a successor.
    sockets: Vec<Socket>,
    closing: mpsc::Receiver<()>,
}

impl Listeners {
    /// Closes the groups that are not wanted and waits until their threads have let go of them.
    pub async fn close_unwanted(&mut self, wanted: &[Wanted]) {
        let unwanted: Vec<Wanted> = self
            .groups
            .keys()
            .filter(|open| !wanted.contains(open))
            .copied()
            .collect();
        for key in unwanted {
            let Some(mut group) = self.groups.remove(&key) else {
                continue;
            };
            self.changes += 1;
            group.stop.cancel();
            group.sockets.clear();
            // Ends with None: all senders are dropped.
            let closed = tokio::time::timeout(crate::limits::CONNECT, group.closing.recv());
            drop(closed.await);
        }
    }

    /// Opens what is wanted and not open. Gives each thread its shares, and what failed.
    pub fn open_wanted(
        &mut self,
        wanted: &[Wanted],
        threads: usize,
    ) -> (Vec<Vec<Share>>, Vec<ListenError>) {
        let mut shares: Vec<Vec<Share>> = (0..threads).map(|_| Vec::new()).collect();
        let mut errors = Vec::new();
        for &(address, kind) in wanted {
            if self.groups.contains_key(&(address, kind)) {
                continue;
            }
            match bind_group(address, kind.transport(), threads) {
                Ok(sockets) => {
                    if let Err(source) = self.add((address, kind), sockets, &mut shares) {
                        errors.push(ListenError::Bind { address, source });
                    }
                }
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    let transport = kind.transport();
                    errors.push(ListenError::Taken(TakenPort { address, transport }));
                }
                Err(source) => errors.push(ListenError::Bind { address, source }),
            }
        }
        (shares, errors)
    }

    /// Takes over sockets that a predecessor has opened; each thread gets its part of them.
    pub fn adopt(
        &mut self,
        groups: Vec<(Wanted, Vec<Socket>)>,
        threads: usize,
    ) -> io::Result<Vec<Vec<Share>>> {
        let mut shares: Vec<Vec<Share>> = (0..threads).map(|_| Vec::new()).collect();
        for (wanted, sockets) in groups {
            self.add(wanted, sockets, &mut shares)?;
        }
        Ok(shares)
    }

    fn add(
        &mut self,
        wanted: Wanted,
        sockets: Vec<Socket>,
        shares: &mut [Vec<Share>],
    ) -> io::Result<()> {
        let actual = match sockets.first() {
            Some(first) => address_of(first)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let stop = CancellationToken::new();
        let (closed, closing) = mpsc::channel(1);
        let threads = shares.len();
        for (number, socket) in sockets.iter().enumerate() {
            let socket = socket.try_clone()?;
            let (stop, closed) = (stop.clone(), closed.clone());
            shares[number % threads].push(Share {
                socket,
                wanted,
                stop,
                closed,
            });
        }
        self.changes += 1;
        self.groups.insert(
            wanted,
            Group {
                actual,
                stop,
                sockets,
                closing,
            },
        );
        Ok(())
    }

    /// Open addresses of a kind, with the ports that the kernel chose.
    pub fn actual(&self, kind: Kind) -> Vec<SocketAddr> {
        let open = self.groups.iter().filter(|((_, other), _)| *other == kind);
        let mut actual: Vec<SocketAddr> = open.map(|(_, group)| group.actual).collect();
        actual.sort_unstable();
        actual
    }

    /// How often a group was opened or closed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The address behind a wanted one, if it is open.
    pub fn actual_of(&self, wanted: Wanted) -> Option<SocketAddr> {
        self.groups.get(&wanted).map(|group| group.actual)
    }

    /// Everything open, for a successor.
    pub fn duplicates(&self) -> io::Result<Vec<(Wanted, Vec<Socket>)>> {
        let duplicate = |(wanted, group): (&Wanted, &Group)| {
            let sockets = group.sockets.iter().map(Socket::try_clone);
            Ok((*wanted, sockets.collect::<io::Result<Vec<_>>>()?))
        };
        self.groups.iter().map(duplicate).collect()
    }

    /// Stops all without the wait.
    pub fn stop_all(&mut self) {
        for (_, group) in self.groups.drain() {
            group.stop.cancel();
        }
    }
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Sockets for all threads on one address.
fn bind_group(
    address: SocketAddr,
    transport: Transport,
    threads: usize,
) -> io::Result<Vec<Socket>> {
    let first = new_socket(address, transport)?;
    open(&first, address, transport)?;
    first.set_reuse_port(true)?;
    let actual = address_of(&first)?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let next = new_socket(address, transport)?;
        next.set_reuse_port(true)?;
        open(&next, actual, transport)?;
        sockets.push(next);
    }
    Ok(sockets)
}

/// Connections that the kernel may queue; it caps this at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;
/// Bytes of datagrams that the kernel may queue; it caps this at net.core.rmem_max.
const QUEUE: usize = 1024 * 1024;

fn open(socket: &Socket, address: SocketAddr, transport: Transport) -> io::Result<()> {
    socket.bind(&address.into())?;
    match transport {
        Transport::Tcp => socket.listen(BACKLOG),
        Transport::Udp => {
            socket.set_recv_buffer_size(QUEUE)?;
            datagram::report_local_address(socket.as_fd(), address.is_ipv6())
        }
    }
}

/// After a listening socket, or one for datagrams, gave an error: out of file descriptors or memory, a
/// short pause lets some be freed.
pub async fn pause_after(error: &io::Error) {
    let passing = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    );
    if !passing {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn new_socket(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    match transport {
        // Connections of an edge that has just ended must not stand in the way.
        Transport::Tcp => socket.set_reuse_address(true)?,
        // With datagrams the option would let anybody share the port.
        Transport::Udp => {}
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn a_group_shares_a_port_that_no_one_else_can_join() {
        for kind in [Kind::Http, Kind::Udp] {
            let mut listeners = Listeners::default();
            let (shares, errors) = listeners.open_wanted(&[(loopback(), kind)], 3);
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
            let taken = listeners.actual(kind)[0];
            // Another edge of the same user, in this or another process.
            let (_, errors) = Listeners::default().open_wanted(&[(taken, kind)], 2);
            assert!(
                matches!(errors[..], [ListenError::Taken(port)] if port.address == taken),
                "{errors:?}"
            );

            drop(shares);
            listeners.close_unwanted(&[]).await;
            let (_, errors) = Listeners::default().open_wanted(&[(taken, kind)], 2);
            assert!(errors.is_empty(), "free again: {errors:?}");
        }
    }

    #[test]
    fn a_foreign_group_is_not_joined() {
        for (kind, transport) in [(Kind::Http, Transport::Tcp), (Kind::Udp, Transport::Udp)] {
            let foreign = new_socket(loopback(), transport).expect("a socket");
            foreign.set_reuse_port(true).expect("the option");
            open(&foreign, loopback(), transport).expect("a port");
            let taken = address_of(&foreign).expect("an address");
            let (_, errors) = Listeners::default().open_wanted(&[(taken, kind)], 2);
            assert!(matches!(errors[..], [ListenError::Taken(_)]), "{errors:?}");
        }
    }

    #[test]
    fn unavailable_addresses_are_named() {
        let wanted = "192.0.2.1:80".parse().expect("an address");
        let (_, errors) = Listeners::default().open_wanted(&[(wanted, Kind::Http)], 1);
        assert_eq!(errors[0].to_string(), "cannot listen on 192.0.2.1:80");
    }

    /// Whoever joined late would get clients that others talk to already.
    #[test]
    fn a_client_stays_with_its_socket() {
        let sockets = bind_group(loopback(), Transport::Udp, 4).expect("a group");
        let address = address_of(&sockets[0]).expect("an address");
        let clients: Vec<UdpSocket> = (0..32)
            .map(|_| UdpSocket::bind(loopback()).expect("a port"))
            .collect();
        let mut seen = std::collections::HashMap::new();
        for _ in 0..3 {
            for client in &clients {
                client.send_to(b"x", address).expect("to send");
            }
            for (number, socket) in sockets.iter().enumerate() {
                while let Ok(received) = datagram::receive(socket.as_fd(), &mut [0; 8]) {
                    assert_eq!(*seen.entry(received.from).or_insert(number), number);
                }
            }
        }
        assert_eq!(seen.len(), clients.len());
    }
}
