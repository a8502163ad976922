//! `havre ci run`: the workflows of a working tree in boxes of their own, without a daemon.
//!
//! All of it lies below a root of its own, which goes with the run; what a run that was killed has left goes with the
//! next. Only caches, images and tools are kept, for whichever run is there first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use futures_util::future::BoxFuture;
use havre_base::{blocking, one_line};
use havre_box::{Boxes, Workspace};
use havre_engine::{Engine, EngineConfig};
use havre_git::{RemoteSettings, Remotes};
use havre_image::{Images, NameRights, PrunePolicy};
use havre_job::Sources as SourcesOfJob;
use havre_model::machine::Actions;
use havre_net::{Net, NetConfig};
use havre_results::{Limits, Results};
use havre_runs::{
    Answer, Asked, Files, Gate, LegKey, LegStart, Opened, Ports, Runs, Settings, Source, Sources,
    SystemClock,
};
use havre_store::Store;
use rustix::fs::{FlockOperation, flock};

use super::around::{Grounded, Surroundings};
use super::elsewhere::Fetcher;
use super::legs::BoxLegs;
use super::rights::Rights;
use super::tools::ToolCaches;
use super::tree::Tree;
use crate::cache_limits::CacheLimits;
use crate::root::Root;
use crate::workshop::Workshop;

/// Where runs have their roots, and what is kept between them; below a folder that is given, `ci/runs` and `ci/kept`.
const ROOTS: &str = "/var/tmp/havre-ci";
const KEPT: &str = "/var/cache/havre-ci";
/// How long artifacts are there that somebody may still look at.
const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Held by who uses a folder.
const LOCK: &str = "lock";
/// Tools of jobs that are kept.
const TOOLS_BYTES: u64 = 10 << 30;
/// Jobs at once.
const AT_ONCE: usize = 4;

/// What a local run is about.
pub struct LocalSettings {
    /// A folder for all of it instead of the machine's own, as of [`crate::Root`].
    pub base: Option<PathBuf>,
    /// The working tree: its jobs see a copy.
    pub tree: PathBuf,
    /// Paths from the tree's root and what they hold: all workflow files there are.
    pub workflows: Files,
    /// What is checked out there.
    pub source: Source,
    /// `secrets` of jobs.
    pub secrets: BTreeMap<String, String>,
    /// `vars` of jobs.
    pub vars: BTreeMap<String, String>,
    /// Images by labels of `runs-on`.
    pub labels: BTreeMap<String, String>,
    /// Where actions and workflows of other repositories come from, and whom of them is trusted.
    pub actions: Actions,
}

/// Why workflows cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A folder.
    #[error("cannot prepare {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A part of it.
    #[error("cannot prepare {what}")]
    Part {
        /// Which.
        what: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A driver of runs, and what it stands on, until [`LocalRun::end`].
pub struct LocalRun {
    /// Runs are begun, followed and cancelled by it; [`Runs::run`] drives them.
    pub runs: Runs,
    /// What is not as it should be, and does not keep runs from beginning.
    pub notes: Vec<String>,
    boxes: Boxes,
    engine: Engine,
    net: Arc<Net>,
    legs: BoxLegs,
    local: Arc<Local>,
    root: Root,
    base: PathBuf,
    _lock: File,
    _kept: Option<File>,
}

impl LocalRun {
    /// Prepares a root, and removes those of runs that were killed. Needs root and a tokio runtime; it blocks.
    pub async fn open(settings: LocalSettings) -> Result<Self, LocalError> {
        let (roots, kept) = match &settings.base {
            Some(base) => (base.join("ci/runs"), base.join("ci/kept")),
            None => (PathBuf::from(ROOTS), PathBuf::from(KEPT)),
        };
        make(&roots)?;
        let mut notes = sweep(&roots).await;
        let (base, lock) = own(&roots)?;
        let root = Root::new(Some(base.clone()));
        let unfinished = Unfinished(Some(base.clone()));
        root.create().map_err(part("its folders"))?;
        make(&kept)?;
        let locked = lock_of(&kept)?;
        let keep = match &locked {
            Some(_) => kept,
            None => {
                notes.push(
                    "another run uses the caches of this machine: this one begins with empty ones"
                        .to_owned(),
                );
                base.join("kept")
            }
        };
        make(&keep)?;
        let parts = Parts::open(&root, &keep)?;
        let (boxes, engine, net) = (parts.boxes.clone(), parts.engine.clone(), parts.net.clone());
        let (runs, legs, local) = parts.runs(settings, &root, keep)?;
        unfinished.finished();
        Ok(Self {
            runs,
            notes,
            boxes,
            engine,
            net,
            legs,
            local,
            root,
            base,
            _lock: lock,
            _kept: locked,
        })
    }

    /// Removes all of it; what could not be removed is returned, and goes with the next run.
    pub async fn end(self) -> Vec<String> {
        let mut errors = remove_boxes(&self.boxes).await;
        errors.extend(self.legs.end().await);
        errors.extend(self.boxes.shutdown().await);
        errors.extend(remove_all(&self.engine).await);
        self.engine.shutdown().await;
        // Builds have one, too.
        let left = havre_base::in_place(|| self.net.sweep(&[], &[]));
        errors.extend(left.iter().map(|error| one_line(error)));
        errors.extend(self.local.prune().await.err());
        let base = self.base;
        let removed = havre_base::in_place(|| havre_image::remove_tree(&base));
        if let Err(error) = removed {
            errors.push(format!("cannot remove {}: {error}", base.display()));
        }
        drop(self.root);
        errors
    }
}

/// A root that is removed unless it comes to something: nothing of it runs before.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(base) = self.0.take() else { return };
        if let Err(error) = havre_image::remove_tree(&base) {
            tracing::warn!(%error, path = %base.display(), "the folder of a run stays until the next");
        }
    }
}

