//! `havre ci show`.

use havre_api::{
    ArtifactInfo, Artifacts, RunJob, RunLeg, RunPhase, RunQuery, RunReport, RunShow, RunStep,
    Timestamp,
};
use havre_job::StepResult;
use serde::Serialize;

use super::{project, short_commit, short_reference};
use crate::cli::runs::RunShowArgs;
use crate::commands::ci::view;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::table::{Table, padded, printable, printable_lines};
use crate::{connect, human};

/// What is shown.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    report: RunReport,
    artifacts: Vec<ArtifactInfo>,
}

pub async fn run(context: &Context, args: RunShowArgs) -> Outcome {
    let ui = context.ui;
    let query = RunQuery {
        project: project(&args.project)?,
        number: args.number,
    };
    let (client, _) = connect::running(context).await?;
    let shown = Shown {
        report: client.call::<RunShow>(&query).await?,
        artifacts: client.call::<Artifacts>(&query).await?,
    };
    let state = shown.report.run.state;
    if args.json.json {
        ui.json(&shown)?;
    } else {
        ui.data(&render(&shown, &args, ui.out, Timestamp::now()))?;
        for next in next(&shown.report) {
            ui.say(&next);
        }
    }
    Ok(match args.exit_code {
        true => exit(state),
        false => Exit::Ok,
    })
}

/// What a run came to, for scripts.
fn exit(state: RunPhase) -> Exit {
    match state {
        RunPhase::Success | RunPhase::Skipped => Exit::Ok,
        RunPhase::Failure => Exit::Failed,
        RunPhase::Cancelled => Exit::Interrupted,
        RunPhase::Waiting
        | RunPhase::Queued
        | RunPhase::Starting
        | RunPhase::Running
        | RunPhase::Cancelling => Exit::Busy,
    }
}

pub(super) fn word(state: RunPhase) -> &'static str {
    match state {
        RunPhase::Waiting => "waiting",
        RunPhase::Queued => "queued",
        RunPhase::Starting => "starting",
        RunPhase::Running => "running",
        RunPhase::Cancelling => "cancelling",
        RunPhase::Success => "success",
        RunPhase::Failure => "failure",
        RunPhase::Cancelled => "cancelled",
        RunPhase::Skipped => "skipped",
    }
}

pub(super) fn took(began: Timestamp, ended: Timestamp) -> String {
    human::duration(began.age_at(ended))
}

fn painted(state: RunPhase, paint: Paint) -> String {
    match state {
        RunPhase::Success => paint.good("success"),
        RunPhase::Failure => paint.error("failure"),
        RunPhase::Cancelled | RunPhase::Cancelling => paint.warning(word(state)),
        _ => paint.bold(word(state)),
    }
}

fn render(shown: &Shown, args: &RunShowArgs, paint: Paint, now: Timestamp) -> String {
    let report = &shown.report;
    let mut text = head(report, paint, now);
    text.push('\n');
    text.push_str(&jobs(&report.jobs, now).render(paint, ""));
    for (name, leg) in report.legs() {
        let is_of_interest = matches!(leg.state, RunPhase::Failure | RunPhase::Running);
        if (args.steps || is_of_interest) && !leg.steps.is_empty() {
            text.push_str(&format!("\n{}\n", paint.bold(&printable(&name))));
            text.push_str(&steps(&leg.steps, paint, now));
        }
    }
    let found: Vec<String> = report
        .legs()
        .iter()
        .flat_map(|leg| annotations(leg, paint))
        .collect();
    if !found.is_empty() {
        text.push_str(&format!("\n{}\n", found.join("\n")));
    }
    if args.summaries {
        for (name, leg) in report.legs() {
            for summary in &leg.summaries {
                let name = paint.bold(&printable(&name));
                let summary = printable_lines(summary.text.trim_end());
                text.push_str(&format!("\n{name}\n{summary}\n"));
            }
        }
    }
    let artifacts = shown.artifacts.iter().map(|artifact| {
        let size = human::size(artifact.size_bytes);
        format!("{} ({size})", printable(&artifact.name))
    });
    let artifacts: Vec<String> = artifacts.collect();
    if !artifacts.is_empty() {
        text.push_str(&format!("\nartifacts: {}\n", artifacts.join(", ")));
    }
    if report.left_out > 0 {
        text.push_str(&format!(
            "\n{} more steps, annotations and summaries are not shown\n",
            report.left_out
        ));
    }
    text
}

fn head(report: &RunReport, paint: Paint, now: Timestamp) -> String {
    let run = &report.run;
    let mut text = format!(
        "{} · run {} of {}: ",
        paint.bold(&printable(&run.title)),
        run.number,
        printable(&run.workflow),
    );
    text.push_str(&painted(run.state, paint));
    if report.attempt > 1 {
        text.push_str(&format!(", attempt {}", report.attempt));
    }
    let time = match run.ended {
        Some(ended) => format!("took {}", took(run.queued, ended)),
        None => format!("since {}", human::age(run.queued.age_at(now))),
    };
    let happened = format!(
        "{} of {} on {} by {}, {} ago, {time}",
        run.event,
        short_commit(&run.commit),
        short_reference(&run.reference),
        run.actor,
        human::age(run.queued.age_at(now)),
    );
    text.push_str(&format!("\n{}\n", printable(happened)));
    let group = report.waits_for.as_ref();
    let group =
        group.map(|group| format!("waits for another run of the concurrency group {group}"));
    for why in group.iter().chain(&report.why) {
        text.push_str(&format!("{}\n", printable_lines(why)));
    }
    text
}

