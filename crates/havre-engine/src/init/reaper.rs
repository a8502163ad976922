//! `init: true`: process 1 of the container reaps orphans and forwards signals, without any file
//! in the image.

use std::io;

use crate::sys;

/// Splits into the reaper, which never returns, and the process that goes on to the program.
pub fn split() -> io::Result<()> {
    // Blocked before the fork, so that no signal is lost in between.
    let mut signals: Vec<i32> = (1..=libc::SIGRTMAX()).filter(|s| forwarded(*s)).collect();
    signals.push(libc::SIGCHLD);
    sys::block_signals(&signals)?;
    // Not clone3, which the seccomp filter, installed by now, refuses.
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            sys::reset_signals();
            // The terminal's foreground belongs to the program, which gets a group of its own.
            rustix::process::setpgid(None, None)?;
            take_foreground();
            Ok(())
        }
        child => reap(child as u32, &signals),
    }
}

/// Signals that mean something to the program; faults and job control of the reaper itself do not.
fn forwarded(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGKILL
            | libc::SIGSTOP
            | libc::SIGCHLD
            | libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGTRAP
            | libc::SIGSYS
            | libc::SIGABRT
            | libc::SIGTTIN
            | libc::SIGTTOU
            | 32..=33
    )
}

fn take_foreground() {
    // Without a terminal there is nothing to take. SIGTTOU is ignored for the moment, since a
    // background group would stop itself here.
    // SAFETY: signal dispositions and plain integers.
    unsafe {
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
        libc::tcsetpgrp(0, libc::getpgrp());
        libc::signal(libc::SIGTTOU, libc::SIG_DFL);
    }
}

/// Loops until `child` ends, and ends alike. Holds no descriptors, so that neither pipes nor the
/// shim's files stay open through it.
fn reap(child: u32, signals: &[i32]) -> ! {
    if sys::close_from(0).is_err() || sys::set_name(c"init").is_err() {
        sys::exit_now(126);
    }
    loop {
        while let Ok(Some((pid, ended))) = sys::reap_any() {
            if pid == child {
                sys::exit_now(ended.code());
            }
        }
        match sys::wait_signal(signals) {
            Ok(signal) if signal != libc::SIGCHLD => {
                // SAFETY: plain integers; the child is not reaped yet, so its number is its own.
                unsafe { libc::kill(child as i32, signal) };
            }
            _ => {}
        }
    }
}
