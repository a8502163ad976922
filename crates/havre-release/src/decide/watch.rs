//! A release that has requests: it is watched beside the one before, which waits to take them back.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use havre_model::{RolloutSettings, RolloutStrategy, ServiceName};

use super::{Pass, elapsed};
use crate::analysis;
use crate::{
    Desired, Failure, FailureKind, Mark, Release, Replica, ReplicaId, Role, Rollout, RolloutPhase,
    Traffic,
};

/// Compares what was with what is.
type Comparison = fn(&Traffic, &Traffic, &RolloutSettings) -> Option<FailureKind>;

/// Fewer requests than this while the new replicas came up are no measure of what was before;
/// then all that their replicas have answered is.
const LEAST_BEFORE: u64 = 50;

impl<'a> Pass<'a> {
    /// A share of the visitors is served by the new replicas.
    pub(super) fn try_on_some(
        &mut self,
        rollout: &Rollout,
        step: u32,
        since: SystemTime,
    ) -> Desired {
        let settings = self.release(Some(rollout.to)).map(|(_, to)| &to.rollout);
        let (steps, time) = match settings.map(|settings| &settings.strategy) {
            Some(RolloutStrategy::Canary { steps, step }) => (steps.len(), *step),
            // A release with another strategy under the same number cannot be; should it, go on.
            Some(RolloutStrategy::BlueGreen) | None => (0, Duration::ZERO),
        };
        let (mut rollout, release) = match self.watch(rollout, since, time) {
            Ok(watched) => watched,
            Err(decided) => return *decided,
        };
        self.keep_old_up(&rollout);
        if elapsed(since, self.now) >= time && self.is_watched() {
            rollout.warm = None;
            let since = self.now;
            let last = (step as usize).saturating_add(1) >= steps;
            rollout.phase = match last {
                false => RolloutPhase::Canary {
                    step: step + 1,
                    since,
                },
                true if release.rollout.bake.is_zero()
                    && !self.moves_contents(&rollout, release) =>
                {
                    RolloutPhase::Finishing { since }
                }
                true => RolloutPhase::Baking { since },
            };
            if last {
                rollout.marks = None;
            }
        }
        self.with(rollout)
    }

    /// All requests go to the new replicas.
    pub(super) fn bake(&mut self, rollout: &Rollout, since: SystemTime) -> Desired {
        let settings = self.release(Some(rollout.to)).map(|(_, to)| &to.rollout);
        let time = match rollout.skip_analysis {
            // It is here for the contents of its secrets alone.
            true => Duration::ZERO,
            false => settings.map_or(Duration::ZERO, |settings| settings.bake),
        };
        let (mut rollout, release) = match self.watch(rollout, since, time) {
            Ok(watched) => watched,
            Err(decided) => return *decided,
        };
        if let Some(failure) = self.failed_reload(release) {
            return self.with(self.fail(rollout, release, failure));
        }
        self.retire_unrouted(&rollout, release);
        let is_over = elapsed(since, self.now) >= time && self.is_watched();
        if is_over && self.knows_contents(release) {
            rollout.phase = RolloutPhase::Finishing { since: self.now };
            rollout.marks = None;
            rollout.warm = None;
        }
        self.with(rollout)
    }

    /// Whether somebody tells what becomes of its requests: without that no time makes it good, and the
    /// way back stays open.
    fn is_watched(&self) -> bool {
        let begun = self.desired.rollout.as_ref();
        self.observed.edge.is_some() && begun.is_some_and(|rollout| rollout.marks.is_some())
    }

    /// Looks at a release that has requests for `time` and keeps it up; an error is what follows
    /// from its failure.
    fn watch(
        &mut self,
        rollout: &Rollout,
        since: SystemTime,
        time: Duration,
    ) -> Result<(Rollout, &'a Release), Box<Desired>> {
        let mut rollout = rollout.clone();
        let Some((number, release)) = self.release(Some(rollout.to)) else {
            return Err(Box::new(self.desired.clone()));
        };
        self.mark(&mut rollout);
        let watched_for = elapsed(since, self.now);
        if watched_for >= time / 2 && rollout.warm.is_none() {
            rollout.warm = self.marks();
        }
        let failure = self
            .failure_of_watched(&rollout, release)
            .or_else(|| self.failure_by_count(&rollout, release, watched_for >= time));
        if let Some(failure) = failure {
            return Err(Box::new(self.with(self.fail(rollout, release, failure))));
        }
        self.keep_all_up(number, release);
        Ok((rollout, release))
    }

