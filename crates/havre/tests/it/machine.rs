//! A machine of its own for a test of the whole product: processes, mounts and network are seen by
//! nobody else and end with it, so that the usual ports are free.
//!
//! ```text
//! test ─► unshare ─► sh, which is init ─► the same test once more: Machine, havre, daemon, …
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use havre_testing::load::{LoadPlan, LoadReport, run};
use havre_testing::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::program::{Ran, command, program};

/// Where the inner test finds its folder.
const FOLDER: &str = "HAVRE_TEST_MACHINE";
/// For a whole test, on a busy machine.
const TEST_DEADLINE: Duration = Duration::from_secs(300);
/// For what should take a second or less, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The domain of [`Machine::shop`].
const HOST: &str = "shop.localhost";

/// A base image is there under the name `base:1`; nothing was started yet.
pub struct Machine {
    folder: PathBuf,
    /// Mounts before the test.
    mounts: BTreeSet<String>,
}

/// Runs `test`, a closure written in the test function itself, on a machine of its own, then takes
/// everything down and looks for what stayed.
pub fn on_machine<F: FnOnce(&Machine)>(test: F) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let machine = Machine {
            folder: folder.into(),
            mounts: mounts(),
        };
        test(&machine);
        machine.ends_without_a_trace();
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    // `it::rollouts::the_test::{{closure}}`
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    let name = name.strip_suffix("::{{closure}}").expect("a closure");
    let folder = tempfile::Builder::new().prefix("hv").tempdir().unwrap();
    // For the test without root.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = enter(name, folder.path());
    remove_cgroups(folder.path());
    if let Err(output) = ended {
        panic!("{output}\n{}", daemon_logs(folder.path()));
    }
}

/// Like [`on_machine`], one at a time: for tests whose load would slow each other down.
pub fn on_machine_under_load<F: FnOnce(&Machine)>(test: F) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    on_machine(test);
}

