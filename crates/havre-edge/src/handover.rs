//! A new edge takes over from the one that runs, without a connection refused or reset: the listening
//! sockets themselves are passed on, and with them what the kernel has queued.
//!
//! ```text
//!  new: connects to edge-handover.sock (SOCK_SEQPACKET)
//!  old: one message per socket, the descriptor attached: {"listener": …}, "lock", …
//!       {"end": {"pid": …}}
//!  new: serves; moves its control socket into place; {"takeover": {"grace_ms": …}}
//!  old: takes no more connections, finishes what is under way, ends: the connection closes
//! ```
//!
//! Until the new one has said its last word, the old one goes on as if nothing had happened. Whoever
//! only wants duplicates of the sockets ([`crate::KeptSockets`]) says `"kept"` instead, and the old
//! one goes on for good.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::complain::complain;
use crate::control_server;
use crate::listen::Wanted;

const SOCKET: &str = "edge-handover.sock";
/// For each step of the other side; the new edge loads certificates in one of them.
const STEP: Duration = Duration::from_secs(30);
/// Of one message.
const MESSAGE: usize = 1024;
/// Sockets that are taken: far more than any edge has, and no more than that. Who hands them over may
/// have been taken over himself.
const MOST_SOCKETS: usize = 16 * 1024;
/// For all of them.
const EXCHANGE: Duration = Duration::from_secs(60);

/// What passes from whoever has sockets to who gets them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Listener(Wanted),
    Lock,
    End { pid: u32 },
}

/// The last word of who got them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// It serves; the old edge is to end.
    Takeover { grace_ms: u64 },
    /// It holds them.
    Kept,
}

/// What an edge hands over.
#[derive(Debug, Default)]
pub struct Heritage {
    /// Listening sockets, and those for datagrams.
    pub listeners: Vec<(Wanted, Vec<Socket>)>,
    /// The lock on the run directory.
    pub lock: Option<File>,
}

/// The old edge, seen by the new one.
#[derive(Debug)]
pub struct Predecessor {
    connection: Socket,
    pid: u32,
}

/// A handover that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The old edge does not do its part.
    #[error("whoever has the sockets does not hand them over")]
    Exchange(#[source] io::Error),
    /// It says what this version does not understand.
    #[error("whoever has the sockets says what this version does not understand")]
    Message(#[source] serde_json::Error),
    /// It lacks something.
    #[error("whoever has the sockets hands over {0}")]
    Incomplete(&'static str),
}

/// Asks the edge in `run` for what it has; None if none runs there.
pub fn ask(run: &Path) -> Result<Option<(Heritage, Predecessor)>, HandoverError> {
    let connection = match connect(&run.join(SOCKET)) {
        Ok(connection) => connection,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(HandoverError::Exchange(error)),
    };
    let (heritage, pid) = receive_all(&connection)?;
    if heritage.lock.is_none() {
        return Err(HandoverError::Incomplete("no lock"));
    }
    Ok(Some((heritage, Predecessor { connection, pid })))
}

/// Everything the other side sends, and its process id.
pub fn receive_all(connection: &Socket) -> Result<(Heritage, u32), HandoverError> {
    let mut heritage = Heritage::default();
    let begin = Instant::now();
    for _ in 0..MOST_SOCKETS {
        if begin.elapsed() > EXCHANGE {
            return Err(HandoverError::Exchange(io::ErrorKind::TimedOut.into()));
        }
        let (bytes, descriptor) = receive(connection).map_err(HandoverError::Exchange)?;
        let message = serde_json::from_slice(&bytes).map_err(HandoverError::Message)?;
        match (message, descriptor) {
            (Message::Listener(wanted), Some(descriptor)) => {
                let socket = Socket::from(descriptor);
                match heritage
                    .listeners
                    .iter_mut()
                    .find(|(known, _)| *known == wanted)
                {
                    Some((_, sockets)) => sockets.push(socket),
                    None => heritage.listeners.push((wanted, vec![socket])),
                }
            }
            (Message::Lock, Some(descriptor)) => heritage.lock = Some(descriptor.into()),
            (Message::End { pid }, None) => return Ok((heritage, pid)),
            _ => return Err(HandoverError::Incomplete("a message without its socket")),
        }
    }
    Err(HandoverError::Incomplete("sockets without end"))
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.connect_timeout(&SockAddr::unix(path)?, STEP)?;
    limit_steps(&socket)?;
    Ok(socket)
}

/// Nobody waits for ever for the other side.
pub fn limit_steps(socket: &Socket) -> io::Result<()> {
    socket.set_read_timeout(Some(STEP))?;
    socket.set_write_timeout(Some(STEP))
}

impl Predecessor {
    /// Tells the old edge to finish. `running` holds its process id until it has ended.
    pub fn retire(mut self, grace: Duration, running: &Arc<AtomicU32>) -> io::Result<()> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.answer(&Answer::Takeover { grace_ms })?;
        running.store(self.pid, Ordering::Release);
        self.connection.set_read_timeout(Some(grace + STEP))?;
        let running = Arc::clone(running);
        std::thread::Builder::new()
            .name("predecessor".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // The connection ends with its process; nothing is said before.
                drop(self.connection.read(&mut [0; 1]));
                running.store(0, Ordering::Release);
            })?;
        Ok(())
    }

    /// Tells the old edge that its sockets are held, and nothing else wanted of it.
    pub fn leave(mut self) -> io::Result<()> {
        self.answer(&Answer::Kept)
    }

    fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.connection.write_all(&serde_json::to_vec(answer)?)
    }
}