/// What boxes are made by.
struct Parts {
    store: Arc<Store>,
    /// Of caches and images.
    kept: Arc<Store>,
    engine: Engine,
    net: Arc<Net>,
    boxes: Boxes,
    workshop: Workshop,
    results: Results,
}

impl Parts {
    fn open(root: &Root, keep: &Path) -> Result<Self, LocalError> {
        let schemas = [havre_runs::SCHEMA];
        let state = root.state_dir();
        let store = Store::open(&state.join("state.db"), &schemas).map_err(part("the database"))?;
        let (engine, net, boxes) = boxes(root)?;
        let exe = std::env::current_exe().map_err(part("its own binary"))?;
        let workshop = Workshop::new(engine.clone(), Arc::clone(&net), exe, root, || {});
        let schemas = [havre_results::SCHEMA, havre_image::SCHEMA];
        let kept = Store::open(&keep.join("kept.db"), &schemas);
        let kept = Arc::new(kept.map_err(part("the database of caches and images"))?);
        // Addresses and tokens end with the run.
        let mut key = [0; 32];
        getrandom(&mut key).map_err(part("a key"))?;
        let results = keep.join("results");
        let limits = Limits {
            retention: RETENTION,
            ..Limits::default()
        };
        let results = Results::open(Arc::clone(&kept), results, &key, limits)
            .and_then(|results| results.tend().map(|()| results));
        Ok(Self {
            store: Arc::new(store),
            kept,
            engine,
            net,
            boxes,
            workshop,
            results: results.map_err(part("artifacts and caches"))?,
        })
    }

    fn runs(
        self,
        settings: LocalSettings,
        root: &Root,
        keep: PathBuf,
    ) -> Result<(Runs, BoxLegs, Arc<Local>), LocalError> {
        let LocalSettings {
            base: _,
            tree,
            workflows,
            source,
            secrets,
            vars,
            labels,
            actions,
        } = settings;
        let exe = std::env::current_exe().map_err(part("its own binary"))?;
        let remotes = Remotes::open(
            RemoteSettings {
                server: actions.server,
                folder: keep.join("actions"),
                confined: Some((root.run_dir().join("remotes"), exe)),
            },
            None,
        );
        let remotes = remotes.map_err(part("actions of other repositories"))?;
        let sources: Arc<dyn Sources> =
            Arc::new(Tree::new(tree.clone(), workflows, source, remotes.clone()));
        let fetcher = Fetcher {
            remotes,
            sources: Arc::clone(&sources),
        };
        let surroundings = Arc::new(Local {
            name: name_of(root),
            tree: tree.clone(),
            tools: ToolCaches::new(keep.join("tools"), TOOLS_BYTES),
            keep,
            kept: self.kept,
            images: OnceLock::new(),
            workshop: Arc::new(self.workshop),
        });
        let dir = root.run_dir().join("jobs");
        let around = Arc::clone(&surroundings) as Arc<dyn Surroundings>;
        let legs = BoxLegs::new(
            self.boxes,
            dir.clone(),
            self.results,
            labels,
            fetcher,
            around,
        );
        let legs = legs.map_err(|source| LocalError::Folder { path: dir, source })?;
        let ports = Ports {
            legs: Arc::new(legs.clone()),
            gate: Arc::new(Given { secrets, vars }),
            sources,
            clock: Arc::new(SystemClock),
        };
        let settings = Settings {
            at_once: AT_ONCE,
            per_project: AT_ONCE,
            trusted_owners: actions.trust,
            starts_by_itself: false,
            gives_up: true,
            ..Settings::default()
        };
        let logs = root.state_dir().join("logs");
        let runs = Runs::open(self.store, logs, ports, settings).map_err(part("the runs"))?;
        Ok((runs, legs, surroundings))
    }
}

