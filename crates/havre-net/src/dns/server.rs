//! The event loop of the resolver: listeners of every network, changes of its files, time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::changes::{Change, Changes};
use super::helper::Helper;
use super::message::{self, Transport};
use super::process;
use super::tcp::Connections;
use super::udp::Forwards;
use super::upstream::{Upstream, Upstreams};
use super::view::{Decision, View, Zone};
use crate::config::Places;
use crate::error::NetError;
use crate::files;

/// Events taken from the kernel at once.
const EVENTS: usize = 32;
/// Questions of one network answered before the others get their turn.
const BATCH: usize = 32;
/// Largest question that is read.
pub const LARGEST_QUESTION: usize = 4096;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Whom an event is for: a kind in the upper half, an address or a slot in the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// One of the files changed.
    Files,
    /// A question over UDP at this gateway.
    Udp(Ipv4Addr),
    /// A connection to this gateway.
    Tcp(Ipv4Addr),
    /// A resolver's answer over UDP.
    Forward(u32),
    /// A client's connection.
    Client(u32),
    /// A connection to a resolver.
    Upstream(u32),
}

impl Token {
    fn pack(self) -> EventData {
        let (kind, low) = match self {
            Self::Files => (0, 0),
            Self::Udp(gateway) => (1, gateway.to_bits()),
            Self::Tcp(gateway) => (2, gateway.to_bits()),
            Self::Forward(slot) => (3, slot),
            Self::Client(slot) => (4, slot),
            Self::Upstream(slot) => (5, slot),
        };
        EventData::new_u64(u64::from(low) | kind << 32)
    }

    fn unpack(data: EventData) -> Option<Self> {
        let value = data.u64();
        // The lower half is the payload.
        let low = value as u32;
        Some(match value >> 32 {
            0 => Self::Files,
            1 => Self::Udp(Ipv4Addr::from_bits(low)),
            2 => Self::Tcp(Ipv4Addr::from_bits(low)),
            3 => Self::Forward(low),
            4 => Self::Client(low),
            5 => Self::Upstream(low),
            _ => return None,
        })
    }
}

/// Readiness notifications.
pub struct Poll {
    fd: OwnedFd,
}

impl Poll {
    pub fn add(&self, source: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, token.pack(), events)?)
    }

    pub fn change(&self, source: impl AsFd, token: Token, events: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, source, token.pack(), events)?)
    }
}

/// The host's side: who opens sockets there, and the resolvers asked from there.
pub struct Outside {
    helper: Helper,
    /// The host's.
    usual: Upstreams,
    /// Those of containers that have others.
    own: BTreeMap<Ipv4Addr, Upstreams>,
}

impl Outside {
    /// The resolvers to ask for this container.
    pub fn upstreams(&self, client: Ipv4Addr) -> &Upstreams {
        self.own.get(&client).unwrap_or(&self.usual)
    }

    /// The same, to remember who answered.
    pub fn upstreams_mut(&mut self, client: Ipv4Addr) -> &mut Upstreams {
        self.own.get_mut(&client).unwrap_or(&mut self.usual)
    }

    /// Takes over which containers have resolvers of their own; what is known of those that stay
    /// is kept.
    fn set_own(&mut self, wanted: &BTreeMap<Ipv4Addr, Vec<IpAddr>>) {
        let stays = |client: &Ipv4Addr, known: &Upstreams| {
            wanted.get(client).is_some_and(|wanted| known.are(wanted))
        };
        self.own.retain(|client, known| stays(client, known));
        for (client, addresses) in wanted {
            let fixed = || Upstreams::fixed(addresses);
            self.own.entry(*client).or_insert_with(fixed);
        }
    }

    /// Looks at the host's list again before this container's question is passed on.
    pub fn refresh(&mut self, client: Ipv4Addr, now: Instant) {
        if !self.own.contains_key(&client) {
            let helper = &self.helper;
            self.usual.refresh(now, || helper.resolv_conf());
        }
    }

