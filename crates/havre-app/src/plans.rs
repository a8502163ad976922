//! What `up` would do, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, PlanOutcome, PlanRequest, PlannedAction, PlannedService,
    Principal, ReleaseId,
};
use havre_base::in_place;
use havre_image::builder::DryRun;
use havre_model::{DatabaseSign, ServiceName, Tls};
use havre_release::{
    Desired, Jobs, Release, ServiceRelease, Strategy, StrategyReason, TargetStatus, WriteContext,
    dependency_order,
};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::files::fingerprints;
use crate::labels::environment_key;
use crate::promotions::direct::Direct;
use crate::secrets::needed::{self, Found};
use crate::{admission, capabilities, databases, domains, rivals, shared_networks, sources};

/// Fields of a service that have another name in compose files.
const COMPOSE_NAMES: [(&str, &str); 5] = [
    ("mounts", "volumes"),
    ("no_new_privileges", "security_opt"),
    ("resources", "deploy.resources"),
    ("seccomp_unconfined", "security_opt"),
    ("shm_size_bytes", "shm_size"),
];
/// Fields whose change takes no new replicas, or is told by the image's digest.
const NOT_TOLD: [&str; 5] = ["build", "depends_on", "image", "replicas", "update"];

/// Looks what `up` would do.
pub(crate) async fn dry_run(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: PlanRequest,
) -> Result<PlanOutcome, ApiError> {
    let PlanRequest { mut project } = request;
    let id = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let _sent = in_place(|| sources::settle(&daemon.platform, by, &mut project))?;
    capabilities::check(&daemon.targets.capabilities(), &id, &project)?;
    let snapshot = match daemon.environment(&id).await {
        Ok(environment) => Some(environment.status()),
        Err(error) if error.code == ErrorCode::NotFound => None,
        Err(error) => return Err(error),
    };
    let current = snapshot.as_ref().and_then(|snapshot| {
        let number = snapshot.desired.current?;
        Some((number, snapshot.releases.get(&number)?))
    });
    let serving = current.map(|(_, release)| release);
    let dry_runs = daemon.builder.dry_run(by, &project).await?;
    let images: BTreeMap<ServiceName, String> = dry_runs
        .iter()
        .filter_map(|(service, outcome)| match outcome {
            DryRun::Image(digest) => Some((service.clone(), digest.to_string())),
            DryRun::Steps { .. } | DryRun::Fetch { .. } => None,
        })
        .collect();
    daemon
        .builder
        .hook_images(by, &mut project, &images, None)
        .await?;
    let platform = &daemon.platform;
    let Found { secrets, values } = in_place(|| needed::of(&platform.secrets, &id, &project))?;
    let files = in_place(|| fingerprints(platform, &project, &values))
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    drop(values);
    shared_networks::resolve(&daemon.platform.networks, &mut project)?;
    let mut release = Release::new(&project, &images, &files);
    release.secrets = secrets;
    release.keep_restarts(serving);
    let situation = Desired {
        databases: databases::found(daemon, &id, serving, &release).await?,
        ..snapshot
            .as_ref()
            .map_or_else(Desired::default, |snapshot| snapshot.desired.clone())
    };
    let nothing_to_do =
        serving == Some(&release) && snapshot.as_deref().is_some_and(TargetStatus::is_as_wanted);
    let jobs = if nothing_to_do { Jobs::Skip } else { Jobs::Run };
    let mut services = plan(&id, &situation, serving, &release, jobs);
    for planned in &mut services {
        if let Some(work) = dry_runs.get(&planned.service).and_then(work) {
            planned.changes.retain(|change| !change.starts_with(IMAGE));
            planned.changes.insert(0, work);
        }
    }
    let mut others = serving.map_or_else(Vec::new, |serving| others(serving, &release));
    let scaled = snapshot
        .as_ref()
        .is_some_and(|snapshot| !snapshot.desired.scale.is_empty());
    let changed = scaled
        || !others.is_empty()
        || services
            .iter()
            .any(|planned| planned.action != PlannedAction::Keep);
    others.extend(shared_networks::calls::dry_run(daemon, &by.grant, &id, &release).await?);
    others.extend(certificate_findings(daemon, &release));
    let platform = &daemon.platform;
    others.extend(in_place(|| {
        let nobodys = admission::nobodys(by);
        admission::findings(platform, &id, &project.services, &project.volumes, nobodys)
    }));
    let direct = Direct {
        by,
        id: &id,
        origin: None,
        overridden: None,
        entry: None,
    };
    others.extend(in_place(|| direct.finding(daemon, &release)));
    others.extend(domains::finding(daemon, &id, &project).await);
    others.extend(rivals::finding(daemon, &id, &release, &situation.databases).await);
    Ok(PlanOutcome {
        environment: id,
        release: current.map(|(number, _)| ReleaseId(number)),
        changed,
        services,
        others,
    })
}

