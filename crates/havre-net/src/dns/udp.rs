//! Questions over UDP that were passed on to resolvers outside.
//!
//! Each try has a socket of its own (a port the kernel chose) and a random number, and only an
//! answer from the resolver asked, with that number and that question, is passed back.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::SocketType;

use super::listeners::Listeners;
use super::message::{self, Verdict};
use super::outside::{Outside, random_id};
use super::poll::{Poll, Token};

/// Most questions on their way.
const MOST: usize = 256;
/// Most of one client, so that it does not take all places.
const MOST_OF_ONE: usize = 64;
/// Time for one try. All tries together stay below the 5 s after which clients ask again.
const TRY: Duration = Duration::from_millis(1500);
/// Fewest tries, where there is one resolver.
const TRIES: usize = 2;

struct Forward {
    client: SocketAddrV4,
    gateway: Ipv4Addr,
    /// As the client sent it.
    query: Vec<u8>,
    tries: usize,
    sent: Sent,
}

struct Sent {
    socket: UdpSocket,
    id: u16,
    upstream: usize,
    deadline: Instant,
}

/// All questions on their way.
#[derive(Default)]
pub struct Forwards {
    slots: Vec<Option<Forward>>,
}

impl Forwards {
    /// When the next try is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.slots
            .iter()
            .flatten()
            .map(|forward| forward.sent.deadline)
            .min()
    }

    /// Passes a question on.
    pub fn begin(
        &mut self,
        query: &[u8],
        client: SocketAddrV4,
        gateway: Ipv4Addr,
        poll: &Poll,
        outside: &mut Outside,
        listeners: &Listeners,
    ) {
        let of_client = |forward: &&Forward| forward.client.ip() == client.ip();
        let on_their_way = self.slots.iter().flatten();
        if on_their_way
            .clone()
            .any(|it| it.client == client && it.query == query)
        {
            return;
        }
        if on_their_way.filter(of_client).count() >= MOST_OF_ONE {
            return fail(query, client, gateway, listeners);
        }
        let free = self.slots.iter().position(Option::is_none);
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.len() < MOST => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return fail(query, client, gateway, listeners),
        };
        outside.refresh(*client.ip(), Instant::now());
        let mut tries = 0;
        match send(slot, *client.ip(), query, &mut tries, poll, outside) {
            Some(sent) => {
                let query = query.to_vec();
                self.slots[slot] = Some(Forward {
                    client,
                    gateway,
                    query,
                    tries,
                    sent,
                });
            }
            None => fail(query, client, gateway, listeners),
        }
    }

    /// Something arrived at a try's socket.
    pub fn answered(
        &mut self,
        slot: u32,
        buffer: &mut [u8],
        poll: &Poll,
        outside: &mut Outside,
        listeners: &Listeners,
    ) {
        let slot = slot as usize;
        let Some(Some(forward)) = self.slots.get(slot) else {
            return;
        };
        let Ok(query) = message::parse(&forward.query) else {
            return;
        };
        let length = match forward.sent.socket.recv(buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // The resolver's machine says that nobody listens there.
            Err(_) => return self.try_again(slot, None, poll, outside, listeners),
        };
        let Some(answer) = buffer.get_mut(..length) else {
            return;
        };
        match message::judge(answer, forward.sent.id, query.question) {
            Verdict::Foreign => {}
            Verdict::Answer => {
                let of_client = outside.upstreams_mut(*forward.client.ip());
                of_client.answered(forward.sent.upstream);
                message::set_id(answer, query.id);
                listeners.send(forward.gateway, answer, forward.client.into());
                self.slots[slot] = None;
            }
            Verdict::Failed => {
                message::set_id(answer, query.id);
                let last_word = answer.to_vec();
                self.try_again(slot, Some(last_word), poll, outside, listeners);
            }
        }
    }

    /// Ends the tries whose time is over.
    pub fn expire(
        &mut self,
        now: Instant,
        poll: &Poll,
        outside: &mut Outside,
        listeners: &Listeners,
    ) {
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|forward| forward.sent.deadline <= now)
            {
                self.try_again(slot, None, poll, outside, listeners);
            }
        }
    }

    /// Asks the next resolver; when none is left, `last_word` or a failure goes back.
    fn try_again(
        &mut self,
        slot: usize,
        last_word: Option<Vec<u8>>,
        poll: &Poll,
        outside: &mut Outside,
        listeners: &Listeners,
    ) {
        let Some(mut forward) = self.slots[slot].take() else {
            return;
        };
        // A resolver that answered with a failure would do so again: each is asked once then.
        let enough = match &last_word {
            Some(_) => forward.tries >= outside.upstreams(*forward.client.ip()).count(),
            None => false,
        };
        let sent = match enough {
            true => None,
            false => {
                let client = *forward.client.ip();
                send(
                    slot,
                    client,
                    &forward.query,
                    &mut forward.tries,
                    poll,
                    outside,
                )
            }
        };
        match (sent, last_word) {
            (Some(sent), _) => self.slots[slot] = Some(Forward { sent, ..forward }),
            (None, Some(answer)) => {
                listeners.send(forward.gateway, &answer, forward.client.into());
            }
            (None, None) => fail(&forward.query, forward.client, forward.gateway, listeners),
        }
    }
}

/// Sends to the next resolver that can be sent to; `None` when all tries are used up.
fn send(
    slot: usize,
    client: Ipv4Addr,
    query: &[u8],
    tries: &mut usize,
    poll: &Poll,
    outside: &Outside,
) -> Option<Sent> {
    let token = Token::Forward(u32::try_from(slot).ok()?);
    let upstreams = outside.upstreams(client);
    while *tries < TRIES.max(upstreams.count()) {
        let (number, upstream) = upstreams.choose(*tries)?;
        *tries += 1;
        let attempt = || -> io::Result<Sent> {
            let socket = outside.socket(upstream, SocketType::DGRAM)?;
            let address = upstream
                .address(&socket)
                .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
            rustix::net::connect(&socket, &address)?;
            let id = random_id()?;
            let mut message = query.to_vec();
            message::set_id(&mut message, id);
            let socket = UdpSocket::from(socket);
            socket.send(&message)?;
            poll.add(&socket, token, EventFlags::IN)?;
            Ok(Sent {
                socket,
                id,
                upstream: number,
                deadline: Instant::now() + TRY,
            })
        };
        match attempt() {
            Ok(sent) => return Some(sent),
            Err(error) => tracing::debug!(%error, "resolver not asked"),
        }
    }
    None
}

fn fail(query: &[u8], client: SocketAddrV4, gateway: Ipv4Addr, listeners: &Listeners) {
    if let Ok(query) = message::parse(query) {
        listeners.send(gateway, &query.failure(), client.into());
    }
}
