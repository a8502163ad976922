//! Snapshots in the API's words. Pure, but for the time of day.

use std::collections::BTreeSet;

use havre_api::{
    ApiError, EnvironmentId, EnvironmentState, EnvironmentStatus, ErrorCode, HealthState,
    ReleaseId, ReplicaState as ApiReplicaState, ReplicaStatus, RouteStatus, RunningOperation,
    ServiceState, ServiceStatus,
};
use havre_model::{Port, Route, ServiceName};
use havre_release::{
    Failure, FailureKind, Health, Instance, InstanceState, Intent, Release, Replica, ReplicaState,
    Role, RolloutPhase, ServiceRelease, TargetStatus, Verdict, dependency_order,
};

use crate::environment::serving_release;
use crate::report::{self, api_state, exit_report};
use crate::secrets::differing::differing;

/// An environment as `havre status` shows it. `https_port`: of the edge, for its URLs.
pub(crate) fn environment(
    id: &EnvironmentId,
    snapshot: &TargetStatus,
    https_port: u16,
) -> EnvironmentStatus {
    let desired = &snapshot.desired;
    let release = shown(snapshot);
    let services: Vec<ServiceStatus> = release
        .map(|release| {
            dependency_order(&release.services)
                .into_iter()
                .map(|name| service(name, release, snapshot))
                .collect()
        })
        .unwrap_or_default();
    let routes = release
        .map(|release| {
            release
                .routes
                .iter()
                .map(|r| route(r, release, snapshot, https_port))
                .chain(
                    release
                        .forwards()
                        .map(|(name, port)| forward(name, port, snapshot)),
                )
                .collect()
        })
        .unwrap_or_default();
    let mut problems = snapshot.problems.clone();
    if let Some(failure) = &desired.last_failure
        && failure.kind != FailureKind::Aborted
    {
        problems.push(format!(
            "the newest rollout failed at {} and was undone: {}",
            failure.service,
            failure_word(&failure.kind)
        ));
    }
    EnvironmentStatus {
        id: id.clone(),
        state: state(snapshot, &services),
        release: desired.current.map(ReleaseId),
        since: desired.current_since.map(Into::into),
        operation: operation(snapshot),
        routes,
        services,
        secrets: differing(snapshot, None),
        waiting: Vec::new(),
        runs: None,
        problems,
    }
}

fn failure_word(kind: &FailureKind) -> String {
    match kind {
        FailureKind::CannotStart { reason } => format!("cannot start ({reason})"),
        FailureKind::Crashed { exit, .. } => format!("ended with {}", exit.code),
        FailureKind::Unhealthy { .. } => "unhealthy".to_owned(),
        FailureKind::NotReady { after } => format!("not ready after {} s", after.as_secs()),
        FailureKind::JobFailed { exit } => format!("a job ended with {}", exit.code),
        FailureKind::Errors {
            errors, requests, ..
        } => format!("{errors} of {requests} requests failed"),
        FailureKind::Slow { p95_ms, .. } => format!("slow ({p95_ms} ms)"),
        FailureKind::NotReloaded { reason } => format!("does not reload its secrets ({reason})"),
        FailureKind::Aborted => "aborted".to_owned(),
    }
}

/// The release a person thinks of: the one that serves, else the one on its way, else the one
/// that failed.
pub(crate) fn shown(snapshot: &TargetStatus) -> Option<&Release> {
    serving_release(&snapshot.desired)
        .or(snapshot.desired.current)
        .and_then(|number| snapshot.releases.get(&number))
        .or_else(|| snapshot.target())
        .or_else(|| snapshot.failed_first().map(|(_, release)| release))
}

/// Refuses the name of a service that none of these environments has, and tells those they have.
pub(crate) fn expect_services(
    names: &[ServiceName],
    snapshots: &[&TargetStatus],
) -> Result<(), ApiError> {
    let released = snapshots
        .iter()
        .flat_map(|snapshot| snapshot.releases.values());
    let seen = snapshots.iter().flat_map(|snapshot| &snapshot.instances);
    let known: BTreeSet<&ServiceName> = released
        .flat_map(|release| release.services.keys())
        .chain(seen.map(|one| &one.service))
        .collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(no_service(name, known)),
        None => Ok(()),
    }
}

/// A service that is not there, and those that are.
pub(crate) fn no_service<'a>(
    name: &ServiceName,
    known: impl IntoIterator<Item = &'a ServiceName>,
) -> ApiError {
    let known: Vec<&str> = known.into_iter().map(ServiceName::as_str).collect();
    let hint = match known.as_slice() {
        [] => "nothing was brought up here yet: `havre up`".to_owned(),
        known => format!("services: {}", known.join(", ")),
    };
    ApiError::new(ErrorCode::NotFound, format!("no service `{name}`")).with_hint(hint)
}

