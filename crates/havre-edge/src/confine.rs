//! What the edge gives up before it listens.
//!
//! It parses what strangers send, so it runs as a user of its own without a name
//! ([`havre_confine::EDGE_USER`]), and sees two folders that belong to that user and nothing else: one
//! for its control sockets and those of local servers (`local.rs`), one for its last state and the access
//! log. It keeps the right to open
//! ports below 1024, since ports come and go with what is deployed, and the system calls that serving
//! needs.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use havre_confine::{ConfineError, Confinement, EDGE_USER, Filter, Folder, Rule, allow, serving};
use rustix::fs::{Mode, OFlags, fchmod};
use rustix::thread::CapabilitySet;

/// An edge that is not confined.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// One of its folders.
    #[error("cannot make {} its own", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The rest.
    #[error(transparent)]
    Confine(#[from] ConfineError),
}

/// Confines this process to its run and its state folder. Nothing is opened before by a name that the
/// edge's user may have changed.
pub fn enter(run: &Path, state: &Path) -> Result<(), OwnError> {
    let mut folders = Vec::new();
    for path in [run, state] {
        own(path).map_err(|source| OwnError::Folder {
            path: path.to_owned(),
            source,
        })?;
        folders.push(Folder {
            path,
            writable: true,
        });
    }
    let confinement = Confinement {
        user: EDGE_USER,
        capabilities: CapabilitySet::NET_BIND_SERVICE,
        folders: Some(&folders),
        filter: filter(),
    };
    Ok(confinement.enter()?)
}

/// Makes a folder that only the edge's user may look into. Its parent is root's.
fn own(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    fchown(&folder, Some(EDGE_USER), Some(EDGE_USER))?;
    Ok(fchmod(&folder, Mode::from_raw_mode(0o700))?)
}

/// Address families: local for its control sockets, and the two of the network.
const FAMILIES: &[u32] = &[
    libc::AF_UNIX as u32,
    libc::AF_INET as u32,
    libc::AF_INET6 as u32,
];
/// `prctl`: names of threads, and of memory (glibc).
const PRCTL: &[u32] = &[libc::PR_SET_NAME as u32, libc::PR_SET_VMA as u32];

fn filter() -> Filter {
    let plain = serving().chain(allow(PLAIN)).chain(allow(OLD));
    let ruled = [
        (libc::SYS_socket, Rule::Only(FAMILIES)),
        (libc::SYS_socketpair, Rule::Only(&FAMILIES[..1])),
        (libc::SYS_prctl, Rule::Only(PRCTL)),
        // Threads and no processes. The flags of clone3 cannot be seen; C libraries do without.
        (libc::SYS_clone, Rule::WithBits(libc::CLONE_THREAD as u32)),
        (libc::SYS_clone3, Rule::Errno(libc::ENOSYS as u16)),
    ];
    Filter::new(plain.chain(ruled))
}

/// Beyond serving, whatever the arguments.
const PLAIN: &[i64] = &[
    // Several datagrams at once.
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    // Descriptors.
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // Files in its folders, which it writes.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    // Threads and time.
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
];

/// Older names of the same, which C libraries use where they exist.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_rename,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];