/// What browsers will say of the certificate that the project names.
fn certificate_findings(daemon: &Daemon, release: &Release) -> Vec<String> {
    if !matches!(release.tls, Tls::Files { .. }) {
        return Vec::new();
    }
    match daemon.platform.certificate(release, SystemTime::now()) {
        Ok(reading) => reading.findings,
        Err(error) => vec![havre_base::one_line(&error)],
    }
}

const IMAGE: &str = "image: ";

/// What has to be done for an image that is not there.
fn work(outcome: &DryRun) -> Option<String> {
    match outcome {
        DryRun::Image(_) => None,
        DryRun::Steps {
            file,
            line,
            instruction,
        } => Some(format!("{IMAGE}built from {file}:{line} on: {instruction}")),
        DryRun::Fetch { reference } => Some(format!("{IMAGE}{reference} is fetched")),
    }
}

/// What a move from `old` to `new` does to each service, in the order in which it happens.
/// `situation`: what was found where they write, and how long they took to start.
pub(crate) fn plan(
    id: &EnvironmentId,
    situation: &Desired,
    old: Option<&Release>,
    new: &Release,
    fate_of_jobs: Jobs,
) -> Vec<PlannedService> {
    let key = environment_key(id);
    let ground = WriteContext {
        environment: &key,
        databases: &situation.databases,
    };
    let taken_over = |of: &ServiceName| {
        let all = old.into_iter().flat_map(|old| new.taken_over(ground, old));
        all.filter(|(name, ..)| *name == of)
            .map(|(_, before, kept)| {
                format!("stop-first: {before} ends before it starts, since both write to {kept}")
            })
            .next()
    };
    let jobs = new.jobs();
    let mut planned: Vec<PlannedService> = dependency_order(&new.services)
        .into_iter()
        .map(|name| {
            let service = &new.services[name];
            let before = old.and_then(|old| old.services.get(name));
            let action = match before {
                _ if jobs.contains(name) => match fate_of_jobs {
                    Jobs::Run => PlannedAction::Run,
                    Jobs::Skip => PlannedAction::Keep,
                },
                None => PlannedAction::Create,
                Some(before) if before.digest() != service.digest() => PlannedAction::Replace,
                Some(before) if before.service.replicas != service.service.replicas => {
                    PlannedAction::Scale
                }
                Some(before) if before.live_contents() != service.live_contents() => {
                    PlannedAction::Reload
                }
                Some(_) => PlannedAction::Keep,
            };
            let usual = (action == PlannedAction::Replace).then(|| {
                let told = strategy(&new.strategy(name, &situation.databases));
                told + &waiting(name, old, new, ground, situation)
            });
            PlannedService {
                service: name.clone(),
                action,
                replicas: service.service.replicas,
                strategy: taken_over(name).or(usual),
                changes: match before {
                    Some(before)
                        if matches!(action, PlannedAction::Replace | PlannedAction::Run) =>
                    {
                        changes(before, service)
                    }
                    _ => Vec::new(),
                },
            }
        })
        .collect();
    let removed = old.into_iter().flat_map(|old| old.services.keys());
    for name in removed.filter(|name| !new.services.contains_key(name)) {
        planned.push(PlannedService {
            service: ServiceName::clone(name),
            action: PlannedAction::Remove,
            replicas: 0,
            strategy: None,
            changes: Vec::new(),
        });
    }
    planned
}

fn strategy((strategy, reason): &(Strategy, StrategyReason)) -> String {
    let how = match strategy {
        Strategy::StartFirst => "start-first",
        Strategy::StopFirst => "stop-first",
    };
    match reason {
        StrategyReason::Asked => format!("{how}: asked for by deploy.update_config.order"),
        StrategyReason::ExclusiveVolume { volume, database } => {
            format!(
                "{how}: it alone writes to volume {volume}{}",
                shown_by(database)
            )
        }
        StrategyReason::ExclusiveFolder { folder, database } => {
            let folder = folder.display();
            format!("{how}: it alone writes to {folder}{}", shown_by(database))
        }
        StrategyReason::Answers => format!(
            "{how}: it receives requests, and nothing shows a database in what it writes to"
        ),
        StrategyReason::HostNetwork => {
            format!("{how}: on the machine's own network two cannot listen on one port")
        }
        StrategyReason::Worker => {
            format!("{how}: a worker that nobody calls, and two would do the same work twice")
        }
        StrategyReason::Default => format!("{how}: nothing stands in the way"),
    }
}

