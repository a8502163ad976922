//! Projects that come from elsewhere: what they have sent takes the place of their paths, and what they
//! may ask of this machine is looked at here, whatever their own files allow them.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use havre_api::{
    ApiError, EnvironmentId, ErrorCode, LackingFile, Principal, Role, SOURCE_ROOT, Scope,
    SourceLack, SourceOffer, SourcePieces,
};
use havre_model::{Mount, PathUse, Project, each_path, rights_over_machine};
use havre_release::Release;
use havre_sources::{Digest, Held, Offer, OfferError, Piece, PutError};

use crate::environment::EnvironmentError;
use crate::history;
use crate::labels::environment_key;
use crate::platform::Platform;

const ROOM: &str = "`havre image prune` makes room, or leave files out by .dockerignore";

/// Says what is lacking of what is offered. Blocks.
pub(crate) fn offer(platform: &Platform, request: SourceOffer) -> Result<SourceLack, ApiError> {
    let owner = environment_key(&request.environment);
    let trees = request.trees.into_iter();
    let offers = trees.map(|offered| Offer {
        id: offered.id,
        tree: offered.tree,
    });
    let offered = platform.sources.offer(&owner, offers.collect());
    let offered = offered.map_err(|error| {
        let (code, hint) = match &error {
            OfferError::Tree(_) | OfferError::Misnamed { .. } => (ErrorCode::Invalid, None),
            OfferError::NoRoom { .. } => (ErrorCode::Failed, Some(ROOM)),
            OfferError::TooMany { .. } => (
                ErrorCode::Failed,
                Some("what is not deployed goes an hour after it was last asked for: try then"),
            ),
            OfferError::Spoilt { removed: true, .. } => (
                ErrorCode::Failed,
                Some("it was removed: run the command again, which sends it once more"),
            ),
            OfferError::Spoilt { removed: false, .. } => (
                ErrorCode::Failed,
                Some("remove it on the server, and send it once more"),
            ),
            OfferError::Io { .. } => (ErrorCode::Failed, None),
        };
        let refused = ApiError::from_error(code, &error);
        match hint {
            Some(hint) => refused.with_hint(hint),
            None => refused,
        }
    })?;
    let lacking = offered.lacking.into_iter().map(|file| LackingFile {
        digest: file.digest,
        have_bytes: file.have_bytes,
    });
    Ok(SourceLack {
        unknown: offered.unknown,
        lacking: lacking.collect(),
    })
}

/// Takes parts of files. Blocks.
pub(crate) fn put(platform: &Platform, request: &SourcePieces) -> Result<(), ApiError> {
    let owner = environment_key(&request.environment);
    for piece in &request.pieces {
        let piece = Piece {
            digest: piece.digest,
            offset: piece.offset,
            bytes: &piece.bytes,
        };
        let put = platform.sources.put(&owner, &piece);
        put.map_err(|error| {
            let code = match &error {
                // Who offers once more hears what is lacking now.
                PutError::Unawaited { .. } | PutError::Elsewhere { .. } => ErrorCode::Conflict,
                PutError::Differs { .. } => ErrorCode::Invalid,
                PutError::NoRoom(_) | PutError::Io { .. } => ErrorCode::Failed,
            };
            let refused = ApiError::from_error(code, &error);
            match &error {
                PutError::NoRoom(_) => refused.with_hint(ROOM),
                _ => refused,
            }
        })?;
    }
    Ok(())
}

/// As long as it is there, what the project has sent stays.
#[derive(Debug)]
pub(crate) struct Settled {
    _held: Held,
}

/// Puts what was sent in the place of the project's paths, and refuses what this principal may not have of
/// the machine. Blocks.
pub(crate) fn settle(
    platform: &Platform,
    by: &Principal,
    project: &mut Project,
) -> Result<Settled, ApiError> {
    let id = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let owner = environment_key(&id);
    permit(by, project)?;
    let sources = &platform.sources;
    let held = sources.hold(&owner);
    let has_machine = may_have_of_machine(by);
    let mut trees = BTreeSet::new();
    each_path::<ApiError>(project, &mut |_, path| {
        if let Some((tree, below)) = sent(path) {
            let found = sources.path(&owner, &tree, below);
            *path = found.map_err(|error| {
                let hint = "what was sent is kept for an hour at least: run the command again";
                ApiError::from_error(ErrorCode::NotFound, &error).with_hint(hint)
            })?;
            trees.insert(tree);
            return Ok(());
        }
        Ok(())
    })?;
    let folder = sources.of(&owner);
    let mounts = project
        .services
        .values()
        .flat_map(|service| &service.mounts);
    for mount in mounts {
        if let Mount::Bind {
            source, read_only, ..
        } = mount
            && source.starts_with(&folder)
            && !read_only
        {
            let message = "a mount of what was sent is not written to";
            return Err(ApiError::new(ErrorCode::Invalid, message));
        }
    }
    project.sent = !trees.is_empty() || !has_machine || project.directory.starts_with(SOURCE_ROOT);
    if project.sent {
        project.directory = folder;
    }
    if !trees.is_empty() {
        let remembered = sources.remember(&owner, &trees);
        remembered.map_err(|error| {
            let failed = ApiError::new(ErrorCode::Failed, "cannot keep what was sent");
            failed.caused_by(Some(&error))
        })?;
    }
    Ok(Settled { _held: held })
}

