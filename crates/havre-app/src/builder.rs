//! What makes the images of projects.

use std::collections::BTreeMap;

use havre_api::{ApiError, EventSink, Principal, UpOptions};
use havre_image::builder::DryRun;
use havre_model::{Project, ServiceName};
use havre_release::Answer;

/// Builds and fetches images, for somebody who may not use every name.
pub(crate) trait Builder: Send + Sync {
    /// Manifest digest of each service's image, which is built, fetched or already there.
    fn images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
        options: &'a UpOptions,
        events: &'a EventSink,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, String>, ApiError>>;

    /// Puts digests where steps before a start name images of their own; `images`: those of services.
    /// An image that is not stored is fetched, or left as it is named where nothing is to be fetched.
    fn hook_images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a mut Project,
        images: &'a BTreeMap<ServiceName, String>,
        fetch: Option<(&'a UpOptions, &'a EventSink)>,
    ) -> Answer<'a, Result<(), ApiError>>;

    /// What would have to be done for each service's image; nothing of it is done.
    fn dry_run<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, DryRun>, ApiError>>;
}
