//! A place for each test: an instance of engine and network, boxes; and a check that nothing is left.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use havre_box::{
    BoxConfig, BoxError, BoxRequest, Boxes, Caps, CreateOptions, DiskBounds, Ending, Ground,
    Grounds, Heard, IDS, Image, Runtime, Service, Workspace,
};
use havre_engine::{Engine, EngineConfig};
use havre_image::config::RunConfig;
use havre_job::{Document, Runner, Sources, Told, VERSION, paths};
use havre_net::{Net, NetConfig};
use libtest_mimic::Failed;
use tempfile::TempDir;

pub type Test = for<'a> fn(&'a Place) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

pub const DEADLINE: Duration = Duration::from_secs(60);
pub const WORKSPACE: &str = "/home/runner/work/shop/shop";
const BUSYBOX: &str = "/bin/busybox";

pub fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("root");
    }
    if !fs::metadata(BUSYBOX).is_ok_and(|meta| meta.len() > 1 << 20) {
        return Some("busybox-static");
    }
    let root = havre_engine::probe_host_root(IDS);
    (!root.ok).then_some("a root file system that allows mapped mounts")
}

pub fn run(test: Test) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let guard = runtime.enter();
    let place = Place::new();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let limit = tokio::time::timeout(Duration::from_secs(120), test(&place));
            limit
                .await
                .map_err(|_| "the test took longer than two minutes")
        })
    }));
    let left = runtime.block_on(place.clean());
    drop(guard);
    match outcome {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(Err(late)) => Err(late.into()),
        Ok(Ok(())) if left.is_empty() => Ok(()),
        Ok(Ok(())) => Err(format!("left behind: {left:?}").into()),
    }
}

pub struct Place {
    pub dir: TempDir,
    pub run: TempDir,
    instance: String,
    pub engine: Engine,
    pub net: Arc<Net>,
    pub boxes: Boxes,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Few letters: they are part of links' names.
        let instance = format!("b{}{number}", std::process::id() % 1000);
        let folder = |base: &str| {
            let mut builder = tempfile::Builder::new();
            builder
                .prefix("havre-box-")
                .tempdir_in(base)
                .expect("a folder")
        };
        let (dir, run) = (folder("/var/tmp"), folder("/dev/shm"));
        let engine = Self::engine(run.path(), &instance);
        let net = NetConfig::new(run.path().join("net"), dir.path().join("net"), &instance);
        let net = Arc::new(Net::new(net).expect("a network"));
        let boxes = Self::boxes(&engine, &net, dir.path());
        Self {
            dir,
            run,
            instance,
            engine,
            net,
            boxes,
        }
    }

    fn engine(run: &Path, instance: &str) -> Engine {
        Engine::new(EngineConfig {
            run_dir: run.join("engine"),
            exe: std::env::current_exe().expect("this binary"),
            exe_args: Vec::new(),
            instance: instance.to_owned(),
        })
        .expect("an engine")
    }

    fn boxes(engine: &Engine, net: &Arc<Net>, dir: &Path) -> Boxes {
        let disk = DiskBounds::of_disk(dir).expect("a disk");
        Self::bounded(engine, net, dir, disk)
    }

    fn bounded(engine: &Engine, net: &Arc<Net>, dir: &Path, disk: DiskBounds) -> Boxes {
        let exe = std::env::current_exe().expect("this binary");
        let config = BoxConfig {
            dir: dir.join("boxes"),
            exe: exe.clone(),
            runner_args: vec!["job-runner".to_owned()],
            ids: IDS,
            disk,
        };
        let runtime = Runtime::prepare(&exe, &dir.join("runtime")).expect("a runtime");
        let grounds = Grounds::new(dir.join("grounds"), [hidden()]).expect("grounds");
        Boxes::new(engine.clone(), Arc::clone(net), grounds, runtime, config).expect("boxes")
    }

    /// As another daemon would make them.
    pub async fn again(&self) -> (Engine, Boxes) {
        let engine = Self::engine(self.run.path(), &self.instance);
        engine.reconcile().await.expect("a look at the machine");
        let boxes = Self::boxes(&engine, &self.net, self.dir.path());
        (engine, boxes)
    }

    /// Other boxes of the same engine, in a folder of their own, that may take so much of its disk.
    pub fn small(&self, dir: &Path, disk: DiskBounds) -> Boxes {
        Self::bounded(&self.engine, &self.net, dir, disk)
    }

    /// Runs a box to its end: lines of the job, and how it ended. It is there until it is removed.
    pub async fn run(&self, request: BoxRequest) -> (Vec<String>, Ending) {
        let id = request.id.clone();
        self.boxes.start(request).await.expect("started");
        let (told, ending) = self.told(&id).await;
        (lines(&told), ending)
    }

    /// All that a box tells.
    pub async fn told(&self, id: &str) -> (Vec<Told>, Ending) {
        all(&self.boxes, id).await
    }

    async fn clean(&self) -> Vec<String> {
        let mut left = Vec::new();
        for id in self.boxes.list().expect("a list") {
            left.extend(self.boxes.remove(&id).await);
        }
        for id in self.boxes.list().expect("a list") {
            left.push(format!("box {id}"));
        }
        self.engine
            .reconcile()
            .await
            .expect("a look at the machine");
        left.extend(self.engine.containers().iter().map(|it| it.id.0.clone()));
        let name = self.dir.path().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&name))
                .map(str::to_owned),
        );
        left.extend(self.boxes.shutdown().await);
        let networks = fs::read_dir(self.run.path().join("net")).expect("a folder");
        let names = networks.map(|it| {
            it.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        });
        left.extend(
            names
                .filter(|name| !name.starts_with('.'))
                .map(|name| format!("network {name}")),
        );
        self.engine.shutdown().await;
        left
    }
}

