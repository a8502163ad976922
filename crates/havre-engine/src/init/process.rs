//! The two ways into a container and the one way into a program.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Uid};

use super::caps::CapSet;
use super::seccomp;
use super::user::{self, Identity};
use super::{SetupError, Stdio, reaper, rootfs, step};
use crate::cgroup::Cgroup;
use crate::spec::ContainerSpec;
use crate::sys;

/// Where programs are looked for when the environment does not say; Docker's.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One more process for a running container.
pub struct ExecRequest {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the container's environment.
    pub env: BTreeMap<String, String>,
    /// `None`: the container's.
    pub user: Option<String>,
    /// `None`: the container's.
    pub cwd: Option<String>,
    /// All capabilities and no seccomp.
    pub privileged: bool,
}

/// What to run, as whom, where.
struct Program<'a> {
    argv: &'a [String],
    env: BTreeMap<String, String>,
    user: &'a str,
    cwd: &'a str,
    privileged: bool,
    tty: bool,
    init: bool,
}

/// The container's first process; returns only with an error.
pub fn container(
    spec: &ContainerSpec,
    root: &Path,
    cgroup: &Cgroup,
    stdio: Option<Stdio>,
    socket: BorrowedFd,
) -> SetupError {
    let Err(error) = try_container(spec, root, cgroup, stdio, socket);
    error
}

fn try_container(
    spec: &ContainerSpec,
    root: &Path,
    cgroup: &Cgroup,
    stdio: Option<Stdio>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    detach_from_shim(spec.oom_score_adj)?;
    if let Some(path) = &spec.netns {
        let what = || format!("join the network namespace {}", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = step(rustix::fs::open(path, flags, Mode::empty()), what)?;
        step(sys::setns(fd, libc::CLONE_NEWNET), what)?;
    } else {
        step(bring_loopback_up(), || {
            "bring the loopback interface up".to_owned()
        })?;
    }
    step(
        rustix::system::sethostname(spec.hostname.as_bytes()),
        || format!("set the host name {:?}", spec.hostname),
    )?;
    rootfs::enter(spec, root)?;
    wait_for_cgroups(socket)?;
    step(sys::unshare(libc::CLONE_NEWCGROUP), || {
        "create a cgroup namespace".to_owned()
    })?;
    rootfs::finish(spec, cgroup)?;
    if stdio.is_none() {
        rootfs::prepare_console()?;
    }
    let program = Program {
        argv: &spec.argv,
        env: spec.env.clone(),
        user: &spec.user,
        cwd: &spec.cwd,
        privileged: false,
        tty: spec.tty,
        init: spec.init,
    };
    become_and_exec(spec, program, stdio, socket)
}

/// A further process in a running container; returns only with an error.
pub fn exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    init: BorrowedFd,
    stdio: Option<Stdio>,
    socket: BorrowedFd,
) -> SetupError {
    let Err(error) = try_exec(spec, request, init, stdio, socket);
    error
}

fn try_exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    init: BorrowedFd,
    stdio: Option<Stdio>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    detach_from_shim(spec.oom_score_adj)?;
    wait_for_cgroups(socket)?;
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    step(sys::setns(init, kinds), || "enter the container".to_owned())?;
    let mut env = spec.env.clone();
    env.extend(request.env.clone());
    let program = Program {
        argv: &request.argv,
        env,
        user: request.user.as_deref().unwrap_or(&spec.user),
        cwd: request.cwd.as_deref().unwrap_or(&spec.cwd),
        privileged: request.privileged,
        tty: stdio.is_none(),
        init: false,
    };
    become_and_exec(spec, program, stdio, socket)
}

/// A clean start: default signals, own session, dies with the shim, not readable by others.
fn detach_from_shim(oom_score_adj: i32) -> Result<(), SetupError> {
    sys::reset_signals();
    // Otherwise /proc/<pid>/exe would show the container this very binary.
    step(sys::prctl(libc::PR_SET_DUMPABLE, 0), || {
        "hide the process".to_owned()
    })?;
    die_with_shim()?;
    step(rustix::process::setsid(), || "start a session".to_owned())?;
    // Raising the shim's low score is always allowed; otherwise there is nothing to undo.
    drop(std::fs::write(
        "/proc/self/oom_score_adj",
        oom_score_adj.to_string(),
    ));
    rustix::process::umask(Mode::empty());
    Ok(())
}

fn die_with_shim() -> Result<(), SetupError> {
    step(
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong),
        || "tie the process to its shim".to_owned(),
    )
}

