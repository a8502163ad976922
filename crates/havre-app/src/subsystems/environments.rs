//! Environments: their calls of the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use havre_api::{
    ApiError, Down, EnvironmentId, EnvironmentStatus, Logs, Plan, Principal, ProjectRuns,
    PromotionGlance, Releases, ReplicaQuery, ReplicaStatus, Replicas, Restart, Rollback, Routes,
    Scale, Status, StatusQuery, Steer, TargetCapabilities, TargetInfo, Up, Why, WhyQuery,
    WhyReport,
};
use havre_base::{in_place, one_line};
use havre_image::builder::has_local_authorities;
use havre_model::{EnvironmentName, ProjectName};

use havre_release::{InstanceState, ReplicaId, Target, TargetStatus, Usage};

use crate::daemon::Daemon;
use crate::environment::tables;

use crate::handle::EnvironmentHandle;
use crate::labels::environment_key;
use crate::subsystem::{Part, Subsystem};
use crate::subsystems::certificates;
use crate::{
    beyond, exec, logs, operations, plans, promotions, releases, status, why as explanation,
};

/// Longest that the database is waited for: what runs is told without it.
const STORED: Duration = Duration::from_secs(1);
/// Time between the two looks that give a share of CPU.
const CPU_SAMPLE: Duration = Duration::from_millis(200);

/// What is run for users, with its calls.
pub(crate) const PART: Part = Part {
    schema: Some(tables::SCHEMA),
    build: |daemon, _| Box::new(Environments(Arc::clone(daemon))),
};

struct Environments(Arc<Daemon>);

impl Subsystem for Environments {
    fn calls(&self) -> Option<Routes<()>> {
        let routes = Routes::new(Arc::clone(&self.0))
            .call::<TargetCapabilities, _>(async |daemon, _, _| {
                Ok(TargetInfo {
                    capabilities: daemon.targets.capabilities(),
                    host_ca_detected: in_place(has_local_authorities),
                })
            })
            .call::<Status, _>(async |daemon, by, query| status_of(&daemon, &by, query).await)
            .call::<Replicas, _>(async |daemon, by, query| replicas(&daemon, &by, query).await)
            .call::<Why, _>(async |daemon, _, query| why(&daemon, query).await)
            .feed::<Logs, _>(async |daemon, _, query, lines| {
                logs::send(&daemon, query, lines).await
            })
            .exec(async |daemon, _, request, session| exec::run(&daemon, request, session).await)
            .call::<Plan, _>(async |daemon, by, request| {
                let by = beyond::within(by, &request.project)?;
                plans::dry_run(&daemon, &by, request).await
            })
            .call::<Releases, _>(async |daemon, _, query| releases::list(&daemon, &query).await)
            .call::<Steer, _>(async |daemon, _, request| operations::steer(&daemon, &request).await)
            .operation::<Up, _>(async |daemon, by, request, events| {
                let by = beyond::within(by, &request.project)?;
                operations::up(&daemon, &by, request, &events).await
            })
            .operation::<Down, _>(async |daemon, _, request, events| {
                operations::down(&daemon, request, &events).await
            })
            .operation::<Restart, _>(async |daemon, by, request, events| {
                operations::restart(&daemon, &by, request, &events).await
            })
            .operation::<Rollback, _>(async |daemon, by, request, events| {
                releases::rollback(&daemon, &by, request, &events).await
            })
            .operation::<Scale, _>(async |daemon, by, request, events| {
                operations::scale(&daemon, &by, request, &events).await
            });
        Some(routes.erased())
    }
}

/// Environments that a query names and who asks may see; `NotFound` for one that is named and not there.
async fn chosen(
    daemon: &Daemon,
    by: &Principal,
    project: Option<&ProjectName>,
    environment: Option<&EnvironmentName>,
) -> Result<Vec<EnvironmentHandle>, ApiError> {
    if let (Some(project), Some(environment)) = (project, environment) {
        let id = EnvironmentId {
            project: project.clone(),
            environment: environment.clone(),
        };
        return Ok(vec![daemon.environment(&id).await?]);
    }
    let mut all = daemon.environments().await;
    all.retain(|handle| {
        by.grant.sees(&handle.id)
            && project.is_none_or(|project| &handle.id.project == project)
            && environment.is_none_or(|environment| &handle.id.environment == environment)
    });
    Ok(all)
}

