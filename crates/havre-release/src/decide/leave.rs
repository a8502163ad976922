//! Drains and removes retired replicas.

use std::time::SystemTime;

use havre_model::ServiceName;

use super::{Action, Jobs, Pass, elapsed};
use crate::{
    Desired, Failure, Release, Replica, ReplicaId, ReplicaState, Role, Rollout, RolloutPhase,
    ServiceDigest, Strategy, dependency_order,
};

impl Pass<'_> {
    /// The new release is there to stay: the old replicas drain and end.
    pub(super) fn finish(&mut self, rollout: &Rollout) -> Desired {
        let mut next = self.desired.clone();
        let Some((number, release)) = self.release(Some(rollout.to)) else {
            return next;
        };
        self.keep_all_up(number, release);
        // Where the new release has such a service, old replicas may still have to answer for it.
        let observed = self.observed;
        let dropped = observed.replicas.iter();
        let dropped = dropped.filter(|one| !release.services.contains_key(&one.service));
        self.draining.extend(dropped.map(|one| one.id.clone()));
        if self.retire_others(Some(release)) == 0 {
            next.current = Some(rollout.to);
            next.current_since = Some(self.now);
            next.rollout = None;
            next.last_failure = None;
            next.last_failed = None;
        }
        next
    }

    /// The new replicas end; what the old release lost on the way starts again, and where it has
    /// nobody left the new replicas answer until it has.
    pub(super) fn go_back(
        &mut self,
        rollout: &Rollout,
        failure: &Failure,
        since: SystemTime,
    ) -> Desired {
        let mut next = self.desired.clone();
        let old = self.release(rollout.from).map(|(_, release)| release);
        if let Some((number, release)) = self.release(rollout.from) {
            for name in dependency_order(&release.services) {
                if release.jobs().contains(name) {
                    continue;
                }
                let exclusive =
                    release.strategy_back(name, &self.desired.databases) == Strategy::StopFirst;
                if exclusive && self.make_place(release, name) {
                    continue;
                }
                self.keep_up(number, release, name, Jobs::Past);
            }
        }
        let patient = rollout.shifted_at.is_some()
            && old.is_some_and(|old| elapsed(since, self.now) < old.rollout.ready_timeout);
        let observed = self.observed;
        let mut left = 0;
        for replica in &observed.replicas {
            if old.is_some_and(|old| self.has_place(old, replica)) {
                continue;
            }
            left += 1;
            let stands_in = patient && old.is_some_and(|old| self.is_stand_in(old, replica));
            if !stands_in {
                self.draining.insert(replica.id.clone());
                self.retire(replica);
            }
        }
        let awaited = old.is_some_and(|old| self.expects_contents(old));
        if left == 0 && !awaited {
            next.rollout = None;
            next.last_failure = Some(failure.clone());
            next.last_failed = Some(rollout.to);
        }
        next
    }

    /// Ends everything, those that others depend on last.
    pub(super) fn take_down(&mut self) {
        let observed = self.observed;
        for replica in &observed.replicas {
            if !replica.state.is_live() {
                self.actions.push(Action::Remove {
                    id: replica.id.clone(),
                });
            } else if replica.state.can_be_stopped() && !self.is_needed_by_live(&replica.service) {
                self.actions.push(Action::Stop {
                    id: replica.id.clone(),
                    within: None,
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

    /// A ready replica that is not `old`'s, of a service of `old` that nobody of its own serves
    /// yet, and whose replicas may run beside it.
    pub(super) fn is_stand_in(&self, old: &Release, replica: &Replica) -> bool {
        let name = &replica.service;
        matches!(replica.role, Role::Replica { .. })
            && matches!(replica.state, ReplicaState::Ready)
            && self.wanted(old, name) > 0
            && !old.jobs().contains(name)
            && old.strategy_back(name, &self.desired.databases) == Strategy::StartFirst
            && !self.is_up(old, name)
            && !old
                .lasting()
                .any(|(name, _)| self.is_rival(old, name, replica))
    }

    /// Ends and removes what must not run beside a replica of `name`: those of another
    /// configuration, and its rivals under other names; returns whether any is still there.
    pub(super) fn make_place(&mut self, release: &Release, name: &ServiceName) -> bool {
        let others = self.end_slots(name, release.services[name].digest(), u32::MAX);
        self.end_rivals(release, name) || others
    }

    /// The same for its rivals only.
    pub(super) fn end_rivals(&mut self, release: &Release, name: &ServiceName) -> bool {
        let observed = self.observed;
        let mut any = false;
        for replica in &observed.replicas {
            if self.is_rival(release, name, replica) {
                any = true;
                self.draining.insert(replica.id.clone());
                self.retire(replica);
            }
        }
        any
    }

    /// Whether replicas have to end before a new one of `name` starts.
    pub(super) fn has_to_make_place(&self, release: &Release, name: &ServiceName) -> bool {
        let digest = release.services[name].digest();
        let old = self.old_digest(name);
        let outdated = |replica: &Replica| {
            matches!(&replica.role, Role::Replica { digest: other, .. }
                if &replica.service == name && other != digest)
        };
        old != Some(digest)
            && release.strategy(name, &self.desired.databases).0 == Strategy::StopFirst
            && self
                .observed
                .replicas
                .iter()
                .any(|replica| outdated(replica) || self.is_rival(release, name, replica))
    }

    /// Whether a replica of a service of another name writes where those of `name` do, and must
    /// not at once.
    pub(super) fn is_rival(
        &self,
        release: &Release,
        name: &ServiceName,
        replica: &Replica,
    ) -> bool {
        let (ground, other) = (self.ground(), &replica.service);
        self.made_by(replica)
            .is_some_and(|theirs| release.contested(ground, name, theirs, other).is_some())
    }

    /// Whether somebody still runs who must be gone before a replica of `name` starts in `slot`,
    /// whatever brought him there.
    pub(super) fn is_contested(&self, release: &Release, name: &ServiceName, slot: u32) -> bool {
        let going_back = self
            .desired
            .rollout
            .as_ref()
            .is_some_and(|rollout| matches!(rollout.phase, RolloutPhase::RollingBack { .. }));
        let found = &self.desired.databases;
        let strategy = match going_back {
            true => release.strategy_back(name, found),
            false => release.strategy(name, found).0,
        };
        let digest = release.services[name].digest();
        let same_slot = |replica: &Replica| {
            matches!(&replica.role, Role::Replica { digest: other, slot: taken }
                if &replica.service == name && other != digest && *taken <= slot)
        };
        strategy == Strategy::StopFirst
            && self.observed.replicas.iter().any(|replica| {
                replica.state.is_live()
                    && (same_slot(replica) || self.is_rival(release, name, replica))
            })
    }

    /// The same for those in slots below `slots`.
    pub(super) fn end_slots(
        &mut self,
        name: &ServiceName,
        digest: &ServiceDigest,
        slots: u32,
    ) -> bool {
        let observed = self.observed;
        let mut any = false;
        for replica in observed.replicas.iter().filter(|r| &r.service == name) {
            let Role::Replica {
                digest: other,
                slot,
            } = &replica.role
            else {
                continue;
            };
            if other == digest || *slot >= slots {
                continue;
            }
            any = true;
            self.draining.insert(replica.id.clone());
            self.retire(replica);
        }
        any
    }

    /// Drains, ends and removes what `keep` has no place for; returns how many are left.
    pub(super) fn retire_others(&mut self, keep: Option<&Release>) -> usize {
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
    pub(super) fn retire(&mut self, replica: &Replica) {
        let id = &replica.id;
        self.is_retiring = true;
        if self.has_a_step(id) {
            return;
        }
        if !replica.state.is_live() {
            self.actions.push(Action::Remove { id: id.clone() });
        } else if replica.state.can_be_stopped()
            && !self.retire_joined(replica)
            && self.is_drained(replica)
        {
            self.actions.push(Action::Stop {
                id: id.clone(),
                within: None,
            });
        }
    }

    /// Whether this decision takes a step with the replica already.
    pub(super) fn has_a_step(&self, id: &ReplicaId) -> bool {
        self.actions.iter().any(|action| action.id() == id)
    }

    /// Whether nobody can be hurt by this replica's end. While nothing is known of the edge it may
    /// still send requests to the replica, however long ago it was to cease.
    fn is_drained(&self, replica: &Replica) -> bool {
        let id = &replica.id;
        let Some(edge) = &self.observed.edge else {
            return false;
        };
        let out_for = self
            .observed
            .unrouted_since
            .get(id)
            .map(|since| elapsed(*since, self.now));
        if out_for.is_some_and(|time| time >= self.drain_timeout()) {
            return true;
        }
        !edge.serving.contains(id)
            && edge.in_flight.get(id).copied().unwrap_or(0) == 0
            && (self.is_a_worker(replica)
                || out_for.is_none_or(|time| time >= self.policy.min_drain))
    }

    /// Whether its name is nobody's to ask for.
    fn is_a_worker(&self, replica: &Replica) -> bool {
        self.made_by(replica)
            .is_some_and(|release| release.is_worker(&replica.service))
    }

    /// The newest release says how long its predecessors may take.
    fn drain_timeout(&self) -> std::time::Duration {
        let rollout = self.desired.rollout.as_ref();
        let number = rollout.map(|rollout| rollout.to).or(self.desired.current);
        self.release(number)
            .map(|(_, release)| release.rollout.drain_timeout)
            .unwrap_or_else(|| havre_model::RolloutSettings::default().drain_timeout)
    }
}
