//! Kernel calls that neither std nor rustix wraps, and descriptors passed over sockets.

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors in one message.
pub const MAX_FDS: usize = 3;

/// Beyond libc's 32-bit constant.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child made by [`fork`].
pub struct Forked {
    /// Process id as seen from here.
    pub pid: u32,
    /// Readable when the child has ended.
    pub pidfd: OwnedFd,
}

/// `clone3` without shared memory, so the child is a copy of the caller. `flags` are namespaces
/// to create; `cgroup` is an open cgroup v2 folder the child starts in. `None` in the child.
///
/// # Safety
/// The caller must be single-threaded: the child may otherwise inherit held locks.
pub unsafe fn fork(flags: libc::c_int, cgroup: Option<BorrowedFd>) -> io::Result<Option<Forked>> {
    let mut pidfd: libc::c_int = -1;
    let mut args = CloneArgs {
        flags: (flags | libc::CLONE_PIDFD) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args and pidfd live through the call; without CLONE_VM the child has its own copy
    // of everything, and the caller promised that no other thread holds a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    // SAFETY: both are what the kernel answered.
    unsafe { forked(pid, pidfd) }
}

/// Forks a sibling: a child of this process's own parent, in the process namespace that this process
/// has chosen for its children. Not `clone3`, which the seccomp filter, installed by now, refuses.
/// `None` in the sibling.
///
/// # Safety
/// As of [`fork`].
pub unsafe fn fork_sibling() -> io::Result<Option<Forked>> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD;
    let (none, at) = (0_usize, &raw mut pidfd);
    // SAFETY: pidfd lives through the call; without CLONE_VM the sibling has its own copy of
    // everything, the stack too, and the caller promised that no other thread holds a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, at, none, none) };
    // SAFETY: both are what the kernel answered.
    unsafe { forked(pid, pidfd) }
}

/// What a system call that forks has come to; `None` in the new process.
///
/// # Safety
/// Where it succeeded, `pidfd` is what it stored.
unsafe fn forked(pid: libc::c_long, pidfd: libc::c_int) -> io::Result<Option<Forked>> {
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            // SAFETY: the kernel stored a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some(Forked {
                pid: pid as u32,
                pidfd,
            }))
        }
    }
}

/// Ends the process without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Sends a signal through a pidfd; a process that has already ended is not an error.
pub fn kill_pidfd(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers and a null siginfo.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    ignore_gone(result)
}

/// SIGKILL for a process group; one that is gone is not an error.
pub fn kill_group(pgid: u32) -> io::Result<()> {
    // SAFETY: plain integers.
    ignore_gone(i64::from(unsafe {
        libc::kill(-(pgid as i32), libc::SIGKILL)
    }))
}

fn ignore_gone(result: i64) -> io::Result<()> {
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) {
        Ok(())
    } else {
        Err(error)
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Ended {
    /// Exit code in the manner of a shell.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    /// The signal, if one ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal(signal) => Some(signal),
        }
    }
}

/// Reaps a child by its pidfd; `None` while it runs.
pub fn reap(pidfd: impl AsFd) -> io::Result<Option<Ended>> {
    wait(
        libc::P_PIDFD,
        pidfd.as_fd().as_raw_fd() as u32,
        libc::WNOHANG,
    )
    .map(|o| o.map(|o| o.1))
}

