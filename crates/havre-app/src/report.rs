//! What a person is told about a failure: written down while the evidence is still there.

use havre_api::{
    ExitReport, FailureReport, JobFailure, ProbeKind, ProbeReport, ReplicaState as ApiState,
    ServiceFailure, Timestamp,
};
use havre_image::Images;
use havre_model::{Healthcheck, Probe, Protocol, ServiceName, local_port};
use havre_release::{
    Evidence, Exit, ExitInfo, FailedProbe, Failure, FailureKind, Health, Instance, InstanceState,
    Output, OutputQuery, Release, Role, ServiceRelease, Verdict,
};

use crate::{container, listening, output};

/// Lines of output in a report.
const LINES: usize = 20;
/// Bytes of such a line.
const LINE_BYTES: usize = 4096;

/// What shows a failure, as long as it is there. `log`: the newest lines of the one that failed.
pub(crate) fn evidence(
    failure: &Failure,
    release: Option<&Release>,
    instances: &[Instance],
    log: Vec<String>,
    images: &Images,
) -> Evidence {
    let id = failure.replica.as_ref();
    let instance = id.and_then(|id| instances.iter().find(|one| &one.id == id));
    let service = release.and_then(|release| release.services.get(&failure.service));
    let hint = match (&failure.kind, instance, release) {
        (FailureKind::NotReady { .. }, Some(one), Some(release)) => not_ready_hint(one, release),
        _ => None,
    };
    Evidence {
        failure: failure.clone(),
        instance: instance.cloned(),
        // Whoever knows the rollout says so.
        stays: false,
        log,
        inherited_probe: service.and_then(|service| inherited_probe(service, images)),
        service: service.cloned(),
        hint,
    }
}

/// The report of a failed rollout.
pub(crate) fn failure(evidence: &Evidence) -> FailureReport {
    let Evidence {
        failure,
        instance,
        service,
        ..
    } = evidence;
    let instance = instance.as_ref();
    let config = service.as_ref().map(|service| &service.service);
    let limit = config.and_then(|config| config.resources.memory_bytes);
    let exit = instance.and_then(|one| one.last_exit.as_ref());
    let exit = exit.map(|exit| exit_report(exit, limit));
    let (reason, hint) = explain(&failure.kind, &failure.service);
    let log = evidence.log.clone();
    if let Some(Role::Job { job, .. }) = instance.map(|one| &one.role) {
        let command = config.and_then(|config| match job.hook {
            Some(index) => {
                let hook = config.pre_start.get(index as usize)?;
                Some(hook.command.clone())
            }
            None => config.command.clone(),
        });
        return FailureReport::Job(JobFailure {
            service: failure.service.clone(),
            reason,
            command: command.unwrap_or_default(),
            exit,
            log,
            hint,
        });
    }
    FailureReport::Service(ServiceFailure {
        service: failure.service.clone(),
        replica: failure.replica.as_ref().map(ToString::to_string),
        reason,
        state: instance.map(|one| api_state(&one.state)),
        since: instance.and_then(since),
        restarts: instance.map_or(0, |one| one.restarts),
        probe: instance.zip(service.as_ref()).and_then(|(one, service)| {
            probe_report(one, service, evidence.inherited_probe.clone())
        }),
        exit,
        log,
        hint: better_hint(evidence).or(hint),
    })
}