fn shown_by(database: &Option<DatabaseSign>) -> String {
    let told = |sign: &DatabaseSign| format!(", and {sign}");
    database.as_ref().map(told).unwrap_or_default()
}

/// How long requests wait while nobody can answer them, and what becomes of them then.
fn waiting(
    name: &ServiceName,
    old: Option<&Release>,
    release: &Release,
    ground: WriteContext<'_>,
    situation: &Desired,
) -> String {
    if release.edge_ports(name).is_empty() {
        return String::new();
    }
    let end = old.and_then(|old| release.longest_end(ground, old, name));
    let Some(grace) = end else {
        return String::new();
    };
    let drain = release.rollout.drain_timeout;
    let start = situation.starts.get(name).copied();
    let at_most = release.rollout.hold_for(start, grace.saturating_add(drain));
    let ready = match start.map(|start| start.as_secs_f64().ceil()) {
        Some(seconds) => format!("about {seconds} s, as long as its last start took"),
        None => "no start of it was measured yet".to_owned(),
    };
    format!(
        "; requests wait until the old one has answered those it has (at most {} s) and ended (at most \
         {} s) and the new one is ready ({ready}), and are answered with 503 after {} s",
        drain.as_secs(),
        grace.as_secs(),
        at_most.as_secs(),
    )
}

/// How two configurations of a service differ, where that takes new replicas.
pub(crate) fn changes(before: &ServiceRelease, after: &ServiceRelease) -> Vec<String> {
    let mut changes = Vec::new();
    if before.image != after.image {
        let (old, new) = (short(&before.image), short(&after.image));
        changes.push(format!("{IMAGE}{old} gives way to {new}"));
    }
    let (old, new) = (fields(&before.service), fields(&after.service));
    let mut told = BTreeSet::new();
    for (name, value) in &new {
        let was = old.get(name);
        if was == Some(value) || NOT_TOLD.contains(&name.as_str()) {
            continue;
        }
        let known = COMPOSE_NAMES.iter().find(|(field, _)| field == name);
        let shown = known.map_or(name.as_str(), |(_, shown)| shown);
        if !told.insert(shown) {
            continue;
        }
        changes.push(match (was.and_then(Value::as_object), value.as_object()) {
            (Some(was), Some(is)) => format!("{shown}: {}", keys(was, is)),
            _ => format!("{shown} changed"),
        });
    }
    let (old, new) = (before.follows(), after.follows());
    for (name, _) in new.iter().filter(|(name, is)| old.get(*name) != Some(is)) {
        changes.push(format!("depends_on: {name} is replaced, and restarts it"));
    }
    if before.files != after.files {
        let targets = before.files.keys().chain(after.files.keys());
        let targets: BTreeSet<&str> = targets
            .filter(|target| before.files.get(*target) != after.files.get(*target))
            .map(String::as_str)
            .collect();
        let targets: Vec<&str> = targets.into_iter().collect();
        changes.push(format!("content of {}", targets.join(", ")));
    }
    changes
}

/// The keys that two mappings do not have in common, never their values.
fn keys(before: &serde_json::Map<String, Value>, after: &serde_json::Map<String, Value>) -> String {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let told: Vec<String> = all
        .into_iter()
        .filter_map(|key| match (before.get(key), after.get(key)) {
            (None, Some(_)) => Some(format!("{key} added")),
            (Some(_), None) => Some(format!("{key} removed")),
            (was, is) if was != is => Some(format!("{key} changed")),
            _ => None,
        })
        .collect();
    told.join(", ")
}

/// A document as its fields. Serialising these types cannot fail: no map has a key that is not a
/// string.
fn fields(document: &impl serde::Serialize) -> BTreeMap<String, Value> {
    match serde_json::to_value(document) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// What is not a service's own.
pub(crate) fn others(before: &Release, after: &Release) -> Vec<String> {
    let (old, new) = (fields(before), fields(after));
    new.iter()
        .filter(|(name, value)| *name != "services" && old.get(*name) != Some(value))
        .map(|(name, _)| format!("{name} changed"))
        .collect()
}

/// The first digits of a digest.
fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}
