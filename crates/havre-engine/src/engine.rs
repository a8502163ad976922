//! The daemon's side: starts shims, listens to them, and cleans up after them.
//!
//! What is known about a container comes from its shim's messages alone. One task per container
//! listens; when the shim is gone, `exit.json` says how the container ended, and without that
//! file it is lost and what may be left of it is killed. All of it is in one inventory, which is asked
//! without touching the disk.
//!
//! ```text
//!  create, remove ───────────────────────►┌───────────┐──► get, containers: as it is now
//!  a task per shim ───────────────────────► inventory │──► watch_containers: one cgroup_parent's, and
//!  reconcile (run directory, cgroups) ────►└───────────┘    a wake-up with each change of these
//! ```

mod inventory;
mod launch;
mod reconcile;
mod teardown;
mod watcher;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::cgroup::{Cgroup, CgroupError, Hierarchies, Stats};
use crate::channel::Channel;
use crate::confidential::Confidential;
use crate::exec::{ExecError, ExecSession, ExecSpec};
use crate::group::{Group, Groups};
use crate::logs::LogChanges;
use crate::protocol::{Reply, Request};
use crate::rundir::RunDir;
use crate::spec::Limits;
use crate::spec::{ContainerId, ContainerSpec, Exit, Observed, State};
use crate::validate::InvalidSpec;
use inventory::Inventory;
pub use reconcile::{ReconcileError, Reconciled};
pub use teardown::TeardownError;

/// Beyond the grace of a stop, until its container is killed from here.
const STOP_SLACK: Duration = Duration::from_secs(10);

/// Where an engine works.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Containers have their folders in `c/` below it; usually on a tmpfs.
    pub run_dir: PathBuf,
    /// The binary that calls [`crate::entrypoint`].
    pub exe: PathBuf,
    /// Arguments before those of the entry point.
    pub exe_args: Vec<String>,
    /// Short id used in cgroup names, unique for each `run_dir` of the machine.
    pub instance: String,
}

/// Containers of one run directory. Clones share it; tasks end with the last one.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
    _guard: Arc<DropGuard>,
}

