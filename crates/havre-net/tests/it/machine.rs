//! A machine to test on, and ways to look at it from outside the crate: `ip`, `nft`, sockets.
//!
//! ```text
//!   internet namespace          the machine (host namespace of the test)
//!   198.51.100.1/24 inet0 ═════ wan0 198.51.100.2/24, default via .1, MTU 1400
//!   203.0.113.9/32 (far host)
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use havre_net::{Net, NetConfig, NetworkSpec};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::Test;

/// Longest run of one test: far beyond the slowest on a busy machine.
const DEADLINE: Duration = Duration::from_secs(600);
/// Longest wait for a connection that must come about.
const CONNECT: Duration = Duration::from_secs(5);
const ENTER: &str = "--enter-machine";
const INSIDE: &str = "--inside-machine";

/// The internet's own address.
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The machine's address there.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Runs a test in a machine of its own; its output is the error.
pub fn run(name: &str) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = tempfile::tempfile().map_err(|error| error.to_string())?;
    let dup = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let mut child = Command::new(this)
        .args([ENTER, name])
        .stdin(Stdio::null())
        .stdout(dup(&output)?)
        .stderr(dup(&output)?)
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => {
                child.kill().map_err(|error| error.to_string())?;
                child.wait().map_err(|error| error.to_string())?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    let mut output = output;
    std::io::Seek::rewind(&mut output).map_err(|error| error.to_string())?;
    output
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    match status {
        Some(status) if status.success() => {
            print!("{text}");
            Ok(())
        }
        Some(_) => Err(text),
        None => Err(format!("not done within {} s\n{text}", DEADLINE.as_secs())),
    }
}

/// The test this process is to run inside a machine, if it was started for that.
pub fn wanted_inside(arguments: &[OsString]) -> Option<OsString> {
    let (first, name) = (arguments.first()?, arguments.get(1)?);
    if first == ENTER {
        // SAFETY: this process has one thread and shares no descriptor table.
        unsafe {
            rustix::thread::unshare_unsafe(
                UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID,
            )
        }
        .expect("namespaces of its own");
        // Only a child is in the new process namespace, as its process 1: when that ends, all
        // others in it do.
        let status = Command::new("/proc/self/exe")
            .args([INSIDE.as_ref(), name.as_os_str()])
            .status()
            .expect("started");
        std::process::exit(status.code().unwrap_or(1));
    }
    (first == INSIDE).then(|| name.clone())
}

/// Runs a test as the first process of its machine.
pub fn run_inside(name: &OsString, tests: &[Test]) -> ExitCode {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("set");
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("private mounts");
    rustix::mount::mount("proc", "/proc", "proc", MountFlags::empty(), None).expect("proc");
    let (_, body) = tests
        .iter()
        .find(|(test, _)| name == test)
        .expect("a test of that name");
    body();
    ExitCode::SUCCESS
}

