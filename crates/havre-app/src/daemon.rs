//! Start, tasks and end of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_edge::{Control, Crowd, EdgeState};
use havre_engine::{Engine, EngineConfig};
use havre_image::Images;
use havre_model::{EnvironmentName, ProjectName};
use havre_net::{Net, NetConfig};
use havre_release::{Policy, Release};
use havre_store::{Schema, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::backend;
use crate::certificates::Certificates;
use crate::edge::{EdgeHub, Launch};
use crate::environment::tables::{self, Tables};
use crate::environment::{Environment, EnvironmentError, EnvironmentHandle};
use crate::files::FileVault;
use crate::housekeeping::{self, CacheLimits};
use crate::labels::environment_key;
use crate::leases;
use crate::leftovers::Leftovers;
use crate::lock;
use crate::log;
use crate::notify;
use crate::observe::ObservedContainer;
use crate::platform::Platform;
use crate::port_owner;
use crate::pressure;
use crate::releases::{self, Past};
use crate::root::{FolderError, Root};
use crate::shared_networks;
use crate::supervisor::Supervisor;
use crate::tls::LocalCa;
use crate::volumes::owner;

/// Tables of the subsystems.
const SCHEMAS: &[Schema] = &[
    havre_image::SCHEMA,
    tables::SCHEMA,
    shared_networks::tables::SCHEMA,
];
/// Threads that run tasks; what blocks has threads of its own.
const WORKERS: usize = 2;
const BLOCKING_THREADS: usize = 32;
/// How long tasks may take to end after they were told to.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// How long a call waits until environments were looked at for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How long nobody is told that the edge does not answer: it starts after the daemon.
const EDGE_START: Duration = Duration::from_secs(3);
/// How long the edge may take for its last requests.
const EDGE_GRACE: Duration = Duration::from_secs(5);

/// How the daemon is started.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// Its folders.
    pub root: Root,
    /// Addresses for plain HTTP.
    pub http: Vec<SocketAddr>,
    /// Addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// Addresses and blocks of proxies in front of the machine ([`crate::is_network`]).
    pub trusted_proxies: Vec<String>,
    /// Client connections that one other address may have; none: as the edge sees fit.
    pub connections_per_address: Option<u32>,
    /// What the build cache may take.
    pub build_cache: CacheLimits,
    /// What of this was given, by the environment variables that say the same: for who asks.
    pub given: BTreeMap<String, String>,
}