/// A row per leg, those of called workflows below the ones that call them; one per job that has none.
fn jobs(jobs: &[RunJob], now: Timestamp) -> Table {
    let mut table = Table::new(["JOB", "STATE", "TOOK", "WHY"]);
    rows(&mut table, jobs, "", now);
    table
}

fn rows(table: &mut Table, jobs: &[RunJob], before: &str, now: Timestamp) {
    for job in jobs {
        if job.legs.is_empty() {
            let why = job.why.clone().unwrap_or_default();
            let name = format!("{before}{}", job.id);
            table.row([name, word(job.state).to_owned(), String::new(), why]);
        }
        for leg in &job.legs {
            let took = leg.began.map(|began| took(began, leg.ended.unwrap_or(now)));
            let state = match (leg.state, leg.may_fail) {
                (RunPhase::Failure, true) => "failure, may fail".to_owned(),
                (state, _) => word(state).to_owned(),
            };
            table.row([
                format!("{before}{}", leg.name),
                state,
                took.unwrap_or_default(),
                why(leg),
            ]);
            if let Some(called) = &leg.called {
                rows(
                    table,
                    &called.jobs,
                    &format!("{before}{} / ", leg.name),
                    now,
                );
            }
        }
    }
}

/// Why a leg is as it is, in one line.
fn why(leg: &RunLeg) -> String {
    if let Some(wait) = &leg.waits {
        return format!("waits: {}", wait.why);
    }
    if let Some(why) = leg
        .why
        .as_ref()
        .or_else(|| leg.called.as_ref()?.why.as_ref())
    {
        return why.clone();
    }
    let failed = |step: &&RunStep| step.conclusion == Some(StepResult::Failure);
    if let Some(step) = leg.steps.iter().find(failed) {
        let why = step.why.as_deref().unwrap_or("it failed");
        return format!("{}: {why}", step.name);
    }
    match (&leg.environment, &leg.environment_url) {
        (Some(environment), Some(url)) => format!("{environment}: {url}"),
        (Some(environment), None) => environment.clone(),
        (None, _) => String::new(),
    }
}

fn steps(steps: &[RunStep], paint: Paint, now: Timestamp) -> String {
    let names: Vec<String> = steps.iter().map(|step| printable(&step.name)).collect();
    let width = names
        .iter()
        .map(|name| unicode_width::UnicodeWidthStr::width(&**name));
    let width = width.max().unwrap_or(0);
    let mut text = String::new();
    for (step, name) in steps.iter().zip(&names) {
        let mark = match (step.outcome, step.conclusion) {
            (None, _) if step.began.is_some() => paint.bold("▸"),
            (None, _) => paint.dim("·"),
            (Some(StepResult::Success), _) => paint.good("✓"),
            (Some(StepResult::Skipped), _) => paint.dim("-"),
            (Some(StepResult::Failure), Some(StepResult::Failure)) => paint.error("✗"),
            (Some(StepResult::Failure | StepResult::Cancelled), _) => paint.warning("✗"),
        };
        let took = step
            .began
            .map(|began| took(began, step.ended.unwrap_or(now)));
        let took = padded(&took.unwrap_or_default(), 8);
        let why = step.why.as_deref().map(printable).unwrap_or_default();
        let line = format!("  {mark} {} {took} {why}", padded(name, width));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn annotations((name, leg): &(String, &RunLeg), paint: Paint) -> Vec<String> {
    let name = printable(name);
    let shown = leg.annotations.iter().map(|found| {
        let told = view::annotation(&found.annotation, paint);
        format!("{name}: {told}")
    });
    let more = leg.more_annotations;
    let more = (more > 0).then(|| format!("{name}: … and {more} more"));
    shown.chain(more).collect()
}

/// What to do next.
fn next(report: &RunReport) -> Vec<String> {
    let number = report.run.number;
    let mut next = Vec::new();
    match report.run.state {
        RunPhase::Failure => {
            let failed = |job: &&RunJob| job.state == RunPhase::Failure && !job.legs.is_empty();
            if let Some(job) = report.jobs.iter().find(failed) {
                next.push(format!(
                    "`havre ci logs {number} --job {}` shows what it printed",
                    job.id
                ));
            }
            next.push(format!(
                "`havre ci rerun {number} --failed` runs what failed again"
            ));
        }
        RunPhase::Cancelled => {
            next.push(format!("`havre ci rerun {number}` runs it again"));
        }
        RunPhase::Success | RunPhase::Skipped => {}
        RunPhase::Waiting
        | RunPhase::Queued
        | RunPhase::Starting
        | RunPhase::Running
        | RunPhase::Cancelling => {
            next.push(format!("`havre ci logs {number} -f` follows it"));
        }
    }
    next
}
