//! What a person is told about a failure: written down while the evidence is still there.

use std::error::Error;
use std::path::Path;

use havre_api::{
    ExitReport, FailureReport, JobFailure, ProbeKind, ProbeReport, ReplicaState as ApiState,
    ServiceFailure, Timestamp,
};
use havre_engine::{Exit, Health, HealthStatus, LogQuery, State};
use havre_image::Images;
use havre_model::{Healthcheck, OnFailure, Probe, Protocol, ServiceName, local_port};
use havre_release::{ExitInfo, FailedProbe, Failure, FailureKind, Release, Role, ServiceRelease};

use crate::observe::ObservedContainer;
use crate::{container, listening, output};

/// Lines of output in a report.
const LINES: usize = 20;
/// Bytes of such a line.
const LINE_BYTES: usize = 4096;

/// An error and what caused it, on one line.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The report of a failed rollout. `logs`: folder with a folder of output per container.
pub(crate) async fn failure(
    failure: &Failure,
    release: Option<&Release>,
    seen: &[ObservedContainer],
    logs: &Path,
    images: &Images,
) -> FailureReport {
    let blamed = failure
        .replica
        .as_ref()
        .and_then(|id| seen.iter().find(|one| &one.id() == id));
    let log = match &failure.replica {
        Some(id) => last_lines(&logs.join(&id.0)).await,
        None => Vec::new(),
    };
    let limit = release
        .and_then(|release| release.services.get(&failure.service))
        .and_then(|service| service.service.resources.memory_bytes);
    let exit = blamed
        .and_then(|one| one.container.last_exit.as_ref())
        .map(|exit| exit_report(exit, limit));
    let (reason, mut hint) = explain(&failure.kind, &failure.service);
    if let Some(job) = blamed.and_then(|one| match &one.place.role {
        Role::Job { job, .. } => Some(job),
        Role::Replica { .. } => None,
    }) {
        let command = release
            .and_then(|release| release.services.get(&job.service))
            .map(|service| match job.hook {
                Some(index) => service
                    .service
                    .pre_start
                    .get(index as usize)
                    .map(|hook| hook.command.clone())
                    .unwrap_or_default(),
                None => service.service.command.clone().unwrap_or_default(),
            })
            .unwrap_or_default();
        let service = failure.service.clone();
        return FailureReport::Job(JobFailure {
            service,
            reason,
            command,
            exit,
            log,
            hint,
        });
    }
    let service = release.and_then(|release| release.services.get(&failure.service));
    if let (FailureKind::Unhealthy { failed, .. }, Some(service)) = (&failure.kind, service)
        && let Some(inherited) = inherited_probe(*failed, service, images)
    {
        hint = Some(inherited_hint(&inherited, &failure.service));
    }
    let stays = release.is_some_and(|release| release.rollout.on_failure == OnFailure::Pause);
    if let (FailureKind::Unhealthy { failed, .. }, true) = (&failure.kind, stays) {
        hint = Some(probe_hint(*failed, &failure.service));
    }
    if let (FailureKind::NotReady { .. }, Some(one), Some(release)) =
        (&failure.kind, blamed, release)
    {
        hint = not_ready_hint(one, release).or(hint);
    }
    FailureReport::Service(ServiceFailure {
        service: failure.service.clone(),
        replica: failure.replica.as_ref().map(ToString::to_string),
        reason,
        state: blamed.map(|one| api_state(&one.container.state)),
        since: blamed.and_then(since),
        restarts: blamed.map_or(0, |one| one.container.restarts),
        probe: blamed.and_then(|one| probe_report(one, release, images)),
        exit,
        log,
        hint,
    })
}

