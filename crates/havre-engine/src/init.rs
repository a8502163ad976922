//! From a fork of the shim to the running program: what happens between `clone3` and `execve`.
//!
//! ```text
//! shim ── clone3 ──► child: namespaces, mounts, pivot_root, devices, user, seccomp, execve
//!   │  ◄── socket ──   'T' + descriptor: terminal   'R': about to run   'E' text: failed
//!   │                then the end of the connection: running
//!   └──── 'G' ────►    the cgroups of version 1 are joined
//! ```
//! The shim has one thread and little memory, so forking it is safe and cheap, and no other
//! program is loaded on the way. Own code rather than libcontainer's: its exec path drops
//! seccomp and the user, its state is process-wide and it needs a bundle on disk; here init and
//! exec'd processes go through the same `process::become_and_exec`.

pub mod caps;
mod process;
mod reaper;
mod rootfs;
pub mod seccomp;
mod subpath;
pub mod user;
mod volume;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::cgroup::Cgroup;
use crate::spec::ContainerSpec;
use crate::sys;
pub use process::{ExecRequest, is_ulimit};

/// Set-up failed; the text goes to a person.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A system call.
    #[error("cannot {what}")]
    Step {
        /// What was attempted, on what.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Something in the request itself.
    #[error("{0}")]
    Refused(String),
    /// The account.
    #[error(transparent)]
    User(#[from] user::UserError),
    /// A capability.
    #[error(transparent)]
    Capability(#[from] caps::UnknownCapability),
    /// The program is not there.
    #[error("{0}")]
    NotFound(String),
    /// The program is there and cannot be executed.
    #[error("{0}")]
    NotExecutable(String),
}

impl SetupError {
    /// What a shell would return.
    fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            _ => 126,
        }
    }

    /// The error and its causes on one line.
    fn line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Names a step for its error.
fn step<T, E: Into<io::Error>>(
    result: Result<T, E>,
    what: impl FnOnce() -> String,
) -> Result<T, SetupError> {
    result.map_err(|source| SetupError::Step {
        what: what(),
        source: source.into(),
    })
}

/// Standard input, output and error of a process to be.
pub struct Stdio {
    /// Read end or a file.
    pub stdin: OwnedFd,
    /// Write end or a file.
    pub stdout: OwnedFd,
    /// Write end or a file.
    pub stderr: OwnedFd,
}

/// A process being set up.
pub struct Starting {
    /// Host process id.
    pub pid: u32,
    /// Readable when it ends.
    pub pidfd: OwnedFd,
    /// Speaks the protocol above.
    pub socket: OwnedFd,
}

/// One message of a process being set up.
pub enum Progress {
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// It failed, with what a shell would return.
    Failed { exit_code: i32, reason: String },
    /// It is about to run its program.
    Executing,
    /// After `Executing`: the program runs. Otherwise it died, as its pidfd tells.
    Done,
    /// Nothing yet.
    Pending,
}

/// Starts a container's first process. `stdio` is `None` for a terminal.
pub fn start_container(
    spec: &ContainerSpec,
    rootfs: &Path,
    cgroup: &Cgroup,
    stdio: Option<Stdio>,
) -> Result<Starting, SetupError> {
    let (ours, theirs) = step(socket_pair(), || "create a socket".to_owned())?;
    let v2 = cgroup
        .open_v2()
        .map_err(|e| SetupError::Refused(e.to_string()))?;
    let mut flags =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spec.netns.is_none() {
        flags |= libc::CLONE_NEWNET;
    }
    // SAFETY: the shim is single-threaded.
    let forked = unsafe { sys::fork(flags, v2.as_ref().map(AsFd::as_fd)) };
    match step(forked, || "create the container's namespaces".to_owned())? {
        None => {
            drop(ours);
            let failure = process::container(spec, rootfs, cgroup, stdio, theirs.as_fd());
            report_and_exit(theirs.as_fd(), &failure)
        }
        Some(child) => {
            let starting = Starting {
                pid: child.pid,
                pidfd: child.pidfd,
                socket: ours,
            };
            release(&starting, cgroup).inspect_err(|_| abandon(&starting))?;
            Ok(starting)
        }
    }
}

/// Starts one more process in a running container. `own_pid_namespace` is the shim's, to return
/// to; `init` the pidfd of the container's first process.
pub fn start_exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    cgroup: &Cgroup,
    init: BorrowedFd,
    own_pid_namespace: BorrowedFd,
    stdio: Option<Stdio>,
) -> Result<Starting, SetupError> {
    let (ours, theirs) = step(socket_pair(), || "create a socket".to_owned())?;
    let v2 = cgroup
        .open_v2()
        .map_err(|e| SetupError::Refused(e.to_string()))?;
    // Only children enter the namespace; the shim itself stays where it is.
    step(sys::setns(init, libc::CLONE_NEWPID), || {
        "enter the container".to_owned()
    })?;
    // SAFETY: the shim is single-threaded.
    let forked = unsafe { sys::fork(0, v2.as_ref().map(AsFd::as_fd)) };
    if let Ok(None) = forked {
        drop(ours);
        let failure = process::exec(spec, request, init, stdio, theirs.as_fd());
        report_and_exit(theirs.as_fd(), &failure)
    }
    let back = sys::setns(own_pid_namespace, libc::CLONE_NEWPID);
    let forked = step(forked, || "start a process in the container".to_owned())?;
    let Some(child) = forked else {
        unreachable!("the child has left above")
    };
    let starting = Starting {
        pid: child.pid,
        pidfd: child.pidfd,
        socket: ours,
    };
    step(back, || {
        "return to the shim's own process namespace".to_owned()
    })
    .and_then(|()| release(&starting, cgroup))
    .inspect_err(|_| abandon(&starting))?;
    Ok(starting)
}

