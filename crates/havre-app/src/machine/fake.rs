//! A strict fake of a machine, for tests of an environment's task: containers, an edge and volumes in
//! memory. It keeps what an environment must never do on a real machine, and a test fails for it.

mod container;
mod controls;
mod disk;
mod edge;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use havre_api::EnvironmentId;
use havre_edge::EdgeStatus;
use havre_engine::{Given, RestartRule};
use havre_model::{Protocol, ServiceName};
use havre_release::{Action, Evidence, Failure, Joined, LiveContents, Release, ReplicaId};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::container::{Purpose, restart};
use crate::edge::environment_edge;
use crate::environment::tables::Tables;
use crate::fault::Fault;
use crate::labels::{ContainerLabels, environment_key};
use crate::machine::{Answers, Machine, Routed, Work};
use crate::observe::ObservedContainer;
use crate::volumes::named_volumes;

use container::{Container, Process};
use edge::FakeEdge;

pub(crate) use container::{Behaviour, Start};

/// How long the removal of a container takes.
const REMOVAL: Duration = Duration::from_millis(20);

/// What becomes of a start when the daemon is killed before the program runs, and when there is a
/// container already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The shim goes on by itself.
    #[default]
    GoesOn,
    /// There is a folder without a shim.
    Lost,
}

/// A handle on the machine; all of them are on the same one.
#[derive(Clone)]
pub(crate) struct FakeMachine {
    state: Arc<Mutex<Machinery>>,
    /// Something may have changed that was not asked for.
    changed: Arc<Notify>,
    /// The daemon was killed.
    pub(crate) died: Arc<Notify>,
}

/// The machine.
struct Machinery {
    id: EnvironmentId,
    clock: Clock,
    tables: Tables,
    database: PathBuf,
    behaviours: BTreeMap<(ServiceName, u64), Behaviour>,
    containers: BTreeMap<ReplicaId, Container>,
    acting: BTreeMap<ReplicaId, Action>,
    /// Starts that failed before there was a container.
    refused: BTreeSet<ReplicaId>,
    /// Jobs that have ended with 0.
    succeeded: BTreeSet<ReplicaId>,
    edge: FakeEdge,
    volumes: BTreeSet<String>,
    is_dismantled: bool,
    network_problem: Option<String>,
    starts: u64,
    cut: Cut,
    is_dead: bool,
    calls: u64,
    dies_at: Option<u64>,
    /// While calls with these numbers come, the database cannot be written.
    full_at: Option<(u64, u64)>,
    fault: Option<Fault>,
    history: Vec<(SystemTime, String)>,
    violations: Vec<String>,
}

impl FakeMachine {
    pub(crate) fn new(id: EnvironmentId, clock: Clock, tables: Tables, database: PathBuf) -> Self {
        Self {
            state: Arc::new(Mutex::new(Machinery {
                id,
                clock,
                tables,
                database,
                behaviours: BTreeMap::new(),
                containers: BTreeMap::new(),
                acting: BTreeMap::new(),
                refused: BTreeSet::new(),
                succeeded: BTreeSet::new(),
                edge: FakeEdge::new(clock.now()),
                volumes: BTreeSet::new(),
                is_dismantled: false,
                network_problem: None,
                starts: 0,
                cut: Cut::default(),
                is_dead: false,
                calls: 0,
                dies_at: None,
                full_at: None,
                fault: None,
                history: Vec::new(),
                violations: Vec::new(),
            })),
            changed: Arc::default(),
            died: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machinery> {
        self.state.lock().unwrap()
    }

    /// The machine as it is by now.
    fn now(&self) -> MutexGuard<'_, Machinery> {
        let mut machine = self.lock();
        machine.live();
        machine
    }

    /// Counts a call; it never comes back where the daemon was killed before it.
    async fn call(&self) {
        let goes_on = self.count();
        if !goes_on {
            pending::<()>().await;
        }
    }

    fn count(&self) -> bool {
        let mut machine = self.lock();
        machine.calls += 1;
        let calls = machine.calls;
        if machine.dies_at.is_some_and(|at| calls >= at) && !machine.is_dead {
            machine.is_dead = true;
            machine.note("the daemon is killed".to_owned());
            self.died.notify_waiters();
        }
        if let Some((from, until)) = machine.full_at {
            if calls >= until {
                machine.full_at = None;
                if let Some(fault) = machine.fault.take() {
                    fault.heal();
                }
                machine.note("the disk has room again".to_owned());
            } else if calls >= from && machine.fault.is_none() {
                machine.fault = Some(Fault::inject(&machine.database));
                machine.note("the disk is full".to_owned());
            }
        }
        !machine.is_dead
    }
}

impl Machine for FakeMachine {
    async fn changed(&mut self) {
        // Asked for before the look at what comes next.
        let changed = self.changed.notified();
        let next = {
            let machine = self.lock();
            let now = machine.clock.now();
            let events = machine
                .containers
                .values()
                .filter_map(|one| one.next_event(now));
            events
                .min()
                .map(|at| at.duration_since(now).unwrap_or_default())
        };
        match next {
            Some(pause) => drop(tokio::time::timeout(pause, changed).await),
            None => changed.await,
        }
    }

