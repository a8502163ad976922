//! The edge's process: how it is started, and when it has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use havre_edge::{EdgeState, KeptSockets};
use tokio::io::unix::AsyncFd;

use super::migration::{self, STATE};
use crate::root::Root;

/// What an edge of another version has for the requests under way when it is replaced.
const TAKEOVER_GRACE: Duration = Duration::from_secs(60);

/// As much as the edge takes at once.
const MAX_STATE: u64 = 32 << 20;

/// How the edge is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) exe: PathBuf,
    pub(crate) root: Root,
}

/// Where it has its listening sockets from.
#[derive(Debug)]
pub(super) enum Sockets {
    /// From the daemon, which kept those of one that was killed.
    Kept(KeptSockets),
    /// From an edge that runs and is to end, if one does.
    TakenOver,
}

impl Launch {
    /// The folder of its control sockets, its own.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.root.edge_run_dir()
    }

    /// The last state that an edge has written down, the one it starts with; empty where there is
    /// none. It is the edge's word: it may be anything, and is bounded.
    pub(super) fn kept_state(&self) -> io::Result<EdgeState> {
        let path = self.root.edge_state_dir().join(STATE);
        match havre_image::regular::read(&path, MAX_STATE) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(EdgeState::default()),
            Err(error) => Err(error),
        }
    }

    /// What it has to say. Opened by the daemon: the folder is not the edge's.
    pub(super) fn error_log(&self) -> PathBuf {
        self.root.state_dir().join("edge.log")
    }

    /// Starts an edge that is in no way tied to this process.
    pub(super) fn spawn(&self, sockets: Sockets) -> io::Result<()> {
        migration::move_state(&self.root)?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.error_log())?;
        let mut command = Command::new(&self.exe);
        command
            .arg("edge")
            .arg("--run")
            .arg(self.run_dir())
            .arg("--state")
            .arg(self.root.edge_state_dir())
            // The daemon's may hold secrets, and there is nothing in it for the edge.
            .env_clear()
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir("/");
        match sockets {
            Sockets::Kept(kept) => command.arg("--inherit").stdin(kept.pass_on()?),
            Sockets::TakenOver => command
                .arg("--formerly")
                .arg(self.root.run_dir())
                .arg("--takeover")
                .arg(TAKEOVER_GRACE.as_secs().to_string())
                .stdin(Stdio::null()),
        };
        // SAFETY: setsid is async-signal-safe and touches no memory of this process.
        unsafe {
            command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
        }
        let mut child = command.spawn()?;
        // Reaped on a thread of its own for as long as this daemon is its parent.
        std::thread::Builder::new()
            .name("edge-wait".into())
            .spawn(move || child.wait())?;
        Ok(())
    }

    /// Removes what an edge from before an upgrade has left.
    pub(super) fn forget_former(&self) {
        if let Err(error) = migration::forget(&self.root) {
            tracing::warn!(%error, "sockets of a migration edge stay");
        }
    }
}

/// Ends when process `pid` has; at once where it cannot be watched (then it is gone).
pub(super) async fn exit_of(pid: u32) {
    let Some(pidfd) = open_pidfd(pid) else { return };
    // SAFETY: an owned descriptor stays open as long as its owner, which the AsyncFd becomes.
    if let Ok(watched) = unsafe { AsyncFd::register(pidfd) } {
        // An error of the reactor counts as the end: the caller looks again.
        watched.readable().await.map(drop).ok();
    }
}

fn open_pidfd(pid: u32) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(
        Pid::from_raw(i32::try_from(pid).ok()?)?,
        PidfdFlags::NONBLOCK,
    )
    .ok()
}