#[derive(Debug)]
struct Inner {
    config: EngineConfig,
    hierarchies: Hierarchies,
    groups: Groups,
    /// The binary through a read-only mount.
    exe: OwnedFd,
    inventory: Mutex<Inventory>,
    log_changes: LogChanges,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// The engine cannot work here.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The binary.
    #[error("cannot prepare {path} for starting containers (are you root?)")]
    Exe {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name of the instance.
    #[error("{name:?} cannot name an instance")]
    Instance {
        /// It.
        name: String,
    },
    /// The run directory.
    #[error("cannot create {path}")]
    RunDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// cgroups.
    #[error("cannot use cgroups")]
    Cgroup(#[source] CgroupError),
}

/// A container was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The spec.
    #[error("invalid container {id}")]
    Invalid {
        /// Which.
        id: String,
        /// What is wrong.
        source: InvalidSpec,
    },
    /// The id is taken.
    #[error("container {id} exists already")]
    Exists {
        /// Which.
        id: String,
    },
    /// The program could not be started. The container stays listed as failed until removed.
    #[error("cannot start container {id}: {reason}")]
    Failed {
        /// Which.
        id: String,
        /// Why, for a person.
        reason: String,
    },
    /// The shim could not be started, or died.
    #[error("cannot run the shim of container {id}")]
    Shim {
        /// Which.
        id: String,
        /// Why.
        source: io::Error,
    },
}

/// A running container did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such container.
    #[error("there is no container {id}")]
    NotFound {
        /// Which.
        id: String,
    },
    /// It has ended.
    #[error("container {id} is not running")]
    NotRunning {
        /// Which.
        id: String,
    },
    /// The shim refused.
    #[error("container {id}: {reason}")]
    Refused {
        /// Which.
        id: String,
        /// Why, for a person.
        reason: String,
    },
    /// The shim.
    #[error("cannot talk to the shim of container {id}")]
    Connection {
        /// Which.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// It went on beyond its grace and SIGKILL.
    #[error("container {id} did not end")]
    Deadline {
        /// Which.
        id: String,
    },
    /// A restart that did not start.
    #[error("cannot start the container again")]
    Start(#[source] Box<CreateError>),
}

/// There will be no exit status.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// No such container.
    #[error("there is no container {id}")]
    NotFound {
        /// Which.
        id: String,
    },
    /// It was never started.
    #[error("container {id} could not be started: {reason}")]
    Failed {
        /// Which.
        id: String,
        /// Why, for a person.
        reason: String,
    },
    /// Its shim was killed.
    #[error("container {id} was lost with its shim")]
    Lost {
        /// Which.
        id: String,
    },
}

impl Engine {
    /// Prepares; no container is looked at before [`Engine::reconcile`]. Needs a tokio runtime.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let exe = launch::read_only_exe(&config.exe).map_err(|source| EngineError::Exe {
            path: config.exe.clone(),
            source,
        })?;
        if !crate::validate::is_name(&config.instance) {
            return Err(EngineError::Instance {
                name: config.instance,
            });
        }
        let containers = config.run_dir.join("c");
        std::fs::create_dir_all(&containers).map_err(|source| EngineError::RunDir {
            path: containers,
            source,
        })?;
        let cancel = CancellationToken::new();
        let inner = Inner {
            hierarchies: Hierarchies::detect().map_err(EngineError::Cgroup)?,
            groups: Groups::default(),
            config,
            exe,
            inventory: Mutex::default(),
            log_changes: LogChanges::default(),
            tasks: TaskTracker::new(),
            cancel: cancel.clone(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            _guard: Arc::new(cancel.drop_guard()),
        })
    }

    /// Creates and starts a container; returns when its program runs, or did not start. Goes on
    /// when the future is dropped.
    pub async fn create(&self, spec: &ContainerSpec) -> Result<(), CreateError> {
        self.create_with(spec, Confidential::default()).await
    }

    /// As [`Engine::create`], with what is not in the spec. It is in no file: who starts the container
    /// anew gives it anew.
    pub async fn create_with(
        &self,
        spec: &ContainerSpec,
        confidential: Confidential,
    ) -> Result<(), CreateError> {
        let id = spec.id.0.clone();
        crate::validate::validate(spec).map_err(|source| CreateError::Invalid { id, source })?;
        let (inner, owned) = (Arc::clone(&self.inner), spec.clone());
        let work = async move { launch::create(&inner, &owned, &confidential).await };
        self.carry_out(&spec.id, work).await
    }

    /// Does something to its end, even if the caller stops waiting for it.
    async fn carry_out(
        &self,
        id: &ContainerId,
        work: impl Future<Output = Result<(), CreateError>> + Send + 'static,
    ) -> Result<(), CreateError> {
        match self.inner.tasks.spawn(work).await {
            Ok(result) => result,
            Err(error) => Err(CreateError::Shim {
                id: id.0.clone(),
                source: io::Error::other(error),
            }),
        }
    }

    /// Looks at the run directory and the control groups, and brings what is known up to them: adopts
    /// containers whose shims live, finds out how those ended whose shims do not, kills what is out of
    /// everybody's reach, forgets what has gone. Returns when each container that was adopted has said its
    /// state.
    ///
    /// Due once before anything else is asked, since a daemon that was killed has left containers, folders
    /// half made and control groups. All that happens afterwards is known without it, but for what others
    /// do by hand to the run directory: for that it is to be called now and then, in one place.
    pub async fn reconcile(&self) -> Result<Reconciled, ReconcileError> {
        reconcile::reconcile(&self.inner).await
    }

    /// Every container, as last heard of, by id. Touches no file. Those of an earlier daemon are known
    /// after [`Engine::reconcile`].
    pub fn containers(&self) -> Vec<Observed> {
        self.inner.inventory().all()
    }

    /// The containers of one [`ContainerSpec::cgroup_parent`], as last heard of, by id; they change with
    /// each event of one of these, and of these only, so that who looks after one environment among many
    /// is not woken by the others. Only the newest state is kept for a receiver that is slow. It closes
    /// with the last [`Engine`].
    pub fn watch_containers(&self, cgroup_parent: &str) -> watch::Receiver<Arc<Vec<Observed>>> {
        self.inner.inventory().watch(cgroup_parent)
    }

    /// By what readers of the containers' output follow it: one for all of them.
    pub fn log_changes(&self) -> LogChanges {
        self.inner.log_changes.clone()
    }

    /// One container, as last heard of. Containers of an earlier daemon are known after
    /// [`Engine::reconcile`].
    pub async fn get(&self, id: &ContainerId) -> Option<Observed> {
        self.inner.inventory().get(id)
    }

    /// Stops a container and waits until it has ended; one that has is fine. `grace`: the
    /// container's own where `None`. The stop goes on if this future, or the daemon, ends.
    pub async fn stop(
        &self,
        id: &ContainerId,
        grace: Option<Duration>,
    ) -> Result<(), ControlError> {
        let mut state = self.inner.state(id)?;
        let request = Request::Stop {
            grace_ms: grace.map(|g| g.as_millis() as u64),
        };
        match self.inner.control(id, &request).await {
            Ok(()) => {}
            // Ended meanwhile; the watcher learns it.
            Err(ControlError::NotRunning { .. }) => {}
            Err(error) => return Err(error),
        }
        let grace = match grace {
            Some(grace) => grace,
            None => self
                .inner
                .dir(id)
                .meta()
                .map_or(STOP_SLACK, |m| m.spec.stop_grace),
        };
        if timeout(grace + STOP_SLACK, state.wait_for(ended))
            .await
            .is_ok()
        {
            return Ok(());
        }
        Err(ControlError::Deadline { id: id.0.clone() })
    }

    /// Sends a signal to the first process.
    pub async fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), ControlError> {
        self.inner.state(id)?;
        self.inner.control(id, &Request::Signal { signal }).await
    }

    /// Stops the container and starts it again, or starts one that has ended; returns when its
    /// program runs.
    ///
    /// `confidential` is for one that has ended, whose shim has gone with what it knew.
    pub async fn restart(
        &self,
        id: &ContainerId,
        confidential: Confidential,
    ) -> Result<(), ControlError> {
        let mut state = self.inner.state(id)?;
        let before = state.borrow().clone();
        if ended(&before) {
            let (inner, owned) = (Arc::clone(&self.inner), id.clone());
            let work = async move { launch::again(&inner, &owned, &confidential).await };
            let started = self.carry_out(id, work).await;
            return started.map_err(|error| ControlError::Start(Box::new(error)));
        }
        self.inner
            .control(id, &Request::Restart { grace_ms: None })
            .await?;
        let grace = self
            .inner
            .dir(id)
            .meta()
            .map_or(STOP_SLACK, |m| m.spec.stop_grace);
        let anew = |now: &Observed| {
            let running = matches!(now.state, State::Running { .. }) && now.state != before.state;
            running || ended(now)
        };
        match timeout(grace + STOP_SLACK + STOP_SLACK, state.wait_for(anew)).await {
            Ok(Ok(now)) => match &now.state {
                State::Failed { reason } => Err(ControlError::Refused {
                    id: id.0.clone(),
                    reason: reason.clone(),
                }),
                State::Exited | State::Lost => Err(ControlError::NotRunning { id: id.0.clone() }),
                _ => Ok(()),
            },
            _ => Err(ControlError::Deadline { id: id.0.clone() }),
        }
    }

    /// Gives a container's shim other values to mask, and other contents of secrets: those below
    /// [`crate::SECRETS_DIR`] are in place when this returns, variables are for processes that are yet to
    /// start. What is not there stays as it was. Contents are refused while the container's program is being
    /// started: values to mask are taken even then.
    pub async fn entrust(
        &self,
        id: &ContainerId,
        confidential: &Confidential,
    ) -> Result<(), ControlError> {
        self.inner.state(id)?;
        let memory = |source| ControlError::Connection {
            id: id.0.clone(),
            source,
        };
        let (request, fds) = launch::entrust(confidential).map_err(memory)?;
        self.inner.ask_with(id, &request, &fds).await.map(drop)
    }

    /// Notes that the program knows the contents that its container was given under this name, and sends its
    /// first process `signal` before, if there is one: whoever has no handler for it is not told, and that is
    /// an error.
    pub async fn reload(
        &self,
        id: &ContainerId,
        contents: &str,
        signal: Option<i32>,
    ) -> Result<(), ControlError> {
        self.inner.state(id)?;
        let contents = contents.to_owned();
        let request = Request::Reload { contents, signal };
        self.inner.control(id, &request).await
    }

    /// Makes a control group for processes of the daemon's own; `parent` and `name` are names as of
    /// containers. Blocks.
    pub fn group(&self, parent: &str, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        let name = ContainerId(name.to_owned());
        let cgroup = self.inner.cgroup(parent, &name);
        Group::make(cgroup, name, self.inner.groups.clone(), limits)
    }

    /// Kills what is left of a container and removes its cgroups and its folder; safe to repeat,
    /// also for ids that never were. What could not be removed is returned.
    pub async fn remove(&self, id: &ContainerId) -> Vec<TeardownError> {
        teardown::remove(&self.inner, id).await
    }

    /// Waits until the container has ended for good.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, WaitError> {
        let name = || id.0.clone();
        let not_found = || WaitError::NotFound { id: name() };
        let mut state = self.inner.state(id).map_err(|_| not_found())?;
        let last = state.wait_for(ended).await.map_err(|_| not_found())?;
        match (&last.state, &last.last_exit) {
            (State::Failed { reason }, _) => Err(WaitError::Failed {
                id: name(),
                reason: reason.clone(),
            }),
            (State::Exited, Some(exit)) => Ok(exit.clone()),
            _ => Err(WaitError::Lost { id: name() }),
        }
    }

    /// Starts one more process in a running container.
    pub async fn exec(&self, id: &ContainerId, spec: ExecSpec) -> Result<ExecSession, ExecError> {
        let channel = Channel::connect(&self.inner.dir(id)).await;
        let channel = channel.map_err(|source| crate::exec::not_there(&id.0, source))?;
        ExecSession::start(&id.0, channel, spec).await
    }

    /// The write end of a container's standard input, where its spec keeps that open: a pipe, or
    /// its terminal. Output is read from the spool.
    pub async fn input(&self, id: &ContainerId) -> Result<OwnedFd, ControlError> {
        self.inner.state(id)?;
        let (_, mut fds) = self.inner.ask(id, &Request::Attach).await?;
        let nothing = || "its shim sent no descriptor".to_owned();
        fds.pop().ok_or_else(|| ControlError::Refused {
            id: id.0.clone(),
            reason: nothing(),
        })
    }

    /// What the container uses now.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, ControlError> {
        let not_found = || ControlError::NotFound { id: id.0.clone() };
        let parent = self.inner.inventory().cgroup_parent(id);
        let parent = parent.ok_or_else(not_found)?;
        Ok(self.inner.cgroup(&parent, id).stats())
    }

    /// The spec a container was created with.
    pub async fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        self.inner.dir(id).meta().ok().map(|meta| meta.spec)
    }

    /// Ends the tasks that listen to shims; the containers go on.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// No process and no plan for another.
