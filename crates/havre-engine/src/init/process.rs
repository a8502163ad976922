//! The two ways into a container and the one way into a program.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use havre_image::root::Root;
use rustix::fs::{Mode, OFlags};

use super::caps::CapSet;
use super::idmap::{self, Owners};
use super::seccomp;
use super::user::{self, Identity};
use super::{SetupError, Stdio, descriptors, reaper, rootfs, step};
use crate::cgroup::Cgroup;
use crate::confidential::{Contents, STANDARD_INPUT};
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
    kind: Kind,
}

/// Which process of the container it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first.
    First,
    /// The first child of one that reaps and forwards signals.
    BelowInit,
    /// One more.
    Further,
}

/// The container's first process; returns only with an error. `streams` are its standard input, output and
/// error, and the contents of its secrets; `users` is the user namespace that it is to be in.
pub fn container(
    spec: &ContainerSpec,
    root: &Path,
    cgroup: &Cgroup,
    streams: (Option<Stdio>, Option<BorrowedFd>),
    users: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> SetupError {
    let Err(error) = try_container(spec, root, cgroup, streams, users, socket);
    error
}

fn try_container(
    spec: &ContainerSpec,
    root: &Path,
    cgroup: &Cgroup,
    (stdio, parcel): (Option<Stdio>, Option<BorrowedFd>),
    users: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    let tty = stdio.is_none();
    let kept: Vec<_> = users.into_iter().chain([socket]).collect();
    let contents = unpack(stdio, parcel, &kept, Contents::read)?;
    descriptors::close_all_but(&kept)?;
    if let Some(input) = contents.files.get(STANDARD_INPUT) {
        descriptors::give_input(input)?;
    }
    detach_from_shim(spec.oom_score_adj)?;
    if let Some(path) = &spec.netns {
        let what = || format!("join the network namespace {}", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = step(rustix::fs::open(path, flags, Mode::empty()), what)?;
        step(sys::setns(fd, libc::CLONE_NEWNET), what)?;
    } else if !spec.shares.network {
        step(bring_loopback_up(), || {
            "bring the loopback interface up".to_owned()
        })?;
    }
    step(
        rustix::system::sethostname(spec.hostname.as_bytes()),
        || format!("set the host name {:?}", spec.hostname),
    )?;
    let inside = rootfs::enter(spec, root, &contents, users, socket)?;
    wait_for_shim(socket)?;
    step(sys::unshare(libc::CLONE_NEWCGROUP), || {
        "create a cgroup namespace".to_owned()
    })?;
    rootfs::finish(&inside, spec, cgroup)?;
    if tty {
        let master = inside.kernel.open_terminal()?;
        descriptors::install_terminal(
            &master,
            |terminal| inside.kernel.bind_console(terminal),
            socket,
        )?;
        take_terminal()?;
    } else {
        descriptors::replace_null(|| inside.kernel.null())?;
    }
    let program = Program {
        argv: &spec.argv,
        env: environment(spec, contents),
        user: &spec.user,
        cwd: &spec.cwd,
        privileged: false,
        tty,
        kind: if spec.init {
            Kind::BelowInit
        } else {
            Kind::First
        },
    };
    // Closed by its owner: descriptors are not to be closed a second time if the start fails.
    drop(inside.kernel);
    become_and_exec(spec, program, inside.root, users, socket)
}

/// A further process in a running container; returns only with an error.
///
/// Whoever is in the container can look at, and with `CAP_SYS_PTRACE` take over, the processes of its
/// process namespace. So this process stays outside of it while it has anything that the container
/// has not; the last step is a sibling inside that is as the program will be.
pub fn exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    init: BorrowedFd,
    stdio: Option<Stdio>,
    parcel: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> SetupError {
    let Err(error) = try_exec(spec, request, init, stdio, parcel, socket);
    error
}

fn try_exec(
    spec: &ContainerSpec,
    request: &ExecRequest,
    init: BorrowedFd,
    stdio: Option<Stdio>,
    parcel: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    let tty = stdio.is_none();
    // Outside, where nobody in the container can look at it.
    let contents = unpack(stdio, parcel, &[init, socket], Contents::variables)?;
    detach_from_shim(spec.oom_score_adj)?;
    wait_for_shim(socket)?;
    // The process namespace is for children only.
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP;
    step(sys::setns(init, kinds), || "enter the container".to_owned())?;
    let users = spec.security.user_namespace.map(|_| init);
    let kept: Vec<_> = users.into_iter().chain([socket]).collect();
    descriptors::close_all_but(&kept)?;
    let root = step(Root::open(Path::new("/")), || {
        "open the container's root".to_owned()
    })?;
    if tty {
        let master = descriptors::open_device(&root, "/dev/pts/ptmx")?;
        descriptors::install_terminal(&master, |_| Ok(()), socket)?;
    } else {
        descriptors::replace_null(|| descriptors::open_device(&root, "/dev/null"))?;
    }
    let mut env = environment(spec, contents);
    env.extend(request.env.clone());
    let program = Program {
        argv: &request.argv,
        env,
        user: request.user.as_deref().unwrap_or(&spec.user),
        cwd: request.cwd.as_deref().unwrap_or(&spec.cwd),
        privileged: request.privileged,
        tty,
        kind: Kind::Further,
    };
    become_and_exec(spec, program, root, users, socket)
}

/// Installs standard input, output and error, and reads the container's secrets; what is open
/// afterwards is `kept` and what they were read from.
fn unpack(
    stdio: Option<Stdio>,
    parcel: Option<BorrowedFd>,
    kept: &[BorrowedFd],
    read: fn(BorrowedFd) -> io::Result<Contents>,
) -> Result<Contents, SetupError> {
    let Some(parcel) = parcel else {
        descriptors::shed(stdio, kept)?;
        return Ok(Contents::default());
    };
    descriptors::shed(stdio, &[kept, &[parcel]].concat())?;
    step(read(parcel), || "read the container's secrets".to_owned())
}

/// What the spec says, and what it must not say.
fn environment(spec: &ContainerSpec, contents: Contents) -> BTreeMap<String, String> {
    let mut env = spec.env.clone();
    let secret = contents.env.iter();
    env.extend(secret.map(|(name, value)| (name.clone(), value.as_str().to_owned())));
    env
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

/// Until the cgroups are joined, and until the shim knows a further process.
fn wait_for_shim(socket: BorrowedFd) -> Result<(), SetupError> {
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
/// `CAP_SYS_ADMIN` unless no_new_privs is set, so it comes before capabilities are dropped. `users` is a user
/// namespace to take them on in; what only the host's root may do comes before.
fn become_and_exec(
    spec: &ContainerSpec,
    mut program: Program,
    root: Root,
    users: Option<BorrowedFd>,
    socket: BorrowedFd,
) -> Result<Infallible, SetupError> {
    let identity = user::resolve(&root, program.user, &spec.groups)?;
    complete_environment(&mut program, &identity, &spec.hostname);
    set_limits(&spec.ulimits)?;
    let owners = Owners::of(spec);
    for id in identity.groups.iter().chain([&identity.gid]) {
        owners.on_host(*id)?;
    }
    descriptors::hand_over(owners.on_host(identity.uid)?, program.tty)?;
    let mut security = spec.security.clone();
    if program.privileged {
        security.cap_add = vec!["ALL".to_owned()];
        security.seccomp_unconfined = true;
    }
    let caps = CapSet::of(&security)?;
    let unfiltered = security.seccomp_unconfined || security.privileged;
    let filter = (!unfiltered).then(|| seccomp::filter(caps));
    enter_folder(&root, program.cwd)?;
    drop(root);
    if let Some(users) = users {
        idmap::join(users)?;
    }
    descriptors::close_all_but(&[socket])?;
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
    match program.kind {
        Kind::First => {}
        Kind::BelowInit => step(reaper::split(), || "start the container's init".to_owned())?,
        Kind::Further => enter_processes(program.tty, socket)?,
    }
    step(sys::close_on_exec_from(3), || {
        "close descriptors".to_owned()
    })?;
    step(sys::send(socket, b"R", &[]), || {
        "speak to the shim".to_owned()
    })?;
    Err(run(&program))
}

/// Goes on as a sibling in the container's process namespace, once the shim knows it.
fn enter_processes(tty: bool, socket: BorrowedFd) -> Result<(), SetupError> {
    // SAFETY: this process has one thread.
    let sibling = step(unsafe { sys::fork_sibling() }, || {
        "start a process in the container".to_owned()
    })?;
    if let Some(sibling) = sibling {
        // A sibling that the shim does not hear of ends with the connection.
        let told = sys::send(socket, b"P", &[sibling.pidfd.as_fd()]);
        sys::exit_now(i32::from(told.is_err()));
    }
    die_with_shim()?;
    step(rustix::process::setsid(), || "start a session".to_owned())?;
    if tty {
        take_terminal()?;
    }
    wait_for_shim(socket)
}

/// Makes the terminal at standard input that of this session.
fn take_terminal() -> Result<(), SetupError> {
    let taken = rustix::process::ioctl_tiocsctty(rustix::stdio::stdin());
    step(taken, || "take the terminal over".to_owned())
}

/// Makes a folder of the container the working directory, and sure that it is one.
fn enter_folder(root: &Root, path: &str) -> Result<(), SetupError> {
    let enter = || -> io::Result<()> {
        let spot = root.spot(Path::new(path), true)?;
        rustix::process::fchdir(&*spot.open_folder()?)?;
        match sys::is_inside_root()? {
            true => Ok(()),
            false => Err(io::Error::other("it is not in the container")),
        }
    };
    step(enter(), || format!("enter {path}"))
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