/// Reaps the children of this process that are in a process group, which was killed; whether some are
/// left, which a tracer keeps back.
pub fn reap_group(pgid: u32) -> io::Result<bool> {
    loop {
        match wait(libc::P_PGID, pgid, libc::WNOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a process has ended, reaped or not, whoever may reap it.
pub fn is_over(pidfd: impl AsFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(poll(&mut fds, Some(&now))? > 0)
}

/// Whether the working directory is below this process's root, as the kernel sees it.
pub fn is_inside_root() -> io::Result<bool> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer lives through the call and is as long as said. Not libc's function, which
    // hides what the kernel says of a folder outside.
    check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(buffer[0] == b'/')
}

/// Whether a child has ended, which is still to be reaped.
pub fn has_ended(pidfd: impl AsFd) -> io::Result<bool> {
    let id = pidfd.as_fd().as_raw_fd() as u32;
    wait(libc::P_PIDFD, id, libc::WNOHANG | libc::WNOWAIT).map(|ended| ended.is_some())
}

/// The process id of a child, which is not reaped yet; an error for any other process.
pub fn pid_of_child(pidfd: impl AsFd) -> io::Result<u32> {
    let fd = pidfd.as_fd().as_raw_fd();
    has_ended(pidfd.as_fd())?;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.and_then(|pid| pid.trim().parse().ok())
        .filter(|pid| *pid > 1)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Reaps any child of this process that has ended.
pub fn reap_any() -> io::Result<Option<(u32, Ended)>> {
    wait(libc::P_ALL, 0, libc::WNOHANG)
}

fn wait(kind: libc::idtype_t, id: u32, flags: i32) -> io::Result<Option<(u32, Ended)>> {
    // SAFETY: siginfo_t is plain data for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: info lives through the call.
    let result = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid filled the fields for a child; si_pid stays 0 where none had ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Code(status),
        _ => Ended::Signal(status),
    };
    Ok(Some((pid as u32, ended)))
}

/// Makes a mount (tree, when `recursive`) read-only.
pub fn mount_read_only(mount: BorrowedFd, recursive: bool) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path and attr live through the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Makes a mount that is attached nowhere read-only, its owners those that the user namespace maps them to.
pub fn mount_mapped(mount: BorrowedFd, namespace: BorrowedFd) -> io::Result<()> {
    let mut attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: namespace.as_raw_fd() as u64,
    };
    // SAFETY: the empty path and attr live through the call, which only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw mut attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// A process that holds a new user namespace of `owner`, and does nothing until it is killed, with its parent at the
/// latest. The kernel charges what is used in the namespace to its owner too: to nobody who needs anything himself.
pub fn hold_user_namespace(owner: u32) -> io::Result<Forked> {
    let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // SAFETY: the child makes system calls only, so it needs no lock that another thread may have held.
    let Some(holder) = unsafe { fork(0, None) }? else {
        let errno = own_user_namespace(owner).err().map_or(0, errno_of);
        drop(told);
        // Who does not hear it has died, and with it this process.
        let heard = rustix::io::write(&tell, &errno.to_ne_bytes());
        if errno != 0 || heard.is_err() {
            exit_now(1);
        }
        loop {
            // SAFETY: plain integers.
            unsafe {
                libc::syscall(libc::SYS_rt_sigtimedwait, NO_SIGNALS.as_ptr(), 0, 0, 8);
            }
        }
    };
    drop(tell);
    let mut errno = [0; size_of::<i32>()];
    let heard = std::io::Read::read_exact(&mut std::fs::File::from(told), &mut errno);
    let made = heard.and_then(|()| match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    });
    match made {
        Ok(()) => Ok(holder),
        Err(error) => {
            kill_pidfd(&holder.pidfd, libc::SIGKILL)?;
            await_end(holder.pidfd.as_fd())?;
            Err(error)
        }
    }
}

fn errno_of(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Becomes a process of `owner` in a new user namespace that is its own. Rights are kept meanwhile: some systems let
/// only root make one. Not libc's functions, which would have all threads follow.
fn own_user_namespace(owner: u32) -> io::Result<()> {
    const KEEP_RIGHTS: libc::c_ulong = 1 << 2;
    prctl(libc::PR_SET_SECUREBITS, KEEP_RIGHTS)?;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, owner, owner, owner) })?;
    unshare(libc::CLONE_NEWUSER)?;
    // A change of users ends it.
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
}

/// A set of signals, as the kernel has it.
const NO_SIGNALS: [u64; 1] = [0];

/// Waits for the end of a child that was killed, and reaps it.
pub fn await_end(pidfd: BorrowedFd) -> io::Result<()> {
    let id = pidfd.as_raw_fd() as u32;
    wait(libc::P_PIDFD, id, 0).map(drop)
}

/// Joins namespaces: `target` is a pidfd (any set of `CLONE_NEW*`) or a namespace file (one).
pub fn setns(target: impl AsFd, kinds: libc::c_int) -> io::Result<()> {
    // SAFETY: plain integers.
    check(i64::from(unsafe {
        libc::setns(target.as_fd().as_raw_fd(), kinds)
    }))
}

/// Leaves for new namespaces.
pub fn unshare(kinds: libc::c_int) -> io::Result<()> {
    // SAFETY: namespaces only; no memory or descriptor table is unshared.
    check(i64::from(unsafe { libc::unshare(kinds) }))
}