fn state(snapshot: &TargetStatus, services: &[ServiceStatus]) -> EnvironmentState {
    let desired = &snapshot.desired;
    match (&desired.intent, &desired.rollout) {
        (Intent::Down { .. }, _) => EnvironmentState::Removing,
        (Intent::Run, Some(rollout)) => match rollout.phase {
            RolloutPhase::Preparing
            | RolloutPhase::Canary { .. }
            | RolloutPhase::Baking { .. }
            | RolloutPhase::Finishing { .. } => EnvironmentState::RollingOut,
            RolloutPhase::RollingBack { .. } => EnvironmentState::RollingBack,
        },
        (Intent::Run, None) if desired.current.is_none() => EnvironmentState::Down,
        (Intent::Run, None) => {
            let well = services.iter().all(|service| match service.state {
                ServiceState::Running | ServiceState::Completed | ServiceState::Stopped => true,
                ServiceState::Starting | ServiceState::Degraded | ServiceState::Failed => false,
            });
            if well {
                EnvironmentState::Running
            } else {
                EnvironmentState::Degraded
            }
        }
    }
}

fn operation(snapshot: &TargetStatus) -> Option<RunningOperation> {
    let rollout = snapshot.desired.rollout.as_ref()?;
    let share = || {
        let mut canaries = snapshot.routing.services.values();
        canaries.find_map(|service| Some(service.canary.as_ref()?.permille))
    };
    let phase = match &rollout.phase {
        RolloutPhase::Preparing => "starting new replicas".to_owned(),
        RolloutPhase::Canary { .. } => match share() {
            Some(permille) => format!("on {} of the visitors", percent(permille)),
            None => "on a share of the visitors".to_owned(),
        },
        RolloutPhase::Baking { .. } => "serving, watched".to_owned(),
        RolloutPhase::Finishing { .. } => "draining old replicas".to_owned(),
        RolloutPhase::RollingBack { .. } => "rolling back".to_owned(),
    };
    let phase = match &rollout.pause {
        None => phase,
        Some(pause) => match &pause.failure {
            None => format!("paused: {phase}"),
            Some(failure) => {
                let (sentence, _) = crate::report::explain(&failure.kind, &failure.service);
                format!("paused, {phase}: {}: {sentence}", failure.service)
            }
        },
    };
    Some(RunningOperation {
        kind: format!("rollout to release {}", rollout.to),
        since: rollout.started_at.into(),
        phase,
    })
}

/// A share in a thousand as a person reads it.
pub(crate) fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{}%", permille / 10),
        tenth => format!("{}.{tenth}%", permille / 10),
    }
}

/// A service as `havre status` shows it.
pub(crate) fn service(
    name: &ServiceName,
    release: &Release,
    snapshot: &TargetStatus,
) -> ServiceStatus {
    let config = &release.services[name];
    let is_job = release.jobs().contains(name);
    let wanted = if is_job {
        0
    } else {
        snapshot.desired.replicas(name, config.service.replicas)
    };
    let replicas: Vec<&Replica> = replicas_of(name, config, snapshot).collect();
    let ready = replicas
        .iter()
        .filter(|r| matches!(r.state, ReplicaState::Ready))
        .count();
    let completed = is_job
        || (!replicas.is_empty()
            && replicas.iter().all(
                |r| matches!(&r.state, ReplicaState::Ended { exit } if exit.code == 0 && !exit.requested),
            ));
    let ready = u32::try_from(ready).unwrap_or(u32::MAX);
    // Slots that are empty for good: their one start is behind them.
    let begun = snapshot.desired.begun.iter();
    let begun = begun
        .filter(|one| &one.service == name && &one.digest == config.digest())
        .filter(|one| !replicas.iter().any(|replica| in_slot(replica, one.slot)))
        .count();
    let starting = replicas.iter().any(|r| {
        matches!(
            r.state,
            ReplicaState::Creating | ReplicaState::Starting { .. }
        )
    }) || replicas.len() + begun < wanted as usize;
    let failure = snapshot.desired.last_failure.as_ref();
    let failure = failure.filter(|_| snapshot.failed_first().is_some());
    let at_fault = failure.filter(|failure| &failure.service == name);
    let state = match () {
        () if at_fault.is_some() => ServiceState::Failed,
        // Nothing of a release that failed is wanted any more.
        () if failure.is_some() => ServiceState::Stopped,
        () if completed => ServiceState::Completed,
        () if wanted == 0 => ServiceState::Stopped,
        () if ready >= wanted => ServiceState::Running,
        () if starting => ServiceState::Starting,
        () if ready == 0 => ServiceState::Failed,
        () => ServiceState::Degraded,
    };
    let containers = || snapshot.instances.iter().filter(|one| &one.service == name);
    let reason = snapshot
        .routing
        .services
        .get(name)
        .and_then(|r| r.reason.clone());
    let told = |failure: &Failure| report::explain(&failure.kind, &failure.service).0;
    let reason = at_fault.map(told).or(reason);
    ServiceStatus {
        name: name.clone(),
        state,
        wanted,
        ready,
        image: config.service.image.clone(),
        digest: Some(config.image.clone()),
        restarts: containers().map(|one| one.restarts).sum(),
        last_exit: containers()
            .filter_map(|one| one.last_exit.as_ref())
            .max_by_key(|exit| exit.at)
            .map(|exit| exit_report(exit, config.service.resources.memory_bytes)),
        reason: reason.filter(|_| ready < wanted),
    }
}