/// Why a daemon that ran does so no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonEnd {
    /// A signal: the edge and the applications go on, and another daemon is to take them over.
    Signal,
    /// A call: the edge has ended too, and nobody is to start another daemon.
    Call,
}

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Containers, namespaces and low ports need root.
    #[error("the daemon needs root")]
    NotRoot,
    /// A folder or file cannot be made, or made our own.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// One daemon per root.
    #[error("another daemon runs with {path}", path = path.display())]
    Running {
        /// The lock it holds.
        path: PathBuf,
    },
    /// A subsystem cannot start.
    #[error("cannot start {what}")]
    Subsystem {
        /// Which.
        what: &'static str,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call is declared that no subsystem answers: a fault of this program.
    #[error("nobody answers {}", calls.join(", "))]
    Unanswered {
        /// Their paths.
        calls: Vec<&'static str>,
    },
    /// The socket cannot be served.
    #[error("cannot serve {path}", path = path.display())]
    Serve {
        /// The socket.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Runs the daemon until it is told to end by a signal or a call.
pub fn run(options: DaemonOptions) -> Result<DaemonEnd, DaemonError> {
    if !rustix::process::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    let root = &options.root;
    root.create()?;
    log::start();
    let _lock = lock::acquire(root)?;
    raise_file_limit();
    pressure::protect_this_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("havre")
        .enable_all()
        .build()
        .map_err(subsystem("the runtime"))?;
    let ended = runtime.block_on(serve(options));
    runtime.shutdown_timeout(END_DEADLINE);
    ended
}

/// The running daemon.
pub(crate) struct Daemon {
    pub(crate) platform: Arc<Platform>,
    pub(crate) options: DaemonOptions,
    pub(crate) since: SystemTime,
    /// One build at a time: builds must not starve what serves.
    pub(crate) building: Mutex<()>,
    /// Held while a shared network is made, joined or removed.
    pub(crate) networks: Mutex<()>,
    /// Held from the look at what others have until they can see what a release takes: of two that begin
    /// at once the later one finds the first.
    pub(crate) beginning: Mutex<()>,
    /// A build has ended, or found no room.
    pub(crate) built: Notify,
    environments: Mutex<BTreeMap<EnvironmentId, EnvironmentHandle>>,
    /// Stored environments that this version cannot read, and why.
    unreadable: StdMutex<BTreeMap<EnvironmentId, String>>,
    pub(crate) supervisor: Supervisor,
    end: CancellationToken,
    /// Whether a call has ended it.
    shutdown_requested: AtomicBool,
}

impl Daemon {
    /// An environment that exists.
    pub(crate) async fn environment(
        &self,
        id: &EnvironmentId,
    ) -> Result<EnvironmentHandle, ApiError> {
        let found = self.present().await.get(id).cloned();
        if found.is_none() {
            self.refuse_unreadable(id)?;
        }
        let environment = found.ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, format!("no environment {id}"))
                .with_hint("`havre status` lists what is here; `havre up` makes one")
        })?;
        environment.was_looked_at(first_look()).await;
        Ok(environment)
    }

    /// An environment, made when it does not exist.
    pub(crate) async fn environment_or_new(
        self: &Arc<Self>,
        id: &EnvironmentId,
    ) -> Result<EnvironmentHandle, ApiError> {
        let mut environments = self.present().await;
        if let Some(handle) = environments.get(id) {
            return Ok(handle.clone());
        }
        self.refuse_unreadable(id)?;
        let (task, handle) = Environment::load(id.clone(), Arc::clone(&self.platform), None)
            .map_err(|error| ApiError::from_error(ErrorCode::Internal, &error))?;
        self.keep(task);
        environments.insert(id.clone(), handle.clone());
        Ok(handle)
    }

    /// All environments.
    pub(crate) async fn environments(&self) -> Vec<EnvironmentHandle> {
        let environments: Vec<_> = self.present().await.values().cloned().collect();
        let deadline = first_look();
        for environment in &environments {
            environment.was_looked_at(deadline).await;
        }
        environments
    }

    /// The environments, without those of which nothing came: no operation makes them, and none of
    /// theirs was ever written down.
    async fn present(&self) -> MutexGuard<'_, BTreeMap<EnvironmentId, EnvironmentHandle>> {
        let mut environments = self.environments.lock().await;
        environments.retain(|_, one| !(one.is_blank() && one.is_idle()));
        environments
    }

    /// Runs an environment's task, to be forgotten when it is gone: also one that a daemon before
    /// this one began to take down.
    fn keep(self: &Arc<Self>, task: Environment) {
        let daemon = Arc::clone(self);
        self.supervisor.spawn(async move {
            if let Some(gone) = task.run(daemon.end.clone()).await {
                daemon.forget(&gone.id).await;
                gone.tell();
            }
        });
    }

    /// Drops an environment that is gone, and what only it needed.
    async fn forget(&self, id: &EnvironmentId) {
        let mut environments = self.environments.lock().await;
        environments.remove(id);
        // One that cannot be read may need any of them.
        if !self.unreadable().is_empty() {
            tracing::warn!("secrets stay, since not all environments can be read");
            return;
        }
        let Some(sweep) = self.platform.vault.sweep() else {
            tracing::info!("secrets stay, since a release that is to come may need them");
            return;
        };
        let kept = |environment: &EnvironmentHandle| {
            releases::all_kept(&self.platform.tables, &environment.id)
        };
        block_in_place(|| match used_files(&environments, kept) {
            Ok(used) => {
                if let Err(error) = sweep.prune(&used) {
                    tracing::warn!(%error, "secrets that are no longer used cannot be removed");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "secrets stay, since it is not known which are used");
            }
        });
    }

    /// An environment of which nothing is known would begin by removing all that runs of it.
    fn refuse_unreadable(&self, id: &EnvironmentId) -> Result<(), ApiError> {
        let Some(why) = self.unreadable().get(id).cloned() else {
            return Ok(());
        };
        Err(ApiError::new(ErrorCode::Conflict, why).with_hint(
            "what runs of it goes on. The version of Havre that wrote its state reads it, as does this one \
             from a copy of state.db in the daemon's state folder; restart the daemon then",
        ))
    }

    /// What is to be told of environments that cannot be read.
    fn unreadable(&self) -> StdMutexGuard<'_, BTreeMap<EnvironmentId, String>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The port in the URLs shown to users.
    pub(crate) fn https_port(&self) -> u16 {
        self.options.https.first().map_or(443, SocketAddr::port)
    }

    /// What a person should look at.
    pub(crate) async fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.unreadable().values().cloned().collect();
        match self.platform.hub.status().await {
            Some(status) => {
                problems.extend(status.problems.iter().cloned());
                problems.extend(status.taken.iter().map(port_owner::tell));
                problems.extend(status.crowds.iter().map(crowd));
            }
            None if self.since.elapsed().unwrap_or_default() < EDGE_START => {}
            None => problems.push("the edge does not answer".to_owned()),
        }
        problems
    }

    /// Ends the daemon and the edge; containers and their name servers stay.
    pub(crate) async fn shut_down(&self) {
        let platform = &self.platform;
        self.shutdown_requested.store(true, Ordering::Relaxed);
        self.end.cancel();
        platform.hub.shut_down(EDGE_GRACE).await;
        let net = Arc::clone(&platform.net);
        let removed = tokio::task::spawn_blocking(move || {
            net.remove_environment(crate::steps::BUILD_ENVIRONMENT)
        });
        for error in removed.await.unwrap_or_default() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "network of builds stays"
            );
        }
    }
}