/// `prctl` with integer arguments.
pub fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used here take integers.
    check(i64::from(unsafe { libc::prctl(option, value, 0, 0, 0) }))
}

/// Names the process as `ps` shows it.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the kernel copies at most 16 bytes of a terminated string.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    }))
}

/// `mount(2)`.
pub fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> io::Result<()> {
    let (source, target) = (CString::new(source)?, CString::new(target)?);
    let (kind, data) = (CString::new(kind)?, CString::new(data)?);
    // SAFETY: four terminated strings that live through the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    check(i64::from(result))
}

/// Sets one resource limit of this process.
pub fn set_rlimit(resource: libc::c_uint, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: limit lives through the call.
    check(i64::from(unsafe {
        libc::setrlimit(resource, &raw const limit)
    }))
}

/// All signals unblocked, with default actions: what a program expects at its start.
pub fn reset_signals() {
    // The kernel's form of struct sigaction, zeroed: SIG_DFL, no flags, empty mask. libc's own
    // function refuses the two signals it keeps for itself, which may be inherited as ignored.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is as large as on every 64-bit Linux and is only read. The kernel
        // refuses SIGKILL and SIGSTOP, which always have their default.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            );
        }
    }
    let none = signal_set(&[]);
    // SAFETY: the set is initialised and lives through the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
}

/// A set of signals.
fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: sigemptyset initialises the set; numbers out of range are refused, not stored.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks signals in this thread.
pub fn block_signals(signals: &[i32]) -> io::Result<()> {
    let set = signal_set(signals);
    // SAFETY: the set is initialised and lives through the call.
    check(i64::from(unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    }))
}

/// Blocks `signals` and makes them readable from the descriptor returned.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    block_signals(signals)?;
    let set = signal_set(signals);
    // SAFETY: the set is initialised; the descriptor is new and nothing else owns it.
    unsafe {
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(i64::from(fd.min(0)))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Waits for one of `signals`, which must be blocked.
pub fn wait_signal(signals: &[i32]) -> io::Result<i32> {
    let set = signal_set(signals);
    // SAFETY: the set is initialised; no information about the signal is asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
    check(i64::from(signal.min(0))).map(|()| signal)
}

/// Marks every descriptor from `first` close-on-exec.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first`; the caller must not use one of them afterwards.
pub fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX, 0)
}

/// The same, up to the one before `end`.
pub fn close_between(first: u32, end: Option<u32>) -> io::Result<()> {
    match end {
        None => close_from(first),
        Some(end) if end > first => close_range(first, end - 1, 0),
        Some(_) => Ok(()),
    }
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: called by forked children, which own no descriptor by anything that would still use
    // or close it: they exec or exit, and never return to the code that opened it.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
}

/// Sends one packet with descriptors; `WouldBlock` when the peer does not read.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

/// Receives one packet with its descriptors; `Ok(None)` at the end of the connection.
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::TRUNC;
    if !wait {
        flags |= RecvFlags::DONTWAIT;
    }
    let len = buffer.len();
    let got = rustix::net::recvmsg(
        socket,
        &mut [io::IoSliceMut::new(buffer)],
        &mut control,
        flags,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes > len {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "packet too large",
        ));
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((got.bytes, fds)))
}

/// Time since boot, suspended time included: the clock of every deadline, so that a change of
/// the wall clock does not matter.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Turns the −1 of a system call into the error.
pub fn check(result: i64) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Lets tokio wait for a descriptor.
pub fn async_fd(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open as long as its owner, which the AsyncFd becomes.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pidfd_of(pid: u32) -> OwnedFd {
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
        let flags = rustix::process::PidfdFlags::empty();
        rustix::process::pidfd_open(pid, flags).expect("a pidfd")
    }

    #[test]
    fn only_a_child_is_taken_for_one() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("started");
        let pidfd = pidfd_of(child.id());
        assert_eq!(pid_of_child(&pidfd).expect("a child"), child.id());
        child.kill().expect("killed");
        child.wait().expect("reaped");
        assert!(pid_of_child(&pidfd).is_err(), "it is gone");
        for pid in [1, std::process::id()] {
            assert!(pid_of_child(pidfd_of(pid)).is_err(), "{pid} is no child");
        }
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert!(pid_of_child(&file).is_err(), "it is no process");
    }
}
