//! The only place where an environment's desired state moves on its own, and where it is decided
//! what to start, stop and remove. Pure and total.

mod failure;
mod heal;
mod leave;
mod network;
mod once;
mod prepare;
mod renew;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_model::{Condition, RestartPolicy, ServiceName};

use crate::ids::replica_id;
use crate::{
    Desired, Intent, JobId, LiveContents, Observed, Policy, Release, Replica, ReplicaId,
    ReplicaState, Role, Rollout, RolloutPhase, ServiceDigest, ServiceRelease, Strategy,
    WriteContext, dependency_order,
};

/// Something to do. Carrying one out twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Create and start a replica.
    Start {
        /// Its id.
        id: ReplicaId,
        /// Its service.
        service: ServiceName,
        /// Release that configures it.
        release: u64,
        /// Digest of that configuration.
        digest: ServiceDigest,
        /// Its slot.
        slot: u32,
        /// The replica whose network namespace it joins.
        joins: Option<ReplicaId>,
    },
    /// Create and start a job.
    RunJob {
        /// Its id.
        id: ReplicaId,
        /// Which.
        job: JobId,
        /// Release it belongs to.
        release: u64,
        /// The replica whose network namespace it joins.
        joins: Option<ReplicaId>,
    },
    /// Ask a replica to end.
    Stop {
        /// Which.
        id: ReplicaId,
        /// It is killed after this; `None`: after the grace period of its own.
        within: Option<Duration>,
    },
    /// Give a running replica other contents of its secrets, and have it reload them.
    Renew {
        /// Which.
        id: ReplicaId,
        /// Its service.
        service: ServiceName,
        /// Release that has them.
        release: u64,
        /// What stands for them.
        contents: LiveContents,
    },
    /// Remove what is left of a replica whose process has ended.
    Remove {
        /// Which.
        id: ReplicaId,
    },
}

/// What follows from one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To be persisted, if it differs, before any action is carried out.
    pub desired: Desired,
    /// What to do.
    pub actions: Vec<Action>,
    /// Services that wait for others.
    pub waiting: BTreeMap<ServiceName, ServiceName>,
    /// Replicas that are to be named no more though they could answer.
    pub draining: BTreeSet<ReplicaId>,
    /// Old replicas that serve nobody and wait to take requests back: what they have begun goes
    /// on.
    pub reserve: BTreeSet<ReplicaId>,
    /// Nothing is moving: all that is wanted runs and nothing else is there.
    pub settled: bool,
}

/// Decides what to do next for the environment with id `environment` (`project.environment`).
/// `releases` holds at least those that `desired` names.
pub fn decide(
    environment: &str,
    desired: &Desired,
    releases: &BTreeMap<u64, Release>,
    observed: &Observed,
    policy: &Policy,
    now: SystemTime,
) -> Decision {
    let mut pass = Pass {
        environment,
        desired,
        releases,
        observed,
        policy,
        now,
        actions: Vec::new(),
        waiting: BTreeMap::new(),
        draining: BTreeSet::new(),
        reserve: BTreeSet::new(),
        is_retiring: false,
        is_renewing: false,
    };
    let next = match (&desired.intent, &desired.rollout) {
        (Intent::Down { .. }, _) => {
            pass.take_down();
            desired.clone()
        }
        (Intent::Run, None) => pass.hold_steady(),
        (Intent::Run, Some(rollout)) if rollout.pause.is_some() => pass.stand_still(rollout),
        (Intent::Run, Some(rollout)) => match &rollout.phase {
            RolloutPhase::Preparing => pass.prepare(rollout),
            RolloutPhase::Canary { step, since } => pass.try_on_some(rollout, *step, *since),
            RolloutPhase::Baking { since } => pass.bake(rollout, *since),
            RolloutPhase::Finishing { .. } => pass.finish(rollout),
            RolloutPhase::RollingBack { failure, since } => pass.go_back(rollout, failure, *since),
        },
    };
    let next = match &desired.intent {
        Intent::Down { .. } => next,
        Intent::Run => {
            pass.renew();
            Desired {
                begun: pass.begun(),
                starts: pass.starts(),
                ..next
            }
        }
    };
    let settled = pass.actions.is_empty()
        && !pass.is_retiring
        && !pass.is_renewing
        && next == *desired
        && next.rollout.is_none()
        && observed.replicas.iter().all(|r| settles(&r.state));
    let Pass {
        actions,
        waiting,
        draining,
        reserve,
        ..
    } = pass;
    Decision {
        desired: next,
        actions,
        waiting,
        draining,
        reserve,
        settled,
    }
}

