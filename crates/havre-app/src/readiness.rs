//! Whether replicas are ready: from what the engine sees to what the planner needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use havre_engine::{Health, HealthStatus, Observed as Container, State};
use havre_model::Protocol;
use havre_release::{FailedProbe, Replica, ReplicaId, ReplicaState, Role};

use crate::machine::Machine;
use crate::observe::{ObservedContainer, exit_info};

/// A replica without a health check and without a port to try counts as ready after this time.
const SETTLE: Duration = Duration::from_secs(1);

/// Judges replicas; remembers only what may be forgotten with the daemon.
#[derive(Debug, Default)]
pub(crate) struct ReadinessTracker {
    /// Replicas without a health check that have shown that they answer.
    proven: BTreeSet<ReplicaId>,
    /// When a replica was first seen unable to start.
    stuck: BTreeMap<ReplicaId, SystemTime>,
    /// Replicas that were told to stop.
    stopping: BTreeSet<ReplicaId>,
    /// When a process was first seen to run, by the caller's clock, and when it started by the
    /// wall clock, which tells one process of a replica from the next.
    running: BTreeMap<ReplicaId, (SystemTime, SystemTime)>,
    /// Replicas that were seen before they were ready.
    starting: BTreeSet<ReplicaId>,
    /// How long the process of a replica took to be ready.
    ready_after: BTreeMap<ReplicaId, Duration>,
    /// Rounds so far.
    rounds: u64,
}

impl ReadinessTracker {
    /// Notes that a replica was told to stop.
    pub(crate) fn note_stop(&mut self, id: &ReplicaId) {
        self.stopping.insert(id.clone());
    }

    /// Begins a round: forgets replicas that are gone.
    pub(crate) fn begin_round(&mut self, seen: &[ObservedContainer]) {
        self.rounds += 1;
        let ids: BTreeSet<ReplicaId> = seen.iter().map(ObservedContainer::id).collect();
        self.proven.retain(|id| ids.contains(id));
        self.stuck.retain(|id, _| ids.contains(id));
        self.stopping.retain(|id| ids.contains(id));
        self.running.retain(|id, _| ids.contains(id));
        self.starting.retain(|id| ids.contains(id));
        self.ready_after.retain(|id, _| ids.contains(id));
    }

    /// The planner's view of one container. `ports`: what routes lead to.
    pub(crate) async fn assess(
        &mut self,
        seen: &ObservedContainer,
        ports: &BTreeSet<(Protocol, u16)>,
        machine: &impl Machine,
        now: SystemTime,
    ) -> Replica {
        let id = seen.id();
        let state = match &seen.container.state {
            State::Creating => ReplicaState::Starting { since: now },
            State::Failed { reason } => {
                let since = Some(*self.stuck.entry(id.clone()).or_insert(now));
                ReplicaState::CannotStart {
                    reason: reason.clone(),
                    since,
                }
            }
            State::Running { .. } if self.stopping.contains(&id) => ReplicaState::Stopping,
            State::Running { started_at, .. } => {
                let since = self.since(&id, *started_at, now);
                let probe = (ports, machine);
                self.assess_running(&id, seen, probe, since, now).await
            }
            State::BackOff { .. } => ReplicaState::Restarting {
                exit: exit_info(seen.container.last_exit.as_ref()),
                restarts: seen.container.restarts,
            },
            State::Exited => ReplicaState::Ended {
                exit: exit_info(seen.container.last_exit.as_ref()),
            },
            State::Lost => ReplicaState::Lost,
        };
        self.measure(&id, &state, now);
        Replica {
            ready_after: self.ready_after.get(&id).copied(),
            id,
            service: seen.place.service.clone(),
            role: seen.place.role.clone(),
            state,
            restarts: seen.container.restarts,
            last_exit: seen
                .container
                .last_exit
                .as_ref()
                .map(|exit| exit_info(Some(exit))),
            start: seen.place.start.clone(),
            joined: seen.place.joined.clone(),
            contents: seen.contents(),
        }
    }

    /// Since when the process of a replica runs that was judged before.
    pub(crate) fn runs_since(&self, id: &ReplicaId) -> Option<SystemTime> {
        self.running.get(id).map(|(seen, _)| *seen)
    }

