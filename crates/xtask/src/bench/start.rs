//! A container's life: create → start → exit → delete, with network and overlay, driven as the
//! daemon drives it, beside `docker run --rm` of the same files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use havre_engine::{
    ContainerId, ContainerSpec, Engine, EngineConfig, FileSpec, Limits, LogSpec, RestartRule,
    Security,
};
use havre_image::overlay::{Overlay, Writable};
use havre_net::{Net, NetConfig, NetworkSpec};
use serde_json::{Value, json};

use super::docker::Docker;
use super::figures::{median, mention, millis, print_figure, rounded};
use super::installation::Installation;
use crate::packages;
use crate::shell::{command, say, succeed};

const TIMES: usize = 30;
/// Before those that count: caches are warm on both sides.
const WARM_UP: usize = 3;
const BAR_MS: f64 = 60.0;
/// Of docker's time.
const BAR_SHARE: f64 = 0.25;
const ENVIRONMENT: &str = "bench.production";
const NETWORK: &str = "default";
const COMMAND: &str = "/bin/true";

pub fn measure(place: &Installation) -> Result<Value> {
    packages::install(&["busybox-static"])?;
    let scratch = place.instance.root.join("start");
    let files = scratch.join("rootfs");
    make_files(&files)?;
    say(&format!("{TIMES} containers by Havre"));
    let ours = ours(place, &scratch, &files)?;
    say(&format!("{TIMES} containers by docker run --rm"));
    let theirs = match theirs(&scratch, &files) {
        Ok(times) => Some(times),
        Err(why) => {
            say(&format!("no figures of docker: {why:#}"));
            None
        }
    };
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;

    let havre_ms = median(&ours);
    print_figure(
        "create, start, exit, delete (median)",
        havre_ms,
        "ms",
        BAR_MS,
    );
    mention(
        "the slowest",
        ours.iter().copied().fold(0.0, f64::max),
        "ms",
    );
    let docker_ms = theirs.as_deref().map(median);
    if let Some(docker_ms) = docker_ms {
        mention("docker run --rm (median)", docker_ms, "ms");
        print_figure("of docker's time", havre_ms / docker_ms, "×", BAR_SHARE);
    }
    Ok(json!({
        "bench": "start",
        "havre_ms": rounded(havre_ms),
        "docker_ms": docker_ms.map(rounded),
        "times": TIMES,
    }))
}

/// A root file system of one static program.
fn make_files(files: &Path) -> Result<()> {
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        let path = files.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    fs::copy("/bin/busybox", files.join("bin/busybox")).context("cannot copy busybox")?;
    for name in ["sh", "true"] {
        std::os::unix::fs::symlink("busybox", files.join("bin").join(name))
            .with_context(|| format!("cannot link {name}"))?;
    }
    Ok(())
}

fn theirs(scratch: &Path, files: &Path) -> Result<Vec<f64>> {
    let archive = scratch.join("rootfs.tar");
    succeed(
        command("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(files)
            .arg("."),
    )?;
    let docker = Docker::start(&scratch.join("docker"))?;
    let times = docker.import(&archive, "bench").and_then(|()| {
        let mut times = Vec::with_capacity(TIMES);
        for number in 0..WARM_UP + TIMES {
            let took = docker.run("bench", COMMAND)?;
            if number >= WARM_UP {
                times.push(millis(took));
            }
        }
        Ok(times)
    });
    let stopped = docker.stop();
    let times = times?;
    stopped?;
    Ok(times)
}

fn ours(place: &Installation, scratch: &Path, files: &Path) -> Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let bench = Bench::new(place, scratch, files)?;
    let times = runtime.block_on(bench.lives());
    let cleaned = runtime.block_on(bench.clean());
    let times = times?;
    cleaned?;
    Ok(times)
}

struct Bench {
    net: Net,
    engine: Engine,
    /// On a tmpfs, as in an installation.
    run: PathBuf,
    scratch: PathBuf,
    files: PathBuf,
    resolv_conf: PathBuf,
}

