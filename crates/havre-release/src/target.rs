//! Where an environment runs: what is asked of a target, whichever it is.
//!
//! A target keeps an environment at what is desired of it and says how it is. Operations hand it
//! changes and follow its status; how replicas come and go is the target's own: on this machine by
//! [`crate::decide`], elsewhere by an orchestrator.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use havre_model::{Capabilities, EnvironmentId, FoundDatabases, ServiceName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::{Record, Refusal, Release, ReplicaId, TargetStatus};

/// An answer that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A kind of place where environments run: this machine, a swarm, a cluster.
pub trait Targets: Send + Sync {
    /// What it can do: what it lacks is refused where files ask for it.
    fn capabilities(&self) -> Capabilities;

    /// The target of an environment, with its desired state as stored (or none yet), until `end`.
    fn open(
        &self,
        id: &EnvironmentId,
        desired: Option<&str>,
        end: Answer<'static, ()>,
    ) -> Result<Opened, BoxError>;

    /// Environments that are attached to a shared network, whatever is known of them otherwise.
    fn attached(&self, network: &str) -> Result<Vec<String>, BoxError>;

    /// Removes what nobody needs when no daemon runs; environments go on.
    fn close(&self) -> Answer<'_, ()>;
}

/// A target, and what keeps it going.
pub struct Opened {
    /// It ends when nobody has it in hand any more.
    pub target: Arc<dyn Target>,
    /// Runs until the target ends; `Some` when the environment is gone.
    pub run: Answer<'static, Option<Announce>>,
}

/// Says to those who watch an environment that it is gone. To be called when nobody finds it any more.
pub type Announce = Box<dyn FnOnce() + Send>;

/// What went wrong, for a person.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Where one environment runs.
pub trait Target: Send + Sync {
    /// Changes what is desired. The change is on record when this returns, or nothing has changed.
    fn apply(&self, change: Change) -> Answer<'_, Result<Applied, ApplyError>>;

    /// How the environment is. The sender goes when the target has ended; where the environment is
    /// gone, the last status says so.
    fn status(&self) -> watch::Receiver<Arc<TargetStatus>>;

    /// Whether it takes no changes any more.
    fn has_ended(&self) -> bool;

    /// Has everything that runs mask the environment's secrets as they are now, also one that a rotation has staged.
    /// What cannot be told is told again later.
    fn keep_masked(&self) -> Answer<'_, Result<(), BoxError>>;

    /// Whether there is output of a replica, which may be gone itself.
    fn has_output(&self, id: &ReplicaId) -> bool;

    /// The output of a replica, or what it has left.
    fn output(&self, id: &ReplicaId, query: &OutputQuery) -> Box<dyn Output>;

    /// Runs a command in a replica.
    fn exec(&self, id: &ReplicaId, command: Exec) -> Answer<'_, Result<Session, ExecError>>;

    /// What a replica uses; `None` where that is not known.
    fn usage(&self, id: &ReplicaId) -> Answer<'_, Option<Usage>>;
}

/// A change of what is desired of an environment.
#[derive(Clone, Debug)]
pub enum Change {
    /// Make a release and move to it.
    RollOut(Box<Move>),
    /// Give the rollout under way up.
    Abort,
    /// Pause it.
    Pause,
    /// Let it go on.
    Resume,
    /// Other numbers of replicas.
    Scale(BTreeMap<ServiceName, u32>),
    /// Stop everything and forget the environment.
    TakeDown {
        /// Its volumes too.
        volumes: bool,
    },
}

/// A move to a new release.
#[derive(Clone, Debug)]
pub struct Move {
    /// What it is.
    pub release: Release,
    /// Why there is this release.
    pub record: Record,
    /// What becomes of numbers of replicas that were set by hand.
    pub scale: Scale,
    /// What becomes of its jobs.
    pub jobs: Jobs,
    /// Whether it has to prove itself.
    pub analysis: Analysis,
    /// What was found where its services and those before write.
    pub databases: FoundDatabases,
}

/// What becomes of numbers of replicas that were set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// They give way to the files'.
    FromFile,
    /// They stay.
    Kept,
}

/// What becomes of a release's jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// They run before it serves.
    Run,
    /// They have run for it once, and do not know what came after: migrations go forwards only.
    Skip,
}

/// Whether a release has to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Analysis {
    /// It is new: its answers are compared with those of the one before.
    Enabled,
    /// It has served before.
    Skipped,
}

/// A change that is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// A status from this revision on shows it, or what came after it.
    pub revision: u64,
    /// The number of the release that it made.
    pub release: Option<u64>,
}

/// Why a change was not made. Nothing has changed, on record or in memory.
#[derive(Debug)]
pub enum ApplyError {
    /// It cannot be put on record.
    Persist(BoxError),
    /// The state of the rollout does not allow it.
    Refused(Refusal),
    /// The target has ended: the environment is gone, or the daemon ends.
    Ended,
}

impl From<Refusal> for ApplyError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Which output is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputQuery {
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only lines from this time on.
    pub since: Option<SystemTime>,
    /// Wait for more at the end.
    pub follow: bool,
}

/// Lines as they come.
pub trait Output: Send {
    /// The next one; `None` at the end.
    fn next(&mut self) -> Answer<'_, io::Result<Option<Line>>>;
}

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read.
    pub at: SystemTime,
    /// Where it came from.
    pub stream: Stream,
    /// It goes on in the next line of its stream.
    pub partial: bool,
    /// Without its end.
    pub text: String,
}

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A command to run in a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the replica's environment.
    pub env: BTreeMap<String, String>,
    /// `user[:group]`; `None`: the replica's.
    pub user: Option<String>,
    /// `None`: the replica's.
    pub cwd: Option<String>,
    /// A terminal of so many rows and columns instead of three pipes.
    pub tty: Option<(u16, u16)>,
    /// Whether input follows. A terminal always has input.
    pub stdin: bool,
}

/// A command that runs; dropping this ends it.
pub struct Session {
    /// Its input, where asked for; dropping it ends the input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its output, or its terminal's.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its errors, without a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its terminal, where it has one.
    pub terminal: Option<Box<dyn Terminal>>,
    /// Its exit code.
    pub exit: Answer<'static, Result<i32, ExecError>>,
}

/// A command's terminal.
pub trait Terminal: Send + Sync {
    /// Tells it of another size.
    fn resize(&self, rows: u16, columns: u16) -> io::Result<()>;
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub enum ExecError {
    /// The command itself, as a shell would tell it.
    Command {
        /// 126 or 127.
        exit_code: i32,
        /// Why, for a person.
        reason: String,
    },
    /// The replica is not running, or cannot be reached.
    Target(BoxError),
}

/// What a replica uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors since it began, in microseconds.
    pub cpu_usec: u64,
    /// Memory now.
    pub memory_bytes: u64,
}