fn settles(state: &ReplicaState) -> bool {
    match state {
        ReplicaState::Ready | ReplicaState::Ended { .. } => true,
        ReplicaState::Creating
        | ReplicaState::Starting { .. }
        | ReplicaState::Unhealthy { .. }
        | ReplicaState::Restarting { .. }
        | ReplicaState::CannotStart { .. }
        | ReplicaState::Stopping
        | ReplicaState::Interrupted
        | ReplicaState::Lost => false,
    }
}

/// Whether its process was started and may be running still.
fn has_a_process(state: &ReplicaState) -> bool {
    state.can_be_stopped() || matches!(state, ReplicaState::Stopping)
}

/// Time from `since` to `now`; zero where the clock went back.
fn elapsed(since: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(since).unwrap_or_default()
}

struct Pass<'a> {
    environment: &'a str,
    desired: &'a Desired,
    releases: &'a BTreeMap<u64, Release>,
    observed: &'a Observed,
    policy: &'a Policy,
    now: SystemTime,
    actions: Vec<Action>,
    waiting: BTreeMap<ServiceName, ServiceName>,
    draining: BTreeSet<ReplicaId>,
    reserve: BTreeSet<ReplicaId>,
    /// Somebody is to end, and may have to wait for it.
    is_retiring: bool,
    /// Somebody is to get other contents of secrets, and may have to wait for it.
    is_renewing: bool,
}

/// Where the jobs of a release stand.
#[derive(Clone, Copy)]
enum Jobs<'a> {
    /// They ran when the release came in.
    Past,
    /// They are part of this rollout.
    Now(&'a Rollout),
}

impl<'a> Pass<'a> {
    fn hold_steady(&mut self) -> Desired {
        let Some((number, release)) = self.release(self.desired.current) else {
            self.retire_others(None);
            return self.desired.clone();
        };
        let heals = self.heal(release);
        for name in dependency_order(&release.services) {
            self.keep_up(number, release, name, Jobs::Past);
        }
        self.retire_others(Some(release));
        Desired {
            heals,
            ..self.desired.clone()
        }
    }

    /// Nothing moves: what is there is kept up, on both sides.
    fn stand_still(&mut self, rollout: &Rollout) -> Desired {
        if let Some((number, release)) = self.release(Some(rollout.to)) {
            match rollout.phase {
                RolloutPhase::Preparing => self.keep_old_up(rollout),
                RolloutPhase::Canary { .. } => {
                    self.keep_all_up(number, release);
                    self.keep_old_up(rollout);
                }
                RolloutPhase::Baking { .. } => {
                    self.keep_all_up(number, release);
                    self.retire_unrouted(rollout, release);
                }
                // Nobody can pause these.
                RolloutPhase::Finishing { .. } | RolloutPhase::RollingBack { .. } => {}
            }
        }
        let serving = match rollout.phase {
            RolloutPhase::Preparing | RolloutPhase::Canary { .. } => rollout.from,
            RolloutPhase::Baking { .. }
            | RolloutPhase::Finishing { .. }
            | RolloutPhase::RollingBack { .. } => Some(rollout.to),
        };
        let serving = self.release(serving);
        let heals = serving.map_or_else(BTreeMap::new, |(_, release)| self.heal(release));
        Desired {
            heals,
            ..self.desired.clone()
        }
    }

    /// Keeps the release before at its work where the new one does not take its place yet.
    fn keep_old_up(&mut self, rollout: &Rollout) {
        let Some((number, old)) = self.release(rollout.from) else {
            return;
        };
        let new = self.release(Some(rollout.to)).map(|(_, release)| release);
        let found = &self.desired.databases;
        let taken_over: BTreeSet<&ServiceName> = new
            .into_iter()
            .flat_map(|new| new.taken_over(self.ground(), old))
            .map(|(_, before, _)| before)
            .collect();
        for name in dependency_order(&old.services) {
            // The same replicas, and the newer release sees to them.
            let shared = new.is_some_and(|new| {
                new.services
                    .get(name)
                    .is_some_and(|service| service.digest() == old.services[name].digest())
            });
            let gives_way = rollout.groups.contains_key(name)
                || taken_over.contains(name)
                || new.is_some_and(|new| {
                    new.services.contains_key(name)
                        && new.strategy(name, found).0 == Strategy::StopFirst
                });
            if !shared && !gives_way {
                self.keep_up(number, old, name, Jobs::Past);
            }
        }
    }

