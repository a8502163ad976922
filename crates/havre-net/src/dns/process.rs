//! The resolver's process: how it starts, and how others find it.
//!
//! It holds a POSIX record lock on `dns.lock` of its folder. The kernel tells who holds such a
//! lock and drops it with the process, so "is it alive, and which process is it" has one true
//! answer at any time: no pid file that can be stale, no number that can belong to another.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Pid, PidfdFlags};
use rustix::thread::LinkNameSpaceType;

use super::changes::Changes;
use super::complaint::complain;
use super::confine;
use super::helper::Helper;
use super::server::Server;
use crate::config::Places;

/// Where the C library looks for resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Longest identity that is read.
const IDENTITY: usize = 128;
/// What the child says when it serves.
const READY: u8 = 1;

/// Name of the lock in the resolver's folder.
pub const LOCK: &str = "dns.lock";

/// A resolver that is alive.
#[derive(Debug)]
pub struct Alive {
    /// Its number.
    pub pid: u32,
    /// Readable when it ends.
    pub pidfd: OwnedFd,
    /// What it runs, and where: see [`identity`].
    pub identity: String,
}

/// The process that holds the lock at `path`, if one does.
pub fn find(path: &Path) -> io::Result<Option<Alive>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(pid) = holder(&file)? else {
        return Ok(None);
    };
    let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Still the holder, so the descriptor is that of the holder.
    if holder(&file)? != Some(pid) {
        return Ok(None);
    }
    let mut identity = [0; IDENTITY];
    let length = file.read_at(&mut identity, 0)?;
    Ok(Some(Alive {
        pid: pid.as_raw_nonzero().get().cast_unsigned(),
        pidfd,
        identity: String::from_utf8_lossy(&identity[..length]).into_owned(),
    }))
}

fn holder(file: &File) -> io::Result<Option<Pid>> {
    let question = Flock::from(FlockType::ReadLock);
    Ok(rustix::process::fcntl_getlk(file, &question)?.and_then(|lock| lock.pid))
}

/// Changes with what a resolver gives up and what it reads, so that an older one is replaced.
const FORM: u32 = 3;

/// What the resolver of `dir` would be if it were started now: this version, in this form, in the
/// namespace that is pinned there.
pub fn identity(dir: &Path) -> io::Result<String> {
    let router = Places {
        dir: dir.to_owned(),
    }
    .router();
    let inode = std::fs::metadata(router)?.ino();
    Ok(format!("{} {FORM} {inode}", env!("CARGO_PKG_VERSION")))
}

/// The process itself: `havre dns FOLDER`. Returns once a child serves, or with its failure on
/// standard error; the child goes on by itself.
pub fn main(dir: &OsStr) -> ExitCode {
    let dir = PathBuf::from(dir);
    match start(&dir) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!(
                "cannot start the resolver of {}: {}",
                dir.display(),
                havre_base::one_line(&error)
            ));
            ExitCode::FAILURE
        }
    }
}

fn start(dir: &Path) -> io::Result<ExitCode> {
    let (ready, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the process has one thread, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ready);
            serve(dir, tell)?;
            Ok(ExitCode::SUCCESS)
        }
        _child => {
            drop(tell);
            // Nothing: the child ended before it could say anything.
            let mut word = [0];
            let said = File::from(ready).read(&mut word)?;
            let ok = said == 1 && word[0] == READY;
            Ok(if ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

fn serve(dir: &Path, tell: OwnedFd) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let identity = identity(dir)?;
    let changes = Changes::watch(dir)?;
    let places = Places {
        dir: dir.to_owned(),
    };
    let router = File::open(places.router())?;
    let helper = Helper::start(Path::new(RESOLV_CONF))?;
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(LOCK))?;
    rustix::thread::move_into_link_name_space(router.as_fd(), Some(LinkNameSpaceType::Network))?;
    drop(router);
    confine::enter(dir)?;
    // Late: whoever holds the lock is taken for one that answers.
    let mut tell = File::from(tell);
    match rustix::fs::fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // Another serves already.
        Err(Errno::AGAIN | Errno::ACCESS) => return tell.write_all(&[READY]),
        Err(error) => return Err(error.into()),
    }
    lock.set_len(0)?;
    lock.write_at(identity.as_bytes(), 0)?;
    let server = Server::start(places, changes, helper)?;
    tell.write_all(&[READY])?;
    drop(tell);
    // The lock lives as long as this process: closing any descriptor of the file would end it.
    let result = server.run();
    drop(lock);
    result
}
