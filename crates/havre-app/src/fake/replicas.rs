//! Replicas that are only said to run, and an edge that is only said to serve them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use havre_model::ServiceName;
use havre_release::{
    Action, Contents, EdgeView, Exit, ExitInfo, FailedProbe, Health, Instance, InstanceState,
    Joined, Observed, Release, Replica, ReplicaId, ReplicaState, Role, Routing, Traffic, Verdict,
};

use super::rules::Violations;

/// Requests that each replica that serves answers in one round.
const REQUESTS: u64 = 30;
/// In so many milliseconds each.
const SERVED_MS: u32 = 8;

/// What becomes of processes that are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Ready soon; a job ends with 0.
    #[default]
    Serves,
    /// There is never a process.
    CannotStart(&'static str),
    /// It keeps ending with this code.
    Crashes(i32),
    /// Its health check fails, and says so.
    Unhealthy(&'static str),
    /// Neither ready nor dead.
    Hangs,
    /// Ready, and a tenth of its answers are errors.
    Errs,
}

/// All replicas and jobs of an environment.
#[derive(Debug)]
pub(super) struct Replicas {
    all: BTreeMap<ReplicaId, Simulated>,
    serving: BTreeSet<ReplicaId>,
    named: BTreeSet<ReplicaId>,
    unrouted_since: BTreeMap<ReplicaId, SystemTime>,
    total: Traffic,
    starts: u64,
    violations: Violations,
}

#[derive(Debug)]
struct Simulated {
    replica: Replica,
    release: u64,
    fate: Fate,
    /// Since when it is in its state.
    since: SystemTime,
    last_exit: Option<Exit>,
    traffic: Traffic,
    address: IpAddr,
}

impl Replicas {
    pub(super) fn new(violations: Violations) -> Self {
        Self {
            all: BTreeMap::new(),
            serving: BTreeSet::new(),
            named: BTreeSet::new(),
            unrouted_since: BTreeMap::new(),
            total: Traffic::default(),
            starts: 0,
            violations,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The releases that they belong to.
    pub(super) fn releases(&self) -> BTreeSet<u64> {
        self.all.values().map(|one| one.release).collect()
    }

    /// What the edge has counted of all of them.
    pub(super) fn total(&self) -> &Traffic {
        &self.total
    }

    pub(super) fn observe(&self) -> Observed {
        let traffic = self.all.iter();
        let traffic = traffic.map(|(id, one)| (id.clone(), one.traffic.clone()));
        Observed {
            replicas: self.all.values().map(|one| one.replica.clone()).collect(),
            edge: Some(EdgeView {
                serving: self.serving.clone(),
                in_flight: BTreeMap::new(),
                traffic: traffic.collect(),
                total: self.total.clone(),
            }),
            unrouted_since: self.unrouted_since.clone(),
            ..Observed::default()
        }
    }

    pub(super) fn instances(&self) -> Vec<Instance> {
        self.all.values().map(Simulated::instance).collect()
    }

    /// Requests go where the routing leads from now on.
    pub(super) fn route(
        &mut self,
        routing: &Routing,
        reserve: &BTreeSet<ReplicaId>,
        now: SystemTime,
    ) {
        let services = || routing.services.values();
        let canaries = services().flat_map(|one| one.canary.iter().flat_map(|one| &one.replicas));
        let serving = services().flat_map(|one| &one.serving).chain(canaries);
        self.serving = serving.cloned().collect();
        let named = services().flat_map(|one| &one.named).chain(reserve);
        let named: BTreeSet<ReplicaId> = named.cloned().collect();
        for id in self.named.difference(&named) {
            self.unrouted_since.entry(id.clone()).or_insert(now);
        }
        self.unrouted_since
            .retain(|id, _| !named.contains(id) && self.all.contains_key(id));
        self.named = named;
    }

    /// Begins an action; returns the replica that was started.
    pub(super) fn act(
        &mut self,
        action: &Action,
        now: SystemTime,
        releases: &BTreeMap<u64, Release>,
        fate: impl FnOnce(&ServiceName) -> Fate,
    ) -> Option<ReplicaId> {
        match action {
            Action::Start {
                id,
                service,
                digest,
                slot,
                release,
                joins,
            } => {
                let role = Role::Replica {
                    digest: digest.clone(),
                    slot: *slot,
                };
                self.start(id, service, role, *release, now, fate(service));
                let config = releases
                    .get(release)
                    .and_then(|one| one.services.get(service));
                let contents = config.and_then(|config| config.live_contents());
                if let Some(one) = self.all.get_mut(id) {
                    one.replica.contents = contents.map(|given| Contents {
                        given,
                        loaded: true,
                    });
                }
                self.join(id, joins.as_ref());
                Some(id.clone())
            }
            Action::RunJob {
                id,
                job,
                release,
                joins,
            } => {
                let role = Role::Job {
                    job: job.clone(),
                    release: *release,
                };
                let fate = fate(&job.service);
                self.start(id, &job.service, role, *release, now, fate);
                self.join(id, joins.as_ref());
                Some(id.clone())
            }
            Action::Stop { id, .. } => {
                let serves = self.serving.contains(id);
                match self.all.get_mut(id) {
                    Some(one) if !serves => one.enter(ReplicaState::Stopping, now),
                    one => self.violations.add(format!("{one:?} is stopped")),
                }
                None
            }
            Action::Renew { id, contents, .. } => {
                match self.all.get_mut(id) {
                    Some(one) if one.replica.contents.is_some() => {
                        one.replica.contents = Some(Contents {
                            given: contents.clone(),
                            loaded: true,
                        });
                    }
                    one => self.violations.add(format!("{one:?} is renewed")),
                }
                None
            }
            Action::Remove { id } => {
                match self.all.remove(id) {
                    Some(one) if !one.replica.state.is_live() => {}
                    one => self.violations.add(format!("{one:?} is removed")),
                }
                None
            }
        }
    }

    fn start(
        &mut self,
        id: &ReplicaId,
        service: &ServiceName,
        role: Role,
        release: u64,
        now: SystemTime,
        fate: Fate,
    ) {
        self.starts += 1;
        let replica = Replica {
            id: id.clone(),
            service: service.clone(),
            role,
            state: ReplicaState::Creating,
            restarts: 0,
            last_exit: None,
            ready_after: None,
            start: self.starts.to_string(),
            joined: None,
            contents: None,
        };
        let last = u8::try_from(self.starts % 250).unwrap_or_default();
        let started = Simulated {
            replica,
            release,
            fate,
            since: now,
            last_exit: None,
            traffic: Traffic::default(),
            address: IpAddr::V4(Ipv4Addr::new(10, 90, 0, last)),
        };
        if self.all.insert(id.clone(), started).is_some() {
            self.violations.add(format!("{id} is started twice"));
        }
    }

    /// Puts a replica that was just started into another's network.
    fn join(&mut self, id: &ReplicaId, provider: Option<&ReplicaId>) {
        let Some(provider) = provider else { return };
        let joined = self.all.get(provider).map(|one| Joined {
            id: provider.clone(),
            start: one.replica.start.clone(),
        });
        if joined.is_none() {
            self.violations
                .add(format!("{id} joins {provider}, which is not there"));
        }
        if let Some(one) = self.all.get_mut(id) {
            one.replica.joined = joined;
        }
    }

    /// A round goes by. `grace`: how long processes take to end.
    pub(super) fn live(&mut self, now: SystemTime, grace: Duration) {
        for (id, one) in &mut self.all {
            if self.serving.contains(id) {
                let answered = one.answer();
                self.total.add(&answered);
            }
            one.live(now, grace);
        }
    }
}

impl Simulated {
    fn enter(&mut self, state: ReplicaState, now: SystemTime) {
        self.replica.state = state;
        self.since = now;
    }

    fn end(&mut self, code: i32, requested: bool, now: SystemTime) -> ExitInfo {
        let info = ExitInfo {
            code,
            signal: None,
            oom_killed: false,
            requested,
        };
        self.last_exit = Some(Exit {
            at: now,
            info: info.clone(),
            memory_peak_bytes: None,
        });
        self.replica.last_exit = Some(info.clone());
        info
    }

    /// Requests of one round.
    fn answer(&mut self) -> Traffic {
        let answered = Traffic {
            requests: REQUESTS,
            server_errors: match self.fate {
                Fate::Errs => REQUESTS / 10,
                _ => 0,
            },
            latency: BTreeMap::from([(SERVED_MS, REQUESTS)]),
            ..Traffic::default()
        };
        self.traffic.add(&answered);
        answered
    }

    fn live(&mut self, now: SystemTime, grace: Duration) {
        let is_job = matches!(self.replica.role, Role::Job { .. });
        let next = match (&self.replica.state, self.fate) {
            (ReplicaState::Creating, Fate::CannotStart(reason)) => ReplicaState::CannotStart {
                reason: reason.to_owned(),
                since: Some(now),
            },
            (ReplicaState::Creating, _) => ReplicaState::Starting { since: now },
            (ReplicaState::Starting { .. }, Fate::Serves | Fate::Errs) if is_job => {
                let exit = self.end(0, false, now);
                ReplicaState::Ended { exit }
            }
            (ReplicaState::Starting { .. }, Fate::Serves | Fate::Errs) => ReplicaState::Ready,
            (ReplicaState::Starting { .. }, Fate::Unhealthy(probe)) if !is_job => {
                ReplicaState::Unhealthy {
                    failed: FailedProbe::Health,
                    probe: probe.to_owned(),
                }
            }
            (ReplicaState::Starting { .. }, Fate::Crashes(code)) if is_job => {
                let exit = self.end(code, false, now);
                ReplicaState::Ended { exit }
            }
            (
                ReplicaState::Starting { .. } | ReplicaState::Restarting { .. },
                Fate::Crashes(code),
            ) => {
                let exit = self.end(code, false, now);
                self.replica.restarts += 1;
                ReplicaState::Restarting {
                    exit,
                    restarts: self.replica.restarts,
                }
            }
            (ReplicaState::Stopping, _)
                if now.duration_since(self.since).unwrap_or_default() >= grace =>
            {
                let exit = self.end(143, true, now);
                ReplicaState::Ended { exit }
            }
            _ => return,
        };
        self.enter(next, now);
    }

    fn instance(&self) -> Instance {
        let Replica {
            id,
            service,
            role,
            state,
            restarts,
            contents,
            ..
        } = &self.replica;
        let health = match state {
            ReplicaState::Unhealthy { probe, .. } => Some(Health {
                verdict: Verdict::Unhealthy,
                failing_streak: 3,
                last: Some((Some(1), probe.clone())),
            }),
            _ => None,
        };
        Instance {
            id: id.clone(),
            service: service.clone(),
            release: self.release,
            role: role.clone(),
            state: match state {
                ReplicaState::Creating => InstanceState::Creating,
                ReplicaState::CannotStart { reason, .. } => InstanceState::Failed {
                    reason: reason.clone(),
                },
                ReplicaState::Starting { .. }
                | ReplicaState::Ready
                | ReplicaState::Unhealthy { .. }
                | ReplicaState::Interrupted
                | ReplicaState::Stopping => InstanceState::Running {
                    pid: None,
                    since: self.since,
                },
                ReplicaState::Restarting { .. } => InstanceState::BackOff,
                ReplicaState::Ended { .. } => InstanceState::Exited,
                ReplicaState::Lost => InstanceState::Lost,
            },
            restarts: *restarts,
            last_exit: self.last_exit.clone(),
            health,
            liveness: None,
            address: Some(self.address),
            contents: contents.clone(),
        }
    }
}
