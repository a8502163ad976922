//! Requests of daemons and their answers.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SocketFlags};

use super::life::Event;
use super::poller::Token;
use super::{NotReloaded, Shim};
use crate::protocol::{MAX_PACKET, Reply, Request, VERSION};
use crate::sys;

/// Most clients at once.
const MAX_CONNECTIONS: usize = 64;

/// One client.
pub struct Connection {
    socket: OwnedFd,
    /// Gets every change.
    subscribed: bool,
    /// The newest state has not been sent, since the client did not read.
    behind: bool,
}

impl Shim {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(_) => return,
        };
        if self.connections.len() + 1 >= MAX_CONNECTIONS {
            // The others wait in the socket's queue until one leaves.
            self.poller.remove(&self.listener);
        }
        let number = self.number();
        if let Err(error) = self.poller.add(&socket, Token::Connection(number)) {
            complain!("cannot watch a connection: {error}");
            return;
        }
        self.connections.insert(
            number,
            Connection {
                socket,
                subscribed: false,
                behind: false,
            },
        );
    }

    pub(super) fn connection_event(&mut self, number: u32, writable: bool) {
        if writable {
            self.catch_up(number);
        }
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        match read_packet(&connection.socket) {
            Ok(Some((bytes, fds))) => self.packet(number, &bytes, fds),
            Ok(None) => self.disconnect(number),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.disconnect(number),
        }
    }

    fn packet(&mut self, number: u32, bytes: &[u8], fds: Vec<OwnedFd>) {
        let reply = match serde_json::from_slice::<Request>(bytes) {
            Ok(request) => self.request(number, request, fds),
            Err(error) => refuse(format!("not understood: {error}")),
        };
        if let Some((reply, fd)) = reply {
            self.reply(number, &reply, fd.as_ref());
        }
    }

    /// `None`: the answer follows.
    fn request(
        &mut self,
        number: u32,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Option<(Reply, Option<OwnedFd>)> {
        match request {
            Request::Hello => Some((
                Reply::Hello {
                    version: VERSION,
                    generation: self.meta.generation,
                    shim_pid: std::process::id(),
                },
                None,
            )),
            Request::State => {
                self.refresh();
                Some((self.state(), None))
            }
            Request::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.subscribed = true;
                }
                self.refresh();
                Some((self.state(), None))
            }
            Request::Signal { .. } if !self.is_running() => Some((Reply::NotRunning, None)),
            Request::Signal { signal } => match self.signal(signal) {
                Ok(()) => Some((Reply::Done, None)),
                Err(error) => refuse(format!("cannot send signal {signal}: {error}")),
            },
            Request::Stop { grace_ms } => {
                self.reply(number, &Reply::Done, None);
                self.happened(Event::Stop(self.grace(grace_ms)));
                None
            }
            Request::Restart { grace_ms } => {
                self.reply(number, &Reply::Done, None);
                self.happened(Event::Restart(self.grace(grace_ms)));
                None
            }
            Request::Exec(exec) => self.client_exec(number, exec, fds).map(|r| (r, None)),
            Request::Attach => self.attach(),
            Request::Entrust {
                filter,
                parcel,
                contents,
            } => match self.entrust(filter, parcel, contents, fds) {
                Ok(()) => Some((Reply::Done, None)),
                Err(error) => refuse(format!("cannot take new secrets: {error}")),
            },
            Request::Reload { contents, signal } => match self.reload(&contents, signal) {
                Ok(()) => Some((Reply::Done, None)),
                Err(NotReloaded::NotRunning) => Some((Reply::NotRunning, None)),
                Err(NotReloaded::Other) => {
                    refuse("it was given other contents of secrets meanwhile".to_owned())
                }
                Err(NotReloaded::Deaf) => {
                    refuse("its first process has no handler for the signal".to_owned())
                }
                Err(NotReloaded::Signal(error)) => {
                    refuse(format!("cannot send the signal: {error}"))
                }
            },
            Request::Shutdown => {
                self.reply(number, &Reply::Done, None);
                self.happened(Event::Stop(Duration::ZERO));
                None
            }
        }
    }

    fn attach(&self) -> Option<(Reply, Option<OwnedFd>)> {
        if !self.is_running() {
            return Some((Reply::NotRunning, None));
        }
        match self.container.input.as_ref().map(OwnedFd::try_clone) {
            Some(Ok(input)) => Some((Reply::Input, Some(input))),
            Some(Err(error)) => refuse(format!("cannot share the input: {error}")),
            None => refuse("the container keeps no input open".to_owned()),
        }
    }

    fn grace(&self, grace_ms: Option<u64>) -> Duration {
        grace_ms.map_or(self.meta.spec.stop_grace, Duration::from_millis)
    }

    /// Sends one answer; a client that does not read its answers is dropped.
    pub(super) fn reply(&mut self, number: u32, reply: &Reply, fd: Option<&OwnedFd>) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        if send(&connection.socket, reply, fd).is_err() {
            self.disconnect(number);
        }
    }

    fn state(&self) -> Reply {
        Reply::State {
            observed: Box::new(self.observed.clone()),
        }
    }

    /// The newest state for every subscriber. A slow one gets it later, and only the newest.
    pub(super) fn broadcast(&mut self) {
        let reply = self.state();
        let mut gone = Vec::new();
        for (number, connection) in self.connections.iter_mut().filter(|(_, c)| c.subscribed) {
            match send(&connection.socket, &reply, None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let token = Token::Connection(*number);
                    connection.behind = true;
                    if self
                        .poller
                        .want_write(&connection.socket, token, true)
                        .is_err()
                    {
                        gone.push(*number);
                    }
                }
                Err(_) => gone.push(*number),
            }
        }
        gone.into_iter().for_each(|number| self.disconnect(number));
    }

    fn catch_up(&mut self, number: u32) {
        self.refresh();
        let reply = self.state();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if !connection.behind {
            return;
        }
        match send(&connection.socket, &reply, None) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.disconnect(number),
            Ok(()) => {
                connection.behind = false;
                let token = Token::Connection(number);
                if self
                    .poller
                    .want_write(&connection.socket, token, false)
                    .is_err()
                {
                    self.disconnect(number);
                }
            }
        }
    }

    /// Forgets a client, and ends the process it had started.
    fn disconnect(&mut self, number: u32) {
        if let Some(connection) = self.connections.remove(&number) {
            self.poller.remove(&connection.socket);
            if self.connections.len() + 1 == MAX_CONNECTIONS
                && let Err(error) = self.poller.add(&self.listener, Token::Listener)
            {
                complain!("cannot listen any more: {error}");
            }
            self.client_gone(number);
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the form of every answer of `request`"
)]
fn refuse(reason: String) -> Option<(Reply, Option<OwnedFd>)> {
    Some((Reply::Error { reason }, None))
}

fn send(socket: &OwnedFd, reply: &Reply, fd: Option<&OwnedFd>) -> io::Result<()> {
    let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    sys::send(socket, &serde_json::to_vec(reply)?, &fds)
}

/// Reads a packet into no more memory than it needs.
fn read_packet(socket: &OwnedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (_, len) = rustix::net::recv(socket, &mut [0u8; 1][..], flags)?;
    if len > MAX_PACKET {
        return Err(io::Error::new(ErrorKind::InvalidData, "packet too large"));
    }
    let mut bytes = vec![0; len.max(1)];
    Ok(sys::receive(socket, &mut bytes, false)?.map(|(len, fds)| {
        bytes.truncate(len);
        (bytes, fds)
    }))
}
