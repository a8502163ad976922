//! RUN steps of builds, run as containers with caps that keep live services alive.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use havre_engine::{
    Confidential, ContainerId, ContainerSpec, Engine, FileSpec, Limits, LogChanges, LogLine,
    LogQuery, LogSpec, LogStream, MountSpec, RestartRule, SecretSpec, Security, SharedFilter,
};
use havre_image::builder::{
    StepError, StepExit, StepFuture, StepLine, StepMount, StepRunner, StepSpec, Stream,
};
use havre_net::{Net, NetworkSpec};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::execute::extra_hosts;
use crate::pressure::BUILD_OOM_SCORE;

/// The environment that gives steps their network.
pub(crate) const BUILD_ENVIRONMENT: &str = "build";
const NETWORK: &str = "default";
/// Share of CPU and I/O against that of a service (100) when both want all.
const WEIGHT: u64 = 10;
const PIDS: u64 = 4096;
const SHM_BYTES: u64 = 64 * 1024 * 1024;
/// Enough for the largest output between two reads.
const LOG_BYTES: u64 = 64 * 1024 * 1024;

/// Runs steps through the engine.
pub(crate) struct Steps {
    pub(crate) engine: Engine,
    pub(crate) net: Arc<Net>,
    pub(crate) exe: PathBuf,
    /// Scratch space.
    pub(crate) dir: PathBuf,
    pub(crate) limits: BuildLimits,
    /// The secrets of the whole build: a step may print what one before it has kept.
    pub(crate) mask: SharedFilter,
}

/// What a step may use at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildLimits {
    memory_bytes: u64,
}

impl BuildLimits {
    /// Half of the machine's memory, but 1 GiB at least (or all there is).
    pub(crate) fn of_this_machine() -> Self {
        let info = rustix::system::sysinfo();
        let total = info.totalram.saturating_mul(u64::from(info.mem_unit));
        Self {
            memory_bytes: (total / 2).max((1 << 30).min(total)),
        }
    }
}

/// Makes ids of steps unique within this daemon; its predecessor's steps are swept at its start.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl StepRunner for Steps {
    fn run<'a>(
        &'a self,
        step: &'a StepSpec,
        output: &'a mut (dyn FnMut(StepLine) + Send),
        cancel: &'a CancellationToken,
    ) -> StepFuture<'a> {
        Box::pin(async move {
            let id = ContainerId(format!("build.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
            let result = self.run_in(&id, step, output, cancel).await;
            let left = self.clean_up(&id).await;
            match (result, left) {
                (Ok(_), Err(error)) => Err(error),
                (result, _) => result,
            }
        })
    }
}

