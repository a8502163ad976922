//! `havre ci ls`.

use havre_api::{RunSummary, Runs, RunsQuery, Timestamp};

use super::show::{took, word};
use super::{project, short_commit, short_reference};
use crate::cli::runs::RunListArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::Table;
use crate::{connect, human};

pub async fn run(context: &Context, args: RunListArgs) -> Outcome {
    let ui = context.ui;
    let query = RunsQuery {
        project: project(&args.project)?,
        workflow: args.workflow,
        reference: args.reference,
        live: args.live,
        before: args.before,
        most: args.last,
    };
    let (client, _) = connect::running(context).await?;
    let runs = client.call::<Runs>(&query).await?;
    if args.json.json {
        ui.json(&runs)?;
        return Ok(Exit::Ok);
    }
    if runs.is_empty() {
        ui.say(&format!(
            "{} has no such runs; `git push` starts some, and `havre ci start` one",
            query.project
        ));
        return Ok(Exit::Ok);
    }
    ui.data(&render(&runs, ui.out, Timestamp::now()))?;
    if runs.len() == args.last as usize
        && let Some(last) = runs.last()
    {
        ui.say(&format!("older ones: --before {}", last.number));
    }
    Ok(Exit::Ok)
}

fn render(runs: &[RunSummary], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new([
        "RUN", "WORKFLOW", "STATE", "ON", "COMMIT", "EVENT", "BY", "AGE", "TOOK", "TITLE",
    ]);
    for run in runs {
        table.row([
            run.number.to_string(),
            run.workflow.clone(),
            word(run.state).to_owned(),
            short_reference(&run.reference).to_owned(),
            short_commit(&run.commit).to_owned(),
            run.event.clone(),
            run.actor.clone(),
            human::age(run.queued.age_at(now)),
            run.ended
                .map(|ended| took(run.queued, ended))
                .unwrap_or_default(),
            run.title.clone(),
        ]);
    }
    table.render(paint, "")
}
