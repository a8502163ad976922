//! Why a service is as it is, on one screen.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{
    ApiError, EdgeReport, EnvironmentId, FailedRequestReport, ReplicaReport, Timestamp, WhyQuery,
    WhyReport,
};
use havre_edge::EdgeStatus;
use havre_image::Images;
use havre_model::ServiceName;
use havre_release::{Instance, Release, ReplicaState, TargetStatus};

use crate::daemon::Daemon;
use crate::{report, status};

/// One that starts is asked nothing before this time.
const SLOW_START: Duration = Duration::from_secs(3);

/// Looks at a service from all sides.
pub(crate) async fn explain(daemon: &Arc<Daemon>, query: &WhyQuery) -> Result<WhyReport, ApiError> {
    let WhyQuery {
        environment: id,
        service: name,
    } = query;
    let environment = daemon.environment(id).await?;
    let snapshot = environment.status();
    let release = status::shown(&snapshot).filter(|release| release.services.contains_key(name));
    let Some(release) = release else {
        let known = status::shown(&snapshot).into_iter();
        let known = known.flat_map(|release| release.services.keys());
        return Err(status::no_service(name, known));
    };
    let edge = daemon.platform.hub.status().await;
    let mut replicas = Vec::new();
    for one in snapshot.instances.iter().filter(|one| &one.service == name) {
        let images = &daemon.platform.images;
        let mut report = replica(id, one, &snapshot, release, edge.as_deref(), images);
        if !report.ready {
            let output = environment.target.output(&one.id, &report::newest_lines());
            report.log = report::lines_of(output).await;
        }
        replicas.push(report);
    }
    replicas.sort_by(|a, b| (a.ready, &a.status.id).cmp(&(b.ready, &b.status.id)));
    let failure = snapshot.failure.as_deref();
    let failure = failure.filter(|evidence| &evidence.failure.service == name);
    let waits_for = snapshot.waiting.get(name).cloned();
    Ok(WhyReport {
        service: status::service(name, release, &snapshot),
        hint: hint(name, waits_for.as_ref(), release, &snapshot),
        waits_for,
        replicas,
        failure: failure.map(report::failure),
    })
}

fn replica(
    environment: &EnvironmentId,
    one: &Instance,
    snapshot: &TargetStatus,
    release: &Release,
    edge: Option<&EdgeStatus>,
    images: &Images,
) -> ReplicaReport {
    let id = &one.id;
    let observed = snapshot.observed.replicas.iter().find(|r| &r.id == id);
    let routed = release
        .routes
        .iter()
        .any(|route| route.service == one.service);
    let serving = snapshot
        .routing
        .services
        .get(&one.service)
        .is_some_and(|service| service.serving.contains(id));
    let counters = edge.and_then(|edge| edge.replicas.get(&id.0));
    ReplicaReport {
        status: status::replica(environment, one, snapshot),
        ready: observed.is_some_and(|r| matches!(r.state, ReplicaState::Ready)),
        edge: routed.then(|| {
            let counters = counters.cloned().unwrap_or_default();
            EdgeReport {
                serving,
                in_flight: counters.in_flight + counters.streams,
                requests: counters.requests,
                failed: counters.failed,
                server_errors: counters.server_errors,
                last_failure: counters.last_failure.map(|failed| FailedRequestReport {
                    at: since_1970(failed.at_ms),
                    request_id: failed.request_id,
                    cause: failed.cause,
                }),
            }
        }),
        probe: release.services.get(&one.service).and_then(|service| {
            report::probe_report(one, service, report::inherited_probe(service, images))
        }),
        log: Vec::new(),
    }
}

fn since_1970(millis: u64) -> Timestamp {
    let since = Duration::from_millis(millis);
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.unwrap_or(SystemTime::UNIX_EPOCH).into()
}

/// What to do next about the replica that is worst off.
fn hint(
    name: &ServiceName,
    waits_for: Option<&ServiceName>,
    release: &Release,
    snapshot: &TargetStatus,
) -> Option<String> {
    if let Some(needed) = waits_for {
        return Some(format!(
            "it starts when {needed} is ready: havre why {needed}"
        ));
    }
    let replicas = snapshot.observed.replicas.iter();
    replicas
        .filter(|replica| &replica.service == name)
        .find_map(|replica| match &replica.state {
            ReplicaState::Unhealthy { failed, .. } => Some(report::probe_hint(*failed, name)),
            ReplicaState::Restarting { exit, .. } | ReplicaState::Ended { exit } => {
                report::crash_hint(exit)
            }
            ReplicaState::Starting { since } => {
                let one = snapshot.instances.iter().find(|one| one.id == replica.id)?;
                let slow = since.elapsed().is_ok_and(|elapsed| elapsed >= SLOW_START);
                slow.then(|| report::not_ready_hint(one, release))?
            }
            ReplicaState::Creating
            | ReplicaState::Ready
            | ReplicaState::CannotStart { .. }
            | ReplicaState::Stopping
            | ReplicaState::Interrupted
            | ReplicaState::Lost => None,
        })
}
