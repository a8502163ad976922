//! `havre ci explain NUMBER`: why the jobs of a run ran, did not run, or wait.

use havre_api::{RunJob, RunQuery, RunReport, RunShow};
use serde::Serialize;

use super::show::word;
use super::{project, short_commit, short_reference};
use crate::cli::ci::CiExplainArgs;
use crate::connect;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::table::{Table, printable};

/// What a program is told.
#[derive(Serialize)]
struct Told {
    /// With those that call it before it.
    job: String,
    state: &'static str,
    why: Option<String>,
}

pub async fn run(context: &Context, args: &CiExplainArgs, number: u64) -> Outcome {
    let query = RunQuery {
        project: project(&args.project)?,
        number,
    };
    let (client, _) = connect::running(context).await?;
    let report = client.call::<RunShow>(&query).await?;
    let mut jobs = Vec::new();
    all(&report.jobs, "", &mut jobs);
    if args.json.json {
        context.ui.json(&jobs)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(["JOB", "STATE", "WHY"]);
    for job in jobs {
        let why = job.why.unwrap_or_default();
        table.row([job.job, job.state.to_owned(), why]);
    }
    let table = table.render(context.ui.out, "  ");
    context.ui.data(&format!("{}{table}", head(&report)))?;
    Ok(Exit::Ok)
}

fn head(report: &RunReport) -> String {
    let run = &report.run;
    let mut text = printable(format!(
        "run {} of {} ({}): {} of {} on {} by {}",
        run.number,
        run.workflow,
        run.path,
        run.event,
        short_commit(&run.commit),
        short_reference(&run.reference),
        run.actor,
    ));
    if let Some(why) = &report.why {
        text.push_str(&format!("\n  {}", printable(why)));
    }
    text.push('\n');
    text
}

/// Jobs, each before those of what it calls.
fn all(jobs: &[RunJob], before: &str, told: &mut Vec<Told>) {
    for job in jobs {
        told.push(Told {
            job: format!("{before}{}", job.id),
            state: word(job.state),
            why: job.why.clone(),
        });
        for leg in &job.legs {
            if let Some(called) = &leg.called {
                all(&called.jobs, &format!("{before}{} / ", leg.name), told);
            }
        }
    }
}
