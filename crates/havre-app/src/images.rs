//! Stored images, for `havre image`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use havre_api::{
    ApiError, ErrorCode, ImageImportOutcome, ImageImportRequest, ImageProvenanceQuery,
    ImagePruneRequest, ImageRemoveOutcome, ImageRemoveRequest, ImageScanOutcome, ImageScanRequest,
    ImageSummary, StoredItem, StoredKind,
};
use havre_image::{Digest, Freed, ImageRef, Images, Judged, Kind, Named, PrunePolicy, RefError};
use havre_release::IN_TOTO;

use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::image_scan;

/// Lists images, each once with all its names.
pub(crate) async fn list(daemon: &Arc<Daemon>) -> Result<Vec<ImageSummary>, ApiError> {
    with_images(daemon, |images| {
        let mut found: BTreeMap<Digest, ImageSummary> = BTreeMap::new();
        for named in images.list().map_err(|error| failed(&error))? {
            let entry = match found.entry(named.manifest_digest) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut summary = summary(images, named.manifest_digest)?;
                    summary.created = Some(named.created_at.into());
                    entry.insert(summary)
                }
            };
            entry.references.push(named.reference.to_string());
        }
        Ok(found.into_values().collect())
    })
    .await
}

fn summary(images: &Images, digest: Digest) -> Result<ImageSummary, ApiError> {
    // A damaged image is listed too, so that it can be removed.
    let size_bytes = images.image(digest).map_or(0, |image| image.size());
    Ok(ImageSummary {
        digest: digest.to_string(),
        references: Vec::new(),
        size_bytes,
        created: None,
        used_by: images.holders(&digest).map_err(|error| failed(&error))?,
    })
}

/// Imports an archive.
pub(crate) async fn import(
    daemon: &Arc<Daemon>,
    request: ImageImportRequest,
) -> Result<ImageImportOutcome, ApiError> {
    let reference = request
        .reference
        .as_deref()
        .map(str::parse::<ImageRef>)
        .transpose()
        .map_err(|error: RefError| ApiError::from_error(ErrorCode::Invalid, &error))?;
    // When the client leaves, this future is dropped, and with it the guard.
    let cancel = CancellationToken::new();
    let _left = cancel.clone().drop_guard();
    with_images(daemon, move |images| {
        let imported = images
            .import(
                &request.path,
                reference.as_ref(),
                &havre_image::progress::silent,
                &cancel,
            )
            .map_err(|error| failed(&error))?;
        let images = imported
            .into_iter()
            .map(|one| {
                let mut summary = summary(images, one.image.manifest_digest)?;
                summary.references.push(one.reference.to_string());
                Ok(summary)
            })
            .collect::<Result<Vec<_>, ApiError>>()?;
        Ok(ImageImportOutcome { images })
    })
    .await
}

/// Looks for secrets in an image.
pub(crate) async fn scan(
    daemon: &Arc<Daemon>,
    request: ImageScanRequest,
) -> Result<ImageScanOutcome, ApiError> {
    let cancel = CancellationToken::new();
    let _left = cancel.clone().drop_guard();
    with_images(daemon, move |images| {
        let digest = meant(images, &request.image)?;
        let image = images.image(digest).map_err(|error| failed(&error))?;
        image_scan::scan(images, &image, &cancel)
    })
    .await
}

/// The one image that a name, a digest or the beginning of one means.
fn meant(images: &Images, name: &str) -> Result<Digest, ApiError> {
    let known = images.list().map_err(|error| failed(&error))?;
    let named =
        named(&known, name).map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?;
    named.first().map(|one| one.manifest_digest).ok_or_else(|| {
        let message = format!("no image `{name}`");
        ApiError::new(ErrorCode::NotFound, message)
            .with_hint("`havre image ls` lists those that there are")
    })
}

/// What is said of an image: in-toto statements, the newest first.
pub(crate) async fn provenance(
    daemon: &Arc<Daemon>,
    query: ImageProvenanceQuery,
) -> Result<Vec<serde_json::Value>, ApiError> {
    with_images(daemon, move |images| {
        // One that no name stands for any more is known by its digest.
        let digest = match query.image.parse() {
            Ok(digest) => digest,
            Err(_) => meant(images, &query.image)?,
        };
        let all = images
            .attestations(&digest)
            .map_err(|error| failed(&error))?;
        let statements = all.iter().filter(|one| one.kind == IN_TOTO);
        let read = statements.map(|one| {
            let text = images
                .attested(one)
                .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
            serde_json::from_slice(&text)
                .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))
        });
        read.collect()
    })
    .await
}

