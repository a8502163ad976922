//! From a fork of the shim to the running program: what happens between `clone3` and `execve`.
//!
//! ```text
//! shim ── clone3 ──► child: namespaces, mounts, pivot_root, devices, user, seccomp, execve
//!   │  ◄── socket ──   'T' + descriptor: terminal   'R': about to run   'E' text: failed
//!   │                  'S' + descriptor: folder of secrets
//!   │                then the end of the connection: running
//!   └──── 'G' ────►    the cgroups of version 1 are joined
//! ```
//! A further process of a running container is set up outside of its process namespace, where nobody
//! in the container can see it, and then forks a sibling into it: `'P'` + pidfd tells the shim of it, and a second `'G'` lets it go on.
//!
//! The shim has one thread and little memory, so forking it is safe and cheap, and no other
//! program is loaded on the way. Own code rather than libcontainer's: its exec path drops
//! seccomp and the user, its state is process-wide and it needs a bundle on disk; here init and
//! exec'd processes go through the same `process::become_and_exec`.

pub mod caps;
mod descriptors;
mod host;
pub mod idmap;
mod kernel;
mod mounts;
mod process;
mod reaper;
mod rootfs;
pub mod seccomp;
mod secrets;
pub mod source;
mod subpath;
pub mod user;
pub mod volume;

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
        havre_base::one_line(self)
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
    /// The folder of its secrets, to write to.
    Secrets(OwnedFd),
    /// What is being set up is another process from now on. A container may have forged this.
    Moved(OwnedFd),
    /// It failed, with what a shell would return.
    Failed { exit_code: i32, reason: String },
    /// It is about to run its program.
    Executing,
    /// After `Executing`: the program runs. Otherwise it died, as its pidfd tells.
    Done,
    /// Nothing yet.
    Pending,
}

/// Starts a container's first process. `stdio` is `None` for a terminal; `parcel` has the contents of
/// its secrets.
pub fn start_container(
    spec: &ContainerSpec,
    rootfs: &Path,
    cgroup: &Cgroup,
    stdio: Option<Stdio>,
    parcel: Option<BorrowedFd>,
) -> Result<Starting, SetupError> {
    let users = spec.security.user_namespace.map(|range| {
        let map = idmap::plain(range);
        idmap::namespace(range.owner(&spec.id), &map, &map)
    });
    let users = users.transpose();
    let users = step(users, || "create the container's user namespace".to_owned())?;
    let users = users.as_ref().map(AsFd::as_fd);
    let what = "create the container's namespaces";
    start(own_namespaces(spec), cgroup, what, |socket| {
        process::container(spec, rootfs, cgroup, (stdio, parcel), users, socket)
    })
}

/// Starts one more process in a running container. `init` is the pidfd of the container's first
/// process.
pub fn start_exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    cgroup: &Cgroup,
    init: BorrowedFd,
    stdio: Option<Stdio>,
    parcel: Option<BorrowedFd>,
) -> Result<Starting, SetupError> {
    start(0, cgroup, "start a process in the container", |socket| {
        process::exec(spec, request, init, stdio, parcel, socket)
    })
}

/// What a new container does not have in common with the host.
fn own_namespaces(spec: &ContainerSpec) -> i32 {
    let shares = &spec.shares;
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
    for (own, flag) in [
        (!shares.pid, libc::CLONE_NEWPID),
        (!shares.ipc, libc::CLONE_NEWIPC),
        // A given one is joined.
        (!shares.network && spec.netns.is_none(), libc::CLONE_NEWNET),
    ] {
        flags |= if own { flag } else { 0 };
    }
    flags
}

/// Forks a process that sets itself up as `set_up` says, which returns only with why it could not.
fn start(
    namespaces: i32,
    cgroup: &Cgroup,
    what: &str,
    set_up: impl FnOnce(BorrowedFd) -> SetupError,
) -> Result<Starting, SetupError> {
    let (ours, theirs) = step(socket_pair(), || "create a socket".to_owned())?;
    let v2 = cgroup
        .open_v2()
        .map_err(|e| SetupError::Refused(e.to_string()))?;
    // SAFETY: the shim is single-threaded.
    let forked = unsafe { sys::fork(namespaces, v2.as_ref().map(AsFd::as_fd)) };
    match step(forked, || what.to_owned())? {
        None => {
            drop(ours);
            let failure = set_up(theirs.as_fd());
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

/// Puts the child into its cgroups and lets it go on.
fn release(starting: &Starting, cgroup: &Cgroup) -> Result<(), SetupError> {
    cgroup.attach_v1(starting.pid).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}"));
        SetupError::Refused(format!("{error}{}", cause.unwrap_or_default()))
    })?;
    step(go_on(&starting.socket), || {
        "speak to the process being set up".to_owned()
    })
}

/// Lets a process being set up go on.
pub fn go_on(socket: &OwnedFd) -> io::Result<()> {
    match sys::send(socket, b"G", &[]) {
        // One that has failed meanwhile has said why; that message is read later.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
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

/// Text for a person, who may read it on a terminal: with `CAP_SYS_PTRACE` a container can write it.
fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.replace(|c: char| c.is_control(), " ")
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
            ([b'S'], Some(folder)) => Ok(Progress::Secrets(folder)),
            ([b'P'], Some(pidfd)) => Ok(Progress::Moved(pidfd)),
            ([b'R'], None) => Ok(Progress::Executing),
            ([b'E', code, text @ ..], _) => Ok(Progress::Failed {
                exit_code: i32::from(*code),
                reason: plain(text),
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "unexpected message",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_may_have_written_is_plain_text() {
        let (ours, theirs) = socket_pair().expect("sockets");
        sys::send(&theirs, b"E\x7eno \x1b[2Jway\n\xff", &[]).expect("sent");
        match progress(ours.as_fd()).expect("a message") {
            Progress::Failed { exit_code, reason } => {
                assert_eq!((exit_code, reason.as_str()), (126, "no  [2Jway \u{fffd}"));
            }
            _ => panic!("another message"),
        }
    }
}