    async fn observe(&self) -> Vec<ObservedContainer> {
        self.call().await;
        let machine = self.now();
        machine.seen()
    }

    async fn edge(&self) -> Option<Arc<EdgeStatus>> {
        // Not counted: a daemon that is killed here has done what it had when it looked.
        self.now().edge.status().map(Arc::new)
    }

    async fn accepts(&self, address: Option<Ipv4Addr>, ports: &BTreeSet<(Protocol, u16)>) -> bool {
        let Some(address) = address.filter(|_| !ports.is_empty()) else {
            return true;
        };
        let machine = self.now();
        let now = machine.clock.now();
        let mut containers = machine.containers.values();
        containers.any(|one| one.labels.address() == Some(address) && one.is_ready(now))
    }

    fn is_prepared(&self, id: &ReplicaId) -> bool {
        let machine = self.lock();
        machine
            .containers
            .get(id)
            .is_some_and(|one| one.is_prepared)
    }

    fn carry_out(&self, work: Work) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let is_alive = self.count();
        if is_alive {
            self.now().begin(&work);
        }
        let machine = self.clone();
        async move {
            if !is_alive {
                return pending().await;
            }
            let id = work.action.id().clone();
            let mut underway = UnderWay {
                machine: machine.clone(),
                id: id.clone(),
                is_done: false,
            };
            let done = match &work.action {
                Action::Start { .. } | Action::RunJob { .. } => machine.finish_start(&work).await,
                Action::Stop { within, .. } => machine.finish_stop(&id, *within, &work).await,
                Action::Renew { contents, .. } => machine.finish_renewal(&id, contents).await,
                Action::Remove { .. } => machine.finish_removal(&id).await,
            };
            underway.is_done = true;
            done
        }
    }

    // Its containers print nothing.
    async fn keep_masked(&self, _releases: &Arc<BTreeMap<u64, Release>>) {}

    async fn route(&mut self, answers: Answers<'_>) -> Routed {
        self.call().await;
        let mut machine = self.now();
        machine.check_route(&answers);
        let now = machine.clock.now();
        let part = answers.serving.map_or_else(Default::default, |release| {
            let key = environment_key(&machine.id);
            let addresses: BTreeMap<ReplicaId, IpAddr> = answers
                .seen
                .iter()
                .filter_map(|one| Some((one.id(), IpAddr::V4(one.place.address()?))))
                .collect();
            environment_edge(
                &machine.id,
                release,
                None,
                answers.routing,
                answers.draining,
                |name| havre_release::hold(&key, answers.desired, answers.releases, name),
                |id| addresses.get(id).copied(),
            )
        });
        if machine.edge.is_reachable {
            machine.take_over(part, now);
        }
        Routed {
            edge: machine.edge.status().map(Arc::new),
            network: machine.network_problem.clone(),
            ..Routed::default()
        }
    }

