//! A place for each test: engine, root file system, folders; and a check that nothing is left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use havre_engine::{
    ContainerId, ContainerSpec, Engine, EngineConfig, ExecSpec, Exit, LogQuery, LogSpec, Observed,
    RestartRule, Security, State, read_logs,
};
use havre_image::overlay::{Overlay, Writable};
use libtest_mimic::Failed;
use tempfile::TempDir;

/// A test in its place.
pub type Test = for<'a> fn(&'a Sandbox) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

const BUSYBOX: &str = "/bin/busybox";

/// What this machine lacks.
pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("root");
    }
    let static_busybox = fs::metadata(BUSYBOX).is_ok_and(|m| m.len() > 1 << 20);
    (!static_busybox).then_some("busybox-static")
}

/// Runs a test on a runtime of its own and looks for leftovers.
pub fn run(test: Test) -> Result<(), Failed> {
    let place = Sandbox::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let limit = tokio::time::timeout(Duration::from_secs(120), test(&place));
            limit
                .await
                .map_err(|_| "the test took longer than two minutes")
        })
    }));
    let left = runtime.block_on(place.clean());
    drop(runtime);
    match outcome {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(late)) => Err(late.into()),
        Ok(Ok(())) if left.is_empty() => Ok(()),
        Ok(Ok(())) => Err(format!("left behind: {left:?}").into()),
    }
}

/// Where one test works.
pub struct Sandbox {
    /// All of its files.
    pub dir: TempDir,
    /// The run directory, in memory as in production.
    pub run: TempDir,
    /// Names its cgroups.
    pub instance: String,
    engine: OnceLock<Engine>,
}

impl Sandbox {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            dir: tempfile::Builder::new()
                .prefix("havre-engine-")
                .tempdir()
                .expect("a folder"),
            run: tempfile::Builder::new()
                .prefix("havre-engine-")
                .tempdir_in("/dev/shm")
                .expect("a folder in memory"),
            instance: format!("t{}-{number}", std::process::id()),
            engine: OnceLock::new(),
        }
    }

    /// The engine of the test; a daemon's.
    pub fn engine(&self) -> &Engine {
        self.engine.get_or_init(|| self.another_engine())
    }

    /// As a second daemon would make one on the same directory.
    pub fn another_engine(&self) -> Engine {
        Engine::new(EngineConfig {
            run_dir: self.run.path().to_owned(),
            exe: std::env::current_exe().expect("this binary"),
            exe_args: Vec::new(),
            instance: self.instance.clone(),
        })
        .expect("an engine")
    }

    /// The folder of a container.
    pub fn run_dir(&self, spec: &ContainerSpec) -> PathBuf {
        self.run.path().join("c").join(&spec.id.0)
    }

    /// A container that runs `script` in a shell.
    pub fn spec(&self, name: &str, script: &str) -> ContainerSpec {
        let of_container = |kind: &str| {
            let dir = self.dir.path().join(kind).join(name);
            fs::create_dir_all(&dir).expect("a folder");
            dir
        };
        ContainerSpec {
            id: ContainerId(name.to_owned()),
            labels: BTreeMap::from([("service".to_owned(), name.to_owned())]),
            rootfs: Overlay {
                lower: vec![rootfs().to_owned()],
                upper: Some(Writable {
                    upper: of_container("upper"),
                    work: of_container("work"),
                }),
            },
            read_only: false,
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: "/".to_owned(),
            user: String::new(),
            groups: Vec::new(),
            hostname: name.to_owned(),
            mounts: Vec::new(),
            files: Vec::new(),
            secrets: Vec::new(),
            netns: None,
            limits: havre_engine::Limits::default(),
            oom_score_adj: 0,
            cgroup_parent: "test/deep".to_owned(),
            security: Security::default(),
            shares: Default::default(),
            devices: Default::default(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            shm_size_bytes: 64 << 20,
            init: false,
            tty: false,
            stdin_open: false,
            stop_signal: "SIGTERM".to_owned(),
            stop_grace: Duration::from_secs(5),
            health: None,
            liveness: None,
            restart: RestartRule::Never,
            log: LogSpec {
                dir: of_container("log"),
                max_size_bytes: 1 << 20,
                max_files: 3,
            },
        }
    }

    /// Starts a container that must run.
    pub async fn start(&self, spec: &ContainerSpec) {
        self.engine().create(spec).await.expect("created");
    }

    /// Runs a container to its end: exit and output of both streams.
    pub async fn run(&self, spec: &ContainerSpec) -> (Exit, String) {
        self.start(spec).await;
        let exit = tokio::time::timeout(DEADLINE, self.engine().wait(&spec.id)).await;
        let exit = exit.expect("it ends in time").expect("an exit status");
        (exit, logs(spec).await)
    }

    /// Runs a command in a container: exit code and output.
    pub async fn exec(&self, spec: &ContainerSpec, exec: ExecSpec) -> (i32, String) {
        use tokio::io::AsyncReadExt;
        let mut session = self.engine().exec(&spec.id, exec).await.expect("executed");
        let (mut out, mut err) = (String::new(), String::new());
        let mut stdout = session.stdout.take().expect("a pipe");
        let mut stderr = session.stderr.take().expect("a pipe");
        let (a, b) = tokio::join!(
            stdout.read_to_string(&mut out),
            stderr.read_to_string(&mut err)
        );
        a.and(b).expect("readable output");
        (session.wait().await.expect("a code"), out + &err)
    }

    /// Waits until the engine has seen a state.
    pub async fn until(
        &self,
        spec: &ContainerSpec,
        what: &str,
        is: impl Fn(&Observed) -> bool,
    ) -> Observed {
        until_in(self.engine(), spec, what, is).await
    }

    /// Removes everything; what could not be, and what is left anyway.
    async fn clean(&self) -> Vec<String> {
        let engine = self.another_engine();
        let mut left = Vec::new();
        for observed in reconciled(&engine).await {
            let errors = engine.remove(&observed.id).await;
            left.extend(errors.iter().map(ToString::to_string));
        }
        reconciled(&engine).await;
        engine.shutdown().await;
        left.extend(self.leftovers());
        left
    }

    /// Processes, mounts and cgroups that name this test.
    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let paths = [&self.dir, &self.run].map(|d| d.path().to_string_lossy().into_owned());
        let deadline = Instant::now() + DEADLINE;
        while !processes_naming(&paths).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        left.extend(processes_naming(&paths));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = |line: &&str| paths.iter().any(|p| line.contains(p));
        left.extend(mounts.lines().filter(ours).map(str::to_owned));
        let top = format!("havre-{}", self.instance);
        for base in ["/sys/fs/cgroup".to_owned()]
            .into_iter()
            .chain(subdirs("/sys/fs/cgroup"))
        {
            let group = Path::new(&base).join(&top);
            if group.exists() {
                left.push(group.display().to_string());
            }
        }
        left
    }
}