    /// Keeps every lasting service of a release up, its dependencies first.
    fn keep_all_up(&mut self, number: u64, release: &Release) {
        for name in dependency_order(&release.services) {
            self.keep_up(number, release, name, Jobs::Past);
        }
    }

    /// Starts what is missing of a lasting service and clears what died.
    fn keep_up(&mut self, number: u64, release: &Release, name: &ServiceName, jobs: Jobs<'_>) {
        let slots = self.wanted(release, name);
        self.keep_slots_up(number, release, name, jobs, slots);
    }

    /// The same for the first `slots` of its slots.
    fn keep_slots_up(
        &mut self,
        number: u64,
        release: &Release,
        name: &ServiceName,
        jobs: Jobs<'_>,
        slots: u32,
    ) {
        if release.jobs().contains(name) {
            return;
        }
        let service = &release.services[name];
        let digest = service.digest();
        let mut may_start = None;
        for slot in 0..slots {
            match self.in_slot(name, digest, slot) {
                Some(replica) if self.is_cut_off(release, service, replica, slot) => {
                    self.end_unrouted(replica);
                }
                Some(replica) => self.remove_dead(replica, service),
                None if self.has_begun(name, digest, slot) => {}
                None => {
                    let may = *may_start
                        .get_or_insert_with(|| self.dependencies_hold(release, name, jobs));
                    if !may || self.is_contested(release, name, slot) {
                        continue;
                    }
                    if let Some(joins) = self.joins(release, name, slot) {
                        let id = replica_id(self.environment, name, digest, slot);
                        let (service, digest) = (name.clone(), digest.clone());
                        self.actions.push(Action::Start {
                            id,
                            service,
                            release: number,
                            digest,
                            slot,
                            joins,
                        });
                    }
                }
            }
        }
    }

    fn remove_dead(&mut self, replica: &Replica, service: &ServiceRelease) {
        let dead = match &replica.state {
            ReplicaState::Interrupted => {
                self.end_unrouted(replica);
                false
            }
            ReplicaState::Lost => true,
            ReplicaState::Ended { .. } => {
                !has_completed(replica, service) && !has_given_up(replica, service)
            }
            ReplicaState::CannotStart { since, .. } => {
                since.is_some_and(|since| elapsed(since, self.now) >= self.policy.retry)
            }
            ReplicaState::Creating
            | ReplicaState::Starting { .. }
            | ReplicaState::Ready
            | ReplicaState::Unhealthy { .. }
            | ReplicaState::Restarting { .. }
            | ReplicaState::Stopping => false,
        };
        if dead {
            self.actions.push(Action::Remove {
                id: replica.id.clone(),
            });
        }
    }

    fn has_place(&self, release: &Release, replica: &Replica) -> bool {
        let Role::Replica { digest, slot } = &replica.role else {
            return false;
        };
        release
            .services
            .get(&replica.service)
            .is_some_and(|service| {
                service.digest() == digest
                    && *slot
                        < self
                            .desired
                            .replicas(&replica.service, service.service.replicas)
            })
    }

    /// Number of replicas wanted of a service of a release; 0 where it has no such service.
    fn wanted(&self, release: &Release, name: &ServiceName) -> u32 {
        release.services.get(name).map_or(0, |service| {
            self.desired.replicas(name, service.service.replicas)
        })
    }

    /// Whether all replicas wanted of a service are ready (or have done their work).
    fn is_up(&self, release: &Release, name: &ServiceName) -> bool {
        let Some(service) = release.services.get(name) else {
            return true;
        };
        (0..self.wanted(release, name)).all(|slot| self.slot_is_up(name, service, slot))
    }

    fn slot_is_up(&self, name: &ServiceName, service: &ServiceRelease, slot: u32) -> bool {
        self.in_slot(name, service.digest(), slot)
            .is_some_and(|replica| {
                matches!(replica.state, ReplicaState::Ready) || has_completed(replica, service)
            })
    }

    fn slot_has_given_up(&self, name: &ServiceName, service: &ServiceRelease, slot: u32) -> bool {
        match self.in_slot(name, service.digest(), slot) {
            Some(replica) => has_given_up(replica, service),
            None => self.has_begun(name, service.digest(), slot),
        }
    }