impl Steps {
    async fn run_in(
        &self,
        id: &ContainerId,
        step: &StepSpec,
        output: &mut (dyn FnMut(StepLine) + Send),
        cancel: &CancellationToken,
    ) -> Result<StepExit, StepError> {
        let dir = self.dir.join(&id.0);
        std::fs::create_dir_all(&dir).map_err(failed("make a folder for the step"))?;
        let (netns, files) = self.network(id, step, &dir).await?;
        let (secrets, confidential) = secrets(step, &self.mask)?;
        let spec = self.spec(id, step, netns, (files, secrets), dir.join("log"))?;
        let log_dir = spec.log.dir.clone();
        self.engine
            .create_with(&spec, confidential)
            .await
            .map_err(failed("start the step"))?;
        let mut tell = |line: LogLine| {
            let stream = match line.stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
            };
            output(StepLine {
                stream,
                text: line.text,
            });
        };
        let mut live = follow(log_dir.clone(), self.engine.log_changes());
        let mut ended = std::pin::pin!(self.engine.wait(id));
        let mut told = 0;
        let exit = loop {
            tokio::select! {
                () = cancel.cancelled() => return Err(StepError::Cancelled),
                Some(line) = live.recv() => {
                    told += 1;
                    tell(line);
                }
                exit = &mut ended => break exit,
            }
        };
        let exit = exit.map_err(failed("wait for the step"))?;
        // The output is complete now; what the live reader had not come to is read from there.
        drop(live);
        let mut all = havre_engine::read_logs(&log_dir, LogQuery::default());
        let mut index = 0;
        while let Some(line) = all.next().await.map_err(failed("read the step's output"))? {
            if index >= told {
                tell(line);
            }
            index += 1;
        }
        Ok(StepExit {
            code: exit.code,
            oom_killed: exit.oom_killed,
        })
    }

    async fn network(
        &self,
        id: &ContainerId,
        step: &StepSpec,
        dir: &std::path::Path,
    ) -> Result<(Option<PathBuf>, Vec<FileSpec>), StepError> {
        let hosts = |addresses: &BTreeMap<_, _>, host| {
            let extra = extra_hosts(&step.hosts, host);
            havre_net::hosts_file(&id.0.replace('.', "-"), addresses, &extra)
        };
        if !step.network {
            let hosts = hosts(&BTreeMap::new(), None);
            let file = network_file(dir, "/etc/hosts", "hosts", hosts)?;
            return Ok((None, vec![file]));
        }
        let (net, exe, name) = (Arc::clone(&self.net), self.exe.clone(), id.0.clone());
        let joined = tokio::task::spawn_blocking(move || {
            let network = NetworkSpec {
                name: NETWORK.to_owned(),
                internal: false,
                shared: false,
                confined: true,
            };
            let host = net.ensure_environment(BUILD_ENVIRONMENT, &[network])?.host;
            net.ensure_dns(BUILD_ENVIRONMENT, &exe)?;
            let attached = net.attach(BUILD_ENVIRONMENT, &name, &[NETWORK])?;
            let resolv = net.resolv_conf(BUILD_ENVIRONMENT, &[NETWORK], &[], &[])?;
            Ok::<_, havre_net::NetError>((attached, resolv, host))
        })
        .await
        .map_err(failed("join the network of builds"))?;
        let (attached, resolv, host) = joined.map_err(failed("join the network of builds"))?;
        let hosts = hosts(&attached.addresses, Some(host));
        let files = vec![
            network_file(dir, "/etc/resolv.conf", "resolv.conf", resolv)?,
            network_file(dir, "/etc/hosts", "hosts", hosts)?,
        ];
        Ok((Some(attached.netns), files))
    }

    fn spec(
        &self,
        id: &ContainerId,
        step: &StepSpec,
        netns: Option<PathBuf>,
        (files, secrets): (Vec<FileSpec>, Vec<SecretSpec>),
        log_dir: PathBuf,
    ) -> Result<ContainerSpec, StepError> {
        let mounts: io::Result<_> = step
            .mounts
            .iter()
            .filter_map(|it| mount(it).transpose())
            .collect();
        Ok(ContainerSpec {
            id: id.clone(),
            labels: Default::default(),
            rootfs: step.rootfs.clone(),
            read_only: false,
            argv: step.argv.clone(),
            env: step.env.clone(),
            cwd: step.cwd.clone(),
            user: step.user.clone(),
            groups: Vec::new(),
            hostname: "build".to_owned(),
            mounts: mounts.map_err(failed("find what the step mounts"))?,
            files,
            secrets,
            netns,
            limits: Limits {
                nano_cpus: None,
                cpu_weight: Some(WEIGHT),
                memory_bytes: Some(self.limits.memory_bytes),
                memory_reservation_bytes: None,
                pids: Some(PIDS),
                io_weight: Some(WEIGHT),
            },
            oom_score_adj: BUILD_OOM_SCORE,
            cgroup_parent: BUILD_ENVIRONMENT.to_owned(),
            security: Security::default(),
            shares: Default::default(),
            devices: Default::default(),
            ulimits: step.ulimits.clone(),
            sysctls: Default::default(),
            shm_size_bytes: step.shm_size_bytes.unwrap_or(SHM_BYTES),
            // Reaps what a step leaves behind, so that the step's end is the container's.
            init: false,
            tty: false,
            stdin_open: false,
            stop_signal: "SIGKILL".to_owned(),
            stop_grace: Duration::ZERO,
            health: None,
            liveness: None,
            restart: RestartRule::Never,
            log: LogSpec {
                dir: log_dir,
                max_size_bytes: LOG_BYTES,
                max_files: 2,
            },
        })
    }

    async fn clean_up(&self, id: &ContainerId) -> Result<(), StepError> {
        let mut errors: Vec<String> = self
            .engine
            .remove(id)
            .await
            .iter()
            .map(|error| havre_base::one_line(error))
            .collect();
        let (net, name) = (Arc::clone(&self.net), id.0.clone());
        let detached =
            tokio::task::spawn_blocking(move || net.detach(BUILD_ENVIRONMENT, &name)).await;
        match detached {
            Ok(Ok(())) => {}
            Ok(Err(error)) => errors.push(havre_base::one_line(&error)),
            Err(error) => errors.push(error.to_string()),
        }
        if let Err(error) = std::fs::remove_dir_all(self.dir.join(&id.0)) {
            errors.push(format!("its folder: {error}"));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let what = format!("clean up after the step: {}", errors.join("; "));
        Err(StepError::Failed { what, source: None })
    }
}

