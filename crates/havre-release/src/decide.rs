//! The only place where an environment's desired state moves on its own, and where it is decided
//! what to start, stop and remove. Pure and total.

mod heal;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_model::{Condition, RestartPolicy, ServiceName};

use crate::ids::{job_id, replica_id};
use crate::{
    Desired, Failure, FailureKind, Intent, JobId, Observed, Phase, Policy, Release, Replica,
    ReplicaId, ReplicaState, Role, Rollout, ServiceDigest, ServiceRelease, Strategy,
    dependency_order,
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
    },
    /// Create and start a job.
    RunJob {
        /// Its id.
        id: ReplicaId,
        /// Which.
        job: JobId,
        /// Release it belongs to.
        release: u64,
    },
    /// Ask a replica to end, within its grace period.
    Stop {
        /// Which.
        id: ReplicaId,
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
    /// Replicas that must make place before their successors start: to be named no more.
    pub leaving: BTreeSet<ReplicaId>,
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
        leaving: BTreeSet::new(),
    };
    let next = match (&desired.intent, &desired.rollout) {
        (Intent::Down { .. }, _) => {
            pass.take_down();
            desired.clone()
        }
        (Intent::Run, None) => pass.hold_steady(),
        (Intent::Run, Some(rollout)) => match &rollout.phase {
            Phase::Preparing => pass.prepare(rollout),
            Phase::Shifted { .. } => pass.finish(rollout),
            Phase::GoingBack { failure } => pass.go_back(rollout, failure),
        },
    };
    let settled = pass.actions.is_empty()
        && next == *desired
        && next.rollout.is_none()
        && observed.replicas.iter().all(|r| settles(&r.state));
    let Pass {
        actions,
        waiting,
        leaving,
        ..
    } = pass;
    Decision {
        desired: next,
        actions,
        waiting,
        leaving,
        settled,
    }
}