    fn dependencies_hold(&mut self, release: &Release, name: &ServiceName, jobs: Jobs<'_>) -> bool {
        let missing = release.services[name]
            .service
            .depends_on
            .iter()
            .find(|(needed, edge)| {
                release.services.contains_key(needed)
                    && !match edge.condition {
                        Condition::ServiceHealthy => self.is_up(release, needed),
                        Condition::ServiceStarted => self.has_started(release, needed),
                        Condition::ServiceCompletedSuccessfully => match jobs {
                            Jobs::Past => true,
                            Jobs::Now(rollout) => rollout.jobs_done.contains(&JobId {
                                service: (*needed).clone(),
                                hook: None,
                            }),
                        },
                    }
            });
        match missing {
            Some((needed, _)) => {
                self.waiting.insert(name.clone(), needed.clone());
                false
            }
            None => true,
        }
    }

    fn has_started(&self, release: &Release, name: &ServiceName) -> bool {
        if release.jobs().contains(name) {
            return true;
        }
        let Some(service) = release.services.get(name) else {
            return true;
        };
        let digest = service.digest();
        self.wanted(release, name) == 0
            || self.has_begun(name, digest, 0)
            || self.observed.replicas.iter().any(|replica| {
                &replica.service == name
                    && matches!(&replica.role, Role::Replica { digest: d, .. } if d == digest)
                    && (has_a_process(&replica.state) || has_completed(replica, service))
            })
    }

    fn ground(&self) -> WriteContext<'a> {
        WriteContext {
            environment: self.environment,
            databases: &self.desired.databases,
        }
    }

    /// How long services took to be ready when they were last seen to start.
    fn starts(&self) -> BTreeMap<ServiceName, Duration> {
        let mut seen: BTreeMap<ServiceName, Duration> = BTreeMap::new();
        for replica in &self.observed.replicas {
            if let Some(took) = replica.ready_after {
                let longest = seen.entry(replica.service.clone()).or_default();
                *longest = took.max(*longest);
            }
        }
        let mut starts = self.desired.starts.clone();
        starts.extend(seen);
        let releases = || self.releases.values();
        starts.retain(|name, _| releases().any(|release| release.services.contains_key(name)));
        starts
    }

    /// The newest release that has a replica's configuration.
    fn made_by(&self, replica: &Replica) -> Option<&'a Release> {
        let Role::Replica { digest, .. } = &replica.role else {
            return None;
        };
        self.releases.values().rev().find(|release| {
            let service = release.services.get(&replica.service);
            service.is_some_and(|service| service.digest() == digest)
        })
    }

    fn old_digest(&self, name: &ServiceName) -> Option<&'a ServiceDigest> {
        let from = self.desired.rollout.as_ref()?.from;
        Some(self.release(from)?.1.services.get(name)?.digest())
    }

    fn release(&self, number: Option<u64>) -> Option<(u64, &'a Release)> {
        let number = number?;
        Some((number, self.releases.get(&number)?))
    }

    fn in_slot(
        &self,
        name: &ServiceName,
        digest: &ServiceDigest,
        slot: u32,
    ) -> Option<&'a Replica> {
        self.observed.replicas.iter().find(|replica| {
            &replica.service == name
                && matches!(&replica.role, Role::Replica { digest: d, slot: s } if d == digest && *s == slot)
        })
    }
}

impl Action {
    /// The replica or job it is about.
    pub fn id(&self) -> &ReplicaId {
        match self {
            Self::Start { id, .. }
            | Self::RunJob { id, .. }
            | Self::Stop { id, .. }
            | Self::Renew { id, .. }
            | Self::Remove { id } => id,
        }
    }
}

/// Ended as often as its policy bears: another container would begin to count anew.
fn has_given_up(replica: &Replica, service: &ServiceRelease) -> bool {
    let gives_up = match service.service.restart {
        RestartPolicy::OnFailure { max_retries } => max_retries.is_some(),
        RestartPolicy::No => true,
        RestartPolicy::Unset | RestartPolicy::Always | RestartPolicy::UnlessStopped => false,
    };
    matches!(&replica.state, ReplicaState::Ended { exit } if gives_up && exit.code != 0 && !exit.requested)
}

/// Ended with 0 under a policy that lets it rest.
fn has_completed(replica: &Replica, service: &ServiceRelease) -> bool {
    let rests = match service.service.restart {
        RestartPolicy::Unset | RestartPolicy::No | RestartPolicy::OnFailure { .. } => true,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => false,
    };
    matches!(&replica.state, ReplicaState::Ended { exit } if rests && exit.code == 0 && !exit.requested)
}
