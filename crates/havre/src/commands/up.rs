//! `havre up`.

use havre_api::{EnvironmentId, ReleaseId, Up, UpOptions, UpOutcome, UpRequest};

use crate::cli::UpArgs;
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{connect, elsewhere, human, origin, outputs, progress, sending};

pub async fn run(context: &Context, args: UpArgs) -> Outcome {
    let ui = context.ui;
    // Before anything is started: a mistake in the files must not leave a daemon behind.
    let mut project = args.load.load(context).await?;
    let elsewhere = elsewhere::of(context, &args.load, &project).await?;
    let client = connect::started(context).await?;
    if !context.is_here() {
        sending::send(context, &client, &mut project).await?;
    }
    let environment = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let name = environment.to_string();
    let request = UpRequest {
        project,
        options: UpOptions {
            no_cache: args.no_cache,
            pull: args.pull,
        },
        origin: origin::of_job(),
        overridden: args.overridden,
        entry: args.entry.entry,
        elsewhere,
    };
    if args.detach {
        let running = client.start::<Up>(&request).await.map_err(Failure::from)?;
        ui.say(&format!(
            "{name}: the rollout continues; `havre status` shows its progress"
        ));
        if args.json.json {
            ui.json(&serde_json::json!({ "operation": running.id() }))?;
        }
        return Ok(Exit::Ok);
    }
    let outcome = progress::follow::<Up>(&client, ui, &environment, &request).await?;
    print_outcome(ui, args.json.json, &outcome)
}

/// Shows where the release answers now.
pub fn print_outcome(ui: Ui, json: bool, outcome: &UpOutcome) -> Outcome {
    ui.say(&summary(&outcome.environment.to_string(), outcome));
    if json {
        ui.json(outcome)?;
    } else {
        let urls: String = outcome.urls.iter().map(|url| format!("{url}\n")).collect();
        ui.data(&urls)?;
    }
    outputs::tell(&of_step(outcome.release, outcome.urls.first()))?;
    Ok(Exit::Ok)
}

/// What later steps want to know of a release that serves. Pure.
pub fn of_step(release: ReleaseId, url: Option<&String>) -> Vec<(&'static str, String)> {
    let url = url.map(|url| ("url", url.clone()));
    url.into_iter()
        .chain([("release", release.to_string())])
        .collect()
}

fn summary(name: &str, outcome: &UpOutcome) -> String {
    let (release, elapsed) = (outcome.release, human::millis(outcome.elapsed_ms));
    match (outcome.changed, outcome.previous) {
        (false, _) => format!("{name}: nothing changed, release {release} serves ({elapsed})"),
        (true, Some(previous)) => {
            format!("{name}: release {release} serves, after release {previous} ({elapsed})")
        }
        (true, None) => format!("{name}: release {release} serves ({elapsed})"),
    }
}