pub(crate) fn explain(kind: &FailureKind, service: &ServiceName) -> (String, Option<String>) {
    match kind {
        FailureKind::CannotStart { reason } => (format!("cannot be started: {reason}"), None),
        FailureKind::Crashed { exit, restarts } => (
            format!("{} (after {restarts} restarts)", ended(exit)),
            crash_hint(exit),
        ),
        FailureKind::Unhealthy { failed, .. } => (
            format!("its {} fails", failed.name()),
            Some(gone_probe_hint(*failed, service)),
        ),
        FailureKind::NotReady { after } => (
            format!("not ready after {} s", after.as_secs()),
            Some(format!(
                "what it printed: havre logs {service}; more time: rollout.ready_timeout in havre.yaml"
            )),
        ),
        FailureKind::JobFailed { exit } => (format!("its job {}", ended(exit)), crash_hint(exit)),
        FailureKind::Errors {
            errors,
            requests,
            errors_before,
            requests_before,
        } => (
            format!(
                "{errors} of {requests} requests failed; before it {errors_before} of \
                 {requests_before} did"
            ),
            Some(format!(
                "what it printed: havre logs {service}; the limit: rollout.max_errors in \
                 havre.yaml"
            )),
        ),
        FailureKind::Slow { p95_ms, before_ms } => (
            format!(
                "it answers in {p95_ms} ms (95th percentile), the release before did in \
                 {before_ms} ms"
            ),
            Some("the limit: rollout.max_slowdown in havre.yaml".to_owned()),
        ),
        FailureKind::Aborted => ("the rollout was given up by hand".to_owned(), None),
    }
}

/// What to do about a probe that fails.
pub(crate) fn probe_hint(failed: FailedProbe, service: &ServiceName) -> String {
    format!(
        "run the probe yourself: havre exec {service} <probe>; give a slow start more time with \
         {}.start_period",
        probe_key(failed)
    )
}

fn probe_key(failed: FailedProbe) -> &'static str {
    match failed {
        FailedProbe::Health | FailedProbe::HealthOnly => "healthcheck",
        FailedProbe::Liveness => "liveness",
    }
}

/// The same where its replica is about to go.
fn gone_probe_hint(failed: FailedProbe, service: &ServiceName) -> String {
    format!(
        "to run the probe yourself, keep the replica: `rollout: {{on_failure: pause}}` in havre.yaml, \
         then havre exec {service} <probe>; give a slow start more time with {}.start_period",
        probe_key(failed)
    )
}

/// What to do about a replica that runs and is not ready: what it would have to listen on, and what
/// it listens on instead.
pub(crate) fn not_ready_hint(one: &ObservedContainer, release: &Release) -> Option<String> {
    let State::Running { pid, .. } = one.container.state else {
        return None;
    };
    let service = &one.place.service;
    if one.container.health.is_some() {
        return Some(probe_hint(FailedProbe::Health, service));
    }
    let wanted = release.probe_ports(service);
    let wanted = wanted
        .into_iter()
        .filter_map(|(protocol, port)| (protocol == Protocol::Tcp).then_some(port));
    listening::hint(service, wanted, &listening::of(pid))
}

/// What to do about a probe that comes with the image and fails.
fn inherited_hint(probe: &str, service: &ServiceName) -> String {
    let port = local_port(probe).map_or_else(String::new, |port| format!(", for port {port}"));
    format!(
        "the probe comes from the image{port}: where `{service}` serves another, give it a healthcheck \
         of its own, or `healthcheck: {{disable: true}}`"
    )
}

/// What the health check runs, where it comes with the image.
fn inherited_probe(
    failed: FailedProbe,
    service: &ServiceRelease,
    images: &Images,
) -> Option<String> {
    let own = match (failed, &service.service.healthcheck) {
        (FailedProbe::Liveness, _) | (_, Some(Healthcheck::Disabled)) => true,
        (FailedProbe::Health | FailedProbe::HealthOnly, Some(Healthcheck::Probe { test, .. })) => {
            test.is_some()
        }
        (FailedProbe::Health | FailedProbe::HealthOnly, None) => false,
    };
    if own {
        return None;
    }
    let digest = service.image.parse();
    let image = digest.ok().map(|digest| images.image(digest))?;
    match image {
        Ok(image) => container::image_probe(image.config.run.healthcheck.as_ref()?),
        Err(error) => {
            tracing::warn!(image = service.image, %error, "cannot read an image's health check");
            None
        }
    }
}

fn ended(exit: &ExitInfo) -> String {
    match (exit.oom_killed, exit.signal) {
        (true, _) => "was killed for memory".to_owned(),
        (false, Some(signal)) => format!("was ended by signal {signal}"),
        (false, None) => format!("ended with exit code {}", exit.code),
    }
}

