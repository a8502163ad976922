//! `havre ps`.

use havre_api::{HealthState, ReplicaQuery, ReplicaState, ReplicaStatus, Replicas, Timestamp};
use havre_model::ServiceName;

use crate::cli::PsArgs;
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::failure::state_name;
use crate::table::Table;
use crate::target::short_replica;
use crate::{connect, human};

pub async fn run(context: &Context, args: PsArgs) -> Outcome {
    let ui = context.ui;
    let (project, environment) = args.project.filter()?;
    let (client, _) = connect::running(context).await?;
    let query = ReplicaQuery {
        project,
        environment,
        services: args.services.iter().map(ServiceName::new).collect(),
        all: args.all,
    };
    let replicas = client.call::<Replicas>(&query).await?;
    if args.json.json {
        ui.json(&replicas)?;
    } else {
        ui.data(&render(&replicas, ui.out, Timestamp::now()))?;
    }
    Ok(Exit::Ok)
}

fn render(replicas: &[ReplicaStatus], paint: Paint, now: Timestamp) -> String {
    let first = replicas.first().map(|replica| &replica.environment);
    let several = replicas
        .iter()
        .any(|replica| Some(&replica.environment) != first);
    let mut header = vec![
        "REPLICA", "SERVICE", "RELEASE", "STATE", "HEALTH", "FOR", "RESTARTS", "CPU", "MEMORY",
        "ADDRESS",
    ];
    if several {
        header.insert(0, "ENVIRONMENT");
    }
    let mut table = Table::new(header);
    for replica in replicas {
        let mut cells = cells(replica, now);
        if several {
            cells.insert(0, replica.environment.to_string());
        }
        table.row(cells);
    }
    table.render(paint, "")
}

fn cells(replica: &ReplicaStatus, now: Timestamp) -> Vec<String> {
    let health = replica.health.map(|health| match health {
        HealthState::Starting => "starting",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
    });
    let memory = replica
        .memory_bytes
        .map(|used| match replica.memory_limit_bytes {
            Some(limit) => format!("{} of {}", human::memory(used), human::memory(limit)),
            None => human::memory(used),
        });
    vec![
        short_replica(&replica.id, &replica.environment).to_owned(),
        replica.service.to_string(),
        replica.release.to_string(),
        state(replica),
        health.unwrap_or_default().to_owned(),
        replica
            .since
            .map(|since| human::age(since.age_at(now)))
            .unwrap_or_default(),
        replica.restarts.to_string(),
        replica
            .cpu_percent
            .map(|share| format!("{share:.1} %"))
            .unwrap_or_default(),
        memory.unwrap_or_default(),
        replica.address.clone().unwrap_or_default(),
    ]
}

fn state(replica: &ReplicaStatus) -> String {
    let name = state_name(replica.state);
    let ended = matches!(
        replica.state,
        ReplicaState::Exited | ReplicaState::BackOff | ReplicaState::Failed
    );
    match &replica.last_exit {
        Some(exit) if ended && exit.oom_killed => format!("{name} ({}, out of memory)", exit.code),
        Some(exit) if ended => format!("{name} ({})", exit.code),
        _ => name.to_owned(),
    }
}