/// Refuses what this principal may not have of the machine. Changes nothing.
pub(crate) fn permit(by: &Principal, project: &mut Project) -> Result<(), ApiError> {
    let id = EnvironmentId {
        project: project.name.clone(),
        environment: project.environment.clone(),
    };
    let has_machine = may_have_of_machine(by);
    each_path(project, &mut |purpose, path| {
        if sent(path).is_some() {
            return match not_sent(purpose) {
                Some(why) => {
                    let message = format!("{} cannot be sent: {why}", path.display());
                    Err(ApiError::new(ErrorCode::Invalid, message))
                }
                None => Ok(()),
            };
        }
        let in_context = purpose == PathUse::Dockerfile && is_below(path);
        match in_context || has_machine {
            true => Ok(()),
            false => Err(forbidden(&id, by, &path.display().to_string())),
        }
    })?;
    if has_machine {
        return Ok(());
    }
    // Its own are not.
    if let Some((name, _)) = project.volumes.iter().find(|(_, volume)| volume.external) {
        return Err(forbidden(&id, by, &format!("the external volume {name}")));
    }
    for (name, service) in &project.services {
        if let Some(asked) = rights_over_machine(service).first() {
            return Err(forbidden(&id, by, &format!("{asked} of service {name}")));
        }
    }
    Ok(())
}

/// Whether somebody may have a project use this machine's own disk, devices and rights: an admin of all of
/// it alone, since by them it can be taken over, with the secrets of every environment.
pub(crate) fn may_have_of_machine(by: &Principal) -> bool {
    by.grant.allows(Role::Admin, &Scope::Machine)
}

fn forbidden(id: &EnvironmentId, by: &Principal, what: &str) -> ApiError {
    let message = format!(
        "{what} is the server's own: {id} gets it from an admin of the whole machine alone"
    );
    ApiError::new(ErrorCode::Forbidden, message).with_hint(format!("{by} is {}", by.grant))
}

/// The tree that a path is of, and the path in it.
fn sent(path: &Path) -> Option<(Digest, &str)> {
    let below = path.strip_prefix(SOURCE_ROOT).ok()?.to_str()?;
    let (tree, below) = below.split_once('/').unwrap_or((below, ""));
    Some((tree.parse().ok()?, below))
}

/// Why a path for this purpose is always the server's.
fn not_sent(purpose: PathUse) -> Option<&'static str> {
    match purpose {
        PathUse::Context | PathUse::Dockerfile | PathUse::File | PathUse::Certificate => None,
        PathUse::Bind { .. } => None,
        PathUse::Backing => Some("a volume is the server's"),
        PathUse::Device => Some("a device is the server's"),
    }
}

/// A relative path that goes nowhere but down.
fn is_below(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// Removes what was sent and is needed no more, of all environments. Blocks.
pub(crate) fn sweep(platform: &Platform, known: &[(EnvironmentId, Vec<Release>)]) -> Vec<String> {
    let owners = match platform.sources.all() {
        Ok(owners) => owners,
        Err(error) => return vec![error.to_string()],
    };
    let pending = match platform.promotions.pending() {
        Ok(pending) => pending,
        Err(error) => return vec![havre_base::one_line(&error)],
    };
    let mut errors = Vec::new();
    for owner in owners {
        let of_owner = known.iter().find(|(id, _)| environment_key(id) == owner);
        // What is to come there finds its mounts as they were when it was asked for.
        let to_come = pending
            .iter()
            .filter(|kept| environment_key(&kept.promotion.environment) == owner)
            .filter_map(|kept| kept.release.as_ref());
        let to_come: Vec<&Release> = to_come.collect();
        let used = match trees_in_use(platform, &owner, of_owner, &to_come) {
            Ok(used) => used,
            Err(error) => {
                errors.push(havre_base::one_line(&error));
                continue;
            }
        };
        let is_known = of_owner.is_some() || !to_come.is_empty();
        let swept = platform
            .sources
            .sweep(&owner, &used, is_known, SystemTime::now());
        errors.extend(swept.iter().map(|error| havre_base::one_line(error)));
    }
    errors
}

/// Trees that an owner's releases name. Where nobody can say which, all are to stay.
fn trees_in_use(
    platform: &Platform,
    owner: &str,
    of_owner: Option<&(EnvironmentId, Vec<Release>)>,
    to_come: &[&Release],
) -> Result<BTreeSet<Digest>, EnvironmentError> {
    let folder = platform.sources.of(owner);
    let mut used = BTreeSet::new();
    if let Some((id, running)) = of_owner {
        // A rollback finds its mounts as they were.
        let kept = history::all_kept(&platform.tables, id)?;
        let kept = kept.iter().map(|past| &past.release);
        for release in kept.chain(running) {
            used.extend(trees_of(release, &folder));
        }
    }
    for release in to_come {
        used.extend(trees_of(release, &folder));
    }
    Ok(used)
}

/// Trees in an owner's folder that a release names.
fn trees_of(release: &Release, folder: &Path) -> BTreeSet<Digest> {
    let mounts = release
        .services
        .values()
        .flat_map(|one| &one.service.mounts);
    let mut paths: Vec<&PathBuf> = mounts
        .filter_map(|mount| match mount {
            Mount::Bind { source, .. } => Some(source),
            Mount::Volume { .. } | Mount::Anonymous { .. } | Mount::Tmpfs { .. } => None,
        })
        .collect();
    if let havre_model::Tls::Files { certificate, key } = &release.tls {
        paths.extend([certificate, key]);
    }
    let trees = folder.join("trees");
    let tree = |path: &PathBuf| {
        let below = path.strip_prefix(&trees).ok()?;
        let Some(Component::Normal(name)) = below.components().next() else {
            return None;
        };
        name.to_str()?.parse().ok()
    };
    paths.into_iter().filter_map(tree).collect()
}

#[cfg(test)]
mod tests;
