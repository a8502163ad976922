//! What happened between two snapshots, as events for those who watch an operation. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use havre_api::{Event, HealthState, JobProgress, OperationPhase, ServiceProgress};
use havre_release::{Desired, Replica, ReplicaId, ReplicaState, Role, RolloutPhase, TargetStatus};

use crate::clock::elapsed_ms;
use crate::output;

/// Tells an operation's watcher what happens.
#[derive(Debug, Default)]
pub(crate) struct EventDiff {
    /// When jobs were first seen.
    jobs: BTreeMap<ReplicaId, SystemTime>,
}

impl EventDiff {
    /// Events that tell how `next` differs from `before`.
    pub(crate) fn events(&mut self, before: &TargetStatus, next: &TargetStatus) -> Vec<Event> {
        for replica in &next.observed.replicas {
            if matches!(replica.role, Role::Job { .. }) {
                self.jobs
                    .entry(replica.id.clone())
                    .or_insert_with(SystemTime::now);
            }
        }
        events(before, next, &self.jobs)
    }
}

fn events(
    before: &TargetStatus,
    next: &TargetStatus,
    jobs: &BTreeMap<ReplicaId, SystemTime>,
) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(phase) = entered(&before.desired, &next.desired) {
        events.push(Event::Phase { phase });
    }
    for (service, dependency) in &next.waiting {
        if before.waiting.get(service) != Some(dependency) {
            let progress = ServiceProgress::Waiting {
                dependency: dependency.clone(),
            };
            events.push(Event::Service {
                service: service.clone(),
                progress,
            });
        }
    }
    for replica in &next.observed.replicas {
        let was = before
            .observed
            .replicas
            .iter()
            .find(|other| other.id == replica.id);
        match &replica.role {
            Role::Replica { .. } => replica_events(was, replica, next, &mut events),
            Role::Job { .. } => job_events(was, replica, next, jobs, &mut events),
        }
    }
    for replica in &before.observed.replicas {
        let gone = !next
            .observed
            .replicas
            .iter()
            .any(|other| other.id == replica.id);
        if gone && matches!(replica.role, Role::Replica { .. }) {
            let progress = ServiceProgress::Stopped {
                replica: replica.id.to_string(),
            };
            events.push(Event::Service {
                service: replica.service.clone(),
                progress,
            });
        }
    }
    drained_events(before, next, &mut events);
    events
}

fn entered(before: &Desired, next: &Desired) -> Option<OperationPhase> {
    let name = |desired: &Desired| {
        desired.rollout.as_ref().map(|rollout| match rollout.phase {
            _ if rollout.pause.is_some() => OperationPhase::Pause,
            RolloutPhase::Preparing => OperationPhase::Rollout,
            RolloutPhase::Canary { .. } => OperationPhase::Canary,
            RolloutPhase::Baking { .. } => OperationPhase::Bake,
            RolloutPhase::Finishing { .. } => OperationPhase::CleanUp,
            RolloutPhase::RollingBack { .. } => OperationPhase::RollBack,
        })
    };
    let next = name(next)?;
    (name(before) != Some(next)).then_some(next)
}

fn replica_events(
    was: Option<&Replica>,
    replica: &Replica,
    next: &TargetStatus,
    events: &mut Vec<Event>,
) {
    let id = replica.id.to_string();
    let mut say = |progress| {
        events.push(Event::Service {
            service: replica.service.clone(),
            progress,
        });
    };
    if was.is_none() {
        say(ServiceProgress::Starting {
            replica: id.clone(),
        });
    }
    let ready = |state: &ReplicaState| matches!(state, ReplicaState::Ready);
    match &replica.state {
        ReplicaState::Ready if !was.is_some_and(|was| ready(&was.state)) => {
            let (ready, wanted) = count(replica, next);
            say(ServiceProgress::Ready { replica: id, ready, wanted });
        }
        ReplicaState::Unhealthy { probe, .. }
            if !was.is_some_and(|was| matches!(was.state, ReplicaState::Unhealthy { .. })) =>
        {
            let said = output::without_progress(probe);
            let detail = said.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
            say(ServiceProgress::Health { replica: id, health: HealthState::Unhealthy, detail });
        }
        ReplicaState::Stopping
            if !was.is_some_and(|was| matches!(was.state, ReplicaState::Stopping)) =>
        {
            say(ServiceProgress::Stopping { replica: id });
        }
        ReplicaState::Restarting { exit, restarts }
            if was.is_some_and(|was| {
                !matches!(&was.state, ReplicaState::Restarting { restarts: r, .. } if r == restarts)
            }) =>
        {
            events.push(Event::Warning {
                message: format!("a replica of {} ended with exit code {} and is started again", replica.service, exit.code),
                hint: None,
            });
        }
        ReplicaState::Ready
        | ReplicaState::Unhealthy { .. }
        | ReplicaState::Stopping
        | ReplicaState::Restarting { .. }
        | ReplicaState::Creating
        | ReplicaState::Starting { .. }
        | ReplicaState::CannotStart { .. }
        | ReplicaState::Ended { .. }
        | ReplicaState::Interrupted
            | ReplicaState::Lost => {}
    }
}

