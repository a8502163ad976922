//! `havre plan`.

use havre_api::{Plan, PlanOutcome, PlanRequest, PlannedAction, PlannedService};

use crate::cli::PlanArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::verb;
use crate::table::Table;
use crate::{connect, sending};

pub async fn run(context: &Context, args: PlanArgs) -> Outcome {
    let ui = context.ui;
    let mut project = args.load.load(context).await?;
    let (client, _) = connect::running(context).await?;
    if !context.is_here() {
        sending::send(context, &client, &mut project).await?;
    }
    let outcome = client.call::<Plan>(&PlanRequest { project }).await?;
    ui.say(&summary(&outcome));
    if args.json.json {
        ui.json(&outcome)?;
    } else {
        ui.data(&render(&outcome, ui.out))?;
    }
    Ok(Exit::Ok)
}

fn summary(outcome: &PlanOutcome) -> String {
    let name = &outcome.environment;
    match (outcome.changed, outcome.release) {
        (false, Some(release)) => format!("{name}: nothing to do, release {release} serves"),
        (true, Some(release)) => format!("{name}: release {release} would be replaced"),
        (_, None) => format!("{name}: this would be the first release"),
    }
}

fn render(outcome: &PlanOutcome, paint: Paint) -> String {
    let mut table = Table::new(["SERVICE", "ACTION", "REPLICAS", "HOW", "BECAUSE OF"]);
    for planned in &outcome.services {
        // The first change beside the rest of the row, the others below it.
        let mut changes = planned.changes.iter().cloned();
        table.row(cells(planned, changes.next().unwrap_or_default()));
        for change in changes {
            table.row_below(4, change);
        }
    }
    let mut text = table.render(paint, "");
    for other in &outcome.others {
        text.push_str(&format!("also: {other}\n"));
    }
    text
}

fn cells(planned: &PlannedService, change: String) -> [String; 5] {
    let replicas = match planned.action {
        PlannedAction::Remove => String::new(),
        _ => planned.replicas.to_string(),
    };
    [
        planned.service.to_string(),
        verb(planned.action).to_owned(),
        replicas,
        planned.strategy.clone().unwrap_or_default(),
        change,
    ]
}