fn wait_for_cgroups(socket: BorrowedFd) -> Result<(), SetupError> {
    let mut buffer = [0; 8];
    match step(sys::receive(socket, &mut buffer, true), || {
        "hear from the shim".to_owned()
    })? {
        Some((1, _)) if buffer[0] == b'G' => Ok(()),
        _ => Err(SetupError::Refused(
            "the shim ended during set-up".to_owned(),
        )),
    }
}

fn bring_loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data; zero is valid, and lo is terminated by the zeroes after it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    sys::check(i64::from(result))
}

/// Takes on the identity and limits, and runs the program. The order matters: the filter needs
/// `CAP_SYS_ADMIN` unless no_new_privs is set, so it comes before capabilities are dropped.
fn become_and_exec(
    spec: &ContainerSpec,
    mut program: Program,
    stdio: Option<Stdio>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    let identity = user::resolve(program.user, &spec.groups)?;
    complete_environment(&mut program, &identity, &spec.hostname);
    set_limits(&spec.ulimits)?;
    match stdio {
        Some(stdio) => install_stdio(&stdio, identity.uid)?,
        None => install_terminal(&identity, socket)?,
    }
    let mut security = spec.security.clone();
    if program.privileged {
        security.cap_add = vec!["ALL".to_owned()];
        security.seccomp_unconfined = true;
    }
    let caps = CapSet::of(&security)?;
    let filter = (!security.seccomp_unconfined).then(|| seccomp::filter(caps));
    step(rustix::process::chdir(program.cwd), || {
        format!("enter {}", program.cwd)
    })?;
    join_new_keyring();
    if security.no_new_privileges {
        step(sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1), || {
            "set no_new_privs".to_owned()
        })?;
    }
    step(caps.limit_bounding(), || "drop capabilities".to_owned())?;
    if let Some(filter) = filter {
        step(filter.install(), || "install the seccomp filter".to_owned())?;
    }
    take_identity(&identity)?;
    step(caps.apply(identity.uid == 0), || {
        "set capabilities".to_owned()
    })?;
    // Changing the user has cleared both.
    die_with_shim()?;
    step(sys::prctl(libc::PR_SET_DUMPABLE, 0), || {
        "hide the process".to_owned()
    })?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if program.init {
        step(reaper::split(), || "start the container's init".to_owned())?;
    }
    step(sys::close_on_exec_from(3), || {
        "close descriptors".to_owned()
    })?;
    step(sys::send(socket, b"R", &[]), || {
        "speak to the shim".to_owned()
    })?;
    Err(run(&program))
}

/// Docker's additions: HOME of the account, a PATH, the host name, and TERM for a terminal.
fn complete_environment(program: &mut Program, identity: &Identity, hostname: &str) {
    let mut default = |name: &str, value: &str| {
        program
            .env
            .entry(name.to_owned())
            .or_insert_with(|| value.to_owned());
    };
    default("HOME", &identity.home);
    default("PATH", DEFAULT_PATH);
    default("HOSTNAME", hostname);
    if program.tty {
        default("TERM", "xterm");
    }
}

/// Names as in compose and Docker.
const LIMITS: [(&str, libc::c_uint); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Whether a resource limit of this name exists.
pub fn is_ulimit(name: &str) -> bool {
    LIMITS.iter().any(|(known, _)| *known == name)
}

fn set_limits(limits: &BTreeMap<String, (u64, u64)>) -> Result<(), SetupError> {
    for (name, (soft, hard)) in limits {
        let known = LIMITS.iter().find(|(known, _)| known == name);
        let Some((_, resource)) = known else {
            return Err(SetupError::Refused(format!("unknown ulimit {name:?}")));
        };
        step(sys::set_rlimit(*resource, *soft, *hard), || {
            format!("set the ulimit {name}")
        })?;
    }
    Ok(())
}

/// The user owns its pipes, so that programs can open /dev/stdout again.
fn install_stdio(stdio: &Stdio, uid: u32) -> Result<(), SetupError> {
    for fd in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        let kind = rustix::fs::fstat(fd).map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode));
        if uid != 0 && kind == Ok(rustix::fs::FileType::Fifo) {
            step(
                rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None),
                || "hand the output over to the user".to_owned(),
            )?;
        }
    }
    let what = || "install standard input and output".to_owned();
    step(rustix::stdio::dup2_stdin(&stdio.stdin), what)?;
    step(rustix::stdio::dup2_stdout(&stdio.stdout), what)?;
    step(rustix::stdio::dup2_stderr(&stdio.stderr), what)
}

