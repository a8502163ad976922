//! The running daemon: the environments by name, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_base::in_place;
use havre_edge::Crowd;
use havre_release::{BoxError, Opened, Release, Targets};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

use crate::builder::Builder;
use crate::environment::EnvironmentError;
use crate::glance::Glance;
use crate::handle::EnvironmentHandle;
use crate::history::{self, Past};
use crate::options::DaemonOptions;
use crate::platform::Platform;
use crate::port_owner;
use crate::supervisor::Supervisor;

/// How long a call waits until environments were looked at for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// How long nobody is told that the edge does not answer: it starts after the daemon.
const EDGE_START: Duration = Duration::from_secs(3);

/// The running daemon.
pub(crate) struct Daemon {
    pub(crate) platform: Arc<Platform>,
    /// Where environments run.
    pub(crate) targets: Arc<dyn Targets>,
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) options: DaemonOptions,
    pub(crate) since: SystemTime,
    /// Held while a shared network is made, joined or removed.
    pub(crate) networks: Mutex<()>,
    /// Held from the look at what others have until they can see what a release takes: of two that begin
    /// at once the later one finds the first.
    pub(crate) beginning: Mutex<()>,
    environments: Mutex<BTreeMap<EnvironmentId, EnvironmentHandle>>,
    /// Stored environments that this version cannot read, and why.
    unreadable: StdMutex<BTreeMap<EnvironmentId, String>>,
    pub(crate) supervisor: Supervisor,
    pub(crate) end: CancellationToken,
    /// What of runs is shown beside environments.
    pub(crate) glance: Glance,
    /// Whether a call has ended it.
    pub(crate) shutdown_requested: AtomicBool,
}

impl Daemon {
    /// One without environments.
    pub(crate) fn new(
        platform: Arc<Platform>,
        targets: Arc<dyn Targets>,
        builder: Arc<dyn Builder>,
        options: DaemonOptions,
    ) -> Arc<Self> {
        let end = CancellationToken::new();
        Arc::new(Self {
            platform,
            targets,
            builder,
            options,
            since: SystemTime::now(),
            networks: Mutex::default(),
            beginning: Mutex::default(),
            environments: Mutex::default(),
            unreadable: StdMutex::default(),
            supervisor: Supervisor::new(end.clone()),
            end,
            glance: Glance::default(),
            shutdown_requested: AtomicBool::new(false),
        })
    }

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
        let handle = self
            .open(id, None)
            .map_err(|error| ApiError::from_error(ErrorCode::Internal, &*error))?;
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

    /// Opens an environment's target and keeps it going, to be forgotten when the environment is gone:
    /// also one that a daemon before this one began to take down.
    fn open(
        self: &Arc<Self>,
        id: &EnvironmentId,
        desired: Option<&str>,
    ) -> Result<EnvironmentHandle, BoxError> {
        let end = self.end.clone().cancelled_owned();
        let Opened { target, run } = self.targets.open(id, desired, Box::pin(end))?;
        let (daemon, owned) = (Arc::clone(self), id.clone());
        self.supervisor.spawn(async move {
            if let Some(announce) = run.await {
                daemon.forget(&owned).await;
                announce();
            }
        });
        Ok(EnvironmentHandle::new(id.clone(), target))
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
        let Some(sweep) = self.platform.contents.sweep() else {
            tracing::info!("secrets stay, since a release that is to come may need them");
            return;
        };
        // Those of releases that are to come are kept as well.
        let pending = match in_place(|| self.platform.promotions.pending()) {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(%error, "secrets stay, since it is not known what is to come");
                return;
            }
        };
        let pending = pending.iter().filter_map(|one| one.release.as_ref());
        let to_come: Vec<String> = pending.flat_map(file_digests).collect();
        let kept = |environment: &EnvironmentHandle| {
            history::all_kept(&self.platform.tables, &environment.id)
        };
        in_place(|| match used_files(&environments, kept) {
            Ok(mut used) => {
                used.extend(to_come);
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
        if let Some(reason) = self.platform.seal.locked() {
            problems.push(format!(
                "secrets are locked, so that nothing that needs one starts: {}",
                havre_base::one_line(&*reason)
            ));
        }
        match self.platform.hub.status().await {
            Some(status) => {
                problems.extend(status.problems.iter().cloned());
                problems.extend(status.taken.iter().map(port_owner::describe));
                problems.extend(status.crowds.iter().map(crowd));
            }
            None if self.since.elapsed().unwrap_or_default() < EDGE_START => {}
            None => problems.push("the edge does not answer".to_owned()),
        }
        problems
    }

    /// Takes an environment of the database in hand. One that cannot be read is left as it is and
    /// reported: its containers go on.
    pub(crate) async fn adopt(self: &Arc<Self>, id: EnvironmentId, desired: &str) {
        match self.open(&id, Some(desired)) {
            Ok(handle) => drop(self.environments.lock().await.insert(id, handle)),
            Err(error) => {
                tracing::error!(environment = %id, error = &*error as &dyn std::error::Error, "environment cannot be adopted");
                let why = havre_base::one_line(&*error);
                self.unreadable().insert(id.clone(), why);
                self.platform.hub.carry_over(&id).await;
            }
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
        let snapshot = environment.status();
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
