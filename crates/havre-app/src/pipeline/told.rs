//! What a pusher is told of a run, line by line.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use havre_git::Lines;
use havre_job::{JobResult, LineKind, Prefaces, StepResult, Told};
use havre_runs::{Begun, Conclusion, LegKey, Listener, Runs};

/// Tells a pusher of a run until it ends, or he leaves.
pub(super) async fn follow(runs: Runs, begun: Begun, lines: Lines) {
    let pusher = Pusher {
        runs: runs.clone(),
        lines: lines.clone(),
    };
    runs.follow(begun.run, pusher).await;
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

/// Tells a pusher of legs.
#[derive(Clone)]
struct Pusher {
    runs: Runs,
    lines: Lines,
}

impl Listener for Pusher {
    fn note<'a>(&'a self, name: &'a str, text: String) -> BoxFuture<'a, ()> {
        self.lines.say(&format!("{name}: {text}"));
        Box::pin(std::future::ready(()))
    }

    fn leg(&self, key: LegKey, name: String) -> BoxFuture<'static, ()> {
        Box::pin(log(self.runs.clone(), key, name, self.lines.clone()))
    }

    fn is_gone(&self) -> bool {
        self.lines.is_alone()
    }
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