fn first_look() -> tokio::time::Instant {
    tokio::time::Instant::now() + FIRST_LOOK
}

/// Somebody who has as many connections as one address may have, in a sentence.
fn crowd(crowd: &Crowd) -> String {
    let Crowd {
        address,
        open,
        refused,
    } = crowd;
    format!(
        "{address} has {open} connections to the proxy, as many as one address may have, and was \
         refused {refused} more: `havre daemon` raises that by --connections-per-address, and \
         --trusted-proxy exempts a proxy or CDN of yours"
    )
}

/// Digests of the secrets and configs that environments need, or may come back to.
fn used_files(
    environments: &BTreeMap<EnvironmentId, EnvironmentHandle>,
    kept: impl Fn(&EnvironmentHandle) -> Result<Vec<Past>, EnvironmentError>,
) -> Result<BTreeSet<String>, EnvironmentError> {
    let mut used = BTreeSet::new();
    for environment in environments.values() {
        let snapshot = environment.snapshot();
        used.extend(snapshot.releases.values().flat_map(file_digests));
        let kept = kept(environment)?;
        used.extend(kept.iter().flat_map(|kept| file_digests(&kept.release)));
    }
    Ok(used)
}

fn file_digests(release: &Release) -> Vec<String> {
    release
        .services
        .values()
        .flat_map(|service| service.files.values().cloned())
        .collect()
}

async fn serve(options: DaemonOptions) -> Result<DaemonEnd, DaemonError> {
    let root = options.root.clone();
    let state = root.state_dir();
    let store = Store::open(&state.join("state.db"), SCHEMAS).map_err(subsystem("the database"))?;
    let store = Arc::new(store);
    let exe = std::env::current_exe().map_err(subsystem("its own binary"))?;
    let instance = root.instance();
    let engine = Engine::new(EngineConfig {
        run_dir: root.run_dir().to_owned(),
        exe: exe.clone(),
        exe_args: Vec::new(),
        instance: instance.clone(),
    })
    .map_err(subsystem("the engine"))?;
    let net = Net::new(NetConfig::new(
        root.run_dir().join("net"),
        state.join("net"),
        instance,
    ))
    .map_err(subsystem("the network"))?;
    let tables = Tables::new(Arc::clone(&store));
    let rows = tables.environments().map_err(subsystem("the database"))?;
    let known: Vec<(EnvironmentId, String)> = rows
        .into_iter()
        .map(|row| {
            let id = EnvironmentId {
                project: ProjectName::new(row.project),
                environment: EnvironmentName::new(row.environment),
            };
            (id, row.desired)
        })
        .collect();
    let net = Arc::new(net);
    // Before the image store empties its scratch folders, in which running build steps write.
    sweep(&engine, &net, &known).await;
    if let Err(error) = crate::steps::forget_secrets(&root) {
        tracing::warn!(%error, "secrets of build steps stay");
    }
    let images = Images::open(&state.join("images"), Arc::clone(&store))
        .map_err(subsystem("the image store"))?;
    let leftovers = Leftovers::set_aside(&root, &images);
    let launch = Launch {
        exe: exe.clone(),
        root: root.clone(),
    };
    let hub = EdgeHub::new(
        Control::new(&root.edge_run_dir()),
        launch,
        EdgeState {
            http: options.http.clone(),
            https: options.https.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            connections_per_address: options.connections_per_address,
            ..EdgeState::default()
        },
        known.iter().map(|(id, _)| id.clone()),
    );
    let platform = Arc::new(Platform {
        vault: FileVault::new(state.join("secrets")),
        ca: LocalCa::new(state.join("tls")),
        certificates: Certificates::default(),
        policy: Policy::default(),
        net,
        root: root.clone(),
        exe,
        tables,
        networks: shared_networks::tables::Tables::new(store),
        images,
        engine,
        hub,
    });
    let end = CancellationToken::new();
    let daemon = Arc::new(Daemon {
        platform: Arc::clone(&platform),
        options,
        since: SystemTime::now(),
        building: Mutex::default(),
        networks: Mutex::default(),
        beginning: Mutex::default(),
        built: Notify::new(),
        environments: Mutex::default(),
        unreadable: StdMutex::default(),
        supervisor: Supervisor::new(end.clone()),
        end,
        shutdown_requested: AtomicBool::new(false),
    });
    // Before any of them begins to use or remove what is another's.
    if let Err(error) = block_in_place(|| owner::adopt(&platform.volumes_dir(), &platform.tables)) {
        let error = crate::report::one_line(&error);
        tracing::warn!(error, "volumes of an earlier version stay without an owner");
    }
    let ids = known.iter().map(|(id, _)| id.clone());
    if let Err(error) = block_in_place(|| leases::release_unknown(&platform.images, ids)) {
        tracing::warn!(%error, "images stay that only environments need which are gone");
    }
    // One that is gone at once must not take for unused what the next ones need.
    let not_all_known = platform.vault.hold();
    for (id, desired) in known {
        daemon.adopt(id, &desired).await;
    }
    drop(not_all_known);
    daemon.keep_tasks();
    let routes = backend::routes(&daemon);
    let missing = routes.missing();
    if !missing.is_empty() {
        return Err(DaemonError::Unanswered { calls: missing });
    }
    let socket = root.api_socket();
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "daemon runs");
    let served = async {
        let listener = havre_api::bind(&socket)?;
        // Whoever connects from now on is answered.
        notify::ready();
        leftovers.remove();
        havre_api::serve(listener, routes, daemon.end.clone()).await
    }
    .await;
    daemon.end.cancel();
    if !daemon.supervisor.drain(END_DEADLINE).await {
        tracing::warn!("tasks had not ended in time");
    }
    tracing::info!("daemon ended");
    served.map_err(|source| DaemonError::Serve {
        path: socket,
        source,
    })?;
    Ok(match daemon.shutdown_requested.load(Ordering::Relaxed) {
        true => DaemonEnd::Call,
        false => DaemonEnd::Signal,
    })
}

