//! Making boxes, following, ending and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_engine::{Confidential, ControlError, Engine, STANDARD_INPUT};
use havre_net::Net;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::container::{self, LABEL_BOX};
use crate::disk::Room;
use crate::error::BoxError;
use crate::follow::Follow;
use crate::ground::{self, Grounds};
use crate::guard;
use crate::inner::{self, BoxConfig, Inner, NETWORK};
use crate::request::{self, BoxRequest};
use crate::runtime::Runtime;
use crate::services;
use crate::spare::Spare;
use crate::starting::Starting;

/// Between two signals of a runner that is to end at once: the kernel makes one of two that are pending.
const BETWEEN: Duration = Duration::from_millis(50);
/// Of a runner that is to end at once, until it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Makes and removes boxes.
#[derive(Clone)]
pub struct Boxes {
    inner: Arc<Inner>,
}

/// A box whose runner was started, and what it took.
#[derive(Clone, Debug)]
pub struct Started {
    /// What has no effect, for who wrote the workflow.
    pub warnings: Vec<String>,
    /// Its network and its files, both at once.
    pub prepared: Duration,
    /// Until all services were healthy.
    pub services: Duration,
    /// Until the runner's process ran.
    pub container: Duration,
}

impl Boxes {
    /// Boxes of an engine, whose containers are those of earlier daemons too. Blocks.
    pub fn new(
        engine: Engine,
        net: Arc<Net>,
        grounds: Grounds,
        runtime: Runtime,
        mut config: BoxConfig,
    ) -> Result<Self, BoxError> {
        let what = || format!("make {}", config.dir.display());
        fs::create_dir_all(&config.dir).map_err(BoxError::files(what()))?;
        fs::set_permissions(&config.dir, fs::Permissions::from_mode(0o700))
            .map_err(BoxError::files(what()))?;
        config.dir = fs::canonicalize(&config.dir).map_err(BoxError::files(what()))?;
        ground::refuse_shown(&config.dir)?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                spare: Spare::new(Arc::clone(&net), config.exe.clone()),
                net,
                grounds: Arc::new(grounds),
                runtime,
                config,
                starting: Starting::default(),
                tasks: TaskTracker::new(),
                guarding: Default::default(),
                ended: Default::default(),
                closing: CancellationToken::new(),
            }),
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The folder of a box.
    pub(crate) fn folder(&self, id: &str) -> std::path::PathBuf {
        self.inner.dir(id)
    }

    /// Looks at the machine and makes a network, so that the first box need not wait for that. Blocks.
    pub fn warm(&self) -> Result<(), BoxError> {
        self.inner.spare.make();
        Ok(self.inner.grounds.warm()?)
    }

    /// Waits for what goes on behind boxes and removes what was made for the next one. Boxes go on, but for those that
    /// are still being made, which are removed. What could not be
    /// removed is returned.
    pub async fn shutdown(&self) -> Vec<String> {
        self.inner.spare.close();
        self.inner.starting.cancel_all();
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let inner = Arc::clone(&self.inner);
        let removed = tokio::task::spawn_blocking(move || inner.spare.remove_ready());
        removed
            .await
            .unwrap_or_else(|error| vec![error.to_string()])
    }

    /// Makes a box and starts its runner; returns when the runner's process runs. Of a box that cannot be made
    /// nothing stays. Goes on when the future is dropped; [`Boxes::cancel`] and [`Boxes::remove`] end it.
    pub async fn start(&self, request: BoxRequest) -> Result<Started, BoxError> {
        request::check(&request)?;
        let id = request.id.clone();
        let Some(cancel) = self.inner.starting.begin(&id) else {
            return Err(BoxError::Exists(id));
        };
        let this = self.clone();
        let work = async move {
            let started = this.start_alone(request, &cancel).await;
            this.inner.starting.end(&id);
            started
        };
        self.inner.tasks.spawn(work).await?
    }

    async fn start_alone(
        &self,
        request: BoxRequest,
        cancel: &CancellationToken,
    ) -> Result<Started, BoxError> {
        let id = request.id.clone();
        let dir = self.inner.dir(&id);
        let what = || format!("see how much of the disk of {} is free", dir.display());
        let room = Room::of(&self.inner.config.dir).map_err(BoxError::files(what()))?;
        if let Some(why) = room.refusal(&self.inner.config.disk) {
            return Err(BoxError::NoRoom(why));
        }
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BoxError::Exists(id));
            }
            made => made.map_err(BoxError::files(format!("make {}", dir.display())))?,
        }
        guard::begin(&self.inner);
        let mut started = self.make(request, cancel).await;
        if started.is_err() {
            if let Some(why) = self.inner.why_ended(&id) {
                started = Err(BoxError::Refused(why));
            }
            for error in self.remove_made(&id).await {
                tracing::warn!(box_id = id, error, "cannot remove what was made of a box");
            }
        }
        started
    }

    async fn make(
        &self,
        request: BoxRequest,
        cancel: &CancellationToken,
    ) -> Result<Started, BoxError> {
        let begun = Instant::now();
        let warnings = request::warnings(&request)?;
        let request = Arc::new(request);
        let document = inner::document(&request)?;
        let network = {
            let (inner, request) = (Arc::clone(&self.inner), Arc::clone(&request));
            tokio::task::spawn_blocking(move || inner.join(&request))
        };
        let files = {
            let (inner, request) = (Arc::clone(&self.inner), Arc::clone(&request));
            tokio::task::spawn_blocking(move || inner.files(&request))
        };
        let (joined, files) = tokio::join!(network, files);
        let (joined, files) = (joined??, files??);
        let prepared = begun.elapsed();

        let begun = Instant::now();
        let all = request
            .services
            .iter()
            .zip(files.services)
            .zip(joined.services);
        let mut specs = Vec::new();
        for (number, ((service, rootfs), place)) in all.enumerate() {
            let parts = self
                .inner
                .parts(&request, Some((number, &service.name)), rootfs, place);
            let spec = container::service(parts, service, container::PATH);
            let spec =
                spec.map_err(|why| BoxError::refused(format!("service {}: {why}", service.name)))?;
            specs.push((service.name.clone(), spec));
        }
        services::start(&self.inner.engine, &specs, cancel).await?;
        if cancel.is_cancelled() {
            return Err(BoxError::Cancelled);
        }
        let services = begun.elapsed();

        let begun = Instant::now();
        let spec = self
            .inner
            .runner(&request, files.rootfs, files.mounts, joined.runner);
        let confidential = Confidential {
            filter: request.filter.clone(),
            files: BTreeMap::from([(STANDARD_INPUT.to_owned(), document.into())]),
            ..Confidential::default()
        };
        let created = self.inner.engine.create_with(&spec, confidential).await;
        created.map_err(BoxError::Runner)?;
        let container = begun.elapsed();
        self.follow_up(files.ground_is_old);
        Ok(Started {
            warnings,
            prepared,
            services,
            container,
        })
    }

    /// What the next boxes need is made behind this one.
    fn follow_up(&self, ground_is_old: bool) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn_blocking(move || inner.spare.make());
        if ground_is_old {
            let grounds = Arc::clone(&self.inner.grounds);
            self.inner.tasks.spawn_blocking(move || grounds.renew());
        }
    }

    /// What the runner of a box has told and tells, from its start. To be called in a tokio runtime.
    pub fn follow(&self, id: &str) -> Result<Follow, BoxError> {
        request::check_id(id)?;
        let dir = self.inner.dir(id);
        if !dir.exists() {
            return Err(BoxError::NotFound(id.to_owned()));
        }
        // Of an earlier daemon, perhaps.
        guard::begin(&self.inner);
        Ok(Follow::new(&self.inner, id, dir.join("log")))
    }

    /// Asks the runner of a box to end its job, or to end at once; then it is killed if it does not. One that has
    /// ended is fine. Returns when it was asked; at once: when it has ended. A box that is still being made is
    /// removed: its [`Boxes::start`] says [`BoxError::Cancelled`].
    pub async fn cancel(&self, id: &str, at_once: bool) -> Result<(), BoxError> {
        request::check_id(id)?;
        if self.inner.starting.cancel(id) {
            return Ok(());
        }
        let container = container::runner_id(id);
        let term = self.inner.engine.signal(&container, SIGTERM).await;
        match (term, at_once) {
            (Err(ControlError::NotRunning { .. }), _) => Ok(()),
            (Err(error), _) => Err(error.into()),
            (Ok(()), false) => Ok(()),
            (Ok(()), true) => {
                tokio::time::sleep(BETWEEN).await;
                Ok(self.inner.engine.stop(&container, Some(GRACE)).await?)
            }
        }
    }

    /// Ends and removes all that belongs to a box; what could not be removed is returned. Safe to repeat, and for ids
    /// that never were.
    pub async fn remove(&self, id: &str) -> Vec<String> {
        if let Err(error) = request::check_id(id) {
            return vec![error.to_string()];
        }
        self.inner.starting.stop(id).await;
        self.remove_made(id).await
    }

    async fn remove_made(&self, id: &str) -> Vec<String> {
        let mut errors = Vec::new();
        for observed in self.inner.engine.containers() {
            if observed.labels.get(LABEL_BOX).is_some_and(|of| of == id) {
                let left = self.inner.engine.remove(&observed.id).await;
                errors.extend(left.iter().map(|error| havre_base::one_line(error)));
            }
        }
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        let rest = tokio::task::spawn_blocking(move || inner.remove_rest(&id)).await;
        errors.extend(rest.unwrap_or_else(|error| vec![error.to_string()]));
        errors
    }

    /// Boxes of which anything is there, also those of an earlier daemon, once the engine has been reconciled.
    pub fn list(&self) -> Result<BTreeSet<String>, BoxError> {
        let containers = self.inner.engine.containers();
        let labels = containers.into_iter();
        let mut ids: BTreeSet<_> = labels
            .filter_map(|mut observed| observed.labels.remove(LABEL_BOX))
            .collect();
        let what = || format!("list {}", self.inner.config.dir.display());
        let entries = fs::read_dir(&self.inner.config.dir).map_err(BoxError::files(what()))?;
        for entry in entries {
            let entry = entry.map_err(BoxError::files(what()))?;
            ids.insert(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(ids)
    }

    /// Whether a box has come so far that its runner was started, ended or not. Of one that has not, whoever made it has
    /// died meanwhile.
    pub fn is_made(&self, id: &str) -> bool {
        let runner = container::runner_id(id);
        let mut all = self.inner.engine.containers().into_iter();
        all.any(|observed| observed.id == runner)
    }

    /// Whether a container belongs to a box.
    pub fn has(observed: &havre_engine::Observed) -> bool {
        observed.labels.contains_key(LABEL_BOX)
    }

    /// Folders of tools that boxes see or add to. Blocks.
    pub fn tools_in_use(&self) -> Result<BTreeSet<PathBuf>, BoxError> {
        let used = self.inner.tools_in_use();
        used.map_err(BoxError::files("see which tools boxes use"))
    }

    /// The names of what can be in networks of boxes. For [`Net::sweep`].
    pub fn members() -> Vec<String> {
        crate::network::members().collect()
    }

    /// The names of all networks of boxes, the one of the next among them; others that begin with `box-` are
    /// nobody's. For [`Net::sweep`].
    pub fn networks(&self) -> Result<BTreeSet<String>, BoxError> {
        let mut names = self.inner.spare.names();
        for id in self.list()? {
            names.extend(self.inner.note(&id, NETWORK)?);
        }
        Ok(names)
    }
}

const SIGTERM: i32 = 15;
