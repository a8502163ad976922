//! What a process of Havre's own gives up before it listens to strangers: the user it runs as, its
//! capabilities, its view of the files, and system calls it has no use for.
//!
//! ```text
//!  root ─► Confinement::enter ─► a mount namespace with a few folders ─► its user, few capabilities
//!                                ─► no_new_privs ─► system call filter ─► strangers
//! ```
//!
//! Everything here is per thread, so it is done while there is one; threads started afterwards are
//! confined alike.
//!
//! The users are numbers without a name: no passwd entry is needed, none is changed. They are taken
//! from 60706–61183, which no distribution's ranges and none of systemd's contain
//! (<https://systemd.io/UIDS-GIDS/>), and below 65536, so that they exist in a container that is
//! given no more users than that.

mod seccomp;
mod serving;
mod view;

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

pub use seccomp::{Filter, Rule};
pub use serving::{allow, serving};

/// The user, and group, of the edge.
pub const EDGE_USER: u32 = 60_943;
/// The user, and group, of name servers.
pub const DNS_USER: u32 = 60_953;
/// The user, and group, of git, which fetches build contexts.
pub const GIT_USER: u32 = 60_963;
/// Users, and groups, of processes of Havre's own. No container runs as one of them: processes of one
/// user share what the kernel grants each user.
pub const OWN_USERS: [u32; 3] = [EDGE_USER, DNS_USER, GIT_USER];

/// What a process keeps.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// The user, and group, that it becomes.
    pub user: u32,
    /// What it may do beyond that.
    pub capabilities: CapabilitySet,
    /// All that it sees of the files; `None`: it sees what its user may see.
    pub folders: Option<&'a [Folder<'a>]>,
    /// What it may call.
    pub filter: Filter,
}

/// A folder that stays visible, under its own name.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a> {
    /// Absolute.
    pub path: &'a Path,
    /// Whether files in it may be changed, if its user may.
    pub writable: bool,
}

/// A process that is not confined. It must not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct ConfineError {
    step: String,
    source: io::Error,
}

impl Confinement<'_> {
    /// Gives up everything else, for ever. For a process with one thread, as root.
    pub fn enter(&self) -> Result<(), ConfineError> {
        if let Some(folders) = self.folders {
            view::show_only(folders)?;
        }
        become_user(self.user, self.capabilities)?;
        step(set_no_new_privs(true), || "set no_new_privs".to_owned())?;
        step(self.filter.install(), || {
            "install the system call filter".to_owned()
        })
    }
}

fn become_user(user: u32, capabilities: CapabilitySet) -> Result<(), ConfineError> {
    for capability in CapabilitySet::all() {
        match remove_capability_from_bounding_set(capability) {
            // An older kernel does not know it, so nobody has it.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return failed(error.into(), "drop capabilities"),
        }
    }
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    let changed = clear_ambient_capability_set()
        .and_then(|()| set_keep_capabilities(true))
        .and_then(|()| set_thread_groups(&[]))
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid));
    step(changed, || format!("become user {user}"))?;
    let kept = CapabilitySets {
        effective: capabilities,
        permitted: capabilities,
        inheritable: CapabilitySet::empty(),
    };
    step(set_capabilities(None, kept), || {
        "drop capabilities".to_owned()
    })?;
    // Nobody of the same user looks into its memory, and no core file holds its keys.
    step(set_dumpable_behavior(DumpableBehavior::NotDumpable), || {
        "protect its memory".to_owned()
    })
}

fn step<T, E: Into<io::Error>>(
    result: Result<T, E>,
    step: impl FnOnce() -> String,
) -> Result<T, ConfineError> {
    result.map_err(|error| ConfineError {
        step: step(),
        source: error.into(),
    })
}

fn failed<T>(source: io::Error, step: &str) -> Result<T, ConfineError> {
    let step = step.to_owned();
    Err(ConfineError { step, source })
}