/// Puts the child into its cgroups and lets it go on.
fn release(starting: &Starting, cgroup: &Cgroup) -> Result<(), SetupError> {
    cgroup.attach_v1(starting.pid).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
        SetupError::Refused(format!("{error}{}", cause.unwrap_or_default()))
    })?;
    // A child that has failed meanwhile has said why; that message is read later.
    match sys::send(&starting.socket, b"G", &[]) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => step(Err(error), || {
            "speak to the process being set up".to_owned()
        }),
        _ => Ok(()),
    }
}

/// Ends a child whose set-up cannot go on; it has not run anything of the image.
fn abandon(starting: &Starting) {
    if sys::kill_pidfd(&starting.pidfd, libc::SIGKILL).is_ok() {
        while let Ok(None) = sys::reap(&starting.pidfd) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

fn report_and_exit(socket: BorrowedFd, failure: &SetupError) -> ! {
    let mut message = vec![b'E', failure.exit_code() as u8];
    message.extend(failure.line().bytes().take(4000));
    // Nobody is left to tell if this fails: the shim sees the end of the connection.
    drop(sys::send(socket, &message, &[]));
    sys::exit_now(failure.exit_code())
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Reads what a process being set up has to say, without waiting.
pub fn progress(socket: BorrowedFd) -> io::Result<Progress> {
    let mut buffer = [0; 4096];
    match sys::receive(socket, &mut buffer, false) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Pending),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Progress::Done),
        Err(error) => Err(error),
        Ok(None) => Ok(Progress::Done),
        Ok(Some((len, mut fds))) => match (&buffer[..len], fds.pop()) {
            ([b'T'], Some(master)) => Ok(Progress::Terminal(master)),
            ([b'R'], None) => Ok(Progress::Executing),
            ([b'E', code, text @ ..], _) => Ok(Progress::Failed {
                exit_code: i32::from(*code),
                reason: String::from_utf8_lossy(text).into_owned(),
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "unexpected message",
            )),
        },
    }
}
