//! `havre status`.

use havre_api::{
    EnvironmentState, EnvironmentStatus, RunPhase, ServiceState, ServiceStatus, Status,
    StatusQuery, Timestamp,
};

use crate::cli::StatusArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::failure::how_it_ended;
use crate::table::{Table, padded, printable};
use crate::target::short_replica;
use crate::{connect, human};

pub async fn run(context: &Context, args: StatusArgs) -> Outcome {
    let ui = context.ui;
    let (project, environment) = args.folder.project.filter()?;
    let (client, info) = connect::running(context).await?;
    let query = StatusQuery {
        project,
        environment,
    };
    let environments = client.call::<Status>(&query).await?;
    if args.json.json {
        ui.json(&environments)?;
        return Ok(Exit::Ok);
    }
    for problem in info.problems.iter().chain(&info.advice) {
        ui.warn(problem, None);
    }
    if environments.is_empty() {
        let whose = query
            .project
            .map(|name| format!(" of {name}"))
            .unwrap_or_default();
        ui.say(&format!(
            "no environment{whose} is up; `havre up` brings one up"
        ));
    }
    let now = Timestamp::now();
    let blocks: Vec<String> = environments
        .iter()
        .map(|status| render(status, ui.out, now))
        .collect();
    ui.data(&blocks.join("\n"))?;
    Ok(Exit::Ok)
}

/// One environment as a block of lines.
pub fn render(status: &EnvironmentStatus, paint: Paint, now: Timestamp) -> String {
    let mut text = headline(status, paint, now);
    let widest = status
        .routes
        .iter()
        .map(|route| route.url.len())
        .max()
        .unwrap_or(0);
    for route in &status.routes {
        let down = if route.serving { "" } else { "   not serving" };
        let url = padded(&printable(&route.url), widest);
        text.push_str(&format!(
            "  {url}   {}{}\n",
            route.service,
            paint.error(down)
        ));
    }
    if !status.services.is_empty() {
        let mut table = Table::new(["SERVICE", "STATE", "READY", "RESTARTS", "IMAGE"]);
        for service in &status.services {
            table.row(cells(service));
        }
        text.push_str(&table.render(paint, "  "));
    }
    for service in &status.services {
        for line in trouble(service) {
            text.push_str(&format!("  {} {line}\n", paint.warning("!")));
        }
    }
    for one in &status.secrets {
        let running = match one.running {
            Some(version) if version == one.wanted => {
                format!("version {version}, not reloaded yet")
            }
            Some(version) => format!("version {version}, wanted {}", one.wanted),
            None => format!("another version, wanted {}", one.wanted),
        };
        let replica = short_replica(&one.replica, &status.id);
        text.push_str(&format!(
            "  {} {replica}: secret {}: {running}\n",
            paint.warning("!"),
            printable(&one.secret),
        ));
    }
    text.push_str(&pipeline(status, now));
    for problem in &status.problems {
        text.push_str(&format!(
            "  {} {}\n",
            paint.warning("!"),
            printable(problem)
        ));
    }
    text
}

/// What waits for people, what runs, and how the default branch was last.
fn pipeline(status: &EnvironmentStatus, now: Timestamp) -> String {
    let mut lines = Vec::new();
    for one in &status.waiting {
        let age = human::age(one.at.age_at(now));
        let id = one.promotion;
        let what = format!("promotion {id}: {}, asked for by {}", one.what, one.by);
        lines.push(match one.waits_for.is_empty() {
            true => format!("{what} {age} ago: comes in"),
            false => format!(
                "{what}, waits for {age}: {}; `havre approve {id}` agrees",
                one.waits_for.join("; ")
            ),
        });
    }
    let runs = status.runs.as_ref();
    for run in runs.map_or(&[][..], |runs| &runs.live) {
        lines.push(format!(
            "{} #{} runs for {}: {}",
            run.workflow,
            run.number,
            human::age(run.queued.age_at(now)),
            run.title
        ));
    }
    if let Some(run) = runs.and_then(|runs| runs.last.as_ref())
        && let Some(ended) = run.ended
    {
        let branch = run.reference.strip_prefix("refs/heads/");
        let how = match run.state {
            RunPhase::Success => "success",
            RunPhase::Cancelled => "cancelled",
            RunPhase::Skipped => "skipped",
            _ => "failure",
        };
        lines.push(format!(
            "{} #{} of {}: {how} {} ago",
            run.workflow,
            run.number,
            branch.unwrap_or(&run.reference),
            human::age(ended.age_at(now))
        ));
    }
    let lines = lines.iter().map(|line| format!("  {}\n", printable(line)));
    lines.collect()
}

fn headline(status: &EnvironmentStatus, paint: Paint, now: Timestamp) -> String {
    let (word, well) = match status.state {
        EnvironmentState::Running => ("running", true),
        EnvironmentState::Degraded => ("degraded", false),
        EnvironmentState::RollingOut => ("rolling out", true),
        EnvironmentState::RollingBack => ("rolling back", false),
        EnvironmentState::Down => ("down", false),
        EnvironmentState::Removing => ("being removed", false),
    };
    let word = if well {
        paint.good(word)
    } else {
        paint.warning(word)
    };
    let mut line = format!("{}   {word}", paint.bold(&status.id.to_string()));
    if let Some(release) = status.release {
        line.push_str(&format!("   release {release}"));
    }
    if let Some(since) = status.since {
        line.push_str(&format!(" for {}", human::age(since.age_at(now))));
    }
    line.push('\n');
    if let Some(operation) = &status.operation {
        let age = human::age(operation.since.age_at(now));
        let (kind, phase) = (printable(&operation.kind), printable(&operation.phase));
        line.push_str(&format!("  {kind} under way for {age}: {phase}\n"));
    }
    line
}

fn cells(service: &ServiceStatus) -> [String; 5] {
    let state = match service.state {
        ServiceState::Running => "running",
        ServiceState::Starting => "starting",
        ServiceState::Degraded => "degraded",
        ServiceState::Failed => "failed",
        ServiceState::Completed => "completed",
        ServiceState::Stopped => "stopped",
    };
    let digest = service.digest.as_deref().map(human::digest);
    let image = match (&service.image, digest) {
        (Some(image), Some(digest)) => format!("{image}@{digest}"),
        (Some(image), None) => image.clone(),
        (None, digest) => digest.unwrap_or_default(),
    };
    let ready = match service.state {
        ServiceState::Completed => String::new(),
        _ => format!("{}/{}", service.ready, service.wanted),
    };
    [
        service.name.to_string(),
        state.to_owned(),
        ready,
        service.restarts.to_string(),
        image,
    ]
}

fn trouble(service: &ServiceStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(reason) = &service.reason {
        lines.push(format!("{}: {}", service.name, printable(reason)));
    }
    let ill = matches!(service.state, ServiceState::Degraded | ServiceState::Failed);
    if let Some(exit) = service
        .last_exit
        .as_ref()
        .filter(|_| ill || service.restarts > 0)
    {
        let at = format!("{:.0}", exit.at);
        lines.push(format!(
            "{}: last ended at {at}: {}",
            service.name,
            how_it_ended(exit)
        ));
    }
    lines
}