fn in_slot(replica: &Replica, wanted: u32) -> bool {
    matches!(&replica.role, Role::Replica { slot, .. } if *slot == wanted)
}

fn replicas_of<'a>(
    name: &'a ServiceName,
    config: &ServiceRelease,
    snapshot: &'a TargetStatus,
) -> impl Iterator<Item = &'a Replica> {
    let digest = config.digest();
    snapshot.observed.replicas.iter().filter(move |replica| {
        &replica.service == name
            && matches!(&replica.role, Role::Replica { digest: d, .. } if d == digest)
    })
}

fn route(
    route: &Route,
    release: &Release,
    snapshot: &TargetStatus,
    https_port: u16,
) -> RouteStatus {
    let host = route.host.as_ref().or(release.hosts.first());
    RouteStatus {
        url: url(
            host.map_or("localhost", |host| host.as_str()),
            https_port,
            &route.path,
        ),
        service: route.service.clone(),
        serving: is_served(&route.service, snapshot),
    }
}

/// A port that is passed on as it is.
fn forward(service: &ServiceName, port: &Port, snapshot: &TargetStatus) -> RouteStatus {
    let host = port.host_ip.as_deref().unwrap_or("0.0.0.0");
    let published = port.published.unwrap_or_default();
    RouteStatus {
        url: format!("{}://{host}:{published}", port.protocol),
        service: service.clone(),
        serving: is_served(service, snapshot),
    }
}

fn is_served(service: &ServiceName, snapshot: &TargetStatus) -> bool {
    let routing = snapshot.routing.services.get(service);
    routing.is_some_and(|routing| !routing.serving.is_empty())
}

/// Where a release answers.
pub(crate) fn urls(release: &Release, https_port: u16) -> Vec<String> {
    let mut urls: Vec<String> = release
        .routes
        .iter()
        .flat_map(|route| {
            let hosts = match &route.host {
                Some(host) => std::slice::from_ref(host),
                None => release.hosts.as_slice(),
            };
            hosts
                .iter()
                .map(|host| url(host, https_port, &route.path))
                .collect::<Vec<_>>()
        })
        .collect();
    urls.sort_by_key(String::len);
    urls.dedup();
    urls
}

fn url(host: &str, port: u16, path: &str) -> String {
    match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    }
}

/// A container as `havre ps` shows it; its use of CPU and memory is added by the caller.
pub(crate) fn replica(
    of: &EnvironmentId,
    one: &Instance,
    snapshot: &TargetStatus,
) -> ReplicaStatus {
    let id = &one.id;
    let draining = snapshot.observed.unrouted_since.contains_key(id);
    let state = match snapshot
        .observed
        .replicas
        .iter()
        .find(|r| &r.id == id)
        .map(|r| &r.state)
    {
        Some(ReplicaState::Stopping) => ApiReplicaState::Stopping,
        // It may get requests again.
        Some(ReplicaState::Unhealthy { failed, .. }) if !failed.asks_for_another() => {
            ApiReplicaState::Running
        }
        // One that could answer and is not asked any more. What keeps ending is named by nobody
        // either, and leaves nothing.
        Some(ReplicaState::Ready | ReplicaState::Unhealthy { .. }) if draining => {
            ApiReplicaState::Draining
        }
        _ => api_state(&one.state),
    };
    let (pid, since) = match &one.state {
        InstanceState::Running { pid, since } => (*pid, Some(*since)),
        InstanceState::Exited | InstanceState::BackOff => {
            (None, one.last_exit.as_ref().map(|exit| exit.at))
        }
        InstanceState::Creating | InstanceState::Failed { .. } | InstanceState::Lost => {
            (None, None)
        }
    };
    let limit = snapshot
        .releases
        .get(&one.release)
        .and_then(|release| release.services.get(&one.service))
        .and_then(|service| service.service.resources.memory_bytes);
    ReplicaStatus {
        id: id.to_string(),
        environment: of.clone(),
        service: one.service.clone(),
        release: ReleaseId(one.release),
        state,
        health: health(one),
        since: since.map(Into::into),
        restarts: one.restarts,
        address: one.address.map(|address| address.to_string()),
        pid,
        last_exit: one.last_exit.as_ref().map(|exit| exit_report(exit, limit)),
        cpu_percent: None,
        memory_bytes: None,
        memory_limit_bytes: limit,
    }
}

/// What the probes say together: the worse of the two.
fn health(one: &Instance) -> Option<HealthState> {
    let verdict = |health: &Option<Health>| health.as_ref().map(|health| health.verdict);
    match (verdict(&one.health), verdict(&one.liveness)) {
        (_, Some(Verdict::Unhealthy)) | (Some(Verdict::Unhealthy), _) => {
            Some(HealthState::Unhealthy)
        }
        (Some(Verdict::Starting), _) => Some(HealthState::Starting),
        (Some(Verdict::Healthy), _) => Some(HealthState::Healthy),
        (None, _) => None,
    }
}
