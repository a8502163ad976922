//! Who answers for each service.

use std::collections::{BTreeMap, BTreeSet};

use havre_model::ServiceName;

use crate::{Desired, Intent, Observed, Phase, Release, Replica, ReplicaId, ReplicaState, Role};

/// Who answers in an environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// By service.
    pub services: BTreeMap<ServiceName, ServiceRouting>,
}

/// Who answers for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRouting {
    /// Replicas that get requests from the edge.
    pub serving: Vec<ReplicaId>,
    /// Replicas that its name stands for inside the environment: those that serve, else all that
    /// run.
    pub named: Vec<ReplicaId>,
    /// Why nobody serves.
    pub reason: Option<String>,
}

/// Decides who answers for each service; never one that is `leaving`.
pub fn routing(
    desired: &Desired,
    releases: &BTreeMap<u64, Release>,
    observed: &Observed,
    leaving: &BTreeSet<ReplicaId>,
) -> Routing {
    let mut services = BTreeMap::new();
    // The release in force, then the other one: a service that only the second has, or whose
    // replicas of the first are gone already, is answered for by the second. On the way back
    // nobody answers for what is to go.
    let (first, second) = match &desired.rollout {
        None => (desired.current, None),
        Some(rollout) => match rollout.phase {
            Phase::Preparing => (rollout.from, Some(rollout.to)),
            Phase::GoingBack { .. } => (rollout.from, None),
            Phase::Shifted { .. } => (Some(rollout.to), rollout.from),
        },
    };
    for number in [first, second].into_iter().flatten() {
        let Some(release) = releases.get(&number) else {
            continue;
        };
        for (name, service) in &release.services {
            let entry: &mut ServiceRouting = services.entry(name.clone()).or_default();
            if !entry.named.is_empty() {
                continue;
            }
            let digest = service.digest();
            let wanted = desired.replicas(name, service.service.replicas);
            let candidates: Vec<&Replica> = observed
                .replicas
                .iter()
                .filter(|replica| &replica.service == name && !leaving.contains(&replica.id))
                .filter(|replica| {
                    matches!(&replica.role, Role::Replica { digest: d, slot } if d == digest && *slot < wanted)
                })
                .collect();
            *entry = answer(&candidates);
            if desired.intent != Intent::Run {
                entry.serving.clear();
            }
        }
    }
    Routing { services }
}

fn answer(candidates: &[&Replica]) -> ServiceRouting {
    let ids = |pick: fn(&ReplicaState) -> bool| -> Vec<ReplicaId> {
        candidates
            .iter()
            .filter(|r| pick(&r.state))
            .map(|r| r.id.clone())
            .collect()
    };
    let ready = ids(|state| matches!(state, ReplicaState::Ready));
    if !ready.is_empty() {
        return ServiceRouting {
            serving: ready.clone(),
            named: ready,
            reason: None,
        };
    }
    // With no healthy replica at all, one whose probe fails is still a better answer than none.
    let unhealthy = ids(|state| matches!(state, ReplicaState::Unhealthy { .. }));
    let named = ids(|state| {
        matches!(
            state,
            ReplicaState::Unhealthy { .. } | ReplicaState::Starting { .. }
        )
    });
    let reason = candidates
        .first()
        .map(|replica| explain(replica))
        .or(Some("not started".into()));
    ServiceRouting {
        serving: unhealthy,
        named,
        reason,
    }
}

fn explain(replica: &Replica) -> String {
    let id = &replica.id;
    match &replica.state {
        ReplicaState::Starting { .. } => format!("{id} is starting"),
        ReplicaState::Ready => format!("{id} is ready"),
        ReplicaState::Unhealthy { .. } => format!("{id} fails its health check"),
        ReplicaState::Restarting { exit, restarts } => {
            format!(
                "{id} ended with {} and starts again (restart {restarts})",
                exit.code
            )
        }
        ReplicaState::CannotStart { reason, .. } => format!("{id} cannot start: {reason}"),
        ReplicaState::Stopping => format!("{id} is stopping"),
        ReplicaState::Ended { exit } => format!("{id} ended with {}", exit.code),
        ReplicaState::Lost => format!("{id} was lost and is being replaced"),
    }
}
