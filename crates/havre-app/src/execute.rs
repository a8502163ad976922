//! Carries decisions out: thin, and safe to run twice.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_api::EnvironmentId;
use havre_base::{blocking, in_place};
use havre_engine::{Confidential, ContainerId, ControlError, State};
use havre_image::overlay::{Overlay, Writable};
use havre_image::{Digest, Image};
use havre_model::{Hook, Reload, ServiceName, is_volume_name};
use havre_release::{Action, JobId, LiveContents, Release, ReplicaId, ServiceRelease};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::action::{ActionError, Job};
use crate::attach;
use crate::container::{Prepared, Purpose, container_spec, hostname};
use crate::environment::tables::Tables;
use crate::hooks;
use crate::host::Host;
use crate::host_mounts;
use crate::labels::{ContainerLabels, environment_key};
use crate::masks::{Mask, Masked};
use crate::platform::Platform;
use crate::secrets::rotation;
use crate::secrets::scope::scope_of;
use crate::volumes::Volumes;
use crate::volumes::owner::{self, Uses};

pub(crate) use files::extra_hosts;

use files::{HostNames, files};

/// Folders of output kept per environment after their containers are gone.
const KEPT_LOGS: usize = 50;

/// Longest wait for a shim to take what it is to mask: starts of the environment wait for it.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Carries one action out.
pub(crate) async fn carry_out(job: &Job) -> Result<(), ActionError> {
    match &job.work.action {
        Action::Start {
            id,
            service,
            release,
            ..
        } => start(job, id, service, *release, Purpose::Replica).await,
        Action::RunJob {
            id,
            job: JobId { service, hook },
            release,
            ..
        } => {
            let (_, config) = find(job, service, *release)?;
            let purpose = match hook {
                None => Purpose::Job,
                Some(index) => config
                    .service
                    .pre_start
                    .get(*index as usize)
                    .map(Purpose::Hook)
                    .ok_or(ActionError::NoService {
                        number: *release,
                        service: service.clone(),
                    })?,
            };
            start(job, id, service, *release, purpose).await
        }
        Action::Stop { id, within } => {
            let container = ContainerId(id.0.clone());
            let engine = &job.host.engine;
            let grace = match &job.work.pre_stop {
                Some((hooks, grace)) => {
                    let mask = mask(job).await;
                    // It ends all the same.
                    let filter = mask.as_ref().ok().map(|mask| &mask.filter);
                    Some(hooks::before_stop(engine, &container, hooks, filter, *grace).await)
                }
                None => *within,
            };
            let stopped = engine.stop(&container, grace).await;
            stopped.map_err(|source| ActionError::Stop {
                id: id.clone(),
                source,
            })
        }
        Action::Renew {
            id,
            service,
            release,
            contents,
        } => renew(job, id, service, *release, contents).await,
        Action::Remove { id } => remove(job, id).await,
    }
}

fn find<'a>(
    job: &'a Job,
    service: &ServiceName,
    number: u64,
) -> Result<(&'a Release, &'a ServiceRelease), ActionError> {
    job.work
        .releases
        .get(&number)
        .and_then(|release| Some((release, release.services.get(service)?)))
        .ok_or_else(|| ActionError::NoService {
            number,
            service: service.clone(),
        })
}