async fn status_of(
    daemon: &Arc<Daemon>,
    by: &Principal,
    query: StatusQuery,
) -> Result<Vec<EnvironmentStatus>, ApiError> {
    let port = daemon.https_port();
    let handles = chosen(
        daemon,
        by,
        query.project.as_ref(),
        query.environment.as_ref(),
    )
    .await?;
    // They may tell of other environments.
    let edge_problems = match by.grant.sees_all() {
        true => daemon.problems().await,
        false => Vec::new(),
    };
    let mut certificates = Vec::new();
    for handle in &handles {
        certificates.push(certificates::problems(daemon, &environment_key(&handle.id)).await);
    }
    let ids = handles.iter().map(|handle| handle.id.clone()).collect();
    // Ends by itself when the database answers again.
    let stored = tokio::spawn(stored(Arc::clone(daemon), ids));
    let stored = tokio::time::timeout(STORED, stored).await;
    let stored = stored.ok().and_then(Result::ok).unwrap_or_default();
    let mut stored = stored.into_iter();
    let told = handles
        .iter()
        .zip(certificates)
        .map(|(handle, certificates)| {
            let mut status = status::environment(&handle.id, &handle.status(), port);
            status.problems.extend(certificates);
            status.problems.extend(edge_problems.iter().cloned());
            let (waiting, runs) = stored.next().unwrap_or_else(|| {
                let why = || "the database does not answer".to_owned();
                (Err(why()), Err(why()))
            });
            match waiting {
                Ok(waiting) => status.waiting = waiting,
                Err(why) => {
                    let problem = format!("which promotions wait is not known: {why}");
                    status.problems.push(problem);
                }
            }
            match runs {
                Ok(runs) => status.runs = runs,
                Err(why) => status
                    .problems
                    .push(format!("its runs are not known: {why}")),
            }
            status
        });
    Ok(told.collect())
}

type Stored = (
    Result<Vec<PromotionGlance>, String>,
    Result<Option<ProjectRuns>, String>,
);

/// What of environments stands in the database alone.
async fn stored(daemon: Arc<Daemon>, ids: Vec<EnvironmentId>) -> Vec<Stored> {
    let mut runs = BTreeMap::new();
    let mut all = Vec::new();
    for id in ids {
        let waiting = promotions::show::glance(&daemon, &id).map_err(|error| one_line(&error));
        if !runs.contains_key(&id.project) {
            let of_project = daemon.glance.runs(&id.project).await;
            runs.insert(id.project.clone(), of_project);
        }
        let of_project = runs.get(&id.project).cloned();
        all.push((waiting, of_project.unwrap_or(Ok(None))));
    }
    all
}

async fn replicas(
    daemon: &Daemon,
    by: &Principal,
    query: ReplicaQuery,
) -> Result<Vec<ReplicaStatus>, ApiError> {
    let handles = chosen(
        daemon,
        by,
        query.project.as_ref(),
        query.environment.as_ref(),
    )
    .await?;
    let snapshots: Vec<_> = handles.iter().map(EnvironmentHandle::status).collect();
    let all: Vec<&TargetStatus> = snapshots.iter().map(|snapshot| &**snapshot).collect();
    status::expect_services(&query.services, &all)?;
    let mut replicas = Vec::new();
    for (handle, snapshot) in handles.iter().zip(all) {
        for one in &snapshot.instances {
            let running = matches!(one.state, InstanceState::Running { .. });
            let wanted = query.services.is_empty() || query.services.contains(&one.service);
            if wanted && (running || query.all) {
                let status = status::replica(&handle.id, one, snapshot);
                replicas.push((&*handle.target, status));
            }
        }
    }
    let measured = replicas.iter_mut();
    measure(measured.map(|(target, status)| (*target, status)).collect()).await;
    let mut replicas: Vec<_> = replicas.into_iter().map(|(_, status)| status).collect();
    replicas.sort_by(|a, b| {
        (&a.environment, &a.service, &a.id).cmp(&(&b.environment, &b.service, &b.id))
    });
    Ok(replicas)
}

async fn why(daemon: &Arc<Daemon>, query: WhyQuery) -> Result<WhyReport, ApiError> {
    let mut report = explanation::explain(daemon, &query).await?;
    let environment = daemon.environment(&query.environment).await?;
    let replicas = report.replicas.iter_mut();
    let measured = replicas.map(|replica| (&*environment.target, &mut replica.status));
    measure(measured.collect()).await;
    Ok(report)
}

/// Adds use of CPU and memory.
async fn measure(replicas: Vec<(&dyn Target, &mut ReplicaStatus)>) {
    let before = usage(&replicas).await;
    let since = SystemTime::now();
    tokio::time::sleep(CPU_SAMPLE).await;
    let after = usage(&replicas).await;
    let elapsed = since.elapsed().unwrap_or(CPU_SAMPLE).as_secs_f64();
    for (((_, replica), before), after) in replicas.into_iter().zip(before).zip(after) {
        let (Some(before), Some(after)) = (before, after) else {
            continue;
        };
        replica.memory_bytes = Some(after.memory_bytes);
        let used = after.cpu_usec.saturating_sub(before.cpu_usec);
        // Microseconds of CPU fit into the 52 bits of a double for 140 years.
        replica.cpu_percent = Some(used as f64 / 1e6 / elapsed * 100.0);
    }
}

async fn usage(replicas: &[(&dyn Target, &mut ReplicaStatus)]) -> Vec<Option<Usage>> {
    let mut all = Vec::with_capacity(replicas.len());
    for (target, replica) in replicas {
        all.push(target.usage(&ReplicaId(replica.id.clone())).await);
    }
    all
}

#[cfg(test)]
mod tests;