/// Of a thread that does nothing but wait.
pub const STACK: usize = 128 * 1024;

/// Waits, in a thread of its own, for a successor, and serves who keeps sockets until then.
/// `heritage` gives what there is to hand over; `retire` is called with the grace once a successor
/// has taken it.
pub fn offer(
    run: &Path,
    heritage: impl Fn() -> io::Result<Heritage> + Send + 'static,
    retire: impl Fn(Duration) + Send + 'static,
) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    control_server::move_into_place(&run.join(SOCKET), |new| {
        socket.bind(&SockAddr::unix(new)?)?;
        socket.listen(1)
    })?;
    std::thread::Builder::new()
        .name("handover".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            loop {
                let handed = socket.accept().and_then(|(other, _)| {
                    let answer = hand_over(&other, &heritage()?)?;
                    Ok((other, answer))
                });
                match handed {
                    Ok((successor, Answer::Takeover { grace_ms })) => {
                        retire(Duration::from_millis(grace_ms));
                        // Closed by the kernel when this process ends, which the successor waits for.
                        std::mem::forget(successor);
                        return;
                    }
                    Ok((_, Answer::Kept)) => {}
                    Err(error) => complain!("edge: a handover did not happen: {error}"),
                }
            }
        })?;
    Ok(())
}

fn hand_over(mut other: &Socket, heritage: &Heritage) -> io::Result<Answer> {
    limit_steps(other)?;
    send_all(other, heritage)?;
    let mut answer = [0; MESSAGE];
    let length = other.read(&mut answer)?;
    Ok(serde_json::from_slice(&answer[..length])?)
}

/// What [`receive_all`] expects.
pub fn send_all(connection: &Socket, heritage: &Heritage) -> io::Result<()> {
    for (wanted, sockets) in &heritage.listeners {
        for socket in sockets {
            let message = Message::Listener(*wanted);
            send(connection, &message, Some(socket.as_fd()))?;
        }
    }
    if let Some(lock) = &heritage.lock {
        send(connection, &Message::Lock, Some(lock.as_fd()))?;
    }
    let pid = std::process::id();
    send(connection, &Message::End { pid }, None)
}

fn send(socket: &Socket, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor {
        let rights = SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor));
        if !control.push(rights) {
            return Err(io::Error::other("no space for a descriptor"));
        }
    }
    sendmsg(
        socket,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn receive(socket: &Socket) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut vector = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, &mut vector, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    bytes.truncate(received.bytes);
    Ok((bytes, descriptor))
}
