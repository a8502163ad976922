//! One line per event, for files, pipes and CI. Pure.

use std::collections::BTreeMap;

use havre_api::{
    BuildProgress, Event, HealthState, JobProgress, OperationPhase, PlannedAction, PlannedService,
    PullProgress, ServiceProgress,
};

use crate::human;
use crate::table::printable;

/// What earlier events said that later lines repeat.
#[derive(Debug, Default)]
pub struct Plain {
    /// Steps by image.
    steps: BTreeMap<String, u32>,
}

impl Plain {
    /// The lines that tell an event; none for a warning, which has a form of its own, and a
    /// failure, whose report follows at the end.
    pub fn lines(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Plan { services } => plan(services),
            Event::Phase { phase } => vec![format!("== {}", phase_name(*phase))],
            Event::Pull {
                reference,
                progress,
            } => pull(reference, progress),
            Event::Build { image, progress } => vec![self.build(image, progress)],
            Event::Job { service, progress } => vec![job(service.as_str(), progress)],
            Event::Service { service, progress } => vec![format!("{service}: {}", step(progress))],
            Event::Warning { .. } | Event::Failure { .. } => Vec::new(),
            Event::Missed { count } => vec![format!("({count} events were left out)")],
        }
    }

    fn build(&mut self, image: &str, progress: &BuildProgress) -> String {
        let steps = self.steps.get(image).copied().unwrap_or(0);
        match progress {
            BuildProgress::Started { services, steps } => {
                self.steps.insert(image.to_owned(), *steps);
                let services: Vec<&str> = services.iter().map(|s| s.as_str()).collect();
                let steps = human::count(u64::from(*steps), "step");
                format!("build {image}: {steps} for {}", services.join(", "))
            }
            BuildProgress::StepStarted {
                index,
                stage,
                instruction,
            } => {
                let stage = stage
                    .as_ref()
                    .map(|s| format!("[{s}] "))
                    .unwrap_or_default();
                format!(
                    "build {image} {index}/{steps}: {stage}{}",
                    printable(instruction)
                )
            }
            BuildProgress::StepOutput { index, text, .. } => {
                format!("build {image} {index}/{steps}: | {}", printable(text))
            }
            BuildProgress::StepDone {
                index,
                cached: true,
                ..
            } => {
                format!("build {image} {index}/{steps}: cached")
            }
            BuildProgress::StepDone {
                index,
                cached: false,
                elapsed_ms,
            } => {
                format!(
                    "build {image} {index}/{steps}: done in {}",
                    human::millis(*elapsed_ms)
                )
            }
            BuildProgress::Done { digest, elapsed_ms } => {
                let (digest, elapsed) = (human::digest(digest), human::millis(*elapsed_ms));
                format!("build {image}: done in {elapsed}, {digest}")
            }
        }
    }
}

/// The heading of a phase.
pub fn phase_name(phase: OperationPhase) -> &'static str {
    match phase {
        OperationPhase::Queue => "waiting for another operation to end",
        OperationPhase::Images => "images",
        OperationPhase::Prepare => "networks, volumes and secrets",
        OperationPhase::Jobs => "jobs before the start",
        OperationPhase::Rollout => "rollout",
        OperationPhase::Canary => "watching the new release on a share of the visitors",
        OperationPhase::Bake => "watching the new release",
        OperationPhase::Pause => {
            "paused: `havre rollout resume` continues, `havre rollout abort` rolls back"
        }
        OperationPhase::RollBack => "rolling back",
        OperationPhase::Stop => "stopping",
        OperationPhase::CleanUp => "cleaning up",
    }
}

/// What happens in one step of a service's change, without the service's name.
pub fn step(progress: &ServiceProgress) -> String {
    match progress {
        ServiceProgress::Waiting { dependency } => format!("waiting for {dependency}"),
        ServiceProgress::Starting { replica } => format!("starting {replica}"),
        ServiceProgress::Health {
            replica,
            health,
            detail,
        } => {
            let verdict = match health {
                HealthState::Starting => "is not healthy yet",
                HealthState::Healthy => "is healthy",
                HealthState::Unhealthy => "is unhealthy",
            };
            let detail = detail.as_ref().map(|d| format!(": {}", printable(d)));
            format!("{replica} {verdict}{}", detail.unwrap_or_default())
        }
        ServiceProgress::Ready {
            replica,
            ready,
            wanted,
        } => {
            format!("{replica} is ready ({ready} of {wanted})")
        }
        ServiceProgress::Shifting => "new requests go to the new replicas".to_owned(),
        ServiceProgress::Draining {
            replica,
            in_flight: 0,
        } => format!("draining {replica}"),
        ServiceProgress::Draining { replica, in_flight } => {
            format!("draining {replica}, {in_flight} in flight")
        }
        ServiceProgress::Stopping { replica } => format!("stopping {replica}"),
        ServiceProgress::Stopped { replica } => format!("stopped {replica}"),
        ServiceProgress::RollingBack => "rolling back".to_owned(),
        ServiceProgress::Done { elapsed_ms } => format!("done in {}", human::millis(*elapsed_ms)),
    }
}

fn plan(services: &[PlannedService]) -> Vec<String> {
    let changed = services
        .iter()
        .filter(|planned| planned.action != PlannedAction::Keep);
    let mut lines: Vec<String> = changed.map(planned).collect();
    let kept = services
        .iter()
        .filter(|planned| planned.action == PlannedAction::Keep);
    let kept: Vec<&str> = kept.map(|planned| planned.service.as_str()).collect();
    if !kept.is_empty() {
        lines.push(format!("plan: unchanged: {}", kept.join(", ")));
    }
    lines
}

/// An action in one word.
pub fn verb(action: PlannedAction) -> &'static str {
    match action {
        PlannedAction::Create => "create",
        PlannedAction::Replace => "replace",
        PlannedAction::Run => "run",
        PlannedAction::Scale => "scale",
        PlannedAction::Reload => "reload",
        PlannedAction::Remove => "remove",
        PlannedAction::Keep => "keep",
    }
}

fn planned(planned: &PlannedService) -> String {
    let verb = verb(planned.action);
    let replicas = match planned.action {
        PlannedAction::Run => " once".to_owned(),
        PlannedAction::Remove => String::new(),
        _ => format!(", {}", human::count(u64::from(planned.replicas), "replica")),
    };
    let strategy = planned.strategy.as_ref().map(|s| format!(" ({s})"));
    format!(
        "plan: {verb} {}{replicas}{}",
        planned.service,
        strategy.unwrap_or_default()
    )
}

fn pull(reference: &str, progress: &PullProgress) -> Vec<String> {
    match progress {
        PullProgress::Started => vec![format!("pull {reference}")],
        // A line for every piece would drown the rest.
        PullProgress::Bytes { .. } => Vec::new(),
        PullProgress::Done { digest, elapsed_ms } => {
            let (digest, elapsed) = (human::digest(digest), human::millis(*elapsed_ms));
            vec![format!("pull {reference}: done in {elapsed}, {digest}")]
        }
    }
}

fn job(service: &str, progress: &JobProgress) -> String {
    match progress {
        JobProgress::Started { command } => {
            format!("job {service}: {}", printable(command.join(" ")))
        }
        JobProgress::Output { text, .. } => format!("job {service}: | {}", printable(text)),
        JobProgress::Done { elapsed_ms } => {
            format!("job {service}: done in {}", human::millis(*elapsed_ms))
        }
    }
}
