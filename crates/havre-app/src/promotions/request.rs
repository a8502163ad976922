//! Asks for a release of one environment to come to another: its images, with the configuration and the secrets that the
//! other one has for them. Nothing is built, and nothing fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, Grant, Principal, PromoteRequest, PromotionStatus,
};
use havre_base::in_place;
use havre_model::{EnvironmentName, Project, ServiceName};
use havre_release::{
    Comes, EXPIRES_AFTER, Entry, GateName, GateState, Origin, Promotion, PromotionEvent,
    PromotionState, Release, Source, TargetStatus,
};

use super::direct::{Passed, passed};
use super::jobs::origin_of_job;
use super::judge::{Judged, judge, served};
use super::settle::{became, lease};
use super::{Kept, configurations, definitions, keeper, show, tell, words};
use crate::daemon::Daemon;
use crate::files::{fingerprints, keep_files};
use crate::history::Past;
use crate::leases::stored_image;
use crate::platform::Platform;
use crate::secrets::needed::{self, Found};
use crate::{admission, capabilities, domains, ports, shared_networks, sources};

/// Asks for it, or says what it would change.
pub(crate) async fn promote(
    daemon: &Arc<Daemon>,
    by: &Principal,
    request: PromoteRequest,
) -> Result<PromotionStatus, ApiError> {
    let PromoteRequest {
        project: asked,
        from,
        release: number,
        origin,
        entry,
        dry_run,
    } = request;
    let id = EnvironmentId {
        project: asked.name.clone(),
        environment: asked.environment.clone(),
    };
    let platform = &daemon.platform;
    let number = source_number(daemon, &by.grant, &id, &from, number.map(|one| one.0)).await?;
    let source = in_place(|| source(platform, &id, &from, number))?;
    let kept = configurations::of(source.record.origin.as_ref(), &asked)?;
    let by_files = kept.is_none();
    let mut project = kept.unwrap_or(asked);
    let settled = in_place(|| sources::settle(platform, by, &mut project));
    let _sent = settled.map_err(|error| match (by_files, &error.code) {
        (false, ErrorCode::NotFound) => error.with_hint(format!(
            "what release {number} of {from} mounts is sent by whoever asks: check its commit out, and ask from there"
        )),
        _ => error,
    })?;
    capabilities::check(&daemon.targets.capabilities(), &id, &project)?;
    ports::check(daemon, &id, &project).await?;
    domains::check(daemon, &id, &project).await?;
    let nobodys = admission::nobodys(by);
    admission::check(daemon, &id, &project.services, &project.volumes, nobodys).await?;
    let images_held = platform.images.hold();
    let images = in_place(|| images_of(platform, &mut project, &from, &source))?;
    let files_held = platform.contents.hold();
    let release = in_place(|| made(platform, &id, &mut project, &images, dry_run))?;
    let snapshot = snapshot(daemon, &id).await?;
    let release = with_restarts(release, snapshot.as_deref());
    in_place(|| definitions::take(platform, by, &project))?;
    let passed = in_place(|| passed(platform, by, &id, entry))?;
    let origin = in_place(|| asking(platform, by, &id, origin))?;
    let mut promotion = new_promotion(
        by,
        &id,
        (&from, &source),
        snapshot.as_deref(),
        origin,
        passed,
    );
    promotion.by_files = by_files;
    let now = SystemTime::now();
    let judged = in_place(|| judge(platform, &promotion, Some(&release), now))?;
    refuse(&id, &judged)?;
    if let Some(snapshot) = &snapshot
        && snapshot
            .serving()
            .is_some_and(|(_, serving)| *serving == release)
        && snapshot.is_as_wanted()
    {
        let message = format!("{id} runs just that already: there is nothing to promote");
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    let mut kept = Kept {
        promotion,
        release: Some(release),
    };
    if dry_run {
        return show::status(daemon, &kept, now).await;
    }
    let superseded = in_place(|| keep(platform, &mut kept))?;
    drop((files_held, images_held));
    for (before, after) in superseded {
        became(daemon, &before, &after);
    }
    kept = keeper::look(daemon, kept.promotion.id).await?;
    if kept.promotion.state == PromotionState::Waiting {
        tell::waits(daemon, &kept.promotion);
    }
    show::status(daemon, &kept, now).await
}

/// The number of the release that is meant, of an environment that who asks may see.
async fn source_number(
    daemon: &Arc<Daemon>,
    grant: &Grant,
    id: &EnvironmentId,
    from: &EnvironmentName,
    number: Option<u64>,
) -> Result<u64, ApiError> {
    let there = EnvironmentId {
        project: id.project.clone(),
        environment: from.clone(),
    };
    if there == *id {
        let message = format!("{id} cannot be promoted to itself");
        return Err(ApiError::new(ErrorCode::Invalid, message)
            .with_hint("`havre rollback` goes back to an earlier release"));
    }
    // Who may bring something in may see where it has to have served.
    let needs = in_place(|| definitions::of(&daemon.platform, id))?.needs;
    if !grant.sees(&there) && !needs.contains(from) {
        let message = format!("what runs in {there} is not yours to see");
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    let environment = daemon.environment(&there).await?;
    let serving = environment.status().desired.current;
    number.or(serving).ok_or_else(|| {
        let message = format!("nothing serves in {there}");
        ApiError::new(ErrorCode::Conflict, message)
    })
}

/// A release of that number that has served there.
fn source(
    platform: &Platform,
    id: &EnvironmentId,
    from: &EnvironmentName,
    number: u64,
) -> Result<Past, ApiError> {
    let there = EnvironmentId {
        project: id.project.clone(),
        environment: from.clone(),
    };
    let mut past = served(platform, &there)?.into_iter();
    past.find(|one| one.number == number).ok_or_else(|| {
        let message = format!("{there} has no release {number} that has served");
        ApiError::new(ErrorCode::NotFound, message).with_hint(format!(
            "`havre releases -E {from}` lists those that have; only they can be promoted"
        ))
    })
}

/// The digests of the images that each service of the project ran there, its steps' too.
fn images_of(
    platform: &Platform,
    project: &mut Project,
    from: &EnvironmentName,
    source: &Past,
) -> Result<BTreeMap<ServiceName, String>, ApiError> {
    let number = source.number;
    let mut images = BTreeMap::new();
    for (name, service) in &mut project.services {
        let refused = |what: &str| {
            let message = format!("{what} of service `{name}` has not served in {from}");
            ApiError::new(ErrorCode::Invalid, message).with_hint(format!(
                "bring these files up there first: `havre up -E {from}`; release {number} is another one"
            ))
        };
        let there = source.release.services.get(name);
        let there = there.ok_or_else(|| refused("an image"))?;
        for (index, hook) in service.pre_start.iter_mut().enumerate() {
            if hook.image.is_some() {
                let known = there.service.pre_start.get(index);
                let known = known.and_then(|known| known.image.clone());
                hook.image = Some(known.ok_or_else(|| refused("the image of a `pre_start`"))?);
            }
        }
        images.insert(name.clone(), there.image.clone());
    }
    let hooks = project.services.values().flat_map(|one| &one.pre_start);
    let hooks = hooks.filter_map(|hook| hook.image.as_ref());
    for digest in images.values().chain(hooks) {
        stored_image(&platform.images, digest).map_err(|error| {
            let message = format!("the image {digest} of release {number} of {from} is gone");
            ApiError::new(ErrorCode::Failed, message)
                .caused_by(Some(&*error))
                .with_hint(format!("`havre up -E {from}` makes it again"))
        })?;
    }
    Ok(images)
}

/// What is to come, with the environment's own secrets. Of a look alone nothing is kept.
fn made(
    platform: &Platform,
    id: &EnvironmentId,
    project: &mut Project,
    images: &BTreeMap<ServiceName, String>,
    dry_run: bool,
) -> Result<Release, ApiError> {
    let Found { secrets, values } = needed::of(&platform.secrets, id, project)?;
    let files = match dry_run {
        true => fingerprints(platform, project, &values),
        false => keep_files(platform, project, &values),
    };
    let files = files.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    drop(values);
    shared_networks::resolve(&platform.networks, project)?;
    let mut release = Release::new(project, images, &files);
    release.secrets = secrets;
    Ok(release)
}

/// How the environment is that it is to come to; `None`: there is none yet.
async fn snapshot(
    daemon: &Arc<Daemon>,
    id: &EnvironmentId,
) -> Result<Option<Arc<TargetStatus>>, ApiError> {
    match daemon.environment(id).await {
        Ok(environment) => Ok(Some(environment.status())),
        Err(error) if error.code == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn with_restarts(mut release: Release, snapshot: Option<&TargetStatus>) -> Release {
    let serving = snapshot.and_then(TargetStatus::serving);
    release.keep_restarts(serving.map(|(_, release)| release));
    release
}

/// Where whoever asks says that it comes from: of a release of which nothing is known no more than that is, whatever
/// job promotes it.
fn asking(
    platform: &Platform,
    by: &Principal,
    id: &EnvironmentId,
    said: Option<havre_api::Origin>,
) -> Result<Origin, ApiError> {
    Ok(match origin_of_job(platform, by, id)? {
        Some(of_job) => Origin {
            job: None,
            said_by: Some(by.to_string()),
            ..of_job
        },
        None => words::origin_of(said.unwrap_or_default(), by),
    })
}

fn configurations_of(origin: &Origin) -> BTreeMap<EnvironmentName, String> {
    origin.configurations.clone()
}

fn new_promotion(
    by: &Principal,
    id: &EnvironmentId,
    (from, source): (&EnvironmentName, &Past),
    snapshot: Option<&TargetStatus>,
    origin: Origin,
    passed: Option<Passed>,
) -> Promotion {
    let known = source.record.origin.clone();
    let mut authors: BTreeSet<String> = source.record.by.iter().cloned().collect();
    let actor = |origin: &Origin| origin.actor.clone();
    authors.extend(known.as_ref().and_then(actor));
    authors.extend(actor(&origin));
    let now = SystemTime::now();
    Promotion {
        id: 0,
        environment: id.clone(),
        what: Comes::Release {
            from: from.clone(),
            release: source.number,
            base: snapshot.and_then(|snapshot| snapshot.desired.current),
        },
        by: by.to_string(),
        requested_at: passed.as_ref().map_or(now, |passed| passed.requested_at),
        expires_at: now + EXPIRES_AFTER,
        origin: Origin {
            promotion: None,
            promoted_from: Some(Source {
                environment: from.clone(),
                release: source.number,
            }),
            approvals: Vec::new(),
            overridden: None,
            configurations: known.as_ref().map(configurations_of).unwrap_or_default(),
            ..known
                .filter(|known| known.commit.is_some())
                .unwrap_or(origin)
        },
        by_files: false,
        authors,
        approvals: passed.map(|passed| passed.approvals).unwrap_or_default(),
        state: PromotionState::Waiting,
    }
}

/// What never opens is refused at once, and so is what comes while nothing may.
fn refuse(id: &EnvironmentId, judged: &Judged) -> Result<(), ApiError> {
    if let Entry::Refused { why } = &judged.entry {
        let message = format!("{id} does not take it: {why}");
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .with_hint("`havre env ls` shows what has to hold there"));
    }
    let freeze = judged
        .gates
        .iter()
        .find(|gate| gate.name == GateName::Freeze);
    match freeze.map(|gate| &gate.state) {
        Some(GateState::Waits { why, until }) => Err(words::frozen(id, why, *until)),
        Some(GateState::Open | GateState::Refused { .. }) | None => Ok(()),
    }
}

/// Writes it down, and holds its images; what waited before it waits no longer.
fn keep(
    platform: &Arc<Platform>,
    kept: &mut Kept,
) -> Result<Vec<(Promotion, Promotion)>, ApiError> {
    let promotions = &platform.promotions;
    let release = kept.release.as_ref();
    kept.promotion = promotions.add(kept.promotion.clone(), release)?;
    let id = kept.promotion.id;
    if let Some(release) = release {
        lease(platform, id, release)?;
    }
    let mut superseded = Vec::new();
    for other in promotions.of(&kept.promotion.environment)? {
        let promotion = &other.promotion;
        let is_older = promotion.id < id && !promotion.state.is_over();
        if is_older && matches!(promotion.what, Comes::Release { .. }) {
            let why = format!("promotion {id} came after it");
            let event = PromotionEvent::Superseded { why };
            superseded.push(promotions.step(promotion.id, event)?);
        }
    }
    Ok(superseded)
}