/// What is hidden by its path, though everybody may read it.
pub fn hidden() -> PathBuf {
    PathBuf::from(format!(
        "/usr/local/havre-box-hidden-{}",
        std::process::id()
    ))
}

pub async fn all(boxes: &Boxes, id: &str) -> (Vec<Told>, Ending) {
    let mut follow = boxes.follow(id).expect("it is there");
    let mut told = Vec::new();
    let end = tokio::time::timeout(DEADLINE, async {
        loop {
            match follow.next().await.expect("readable") {
                Some(Heard::Told(one)) => told.push(one),
                Some(Heard::Ended(ending)) => return ending,
                None => panic!("nothing after the end"),
            }
        }
    });
    let end = end.await.expect("an end in time");
    assert_eq!(follow.next().await.expect("readable"), None);
    (told, end)
}

pub fn lines(told: &[Told]) -> Vec<String> {
    let text = |it: &Told| match it {
        Told::Line { text, .. } if text != "listening" => Some(text.clone()),
        _ => None,
    };
    told.iter().filter_map(text).collect()
}

/// A box on the machine's own programs.
pub fn host(id: &str, script: &str) -> BoxRequest {
    BoxRequest {
        id: id.to_owned(),
        document: document(script),
        filter: None,
        ground: Ground::Host,
        workspace: Workspace::Empty,
        repository: None,
        results: None,
        tools: Default::default(),
        actions: Vec::new(),
        options: CreateOptions::default(),
        services: Vec::new(),
        limits: Caps::of_this_machine(),
    }
}

/// A box on busybox.
pub fn image(id: &str, script: &str) -> BoxRequest {
    BoxRequest {
        ground: Ground::Image(Box::new(busybox())),
        ..host(id, script)
    }
}

pub fn service(name: &str, script: &str, options: &str) -> Service {
    Service {
        name: name.to_owned(),
        image: busybox(),
        env: Vec::new(),
        entrypoint: None,
        command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        ports: Vec::new(),
        options: CreateOptions::parse(options).expect("options"),
    }
}

pub fn unhealthy(error: &BoxError) -> String {
    havre_base::one_line(error)
}

fn document(script: &str) -> Document {
    Document {
        version: VERSION,
        path: ".github/workflows/ci.yml".to_owned(),
        workflow: script.to_owned(),
        job: "test".to_owned(),
        contexts: BTreeMap::new(),
        masks: Vec::new(),
        runner: Runner {
            name: "here".to_owned(),
            arch: "X64".to_owned(),
            workspace: WORKSPACE.to_owned(),
            temp: paths::TEMP.to_owned(),
            tool_cache: paths::TOOL_CACHE.to_owned(),
            in_container: false,
            job_context: "{}".to_owned(),
        },
        sources: Sources::Tree,
        results: None,
        doors: Vec::new(),
        actions: havre_job::Actions::default(),
        env: BTreeMap::new(),
        debug: false,
    }
}

static IMAGE: OnceLock<PathBuf> = OnceLock::new();

fn busybox() -> Image {
    let root = IMAGE.get_or_init(|| {
        let dir = tempfile::Builder::new()
            .prefix("havre-image-")
            .tempdir_in("/var/tmp");
        let dir = dir.expect("a folder").keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("a mode");
        for name in ["bin", "etc", "tmp", "www"] {
            fs::create_dir(dir.join(name)).expect("a folder");
        }
        fs::copy(BUSYBOX, dir.join("bin/busybox")).expect("busybox");
        for applet in [
            "sh", "cat", "echo", "sleep", "id", "ls", "nc", "httpd", "wget", "env", "true",
            "touch", "stat", "test", "grep", "hostname", "sed", "head", "printf",
        ] {
            symlink("busybox", dir.join("bin").join(applet)).expect("a link");
        }
        fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("accounts");
        fs::write(dir.join("etc/group"), "root:x:0:\n").expect("groups");
        dir
    });
    Image {
        lower: vec![root.clone()],
        run: RunConfig {
            env: vec!["FROM_IMAGE=yes".to_owned()],
            ..RunConfig::default()
        },
    }
}

pub fn clean_up() {
    if let Some(root) = IMAGE.get() {
        fs::remove_dir_all(root).expect("to remove the image");
    }
}