/// The machine of a test.
pub struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// A machine on the internet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), None)
            .expect("a file system for pins");
        let machine = Self { dir };
        let internet = machine.internet();
        pin_new_namespace(&internet);
        let pin = internet.display();
        for command in [
            // Its addresses change by themselves for some seconds.
            "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",
            // The strictest a host may be about where packets come from.
            "sysctl -qw net.ipv4.conf.all.rp_filter=1",
            "sysctl -qw net.ipv4.ip_forward=0",
            "ip link set lo up",
            &format!("ip link add wan0 mtu 1400 type veth peer name inet0 mtu 1400 netns {pin}"),
            "ip address add 198.51.100.2/24 dev wan0",
            "ip link set wan0 up",
            &format!("nsenter --net={pin} ip address add 198.51.100.1/24 dev inet0"),
            &format!("nsenter --net={pin} ip address add 203.0.113.9/32 dev lo"),
            &format!("nsenter --net={pin} ip link set lo up"),
            &format!("nsenter --net={pin} ip link set inet0 up"),
            "ip route add default via 198.51.100.1",
        ] {
            sh(command);
        }
        wait_until("the internet is connected", CONNECT, || {
            !sh_output("ip route show table all").contains("linkdown")
        });
        machine
    }

    /// A server in a second network of the machine, which is its way to everywhere.
    pub const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    /// Makes the second network; the pin of the server's namespace.
    pub fn second_network(&self) -> PathBuf {
        let path = self.dir.path().join("second");
        pin_new_namespace(&path);
        let pin = path.display();
        for command in [
            &format!("ip link add lan0 type veth peer name inner0 netns {pin}"),
            "ip address add 10.77.0.1/24 dev lan0",
            "ip link set lan0 up",
            &format!(
                "nsenter --net={pin} ip address add {}/24 dev inner0",
                Self::SECOND
            ),
            &format!("nsenter --net={pin} ip link set inner0 up"),
            &format!("nsenter --net={pin} ip route add default via 10.77.0.1"),
        ] {
            sh(command);
        }
        wait_until("the second network is connected", CONNECT, || {
            !sh_output("ip route show table all").contains("linkdown")
        });
        path
    }

    /// A folder of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Pin of the internet's namespace.
    pub fn internet(&self) -> PathBuf {
        self.dir.path().join("internet")
    }

    pub fn config(&self, instance: &str) -> NetConfig {
        NetConfig::new(
            self.dir.path().join(instance).join("run"),
            self.dir.path().join(instance).join("state"),
            instance,
        )
    }

    pub fn net(&self, instance: &str) -> Net {
        Net::new(self.config(instance)).expect("an instance")
    }

    /// All that a test could leave behind, as text.
    pub fn traces(&self) -> String {
        // Mounts of other folders are the real host's, and change under a test's feet.
        sh_output(&format!(
            "ip -o link | sed 's/<.*> mtu/mtu/; s/qdisc.*//'
            ip -o address | sed 's/valid_lft.*//'
            ip route show table all
            nft list ruleset | sed 's/counter packets [0-9]* bytes [0-9]*//'
            iptables -S
            iptables -t nat -S
            grep nsfs /proc/self/mountinfo | grep -c {}/",
            self.dir.path().display()
        ))
    }

    /// Waits until the machine looks as it did: the kernel removes some things a little later.
    pub fn returns_to(&self, before: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let now = self.traces();
            if now == before {
                return;
            }
            if Instant::now() > deadline {
                return assert_same(before, &now);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Files below an instance's folders.
    pub fn files(&self, instance: &str) -> Vec<String> {
        let found = sh_output(&format!(
            "cd {} && find . -type f | sort",
            self.dir.path().join(instance).display()
        ));
        found.lines().map(str::to_owned).collect()
    }
}

/// Makes a network namespace that stays, pinned at `path`.
fn pin_new_namespace(path: &Path) {
    fs::write(path, "").expect("a place for the pin");
    let pin = path.to_owned();
    std::thread::spawn(move || {
        // SAFETY: a new network namespace shares no memory and no descriptor table.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a namespace");
        let own = "/proc/thread-self/ns/net";
        rustix::mount::mount(own, &pin, "", MountFlags::BIND, None).expect("pinned");
    })
    .join()
    .expect("the namespace");
}

/// Compares two long texts; shows what differs.
pub fn assert_same(before: &str, after: &str) {
    let only_in = |one: &str, other: &str| -> Vec<String> {
        one.lines()
            .filter(|line| !other.lines().any(|it| it == *line))
            .map(str::to_owned)
            .collect()
    };
    let (more, less) = (only_in(after, before), only_in(before, after));
    assert!(before == after, "too much: {more:#?}\nmissing: {less:#?}");
}

pub fn networks(names: &[&str]) -> Vec<NetworkSpec> {
    names
        .iter()
        .map(|name| NetworkSpec {
            name: (*name).to_owned(),
            internal: name.starts_with("internal"),
            shared: name.ends_with("@shared"),
            confined: name.starts_with("confined"),
        })
        .collect()
}

/// Runs a command of the shell, which must succeed.
pub fn sh(command: &str) {
    let output = Command::new("sh")
        .args(["-ec", command])
        .output()
        .expect("sh");
    assert!(
        output.status.success(),
        "{command}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Output of a command of the shell.
pub fn sh_output(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("sh");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `command` in the namespace pinned at `netns`.
pub fn sh_in(netns: &Path, command: &str) -> String {
    sh_output(&format!("nsenter --net={} {command}", netns.display()))
}

/// Runs `work` in a namespace.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(netns).expect("a pinned namespace");
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                use std::os::fd::AsFd;
                rustix::thread::move_into_link_name_space(
                    file.as_fd(),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("entered");
                work()
            })
            .join()
            .expect("no panic")
    })
}

/// A server in a namespace that tells each client the address it sees it under.
pub fn serve(netns: &Path, port: u16) {
    let listener = inside(netns, || {
        TcpListener::bind(("0.0.0.0", port)).expect("a free port")
    });
    answer(listener);
}

/// The same in the machine's own namespace.
pub fn serve_here(port: u16) {
    answer(TcpListener::bind(("0.0.0.0", port)).expect("a free port"));
}

fn answer(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Ok(peer) = stream.peer_addr() else {
                continue;
            };
            if write!(stream, "{}", peer.ip()).is_ok() {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    });
}

/// The address the server sees, or why it was not reached.
pub fn ask(to: impl Into<IpAddr>, port: u16, patience: Duration) -> Result<IpAddr, String> {
    let address = SocketAddr::new(to.into(), port);
    let mut stream =
        TcpStream::connect_timeout(&address, patience).map_err(|error| error.to_string())?;
    stream
        .set_read_timeout(Some(CONNECT))
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    text.parse().map_err(|_| format!("answer {text:?}"))
}

/// [`ask`] with the client bound to an address.
pub fn ask_from(from: Ipv4Addr, to: Ipv4Addr, port: u16, patience: Duration) -> Result<(), String> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let work = || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
        rustix::net::bind(&socket, &SocketAddr::new(from.into(), 0))?;
        rustix::net::connect(&socket, &SocketAddr::new(to.into(), port))
    };
    work().map_err(|error| error.to_string())
}

/// From a namespace to a server that must be reached.
pub fn reaches(from: &Path, to: Ipv4Addr, port: u16) -> IpAddr {
    inside(from, || ask(to, port, CONNECT))
        .unwrap_or_else(|error| panic!("{} does not reach {to}:{port}: {error}", from.display()))
}

/// From the machine itself to a server that must be reached.
pub fn host_reaches(to: Ipv4Addr, port: u16) -> IpAddr {
    ask(to, port, CONNECT).unwrap_or_else(|error| panic!("no way to {to}:{port}: {error}"))
}

/// From a namespace to a server that must not be reached, and is refused at once.
pub fn is_refused(from: &Path, to: Ipv4Addr, port: u16) {
    let begun = Instant::now();
    let result = inside(from, || ask(to, port, CONNECT));
    assert!(result.is_err(), "{} reaches {to}:{port}", from.display());
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "refused by silence: {result:?}"
    );
}

/// Waits for a condition.
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
