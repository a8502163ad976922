//! Listening sockets: one per address and thread, in one SO_REUSEPORT group.
//!
//! The first socket of a group is bound and made to listen *without* SO_REUSEPORT, so that the
//! kernel refuses a port that anybody else listens on, another edge included; only then is the
//! option set and the group filled up.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

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
}

/// A listening address as the state names it.
pub type Wanted = (SocketAddr, Kind);

/// One thread's socket of a group.
#[derive(Debug)]
pub struct Share {
    /// Listening, non-blocking.
    pub socket: TcpListener,
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
    #[error("port {port} is taken by {owner} (wanted {address})")]
    Taken {
        /// Wanted.
        address: SocketAddr,
        /// Its port.
        port: u16,
        /// Who.
        owner: String,
    },
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
}

#[derive(Debug)]
struct Group {
    actual: SocketAddr,
    stop: CancellationToken,
    /// Kept to be handed over to a successor.
    sockets: Vec<TcpListener>,
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
            match bind_group(address, threads) {
                Ok(sockets) => {
                    if let Err(source) = self.add((address, kind), sockets, &mut shares) {
                        errors.push(ListenError::Bind { address, source });
                    }
                }
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    let port = address.port();
                    let owner = owner_of(port).unwrap_or_else(|| "another process".to_owned());
                    errors.push(ListenError::Taken {
                        address,
                        port,
                        owner,
                    });
                }
                Err(source) => errors.push(ListenError::Bind { address, source }),
            }
        }
        (shares, errors)
    }

    /// Takes over sockets that a predecessor has opened; each thread gets its part of them.
    pub fn adopt(
        &mut self,
        groups: Vec<(Wanted, Vec<TcpListener>)>,
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
        sockets: Vec<TcpListener>,
        shares: &mut [Vec<Share>],
    ) -> io::Result<()> {
        let actual = match sockets.first() {
            Some(first) => first.local_addr()?,
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

    /// The address behind a wanted one, if it is open.
    pub fn actual_of(&self, wanted: Wanted) -> Option<SocketAddr> {
        self.groups.get(&wanted).map(|group| group.actual)
    }

    /// Everything open, for a successor.
    pub fn duplicates(&self) -> io::Result<Vec<(Wanted, Vec<TcpListener>)>> {
        let duplicate = |(wanted, group): (&Wanted, &Group)| {
            let sockets = group.sockets.iter().map(TcpListener::try_clone);
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

/// Sockets for all threads on one address.
fn bind_group(address: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    let first = new_socket(address)?;
    first.bind(&address.into())?;
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    let first: TcpListener = first.into();
    let actual = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..threads {
        let next = new_socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&actual.into())?;
        next.listen(BACKLOG)?;
        sockets.push(next.into());
    }
    Ok(sockets)
}

/// Connections that the kernel may queue; it caps this at net.core.somaxconn.
pub const BACKLOG: i32 = 4096;

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an edge that has just ended must not stand in the way.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Who listens on a port of this network namespace, as `name (pid 123)`.
pub fn owner_of(port: u16) -> Option<String> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let has_it = std::fs::read_dir(process.path().join("fd"))
            .ok()?
            .filter_map(Result::ok)
            .any(|descriptor| {
                std::fs::read_link(descriptor.path())
                    .is_ok_and(|target| inodes.iter().any(|inode| Path::new(inode) == target))
            });
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        has_it.then(|| format!("{} (pid {pid})", name.trim()))
    })
}

/// Inodes of sockets in state LISTEN (0A) on a port, from the text of /proc/net/tcp.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == "0A";
            listens
                .then(|| fields.get(9).map(ToString::to_string))
                .flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[tokio::test]
    async fn a_group_shares_a_port_that_no_one_else_can_join() {
        let mut listeners = Listeners::default();
        let (shares, errors) = listeners.open_wanted(&[(loopback(), Kind::Http)], 3);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        let taken = listeners.actual(Kind::Http)[0];
        // Another edge of the same user, in this or another process.
        let (_, errors) = Listeners::default().open_wanted(&[(taken, Kind::Http)], 2);
        let message = errors[0].to_string();
        let me = format!("(pid {})", std::process::id());
        assert!(
            message.contains("is taken by") && message.contains(&me),
            "{message}"
        );

        drop(shares);
        listeners.close_unwanted(&[]).await;
        let (_, errors) = Listeners::default().open_wanted(&[(taken, Kind::Http)], 2);
        assert!(errors.is_empty(), "free again: {errors:?}");
    }

    #[test]
    fn a_foreign_group_is_not_joined() {
        let foreign = new_socket(loopback()).expect("a socket");
        foreign.set_reuse_port(true).expect("the option");
        foreign.bind(&loopback().into()).expect("a port");
        foreign.listen(1).expect("to listen");
        let taken = foreign
            .local_addr()
            .expect("an address")
            .as_socket()
            .expect("IP");
        let (_, errors) = Listeners::default().open_wanted(&[(taken, Kind::Http)], 2);
        assert!(
            matches!(errors[..], [ListenError::Taken { .. }]),
            "{errors:?}"
        );
    }

    #[test]
    fn unavailable_addresses_are_named() {
        let wanted = "192.0.2.1:80".parse().expect("an address");
        let (_, errors) = Listeners::default().open_wanted(&[(wanted, Kind::Http)], 1);
        assert_eq!(errors[0].to_string(), "cannot listen on 192.0.2.1:80");
    }
}
