//! What a process being set up has open.
//!
//! A forked child begins with all that its shim has: sockets, logs, folders of the host. Whatever is
//! still open when a path of the container is used can be reached through `/proc/self/fd`. So the
//! child begins by closing it: what stays is standard input, output and error, and its socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use havre_image::root::Root;
use rustix::fs::{FileType, Mode, OFlags, Uid};

use super::{SetupError, Stdio, step};
use crate::sys;

/// Installs standard input, output and error (a terminal's come later) and closes everything else
/// but `kept`.
pub fn shed(stdio: Option<Stdio>, kept: &[BorrowedFd]) -> Result<(), SetupError> {
    let stdio = match stdio {
        Some(stdio) => stdio,
        None => null_stdio()?,
    };
    install(&stdio)?;
    drop(stdio);
    close_all_but(kept)
}

/// Closes everything but standard input, output and error, and `kept`.
pub fn close_all_but(kept: &[BorrowedFd]) -> Result<(), SetupError> {
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().map(Some).chain([None]) {
        step(sys::close_between(first, last), || {
            "close descriptors".to_owned()
        })?;
        first = last.map_or(first, |last| last + 1);
    }
    Ok(())
}

fn null_stdio() -> Result<Stdio, SetupError> {
    let what = || "open /dev/null".to_owned();
    let null: OwnedFd = step(std::fs::File::open("/dev/null"), what)?.into();
    Ok(Stdio {
        stdin: step(null.try_clone(), what)?,
        stdout: step(null.try_clone(), what)?,
        stderr: null,
    })
}

fn install(stdio: &Stdio) -> Result<(), SetupError> {
    let what = || "install standard input and output".to_owned();
    step(rustix::stdio::dup2_stdin(&stdio.stdin), what)?;
    step(rustix::stdio::dup2_stdout(&stdio.stdout), what)?;
    step(rustix::stdio::dup2_stderr(&stdio.stderr), what)
}

/// Standard input is the null device of the container instead of the host's, whose mode and owner
/// root in a container could otherwise change through `/dev/stdin`. `open` opens the container's.
pub fn replace_null(open: impl FnOnce() -> Result<OwnedFd, SetupError>) -> Result<(), SetupError> {
    if !is_null(rustix::stdio::stdin())? {
        return Ok(());
    }
    let null = open()?;
    if !is_null(null.as_fd())? {
        let text = "/dev/null of the container is not the null device".to_owned();
        return Err(SetupError::Refused(text));
    }
    step(rustix::stdio::dup2_stdin(&null), || {
        "install standard input".to_owned()
    })
}

/// Standard input is memory with these bytes, which ends with them.
pub fn give_input(bytes: &[u8]) -> Result<(), SetupError> {
    let what = || "give the program its input".to_owned();
    let memory = step(crate::memory::sealed(c"input", bytes), what)?;
    step(
        rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0)),
        what,
    )?;
    step(rustix::stdio::dup2_stdin(&memory), what)
}

/// Whether this is the null device.
pub fn is_null(fd: BorrowedFd) -> Result<bool, SetupError> {
    let stat = step(rustix::fs::fstat(fd), || "look at a device".to_owned())?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3),
    )
}

/// Opens a device of a running container, which may have put anything in its place: the caller
/// looks at what it got.
pub fn open_device(root: &Root, path: &'static str) -> Result<OwnedFd, SetupError> {
    let open = || -> io::Result<OwnedFd> {
        let spot = root.spot(path.as_ref(), true)?;
        // Opened for both, not even a pipe lets the caller wait.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(
            &*spot.dir,
            &spot.name,
            flags,
            Mode::empty(),
        )?)
    };
    step(open(), || format!("open {path}"))
}

/// A terminal of the container's own: becomes standard input, output and error. Its master goes to
/// the shim. `show` shows it in the container, before anyone can use it.
pub fn install_terminal(
    master: &OwnedFd,
    show: impl FnOnce(&OwnedFd) -> Result<(), SetupError>,
    socket: BorrowedFd,
) -> Result<(), SetupError> {
    const DEVPTS: i64 = 0x1cd1;
    let what = || "open a terminal".to_owned();
    let fs = step(rustix::fs::fstatfs(master), what)?;
    if fs.f_type as i64 != DEVPTS {
        let text = "/dev/pts of the container holds no terminals".to_owned();
        return Err(SetupError::Refused(text));
    }
    step(rustix::pty::unlockpt(master), what)?;
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let terminal = step(rustix::pty::ioctl_tiocgptpeer(master, flags), what)?;
    show(&terminal)?;
    install(&Stdio {
        stdin: step(terminal.try_clone(), what)?,
        stdout: step(terminal.try_clone(), what)?,
        stderr: terminal,
    })?;
    step(sys::send(socket, b"T", &[master.as_fd()]), || {
        "hand the terminal over".to_owned()
    })
}

/// The user owns its pipes and its terminal, so that programs can open /dev/stdout again.
pub fn hand_over(uid: u32, tty: bool) -> Result<(), SetupError> {
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    for fd in streams {
        let kind = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if tty || uid != 0 && kind == Ok(FileType::Fifo) {
            let owner = Some(Uid::from_raw(uid));
            step(rustix::fs::fchown(fd, owner, None), || {
                "hand the output over to the user".to_owned()
            })?;
        }
    }
    Ok(())
}