    async fn close_streams(&self, id: &ReplicaId, over: Duration) {
        self.call().await;
        let mut machine = self.now();
        if machine.edge.serving().contains(id) {
            machine.violate(format!("the streams of {id} are closed while it serves"));
        }
        let by = machine.clock.now() + over;
        machine.edge.close_streams(id, by);
    }

    fn record_heal(&self, service: &ServiceName, _replica: &ReplicaId, times: u32) {
        self.now()
            .note(format!("on record: {service} healed, {times}"));
    }

    async fn explain(
        &self,
        failure: &Failure,
        _release: Option<&Release>,
        seen: &[ObservedContainer],
    ) -> Evidence {
        self.call().await;
        let mut machine = self.now();
        machine.check_evidence(failure);
        let id = failure.replica.as_ref();
        Evidence {
            failure: failure.clone(),
            instance: id
                .and_then(|id| seen.iter().find(|one| &one.id() == id))
                .map(ObservedContainer::instance),
            service: None,
            stays: false,
            log: Vec::new(),
            inherited_probe: None,
            hint: None,
        }
    }

    async fn dismantle(&mut self, volumes: &BTreeSet<String>) -> Vec<String> {
        self.call().await;
        let mut machine = self.now();
        machine.check_dismantle(volumes);
        let now = machine.clock.now();
        machine.edge.set(Default::default(), now);
        machine.volumes.retain(|name| !volumes.contains(name));
        machine.is_dismantled = true;
        machine.note("dismantle".to_owned());
        Vec::new()
    }

    fn release_images(&self) -> Option<String> {
        let mut machine = self.now();
        if machine.disk().desired.is_some() {
            machine.violate("images are let go of while the environment is known".to_owned());
        }
        machine.note("release images".to_owned());
        None
    }
}

/// An action under way. What is left of it when the daemon is killed depends on how far it is.
struct UnderWay {
    machine: FakeMachine,
    id: ReplicaId,
    is_done: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut machine = self.machine.now();
        machine.acting.remove(&self.id);
        if self.is_done {
            return;
        }
        let (cut, now) = (machine.cut, machine.clock.now());
        let Some(container) = machine.containers.get_mut(&self.id) else {
            return;
        };
        match (&container.process, cut) {
            (Process::Creating { .. }, _) if now < container.shown_from => {
                machine.containers.remove(&self.id);
            }
            (Process::Creating { .. }, Cut::Lost) => container.process = Process::Lost,
            (_, Cut::GoesOn | Cut::Lost) => {}
        }
    }
}

impl FakeMachine {
    async fn finish_start(&self, work: &Work) -> Result<(), String> {
        let id = work.action.id();
        let create = {
            let machine = self.lock();
            let container = machine.containers.get(id);
            // One that exists was not started: the violation is kept.
            container
                .map(|one| one.behaviour.create)
                .unwrap_or_default()
        };
        sleep(create).await;
        let (start, hooks) = {
            let mut machine = self.now();
            let Some(container) = machine.containers.get(id) else {
                return Err("it has vanished".to_owned());
            };
            let start = container.behaviour.start.clone();
            let service = work.releases[&container.labels.release].services
                [&container.labels.service]
                .service
                .clone();
            let has_hooks = !service.post_start.is_empty() && container.is_running();
            let hooks = has_hooks.then(|| container.behaviour.post_start.clone());
            if let Start::Refused(_) = start {
                machine.containers.remove(id);
                machine.refused.insert(id.clone());
            }
            (start, hooks)
        };
        match (start, hooks) {
            (Start::Refused(reason) | Start::Fails(reason), _) => Err(reason),
            (Start::Runs, None) => Ok(()),
            (Start::Runs, Some(Ok(time))) => {
                sleep(time).await;
                let mut machine = self.now();
                if let Some(container) = machine.containers.get_mut(id) {
                    container.is_prepared = true;
                }
                machine.note_of("post_start", id);
                Ok(())
            }
            (Start::Runs, Some(Err(reason))) => {
                let mut machine = self.now();
                machine.containers.remove(id);
                machine.refused.insert(id.clone());
                Err(reason)
            }
        }
    }

