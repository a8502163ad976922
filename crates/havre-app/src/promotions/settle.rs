//! What follows when a promotion begins or became something else: who holds its images, and who hears of it.

use std::collections::BTreeSet;

use havre_api::{ApiError, ErrorCode};
use havre_image::Image;
use havre_release::{Promotion, Release};

use super::{lease_name, tell};
use crate::daemon::Daemon;
use crate::leases::stored_image;
use crate::platform::Platform;

/// It became something else, if it did: has people hear of it, and holds nothing for one that is over.
pub(super) fn became(daemon: &Daemon, before: &Promotion, after: &Promotion) {
    if after.state.is_over() && !before.state.is_over() {
        let_go(daemon, after.id);
    }
    tell::became(daemon, before, after);
}

/// Its images are the environment's own by now, or nobody's.
fn let_go(daemon: &Daemon, id: u64) {
    let released = daemon.platform.images.release(&lease_name(id));
    if let Err(error) = released {
        tracing::warn!(promotion = id, %error, "its images are held until the daemon starts again");
    }
}

/// Nobody prunes images that a promotion needs.
pub(super) fn lease(platform: &Platform, id: u64, release: &Release) -> Result<(), ApiError> {
    let services = release.services.values();
    let digests: BTreeSet<&str> = services.flat_map(|service| service.images()).collect();
    let images: Result<Vec<Image>, _> = digests
        .into_iter()
        .map(|digest| stored_image(&platform.images, digest))
        .collect();
    let failed = |error: &dyn std::error::Error| ApiError::from_error(ErrorCode::Failed, error);
    let images = images.map_err(|error| failed(&*error))?;
    let images: Vec<&Image> = images.iter().collect();
    let held = platform.images.lease(&lease_name(id), &images);
    held.map_err(|error| failed(&error))
}
