//! The pipeline of the daemon: what is pushed starts runs, whose jobs are in boxes.
//!
//! ```text
//! git push ─► Pushed: checks workflows ─► Runs ─► Gate: secrets of the job's environment, once it may
//!    ▲ lines of the runs ◄────────────────┤  └──► BoxLegs ─► boxes, each with a socket: artifacts, caches, the API
//!    └────────────────────────────────────┘                                       as the job's own token lets it
//! ```

mod commits;
mod gate;
mod glance;
mod job_key;
mod pulls;
mod pushed;
mod served;
mod starting;
mod surroundings;
pub(crate) mod token;
mod told;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use havre_api::Server;
use havre_base::{Durability, blocking, one_line};
use havre_box::Boxes;
use havre_git::{Git, Remotes, Repositories};
use havre_model::machine::Ci;
use havre_results::{Limits, Results};
use havre_runs::{Ports, Runs, Settings, Sources, SystemClock};
use havre_store::Store;

use crate::daemon::Daemon;
use crate::jobs::{BoxLegs, Fetcher, ToolCaches, doors_of};
use crate::mirrors::Mirrors;
use crate::run_calls::{RunCalls, ToolsOfJobs};
use crate::workshop::Workshop;

pub(crate) use pulls::SCHEMA;
pub(crate) use pushed::Pushed;

use commits::Commits;
use gate::Environments;
use job_key::JobKey;
use pulls::Pulls;
use served::Served;
use surroundings::OfDaemon;

/// Where all calls from boxes are said to come from: each shows a token of its own.
const BOXES: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Tools of jobs that a project keeps, where nobody said how much.
const TOOLS_BYTES: u64 = 10 << 30;

/// What pushes start, from when it is there until the daemon ends: it holds what receives them.
#[derive(Clone, Default)]
pub(crate) struct Late(Arc<Mutex<Option<Begun>>>);

/// What a push needs.
#[derive(Clone)]
struct Begun {
    runs: Runs,
    repositories: Repositories,
    pulls: Pulls,
}

impl Late {
    fn begin(&self, begun: Begun) {
        *self.lock() = Some(begun);
    }

    fn get(&self) -> Option<Begun> {
        self.lock().clone()
    }

    fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API as jobs reach it, from when the server is there until the daemon ends: what answers calls holds the runs, and
/// those hold this.
#[derive(Clone, Default)]
pub(crate) struct JobsApi(Arc<Mutex<Option<Router>>>);

impl JobsApi {
    /// Says who answers.
    pub(crate) fn serve(&self, server: &Server) {
        *self.lock() = Some(server.boxed(BOXES));
    }

    fn get(&self) -> Option<Router> {
        self.lock().clone()
    }

    /// Nobody answers any more.
    fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Router>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By what tokens and addresses of artifacts and caches are signed: it stays, so that jobs of an earlier daemon go on.
fn key(path: &Path) -> io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let damaged = |_| io::Error::new(io::ErrorKind::InvalidData, "its length is wrong");
            return bytes.try_into().map_err(damaged);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    havre_base::replace(path, &key, 0o600, Durability::Durable)?;
    Ok(key)
}

fn limits(most: &Ci) -> Limits {
    let usual = Limits::default();
    Limits {
        total: most.total.unwrap_or(usual.total),
        repository_artifacts: most.artifacts.unwrap_or(usual.repository_artifacts),
        repository_caches: most.caches.unwrap_or(usual.repository_caches),
        retention: most.keep.unwrap_or(usual.retention),
        ..usual
    }
}

/// The pipeline.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub(crate) runs: Runs,
    pub(crate) results: Results,
    sources: Arc<dyn Sources>,
    pub(crate) repositories: Repositories,
    legs: BoxLegs,
    boxes: Boxes,
    tools: ToolCaches,
    api: JobsApi,
    late: Late,
    daemon: Arc<Daemon>,
}

/// What it is made of.
pub(crate) struct Parts<'a> {
    pub(crate) daemon: &'a Arc<Daemon>,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) boxes: Boxes,
    pub(crate) git: Git,
    /// Repositories of other servers.
    pub(crate) remotes: Remotes,
    pub(crate) api: JobsApi,
    pub(crate) mirrors: Arc<Mirrors>,
    pub(crate) late: Late,
    pub(crate) workshop: Arc<Workshop>,
}