fn subdirs(path: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|e| e.path().display().to_string()).collect()
}

fn processes_naming(texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for dir in subdirs("/proc") {
        let command = fs::read(format!("{dir}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if texts.iter().any(|text| command.contains(text)) {
            found.push(command);
        }
    }
    found
}

/// What an engine knows after a look at the machine.
pub async fn reconciled(engine: &Engine) -> Vec<Observed> {
    engine.reconcile().await.expect("a look at the machine");
    engine.containers()
}

/// Waits until an engine has seen a state.
pub async fn until_in(
    engine: &Engine,
    spec: &ContainerSpec,
    what: &str,
    is: impl Fn(&Observed) -> bool,
) -> Observed {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = engine.get(&spec.id).await;
        match now {
            Some(observed) if is(&observed) => return observed,
            other if Instant::now() > deadline => panic!("never {what}: {other:?}"),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits for a condition.
pub async fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// All output so far.
pub async fn logs(spec: &ContainerSpec) -> String {
    let mut reader = read_logs(&spec.log.dir, LogQuery::default());
    let mut text = String::new();
    while let Some(line) = reader.next().await.expect("readable logs") {
        text += &line.text;
        text += if line.partial { "" } else { "\n" };
    }
    text
}

/// Waits until the output contains a text.
pub async fn logged(spec: &ContainerSpec, text: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let all = logs(spec).await;
        if all.contains(text) {
            return all;
        }
        assert!(Instant::now() < deadline, "never logged {text:?}: {all}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A command.
pub fn command(argv: &[&str]) -> ExecSpec {
    ExecSpec {
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        ..ExecSpec::default()
    }
}

/// Host process id of a running container.
pub fn pid(observed: &Observed) -> u32 {
    match observed.state {
        State::Running { pid, .. } => pid,
        ref other => panic!("not running: {other:?}"),
    }
}

/// Shared by all tests of one run.
static ROOTFS: OnceLock<PathBuf> = OnceLock::new();

/// The image: busybox with its applets and a few accounts.
fn rootfs() -> &'static Path {
    ROOTFS.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("havre-rootfs-")
            .tempdir()
            .expect("a folder");
        build_rootfs(dir.path());
        dir.keep()
    })
}

/// What a run leaves when all its tests are over.
pub fn clean_up() {
    if let Some(root) = ROOTFS.get() {
        fs::remove_dir_all(root).expect("to remove the image");
    }
}

fn build_rootfs(root: &Path) {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("mode");
    for dir in ["bin", "etc", "data/sub", "home/app", "run", "var"] {
        fs::create_dir_all(root.join(dir)).expect("a folder");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("busybox");
    for applet in [
        "sh", "su", "cat", "echo", "sleep", "id", "ls", "true", "false", "kill", "ps", "grep",
        "mount", "touch", "rm", "mkdir", "stat", "hostname", "seq", "yes", "head", "dd", "tr",
        "stty", "test", "env", "pwd", "ulimit", "chmod", "tail", "mknod", "unshare", "wc", "sync",
        "tty", "printf", "date", "usleep", "nc", "ip", "chown", "umount", "od", "setsid", "find",
    ] {
        symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    symlink("/run", root.join("var/run")).expect("a link");
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
    )
    .expect("accounts");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\napp:x:1001:\naudio:x:29:app\nweb:x:33:\n",
    )
    .expect("groups");
    fs::write(root.join("etc/script"), "#!/no/such/interpreter\n").expect("a script");
    fs::set_permissions(root.join("etc/script"), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(root.join("data/sub/file"), "from the image\n").expect("a file");
    std::os::unix::fs::chown(root.join("data"), Some(1000), Some(1001)).expect("owner");
}
