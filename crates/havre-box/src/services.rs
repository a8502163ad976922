//! Services of a box: started together, awaited until each is fit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use havre_engine::{ContainerSpec, Engine, HealthStatus, LogQuery, Observed, State, read_logs};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::container::PARENT;
use crate::error::BoxError;

/// Longest wait for all services of a box.
const WITHIN: Duration = Duration::from_secs(600);
/// Last lines of a service that is not fit.
const LINES: usize = 20;
/// Longest of them.
const MAX_LINE: usize = 400;

/// Starts them all, and returns when each is healthy; one without a probe is when it runs. When it returns early, none
/// is still being started.
pub async fn start(
    engine: &Engine,
    services: &[(String, ContainerSpec)],
    cancel: &CancellationToken,
) -> Result<(), BoxError> {
    if services.is_empty() {
        return Ok(());
    }
    let mut seen = engine.watch_containers(PARENT);
    let mut starts = tokio::task::JoinSet::new();
    for (name, spec) in services {
        let (engine, name, spec) = (engine.clone(), name.clone(), spec.clone());
        starts.spawn(async move {
            let created = engine.create(&spec).await;
            created.map_err(|source| BoxError::Service { name, source })
        });
    }
    let mut failed = None;
    while let Some(started) = starts.join_next().await {
        failed = failed.or(started?.err());
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let waited = tokio::select! {
        waited = timeout(WITHIN, until_fit(&mut seen, services)) => waited,
        () = cancel.cancelled() => return Err(BoxError::Cancelled),
    };
    let (number, how) = match waited {
        Ok(None) => return Ok(()),
        Ok(Some(unfit)) => unfit,
        Err(_) => {
            let first = first_unfit(&seen.borrow(), services);
            (
                first,
                format!("was not healthy within {} s", WITHIN.as_secs()),
            )
        }
    };
    let (name, spec) = &services[number];
    Err(BoxError::Unhealthy {
        name: name.clone(),
        how,
        lines: last_lines(&spec.log.dir).await,
    })
}

/// `None`: all are; otherwise which is not, and what it is.
async fn until_fit(
    seen: &mut watch::Receiver<Arc<Vec<Observed>>>,
    services: &[(String, ContainerSpec)],
) -> Option<(usize, String)> {
    loop {
        let now = Arc::clone(&seen.borrow_and_update());
        let states = services.iter().map(|(_, spec)| {
            let observed = now.iter().find(|observed| observed.id == spec.id);
            observed.map_or(Fitness::Waiting, fitness)
        });
        let mut all = true;
        for (number, state) in states.enumerate() {
            match state {
                Fitness::Fit => {}
                Fitness::Waiting => all = false,
                Fitness::Unfit(how) => return Some((number, how)),
            }
        }
        if all {
            return None;
        }
        if seen.changed().await.is_err() {
            return Some((0, "was not awaited: the engine has ended".to_owned()));
        }
    }
}

fn first_unfit(now: &[Observed], services: &[(String, ContainerSpec)]) -> usize {
    let fit = |spec: &ContainerSpec| {
        let observed = now.iter().find(|observed| observed.id == spec.id);
        observed.map(fitness) == Some(Fitness::Fit)
    };
    services
        .iter()
        .position(|(_, spec)| !fit(spec))
        .unwrap_or(0)
}

#[derive(Debug, PartialEq, Eq)]
enum Fitness {
    Fit,
    Waiting,
    Unfit(String),
}

/// Whether a service can be used.
fn fitness(observed: &Observed) -> Fitness {
    match &observed.state {
        State::Creating | State::BackOff { .. } => Fitness::Waiting,
        State::Failed { reason } => Fitness::Unfit(format!("did not start: {reason}")),
        State::Lost => Fitness::Unfit("was killed".to_owned()),
        State::Exited => {
            let exit = observed.last_exit.as_ref();
            let code = exit.map_or(255, |exit| exit.code);
            let why = match exit.is_some_and(|exit| exit.oom_killed) {
                true => ": its memory was out",
                false => "",
            };
            Fitness::Unfit(format!("ended with code {code}{why}"))
        }
        State::Running { .. } => match &observed.health {
            None => Fitness::Fit,
            Some(health) => match health.status {
                HealthStatus::Healthy => Fitness::Fit,
                HealthStatus::Starting => Fitness::Waiting,
                HealthStatus::Unhealthy => {
                    let last = health.last.as_ref().map(|last| last.output.trim());
                    let said = last.filter(|said| !said.is_empty());
                    let said =
                        said.map(|said| format!(" ({})", havre_base::clipped(said, MAX_LINE)));
                    Fitness::Unfit(format!("is unhealthy{}", said.unwrap_or_default()))
                }
            },
        },
    }
}

async fn last_lines(spool: &Path) -> Vec<String> {
    let query = LogQuery {
        tail: Some(LINES),
        ..LogQuery::default()
    };
    let mut reader = read_logs(spool, query);
    let mut lines = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(line)) => lines.push(havre_base::clipped(&line.text, MAX_LINE).to_owned()),
            Ok(None) => return lines,
            Err(error) => {
                lines.push(format!("(its output cannot be read: {error})"));
                return lines;
            }
        }
    }
}