fn settles(state: &ReplicaState) -> bool {
    match state {
        ReplicaState::Ready | ReplicaState::Ended { .. } => true,
        ReplicaState::Starting { .. }
        | ReplicaState::Unhealthy { .. }
        | ReplicaState::Restarting { .. }
        | ReplicaState::CannotStart { .. }
        | ReplicaState::Stopping
        | ReplicaState::Lost => false,
    }
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
    leaving: BTreeSet<ReplicaId>,
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

    /// Runs jobs and brings new replicas up until all are ready, or one shows that they will not
    /// be.
    fn prepare(&mut self, rollout: &Rollout) -> Desired {
        let mut next = self.desired.clone();
        let mut rollout = rollout.clone();
        let Some((number, release)) = self.release(Some(rollout.to)) else {
            return next;
        };
        self.note_finished_jobs(&mut rollout);
        if let Some(failure) = self.first_failure(&rollout, release) {
            rollout.phase = Phase::GoingBack { failure };
            next.rollout = Some(rollout);
            return next;
        }
        let mut all_up = true;
        for name in dependency_order(&release.services) {
            if release.jobs().contains(name) {
                let job = JobId {
                    service: name.clone(),
                    hook: None,
                };
                all_up &= self.run_job(&rollout, release, name, job);
            } else {
                all_up &= self.prepare_service(number, release, name, &rollout);
            }
        }
        self.clear_abandoned(rollout.from, release);
        if all_up {
            rollout.phase = Phase::Shifted { at: self.now };
        }
        next.rollout = Some(rollout);
        next
    }

    /// Ends replicas of neither release: an earlier rollout was given up for this one.
    fn clear_abandoned(&mut self, from: Option<u64>, to: &Release) {
        let old = self.release(from).map(|(_, release)| release);
        let number = self.desired.rollout.as_ref().map(|rollout| rollout.to);
        let observed = self.observed;
        for replica in &observed.replicas {
            let kept = match &replica.role {
                Role::Replica { .. } => {
                    self.has_place(to, replica)
                        || old.is_some_and(|old| self.has_place(old, replica))
                }
                Role::Job { release, .. } => Some(*release) == number,
            };
            if !kept {
                self.retire(replica);
            }
        }
    }

    /// Returns whether the service is ready for traffic.
    fn prepare_service(
        &mut self,
        number: u64,
        release: &Release,
        name: &ServiceName,
        rollout: &Rollout,
    ) -> bool {
        let service = &release.services[name];
        let digest = service.digest();
        if self.old_digest(name) != Some(digest) {
            if !self.dependencies_hold(release, name, Jobs::Now(rollout)) {
                return false;
            }
            for index in 0..service.service.pre_start.len() {
                let hook = u32::try_from(index).ok();
                let job = JobId {
                    service: name.clone(),
                    hook,
                };
                if !self.run_job(rollout, release, name, job) {
                    return false;
                }
            }
            if service.strategy().0 == Strategy::StopFirst && self.end_others(name, digest) {
                return false;
            }
        }
        self.keep_up(number, release, name, Jobs::Now(rollout));
        self.is_up(release, name)
    }

    /// Traffic has moved: the old replicas drain and end.
    fn finish(&mut self, rollout: &Rollout) -> Desired {
        let mut next = self.desired.clone();
        let Some((number, release)) = self.release(Some(rollout.to)) else {
            return next;
        };
        for name in dependency_order(&release.services) {
            if !release.jobs().contains(name) {
                self.keep_up(number, release, name, Jobs::Past);
            }
        }
        if self.retire_others(Some(release)) == 0 {
            next.current = Some(rollout.to);
            next.current_since = Some(self.now);
            next.rollout = None;
            next.last_failure = None;
        }
        next
    }

    /// The new replicas end; what the old release lost on the way starts again.
    fn go_back(&mut self, rollout: &Rollout, failure: &Failure) -> Desired {
        let mut next = self.desired.clone();
        let old = self.release(rollout.from).map(|(_, release)| release);
        if let Some((number, release)) = self.release(rollout.from) {
            for name in dependency_order(&release.services) {
                if release.jobs().contains(name) {
                    continue;
                }
                let service = &release.services[name];
                let exclusive = service.strategy().0 == Strategy::StopFirst;
                if exclusive && self.end_others(name, service.digest()) {
                    continue;
                }
                self.keep_up(number, release, name, Jobs::Past);
            }
        }
        if self.retire_others(old) == 0 {
            next.rollout = None;
            next.last_failure = Some(failure.clone());
        }
        next
    }

    /// Ends everything, those that others depend on last.
    fn take_down(&mut self) {
        let observed = self.observed;
        for replica in &observed.replicas {
            if !replica.state.is_live() {
                self.actions.push(Action::Remove {
                    id: replica.id.clone(),
                });
            } else if !matches!(replica.state, ReplicaState::Stopping)
                && !self.is_needed_by_live(&replica.service)
            {
                self.actions.push(Action::Stop {
                    id: replica.id.clone(),
                });
            }
        }
    }

    fn is_needed_by_live(&self, service: &ServiceName) -> bool {
        self.releases
            .values()
            .flat_map(|release| &release.services)
            .any(|(other, config)| {
                other != service
                    && config.service.depends_on.contains_key(service)
                    && self
                        .observed
                        .replicas
                        .iter()
                        .any(|r| &r.service == other && r.state.is_live())
            })
    }

    /// Starts what is missing of a lasting service and clears what died.
    fn keep_up(&mut self, number: u64, release: &Release, name: &ServiceName, jobs: Jobs<'_>) {
        if release.jobs().contains(name) {
            return;
        }
        let service = &release.services[name];
        let digest = service.digest();
        let mut may_start = None;
        for slot in 0..self.desired.replicas(name, service.service.replicas) {
            match self.in_slot(name, digest, slot) {
                Some(replica) => self.mend(replica, service),
                None => {
                    let may = *may_start
                        .get_or_insert_with(|| self.dependencies_hold(release, name, jobs));
                    if may {
                        let id = replica_id(self.environment, name, digest, slot);
                        let (service, digest) = (name.clone(), digest.clone());
                        self.actions.push(Action::Start {
                            id,
                            service,
                            release: number,
                            digest,
                            slot,
                        });
                    }
                }
            }
        }
    }

    fn mend(&mut self, replica: &Replica, service: &ServiceRelease) {
        let dead = match &replica.state {
            ReplicaState::Lost => true,
            ReplicaState::Ended { .. } => !has_completed(replica, service),
            ReplicaState::CannotStart { since, .. } => {
                since.is_some_and(|since| elapsed(since, self.now) >= self.policy.retry)
            }
            ReplicaState::Starting { .. }
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

    /// Ends and removes replicas of `name` with another configuration; returns whether any is
    /// still there.
    fn end_others(&mut self, name: &ServiceName, digest: &ServiceDigest) -> bool {
        let observed = self.observed;
        let mut any = false;
        for replica in observed.replicas.iter().filter(|r| &r.service == name) {
            let Role::Replica { digest: other, .. } = &replica.role else {
                continue;
            };
            if other == digest {
                continue;
            }
            any = true;
            self.leaving.insert(replica.id.clone());
            self.retire(replica);
        }
        any
    }

    /// Drains, ends and removes what `keep` has no place for; returns how many are left.
    fn retire_others(&mut self, keep: Option<&Release>) -> usize {
        let observed = self.observed;
        let mut left = 0;
        for replica in &observed.replicas {
            if keep.is_some_and(|release| self.has_place(release, replica)) {
                continue;
            }
            left += 1;
            self.retire(replica);
        }
        left
    }

    /// The next step towards a replica's end, unless one is decided already.
    fn retire(&mut self, replica: &Replica) {
        let id = &replica.id;
        if self.actions.iter().any(|action| action.id() == id) {
            return;
        }
        if !replica.state.is_live() {
            self.actions.push(Action::Remove { id: id.clone() });
        } else if !matches!(replica.state, ReplicaState::Stopping) && self.is_drained(id) {
            self.actions.push(Action::Stop { id: id.clone() });
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

    /// Whether nobody can be hurt by this replica's end.
    fn is_drained(&self, id: &ReplicaId) -> bool {
        let out_for = self
            .observed
            .unrouted_since
            .get(id)
            .map(|since| elapsed(*since, self.now));
        if out_for.is_some_and(|time| time >= self.policy.drain_deadline) {
            return true;
        }
        let Some(edge) = &self.observed.edge else {
            return false;
        };
        !edge.serving.contains(id)
            && edge.in_flight.get(id).copied().unwrap_or(0) == 0
            && out_for.is_none_or(|time| time >= self.policy.min_drain)
    }

    /// Starts the job unless it has run; returns whether it is done.
    fn run_job(
        &mut self,
        rollout: &Rollout,
        release: &Release,
        name: &ServiceName,
        job: JobId,
    ) -> bool {
        let done = rollout.jobs_done.contains(&job);
        match (self.job(&job, rollout.to), done) {
            (Some(replica), true) => {
                if !replica.state.is_live() {
                    self.actions.push(Action::Remove {
                        id: replica.id.clone(),
                    });
                }
            }
            (Some(replica), false) => {
                if matches!(replica.state, ReplicaState::Lost) {
                    self.actions.push(Action::Remove {
                        id: replica.id.clone(),
                    });
                }
            }
            (None, true) => {}
            (None, false) => {
                if self.dependencies_hold(release, name, Jobs::Now(rollout)) {
                    let id = job_id(self.environment, &job, rollout.to);
                    self.actions.push(Action::RunJob {
                        id,
                        job,
                        release: rollout.to,
                    });
                }
            }
        }
        done
    }

    fn note_finished_jobs(&self, rollout: &mut Rollout) {
        for replica in &self.observed.replicas {
            if let (Role::Job { job, release }, ReplicaState::Ended { exit }) =
                (&replica.role, &replica.state)
                && *release == rollout.to
                && exit.code == 0
            {
                rollout.jobs_done.insert(job.clone());
            }
        }
    }

    fn first_failure(&self, rollout: &Rollout, release: &Release) -> Option<Failure> {
        let of_replicas = self.observed.replicas.iter().find_map(|replica| {
            let kind = match &replica.role {
                Role::Job { release, .. } if *release == rollout.to => job_failure(&replica.state)?,
                Role::Job { .. } => return None,
                Role::Replica { digest, .. } => {
                    let service = release.services.get(&replica.service)?;
                    let fresh = service.digest() == digest
                        && self.old_digest(&replica.service) != Some(digest);
                    if !fresh {
                        return None;
                    }
                    self.replica_failure(replica, service)?
                }
            };
            let (service, replica) = (replica.service.clone(), Some(replica.id.clone()));
            Some(Failure {
                service,
                replica,
                kind,
            })
        });
        of_replicas.or_else(|| {
            if elapsed(rollout.started_at, self.now) < self.policy.rollout_deadline {
                return None;
            }
            let service = dependency_order(&release.services)
                .into_iter()
                .find(|name| !self.is_up(release, name) && !release.jobs().contains(name))?;
            let kind = FailureKind::NotReady {
                after: self.policy.rollout_deadline,
            };
            Some(Failure {
                service: service.clone(),
                replica: None,
                kind,
            })
        })
    }

    fn replica_failure(&self, replica: &Replica, service: &ServiceRelease) -> Option<FailureKind> {
        match &replica.state {
            ReplicaState::Ready | ReplicaState::Stopping | ReplicaState::Lost => None,
            ReplicaState::Starting { since } => {
                let after = self.policy.ready_deadline;
                (elapsed(*since, self.now) >= after).then_some(FailureKind::NotReady { after })
            }
            ReplicaState::Unhealthy { probe } => Some(FailureKind::Unhealthy {
                probe: probe.clone(),
            }),
            ReplicaState::Restarting { exit, restarts } => (*restarts >= self.policy.crash_limit)
                .then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: *restarts,
                }),
            ReplicaState::CannotStart { reason, .. } => Some(FailureKind::CannotStart {
                reason: reason.clone(),
            }),
            ReplicaState::Ended { exit } => (!exit.requested && !has_completed(replica, service))
                .then(|| FailureKind::Crashed {
                    exit: exit.clone(),
                    restarts: 0,
                }),
        }
    }

    /// Whether all replicas wanted of a service are ready (or have done their work).
    fn is_up(&self, release: &Release, name: &ServiceName) -> bool {
        let Some(service) = release.services.get(name) else {
            return true;
        };
        let digest = service.digest();
        (0..self.desired.replicas(name, service.service.replicas)).all(|slot| {
            self.in_slot(name, digest, slot).is_some_and(|replica| {
                matches!(replica.state, ReplicaState::Ready) || has_completed(replica, service)
            })
        })
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
        self.desired.replicas(name, service.service.replicas) == 0
            || self.observed.replicas.iter().any(|replica| {
                &replica.service == name
                    && matches!(&replica.role, Role::Replica { digest: d, .. } if d == digest)
                    && (replica.state.is_live() || has_completed(replica, service))
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

    fn job(&self, job: &JobId, of: u64) -> Option<&'a Replica> {
        self.observed.replicas.iter().find(|replica| {
            matches!(&replica.role, Role::Job { job: j, release } if j == job && *release == of)
        })
    }
}

impl Action {
    /// The replica or job it is about.
    pub fn id(&self) -> &ReplicaId {
        match self {
            Self::Start { id, .. }
            | Self::RunJob { id, .. }
            | Self::Stop { id }
            | Self::Remove { id } => id,
        }
    }
}

fn job_failure(state: &ReplicaState) -> Option<FailureKind> {
    match state {
        ReplicaState::Ended { exit } if exit.code != 0 => {
            Some(FailureKind::JobFailed { exit: exit.clone() })
        }
        ReplicaState::CannotStart { reason, .. } => Some(FailureKind::CannotStart {
            reason: reason.clone(),
        }),
        ReplicaState::Ended { .. }
        | ReplicaState::Starting { .. }
        | ReplicaState::Ready
        | ReplicaState::Unhealthy { .. }
        | ReplicaState::Restarting { .. }
        | ReplicaState::Stopping
        | ReplicaState::Lost => None,
    }
}

/// Ended with 0 under a policy that lets it rest.
fn has_completed(replica: &Replica, service: &ServiceRelease) -> bool {
    let rests = match service.service.restart {
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => true,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => false,
    };
    matches!(&replica.state, ReplicaState::Ended { exit } if rests && exit.code == 0 && !exit.requested)
}