    /// Old replicas that the edge could not lead back to need not wait: two workers are one too
    /// many.
    pub(super) fn retire_unrouted(&mut self, rollout: &Rollout, release: &Release) {
        let old = self.release(rollout.from).map(|(_, old)| old);
        let observed = self.observed;
        for replica in &observed.replicas {
            let waits = old.is_some_and(|old| {
                self.has_place(old, replica) && !old.edge_ports(&replica.service).is_empty()
            });
            match (self.has_place(release, replica), waits) {
                (true, _) => {}
                (false, true) => {
                    self.reserve.insert(replica.id.clone());
                }
                (false, false) => self.retire(replica),
            }
        }
    }

    /// Whether a service does worse than before, by what the edge has counted: errors at any time,
    /// latency when the time is `over` and of its second half.
    fn failure_by_count(
        &self,
        rollout: &Rollout,
        release: &Release,
        over: bool,
    ) -> Option<Failure> {
        let settings = &release.rollout;
        let blame = |marks: &BTreeMap<ReplicaId, Mark>, judge: Comparison| {
            let counted = self.counted(marks, |replica| self.has_place(release, replica));
            counted.iter().find_map(|(service, now)| {
                let before = rollout.before.get(service).cloned().unwrap_or_default();
                Some(Failure {
                    service: service.clone(),
                    replica: None,
                    kind: judge(&before, now, settings)?,
                })
            })
        };
        let by_errors = blame(rollout.marks.as_ref()?, analysis::errors);
        by_errors.or_else(|| blame(rollout.warm.as_ref().filter(|_| over)?, analysis::latency))
    }

    /// Remembers where counters stand, once per phase and only when the edge tells them.
    pub(super) fn mark(&self, rollout: &mut Rollout) {
        let Some(edge) = &self.observed.edge else {
            return;
        };
        rollout.total.get_or_insert_with(|| edge.total.clone());
        if rollout.marks.is_none() {
            rollout.marks = self.marks();
        }
    }

    /// Where counters stand now; `None` while the edge does not tell.
    fn marks(&self) -> Option<BTreeMap<ReplicaId, Mark>> {
        let edge = self.observed.edge.as_ref()?;
        let marks = self.observed.replicas.iter().map(|replica| {
            let traffic = edge.traffic.get(&replica.id).cloned().unwrap_or_default();
            let mark = Mark {
                traffic,
                restarts: replica.restarts,
            };
            (replica.id.clone(), mark)
        });
        Some(marks.collect())
    }

    /// What was counted of each service of the release before.
    pub(super) fn counted_before(&self, rollout: &Rollout) -> BTreeMap<ServiceName, Traffic> {
        let Some((_, old)) = self.release(rollout.from) else {
            return BTreeMap::new();
        };
        let old_ones = |replica: &Replica| self.has_place(old, replica);
        let none = BTreeMap::new();
        let mut counted = self.counted(rollout.marks.as_ref().unwrap_or(&none), old_ones);
        let ever = self.counted(&none, old_ones);
        for (service, traffic) in &mut counted {
            if traffic.ended() < LEAST_BEFORE
                && let Some(all) = ever.get(service)
            {
                traffic.clone_from(all);
            }
        }
        counted
    }

    /// Traffic by service since `marks`, of the replicas that `of` names.
    fn counted(
        &self,
        marks: &BTreeMap<ReplicaId, Mark>,
        of: impl Fn(&Replica) -> bool,
    ) -> BTreeMap<ServiceName, Traffic> {
        let mut by_service: BTreeMap<ServiceName, Traffic> = BTreeMap::new();
        let Some(edge) = &self.observed.edge else {
            return by_service;
        };
        for replica in self
            .observed
            .replicas
            .iter()
            .filter(|replica| matches!(replica.role, Role::Replica { .. }) && of(replica))
        {
            let Some(traffic) = edge.traffic.get(&replica.id) else {
                continue;
            };
            let new = match marks.get(&replica.id) {
                Some(mark) => traffic.since(&mark.traffic),
                None => traffic.clone(),
            };
            by_service
                .entry(replica.service.clone())
                .or_default()
                .add(&new);
        }
        by_service
    }
}
