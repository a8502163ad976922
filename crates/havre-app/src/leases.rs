//! Images that an environment holds: nobody else may prune them.

use std::collections::BTreeSet;

use havre_api::{ApiError, EnvironmentId, ErrorCode};
use havre_image::{BlobError, Image, ImageError, Images};
use havre_release::Release;

use crate::handle::EnvironmentHandle;
use crate::history;
use crate::platform::Platform;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How the names of environments' leases begin.
const LEASE: &str = "environment:";

/// Who holds the images of an environment's releases.
pub(crate) fn lease_name(id: &EnvironmentId) -> String {
    format!("{LEASE}{id}")
}

/// Holds the images of all releases that are or may be needed. Before the release is made: an image
/// that is in use must not be pruned, one that is not costs disk. Blocks.
pub(crate) fn lease(
    platform: &Platform,
    environment: &EnvironmentHandle,
    release: &Release,
) -> Result<(), ApiError> {
    let internal = |error: &dyn std::error::Error| ApiError::from_error(ErrorCode::Internal, error);
    let id = &environment.id;
    let Platform { tables, images, .. } = platform;
    let snapshot = environment.status();
    let serving = snapshot.desired.current;
    let kept = history::kept(tables, id, serving).map_err(|error| internal(&error))?;
    let mut held =
        needed(images, release, snapshot.releases.values()).map_err(|error| internal(&*error))?;
    // Those of earlier releases are kept for a rollback; what somebody has removed is gone.
    let services = kept.iter().flat_map(|kept| kept.release.services.values());
    for digest in services.flat_map(|service| service.images()) {
        held.extend(stored_image(images, digest).ok());
    }
    let held: Vec<&Image> = held.iter().collect();
    images
        .lease(&lease_name(id), &held)
        .map_err(|error| internal(&error))
}

/// Lets go of what environments hold that are not known: a daemon died between two steps of their
/// end, or of their beginning.
pub(crate) fn release_unknown(
    images: &Images,
    known: impl Iterator<Item = EnvironmentId>,
) -> Result<(), ImageError> {
    let known: BTreeSet<String> = known.map(|id| lease_name(&id)).collect();
    for holder in images.all_holders()? {
        if holder.starts_with(LEASE) && !known.contains(&holder) {
            images.release(&holder)?;
        }
    }
    Ok(())
}

/// The images of a release that is to come, all of them, and those of the releases before it. Of the
/// latter one may be gone: nobody can hold it, and without the new release that would never change.
/// One that is there and cannot be read is in use all the same.
fn needed<'a>(
    images: &Images,
    next: &Release,
    before: impl Iterator<Item = &'a Release>,
) -> Result<Vec<Image>, BoxError> {
    let mut held = Vec::new();
    for digest in next.services.values().flat_map(|service| service.images()) {
        held.push(stored_image(images, digest)?);
    }
    let services = before.flat_map(|release| release.services.values());
    for digest in services.flat_map(|service| service.images()) {
        match images.image(digest.parse()?) {
            Ok(image) => held.push(image),
            Err(error) if is_gone(&error) => {
                tracing::warn!(digest, "the image of a release that runs is gone");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held)
}

/// Whether there is no such image, as opposed to one that lacks something.
fn is_gone(error: &ImageError) -> bool {
    matches!(error, ImageError::Blob { digest, source: BlobError::Missing { digest: missing } }
        if missing == digest)
}

/// The image with this manifest digest.
pub(crate) fn stored_image(images: &Images, digest: &str) -> Result<Image, BoxError> {
    Ok(images.image(digest.parse()?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use havre_model::{LoadOptions, ServiceName, load};
    use havre_store::Store;

    use super::*;

    #[test]
    fn what_an_environment_held_that_is_gone_is_let_go_of() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[havre_image::SCHEMA]).unwrap();
        let store = Arc::new(store);
        let images = Images::open(&folder.path().join("images"), Arc::clone(&store)).unwrap();
        let id = |project| EnvironmentId {
            project: havre_model::ProjectName::new(project),
            environment: havre_model::EnvironmentName::new("production"),
        };
        for holder in [&lease_name(&id("shop")), &lease_name(&id("gone")), "build"] {
            let holder = holder.to_owned();
            let held = store.run("take a lease", move |db| {
                db.execute("INSERT INTO leases VALUES (?1, 'sha256:1')", [holder])
            });
            assert_eq!(held.unwrap(), 1);
        }
        release_unknown(&images, [id("shop")].into_iter()).unwrap();
        let holders = Vec::from_iter(images.all_holders().unwrap());
        assert_eq!(holders, ["build".to_owned(), lease_name(&id("shop"))]);
    }

    #[test]
    fn an_image_that_is_gone_is_asked_of_the_release_to_come_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[havre_image::SCHEMA]).unwrap();
        let images = Images::open(&folder.path().join("images"), Arc::new(store)).unwrap();
        let digest = format!("sha256:{}", "5".repeat(64));
        let compose = "name: shop\nservices: {web: {image: x}}\n";
        std::fs::write(folder.path().join("compose.yaml"), compose).unwrap();
        let options = LoadOptions {
            directory: folder.path().to_owned(),
            ..LoadOptions::default()
        };
        let project = load(&options).unwrap().project;
        let digests = BTreeMap::from([(ServiceName::new("web"), digest.clone())]);
        let lacking = Release::new(&project, &digests, &BTreeMap::new());
        let mut empty = lacking.clone();
        empty.services.clear();
        assert_eq!(needed(&images, &empty, [&lacking].into_iter()).unwrap(), []);
        assert!(needed(&images, &lacking, [&empty].into_iter()).is_err());
        // What is there and cannot be read may be what runs.
        let path = images.blob_path(&digest.parse().unwrap());
        std::fs::write(path, "{}").unwrap();
        assert!(needed(&images, &empty, [&lacking].into_iter()).is_err());
    }
}
