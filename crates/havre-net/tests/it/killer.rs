//! Runs a program and kills it right before its n-th system call that changes something, so that
//! every point at which a daemon may die can be visited in turn.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed at the point asked for.
    Killed,
    /// It had fewer such calls and ended by itself, well.
    Done,
}

/// System calls by which the crate changes anything outside of its own memory.
const CHANGES: &[libc::c_long] = &[
    libc::SYS_sendto,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_rename,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_write,
    libc::SYS_vfork,
    libc::SYS_clone3,
    libc::SYS_pidfd_send_signal,
];

/// Kills `command` right before its `nth` change (counted from 1).
pub fn kill_at(mut command: Command, nth: usize) -> End {
    // SAFETY: the closure makes one system call and touches nothing else.
    unsafe {
        command.pre_exec(|| {
            let null = std::ptr::null_mut::<libc::c_void>();
            match libc::ptrace(libc::PTRACE_TRACEME, 0, null, null) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    let leader = command.spawn().expect("started").id().cast_signed();
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
    let mut started = false;
    let mut changes = 0;
    loop {
        let (thread, status) = wait();
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if thread == leader {
                let done = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                assert!(
                    done || libc::WIFSIGNALED(status),
                    "the program failed by itself"
                );
                return if done { End::Done } else { End::Killed };
            }
            continue;
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        if !started {
            started = true;
            ptrace(libc::PTRACE_SETOPTIONS, leader, options as usize);
        }
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 && is_change(thread) {
            changes += 1;
            if changes == nth {
                // SAFETY: the process is our child and was not waited for yet.
                assert_eq!(unsafe { libc::kill(leader, libc::SIGKILL) }, 0);
            }
        }
        let own = [libc::SIGTRAP, libc::SIGTRAP | 0x80, libc::SIGSTOP];
        let pass_on = if own.contains(&signal) { 0 } else { signal };
        ptrace(libc::PTRACE_SYSCALL, thread, pass_on as usize);
    }
}

fn wait() -> (libc::pid_t, libc::c_int) {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    assert!(thread > 0, "{}", io::Error::last_os_error());
    (thread, status)
}

/// A thread that was killed in between does not answer; its end is reported by `wait`.
fn ptrace(request: libc::c_uint, thread: libc::pid_t, data: usize) {
    // SAFETY: these requests take a number for `data` and no address.
    unsafe { libc::ptrace(request, thread, 0usize, data) };
}

/// Whether the thread stands before a call of [`CHANGES`].
fn is_change(thread: libc::pid_t) -> bool {
    // SAFETY: all bytes zero is a value of that type.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: `size` bytes at `info` may be written.
    let read = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, &raw mut info) };
    if read <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return false;
    }
    // SAFETY: `op` says that `entry` is the member that was written.
    let number = unsafe { info.u.entry.nr };
    CHANGES.contains(&number.cast_signed())
}