/// Runs this program again for one test; its output is the error when it failed.
fn enter(name: &str, folder: &Path) -> Result<(), String> {
    let mut output = tempfile::tempfile().unwrap();
    let script = "ip link set lo up && \"$@\" & wait $!";
    let mut inner = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["--kill-child", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .spawn()
        .expect("unshare of util-linux");
    let deadline = Instant::now() + TEST_DEADLINE;
    let status = loop {
        if let Some(status) = inner.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            inner.kill().unwrap();
            inner.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    match status {
        Some(status) if status.success() && text.contains("1 passed") => {
            print!("{text}");
            Ok(())
        }
        Some(_) => Err(text),
        None => Err(format!("{text}\nnot done within {TEST_DEADLINE:?}")),
    }
}

fn daemon_logs(folder: &Path) -> String {
    ["root/lib/daemon.log", "talk-daemon", "root/lib/edge.log"]
        .map(|name| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
            format!("--- {name} ---\n{text}")
        })
        .join("\n")
}

impl Machine {
    /// `havre` with these words, in the project's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(command(&self.root(), args))
    }

    /// The same of whoever has no daemon here.
    pub fn command_elsewhere(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).stdin(Stdio::null());
        self.prepared(command)
    }

    fn prepared(&self, mut command: Command) -> Command {
        for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
            command
                .env_remove(name)
                .env_remove(name.to_ascii_uppercase());
        }
        command.current_dir(self.project());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs it and expects success.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "havre {args:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// The data of a command that succeeds.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.ok(&[args, &["--json"]].concat()).json()
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    pub fn project(&self) -> PathBuf {
        self.folder.join("project")
    }

    /// Writes a file of the project.
    pub fn write(&self, name: &str, text: &str) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(self.project())
            .unwrap();
        fs::write(self.project().join(name), text).unwrap();
    }

    /// The base image, and a project whose two web servers answer with `page`.
    pub fn shop(&self, page: &str) {
        self.web(SHOP);
        self.write("havre.yaml", &format!("domain: {HOST}\n"));
        self.write("Dockerfile", DOCKERFILE);
        self.page(page);
        self.ok(&["image", "import", &self.base_image(), "--tag", "base:1"]);
    }

    /// The shop, up: it answers `one`.
    pub fn shop_up(&self) {
        self.shop("one");
        self.ok(&["up"]);
        self.until_answers("one");
    }

    /// Makes the shop one web server with `more` in its compose file, as a key of the server's or
    /// after it.
    pub fn web(&self, more: &str) {
        self.write("compose.yaml", &format!("{WEB}{more}"));
    }

    /// That shop, up; its pages say `one`.
    pub fn web_up(&self, more: &str) {
        self.shop("one");
        self.web(more);
        self.ok(&["up"]);
    }

    /// Changes what the next release of the shop answers with.
    pub fn page(&self, page: &str) {
        self.write("index.html", page);
    }

    /// A root file system of BusyBox.
    fn base_image(&self) -> String {
        let tree = self.folder.join("base");
        for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "www"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("package busybox-static");
        let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        for name in list.lines().filter(|name| *name != "busybox") {
            symlink("busybox", tree.join("bin").join(name)).unwrap();
        }
        fs::write(
            tree.join("etc/passwd"),
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
        )
        .unwrap();
        let archive = self.folder.join("base.tar").display().to_string();
        let tree = tree.display().to_string();
        let mut tar = Command::new("tar");
        tar.args(["-C", &tree, "-cf", &archive, "."]);
        assert!(tar.status().unwrap().success());
        archive
    }

    /// What the shop answers over HTTPS, verified with the exported authority.
    pub fn get(&self) -> Result<String, String> {
        let ca = self.folder.join("ca.pem");
        if !ca.exists() {
            fs::write(&ca, self.ca()).unwrap();
        }
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
            .args(["--noproxy", "*"])
            .args(["--resolve", &format!("{HOST}:443:127.0.0.1")])
            .arg("--cacert")
            .arg(&ca)
            .arg(format!("https://{HOST}/"))
            .output()
            .expect("curl");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn ca(&self) -> String {
        self.ok(&["ca", "export"]).out
    }

    /// Waits until the shop answers with `page`; returns how long that took.
    #[track_caller]
    pub fn until_answers(&self, page: &str) -> Duration {
        let started = Instant::now();
        let mut before = None;
        wait_until(&format!("the shop answers {page:?}"), SOON, || {
            let answer = Some(self.get());
            if answer != before {
                // Shown where the test fails.
                println!("the shop answers {answer:?}");
                before.clone_from(&answer);
            }
            matches!(answer, Some(Ok(text)) if text == page)
        });
        started.elapsed()
    }

    /// Requests at `rate` a second until stopped.
    pub fn load(&self, rate: f64) -> Load {
        let plan = LoadPlan {
            resolve: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 443))),
            ca_pem: Some(self.ca()),
            // How long answers take is no matter here: the machine may be busy with other tests.
            request_deadline: SOON,
            most_in_flight: 20_000,
            ..LoadPlan::new(&format!("https://{HOST}"), rate)
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(plan, stopped))
                .unwrap()
        });
        Load { stop, thread }
    }

    /// Starts the program in the background, its talk in a file that [`Background::talk`] reads.
    pub fn start(&self, args: &[&str]) -> Background {
        self.start_command(args[0], self.command(args))
    }

    /// The same with a command of its own, whose talk is in a file of that name.
    pub fn start_command(&self, name: &str, mut command: Command) -> Background {
        let path = self.folder.join(format!("talk-{name}"));
        let talk = File::options().create(true).append(true).open(&path);
        let talk = talk.unwrap();
        let before = talk.metadata().unwrap().len();
        let child = command
            .stdout(talk.try_clone().unwrap())
            .stderr(talk)
            .spawn()
            .unwrap();
        Background {
            child,
            path,
            before,
            left: false,
        }
    }

    /// Starts a daemon where none runs, as an init system does, and waits until it answers.
    pub fn start_daemon(&self) {
        let daemon = self.start(&["daemon"]);
        self.until_daemon_answers();
        daemon.leave();
    }

    /// Waits until a daemon answers.
    pub fn until_daemon_answers(&self) {
        wait_until("the daemon answers", SOON, || {
            self.run(&["version", "--json"]).json()["daemon"].is_object()
        });
    }

    /// What the daemon says of itself.
    pub fn info(&self) -> Value {
        self.json(&["version"])["daemon"].clone()
    }

    /// The shop's status.
    pub fn status(&self) -> Value {
        self.json(&["status"])[0].clone()
    }

    /// Ids and processes of the replicas that run.
    pub fn replicas(&self) -> BTreeSet<(String, u64)> {
        let replicas = self.json(&["ps"]);
        let replicas = replicas.as_array().unwrap().iter();
        let replicas = replicas.filter(|replica| replica["state"] == "running");
        replicas
            .map(|replica| {
                let id = replica["id"].as_str().unwrap().to_owned();
                (id, replica["pid"].as_u64().unwrap_or_default())
            })
            .collect()
    }

    /// The process of the shop's name server.
    pub fn name_server(&self) -> Option<u64> {
        let folder = self.root().join("run/net/shop.production");
        let wanted = format!("dns\0{}\0", folder.display());
        processes().into_iter().find(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).ends_with(&wanted)
        })
    }

    /// All is as the newest release wants it and no operation is under way.
    pub fn until_settled(&self) {
        wait_until("the environment is settled", SOON, || {
            let status = self.status();
            status["state"] == "running" && status["operation"].is_null()
        });
    }

    /// As when the power fails: all processes end, mounts are gone.
    pub fn lose_power(&self) {
        let own = u64::from(std::process::id());
        // Again and again: a daemon whose turn has not come starts anew what has ended.
        wait_until("all processes have ended", SOON, || {
            let mut left = processes();
            left.retain(|pid| *pid != 1 && *pid != own);
            left.iter().for_each(|pid| begin_to_kill(*pid));
            left.is_empty()
        });
        let root = self.root().display().to_string();
        for mount in mounts().iter().rev().filter(|path| path.starts_with(&root)) {
            let unmounted = Command::new("umount").args(["--lazy", mount]).status();
            assert!(unmounted.unwrap().success(), "{mount}");
        }
    }

    /// The run folder, as a reboot leaves it where it is in memory.
    pub fn clear_run(&self) {
        fs::remove_dir_all(self.root().join("run")).unwrap();
    }

    /// What `down` and `daemon stop` leave: nothing.
    fn ends_without_a_trace(&self) {
        let environments = self.run(&["status", "--json"]);
        if environments.code == 0 && environments.json() != Value::Array(Vec::new()) {
            self.ok(&["down", "--volumes"]);
        }
        self.ok(&["daemon", "stop"]);
        let own = u64::from(std::process::id());
        wait_until("no process is left", SOON, || {
            processes().iter().all(|pid| *pid == 1 || *pid == own)
        });
        let more: Vec<String> = mounts().difference(&self.mounts).cloned().collect();
        assert_eq!(more, [""; 0], "mounts");
        let devices = devices();
        assert_eq!(devices, [""; 0], "network devices");
        let groups = cgroups(&self.folder);
        assert!(groups.is_empty(), "cgroups: {groups:?}");
        let rules = Command::new("nft").args(["list", "ruleset"]).output();
        let rules = rules.expect("nft").stdout;
        assert_eq!(String::from_utf8(rules).unwrap(), "", "firewall rules");
    }
}