fn ended(observed: &Observed) -> bool {
    matches!(
        observed.state,
        State::Failed { .. } | State::Exited | State::Lost
    )
}

impl Inner {
    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        // Each change is a state that was sent whole: a panic elsewhere leaves nothing half done.
        self.inventory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, id: &ContainerId) -> RunDir {
        RunDir::new(self.config.run_dir.join("c").join(&id.0))
    }

    fn cgroup(&self, parent: &str, id: &ContainerId) -> Cgroup {
        Cgroup::of_container(&self.hierarchies, &self.config.instance, parent, &id.0)
    }

    fn state(&self, id: &ContainerId) -> Result<watch::Receiver<Observed>, ControlError> {
        let state = self.inventory().state(id);
        state.ok_or_else(|| ControlError::NotFound { id: id.0.clone() })
    }

    /// Takes a new state in and tells everyone. A container that was removed stays removed.
    fn observe(&self, observed: Observed) {
        self.inventory().observe(observed);
    }

    /// One request to a shim, carried out or begun when this returns.
    async fn control(&self, id: &ContainerId, request: &Request) -> Result<(), ControlError> {
        self.ask(id, request).await.map(drop)
    }

    /// One request to a shim, and its answer.
    async fn ask(
        &self,
        id: &ContainerId,
        request: &Request,
    ) -> Result<(Reply, Vec<OwnedFd>), ControlError> {
        self.ask_with(id, request, &[]).await
    }

    /// The same with descriptors.
    async fn ask_with(
        &self,
        id: &ContainerId,
        request: &Request,
        fds: &[OwnedFd],
    ) -> Result<(Reply, Vec<OwnedFd>), ControlError> {
        let name = || id.0.clone();
        let lost = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => ControlError::NotRunning { id: name() },
            _ => ControlError::Connection { id: name(), source },
        };
        let channel = Channel::connect(&self.dir(id)).await.map_err(lost)?;
        match channel.call(request, fds).await.map_err(lost)? {
            (Reply::NotRunning, _) => Err(ControlError::NotRunning { id: name() }),
            (Reply::Error { reason }, _) => Err(ControlError::Refused { id: name(), reason }),
            answer => Ok(answer),
        }
    }
}