/// What to do about a failure, where more than its kind is known.
fn better_hint(evidence: &Evidence) -> Option<String> {
    let service = &evidence.failure.service;
    let FailureKind::Unhealthy { failed, .. } = &evidence.failure.kind else {
        return evidence.hint.clone();
    };
    match (&evidence.inherited_probe, failed) {
        _ if evidence.stays => Some(probe_hint(*failed, service)),
        (Some(probe), FailedProbe::Health | FailedProbe::HealthOnly) => {
            Some(inherited_hint(probe, service))
        }
        _ => None,
    }
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
        FailureKind::NotReloaded { reason } => (
            format!("it does not reload its secrets: {reason}"),
            Some(format!(
                "how it does: services.{service}.secrets.reload in havre.yaml; `restart` replaces it instead"
            )),
        ),
        FailureKind::Aborted => ("the rollout was aborted".to_owned(), None),
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
pub(crate) fn not_ready_hint(one: &Instance, release: &Release) -> Option<String> {
    let InstanceState::Running { pid, .. } = one.state else {
        return None;
    };
    let service = &one.service;
    if one.health.is_some() {
        return Some(probe_hint(FailedProbe::Health, service));
    }
    let wanted = release.probe_ports(service);
    let wanted = wanted
        .into_iter()
        .filter_map(|(protocol, port)| (protocol == Protocol::Tcp).then_some(port));
    listening::hint(service, wanted, &listening::of(pid?))
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
pub(crate) fn inherited_probe(service: &ServiceRelease, images: &Images) -> Option<String> {
    match &service.service.healthcheck {
        Some(Healthcheck::Disabled | Healthcheck::Probe { test: Some(_), .. }) => return None,
        Some(Healthcheck::Probe { test: None, .. }) | None => {}
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

/// Asks for as many lines of output as a report shows.
pub(crate) fn newest_lines() -> OutputQuery {
    OutputQuery {
        tail: Some(LINES),
        ..OutputQuery::default()
    }
}

/// The lines of a replica's output; why not, where it cannot be read.
pub(crate) async fn lines_of(mut output: Box<dyn Output>) -> Vec<String> {
    let mut lines = Vec::with_capacity(LINES);
    loop {
        match output.next().await {
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
        line.truncate(havre_base::clipped(&line, LINE_BYTES).len());
        line.push_str(" […]");
    }
    line
}

/// What a replica's probe said last: the one that fails, and of two the one that ends the replica.
/// `inherited`: what its image's own health check runs.
pub(crate) fn probe_report(
    one: &Instance,
    service: &ServiceRelease,
    inherited: Option<String>,
) -> Option<ProbeReport> {
    let service = &service.service;
    let dead = |health: &&Health| health.verdict == Verdict::Unhealthy;
    let (kind, health) = match one.liveness.as_ref().filter(dead) {
        Some(liveness) => (ProbeKind::Liveness, liveness),
        None => (ProbeKind::Health, one.health.as_ref()?),
    };
    let test = match (kind, &service.healthcheck) {
        (ProbeKind::Liveness, _) => service.liveness.as_ref().map(|liveness| &liveness.test),
        (ProbeKind::Health, Some(Healthcheck::Probe { test, .. })) => test.as_ref(),
        (ProbeKind::Health, Some(Healthcheck::Disabled) | None) => None,
    };
    let probe = match test {
        Some(Probe::Shell(line)) => line.clone(),
        Some(Probe::Exec(argv)) => argv.join(" "),
        None => match inherited {
            Some(line) => format!("{line} (HEALTHCHECK of the image)"),
            None => "HEALTHCHECK of the image".to_owned(),
        },
    };
    let (exit_code, output) = health.last.as_ref()?;
    Some(ProbeReport {
        kind,
        probe,
        exit_code: *exit_code,
        output: output::without_progress(output),
        failing_streak: health.failing_streak,
    })
}

/// An exit as the API tells it.
pub(crate) fn exit_report(exit: &Exit, memory_limit_bytes: Option<u64>) -> ExitReport {
    ExitReport {
        at: exit.at.into(),
        code: exit.info.code,
        signal: exit.info.signal,
        oom_killed: exit.info.oom_killed,
        memory_peak_bytes: exit.memory_peak_bytes,
        memory_limit_bytes,
    }
}

/// Since when an instance is in its state.
fn since(one: &Instance) -> Option<Timestamp> {
    let ended = || one.last_exit.as_ref().map(|exit| exit.at);
    match &one.state {
        InstanceState::Running { since, .. } => Some((*since).into()),
        InstanceState::Exited | InstanceState::BackOff | InstanceState::Lost => {
            ended().map(Into::into)
        }
        InstanceState::Creating | InstanceState::Failed { .. } => None,
    }
}

/// An instance's state as the API tells it.
pub(crate) fn api_state(state: &InstanceState) -> ApiState {
    match state {
        InstanceState::Creating => ApiState::Creating,
        InstanceState::Failed { .. } => ApiState::Failed,
        InstanceState::Running { .. } => ApiState::Running,
        InstanceState::BackOff => ApiState::BackOff,
        InstanceState::Exited => ApiState::Exited,
        InstanceState::Lost => ApiState::Lost,
    }
}