/// Ready and wanted replicas of this one's configuration.
fn count(replica: &Replica, snapshot: &TargetStatus) -> (u32, u32) {
    let same = |other: &&Replica| match (&other.role, &replica.role) {
        (Role::Replica { digest: a, .. }, Role::Replica { digest: b, .. }) => {
            other.service == replica.service && a == b
        }
        (Role::Job { .. }, _) | (_, Role::Job { .. }) => false,
    };
    let ready = snapshot
        .observed
        .replicas
        .iter()
        .filter(same)
        .filter(|other| matches!(other.state, ReplicaState::Ready))
        .count();
    let wanted = snapshot
        .target()
        .and_then(|release| release.services.get(&replica.service))
        .map_or(0, |service| {
            snapshot
                .desired
                .replicas(&replica.service, service.service.replicas)
        });
    (u32::try_from(ready).unwrap_or(u32::MAX), wanted)
}

fn job_events(
    was: Option<&Replica>,
    job: &Replica,
    next: &TargetStatus,
    jobs: &BTreeMap<ReplicaId, SystemTime>,
    events: &mut Vec<Event>,
) {
    let Role::Job { job: id, .. } = &job.role else {
        return;
    };
    let mut say = |progress| {
        events.push(Event::Job {
            service: job.service.clone(),
            progress,
        })
    };
    if was.is_none() {
        let command = next
            .target()
            .and_then(|release| release.services.get(&job.service))
            .and_then(|service| match id.hook {
                Some(index) => service
                    .service
                    .pre_start
                    .get(index as usize)
                    .map(|hook| hook.command.clone()),
                None => service.service.command.clone(),
            })
            .unwrap_or_default();
        say(JobProgress::Started { command });
    }
    let done =
        |state: &ReplicaState| matches!(state, ReplicaState::Ended { exit } if exit.code == 0);
    if done(&job.state) && !was.is_some_and(|was| done(&was.state)) {
        let elapsed_ms = jobs.get(&job.id).map_or(0, |since| elapsed_ms(*since));
        say(JobProgress::Done { elapsed_ms });
    }
}

/// Replicas that ceased to be named but still answer what they had begun.
fn drained_events(before: &TargetStatus, next: &TargetStatus, events: &mut Vec<Event>) {
    let known = |snapshot: &TargetStatus| -> BTreeSet<ReplicaId> {
        snapshot.observed.unrouted_since.keys().cloned().collect()
    };
    for id in known(next).difference(&known(before)) {
        let Some(replica) = next.observed.replicas.iter().find(|other| &other.id == id) else {
            continue;
        };
        // While none was ready all were named; those that are not ready yet have nothing to drain.
        if matches!(
            replica.state,
            ReplicaState::Creating | ReplicaState::Starting { .. }
        ) {
            continue;
        }
        let in_flight = next
            .observed
            .edge
            .as_ref()
            .and_then(|edge| edge.in_flight.get(id))
            .copied();
        let progress = ServiceProgress::Draining {
            replica: id.to_string(),
            in_flight: in_flight.unwrap_or(0),
        };
        events.push(Event::Service {
            service: replica.service.clone(),
            progress,
        });
    }
}