/// What to do about a process that ended so.
pub(crate) fn crash_hint(exit: &ExitInfo) -> Option<String> {
    let hint = match (exit.oom_killed, exit.code) {
        (true, _) => {
            "raise deploy.resources.limits.memory or find out what it needs the memory for"
        }
        (false, 127) => "the command was not found in the image",
        (false, 126) => "the command cannot be executed: check its mode and interpreter",
        (false, _) => return None,
    };
    Some(hint.to_owned())
}

/// The newest lines of a container's output; why not, where it cannot be read.
pub(crate) async fn last_lines(dir: &Path) -> Vec<String> {
    let query = LogQuery {
        tail: Some(LINES),
        ..LogQuery::default()
    };
    let mut reader = havre_engine::read_logs(dir, query);
    let mut lines = Vec::with_capacity(LINES);
    loop {
        match reader.next().await {
            Ok(Some(line)) => lines.push(shortened(line.text)),
            Ok(None) => return lines,
            Err(error) => {
                lines.push(format!("(output cannot be read: {error})"));
                return lines;
            }
        }
    }
}

/// A line that a person may read at one glance.
fn shortened(mut line: String) -> String {
    if line.len() > LINE_BYTES {
        let end = (0..=LINE_BYTES).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or_default());
        line.push_str(" […]");
    }
    line
}

/// What a replica's probe said last: the one that fails, and of two the one that ends the replica.
pub(crate) fn probe_report(
    one: &ObservedContainer,
    release: Option<&Release>,
    images: &Images,
) -> Option<ProbeReport> {
    let pinned = release?.services.get(&one.place.service)?;
    let service = &pinned.service;
    let container = &one.container;
    let dead = |health: &&Health| health.status == HealthStatus::Unhealthy;
    let (kind, health) = match container.liveness.as_ref().filter(dead) {
        Some(liveness) => (ProbeKind::Liveness, liveness),
        None => (ProbeKind::Health, container.health.as_ref()?),
    };
    let test = match (kind, &service.healthcheck) {
        (ProbeKind::Liveness, _) => service.liveness.as_ref().map(|liveness| &liveness.test),
        (ProbeKind::Health, Some(Healthcheck::Probe { test, .. })) => test.as_ref(),
        (ProbeKind::Health, Some(Healthcheck::Disabled) | None) => None,
    };
    let probe = match test {
        Some(Probe::Shell(line)) => line.clone(),
        Some(Probe::Exec(argv)) => argv.join(" "),
        None => match inherited_probe(FailedProbe::Health, pinned, images) {
            Some(line) => format!("{line} (HEALTHCHECK of the image)"),
            None => "HEALTHCHECK of the image".to_owned(),
        },
    };
    let last = health.last.as_ref()?;
    Some(ProbeReport {
        kind,
        probe,
        exit_code: last.exit_code,
        output: output::without_progress(&last.output),
        failing_streak: health.failing_streak,
    })
}

/// An exit as the API tells it.
pub(crate) fn exit_report(exit: &Exit, memory_limit_bytes: Option<u64>) -> ExitReport {
    ExitReport {
        at: exit.at.into(),
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        memory_peak_bytes: exit.memory_peak_bytes,
        memory_limit_bytes,
    }
}

/// Since when a container is in its state.
fn since(one: &ObservedContainer) -> Option<Timestamp> {
    let ended = || one.container.last_exit.as_ref().map(|exit| exit.at);
    match &one.container.state {
        State::Running { started_at, .. } => Some((*started_at).into()),
        State::Exited | State::BackOff { .. } | State::Lost => ended().map(Into::into),
        State::Creating | State::Failed { .. } => None,
    }
}

/// A container's state as the API tells it.
pub(crate) fn api_state(state: &State) -> ApiState {
    match state {
        State::Creating => ApiState::Creating,
        State::Failed { .. } => ApiState::Failed,
        State::Running { .. } => ApiState::Running,
        State::BackOff { .. } => ApiState::BackOff,
        State::Exited => ApiState::Exited,
        State::Lost => ApiState::Lost,
    }
}
