//! What the resolver gives up before it answers: everything but port 53 of networks to come, and the
//! view of its folder.

use std::io;
use std::path::Path;

use havre_confine::{Confinement, DNS_USER, Filter, Folder, Rule};
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
    let plain = CALLS.iter().chain(OLD).map(|nr| (*nr, Rule::Allow));
    // Other families are the helper's affair.
    let inet = Rule::Only(&[libc::AF_INET as u32]);
    Filter::new(plain.chain([(libc::SYS_socket, inet)]))
}

const CALLS: &[i64] = &[
    // Sockets.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // Descriptors, files in its folder, and its lock.
    libc::SYS_close,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Signals, time, its end.
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];

/// Older names of the same.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];
