//! `havre restart`, `scale` and `down`.

use havre_api::{
    ChangeOutcome, Down, DownOptions, DownOutcome, DownRequest, Restart, RestartRequest, Scale,
    ScaleRequest,
};
use havre_model::ServiceName;

use crate::cli::{DownArgs, RestartArgs, ScaleArgs};
use crate::context::Context;
use crate::error::{Failure, Outcome};
use crate::exit::Exit;
use crate::ui::Ui;
use crate::{connect, human, progress};

pub async fn restart(context: &Context, args: RestartArgs) -> Outcome {
    let request = RestartRequest {
        environment: args.project.environment()?,
        services: args.services.iter().map(ServiceName::new).collect(),
    };
    let client = connect::started(context).await?;
    let outcome =
        progress::follow::<Restart>(&client, context.ui, &request.environment, &request).await?;
    changed(context.ui, args.json.json, "restarted", &outcome)
}

pub async fn scale(context: &Context, args: ScaleArgs) -> Outcome {
    let mut request = ScaleRequest {
        environment: args.project.environment()?,
        replicas: Default::default(),
    };
    for (service, number) in &args.replicas {
        if request
            .replicas
            .insert(ServiceName::new(service), *number)
            .is_some()
        {
            let message = format!("{service} is given twice");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    let client = connect::started(context).await?;
    let outcome =
        progress::follow::<Scale>(&client, context.ui, &request.environment, &request).await?;
    changed(context.ui, args.json.json, "scaled", &outcome)
}

fn changed(ui: Ui, json: bool, verb: &str, outcome: &ChangeOutcome) -> Outcome {
    let services: Vec<&str> = outcome.services.iter().map(|s| s.as_str()).collect();
    let services = match services.is_empty() {
        true => "nothing".to_owned(),
        false => services.join(", "),
    };
    let elapsed = human::millis(outcome.elapsed_ms);
    ui.say(&format!(
        "{}: {verb} {services} ({elapsed})",
        outcome.environment
    ));
    if json {
        ui.json(outcome)?;
    }
    Ok(Exit::Ok)
}

pub async fn down(context: &Context, args: DownArgs) -> Outcome {
    let ui = context.ui;
    let request = DownRequest {
        environment: args.folder.project.environment()?,
        options: DownOptions {
            volumes: args.volumes,
        },
    };
    let client = connect::started(context).await?;
    let outcome = progress::follow::<Down>(&client, ui, &request.environment, &request).await?;
    say_down(ui, &outcome);
    if args.json.json {
        ui.json(&outcome)?;
    }
    if outcome.errors.is_empty() {
        return Ok(Exit::Ok);
    }
    let mut failure = Failure::new(
        Exit::Failed,
        format!(
            "{} is down, but not everything could be removed",
            outcome.environment
        ),
    );
    failure.causes = outcome.errors;
    Err(failure.hint("`havre down` may be repeated"))
}

fn say_down(ui: Ui, outcome: &DownOutcome) {
    let replicas = human::count(u64::from(outcome.replicas), "replica");
    let elapsed = human::millis(outcome.elapsed_ms);
    ui.say(&format!(
        "{}: down, {replicas} stopped ({elapsed})",
        outcome.environment
    ));
    if !outcome.removed_volumes.is_empty() {
        ui.say(&format!(
            "removed the volumes {}",
            outcome.removed_volumes.join(", ")
        ));
    }
    if !outcome.kept_volumes.is_empty() {
        let kept = outcome.kept_volumes.join(", ");
        ui.say(&format!(
            "kept the volumes {kept}; `havre down --volumes` removes them"
        ));
    }
}