impl Pipeline {
    /// Opens it; what keeps it from it, for a person. Blocks.
    pub(crate) fn open(parts: Parts<'_>) -> Result<Self, String> {
        let Parts {
            daemon,
            store,
            boxes,
            git,
            remotes,
            api,
            mirrors,
            late,
            workshop,
        } = parts;
        let repositories = git.repositories().clone();
        let platform = &daemon.platform;
        let state = platform.root.state_dir();
        let key = key(&state.join("results.key"))
            .map_err(|error| format!("cannot keep the key of artifacts and caches: {error}"))?;
        let results = Results::open(
            Arc::clone(store),
            state.join("results"),
            &key,
            limits(&daemon.options.machine.ci),
        );
        let results = results.map_err(|error| one_line(&error))?;
        let machine = &daemon.options.machine;
        let bounds = &machine.jobs;
        let tools = ToolCaches::new(
            state.join("jobs/tools"),
            bounds.tool_cache_bytes.unwrap_or(TOOLS_BYTES),
        );
        let job_key = JobKey::new(&key);
        let served = Served {
            key: job_key.clone(),
            git,
            identities: platform.identities.clone(),
            trail: platform.trail.clone(),
        };
        let sources: Arc<dyn Sources> = Arc::new(Commits {
            repositories: repositories.clone(),
            remotes: remotes.clone(),
        });
        let listens = daemon.options.https.iter().chain(&daemon.options.http);
        let surroundings = OfDaemon {
            platform: Arc::clone(platform),
            sources: Arc::clone(&sources),
            api: api.clone(),
            served,
            doors: doors_of(listens),
            tools: tools.clone(),
            workshop,
        };
        let fetcher = Fetcher {
            remotes,
            sources: Arc::clone(&sources),
        };
        let legs = BoxLegs::new(
            boxes.clone(),
            platform.root.run_dir().join("jobs"),
            results.clone(),
            machine.ci.labels.clone(),
            fetcher,
            Arc::new(surroundings),
        );
        let legs = legs.map_err(|error| format!("cannot make the folder of boxes: {error}"))?;
        let ports = Ports {
            legs: Arc::new(legs.clone()),
            gate: Arc::new(Environments {
                daemon: Arc::clone(daemon),
                mirrors,
                repositories: repositories.clone(),
                key: job_key,
            }),
            sources: Arc::clone(&sources),
            clock: Arc::new(SystemClock),
        };
        let usual = Settings::default();
        let at_once = bounds.at_once.unwrap_or(usual.at_once);
        let settings = Settings {
            at_once,
            per_project: bounds.per_project.unwrap_or(Settings::share(at_once)),
            trusted_owners: machine.actions.trust.clone(),
            ..usual
        };
        let runs = Runs::open(Arc::clone(store), state.join("runs"), ports, settings);
        let runs = runs.map_err(|error| one_line(&error))?;
        let begun = Begun {
            runs: runs.clone(),
            repositories: repositories.clone(),
            pulls: Pulls::new(Arc::clone(store)),
        };
        daemon.glance.begin(Arc::new(begun.clone()));
        late.begin(begun);
        Ok(Self {
            runs,
            results,
            sources,
            repositories,
            legs,
            boxes,
            tools,
            api,
            late,
            daemon: Arc::clone(daemon),
        })
    }

    /// Removes what is kept of jobs and need not be any longer. Blocks.
    pub(crate) fn tend(&self) -> Result<(), String> {
        let results = self.results.tend().map_err(|error| one_line(&error));
        let used = self.boxes.tools_in_use();
        let tools = used.map_err(|error| one_line(&error)).and_then(|used| {
            let tended = self.tools.tend(&used);
            tended.map_err(|error| format!("cannot tidy the tools of jobs: {error}"))
        });
        results.and(tools)
    }

    /// What answers calls about its runs.
    pub(crate) fn calls(&self) -> RunCalls {
        RunCalls::new(
            self.runs.clone(),
            self.results.clone(),
            Arc::clone(&self.sources),
            self.repositories.clone(),
            Some(ToolsOfJobs {
                caches: self.tools.clone(),
                boxes: self.boxes.clone(),
            }),
        )
    }

    /// Ends what is this daemon's alone; jobs go on.
    pub(crate) fn end(&self) {
        self.api.end();
        self.late.end();
        self.daemon.glance.end();
    }

    /// Removes what was made for the next job; those that run go on.
    pub(crate) async fn close(&self) {
        for error in self.boxes.shutdown().await {
            tracing::warn!(error, "the network of the next job stays");
        }
    }

    /// Takes the boxes of the daemon before in hand, and is ready for the next where there are repositories.
    pub(crate) async fn adopt(&self) {
        for error in self.legs.adopt().await {
            tracing::warn!(error, "what is left of a job stays");
        }
        let is_used = self
            .repositories
            .names()
            .is_ok_and(|names| !names.is_empty());
        if !is_used {
            return;
        }
        let boxes = self.boxes.clone();
        match blocking(move || boxes.warm()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = one_line(&error), "jobs cannot have boxes"),
            Err(error) => tracing::warn!(error = one_line(&error), "jobs cannot have boxes"),
        }
    }
}
