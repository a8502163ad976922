//! A process beside the resolver that stays in the host's namespaces and opens there what the resolver
//! asks for: sockets towards other resolvers, and the file that names them.
//!
//! ```text
//!   containers ──questions──► resolver (router's namespace, its folder)
//!                                │ two bytes            ▲ a descriptor
//!                                ▼                      │
//!                             helper (host's namespaces, as nobody in particular)
//! ```
//!
//! With it the resolver, which reads what strangers send, needs no right to change namespaces and no
//! view of the host's files. The helper reads nothing but those two bytes, and ends with the resolver.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use havre_confine::{Confinement, DNS_USER, Filter, Rule, allow};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
    socketpair, sockopt,
};
use rustix::thread::CapabilitySet;

use super::complaint::complain;

/// What is asked for: a family and a kind, or the file.
type Request = [u8; 2];
const FILE: Request = *b"rc";
/// Longest wait for an answer of a process that does next to nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The helper, as seen by its resolver.
pub struct Helper {
    connection: OwnedFd,
}

impl Helper {
    /// Starts it, in the namespaces of this process, which has one thread. `resolv_conf` is the file.
    pub fn start(resolv_conf: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // SAFETY: the process has one thread, so the child may do anything.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                drop(here);
                help(&there, resolv_conf);
                // SAFETY: ends this process alone; what its parent has buffered is the parent's.
                unsafe { libc::_exit(0) }
            }
            _child => drop(there),
        }
        sockopt::set_socket_timeout(&here, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let helper = Self { connection: here };
        // It answers once it is confined, whether or not there is such a file.
        drop(helper.resolv_conf());
        Ok(helper)
    }

    /// A non-blocking socket in the host's network namespace.
    pub fn socket(&self, v6: bool, kind: SocketType) -> io::Result<OwnedFd> {
        let family = if v6 { b'6' } else { b'4' };
        let kind = if kind == SocketType::DGRAM {
            b'd'
        } else {
            b's'
        };
        self.ask([family, kind])
    }

    /// The host's resolv.conf, as it is now.
    pub fn resolv_conf(&self) -> io::Result<File> {
        self.ask(FILE).map(File::from)
    }

    fn ask(&self, request: Request) -> io::Result<OwnedFd> {
        let answer = rustix::net::send(&self.connection, &request, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)
            .and_then(|_| receive(&self.connection));
        match answer {
            Ok(Answer::Descriptor(descriptor)) => Ok(descriptor),
            Ok(Answer::Error(error)) => Err(error.into()),
            Err(error) => {
                // Without a helper there is no outside; the daemon starts another resolver.
                complain(&format!("the helper has gone: {error}"));
                std::process::exit(1);
            }
        }
    }
}

enum Answer {
    Descriptor(OwnedFd),
    Error(Errno),
}

fn receive(connection: &OwnedFd) -> io::Result<Answer> {
    let mut code = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut vector = [IoSliceMut::new(&mut code)];
    let received = recvmsg(
        connection,
        &mut vector,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes != 4 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(match descriptor {
        Some(descriptor) => Answer::Descriptor(descriptor),
        None => Answer::Error(Errno::from_raw_os_error(i32::from_ne_bytes(code))),
    })
}

/// The helper's whole life.
fn help(connection: &OwnedFd, resolv_conf: &Path) {
    let confinement = Confinement {
        user: DNS_USER,
        capabilities: CapabilitySet::empty(),
        // It opens one file, which may be a link to anywhere, when it is asked.
        folders: None,
        filter: filter(),
    };
    if let Err(error) = confinement.enter() {
        return complain(&havre_base::one_line(&error));
    }
    let mut request: Request = [0; 2];
    loop {
        match rustix::net::recv(connection, &mut request, RecvFlags::empty()) {
            Ok((2, _)) => {}
            Err(Errno::INTR) => continue,
            // The resolver has ended.
            Ok(_) | Err(_) => return,
        }
        if answer(connection, open(request, resolv_conf)).is_err() {
            return;
        }
    }
}

fn open(request: Request, resolv_conf: &Path) -> io::Result<OwnedFd> {
    if request == FILE {
        return File::open(resolv_conf).map(OwnedFd::from);
    }
    let family = match request[0] {
        b'4' => AddressFamily::INET,
        b'6' => AddressFamily::INET6,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let kind = match request[1] {
        b'd' => SocketType::DGRAM,
        b's' => SocketType::STREAM,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, kind, flags, None)?)
}

/// The descriptor, or the error's number.
fn answer(connection: &OwnedFd, opened: io::Result<OwnedFd>) -> rustix::io::Result<()> {
    let code = match &opened {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL),
    };
    let bytes = code.to_ne_bytes();
    let descriptor = opened.ok();
    let descriptor = descriptor.as_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptor) = &descriptor
        && !control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
            descriptor,
        )))
    {
        return Err(Errno::NOBUFS);
    }
    let vector = [IoSlice::new(&bytes)];
    sendmsg(connection, &vector, &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn filter() -> Filter {
    const CALLS: &[i64] = &[
        libc::SYS_brk,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_fcntl,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_openat,
        libc::SYS_recvfrom,
        libc::SYS_restart_syscall,
        libc::SYS_rt_sigreturn,
        libc::SYS_sendmsg,
        libc::SYS_write,
    ];
    const FAMILIES: &[u32] = &[libc::AF_INET as u32, libc::AF_INET6 as u32];
    Filter::new(allow(CALLS).chain([(libc::SYS_socket, Rule::Only(FAMILIES))]))
}