    /// A non-blocking socket for `upstream` in the host's namespace.
    pub fn socket(&self, upstream: &Upstream, kind: SocketType) -> io::Result<OwnedFd> {
        self.helper.socket(upstream.is_v6(), kind)
    }
}

/// What is listened on for one network.
struct Listener {
    zone: String,
    gateway: Ipv4Addr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// What questions are answered from.
pub struct Known {
    view: View,
    turn: usize,
}

impl Known {
    /// The answer to a question, or `None` when it is to be passed on or ignored.
    pub fn answer(
        &mut self,
        question: &[u8],
        client: Ipv4Addr,
        gateway: Ipv4Addr,
        transport: Transport,
    ) -> Reply {
        let query = match message::parse(question) {
            Ok(query) => query,
            Err(unreadable) => {
                return unreadable.answer().map_or(Reply::Nothing, Reply::Now);
            }
        };
        let zone = self.view.zones.iter().find(|zone| zone.gateway == gateway);
        let Some(zone) = zone else {
            return Reply::Nothing;
        };
        self.turn = self.turn.wrapping_add(1);
        match self
            .view
            .decide(client, &zone.name, &query.name, query.kind, self.turn)
        {
            Decision::Answer(answers) => Reply::Now(query.answer(&answers, transport)),
            Decision::Empty(code) => Reply::Now(query.empty(code)),
            Decision::Forward => Reply::PassOn,
        }
    }
}

/// What is done with a message from a client.
pub enum Reply {
    /// Send this.
    Now(Vec<u8>),
    /// Ask the resolvers outside.
    PassOn,
    /// Ignore it.
    Nothing,
}

/// The resolver.
pub struct Server {
    places: Places,
    poll: Poll,
    changes: Changes,
    outside: Outside,
    known: Known,
    listeners: Vec<Listener>,
    forwards: Forwards,
    connections: Connections,
    /// The last complaint about the files, so that it is made once.
    complaint: String,
    buffer: Vec<u8>,
}

impl Server {
    /// Listens in the namespace of this process, the router's.
    pub fn start(places: Places, changes: Changes, helper: Helper) -> io::Result<Self> {
        let poll = Poll {
            fd: epoll::create(CreateFlags::CLOEXEC)?,
        };
        poll.add(&changes, Token::Files, EventFlags::IN)?;
        let mut server = Self {
            places,
            poll,
            changes,
            outside: Outside {
                helper,
                usual: Upstreams::of_host(),
                own: BTreeMap::new(),
            },
            known: Known {
                view: View::default(),
                turn: 0,
            },
            listeners: Vec::new(),
            forwards: Forwards::default(),
            connections: Connections::default(),
            complaint: String::new(),
            buffer: vec![0; usize::from(u16::MAX)],
        };
        server.reload();
        if server.complaint.is_empty() {
            Ok(server)
        } else {
            Err(io::Error::other(server.complaint))
        }
    }