/// Load under way.
pub struct Load {
    stop: CancellationToken,
    thread: JoinHandle<LoadReport>,
}

impl Load {
    /// Ends it; not one request may have failed, and there must have been at least `least`.
    #[track_caller]
    pub fn drops_nothing(self, least: u64) -> LoadReport {
        let report = self.ends();
        assert_eq!(report.failed, 0, "{:?}", report.first_failures);
        assert!(report.requests >= least, "{} requests", report.requests);
        report
    }

    /// Ends it, whatever has failed.
    pub fn ends(self) -> LoadReport {
        self.stop.cancel();
        let report = self.thread.join().unwrap();
        println!("{report:?}");
        report
    }
}

/// A program in the background; killed when it is dropped, unless it was left.
pub struct Background {
    child: Child,
    path: PathBuf,
    /// Bytes of others before its own.
    before: u64,
    left: bool,
}

impl Background {
    /// What it has said so far.
    pub fn talk(&self) -> String {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.before)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    /// Its exit code, once it has ended of itself.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let mut code = None;
        wait_until("the program ends", SOON, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.child.try_wait().unwrap()?;
        Some(status.code().unwrap_or(-1))
    }

    /// Lets it run on.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.left {
            // It may have ended.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// SIGKILL, and the end, which takes a moment on a busy machine; it may have ended before.
pub fn kill(pid: u64) {
    begin_to_kill(pid);
    wait_until("a killed process has ended", SOON, || !runs(pid));
}

/// SIGKILL, without the wait for the end.
pub fn begin_to_kill(pid: u64) {
    let pid = i32::try_from(pid).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
}

/// The parent of a process.
pub fn parent(pid: u64) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Whether there is such a process and it has not ended. It has not while one of its threads is left:
/// what it had open, such as the daemon's socket, is closed by the last one.
pub fn runs(pid: u64) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, s)| s.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    })
}

/// All processes of the machine that have not ended.
fn processes() -> Vec<u64> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|pid| runs(*pid)).collect()
}

/// Mount points; what lies in another comes after it.
fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect()
}

/// Network devices of the installation.
pub fn devices() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/net/dev").unwrap();
    text.lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        // The kernel's own tunnels come with every namespace, down.
        .filter(|name| name.starts_with("hv") || name.starts_with("veth"))
        .collect()
}

/// The cgroups of the installation in `folder`, outermost first.
fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let root = havre_app::Root::new(Some(folder.join("root")));
    let name = format!("havre-{}", root.instance());
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
    let hierarchies = hierarchies.flatten().map(|entry| entry.path().join(&name));
    hierarchies
        .chain([Path::new("/sys/fs/cgroup").join(&name)])
        .filter(|path| path.is_dir())
        .collect()
}

/// After a test that failed: what outlives its processes.
fn remove_cgroups(folder: &Path) {
    fn remove(path: &Path) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        // One that has members stays, which the next test does not mind.
        fs::remove_dir(path).ok();
    }
    for path in cgroups(folder) {
        remove(&path);
    }
}

/// The program's own file, opened, for those who may not look into its folder.
pub fn program_file() -> File {
    File::open(program()).unwrap()
}

const WEB: &str = "\
name: shop
services:
  web:
    build: .
    init: true
    expose: [8080]
";

const SHOP: &str = "
    deploy: {replicas: 2}
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/']
      interval: 1s
      timeout: 10s
      retries: 5
      start_period: 30s
      start_interval: 100ms
";

const DOCKERFILE: &str = "\
FROM base:1
RUN mkdir -p /www && echo baked > /www/baked
COPY index.html /www/
CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]
";
