//! Questions over TCP: a client's connection, and while a question is passed on, one to a
//! resolver of the host. A message is preceded by its length in two bytes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketType;

use super::known::{Known, Reply};
use super::message::{self, LARGEST_QUESTION, Transport, Verdict};
use super::outside::{Outside, random_id};
use super::poll::{Poll, Token};
use super::upstream::Upstream;

/// Most connections of clients.
const MOST: usize = 64;
/// Most of one client, so that it does not take all places.
const MOST_OF_ONE: usize = 16;
/// Time for a client to send a question, or to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for one resolver, connecting included.
const TRY: Duration = Duration::from_secs(3);

struct Connection {
    stream: TcpStream,
    client: Ipv4Addr,
    gateway: Ipv4Addr,
    /// Bytes of questions not yet taken.
    input: Vec<u8>,
    phase: ConnectionPhase,
    deadline: Instant,
}

enum ConnectionPhase {
    Reading,
    Asking(Asking),
    Writing(Outgoing),
}

/// A question at a resolver.
struct Asking {
    query: Vec<u8>,
    tries: usize,
    upstream: usize,
    stream: TcpStream,
    id: u16,
    outgoing: Outgoing,
    incoming: Vec<u8>,
}

/// Bytes on their way out.
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    fn message(message: &[u8]) -> Self {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&message[..usize::from(length)]);
        Self { bytes, written: 0 }
    }

    /// Writes what can be written; true when all is.
    fn write(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        while let Some(rest) = self
            .bytes
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// A whole message at the start of `input`.
fn first_message(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// What comes of handling an event.
enum Step {
    Stay,
    Close,
}

/// All connections of clients.
#[derive(Default)]
pub struct Connections {
    slots: Vec<Option<Connection>>,
}

impl Connections {
    /// When the next deadline is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.slots
            .iter()
            .flatten()
            .map(|connection| connection.deadline)
            .min()
    }

    /// Takes new connections; those beyond the bounds are closed at once.
    pub fn accept(&mut self, listener: &TcpListener, gateway: Ipv4Addr, poll: &Poll) {
        for _ in 0..MOST {
            let (stream, SocketAddr::V4(client)) = (match listener.accept() {
                Ok(accepted) => accepted,
                Err(_) => return,
            }) else {
                continue;
            };
            let client = *client.ip();
            let of_client = self
                .slots
                .iter()
                .flatten()
                .filter(|it| it.client == client)
                .count();
            let Some(slot) = self.free_slot().filter(|_| of_client < MOST_OF_ONE) else {
                continue;
            };
            let token = Token::Client(slot as u32);
            let ready = stream
                .set_nonblocking(true)
                .and_then(|()| poll.add(&stream, token, EventFlags::IN));
            if ready.is_ok() {
                self.slots[slot] = Some(Connection {
                    stream,
                    client,
                    gateway,
                    input: Vec::new(),
                    phase: ConnectionPhase::Reading,
                    deadline: Instant::now() + PATIENCE,
                });
            }
        }
    }

    fn free_slot(&mut self) -> Option<usize> {
        if let Some(slot) = self.slots.iter().position(Option::is_none) {
            return Some(slot);
        }
        (self.slots.len() < MOST).then(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// A client's connection is ready.
    pub fn client(&mut self, slot: u32, poll: &Poll, known: &mut Known, outside: &mut Outside) {
        self.step(slot, |connection| {
            connection.on_client(slot, poll, known, outside)
        });
    }

    /// A resolver's connection is ready.
    pub fn upstream(&mut self, slot: u32, poll: &Poll, known: &mut Known, outside: &mut Outside) {
        self.step(slot, |connection| {
            connection.on_upstream(slot, poll, known, outside)
        });
    }

    /// Ends what takes too long.
    pub fn expire(&mut self, now: Instant, poll: &Poll, outside: &mut Outside) {
        for slot in 0..self.slots.len() {
            if self.slots[slot]
                .as_ref()
                .is_some_and(|connection| connection.deadline <= now)
            {
                let slot = slot as u32;
                self.step(slot, |connection| {
                    connection.on_deadline(slot, poll, outside)
                });
            }
        }
    }

    fn step(&mut self, slot: u32, work: impl FnOnce(&mut Connection) -> io::Result<Step>) {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let Some(connection) = place else { return };
        // An error of a connection is its end and nobody else's concern.
        if !matches!(work(connection), Ok(Step::Stay)) {
            *place = None;
        }
    }
}

impl Connection {
    fn on_client(
        &mut self,
        slot: u32,
        poll: &Poll,
        known: &mut Known,
        outside: &mut Outside,
    ) -> io::Result<Step> {
        match &mut self.phase {
            ConnectionPhase::Reading => {
                if self.read()? == 0 {
                    return Ok(Step::Close);
                }
                self.next_question(slot, poll, known, outside)
            }
            // Only an error or a hang-up is reported while a resolver is asked.
            ConnectionPhase::Asking(_) => Ok(Step::Close),
            ConnectionPhase::Writing(outgoing) => {
                if !outgoing.write(&mut self.stream)? {
                    return Ok(Step::Stay);
                }
                self.phase = ConnectionPhase::Reading;
                self.deadline = Instant::now() + PATIENCE;
                self.next_question(slot, poll, known, outside)
            }
        }
    }

    /// Reads at most one question's worth; 0 at the end of the stream.
    fn read(&mut self) -> io::Result<usize> {
        let mut room = [0; 2 + LARGEST_QUESTION];
        let free = room.len().saturating_sub(self.input.len()).max(1);
        match self.stream.read(&mut room[..free]) {
            Ok(length) => {
                self.input.extend_from_slice(&room[..length]);
                Ok(length)
            }
            // Not the end: something else than 0.
            Err(error) if would_block(&error) => Ok(1),
            Err(error) => Err(error),
        }
    }

    /// Starts on the next question that is there in full, or waits for it.
    fn next_question(
        &mut self,
        slot: u32,
        poll: &Poll,
        known: &mut Known,
        outside: &mut Outside,
    ) -> io::Result<Step> {
        let token = Token::Client(slot);
        let Some(question) = first_message(&self.input).map(<[u8]>::to_vec) else {
            if self.input.len() >= 2 + LARGEST_QUESTION {
                return Ok(Step::Close);
            }
            poll.change(&self.stream, token, EventFlags::IN)?;
            return Ok(Step::Stay);
        };
        self.input.drain(..2 + question.len());
        match known.answer(&question, self.client, self.gateway, Transport::Tcp) {
            Reply::Now(answer) => self.write(slot, poll, &answer),
            Reply::Nothing => Ok(Step::Close),
            Reply::PassOn => {
                outside.refresh(self.client, Instant::now());
                poll.change(&self.stream, token, EventFlags::empty())?;
                self.ask(slot, question, 0, poll, outside)
            }
        }
    }

    /// Sends an answer; the next event goes on with it.
    fn write(&mut self, slot: u32, poll: &Poll, answer: &[u8]) -> io::Result<Step> {
        self.phase = ConnectionPhase::Writing(Outgoing::message(answer));
        self.deadline = Instant::now() + PATIENCE;
        poll.change(&self.stream, Token::Client(slot), EventFlags::OUT)?;
        Ok(Step::Stay)
    }

    /// Asks the next resolver after `tries`; with none left the answer is a failure.
    fn ask(
        &mut self,
        slot: u32,
        query: Vec<u8>,
        mut tries: usize,
        poll: &Poll,
        outside: &Outside,
    ) -> io::Result<Step> {
        let upstreams = outside.upstreams(self.client);
        while tries < upstreams.count() {
            let Some((number, upstream)) = upstreams.choose(tries) else {
                break;
            };
            let connected = connect(slot, upstream, poll, outside);
            tries += 1;
            match connected {
                Ok(stream) => {
                    let id = random_id()?;
                    let mut message = query.clone();
                    message::set_id(&mut message, id);
                    self.deadline = Instant::now() + TRY;
                    self.phase = ConnectionPhase::Asking(Asking {
                        outgoing: Outgoing::message(&message),
                        incoming: Vec::new(),
                        query,
                        tries,
                        upstream: number,
                        stream,
                        id,
                    });
                    return Ok(Step::Stay);
                }
                Err(error) => tracing::debug!(%error, "resolver not asked"),
            }
        }
        let failure = message::parse(&query).map(|query| query.failure());
        match failure {
            Ok(failure) => self.write(slot, poll, &failure),
            Err(_) => Ok(Step::Close),
        }
    }

    fn on_upstream(
        &mut self,
        slot: u32,
        poll: &Poll,
        known: &mut Known,
        outside: &mut Outside,
    ) -> io::Result<Step> {
        let ConnectionPhase::Asking(asking) = &mut self.phase else {
            return Ok(Step::Stay);
        };
        match asking.go_on(slot, poll) {
            Ok(None) => Ok(Step::Stay),
            Ok(Some(answer)) => {
                outside.upstreams_mut(self.client).answered(asking.upstream);
                let step = self.write(slot, poll, &answer)?;
                match step {
                    Step::Stay => self.on_client(slot, poll, known, outside),
                    Step::Close => Ok(Step::Close),
                }
            }
            Err(_) => self.give_up(slot, poll, outside),
        }
    }

    fn on_deadline(&mut self, slot: u32, poll: &Poll, outside: &Outside) -> io::Result<Step> {
        match self.phase {
            ConnectionPhase::Asking(_) => self.give_up(slot, poll, outside),
            ConnectionPhase::Reading | ConnectionPhase::Writing(_) => Ok(Step::Close),
        }
    }

    /// Leaves a resolver for the next one.
    fn give_up(&mut self, slot: u32, poll: &Poll, outside: &Outside) -> io::Result<Step> {
        match std::mem::replace(&mut self.phase, ConnectionPhase::Reading) {
            ConnectionPhase::Asking(asking) => {
                self.ask(slot, asking.query, asking.tries, poll, outside)
            }
            ConnectionPhase::Reading | ConnectionPhase::Writing(_) => Ok(Step::Close),
        }
    }
}

impl Asking {
    /// Sends and receives what can be; the answer under the client's number when it is whole.
    fn go_on(&mut self, slot: u32, poll: &Poll) -> io::Result<Option<Vec<u8>>> {
        if self.outgoing.written < self.outgoing.bytes.len() {
            if !self.outgoing.write(&mut self.stream)? {
                return Ok(None);
            }
            poll.change(&self.stream, Token::Upstream(slot), EventFlags::IN)?;
        }
        let mut room = [0; 4096];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // Bounded: ends at the message's length, which has 16 bits.
                Ok(length) => self.incoming.extend_from_slice(&room[..length]),
                Err(error) if would_block(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(answer) = first_message(&self.incoming) {
                let query = message::parse(&self.query).map_err(|_| io::ErrorKind::InvalidData)?;
                if message::judge(answer, self.id, query.question) != Verdict::Answer {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let mut answer = answer.to_vec();
                message::set_id(&mut answer, query.id);
                return Ok(Some(answer));
            }
        }
    }
}

/// A connection under way to the resolver.
fn connect(
    slot: u32,
    upstream: &Upstream,
    poll: &Poll,
    outside: &Outside,
) -> io::Result<TcpStream> {
    let unavailable = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    let socket = outside.socket(upstream, SocketType::STREAM)?;
    let address = upstream.address(&socket).ok_or_else(unavailable)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    poll.add(&socket, Token::Upstream(slot), EventFlags::OUT)?;
    Ok(TcpStream::from(socket))
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole() {
        assert_eq!(first_message(&[]), None);
        assert_eq!(first_message(&[0]), None);
        assert_eq!(first_message(&[0, 2, 7]), None);
        assert_eq!(first_message(&[0, 2, 7, 8, 9]), Some(&[7, 8][..]));
        assert_eq!(first_message(&[0, 0]), Some(&[][..]));
        assert_eq!(Outgoing::message(&[7, 8]).bytes, [0, 2, 7, 8]);
    }
}