async fn start(
    job: &Job,
    id: &ReplicaId,
    service: &ServiceName,
    number: u64,
    purpose: Purpose<'_>,
) -> Result<(), ActionError> {
    let (release, config) = find(job, service, number)?;
    let platform = &job.host.platform;
    let is_replica = matches!(purpose, Purpose::Replica);
    let key = environment_key(&job.id);
    let Some(mut place) = ContainerLabels::of(&job.id, &job.work.action) else {
        return Ok(());
    };
    // New volumes are filled from the service's image, whatever a step runs in.
    let (mut image, filling) = unpacked(platform, service, &config.image).await?;
    let mut lower = filling.clone();
    if let Purpose::Hook(Hook {
        image: Some(own), ..
    }) = purpose
    {
        (image, lower) = unpacked(platform, service, own).await?;
    }
    let Some(connection) = attach::connect(job, id, &config.service, &mut place).await? else {
        return Ok(());
    };
    let sent = platform.sources.of(&key);
    let neighbours = job.work.releases.values().flat_map(|r| r.services.values());
    let neighbours = neighbours.map(|config| &config.service);
    let settled = in_place(|| {
        let own = platform.root.own_folders();
        host_mounts::settle(&config.service, own, &sent, neighbours)
    })
    .map_err(|source| ActionError::MountRefused {
        service: service.clone(),
        source,
    })?;
    let scratch = platform.container_dir(id);
    let upper = {
        let scratch = scratch.clone();
        blocking(move || fresh(&scratch)).await??
    };
    let own_volumes = scratch.join("volumes");
    let mounts = {
        let (dir, environment, volumes, image, service_config) = (
            platform.volumes_dir(),
            job.id.clone(),
            release.volumes.clone(),
            filling,
            settled.clone(),
        );
        blocking(move || {
            let volumes = Volumes {
                dir: &dir,
                own: &own_volumes,
                environment: &environment,
                volumes: &volumes,
                image: &image,
            };
            volumes.prepare(&service_config)
        })
        .await?
        .map_err(|source| ActionError::Volumes {
            service: service.clone(),
            source,
        })?
    };
    let mask = mask(job).await?;
    let own = scope_of(Some(&job.id));
    let (secrets, contents) = in_place(|| files::secrets(&platform.contents, &own, config))?;
    let container = ContainerId(id.0.clone());
    let names = HostNames {
        own: hostname(&config.service, &container),
        host: connection.host,
    };
    let prepared = Prepared {
        id: container,
        labels: place.labels(),
        rootfs: Overlay {
            lower,
            upper: Some(upper),
        },
        mounts,
        files: in_place(|| files(&job.host, &key, &scratch, &place, config, &names))?,
        secrets,
        netns: connection.netns,
        cgroup_parent: key.clone(),
        log_dir: platform.log_dir(&key).join(&id.0),
    };
    let spec =
        container_spec(&settled, &image.config.run, purpose, prepared).map_err(|source| {
            ActionError::Spec {
                service: service.clone(),
                source,
            }
        })?;
    let confidential = Confidential {
        filter: Some(mask.shared.clone()),
        files: contents,
        env: in_place(|| files::variables(&platform.contents, &own, config))?,
        contents: config
            .live_contents()
            .filter(|_| is_replica)
            .map(|contents| contents.0),
    };
    let created = job.host.engine.create_with(&spec, confidential).await;
    created.map_err(|source| ActionError::Create {
        id: id.clone(),
        source,
    })?;
    let masked = platform.masks.of(&job.id);
    masked.given.lock().await.note(&spec.id, &mask);
    let hooks = &config.service.post_start;
    if hooks.is_empty() || !is_replica {
        return Ok(());
    }
    let filter = Some(&mask.filter);
    let done = hooks::after_start(&job.host.engine, &spec.id, hooks, filter, &scratch).await;
    if let Err(source) = done {
        // A replica that was not made ready must not be taken for one.
        let stopped = job.host.engine.stop(&spec.id, None).await;
        stopped.map_err(|source| ActionError::Stop {
            id: id.clone(),
            source,
        })?;
        remove(job, id).await?;
        return Err(ActionError::PostStart {
            service: service.clone(),
            source,
        });
    }
    Ok(())
}