/// A terminal of the container's own devpts; its master goes to the shim.
fn install_terminal(identity: &Identity, socket: BorrowedFd) -> Result<(), SetupError> {
    let what = || "open a terminal".to_owned();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = step(
        rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()),
        what,
    )?;
    step(rustix::pty::unlockpt(&master), what)?;
    let peer_flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let slave = step(rustix::pty::ioctl_tiocgptpeer(&master, peer_flags), what)?;
    step(
        rustix::fs::fchown(&slave, Some(Uid::from_raw(identity.uid)), None),
        what,
    )?;
    step(rootfs::bind_console(&master), what)?;
    step(rustix::process::ioctl_tiocsctty(&slave), what)?;
    let stdio = Stdio {
        stdin: step(slave.try_clone(), what)?,
        stdout: step(slave.try_clone(), what)?,
        stderr: slave,
    };
    install_stdio(&stdio, 0)?;
    step(sys::send(socket, b"T", &[master.as_fd()]), || {
        "hand the terminal over".to_owned()
    })
}

/// Otherwise containers would share root's keys. A kernel without keys is fine.
fn join_new_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<u8>(),
        )
    };
}

fn take_identity(identity: &Identity) -> Result<(), SetupError> {
    let what = || format!("become user {}:{}", identity.uid, identity.gid);
    // Straight system calls: the process has one thread, and libc's wrappers would signal others.
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: plain integers, and a pointer to as many groups as its length says.
    step(
        unsafe {
            sys::check(libc::syscall(
                libc::SYS_setgroups,
                identity.groups.len(),
                identity.groups.as_ptr(),
            ))
            .and_then(|()| sys::check(libc::syscall(libc::SYS_setresgid, gid, gid, gid)))
            .and_then(|()| sys::prctl(libc::PR_SET_KEEPCAPS, 1))
            .and_then(|()| sys::check(libc::syscall(libc::SYS_setresuid, uid, uid, uid)))
            .and_then(|()| sys::prctl(libc::PR_SET_KEEPCAPS, 0))
        },
        what,
    )
}

/// Runs the program, looked up in PATH; returns why it did not.
fn run(program: &Program) -> SetupError {
    let Some(name) = program.argv.first().filter(|n| !n.is_empty()) else {
        return SetupError::Refused("no command given".to_owned());
    };
    let c_strings = |items: &mut dyn Iterator<Item = String>| {
        items.map(CString::new).collect::<Result<Vec<_>, _>>()
    };
    let argv = c_strings(&mut program.argv.iter().cloned());
    let env = c_strings(&mut program.env.iter().map(|(k, v)| format!("{k}={v}")));
    let (Ok(argv), Ok(env)) = (argv, env) else {
        return SetupError::Refused("a NUL byte in the command or environment".to_owned());
    };
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        let path = program.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let dir = |d: &str| {
            if d.is_empty() {
                ".".to_owned()
            } else {
                d.to_owned()
            }
        };
        path.split(':')
            .map(|d| format!("{}/{name}", dir(d)))
            .collect()
    };
    let mut refused = None;
    for candidate in candidates {
        let error = execve(&candidate, &argv, &env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !Path::new(&candidate).exists() => {}
            _ => {
                refused.get_or_insert((candidate, error));
            }
        }
    }
    match refused {
        None if name.contains('/') => SetupError::NotFound(format!("command {name:?} not found")),
        None => SetupError::NotFound(format!("command {name:?} not found in PATH")),
        Some((path, error)) => explain(&path, &error),
    }
}

fn execve(path: &str, argv: &[CString], env: &[CString]) -> io::Error {
    let Ok(path) = CString::new(path) else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    let pointers = |items: &[CString]| {
        let mut list: Vec<_> = items.iter().map(|s| s.as_ptr()).collect();
        list.push(std::ptr::null());
        list
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: terminated strings in null-terminated lists that live through the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Says what a bare ENOENT or EACCES of execve hides.
fn explain(path: &str, error: &io::Error) -> SetupError {
    let reason = match error.raw_os_error() {
        Some(libc::ENOENT) => "its interpreter or dynamic loader is not in the image".to_owned(),
        Some(libc::ENOEXEC) => {
            "it is neither a program for this machine nor a script that starts with #!".to_owned()
        }
        Some(libc::EACCES) => match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => "it is a directory".to_owned(),
            Ok(meta) if meta.permissions().mode() & 0o111 == 0 => "it is not executable".to_owned(),
            Ok(meta) => format!(
                "permission denied (owner {}, mode {:o})",
                meta.uid(),
                meta.mode() & 0o7777
            ),
            Err(_) => "permission denied".to_owned(),
        },
        _ => error.to_string(),
    };
    SetupError::NotExecutable(format!("cannot run {path}: {reason}"))
}
