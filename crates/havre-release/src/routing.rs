//! Who answers for each service.

use std::collections::{BTreeMap, BTreeSet};

use havre_model::{RolloutStrategy, ServiceName};

use crate::{
    Desired, Intent, Observed, Release, Replica, ReplicaId, ReplicaState, Role, Rollout,
    RolloutPhase, ServiceDigest,
};

/// Restarts after which a replica that ends again will hardly stay.
const CRASH_LOOP: u32 = 5;

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
    /// A share of the visitors is for others.
    pub canary: Option<Canary>,
}

/// Replicas that serve a share of the visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Their release.
    pub release: u64,
    /// Ready ones; never empty.
    pub replicas: Vec<ReplicaId>,
    /// Visitors among a thousand.
    pub permille: u32,
}

/// Decides who answers for each service; never one that is `draining`.
pub fn routing(
    desired: &Desired,
    releases: &BTreeMap<u64, Release>,
    observed: &Observed,
    draining: &BTreeSet<ReplicaId>,
) -> Routing {
    let mut services = BTreeMap::new();
    // The release in force, then the other one: a service that only the second has, or whose
    // replicas of the first are gone already, is answered for by the second. On the way back
    // those of the new release that have served stand in until the old ones are there.
    let rollout = desired.rollout.as_ref();
    let (first, second) = match rollout {
        None => (desired.current, None),
        Some(rollout) => match rollout.phase {
            RolloutPhase::Preparing | RolloutPhase::Canary { .. } => {
                (rollout.from, Some(rollout.to))
            }
            RolloutPhase::RollingBack { .. } if rollout.shifted_at.is_some() => {
                (rollout.from, Some(rollout.to))
            }
            RolloutPhase::RollingBack { .. } => (rollout.from, None),
            RolloutPhase::Baking { .. } | RolloutPhase::Finishing { .. } => {
                (Some(rollout.to), rollout.from)
            }
        },
    };
    for number in [first, second].into_iter().flatten() {
        let Some(release) = releases.get(&number) else {
            continue;
        };
        for (name, service) in &release.services {
            let entry: &mut ServiceRouting = services.entry(name.clone()).or_default();
            if !entry.serving.is_empty() {
                continue;
            }
            let wanted = desired.replicas(name, service.service.replicas);
            let mut found = answer(&candidates(
                observed,
                draining,
                name,
                service.digest(),
                wanted,
            ));
            let mut begun = desired.begun.iter();
            if found.named.is_empty()
                && begun.any(|one| &one.service == name)
                && !observed.replicas.iter().any(|one| &one.service == name)
            {
                let gone = format!("{name} has run, and its `restart: no` means once");
                found.reason = Some(gone);
            }
            if entry.named.is_empty() || !found.serving.is_empty() {
                *entry = found;
            }
        }
    }
    if desired.intent != Intent::Run {
        for entry in services.values_mut() {
            entry.serving.clear();
        }
    }
    if let Some(rollout) = rollout
        && desired.intent == Intent::Run
        && let Some(release) = releases.get(&rollout.to)
    {
        let new_ones = |name: &ServiceName| -> Vec<&Replica> {
            let Some(service) = release.services.get(name) else {
                return Vec::new();
            };
            let wanted = desired.replicas(name, service.service.replicas);
            candidates(observed, draining, name, service.digest(), wanted)
        };
        for name in rollout.groups.keys() {
            join_groups(
                rollout,
                services.entry(name.clone()).or_default(),
                &new_ones(name),
            );
        }
        if let RolloutPhase::Canary { step, .. } = rollout.phase {
            for (name, entry) in &mut services {
                entry.canary = canary(release, rollout.to, step, entry, &new_ones(name));
            }
        }
    }
    stand_in(desired, observed, draining, &mut services);
    Routing { services }
}

/// Replicas of a service with this configuration that may answer.
fn candidates<'a>(
    observed: &'a Observed,
    draining: &BTreeSet<ReplicaId>,
    name: &ServiceName,
    digest: &ServiceDigest,
    wanted: u32,
) -> Vec<&'a Replica> {
    observed
        .replicas
        .iter()
        .filter(|replica| &replica.service == name && !draining.contains(&replica.id))
        .filter(|replica| {
            matches!(&replica.role, Role::Replica { digest: d, slot } if d == digest && *slot < wanted)
        })
        .collect()
}