/// Puts other contents of a replica's secrets in place and has its program reload them. Whatever of it was
/// done already is done again.
async fn renew(
    job: &Job,
    id: &ReplicaId,
    service: &ServiceName,
    number: u64,
    contents: &LiveContents,
) -> Result<(), ActionError> {
    let (_, config) = find(job, service, number)?;
    let platform = &job.host.platform;
    let engine = &job.host.engine;
    // Before anybody can print them.
    let mask = mask(job).await?;
    let own = scope_of(Some(&job.id));
    let (_, files) = in_place(|| files::secrets(&platform.contents, &own, config))?;
    let confidential = Confidential {
        filter: Some(mask.shared.clone()),
        files,
        env: in_place(|| files::variables(&platform.contents, &own, config))?,
        contents: Some(contents.0.clone()),
    };
    let container = ContainerId(id.0.clone());
    let failed = |source| ActionError::Renew {
        id: id.clone(),
        source,
    };
    engine
        .entrust(&container, &confidential)
        .await
        .map_err(failed)?;
    // One that was made meanwhile is given again.
    platform
        .masks
        .of(&job.id)
        .given
        .lock()
        .await
        .note(&container, &mask);
    let signal = match &config.service.reload {
        Reload::Restart | Reload::None => None,
        Reload::Signal(name) => havre_engine::signal_number(name),
        Reload::Command(command) => {
            let hook = Hook {
                command: command.clone(),
                image: None,
                user: None,
                working_dir: None,
                environment: Default::default(),
            };
            let ran = hooks::reload(engine, &container, hook, Some(&mask.filter)).await;
            ran.map_err(|source| ActionError::Reload {
                id: id.clone(),
                source,
            })?;
            None
        }
    };
    match engine.reload(&container, &contents.0, signal).await {
        // Its next start reads them.
        Ok(()) | Err(ControlError::NotRunning { .. }) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// What is masked in the environment's output. Those that run learn of it first.
async fn mask(job: &Job) -> Result<Arc<Mask>, ActionError> {
    let platform = &job.host.platform;
    let masked = platform.masks.of(&job.id);
    let learned = mask_anew(&job.host, &job.id, &job.work.releases).await;
    learned.map_err(|source| ActionError::Mask { source })?;
    // Another start may have learned more meanwhile.
    masked.mask().ok_or_else(|| ActionError::Mask {
        source: io::ErrorKind::NotFound.into(),
    })
}

/// Looks again for what is to be masked, and has those that run mask it.
pub(crate) async fn mask_anew(
    host: &Host,
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
) -> io::Result<()> {
    learn(&host.platform, id, releases)?;
    give_mask(host, id, &host.platform.masks.of(id)).await;
    Ok(())
}

/// Adds the secrets of these releases to what is masked, and what a rotation is about to put in their place.
pub(crate) fn learn(
    platform: &Platform,
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
) -> io::Result<()> {
    in_place(|| {
        let staged = rotation::staged(platform, id, releases);
        let (contents, tables) = (&platform.contents, &platform.tables);
        let masked = platform.masks.of(id);
        masked.learn(contents, tables, id, releases.values(), staged)
    })
}

/// Has those that run mask what the environment's secrets are now, also where an earlier try failed.
pub(crate) async fn keep_masked(
    host: &Host,
    id: &EnvironmentId,
    releases: &BTreeMap<u64, Release>,
) {
    let platform = &host.platform;
    let masked = platform.masks.of(id);
    if masked.is_due(Instant::now())
        && let Err(error) = learn(platform, id, releases)
    {
        tracing::warn!(environment = %id, %error, "what is to be masked in output cannot be found out");
    }
    give_mask(host, id, &masked).await;
}

/// Gives the mask of now to each container that runs and has another.
async fn give_mask(host: &Host, id: &EnvironmentId, masked: &Masked) {
    let mut given = masked.given.lock().await;
    let Some(mask) = masked.mask() else { return };
    let there = host.engine.watch_containers(&environment_key(id));
    let there = Arc::clone(&there.borrow());
    given.retain(|id| there.iter().any(|one| &one.id == id));
    // One that has ended prints nothing any more; one that is being made was given its own.
    let runs = |state: &State| matches!(state, State::Running { .. } | State::BackOff { .. });
    let running = there.iter().filter(|one| runs(&one.state));
    let mut telling = JoinSet::new();
    for one in running.filter(|one| given.lacks(&one.id, &mask, Instant::now())) {
        let (engine, id) = (host.engine.clone(), one.id.clone());
        let confidential = Confidential {
            filter: Some(mask.shared.clone()),
            ..Confidential::default()
        };
        telling.spawn(async move {
            let told = timeout(TOLD_WITHIN, engine.entrust(&id, &confidential)).await;
            let failed = match told {
                Ok(told) => told.err().map(|error| havre_base::one_line(&error)),
                Err(_) => Some(format!("no answer within {} s", TOLD_WITHIN.as_secs())),
            };
            (id, failed)
        });
    }
    while let Some(told) = telling.join_next().await {
        match told {
            Ok((id, None)) => given.note(&id, &mask),
            Ok((id, Some(why))) => {
                if given.note_failure(&id, &mask, Instant::now()) {
                    tracing::warn!(container = id.0, why, "does not learn what to mask");
                }
            }
            // A panic, which has been told; the next pass tries again.
            Err(_) => {}
        }
    }
}

/// The image with this manifest digest, and its layers, the topmost first.
async fn unpacked(
    platform: &Platform,
    service: &ServiceName,
    digest: &str,
) -> Result<(Image, Vec<PathBuf>), ActionError> {
    let digest: Digest = digest.parse().map_err(|_| ActionError::Digest {
        digest: digest.to_owned(),
    })?;
    let image = platform
        .images
        .image(digest)
        .map_err(|source| ActionError::Image {
            service: service.clone(),
            digest: digest.to_string(),
            source,
        })?;
    let (images, wanted) = (platform.images.clone(), image.clone());
    let lower = blocking(move || images.ensure_unpacked(&wanted))
        .await?
        .map_err(|source| ActionError::Layers {
            service: service.clone(),
            source,
        })?;
    Ok((image, lower))
}

/// The writable layer of a container, empty.
fn fresh(scratch: &Path) -> Result<Writable, ActionError> {
    let writable = Writable {
        upper: scratch.join("upper"),
        work: scratch.join("work"),
    };
    remove_tree(scratch)?;
    for dir in [&writable.upper, &writable.work] {
        fs::create_dir_all(dir).map_err(|source| ActionError::Files {
            attempt: "make the folder",
            path: dir.clone(),
            source,
        })?;
    }
    Ok(writable)
}

fn remove_tree(path: &Path) -> Result<(), ActionError> {
    havre_image::remove_tree(path).map_err(|source| ActionError::Files {
        attempt: "remove",
        path: path.to_owned(),
        source,
    })
}

async fn remove(job: &Job, id: &ReplicaId) -> Result<(), ActionError> {
    let platform = &job.host.platform;
    let mut errors: Vec<String> = job
        .host
        .engine
        .remove(&ContainerId(id.0.clone()))
        .await
        .iter()
        .map(|error| havre_base::one_line(error))
        .collect();
    let (net, key, name) = (
        Arc::clone(&job.host.net),
        environment_key(&job.id),
        id.0.clone(),
    );
    let detached = blocking(move || net.detach(&key, &name)).await?;
    errors.extend(
        detached
            .err()
            .iter()
            .map(|error| havre_base::one_line(error)),
    );
    let scratch = platform.container_dir(id);
    if let Err(error) = blocking(move || remove_tree(&scratch)).await? {
        errors.push(havre_base::one_line(&error));
    }
    let logs = platform.log_dir(&environment_key(&job.id));
    let in_use = |name: &OsStr| platform.containers_dir().join(name).exists();
    if let Err(error) = in_place(|| prune_logs(&logs, KEPT_LOGS, in_use)) {
        errors.push(format!("old output: {error}"));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ActionError::Remove {
            id: id.clone(),
            errors,
        })
    }
}

/// Removes the oldest folders of output beyond `keep`, but none of a container that is there: one
/// that has long said nothing may run.
fn prune_logs(dir: &Path, keep: usize, in_use: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if in_use(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        // Another replica's removal may be at it as well.
        let files = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            files => files?,
        };
        let newest = files
            .filter_map(|file| file.ok()?.metadata().ok()?.modified().ok())
            .max();
        folders.push((newest, path));
    }
    folders.sort();
    let surplus = folders.len().saturating_sub(keep);
    for (_, path) in folders.into_iter().take(surplus) {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Removes those volumes that are an environment's own; returns why others could not be looked at.
fn remove_volumes(
    tables: &Tables,
    dir: &Path,
    id: &EnvironmentId,
    names: &[String],
) -> Vec<String> {
    let uses = || Uses::read(tables);
    let removed = names.iter().map(|name| owner::remove(dir, name, id, uses));
    let failed = removed.filter_map(Result::err);
    failed.map(|error| havre_base::one_line(&error)).collect()
}

/// Removes an environment's networks and output, and those of these volumes that are its own.
/// Returns what could not be removed.
pub(crate) async fn dismantle(
    host: &Host,
    id: &EnvironmentId,
    volumes: &BTreeSet<String>,
) -> Vec<String> {
    let key = environment_key(id);
    let mut errors = Vec::new();
    let platform = &host.platform;
    platform.masks.forget(id);
    let net = Arc::clone(&host.net);
    let removed = {
        let key = key.clone();
        blocking(move || net.remove_environment(&key)).await
    };
    match removed {
        Ok(failed) => errors.extend(failed.iter().map(|error| havre_base::one_line(error))),
        Err(error) => errors.push(havre_base::one_line(&error)),
    }
    let output = platform.log_dir(&key);
    let sound = volumes.iter().filter(|name| is_volume_name(name));
    let names: Vec<String> = sound.cloned().collect();
    let (tables, dir, owner) = (platform.tables.clone(), platform.volumes_dir(), id.clone());
    let removed = blocking(move || {
        let output = remove_tree(&output).map_err(|error| havre_base::one_line(&error));
        let volumes = remove_volumes(&tables, &dir, &owner, &names);
        output.err().into_iter().chain(volumes).collect::<Vec<_>>()
    })
    .await;
    match removed {
        Ok(failed) => errors.extend(failed),
        Err(error) => errors.push(havre_base::one_line(&error)),
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn old_output_goes_but_not_that_of_a_container_that_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..10 {
            let folder = dir.path().join(format!("web-{number}"));
            fs::create_dir(&folder).expect("a folder");
            let file = fs::File::create(folder.join("0")).expect("a file");
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
            file.set_modified(at).expect("its time");
        }
        let silent = OsStr::new("web-0");
        prune_logs(dir.path(), 3, |name| name == silent).expect("pruned");
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["web-0", "web-7", "web-8", "web-9"]);
    }
}
