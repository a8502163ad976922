//! Containers on this machine: a shim per container, namespaces, cgroups, exec, health, output.
//!
//! ```text
//! daemon ── Engine ──► havre shim (own session and cgroup, one thread)
//!    │ socket: state,      │ clone3: namespaces, mounts, seccomp, execve
//!    │ stop, exec, …       ▼
//!    └───── run/c/<id>/   container ──► pipes ──► shim ──► spool on disk ──► LogReader
//! ```
//! The daemon may die at any instruction: shims and containers go on, and the next daemon adopts
//! them by [`Engine::reconcile`]. A shim that is killed takes its container along. Times are
//! `Duration` and `SystemTime`, sizes are bytes.

mod cgroup;
mod channel;
mod confidential;
mod devices;
mod engine;
mod exec;
mod group;
mod init;
mod logs;
mod memory;
mod probe;
mod protocol;
mod rundir;
mod secrets;
mod shim;
mod signal;
mod spec;
mod sys;
mod validate;

use std::ffi::OsString;
use std::process::ExitCode;

pub use cgroup::{CgroupError, Stats};
pub use confidential::{Confidential, MAX_CONFIDENTIAL, STANDARD_INPUT, SharedFilter};
pub use engine::{
    ControlError, CreateError, Engine, EngineConfig, EngineError, ReconcileError, Reconciled,
    TeardownError, WaitError,
};
pub use exec::{ExecError, ExecSession, ExecSpec, Terminal, WindowSize};
pub use group::{Group, enter};
pub use init::source::make_folder;
pub use init::volume::copy_folder;
pub use logs::{LogChanges, LogLine, LogQuery, LogReader, LogStream, read_logs};
pub use probe::{Requirement, probe, probe_host_root};
pub use signal::number as signal_number;
pub use spec::*;
pub use validate::InvalidSpec;

/// Runs a hidden subcommand of the binary; `None` when `name` is none of them. To be called
/// first thing in `main`, before any thread is started.
pub fn entrypoint(name: &str, args: &[OsString]) -> Option<ExitCode> {
    match name {
        "shim" => Some(shim::main(args)),
        _ => None,
    }
}
