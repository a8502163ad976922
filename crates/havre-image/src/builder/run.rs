//! What the builder asks of whoever runs its steps.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Secret;
use crate::overlay::Overlay;

/// A RUN step. The runner mounts `rootfs` where only the step sees it and gives the step what every
/// container has: `/proc`, `/sys`, a memory file system at `/dev`, `/etc/hosts` and
/// `/etc/resolv.conf` where there is a network, HOME by `user` where `env` has none, Docker's
/// default privileges, and limits that keep services on the machine alive.
///
/// Mount points that the runner has to make in `rootfs` need not be removed: the builder does.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSpec {
    /// Lower layers and a fresh upper folder.
    pub rootfs: Overlay,
    /// Program and arguments; looked up in PATH of `env`.
    pub argv: Vec<String>,
    /// Complete environment.
    pub env: BTreeMap<String, String>,
    /// Added to it; must reach no disk.
    pub secret_env: BTreeMap<String, Secret>,
    /// Working directory; exists, unless the step runs in an image without its own.
    pub cwd: String,
    /// `user[:group]`, names resolved inside `rootfs`; empty: 0:0.
    pub user: String,
    /// The step can reach other hosts.
    pub network: bool,
    /// Mounts beside the standard ones, in order; some lie below `/dev`.
    pub mounts: Vec<StepMount>,
    /// Lines of `/etc/hosts`: host → addresses; `host-gateway` is this machine.
    pub hosts: BTreeMap<String, Vec<String>>,
    /// Size of `/dev/shm`; `None`: the runner's own.
    pub shm_size_bytes: Option<u64>,
    /// Limits of the process: name → (soft, hard).
    pub ulimits: BTreeMap<String, (u64, u64)>,
}

/// A mount of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepMount {
    /// A file or folder of the host.
    Bind {
        /// Absolute, exists.
        source: PathBuf,
        /// Absolute inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
    },
    /// Memory.
    Tmpfs {
        /// Absolute inside.
        target: String,
        /// Limit.
        size_bytes: Option<u64>,
    },
    /// A file in memory, read-only. Its content must reach no disk that outlives the step.
    Secret {
        /// What is in it.
        content: Secret,
        /// Absolute inside.
        target: String,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
}

impl StepMount {
    /// Where it is mounted.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Secret { target, .. } => target,
        }
    }
}

/// A line a step printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepLine {
    /// Where to.
    pub stream: Stream,
    /// Without its line end.
    pub text: String,
}

/// One of a process's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepExit {
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
}

/// Why a step could not be run; not that it failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The token was cancelled; nothing of the step is left.
    #[error("the step was cancelled")]
    Cancelled,
    /// It could not be started, or was lost.
    #[error("{what}")]
    Failed {
        /// What was attempted.
        what: String,
        /// The reason, where there is one to pass on.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// A future of a runner.
pub type StepFuture<'a> = Pin<Box<dyn Future<Output = Result<StepExit, StepError>> + Send + 'a>>;

/// Runs steps.
pub trait StepRunner: Send + Sync {
    /// Runs `step` to its end and reports each line as it comes. When this returns, for whatever
    /// reason, no process and no mount of the step is left: its upper folder becomes a layer.
    /// Cancelling the token kills the step.
    fn run<'a>(
        &'a self,
        step: &'a StepSpec,
        output: &'a mut (dyn FnMut(StepLine) + Send),
        cancel: &'a CancellationToken,
    ) -> StepFuture<'a>;
}

impl fmt::Debug for dyn StepRunner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepRunner")
    }
}