/// The engine of a root, which knows what is there already, its networks, and boxes of both.
fn boxes(root: &Root) -> Result<(Engine, Arc<Net>, Boxes), LocalError> {
    let exe = std::env::current_exe().map_err(part("its own binary"))?;
    let engine = Engine::new(EngineConfig {
        run_dir: root.run_dir().to_owned(),
        exe: exe.clone(),
        exe_args: Vec::new(),
        instance: root.instance(),
    })
    .map_err(part("the engine"))?;
    let (run, state) = (root.run_dir(), root.state_dir());
    let config = NetConfig::new(run.join("net"), state.join("net"), root.instance());
    let net = Arc::new(Net::new(config).map_err(part("the network"))?);
    let boxes = super::boxes(
        &engine,
        Arc::clone(&net),
        state,
        &exe,
        root.hidden(),
        &Default::default(),
        None,
    );
    Ok((engine, net, boxes.map_err(part("boxes"))?))
}

/// Removes what runs have left that were killed; what cannot be removed is told.
async fn sweep(roots: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    let entries = match fs::read_dir(roots) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("cannot look through {}: {error}", roots.display())],
    };
    for base in entries.flatten().map(|entry| entry.path()) {
        let Ok(Some(lock)) = lock_of(&base) else {
            continue;
        };
        let mut errors = remove_left(&Root::new(Some(base.clone()))).await;
        if errors.is_empty()
            && let Err(error) = havre_base::in_place(|| havre_image::remove_tree(&base))
        {
            errors.push(format!("cannot remove {}: {error}", base.display()));
        }
        // What is still there is found by its files, which the next run finds again.
        notes.extend(errors);
        drop(lock);
    }
    notes
}

/// Removes what boxes of a root hold of the machine: processes, mounts, networks.
async fn remove_left(root: &Root) -> Vec<String> {
    if !root.run_dir().is_dir() {
        return Vec::new();
    }
    let (engine, net, boxes) = match boxes(root) {
        Ok(parts) => parts,
        Err(error) => return vec![one_line(&error)],
    };
    let mut errors = Vec::new();
    if let Err(error) = engine.reconcile().await {
        errors.push(one_line(&error));
    }
    errors.extend(remove_boxes(&boxes).await);
    errors.extend(boxes.shutdown().await);
    errors.extend(remove_all(&engine).await);
    engine.shutdown().await;
    // The network that was made for the next box is of none.
    let left = havre_base::in_place(|| net.sweep(&[], &[]));
    errors.extend(left.iter().map(|error| one_line(error)));
    errors
}

/// Containers that are of no box: steps of builds.
async fn remove_all(engine: &Engine) -> Vec<String> {
    let mut errors = Vec::new();
    for container in engine.containers() {
        let left = engine.remove(&container.id).await;
        errors.extend(left.iter().map(|error| one_line(error)));
    }
    errors
}

async fn remove_boxes(boxes: &Boxes) -> Vec<String> {
    let mut errors = Vec::new();
    match boxes.list() {
        Ok(ids) => {
            for id in ids {
                errors.extend(boxes.remove(&id).await);
            }
        }
        Err(error) => errors.push(one_line(&error)),
    }
    errors
}

/// A folder that nobody else has.
fn own(roots: &Path) -> Result<(PathBuf, File), LocalError> {
    let made = tempfile::Builder::new().prefix("run-").tempdir_in(roots);
    let made = made.map_err(|source| LocalError::Folder {
        path: roots.to_owned(),
        source,
    })?;
    let base = made.keep();
    let lock = lock_of(&base)?;
    let taken = || LocalError::Folder {
        path: base.clone(),
        source: io::ErrorKind::WouldBlock.into(),
    };
    let lock = lock.ok_or_else(taken)?;
    Ok((base, lock))
}

