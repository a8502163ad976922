//! The event loop of the resolver: listeners of every network, changes of its files, time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::changes::{Change, Changes};
use super::complaint::complain;
use super::helper::Helper;
use super::known::{Known, Reply};
use super::listeners::Listeners;
use super::message::{LARGEST_QUESTION, Transport};
use super::outside::Outside;
use super::poll::{Poll, Token};
use super::tcp::Connections;
use super::udp::Forwards;
use super::view::{View, Zone};
use crate::config::Places;
use crate::error::NetError;
use crate::files;

/// Questions of one network answered before the others get their turn.
const BATCH: usize = 32;

/// The resolver.
pub struct Server {
    places: Places,
    poll: Poll,
    changes: Changes,
    outside: Outside,
    known: Known,
    listeners: Listeners,
    forwards: Forwards,
    connections: Connections,
    /// The last complaint about the files, so that it is made once.
    complaint: String,
    buffer: Vec<u8>,
}

impl Server {
    /// Listens in the namespace of this process, the router's.
    pub fn start(places: Places, changes: Changes, helper: Helper) -> io::Result<Self> {
        let poll = Poll::new()?;
        poll.add(&changes, Token::Files, EventFlags::IN)?;
        let mut server = Self {
            places,
            poll,
            changes,
            outside: Outside::new(helper),
            known: Known::default(),
            listeners: Listeners::default(),
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
        loop {
            let next = [
                self.forwards.next_deadline(),
                self.connections.next_deadline(),
            ];
            for token in self.poll.wait(next.into_iter().flatten().min())? {
                if self.handle(token)? == Next::End {
                    return Ok(());
                }
            }
            let now = Instant::now();
            self.forwards
                .expire(now, &self.poll, &mut self.outside, &self.listeners);
            self.connections.expire(now, &self.poll, &mut self.outside);
        }
    }

    fn handle(&mut self, token: Token) -> io::Result<Next> {
        match token {
            Token::Files => return self.take_changes(),
            Token::Udp(gateway) => return self.questions(gateway),
            Token::Tcp(gateway) => {
                if let Some(listener) = self.listeners.at(gateway) {
                    self.connections.accept(&listener.tcp, gateway, &self.poll);
                }
            }
            Token::Forward(slot) => self.forwards.answered(
                slot,
                &mut self.buffer,
                &self.poll,
                &mut self.outside,
                &self.listeners,
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
            let Some(listener) = self.listeners.at(gateway) else {
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
                Reply::Now(answer) => listener.send(&answer, client.into()),
                Reply::PassOn => self.forwards.begin(
                    question,
                    client,
                    gateway,
                    &self.poll,
                    &mut self.outside,
                    &self.listeners,
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
                    complain(&complaint);
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
        self.listeners.set(&zones, &self.poll)?;
        let view = View::new(zones, leases, records, foreign);
        self.outside.set_own(&view.resolvers);
        self.known.replace(view);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}
