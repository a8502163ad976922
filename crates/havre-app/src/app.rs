//! The daemon from its start to its end: [`DaemonOptions`] → [`build`] → [`serve`] → drain.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use havre_access::{Exchange, Group, Register};
use havre_api::{EnvironmentId, Routes, Server};
use havre_base::{in_place, one_line};
use havre_box::Boxes;
use havre_edge::{Control, EdgeState};
use havre_engine::{Engine, EngineConfig};
use havre_image::Images;
use havre_model::{EnvironmentName, ProjectName};
use havre_net::{Net, NetConfig};
use havre_store::{Schema, Store};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::audit;
use crate::authority;
use crate::builds::LocalBuilder;
use crate::certificates::Certificates;
use crate::contents::Contents;
use crate::daemon::Daemon;
use crate::edge::{EdgeHub, Launch};
use crate::environment::tables::Tables;
use crate::gateway::{Gateway, Mount};
use crate::guard::Doorkeeper;
use crate::host::Host;
use crate::identity::Identities;
use crate::jobs;
use crate::labels::environment_key;
use crate::leases;
use crate::leftovers::Leftovers;
use crate::local::ThisMachine;
use crate::lock::{self, LockError};
use crate::log;
use crate::mirrors::Mirrors;
use crate::notify;
use crate::observe::ObservedContainer;
use crate::options::DaemonOptions;
use crate::pipeline::{self, JobsApi, Late, Pipeline, Pushed};
use crate::platform::Platform;
use crate::pressure;
use crate::previews;
use crate::promotions::Promotions;
use crate::root::FolderError;
use crate::secrets;
use crate::shared_networks;
use crate::subsystem::{Part, Subsystem};
use crate::subsystems::{self, containers::Containers, repositories::Repositories};
use crate::tls::LocalCa;
use crate::vars::Vars;
use crate::volumes::owner;

/// Every subsystem. A new one is a line here, and a file in `subsystems/`.
const PARTS: &[Part] = &[
    subsystems::images::PART,
    subsystems::environments::PART,
    subsystems::promotions::PART,
    subsystems::networks::PART,
    subsystems::audit::PART,
    subsystems::sources::PART,
    subsystems::edge::PART,
    subsystems::certificates::PART,
    subsystems::secrets::PART,
    subsystems::control::PART,
    subsystems::access::PART,
    subsystems::vars::PART,
];
/// Threads that run tasks; what blocks has threads of its own.
const WORKERS: usize = 2;
const BLOCKING_THREADS: usize = 32;
/// How long tasks may take to end after they were told to.
const END_DEADLINE: Duration = Duration::from_secs(5);
/// How long a subsystem may take for its end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

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

impl From<LockError> for DaemonError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Folder(error) => Self::Folder(error),
            LockError::Held { path } => Self::Running { path },
        }
    }
}

