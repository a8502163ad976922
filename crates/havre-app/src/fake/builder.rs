//! A FAKE builder: its images are in the store like any others, and hold nothing that could run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use havre_api::{ApiError, ErrorCode, EventSink, Principal, UpOptions};
use havre_image::builder::DryRun;
use havre_image::manifest::media;
use havre_image::{CommitError, Image, ImageConfig, Images, Layer, NameRights, NameUse};
use havre_model::{Project, Service, ServiceName};
use havre_release::Answer;

use crate::builder::Builder;
use crate::image_names::{self, Use, environment_of};

/// STRICT FAKE of [`Builder`].
pub(crate) struct FakeBuilder {
    images: Images,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
pub(super) struct Script {
    /// Images that no registry has.
    pub(super) missing: BTreeSet<String>,
    /// How long each image takes.
    pub(super) delay: Duration,
    /// Images made so far; those that were there are not made again.
    pub(super) made: u32,
}

impl FakeBuilder {
    pub(super) fn new(images: Images) -> Self {
        Self {
            images,
            script: Mutex::default(),
        }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn stored(&self, name: &str, names: &NameRights) -> Result<Option<Image>, ApiError> {
        let stored = self.images.resolve_as(&name.parse().unwrap(), names);
        stored.map_err(|error| image_names::image_error(&error))
    }

    /// The image of this name, made where it is not there.
    async fn image(
        &self,
        name: &str,
        names: &NameRights,
        events: &EventSink,
    ) -> Result<Option<Image>, ApiError> {
        let delay = self.script().delay;
        if !delay.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = events.cancellation().cancelled() => return Ok(None),
            }
        }
        if self.script().missing.contains(name) {
            let message = format!("image {name} not found");
            return Err(ApiError::new(ErrorCode::NotFound, message));
        }
        if let Some(stored) = self.stored(name, names)? {
            return Ok(Some(stored));
        }
        self.script().made += 1;
        // Its one layer is no archive: whoever unpacks it fails.
        let written = self.images.write_blob(&mut name.as_bytes(), None);
        let (digest, size) = written.unwrap();
        let layer = Layer {
            digest,
            media_type: media::LAYER_TAR.to_owned(),
            size,
            diff_id: digest,
            chain_id: havre_image::chain_id(None, &digest),
        };
        let config = ImageConfig::for_this_machine();
        let name = name.parse().unwrap();
        match self.images.commit_image_as(config, &[layer], &name, names) {
            Ok(made) => Ok(Some(made)),
            Err(CommitError::Name(error)) => Err(image_names::image_error(&error)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The name of a service's image.
fn name_of(project: &Project, name: &ServiceName, service: &Service) -> String {
    let built = || format!("{}-{name}", project.name);
    service.image.clone().unwrap_or_else(built)
}

/// For whom services are.
fn names_of(by: &Principal, project: &Project, is_built: bool) -> NameRights {
    let using = Use {
        by,
        environment: &environment_of(project),
        events: None,
    };
    match is_built {
        true => using.builds(),
        false => using.pulls(),
    }
}

impl Builder for FakeBuilder {
    fn images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
        _: &'a UpOptions,
        events: &'a EventSink,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, String>, ApiError>> {
        Box::pin(async move {
            let mut digests = BTreeMap::new();
            for (name, service) in &project.services {
                let image = name_of(project, name, service);
                // Who has cancelled gets what there is, and must not go on with it.
                let names = names_of(by, project, service.build.is_some());
                if service.build.is_some() {
                    let name = image.parse().unwrap();
                    let free = self.images.check_name(NameUse::Give, &name, &names);
                    free.map_err(|error| image_names::image_error(&error))?;
                }
                let Some(image) = self.image(&image, &names, events).await? else {
                    break;
                };
                digests.insert(name.clone(), image.manifest_digest.to_string());
            }
            Ok(digests)
        })
    }

    fn hook_images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a mut Project,
        _: &'a BTreeMap<ServiceName, String>,
        fetch: Option<(&'a UpOptions, &'a EventSink)>,
    ) -> Answer<'a, Result<(), ApiError>> {
        Box::pin(async move {
            let names = names_of(by, project, false);
            let services = project.services.values_mut();
            for hook in services.flat_map(|service| &mut service.pre_start) {
                let Some(name) = hook.image.clone() else {
                    continue;
                };
                let image = match fetch {
                    Some((_, events)) => self.image(&name, &names, events).await?,
                    None => self.stored(&name, &names)?,
                };
                hook.image = image
                    .map(|one| one.manifest_digest.to_string())
                    .or(Some(name));
            }
            Ok(())
        })
    }

    fn dry_run<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, DryRun>, ApiError>> {
        let looked = |(name, service): (&ServiceName, &Service)| {
            let image = name_of(project, name, service);
            let outcome =
                match self.stored(&image, &names_of(by, project, service.build.is_some()))? {
                    Some(stored) => DryRun::Image(stored.manifest_digest),
                    None => DryRun::Fetch { reference: image },
                };
            Ok((name.clone(), outcome))
        };
        let all = project.services.iter().map(looked).collect();
        Box::pin(async { all })
    }
}
