//! Ports whose datagrams are passed on: each client is a flow with a socket of its own towards a
//! replica, so that answers find their way back.
//!
//! ```text
//!  client ──► port's socket ──► flow (client, address it spoke to) ──► socket ──► replica
//!  client ◄── port's socket ◄───────────────── task of the flow  ◄──── socket ◄── replica
//! ```
//!
//! A flow stays with its replica while that serves, and goes to another one with the next datagram
//! after that. Which one depends on the client's address only, so that an edge that knows of no flow
//! (the successor of this one, or one after a crash) finds the same replica among the same replicas.
//! A datagram that finds no replica is dropped: clients of UDP ask again.
//!
//! A flow counts as a stream of its replica. What the replica says after it has been left is passed
//! back still, for a short time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clients;
use crate::complain::complain;
use crate::datagram::{self, Local, Received};
use crate::flows::Full;
use crate::limits;
use crate::listen::{self, Kind, Share};
use crate::lock::lock;
use crate::replica::{Address, InFlight, Outcome, Upstream};
use crate::snapshot::LivePool;
use crate::worker::Worker;

thread_local! {
    /// One datagram at a time passes through a thread, and none waits in it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; datagram::LONGEST]);
}

/// A client as one of the machine's addresses sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Peer {
    client: SocketAddr,
    local: Option<Local>,
}

impl Peer {
    fn network(&self) -> u128 {
        clients::network(self.client.ip())
    }
}

/// One thread's socket of a port.
#[derive(Debug)]
struct Port {
    worker: Arc<Worker>,
    socket: UdpSocket,
    listen: SocketAddr,
    stop: CancellationToken,
    flows: Mutex<HashMap<Peer, Arc<Flow>>>,
    /// Dropped with the last flow: the port is free only then.
    _closed: mpsc::Sender<()>,
}

/// A client and its replica.
#[derive(Debug)]
struct Flow {
    upstream: Arc<Upstream>,
    /// Connected to the replica.
    socket: UdpSocket,
    /// The newest datagram either way, by the edge's clock.
    last_ms: AtomicU64,
    /// The replica has not answered to the client's newest datagram.
    awaiting: AtomicBool,
    /// Either side has spoken twice.
    lasting: AtomicBool,
    answered: AtomicBool,
}

/// Takes datagrams until told to stop.
pub async fn serve(worker: Arc<Worker>, share: Share) {
    let socket = match UdpSocket::from_std(share.socket.into()) {
        Ok(socket) => socket,
        Err(error) => return complain!("edge: a port for datagrams cannot be used: {error}"),
    };
    let port = Arc::new(Port {
        worker,
        socket,
        listen: share.wanted.0,
        stop: share.stop,
        flows: Mutex::default(),
        _closed: share.closed,
    });
    loop {
        tokio::select! {
            ready = port.socket.readable() => match ready {
                Ok(()) => {
                    if let Err(error) = port.take_batch() {
                        listen::pause_after(&error).await;
                    }
                }
                Err(error) => return complain!("edge: no more datagrams at {}: {error}", port.listen),
            },
            () = port.stop.cancelled() => return,
        }
        tokio::task::yield_now().await;
    }
}