/// The names that a name, a digest or the beginning of one means.
fn named<'a>(known: &'a [Named], name: &str) -> Result<Vec<&'a Named>, RefError> {
    let is_meant = |named: &&Named| {
        let digest = named.manifest_digest.to_string();
        digest == name
            || (name.len() >= 12 && digest.trim_start_matches("sha256:").starts_with(name))
    };
    let by_digest: Vec<&Named> = known.iter().filter(is_meant).collect();
    if !by_digest.is_empty() {
        return Ok(by_digest);
    }
    let reference: ImageRef = name.parse()?;
    let by_name = known.iter().filter(|named| named.reference == reference);
    Ok(by_name.collect())
}

/// Removes names, and what nothing else needs. One that an environment runs keeps its layers.
pub(crate) async fn remove(
    daemon: &Arc<Daemon>,
    request: ImageRemoveRequest,
) -> Result<ImageRemoveOutcome, ApiError> {
    with_images(daemon, move |images| {
        let mut outcome = ImageRemoveOutcome::default();
        for name in request.images {
            match remove_one(images, &name) {
                Ok(freed) => add(&mut outcome, &freed),
                Err(error) => outcome.errors.push(format!("{name}: {error}")),
            }
        }
        Ok(outcome)
    })
    .await
}

fn remove_one(images: &Images, name: &str) -> Result<Freed, String> {
    let text = |error: &dyn std::error::Error| havre_base::one_line(error);
    let known = images.list().map_err(|error| text(&error))?;
    let meant = named(&known, name).map_err(|error| text(&error))?;
    if meant.is_empty() {
        return Err("no such image".to_owned());
    }
    let mut all = Freed::default();
    for one in meant {
        let freed = images
            .remove(&one.reference)
            .map_err(|error| text(&error))?;
        all.names.extend(freed.names);
        all.bytes += freed.bytes;
    }
    Ok(all)
}

/// Removes what nothing needs.
pub(crate) async fn prune(
    daemon: &Arc<Daemon>,
    request: ImagePruneRequest,
) -> Result<ImageRemoveOutcome, ApiError> {
    let state = daemon.platform.root.state_dir();
    let budget = daemon.options.build_cache.budget(state);
    let budget = budget.map_err(|error| failed(&error))?;
    with_images(daemon, move |images| {
        let policy = PrunePolicy {
            older_than: if request.all {
                Duration::ZERO
            } else {
                PrunePolicy::default().older_than
            },
            keep_build_cache: !request.all,
            unused_names: request.all,
            budget: Some(budget),
        };
        let mut outcome = ImageRemoveOutcome::default();
        if request.dry_run {
            let judged = images.explain(&policy).map_err(|error| failed(&error))?;
            outcome.items = judged.into_iter().map(item).collect();
        } else {
            let freed = images.prune(&policy).map_err(|error| failed(&error))?;
            add(&mut outcome, &freed);
        }
        Ok(outcome)
    })
    .await
}

fn item(judged: Judged) -> StoredItem {
    let kind = match judged.item.kind {
        Kind::Image => StoredKind::Image,
        Kind::Step => StoredKind::Step,
        Kind::CacheMount => StoredKind::CacheMount,
        Kind::Leftover => StoredKind::Leftover,
    };
    StoredItem {
        kind,
        what: judged.item.what,
        size_bytes: judged.item.bytes,
        used: Some(judged.item.used.into()),
        removed: judged.removed,
        why: judged.why,
    }
}

fn add(outcome: &mut ImageRemoveOutcome, freed: &Freed) {
    outcome
        .removed
        .extend(freed.names.iter().map(ToString::to_string));
    outcome.freed_bytes += freed.bytes;
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    ApiError::from_error(ErrorCode::Failed, error)
}

/// Runs `work` on a thread that may block.
async fn with_images<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    work: impl FnOnce(&Images) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let images = daemon.platform.images.clone();
    match tokio::task::spawn_blocking(move || work(&images)).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::from_error(ErrorCode::Internal, &error)),
    }
}