    /// Notes how long a process took to be ready that was seen before it was.
    fn measure(&mut self, id: &ReplicaId, state: &ReplicaState, now: SystemTime) {
        match state {
            ReplicaState::Starting { .. } => {
                self.starting.insert(id.clone());
            }
            ReplicaState::Ready if self.starting.remove(id) => {
                let since = self.runs_since(id);
                let took = since.and_then(|since| now.duration_since(since).ok());
                self.ready_after.extend(took.map(|took| (id.clone(), took)));
            }
            ReplicaState::Creating | ReplicaState::Ready => {}
            // What ended, or became unhealthy, is not what a start is.
            ReplicaState::Unhealthy { .. }
            | ReplicaState::Restarting { .. }
            | ReplicaState::CannotStart { .. }
            | ReplicaState::Stopping
            | ReplicaState::Ended { .. }
            | ReplicaState::Interrupted
            | ReplicaState::Lost => {
                self.starting.remove(id);
            }
        }
    }

    /// Since when this process runs, by the clock of `now`.
    fn since(&mut self, id: &ReplicaId, started_at: SystemTime, now: SystemTime) -> SystemTime {
        match self.running.get(id) {
            Some((seen, of)) if *of == started_at => *seen,
            Some(_) | None => {
                // What runs already when the daemon begins has run since it started.
                let seen = if self.rounds <= 1 {
                    started_at.min(now)
                } else {
                    now
                };
                self.running.insert(id.clone(), (seen, started_at));
                // The process before this one has shown it, not this one.
                self.proven.remove(id);
                seen
            }
        }
    }

    async fn assess_running(
        &mut self,
        id: &ReplicaId,
        seen: &ObservedContainer,
        (ports, machine): (&BTreeSet<(Protocol, u16)>, &impl Machine),
        since: SystemTime,
        now: SystemTime,
    ) -> ReplicaState {
        let starting = ReplicaState::Starting { since };
        if matches!(seen.place.role, Role::Job { .. }) {
            return starting;
        }
        let failing = |health: &Option<Health>| {
            let health = health.as_ref()?;
            let output = || Some(health.last.as_ref()?.output.clone());
            (health.status == HealthStatus::Unhealthy).then(|| output().unwrap_or_default())
        };
        let Container {
            health, liveness, ..
        } = &seen.container;
        if let Some(probe) = failing(liveness) {
            let failed = FailedProbe::Liveness;
            return ReplicaState::Unhealthy { failed, probe };
        }
        if let Some(probe) = failing(health) {
            let failed = match liveness {
                Some(_) => FailedProbe::HealthOnly,
                None => FailedProbe::Health,
            };
            return ReplicaState::Unhealthy { failed, probe };
        }
        match health {
            Some(Health { status, .. }) => match status {
                HealthStatus::Healthy => ReplicaState::Ready,
                HealthStatus::Starting | HealthStatus::Unhealthy => starting,
            },
            None if self.proven.contains(id) => ReplicaState::Ready,
            None => {
                let settled = now.duration_since(since).unwrap_or_default() >= SETTLE;
                if !settled || !machine.accepts(seen.place.address(), ports).await {
                    return starting;
                }
                self.proven.insert(id.clone());
                ReplicaState::Ready
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_makes_no_process_older_or_younger() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let id = |name: &str| ReplicaId(name.to_owned());
        let mut readiness = ReadinessTracker::default();
        readiness.begin_round(&[]);
        assert_eq!(readiness.since(&id("adopted"), at(500), at(1000)), at(500));
        assert_eq!(readiness.since(&id("ahead"), at(9000), at(1000)), at(1000));
        readiness.rounds += 1;
        // The wall clock was set back, or forth, after the daemon began.
        assert_eq!(readiness.since(&id("back"), at(10), at(1001)), at(1001));
        assert_eq!(readiness.since(&id("forth"), at(9000), at(1002)), at(1002));
        assert_eq!(readiness.since(&id("back"), at(10), at(1005)), at(1001));
        // Another process of the same replica.
        assert_eq!(readiness.since(&id("back"), at(12), at(1006)), at(1006));
        assert_eq!(readiness.runs_since(&id("back")), Some(at(1006)));
    }

    #[test]
    fn a_start_is_measured_when_it_was_seen_from_its_beginning() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let id = ReplicaId("web".to_owned());
        let took =
            |readiness: &ReadinessTracker| readiness.ready_after.get(&id).map(Duration::as_secs);
        let mut readiness = ReadinessTracker {
            rounds: 2,
            ..ReadinessTracker::default()
        };
        // One that an earlier daemon has started.
        readiness.measure(&id, &ReplicaState::Ready, at(90));
        assert_eq!(took(&readiness), None);
        let since = readiness.since(&id, at(100), at(100));
        readiness.measure(&id, &ReplicaState::Starting { since }, at(100));
        readiness.measure(&id, &ReplicaState::Ready, at(131));
        readiness.measure(&id, &ReplicaState::Ready, at(150));
        assert_eq!(took(&readiness), Some(31));
    }
}