impl Port {
    fn take_batch(self: &Arc<Self>) -> io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..limits::DATAGRAM_BATCH {
                match read(&self.socket, buffer) {
                    Ok(received) => self.pass_on(received, &buffer[..received.length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn pass_on(self: &Arc<Self>, received: Received, bytes: &[u8]) {
        let peer = Peer {
            client: received.from,
            local: received.to,
        };
        let known = lock(&self.flows).get(&peer).cloned();
        if let Some(flow) = known.filter(|flow| flow.upstream.is_serving())
            && self.send_on(&flow, bytes)
        {
            return;
        }
        let wanted = (self.listen, Kind::Udp);
        let Some(pool) = self.worker.shared.snapshot.load().forward(wanted) else {
            return;
        };
        // A replica where nobody listens says so with the second datagram at the latest.
        for _ in 0..limits::CONNECT_ATTEMPTS {
            match self.new_flow(&pool, peer) {
                Some(flow) if self.send_on(&flow, bytes) => return,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Sends to the flow's replica. False where nobody listens there.
    fn send_on(&self, flow: &Flow, bytes: &[u8]) -> bool {
        let now = self.worker.shared.clock.now_ms();
        // Past tokio, which does not know yet whether a new socket has room.
        let sent = rustix::net::send(&flow.socket, bytes, SendFlags::NOSIGNAL);
        match sent.map_err(io::Error::from) {
            Ok(_) => {
                flow.last_ms.store(now, Ordering::Relaxed);
                if flow.awaiting.swap(true, Ordering::Relaxed)
                    || flow.answered.load(Ordering::Relaxed)
                {
                    flow.lasting.store(true, Ordering::Relaxed);
                }
                true
            }
            Err(error) if is_refusal(&error) => {
                flow.upstream.refused(now);
                false
            }
            // Too long for the way, or no room: lost, as datagrams may be.
            Err(_) => true,
        }
    }

    /// A flow to the replica that is the peer's; `None` where there is none, or no place.
    fn new_flow(self: &Arc<Self>, pool: &LivePool, peer: Peer) -> Option<Arc<Flow>> {
        let shared = &self.worker.shared;
        let now = shared.clock.now_ms();
        let upstream = choose(&pool.serving, peer.client, now)?;
        if let Err(full) = self.take_place(peer) {
            shared.flows.refuse(full, peer.client, self.listen);
            return None;
        }
        let in_flight = InFlight::new(Arc::clone(upstream), &pool.counters);
        let socket = match connect(&upstream.address) {
            Ok(socket) => socket,
            Err(_) => {
                in_flight.finish(Outcome::Failed);
                shared.flows.close(peer.network());
                return None;
            }
        };
        let flow = Arc::new(Flow {
            upstream: Arc::clone(upstream),
            socket,
            last_ms: AtomicU64::new(now),
            awaiting: AtomicBool::new(false),
            lasting: AtomicBool::new(false),
            answered: AtomicBool::new(false),
        });
        // One that was there before is left alone from here on.
        lock(&self.flows).insert(peer, Arc::clone(&flow));
        let tasks = &self.worker.tasks;
        tasks.spawn(answer(Arc::clone(self), peer, Arc::clone(&flow), in_flight));
        Some(flow)
    }

    /// Trusted proxies speak for many clients, and have no bound of their own.
    fn take_place(&self, peer: Peer) -> Result<(), Full> {
        if lock(&self.flows).len() >= limits::FLOWS_PER_SOCKET {
            return Err(Full::All);
        }
        let shared = &self.worker.shared;
        let snapshot = shared.snapshot.load();
        let most = match snapshot.trusted.contains(peer.client.ip()) {
            true => u32::MAX,
            false => snapshot.connections_per_address,
        };
        shared.flows.open(peer.network(), most)
    }

    /// Passes back what has arrived. An error when nobody listens at the replica.
    fn pass_back(&self, peer: Peer, flow: &Flow) -> io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..limits::DATAGRAM_BATCH {
                let length = match flow.socket.try_recv(buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                };
                let now = self.worker.shared.clock.now_ms();
                flow.last_ms.store(now, Ordering::Relaxed);
                let first = !flow.answered.swap(true, Ordering::Relaxed);
                if !first {
                    flow.lasting.store(true, Ordering::Relaxed);
                }
                flow.awaiting.store(false, Ordering::Relaxed);
                let socket = self.socket.as_fd();
                // No room, or the client cannot be reached: lost, as datagrams may be.
                drop(datagram::send(
                    socket,
                    &buffer[..length],
                    peer.client,
                    peer.local,
                ));
            }
            Ok(())
        })
    }

    /// Whether the flow's replica gets no more from it.
    fn is_left(&self, peer: Peer, flow: &Arc<Flow>) -> bool {
        let own = |known: &Arc<Flow>| Arc::ptr_eq(known, flow);
        self.worker.shared.stopping.is_cancelled()
            || !flow.upstream.is_serving()
            || !lock(&self.flows).get(&peer).is_some_and(own)
    }

    fn forget(&self, peer: Peer, flow: &Arc<Flow>) {
        let mut flows = lock(&self.flows);
        if flows
            .get(&peer)
            .is_some_and(|known| Arc::ptr_eq(known, flow))
        {
            flows.remove(&peer);
        }
        drop(flows);
        self.worker.shared.flows.close(peer.network());
    }
}

/// Passes back what the replica says, until it is silent for too long.
async fn answer(port: Arc<Port>, peer: Peer, flow: Arc<Flow>, mut in_flight: InFlight) {
    let shared = &port.worker.shared;
    let end = in_flight.become_stream();
    let mut pushed = shared.pushed.subscribe();
    let mut listening = true;
    while listening {
        let silence = flow.silence(shared.clock.now_ms());
        let left = port.is_left(peer, &flow);
        let Some(rest) = flow.patience(left).checked_sub(silence) else {
            break;
        };
        tokio::select! {
            ready = flow.socket.readable() => {
                listening = ready.and_then(|()| port.pass_back(peer, &flow)).is_ok();
                if !listening {
                    flow.upstream.refused(shared.clock.now_ms());
                }
            }
            () = tokio::time::sleep(rest) => {}
            // The replica may be among those that leave.
            _ = pushed.changed() => {}
            () = end.cancelled() => listening = false,
            // The port is closed for good, unless the whole edge is about to end.
            () = port.stop.cancelled(), if !left => listening = shared.stopping.is_cancelled(),
        }
    }
    port.forget(peer, &flow);
    in_flight.finish(Outcome::Answered {
        server_error: false,
    });
}

impl Flow {
    fn silence(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    /// How long it may be silent.
    fn patience(&self, left: bool) -> Duration {
        let awaiting = self.awaiting.load(Ordering::Relaxed);
        match (left, awaiting, self.lasting.load(Ordering::Relaxed)) {
            (true, true, _) => limits::FLOW_ANSWER,
            (true, false, _) => limits::FLOW_LEAVING,
            (false, _, true) => limits::FLOW_IDLE,
            (false, _, false) => limits::FLOW_ONCE,
        }
    }
}

/// The replica of a client: the one with the highest number drawn from both (rendezvous hashing), so
/// that one that comes or goes moves only its own clients. Those where nobody listened lately come
/// last.
fn choose(serving: &[Arc<Upstream>], client: SocketAddr, now: u64) -> Option<&Arc<Upstream>> {
    serving.iter().max_by_key(|upstream| {
        let mut hasher = DefaultHasher::new();
        (client, &upstream.id).hash(&mut hasher);
        let ejected = upstream.candidate(false, false).ejected_until > now;
        (!ejected, hasher.finish())
    })
}

fn connect(replica: &Address) -> io::Result<UdpSocket> {
    let replica = match replica {
        Address::Network(address) => *address,
        // The snapshot reports it.
        Address::Socket(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let any: SocketAddr = match replica {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(replica)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The replica's machine has said that nobody listens, or that it is gone.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

fn read(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.try_io(Interest::READABLE, || {
        datagram::receive(socket.as_fd(), buffer)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::replica::Registry;
    use crate::state::Replica;

    fn upstreams(ids: &[&str]) -> Vec<Arc<Upstream>> {
        let registry = Registry::default();
        let replica = |id: &&str| Replica {
            id: (*id).to_owned(),
            address: ([127, 0, 0, 1], 53).into(),
            draining: false,
        };
        ids.iter()
            .map(|id| registry.upstream(&replica(id)))
            .collect()
    }

    fn chosen(serving: &[Arc<Upstream>], port: u16, now: u64) -> String {
        let client = ([192, 0, 2, 1], port).into();
        choose(serving, client, now).expect("one").id.clone()
    }

    #[test]
    fn a_client_finds_its_replica_again_and_only_those_of_a_lost_one_move() {
        let three = upstreams(&["a", "b", "c"]);
        let two = upstreams(&["c", "a"]);
        let mut used = HashSet::new();
        for port in 1..200 {
            let before = chosen(&three, port, 0);
            assert_eq!(chosen(&upstreams(&["c", "b", "a"]), port, 0), before);
            if before != "b" {
                assert_eq!(chosen(&two, port, 0), before, "its replica is still there");
            }
            used.insert(before);
        }
        assert_eq!(used.len(), 3, "all have clients");
    }

    #[test]
    fn a_replica_where_nobody_listens_is_the_last_choice() {
        let both = upstreams(&["a", "b"]);
        let first = chosen(&both, 7, 0);
        let index = both.iter().position(|it| it.id == first).expect("it");
        both[index].refused(1000);
        assert_ne!(chosen(&both, 7, 1000), first);
        assert_eq!(chosen(&both[index..=index], 7, 1000), first, "none but it");
        assert_eq!(chosen(&both, 7, 5000), first, "its time is up");
    }
}
