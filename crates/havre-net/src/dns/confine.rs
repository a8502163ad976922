//! What the resolver gives up before it answers: everything but port 53 of networks to come, and the
//! view of its folder.

use std::io;
use std::path::Path;

use havre_confine::{Confinement, DNS_USER, Filter, Folder, Rule, allow, serving};
use rustix::fs::{Mode, OFlags};
use rustix::thread::CapabilitySet;

/// Confines this process, which is in the router's namespace, to the folder of its environment.
pub fn enter(dir: &Path) -> io::Result<()> {
    // Whatever the umask of who made it; the folder above it is root's alone.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(dir, flags, Mode::empty())?;
    rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
    let folders = [Folder {
        path: dir,
        writable: false,
    }];
    let confinement = Confinement {
        user: DNS_USER,
        capabilities: CapabilitySet::NET_BIND_SERVICE,
        folders: Some(&folders),
        filter: filter(),
    };
    confinement.enter().map_err(io::Error::other)
}

fn filter() -> Filter {
    // Other families are the helper's affair.
    let inet = Rule::Only(&[libc::AF_INET as u32]);
    let ruled = [(libc::SYS_socket, inet)];
    Filter::new(serving().chain(allow(CALLS)).chain(ruled))
}

/// Beyond serving: it writes into its lock who it is.
const CALLS: &[i64] = &[libc::SYS_pwrite64];
