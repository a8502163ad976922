//! `havre why`.

use havre_api::{
    EdgeReport, FailedRequestReport, HealthState, ReplicaReport, ServiceState, ServiceStatus,
    Timestamp, Why, WhyQuery, WhyReport,
};
use havre_model::ServiceName;

use crate::cli::WhyArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::failure::{self, Text, how_it_ended, probe_rows, state_name};
use crate::{connect, human};

pub async fn run(context: &Context, args: WhyArgs) -> Outcome {
    let ui = context.ui;
    let query = WhyQuery {
        environment: args.project.environment()?,
        service: ServiceName::new(&args.service),
    };
    let (client, _) = connect::running(context).await?;
    let report = client.call::<Why>(&query).await?;
    if args.json.json {
        ui.json(&report)?;
    } else {
        ui.data(&render(&report, ui.out, Timestamp::now()))?;
    }
    Ok(Exit::Ok)
}

fn render(report: &WhyReport, paint: Paint, now: Timestamp) -> String {
    let service = &report.service;
    let mut text = Text::new(paint);
    let (subject, summary) = (format!("service {}", service.name), summary(service));
    if is_well(service.state) {
        text.good(&subject, &summary);
    } else {
        text.title(&subject, &summary);
    }
    if let Some(needed) = &report.waits_for {
        text.row("waits for", needed.as_str());
    }
    if let Some(reason) = &service.reason {
        text.row("because", reason);
    }
    if let Some(image) = &service.image {
        text.row("image", image);
    }
    for replica in &report.replicas {
        replica_rows(&mut text, replica, now);
    }
    text.hint(report.hint.as_deref());
    let mut out = text.finish();
    out.push('\n');
    if let Some(report) = &report.failure {
        out.push_str("\nThe last rollout was rolled back:\n");
        out.push_str(&failure::render(report, paint));
        out.push('\n');
    }
    out
}

fn is_well(state: ServiceState) -> bool {
    match state {
        ServiceState::Running | ServiceState::Completed | ServiceState::Stopped => true,
        ServiceState::Starting | ServiceState::Degraded | ServiceState::Failed => false,
    }
}

fn summary(service: &ServiceStatus) -> String {
    let ready = format!("{} of {} ready", service.ready, service.wanted);
    match service.state {
        ServiceState::Running => ready,
        ServiceState::Completed => "it ran to its end".to_owned(),
        ServiceState::Stopped => "no replica is wanted".to_owned(),
        ServiceState::Starting => format!("{ready}, others are starting"),
        ServiceState::Degraded | ServiceState::Failed => ready,
    }
}

fn replica_rows(text: &mut Text, replica: &ReplicaReport, now: Timestamp) {
    let status = &replica.status;
    let mut state = state_name(status.state).to_owned();
    if let Some(health) = status.health {
        state.push_str(match health {
            HealthState::Starting => ", no verdict of its health check yet",
            HealthState::Healthy => ", healthy",
            HealthState::Unhealthy => ", unhealthy",
        });
    }
    if let Some(since) = status.since {
        state.push_str(&format!(" for {}", human::age(since.age_at(now))));
    }
    if status.restarts > 0 {
        let restarts = human::count(u64::from(status.restarts), "restart");
        state.push_str(&format!(", {restarts}"));
    }
    text.row("replica", &format!("{}: {state}", status.id));
    if let Some(used) = status.memory_bytes {
        let limit = status
            .memory_limit_bytes
            .map_or("no limit".to_owned(), |limit| {
                format!("limit {}", human::memory(limit))
            });
        text.row("memory", &format!("{}, {limit}", human::memory(used)));
    }
    if let Some(exit) = &status.last_exit {
        let ago = human::age(exit.at.age_at(now));
        text.row("ended", &format!("{} ago: {}", ago, how_it_ended(exit)));
    }
    if let Some(edge) = &replica.edge {
        text.row("requests", &edge_line(edge));
        if let Some(failed) = &edge.last_failure {
            text.row("failed", &failed_line(failed, now));
        }
    }
    if let Some(probe) = replica.probe.as_ref().filter(|_| !replica.ready) {
        probe_rows(text, probe);
    }
    text.log(&replica.log);
}

fn failed_line(failed: &FailedRequestReport, now: Timestamp) -> String {
    let ago = human::age(failed.at.age_at(now));
    format!(
        "{ago} ago: {} (request {})",
        failed.cause, failed.request_id
    )
}

fn edge_line(edge: &EdgeReport) -> String {
    let serving = if edge.serving {
        "it takes new ones"
    } else {
        "it takes none"
    };
    format!(
        "{serving}; {} in flight, {} answered, {} with 5xx, {} failed",
        edge.in_flight, edge.requests, edge.server_errors, edge.failed
    )
}