    async fn finish_stop(
        &self,
        id: &ReplicaId,
        within: Option<Duration>,
        work: &Work,
    ) -> Result<(), String> {
        let own = {
            let machine = self.lock();
            let container = machine.containers.get(id);
            let own = container.map(|one| (one.grace, one.behaviour.pre_stop));
            own.ok_or_else(|| format!("{id} is not there"))?
        };
        let mut grace = within.unwrap_or(own.0);
        if let Some((_, all)) = &work.pre_stop {
            let hooks = own.1.min(*all);
            self.now().note_of("pre_stop", id);
            sleep(hooks).await;
            grace = all.saturating_sub(hooks);
        }
        {
            let mut machine = self.now();
            let now = machine.clock.now();
            if let Some(container) = machine.containers.get_mut(id) {
                container.stop(grace, now);
            }
        }
        loop {
            let next = {
                let machine = self.now();
                let now = machine.clock.now();
                let container = machine.containers.get(id).filter(|one| one.is_live());
                container
                    .and_then(Container::next_step)
                    .map(|at| at.duration_since(now).unwrap_or_default())
            };
            match next {
                Some(pause) => sleep(pause).await,
                None => return Ok(()),
            }
        }
    }

    async fn finish_renewal(&self, id: &ReplicaId, contents: &LiveContents) -> Result<(), String> {
        let reload = {
            let mut machine = self.now();
            let Some(container) = machine.containers.get_mut(id) else {
                return Err("it has vanished".to_owned());
            };
            let loaded = container.given.as_ref();
            let loaded = loaded.is_some_and(|one| one.loaded && one.contents == contents.0);
            container.given = Some(Given {
                contents: contents.0.clone(),
                loaded,
            });
            let reload = container.behaviour.reload.clone();
            machine.note_of("given", id);
            reload
        };
        sleep(reload.clone().unwrap_or_default()).await;
        let mut machine = self.now();
        let container = machine.containers.get_mut(id);
        if let (Some(given), Ok(_)) = (container.and_then(|one| one.given.as_mut()), &reload) {
            given.loaded = true;
            machine.note_of("reloaded", id);
        }
        reload.map(drop)
    }

    async fn finish_removal(&self, id: &ReplicaId) -> Result<(), String> {
        sleep(REMOVAL).await;
        self.now().containers.remove(id);
        Ok(())
    }
}

impl Machinery {
    fn disk(&self) -> disk::Disk {
        disk::Disk::read(&self.tables, &self.id)
    }

    fn note(&mut self, line: String) {
        self.history.push((self.clock.now(), line));
    }

    /// Notes something of a container.
    fn note_of(&mut self, what: &str, id: &ReplicaId) {
        let labels = self.containers.get(id).map(|one| &one.labels);
        let of = labels.map(|one| format!("{}/{}", one.service, one.release));
        self.note(format!("{what} {}", of.unwrap_or_else(|| id.to_string())));
    }

    fn violate(&mut self, violation: String) {
        self.note(format!("VIOLATION: {violation}"));
        self.violations.push(violation);
    }

    fn must_exist(&mut self, id: &ReplicaId) -> &mut Container {
        self.containers
            .get_mut(id)
            .expect("the test names what is there")
    }

    /// Time has passed.
    fn live(&mut self) {
        let now = self.clock.now();
        for (id, container) in &mut self.containers {
            container.live(now);
            let is_job = matches!(container.labels.role, havre_release::Role::Job { .. });
            if is_job && container.has_succeeded() {
                self.succeeded.insert(id.clone());
            }
        }
        for service in self.edge.live(&self.containers, now) {
            self.violate(format!("nobody answers for {service}"));
        }
    }

    /// What the engine lists.
    fn seen(&self) -> Vec<ObservedContainer> {
        let now = self.clock.now();
        let shown = self
            .containers
            .iter()
            .filter(|(_, one)| one.shown_from <= now);
        shown
            .filter_map(|(id, one)| ObservedContainer::new(one.observed(id, now)))
            .collect()
    }

