//! A release on its way in: its jobs run, its replicas come up beside the old ones or in their
//! place, all together or group by group.

use std::collections::{BTreeMap, BTreeSet};

use havre_model::{OnFailure, RolloutStrategy, ServiceName};

use super::{Action, Jobs, Pass, elapsed};
use crate::ids::job_id;
use crate::{
    Desired, Failure, Group, JobId, Pause, Release, ReplicaState, Role, Rollout, RolloutPhase,
    Strategy, dependency_order,
};

impl Pass<'_> {
    /// Runs jobs and brings new replicas up until all are ready, or one shows that they will not
    /// be.
    pub(super) fn prepare(&mut self, rollout: &Rollout) -> Desired {
        let mut rollout = rollout.clone();
        let Some((number, release)) = self.release(Some(rollout.to)) else {
            return self.desired.clone();
        };
        self.note_finished_jobs(&mut rollout);
        self.mark(&mut rollout);
        if let Some(failure) = self.first_failure(&rollout, release) {
            return self.with(self.fail(rollout, release, failure));
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
                all_up &= self.prepare_service(number, release, name, &mut rollout);
            }
        }
        self.keep_old_up(&rollout);
        self.clear_abandoned(&rollout, release);
        if all_up {
            self.shift(&mut rollout, release);
        }
        let old = self.release(rollout.from);
        let heals = old.map_or_else(BTreeMap::new, |(_, old)| self.heal(old));
        Desired {
            heals,
            ..self.with(rollout)
        }
    }

    /// All is ready: the way of the requests begins to change.
    fn shift(&self, rollout: &mut Rollout, release: &Release) {
        let settings = &release.rollout;
        let since = self.now;
        let watched = rollout.from.is_some() && !rollout.skip_analysis;
        let routed = !release.routes.is_empty();
        rollout.before = self.counted_before(rollout);
        rollout.marks = None;
        rollout.warm = None;
        rollout.shifted_at.get_or_insert(since);
        rollout.phase = match settings.strategy {
            RolloutStrategy::Canary { .. } if watched && routed => {
                RolloutPhase::Canary { step: 0, since }
            }
            RolloutStrategy::Canary { .. } | RolloutStrategy::BlueGreen
                if watched && !settings.bake.is_zero() =>
            {
                RolloutPhase::Baking { since }
            }
            RolloutStrategy::Canary { .. } | RolloutStrategy::BlueGreen
                if self.moves_contents(rollout, release) =>
            {
                RolloutPhase::Baking { since }
            }
            RolloutStrategy::Canary { .. } | RolloutStrategy::BlueGreen => {
                RolloutPhase::Finishing { since }
            }
        };
    }

    /// What becomes of a rollout that fails: it goes back, or stands still where that was asked
    /// for and there is something that serves meanwhile.
    pub(super) fn fail(
        &self,
        mut rollout: Rollout,
        release: &Release,
        failure: Failure,
    ) -> Rollout {
        let since = self.now;
        match release.rollout.on_failure {
            OnFailure::Pause if rollout.from.is_some() => {
                rollout.pause = Some(Pause {
                    since,
                    failure: Some(failure),
                });
            }
            OnFailure::Pause | OnFailure::Rollback => {
                rollout.phase = RolloutPhase::RollingBack { failure, since };
            }
        }
        rollout
    }

    /// What is desired, with this rollout.
    pub(super) fn with(&self, rollout: Rollout) -> Desired {
        Desired {
            rollout: Some(rollout),
            ..self.desired.clone()
        }
    }

    /// Returns whether the service is ready for traffic.
    fn prepare_service(
        &mut self,
        number: u64,
        release: &Release,
        name: &ServiceName,
        rollout: &mut Rollout,
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
            let stop_first =
                release.strategy(name, &self.desired.databases).0 == Strategy::StopFirst;
            let wanted = self.wanted(release, name);
            if stop_first && self.has_to_make_place(release, name) {
                if !self.early_jobs_are_done(rollout, release) {
                    return false;
                }
                if self.end_rivals(release, name) {
                    return false;
                }
            }
            let at_a_time = service.service.update.parallelism.unwrap_or(wanted);
            if at_a_time < wanted && self.old_digest(name).is_some() {
                return self.replace_group(number, release, name, at_a_time, rollout);
            }
            if stop_first && self.make_place(release, name) {
                return false;
            }
        }
        self.keep_up(number, release, name, Jobs::Now(rollout));
        let unchanged = self.old_digest(name) == Some(digest);
        // What had given up before is not this release's to wait for.
        (0..self.wanted(release, name)).all(|slot| {
            self.slot_is_up(name, service, slot)
                || (unchanged && self.slot_has_given_up(name, service, slot))
        })
    }

    /// Whether all jobs are done that can run before anything ends for this release: one that fails
    /// must cost nobody's worker. Not among them are those of services that need one whose
    /// predecessor has to end.
    fn early_jobs_are_done(&self, rollout: &Rollout, release: &Release) -> bool {
        let lasting: BTreeSet<&ServiceName> = release.lasting().map(|(name, _)| name).collect();
        let late: BTreeSet<&ServiceName> = lasting
            .iter()
            .copied()
            .filter(|name| self.has_to_make_place(release, name))
            .collect();
        let runs = |job: &JobId| match job.hook {
            None => true,
            // A service that is what it was has no steps to take.
            Some(_) => {
                let digest = release.services.get(&job.service).map(|one| one.digest());
                lasting.contains(&job.service) && self.old_digest(&job.service) != digest
            }
        };
        let jobs = release.all_jobs();
        jobs.iter()
            .filter(|job| runs(job) && !release.needs_any(&job.service, &late))
            .all(|job| rollout.jobs_done.contains(job))
    }

    /// Replaces so many replicas of a service at a time; returns whether all are. Start-first, a
    /// group runs beside the old replicas and then takes the place of as many; stop-first, as many
    /// of the old ones make place for it.
    fn replace_group(
        &mut self,
        number: u64,
        release: &Release,
        name: &ServiceName,
        at_a_time: u32,
        rollout: &mut Rollout,
    ) -> bool {
        let service = &release.services[name];
        let wanted = self.wanted(release, name);
        let mut group = rollout.groups.get(name).cloned().unwrap_or(Group {
            slots: at_a_time,
            ready_at: None,
        });
        let stop_first = release.strategy(name, &self.desired.databases).0 == Strategy::StopFirst;
        let gone = match (stop_first, group.ready_at) {
            (true, _) | (false, Some(_)) => group.slots,
            (false, None) => group.slots.saturating_sub(at_a_time),
        };
        // Replicas beyond those wanted now have no successor to wait for.
        let gone = if gone >= wanted { u32::MAX } else { gone };
        let draining = self.end_slots(name, service.digest(), gone);
        let delay = service.service.update.delay.unwrap_or_default();
        let rested = group
            .ready_at
            .is_some_and(|at| elapsed(at, self.now) >= delay);
        if rested && !draining && group.slots < wanted {
            group = Group {
                slots: group.slots.saturating_add(at_a_time).min(wanted),
                ready_at: None,
            };
            rollout.groups.insert(name.clone(), group);
            return false;
        }
        if !(stop_first && draining) {
            self.keep_slots_up(number, release, name, Jobs::Now(rollout), group.slots);
        }
        let up = (0..group.slots).all(|slot| self.slot_is_up(name, service, slot));
        if up && group.ready_at.is_none() {
            group.ready_at = Some(self.now);
            rollout.shifted_at.get_or_insert(self.now);
        }
        let done = up && group.slots >= wanted && group.ready_at.is_some() && !draining;
        rollout.groups.insert(name.clone(), group);
        done
    }

    /// Ends replicas of neither release: an earlier rollout was given up for this one.
    fn clear_abandoned(&mut self, rollout: &Rollout, to: &Release) {
        let old = self.release(rollout.from).map(|(_, release)| release);
        let observed = self.observed;
        for replica in &observed.replicas {
            let kept = match &replica.role {
                Role::Replica { .. } => {
                    self.has_place(to, replica)
                        || old.is_some_and(|old| {
                            self.has_place(old, replica) || self.is_stand_in(old, replica)
                        })
                }
                Role::Job { release, .. } => *release == rollout.to,
            };
            if !kept {
                self.draining.insert(replica.id.clone());
                self.retire(replica);
            }
        }
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
        let observed = self.observed.replicas.iter().find(|replica| {
            matches!(&replica.role, Role::Job { job: other, release }
                if *other == job && *release == rollout.to)
        });
        match (observed, done) {
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
                if !self.another_runs(rollout, name)
                    && self.dependencies_hold(release, name, Jobs::Now(rollout))
                    && let Some(joins) = self.joins(release, name, 0)
                {
                    let id = job_id(self.environment, &job, rollout.to);
                    self.actions.push(Action::RunJob {
                        id,
                        job,
                        release: rollout.to,
                        joins,
                    });
                }
            }
        }
        done
    }

    /// Whether a job of this service is still at it for a release that was given up for this one: two
    /// migrations at once could change the same tables.
    fn another_runs(&self, rollout: &Rollout, name: &ServiceName) -> bool {
        self.observed.replicas.iter().any(|replica| {
            matches!(&replica.role, Role::Job { release, .. } if *release != rollout.to)
                && &replica.service == name
                && replica.state.is_live()
        })
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
}