    /// Serves until the folder is removed.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            let next = [
                self.forwards.next_deadline(),
                self.connections.next_deadline(),
            ]
            .into_iter()
            .flatten()
            .min();
            let timeout = next
                .map(|at| at.saturating_duration_since(now))
                .map(timespec);
            events.clear();
            match epoll::wait(
                &self.poll.fd,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                if let Some(token) = Token::unpack(event.data)
                    && self.handle(token)? == Next::End
                {
                    return Ok(());
                }
            }
            let now = Instant::now();
            self.forwards.expire(
                now,
                &self.poll,
                &mut self.outside,
                &Listeners(&self.listeners),
            );
            self.connections.expire(now, &self.poll, &mut self.outside);
        }
    }

    fn handle(&mut self, token: Token) -> io::Result<Next> {
        match token {
            Token::Files => return self.take_changes(),
            Token::Udp(gateway) => return self.questions(gateway),
            Token::Tcp(gateway) => {
                if let Some(listener) = self.listeners.iter().find(|it| it.gateway == gateway) {
                    self.connections.accept(&listener.tcp, gateway, &self.poll);
                }
            }
            Token::Forward(slot) => self.forwards.answered(
                slot,
                &mut self.buffer,
                &self.poll,
                &mut self.outside,
                &Listeners(&self.listeners),
            ),
            Token::Client(slot) => {
                if self.take_changes()? == Next::End {
                    return Ok(Next::End);
                }
                self.connections
                    .client(slot, &self.poll, &mut self.known, &mut self.outside);
            }
            Token::Upstream(slot) => {
                self.connections
                    .upstream(slot, &self.poll, &mut self.known, &mut self.outside);
            }
        }
        Ok(Next::GoOn)
    }

    fn questions(&mut self, gateway: Ipv4Addr) -> io::Result<Next> {
        for _ in 0..BATCH {
            // Whoever replaced a file and then made a container ask gets the new content.
            if self.take_changes()? == Next::End {
                return Ok(Next::End);
            }
            let Some(listener) = self.listeners.iter().find(|it| it.gateway == gateway) else {
                break;
            };
            let room = &mut self.buffer[..LARGEST_QUESTION];
            let (length, client) = match listener.udp.recv_from(room) {
                Ok((length, SocketAddr::V4(client))) => (length, client),
                Ok(_) => continue,
                Err(_) => break,
            };
            let Some(question) = self.buffer.get(..length) else {
                continue;
            };
            match self
                .known
                .answer(question, *client.ip(), gateway, Transport::Udp)
            {
                Reply::Now(answer) => send(&listener.udp, &answer, client.into()),
                Reply::PassOn => self.forwards.begin(
                    question,
                    client,
                    gateway,
                    &self.poll,
                    &mut self.outside,
                    &Listeners(&self.listeners),
                ),
                Reply::Nothing => {}
            }
        }
        Ok(Next::GoOn)
    }

    /// Reads the files again if any was replaced since.
    fn take_changes(&mut self) -> io::Result<Next> {
        match self.changes.take()? {
            Change::None => {}
            Change::Files => self.reload(),
            Change::Gone => return Ok(Next::End),
        }
        Ok(Next::GoOn)
    }

    /// Takes over the files as they are now; what cannot be read leaves all as it was.
    fn reload(&mut self) {
        match self.load() {
            Ok(()) => self.complaint.clear(),
            Err(error) => {
                let complaint = error.to_string();
                if complaint != self.complaint {
                    process::complain(&complaint);
                    self.complaint = complaint;
                }
            }
        }
    }

    fn load(&mut self) -> Result<(), NetError> {
        let zones: Vec<Zone> = files::read(&self.places.zones())?;
        let leases = files::read(&self.places.leases())?;
        let records = files::read(&self.places.names())?;
        let foreign = files::read(&self.places.foreign())?;
        self.listeners.retain(|listener| {
            zones
                .iter()
                .any(|it| (it.gateway, &it.name) == (listener.gateway, &listener.zone))
        });
        for zone in &zones {
            if self
                .listeners
                .iter()
                .all(|listener| listener.gateway != zone.gateway)
            {
                let listener = listen(zone, &self.poll).map_err(|source| NetError::Listen {
                    address: SocketAddr::new(zone.gateway.into(), 53),
                    source,
                })?;
                self.listeners.push(listener);
            }
        }
        self.known.view = View::new(zones, leases, records, foreign);
        self.outside.set_own(&self.known.view.resolvers);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

/// The sockets answers leave by.
pub struct Listeners<'a>(&'a [Listener]);

impl Listeners<'_> {
    /// Sends an answer from the gateway that was asked.
    pub fn send(&self, gateway: Ipv4Addr, answer: &[u8], client: SocketAddr) {
        if let Some(listener) = self.0.iter().find(|it| it.gateway == gateway) {
            send(&listener.udp, answer, client);
        }
    }
}

/// An answer that cannot be sent is lost as any datagram may be: the client asks again.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(answer, client) {
        tracing::debug!(%client, %error, "answer not sent");
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

fn timespec(duration: Duration) -> rustix::event::Timespec {
    rustix::event::Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
