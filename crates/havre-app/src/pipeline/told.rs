//! What a pusher is told of a run, line by line.

use std::collections::{BTreeMap, HashSet};

use havre_git::Lines;
use havre_job::{JobResult, LineKind, Prefaces, StepResult, Told};
use havre_runs::{Begun, Conclusion, LegKey, RunId, Runs};
use tokio::task::JoinSet;

/// Tells a pusher of a run until it ends, or he leaves.
pub(super) async fn follow(runs: Runs, begun: Begun, lines: Lines) {
    legs(runs.clone(), begun.run, String::new(), lines.clone()).await;
    if lines.is_alone() {
        return;
    }
    let told = match runs.ended(begun.run).await {
        Ok(Conclusion::Success) => "success",
        Ok(Conclusion::Failure) => "failure",
        Ok(Conclusion::Cancelled) => "cancelled",
        Ok(Conclusion::Skipped) => "skipped",
        Err(error) => {
            return lines.say(&format!("{} #{}: {error}", begun.workflow, begun.number));
        }
    };
    let (workflow, number) = (&begun.workflow, begun.number);
    lines.say(&format!(
        "{workflow} #{number}: {told}; havre ci show {number}"
    ));
}

/// Of all legs of a run, and of those that it calls.
fn legs(
    runs: Runs,
    run: RunId,
    prefix: String,
    lines: Lines,
) -> havre_release::Answer<'static, ()> {
    Box::pin(async move {
        let mut known: HashSet<LegKey> = HashSet::new();
        let mut waiting: HashSet<LegKey> = HashSet::new();
        let mut refused: HashSet<LegKey> = HashSet::new();
        let mut tasks = JoinSet::new();
        while !lines.is_alone() {
            let watch = runs.watch(run);
            let Ok(shown) = runs.show(run) else { break };
            for leg in &shown.legs {
                let id = &leg.key.leg;
                let job = shown.state.jobs.iter().find(|job| job.id == id.job);
                let name = job.and_then(|job| job.legs().get(id.index));
                let name = name.map_or(&id.job, |leg| &leg.name);
                let name = format!("{prefix}{name}");
                if let Some(wait) = &leg.waits
                    && waiting.insert(leg.key.clone())
                {
                    lines.say(&format!("{name}: waits: {}", wait.why));
                }
                // Of one that never began nothing else tells.
                if let (Some(why), None) = (&leg.why, &leg.record)
                    && refused.insert(leg.key.clone())
                {
                    lines.say(&format!("{name}: {why}"));
                }
                let is_there = leg.record.is_some() || leg.called.is_some();
                if !is_there || !known.insert(leg.key.clone()) {
                    continue;
                }
                match leg.called {
                    Some(called) => {
                        let prefix = format!("{name} / ");
                        tasks.spawn(legs(runs.clone(), called, prefix, lines.clone()));
                    }
                    None => {
                        tasks.spawn(log(runs.clone(), leg.key.clone(), name, lines.clone()));
                    }
                }
            }
            let (None, Some(mut watch)) = (shown.run.conclusion, watch) else {
                break;
            };
            // Closed where it ended: looked at once more.
            let _closed = watch.changed().await.is_err();
        }
        while tasks.join_next().await.is_some() {}
    })
}

async fn log(runs: Runs, key: LegKey, name: String, lines: Lines) {
    let (mut steps, mut prefaces) = (BTreeMap::new(), Prefaces::default());
    let Ok(mut log) = runs.log(key, 0, true) else {
        return;
    };
    while let Ok(Some(part)) = log.next().await {
        for told in &part.told {
            if prefaces.has(told) {
                continue;
            }
            if let Some(line) = line(told, &mut steps) {
                lines.say(&format!("{name} {line}"));
            }
        }
        if lines.is_alone() {
            return;
        }
    }
}

/// A line, if there is something to say. Groups and commands repeat what is said anyway. Pure.
fn line(told: &Told, steps: &mut BTreeMap<u32, String>) -> Option<String> {
    match told {
        Told::StepBegan { step, name, .. } => {
            steps.insert(*step, name.clone());
            Some(format!("▸ {name}"))
        }
        Told::Line { kind, text, .. } => match kind {
            // How actions tell of programs that they run; what those say comes anyway.
            LineKind::Plain if text.starts_with("[command]") => None,
            LineKind::Plain => Some(format!("│ {text}")),
            LineKind::Notice => Some(format!("│ notice: {text}")),
            LineKind::Warning => Some(format!("│ warning: {text}")),
            LineKind::Error => Some(format!("│ error: {text}")),
            LineKind::Command | LineKind::Group | LineKind::EndGroup | LineKind::Debug => None,
        },
        Told::StepEnded {
            step,
            conclusion: StepResult::Failure,
            why,
            ..
        } => {
            let name = steps.get(step).map_or("", String::as_str);
            let why = why.as_deref().unwrap_or("it failed");
            Some(format!("✗ {name}: {why}"))
        }
        Told::Ended { result, .. } => Some(
            match result {
                JobResult::Success => "✓ success",
                JobResult::Failure => "✗ failure",
                JobResult::Cancelled => "✗ cancelled",
            }
            .to_owned(),
        ),
        Told::Began { .. }
        | Told::Annotation { .. }
        | Told::Summary { .. }
        | Told::StepEnded { .. } => None,
    }
}