/// Runs the daemon until it is told to end by a signal or a call.
pub fn run(options: DaemonOptions) -> Result<DaemonEnd, DaemonError> {
    if !rustix::process::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    havre_base::memory::keep_little();
    let root = &options.root;
    root.create()?;
    log::start();
    let _lock = lock::acquire(root)?;
    raise_file_limit();
    write_no_core();
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

/// Builds the daemon, serves until it is told to end, and lets its parts end.
async fn serve(options: DaemonOptions) -> Result<DaemonEnd, DaemonError> {
    let Built {
        daemon,
        subsystems,
        server,
        gateway,
        leftovers,
    } = build(options).await?;
    keep_tasks(&daemon, &subsystems, gateway);
    let socket = daemon.platform.root.api_socket();
    let group = Group::read().map_err(subsystem("the group havre"))?;
    let group = group.map(|group| group.gid);
    if let Some(group) = group {
        daemon.platform.root.let_through(group)?;
    }
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "daemon runs");
    let served = async {
        let listener = havre_api::bind(&socket, group)?;
        // Whoever connects from now on is answered.
        notify::ready();
        leftovers.remove();
        server.serve(listener).await
    }
    .await;
    daemon.end.cancel();
    drain(&daemon, &subsystems).await;
    audit::note_daemon(&daemon.platform.trail, "daemon/end");
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

/// The calls of all subsystems; fails where a declared one has no answer.
fn calls(subsystems: &[Box<dyn Subsystem>]) -> Result<Routes<()>, DaemonError> {
    let routes = subsystems
        .iter()
        .filter_map(|subsystem| subsystem.calls())
        .fold(Routes::new(()), Routes::merge);
    match routes.missing() {
        missing if missing.is_empty() => Ok(routes),
        calls => Err(DaemonError::Unanswered { calls }),
    }
}

/// Starts the tasks that run until the daemon ends, and what is served by other protocols.
fn keep_tasks(daemon: &Arc<Daemon>, subsystems: &[Box<dyn Subsystem>], gateway: Option<Gateway>) {
    for task in subsystems.iter().flat_map(|subsystem| subsystem.tasks()) {
        daemon.supervisor.keep(task.name, task.run);
    }
    if let Some(gateway) = gateway {
        let platform = Arc::clone(&daemon.platform);
        daemon.supervisor.keep("gateway", move |task| {
            gateway.clone().run(Arc::clone(&platform), task)
        });
    }
}

/// Lets tasks and subsystems end. Where no other daemon is to come, nothing stays that only one needs.
async fn drain(daemon: &Daemon, subsystems: &[Box<dyn Subsystem>]) {
    if !daemon.supervisor.drain(END_DEADLINE).await {
        tracing::warn!("tasks had not ended in time");
    }
    for subsystem in subsystems {
        if timeout(DRAIN_DEADLINE, subsystem.drain()).await.is_err() {
            tracing::warn!("a subsystem had not ended in time");
        }
    }
    if daemon.shutdown_requested.load(Ordering::Relaxed) {
        daemon.targets.close().await;
    }
}

/// The daemon with the environments that the one before it had.
struct Built {
    daemon: Arc<Daemon>,
    subsystems: Vec<Box<dyn Subsystem>>,
    /// Answers their calls.
    server: Server,
    /// What they serve by other protocols.
    gateway: Option<Gateway>,
    /// To be removed once it serves.
    leftovers: Leftovers,
}

/// Opens the subsystems, cleans up after the daemon before, and takes its environments over.
async fn build(options: DaemonOptions) -> Result<Built, DaemonError> {
    let root = options.root.clone();
    let state = root.state_dir();
    let store =
        Store::open(&state.join("state.db"), &schemas()).map_err(subsystem("the database"))?;
    let store = Arc::new(store);
    let (seal, secrets) = secrets::open(&root, &store).map_err(subsystem("the seal"))?;
    let exe = std::env::current_exe().map_err(subsystem("its own binary"))?;
    let engine = Engine::new(EngineConfig {
        run_dir: root.run_dir().to_owned(),
        exe: exe.clone(),
        exe_args: Vec::new(),
        instance: root.instance(),
    })
    .map_err(subsystem("the engine"))?;
    let (run, kept) = (root.run_dir().join("net"), state.join("net"));
    let net = Net::new(NetConfig::new(run, kept, root.instance()));
    let net = Arc::new(net.map_err(subsystem("the network"))?);
    let tables = Tables::new(Arc::clone(&store));
    let known = known(&tables)?;
    let found = engine.reconcile().await;
    found.map_err(subsystem("the engine"))?;
    let ca = LocalCa::new(state.join("tls"));
    let boxes = in_place(|| {
        let net = Arc::clone(&net);
        jobs::boxes(
            &engine,
            net,
            state,
            &exe,
            root.hidden(),
            &options.machine.jobs,
            Some(ca.certificate_path()),
        )
    });
    // Before the image store empties its scratch folders, in which running build steps write.
    sweep(&engine, &net, &known, boxes.as_ref().ok()).await;
    let images = Images::open(&state.join("images"), Arc::clone(&store))
        .map_err(subsystem("the image store"))?;
    let leftovers = Leftovers::set_aside(&root, &images);
    let register = Register::open(Arc::clone(&store));
    let register = Arc::new(register.map_err(subsystem("the register of tokens"))?);
    let issuers = &options.machine.oidc;
    let exchange = Exchange::new(issuers, Arc::clone(&register), Arc::clone(&store));
    let hub = Arc::new(hub(&options, &exe, &known));
    let asked = authority::settings(&options.machine.acme);
    // Before anything is pushed to the edge: what serves goes on serving.
    let authorities = authority::open(asked, &store, seal.clone(), &hub)
        .map_err(subsystem("the certificates"))?;
    let platform = Arc::new(Platform {
        exchange: exchange.map_err(subsystem("logins by the issuers of machine.yaml"))?,
        contents: Contents::new(state.join("contents"), seal.clone(), secrets.clone()),
        seal: seal.clone(),
        door: Arc::new(Doorkeeper::new(register)),
        secrets,
        masks: crate::masks::Masks::default(),
        sources: havre_sources::Store::new(state.join("sources")),
        ca,
        certificates: Certificates::default(),
        trail: audit::trail(&root, &store),
        built: Notify::new(),
        hub,
        authorities,
        networks: shared_networks::tables::Tables::new(Arc::clone(&store)),
        vars: Vars::new(Arc::clone(&store)),
        identities: Identities::new(&store, seal.clone(), &options),
        promotions: Arc::new(Promotions::new(Arc::clone(&store))),
        previews: previews::tables::Tables::new(Arc::clone(&store)),
        root,
        exe,
        tables,
        images,
    });
    in_place(|| {
        audit::start(&platform);
        secrets::start(&platform);
    });
    let host = Arc::new(Host {
        platform: Arc::clone(&platform),
        engine: engine.clone(),
        net,
    });
    let builder = LocalBuilder::new(Arc::clone(&host));
    let workshop = builder.workshop();
    let daemon = Daemon::new(
        platform,
        Arc::new(ThisMachine(host)),
        Arc::new(builder),
        options,
    );
    let (late, jobs_api) = (Late::default(), JobsApi::default());
    let mirrors = Arc::new(Mirrors::new(Arc::clone(&store)));
    let receiver = Arc::new(Pushed {
        platform: Arc::clone(&daemon.platform),
        mirrors: Arc::clone(&mirrors),
        late: late.clone(),
    });
    let repositories = Repositories::new(&daemon, engine.clone(), receiver);
    let remotes = in_place(|| crate::repositories::remotes(&daemon, engine.clone()));
    let pipeline = boxes.map_err(|error| one_line(&error)).and_then(|boxes| {
        let parts = pipeline::Parts {
            daemon: &daemon,
            store: &store,
            boxes,
            git: repositories.git()?,
            remotes: remotes?,
            api: jobs_api.clone(),
            mirrors: Arc::clone(&mirrors),
            late,
            workshop,
        };
        in_place(|| Pipeline::open(parts))
    });
    let parts = PARTS.iter().map(|part| (part.build)(&daemon, &store));
    // The daemon knows targets, and not what they are made of.
    let of_this_machine: [Box<dyn Subsystem>; 4] = [
        Box::new(subsystems::mirrors::Mirrors {
            daemon: Arc::clone(&daemon),
            mirrors,
            git: repositories.git(),
            runs: pipeline.as_ref().ok().map(|pipeline| pipeline.runs.clone()),
        }),
        Box::new(repositories),
        Box::new(subsystems::pipeline::Runs {
            daemon: Arc::clone(&daemon),
            pipeline,
        }),
        Box::new(Containers(engine)),
    ];
    let subsystems: Vec<_> = parts.chain(of_this_machine).collect();
    // Before an environment has the edge told, which would have it forget the gateway.
    let guard = audit::guard(&daemon.platform);
    let server = Server::new(calls(&subsystems)?, guard, daemon.end.clone());
    let beside = subsystems.iter().filter_map(|one| one.beside());
    let server = beside.fold(server, Server::beside);
    jobs_api.serve(&server);
    let gateway = gateway(&daemon, &subsystems, &server).await?;
    adopt(&daemon, known).await;
    Ok(Built {
        daemon,
        subsystems,
        server,
        gateway,
        leftovers,
    })
}

/// Tables of the subsystems.
pub(crate) fn schemas() -> Vec<Schema> {
    let of_pipeline = [
        havre_runs::SCHEMA,
        havre_results::SCHEMA,
        pipeline::SCHEMA,
        havre_mirror::SCHEMA,
        previews::tables::SCHEMA,
    ];
    let parts = PARTS.iter().filter_map(|part| part.schema);
    parts.chain(of_pipeline).collect()
}

/// What the subsystems serve by other protocols, and the API for those who come from elsewhere; their hosts are
/// taken from now on.
async fn gateway(
    daemon: &Daemon,
    subsystems: &[Box<dyn Subsystem>],
    server: &Server,
) -> Result<Option<Gateway>, DaemonError> {
    let mounts = subsystems.iter().filter_map(|subsystem| subsystem.mount());
    let api = daemon.options.machine.api.as_ref().map(|api| Mount {
        name: "api",
        hosts: BTreeSet::from([api.host.clone()]),
        router: server.remote(&api.host),
    });
    let gateway = Gateway::new(mounts.chain(api).collect()).map_err(subsystem("the gateway"))?;
    let hosts = gateway.as_ref().map(Gateway::hosts).unwrap_or_default();
    daemon.platform.hub.reserve(hosts).await;
    Ok(gateway)
}

/// The environments of the database, each with its desired state as stored.
fn known(tables: &Tables) -> Result<Vec<(EnvironmentId, String)>, DaemonError> {
    let rows = tables.environments().map_err(subsystem("the database"))?;
    let known = rows.into_iter().map(|row| {
        let id = EnvironmentId {
            project: ProjectName::new(row.project),
            environment: EnvironmentName::new(row.environment),
        };
        (id, row.desired)
    });
    Ok(known.collect())
}

fn hub(options: &DaemonOptions, exe: &Path, known: &[(EnvironmentId, String)]) -> EdgeHub {
    let root = &options.root;
    let launch = Launch {
        exe: exe.to_owned(),
        root: root.clone(),
    };
    let machine = EdgeState {
        http: options.http.clone(),
        https: options.https.clone(),
        trusted_proxies: options.trusted_proxies.clone(),
        connections_per_address: options.connections_per_address,
        ..EdgeState::default()
    };
    let awaited = known.iter().map(|(id, _)| id.clone());
    EdgeHub::new(Control::new(&root.edge_run_dir()), launch, machine, awaited)
}

/// Takes the environments of the daemon before in hand.
async fn adopt(daemon: &Arc<Daemon>, known: Vec<(EnvironmentId, String)>) {
    let platform = &daemon.platform;
    // Before any of them begins to use or remove what is another's.
    if let Err(error) = in_place(|| owner::adopt(&platform.volumes_dir(), &platform.tables)) {
        let error = havre_base::one_line(&error);
        tracing::warn!(error, "volumes of an earlier version stay without an owner");
    }
    let ids = known.iter().map(|(id, _)| id.clone());
    if let Err(error) = leases::release_unknown(&platform.images, ids) {
        tracing::warn!(%error, "images stay that only environments need which are gone");
    }
    // One that is gone at once must not take for unused what the next ones need.
    let _not_all_known = platform.contents.hold();
    for (id, desired) in known {
        daemon.adopt(id, &desired).await;
    }
}

/// Removes what belongs to nobody: build steps of a daemon that died, networks of environments
/// that are gone.
async fn sweep(
    engine: &Engine,
    net: &Arc<Net>,
    known: &[(EnvironmentId, String)],
    boxes: Option<&Boxes>,
) {
    let ids: BTreeSet<&EnvironmentId> = known.iter().map(|(id, _)| id).collect();
    let mut kept = Vec::new();
    for container in engine.containers() {
        let id = container.id.clone();
        // Of these the pipeline knows whose they are.
        if boxes.is_some() && Boxes::has(&container) {
            continue;
        }
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
    let mut keys: Vec<String> = known.iter().map(|(id, _)| environment_key(id)).collect();
    match boxes.map(Boxes::networks) {
        Some(Ok(networks)) => {
            keys.extend(networks);
            kept.extend(Boxes::members());
        }
        Some(Err(error)) => {
            tracing::warn!(error = one_line(&error), "networks of jobs are not known");
        }
        None => {}
    }
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

/// In a core dump secrets would lie in clear. What the daemon starts may raise the limit again.
fn write_no_core() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Core);
    limit.current = Some(0);
    if let Err(error) = setrlimit(Resource::Core, limit) {
        tracing::warn!(%error, "a crash may write secrets to a core dump");
    }
}

#[cfg(test)]
mod tests;