impl Daemon {
    /// Starts the tasks that run until the daemon ends.
    fn keep_tasks(self: &Arc<Self>) {
        let platform = Arc::clone(&self.platform);
        self.supervisor.keep("edge", move |task| {
            let platform = Arc::clone(&platform);
            async move { platform.hub.supervise(&task).await }
        });
        let daemon = Arc::clone(self);
        self.supervisor.keep("build cache", move |task| {
            housekeeping::keep(Arc::clone(&daemon), task)
        });
        self.supervisor
            .keep("signals", async |task| end_on_signal(task.end).await);
    }

    /// Takes an environment of the database in hand. One that cannot be read is left as it is and
    /// reported: its containers go on.
    async fn adopt(self: &Arc<Self>, id: EnvironmentId, desired: &str) {
        match Environment::load(id.clone(), Arc::clone(&self.platform), Some(desired)) {
            Ok((task, handle)) => {
                self.keep(task);
                self.environments.lock().await.insert(id, handle);
            }
            Err(error) => {
                tracing::error!(environment = %id, error = &error as &dyn std::error::Error, "environment cannot be adopted");
                let why = crate::report::one_line(&error);
                self.unreadable().insert(id.clone(), why);
                self.platform.hub.carry_over(&id).await;
            }
        }
    }
}

/// Removes what belongs to nobody: build steps of a daemon that died, networks of environments
/// that are gone.
async fn sweep(engine: &Engine, net: &Arc<Net>, known: &[(EnvironmentId, String)]) {
    let ids: BTreeSet<&EnvironmentId> = known.iter().map(|(id, _)| id).collect();
    let mut kept = Vec::new();
    for container in engine.list().await {
        let id = container.id.clone();
        match ObservedContainer::new(container) {
            Some(seen) if ids.contains(&seen.place.environment) => kept.push(id.0),
            Some(_) | None => {
                for error in engine.remove(&id).await {
                    tracing::warn!(
                        container = id.0,
                        error = &error as &dyn std::error::Error,
                        "orphan stays"
                    );
                }
            }
        }
    }
    let keys: Vec<String> = known.iter().map(|(id, _)| environment_key(id)).collect();
    let net = Arc::clone(net);
    let swept = tokio::task::spawn_blocking(move || {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        net.sweep(&keys, &kept)
    })
    .await;
    for error in swept.unwrap_or_default() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "network orphan stays"
        );
    }
}

async fn end_on_signal(end: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        tracing::error!("signals cannot be received: end the daemon by `havre daemon stop`");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = end.cancelled() => {}
    }
    end.cancel();
}

fn subsystem<E>(what: &'static str) -> impl FnOnce(E) -> DaemonError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| DaemonError::Subsystem {
        what,
        source: Box::new(source),
    }
}

/// The daemon holds a few descriptors per container and per client.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
