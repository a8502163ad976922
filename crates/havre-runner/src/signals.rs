//! Signals to the runner: each asks it to cancel the job.
//!
//! They are taken by a handler, not held back: what is held back stays so in the processes that are started, a handler
//! does not.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

/// Where the handler writes a byte for each; -1 before there is one.
static NOTED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note(_: libc::c_int) {
    let byte = 1u8;
    // SAFETY: `write` may be called by a handler; the descriptor is never closed. A pipe that is full has enough bytes.
    unsafe { libc::write(NOTED.load(Ordering::Relaxed), (&raw const byte).cast(), 1) };
}

/// Calls for each SIGTERM and SIGINT, in a thread of its own.
pub(crate) fn each(mut call: impl FnMut() + Send + 'static) -> io::Result<()> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    NOTED.store(write.as_raw_fd(), Ordering::Relaxed);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all bytes zero is a value of it.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` outlives the call, and its handler does nothing that a handler may not.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let thread = thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || wait(read, write, &mut call)).map(drop)
}

/// `write` is kept for the handler.
fn wait(read: OwnedFd, write: OwnedFd, call: &mut dyn FnMut()) {
    let mut read = File::from(read);
    let mut byte = [0];
    while read.read_exact(&mut byte).is_ok() {
        call();
    }
    drop(write);
}