impl Bench {
    fn new(place: &Installation, scratch: &Path, files: &Path) -> Result<Self> {
        // Below 16^5, so that the names of network devices stay short.
        let instance = format!("b{:x}", std::process::id() & 0xf_ffff);
        let run = PathBuf::from(format!("/run/havre-bench-{}", std::process::id()));
        let net = Net::new(NetConfig::new(
            run.join("net"),
            scratch.join("net"),
            &instance,
        ))?;
        let engine = Engine::new(EngineConfig {
            run_dir: run.clone(),
            exe: place.instance.binary.clone(),
            exe_args: Vec::new(),
            instance,
        })?;
        let resolv_conf = scratch.join("resolv.conf");
        fs::write(&resolv_conf, "nameserver 127.0.0.1\n").context("cannot write resolv.conf")?;
        Ok(Self {
            net,
            engine,
            run,
            scratch: scratch.to_owned(),
            files: files.to_owned(),
            resolv_conf,
        })
    }

    async fn lives(&self) -> Result<Vec<f64>> {
        let network = NetworkSpec {
            name: NETWORK.to_owned(),
            internal: false,
            shared: false,
            confined: false,
        };
        self.net.ensure_environment(ENVIRONMENT, &[network])?;
        let mut times = Vec::with_capacity(TIMES);
        for number in 0..WARM_UP + TIMES {
            let took = self.life(&format!("bench.{number}")).await?;
            if number >= WARM_UP {
                times.push(millis(took));
            }
        }
        Ok(times)
    }

    async fn life(&self, name: &str) -> Result<Duration> {
        let begun = Instant::now();
        let attached = self.net.attach(ENVIRONMENT, name, &[NETWORK])?;
        let spec = self.spec(name, attached.netns)?;
        self.engine.create(&spec).await?;
        let exit = self.engine.wait(&spec.id).await?;
        ensure!(exit.code == 0, "{COMMAND} ended with {}", exit.code);
        let failures = self.engine.remove(&spec.id).await;
        ensure!(failures.is_empty(), "cannot delete {name}: {failures:?}");
        self.net.detach(ENVIRONMENT, name)?;
        fs::remove_dir_all(self.folder(name)).context("cannot delete the container's files")?;
        Ok(begun.elapsed())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.join("containers").join(name)
    }

    fn spec(&self, name: &str, netns: PathBuf) -> Result<ContainerSpec> {
        let folder = self.folder(name);
        let [upper, work, log] = ["upper", "work", "log"].map(|kind| folder.join(kind));
        for path in [&upper, &work, &log] {
            fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(ContainerSpec {
            id: ContainerId(name.to_owned()),
            labels: BTreeMap::new(),
            rootfs: Overlay {
                lower: vec![self.files.clone()],
                upper: Some(Writable { upper, work }),
            },
            read_only: false,
            argv: vec![COMMAND.to_owned()],
            env: BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]),
            cwd: "/".to_owned(),
            user: String::new(),
            groups: Vec::new(),
            hostname: "bench".to_owned(),
            mounts: Vec::new(),
            files: vec![FileSpec {
                target: "/etc/resolv.conf".to_owned(),
                source: self.resolv_conf.clone(),
                uid: 0,
                gid: 0,
                mode: 0o644,
            }],
            secrets: Vec::new(),
            netns: Some(netns),
            limits: Limits::default(),
            oom_score_adj: 0,
            cgroup_parent: ENVIRONMENT.to_owned(),
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
                dir: log,
                max_size_bytes: 1 << 20,
                max_files: 2,
            },
        })
    }

    async fn clean(&self) -> Result<()> {
        let mut failures = Vec::new();
        for left in self.engine.containers() {
            let errors = self.engine.remove(&left.id).await;
            failures.extend(errors.iter().map(ToString::to_string));
        }
        self.engine.shutdown().await;
        let errors = self.net.remove_environment(ENVIRONMENT);
        failures.extend(errors.iter().map(ToString::to_string));
        let errors = self.net.sweep(&[], &[]);
        failures.extend(errors.iter().map(ToString::to_string));
        if let Err(error) = fs::remove_dir_all(&self.run) {
            failures.push(format!("cannot remove {}: {error}", self.run.display()));
        }
        if !failures.is_empty() {
            bail!("left behind:\n  {}", failures.join("\n  "));
        }
        Ok(())
    }
}