/// The step's secrets: where they go, and what they hold.
fn secrets(
    step: &StepSpec,
    mask: &SharedFilter,
) -> Result<(Vec<SecretSpec>, Confidential), StepError> {
    let mut specs = Vec::new();
    let mut confidential = Confidential {
        filter: Some(mask.clone()),
        ..Confidential::default()
    };
    for mount in &step.mounts {
        let StepMount::Secret {
            content,
            target,
            uid,
            gid,
            mode,
        } = mount
        else {
            continue;
        };
        let bytes = content.expose().to_vec();
        confidential.files.insert(target.clone(), bytes.into());
        specs.push(SecretSpec {
            name: target.clone(),
            target: target.clone(),
            user: uid.to_string(),
            group: gid.to_string(),
            mode: *mode,
        });
    }
    for (name, value) in &step.secret_env {
        let value = std::str::from_utf8(value.expose());
        let value = value.map_err(failed("read a variable of the step"))?;
        let value = value.to_owned().into();
        confidential.env.insert(name.clone(), value);
    }
    Ok((specs, confidential))
}

/// Lines as they come, until the receiver is dropped.
fn follow(dir: PathBuf, changes: LogChanges) -> mpsc::Receiver<LogLine> {
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(async move {
        let query = LogQuery {
            follow: Some(changes),
            ..LogQuery::default()
        };
        let mut lines = havre_engine::read_logs(&dir, query);
        loop {
            tokio::select! {
                () = sender.closed() => return,
                line = lines.next() => match line {
                    Ok(Some(line)) => if sender.send(line).await.is_err() { return },
                    // The complete output is read at the end; an error shows there.
                    Ok(None) | Err(_) => return,
                },
            }
        }
    });
    receiver
}

/// A file of /etc that tells a step of its network.
fn network_file(
    dir: &std::path::Path,
    target: &str,
    name: &str,
    content: String,
) -> Result<FileSpec, StepError> {
    let source = dir.join(name);
    std::fs::write(&source, content).map_err(failed("write the step's network files"))?;
    Ok(FileSpec {
        target: target.to_owned(),
        source,
        uid: 0,
        gid: 0,
        mode: 0o644,
    })
}

/// As the engine mounts it; secrets are files.
fn mount(mount: &StepMount) -> io::Result<Option<MountSpec>> {
    Ok(Some(match mount {
        StepMount::Secret { .. } => return Ok(None),
        StepMount::Bind {
            source,
            target,
            read_only,
        } => MountSpec::Bind {
            source: below_real_folder(source)?,
            target: target.clone(),
            read_only: *read_only,
            subpath: None,
        },
        StepMount::Tmpfs { target, size_bytes } => MountSpec::Tmpfs {
            target: target.clone(),
            size_bytes: *size_bytes,
            mode: None,
            owner: (0, 0),
            // As with BuildKit: builds compile and run there.
            exec: true,
        },
    }))
}

/// The path by way of Havre's own folders, to which links may lead; at its end there must be none.
fn below_real_folder(path: &Path) -> io::Result<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok(std::fs::canonicalize(folder)?.join(name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn failed<E>(what: &'static str) -> impl FnOnce(E) -> StepError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| StepError::Failed {
        what: format!("cannot {what}"),
        source: Some(Box::new(source)),
    }
}