/// Locks a folder for as long as the file is open; `None` where somebody else has.
fn lock_of(folder: &Path) -> Result<Option<File>, LocalError> {
    let path = folder.join(LOCK);
    let open = || {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|source| LocalError::Folder {
        path: path.clone(),
        source,
    })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(LocalError::Folder {
            path,
            source: error.into(),
        }),
    }
}

fn make(folder: &Path) -> Result<(), LocalError> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(|source| LocalError::Folder {
        path: folder.to_owned(),
        source,
    })
}

/// Unlike those of all runs before: its folder's, which others may have had, and the time.
fn name_of(root: &Root) -> String {
    let folder = root.base().and_then(Path::file_name).unwrap_or_default();
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    format!("{}-{ms}", folder.to_string_lossy())
}

fn getrandom(bytes: &mut [u8]) -> io::Result<()> {
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}

fn part<E>(what: &'static str) -> impl FnOnce(E) -> LocalError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| LocalError::Part {
        what,
        source: Box::new(source),
    }
}

impl Local {
    /// Keeps what builds have left within the budget of a daemon's, where there is any.
    async fn prune(&self) -> Result<(), String> {
        let Some(images) = self.images.get().cloned() else {
            return Ok(());
        };
        let budget = CacheLimits::default().budget(&self.keep);
        let budget = budget.map_err(|error| format!("the disk of caches: {error}"))?;
        let policy = PrunePolicy {
            budget: Some(budget),
            ..PrunePolicy::default()
        };
        let pruned = blocking(move || images.prune(&policy)).await;
        let pruned = pruned.map_err(|error| one_line(&error))?;
        pruned.map(drop).map_err(|error| one_line(&error))
    }
}

/// What surrounds jobs of a local run.
struct Local {
    /// Of this run of the command, unlike all before.
    name: String,
    tree: PathBuf,
    keep: PathBuf,
    tools: ToolCaches,
    kept: Arc<Store>,
    images: OnceLock<Images>,
    workshop: Arc<Workshop>,
}

impl Surroundings for Local {
    fn ground(&self, leg: &LegStart) -> Result<Grounded, String> {
        // Whoever has the working tree has them all.
        let tools = self.tools.of_job(&leg.project, &[""], true);
        let tools = tools.map_err(|error| format!("cannot keep tools of jobs: {error}"))?;
        Ok(Grounded {
            workspace: Workspace::Copy(self.tree.clone()),
            repository: None,
            sources: SourcesOfJob::Tree,
            tools,
        })
    }

    fn calls(&self, _: &LegStart) -> Result<Option<BTreeMap<String, String>>, String> {
        Ok(None)
    }

    fn artifacts_of(&self, leg: &LegStart) -> String {
        format!("{}-{}", self.name, leg.root)
    }

    fn images(&self) -> Result<Images, String> {
        if let Some(images) = self.images.get() {
            return Ok(images.clone());
        }
        let (dir, kept) = (self.keep.join("images"), Arc::clone(&self.kept));
        let images = havre_base::in_place(|| Images::open(&dir, kept));
        let images = images.map_err(|error| one_line(&error))?;
        // Nobody else uses them: what holds any was killed.
        super::images::release_unknown(&images, |_| false)?;
        Ok(self.images.get_or_init(|| images).clone())
    }

    fn has_images(&self) -> bool {
        self.images.get().is_some()
    }

    fn workshop(&self) -> Result<Arc<Workshop>, String> {
        Ok(Arc::clone(&self.workshop))
    }

    fn names(&self, _: &str) -> NameRights {
        NameRights::everything()
    }

    fn api(&self) -> Option<Router> {
        None
    }

    fn own(&self, _: &str, _: &Rights) -> Option<Router> {
        None
    }

    fn identity(&self, _: &str, rights: &Rights) -> Result<Option<String>, String> {
        match rights.claims {
            None => Ok(None),
            Some(_) => Err(
                "`id-token: write`: a local run has no identity that others could verify; jobs of a daemon have"
                    .to_owned(),
            ),
        }
    }

    fn removed(&self, _: &LegKey) {}
}

/// Everything may go on, with what the command line gives.
struct Given {
    secrets: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
}

impl Gate for Given {
    fn ask<'a>(&'a self, _: &'a Asked) -> BoxFuture<'a, Answer> {
        let opened = Opened {
            secrets: self.secrets.clone(),
            ..Opened::default()
        };
        Box::pin(async move { Answer::Open(opened) })
    }

    fn vars<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        Box::pin(async move { Ok(self.vars.clone()) })
    }
}