    /// The edge has a new state.
    fn take_over(&mut self, part: crate::edge::EnvironmentEdge, now: SystemTime) {
        let before = self.edge.serving();
        self.edge.set(part, now);
        if before != self.edge.serving() {
            let serving: Vec<String> = self.edge.serving().into_iter().map(|id| id.0).collect();
            self.note(format!("route to [{}]", serving.join(" ")));
        }
    }

    /// Begins an action, and keeps what is wrong with it.
    fn begin(&mut self, work: &Work) {
        let id = work.action.id().clone();
        self.check_action(&work.action);
        self.acting.insert(id.clone(), work.action.clone());
        let Some(mut labels) = ContainerLabels::of(&self.id, &work.action) else {
            let what = match &work.action {
                Action::Stop { .. } => "stop",
                Action::Remove { .. } => "remove",
                Action::Renew { .. } => "renew",
                Action::Start { .. } | Action::RunJob { .. } => "start",
            };
            return self.note_of(what, &id);
        };
        let Some(release) = work.releases.get(&labels.release) else {
            return self.violate(format!("{id} is started without its release"));
        };
        self.check_start(&id, &labels, release);
        if self.containers.contains_key(&id) {
            return;
        }
        self.starts += 1;
        let (high, low) = (self.starts / 200, self.starts % 200);
        let number = |part: u64| u8::try_from(part).expect("few starts");
        let address = Ipv4Addr::new(10, 0, number(high), number(low) + 1);
        labels.addresses.insert("default".to_owned(), address);
        let joins = match &work.action {
            Action::Start { joins, .. } | Action::RunJob { joins, .. } => joins.as_ref(),
            Action::Stop { .. } | Action::Renew { .. } | Action::Remove { .. } => None,
        };
        labels.joined = joins.and_then(|provider| {
            let start = self.containers.get(provider)?.labels.start.clone();
            Some(Joined {
                id: provider.clone(),
                start,
            })
        });
        let container = self.container(labels, release, &work.action);
        self.volumes.extend(container.volumes.iter().cloned());
        self.refused.remove(&id);
        let what = match &work.action {
            Action::RunJob { .. } => "run",
            Action::Start { .. }
            | Action::Stop { .. }
            | Action::Renew { .. }
            | Action::Remove { .. } => "start",
        };
        self.containers.insert(id.clone(), container);
        self.note_of(what, &id);
    }

    fn container(&self, labels: ContainerLabels, release: &Release, action: &Action) -> Container {
        let key = (labels.service.clone(), labels.release);
        let mut behaviour = self.behaviours.get(&key).cloned().unwrap_or_default();
        let service = &release.services[&labels.service].service;
        let rule = match action {
            Action::RunJob { job, .. } => {
                behaviour.ends.get_or_insert((Duration::from_secs(1), 0));
                match job.hook {
                    Some(_) => RestartRule::Never,
                    None => restart(&Purpose::Job, &service.restart),
                }
            }
            Action::Start { .. }
            | Action::Stop { .. }
            | Action::Renew { .. }
            | Action::Remove { .. } => restart(&Purpose::Replica, &service.restart),
        };
        let volumes = written_by(&self.id, release, &labels.service);
        let now = self.clock.now();
        let mut container = Container::new(labels, release, behaviour, rule, now);
        container.volumes = volumes;
        if let Action::Start { .. } = action {
            let contents = release.services[&container.labels.service].live_contents();
            container.given = contents.map(|contents| Given {
                contents: contents.0,
                loaded: true,
            });
        }
        container
    }
}

/// The names on the machine of the volumes that a service mounts.
fn written_by(id: &EnvironmentId, release: &Release, service: &ServiceName) -> BTreeSet<String> {
    let mut alone = release.clone();
    alone.services.retain(|name, _| name == service);
    named_volumes(id, &BTreeMap::from([(1, alone)]))
}

mod tests;