/// While a service's replicas are replaced group by group, those of both releases answer.
fn join_groups(rollout: &Rollout, entry: &mut ServiceRouting, new_ones: &[&Replica]) {
    match rollout.phase {
        RolloutPhase::Preparing => {}
        RolloutPhase::Canary { .. }
        | RolloutPhase::Baking { .. }
        | RolloutPhase::Finishing { .. }
        | RolloutPhase::RollingBack { .. } => return,
    }
    for replica in new_ones {
        let ready = matches!(replica.state, ReplicaState::Ready);
        if ready && !entry.serving.contains(&replica.id) {
            entry.serving.push(replica.id.clone());
        }
        if ready && !entry.named.contains(&replica.id) {
            entry.named.push(replica.id.clone());
        }
    }
    if !entry.serving.is_empty() {
        entry.reason = None;
    }
}

/// The share of a service's visitors that its new replicas get; none where these are the ones
/// that serve anyway.
fn canary(
    release: &Release,
    number: u64,
    step: u32,
    entry: &ServiceRouting,
    new_ones: &[&Replica],
) -> Option<Canary> {
    let RolloutStrategy::Canary { steps, .. } = &release.rollout.strategy else {
        return None;
    };
    let replicas: Vec<ReplicaId> = new_ones
        .iter()
        .filter(|replica| matches!(replica.state, ReplicaState::Ready))
        .map(|replica| replica.id.clone())
        .collect();
    let differs = replicas.iter().any(|id| !entry.serving.contains(id));
    (differs && !entry.serving.is_empty()).then_some(Canary {
        release: number,
        replicas,
        permille: *steps.get(step as usize)?,
    })
}

/// Where neither release has anybody, whoever is left of an earlier one is a better answer than
/// none.
fn stand_in(
    desired: &Desired,
    observed: &Observed,
    draining: &BTreeSet<ReplicaId>,
    services: &mut BTreeMap<ServiceName, ServiceRouting>,
) {
    if desired.intent != Intent::Run || desired.rollout.is_none() {
        return;
    }
    for (name, entry) in services
        .iter_mut()
        .filter(|(_, entry)| entry.named.is_empty())
    {
        entry.serving = observed
            .replicas
            .iter()
            .filter(|replica| {
                &replica.service == name
                    && !draining.contains(&replica.id)
                    && matches!(replica.role, Role::Replica { .. })
                    && matches!(replica.state, ReplicaState::Ready)
            })
            .map(|replica| replica.id.clone())
            .collect();
        entry.named.clone_from(&entry.serving);
    }
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
            canary: None,
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
        canary: None,
    }
}

fn explain(replica: &Replica) -> String {
    let id = &replica.id;
    match &replica.state {
        ReplicaState::Creating | ReplicaState::Starting { .. } => format!("{id} is starting"),
        ReplicaState::Ready => format!("{id} is ready"),
        ReplicaState::Unhealthy { failed, .. } => format!("{id} fails its {}", failed.name()),
        ReplicaState::Restarting { exit, restarts } => {
            let code = exit.code;
            match *restarts < CRASH_LOOP {
                true => format!("{id} ended with {code} and starts again (restart {restarts})"),
                false => format!(
                    "{id} is in a crash loop: it ended with {code} after {restarts} restarts and is \
                     tried again less and less often"
                ),
            }
        }
        ReplicaState::CannotStart { reason, .. } => format!("{id} cannot start: {reason}"),
        ReplicaState::Stopping => format!("{id} is stopping"),
        ReplicaState::Ended { exit } if exit.requested || exit.code == 0 => {
            format!("{id} ended with {}", exit.code)
        }
        ReplicaState::Ended { exit } => {
            let after = match replica.restarts {
                0 => String::new(),
                restarts => format!(", after {restarts} restarts"),
            };
            format!(
                "{id} ended with {} and is not started again{after}",
                exit.code
            )
        }
        ReplicaState::Interrupted => {
            format!("the hooks after the start of {id} were broken off, and it is being replaced")
        }
        ReplicaState::Lost => format!("{id} was lost and is being replaced"),
    }
}
