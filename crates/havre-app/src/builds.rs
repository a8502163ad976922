//! Images of a project: each service's is built, fetched or already there.

mod events;
mod needed;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use havre_api::{ApiError, ErrorCode, Event, EventSink, Principal, UpOptions};
use havre_engine::SharedFilter;
use havre_image::builder::{self, BaseImages, BuildRequest, DryRun, FetchFuture, Secret};
use havre_image::{Image, ImageRef, Images, NameRights, NameUse};
use havre_model::{Build, Project, PullPolicy, ServiceName};
use havre_redact::Filter;
use havre_release::Answer;
use tokio_util::sync::CancellationToken;

use crate::builder::Builder;
use crate::host::Host;
use crate::image_names::{Use, environment_of};
use crate::workshop::{Unbuilt, Workshop};
use crate::{git, image_names, pages, pressure, pulls};

use events::{build_error, event_of};
use needed::{NeededImage, each_once, needed_images, reference};
use request::{request, secrets, tags};

/// Makes the images of projects on this machine.
pub(crate) struct LocalBuilder {
    host: Arc<Host>,
    workshop: Arc<Workshop>,
}

impl LocalBuilder {
    pub(crate) fn new(host: Arc<Host>) -> Self {
        let platform = Arc::clone(&host.platform);
        let (engine, net) = (host.engine.clone(), Arc::clone(&host.net));
        let (exe, root) = (platform.exe.clone(), platform.root.clone());
        let ended = move || platform.built.notify_one();
        let workshop = Workshop::new(engine, net, exe, &root, ended);
        Self {
            host,
            workshop: Arc::new(workshop),
        }
    }

    /// Where it builds.
    pub(crate) fn workshop(&self) -> Arc<Workshop> {
        Arc::clone(&self.workshop)
    }
}

impl Builder for LocalBuilder {
    fn images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
        options: &'a UpOptions,
        events: &'a EventSink,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, String>, ApiError>> {
        Box::pin(images(self, by, project, options, events))
    }

    fn hook_images<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a mut Project,
        images: &'a BTreeMap<ServiceName, String>,
        fetch: Option<(&'a UpOptions, &'a EventSink)>,
    ) -> Answer<'a, Result<(), ApiError>> {
        Box::pin(hook_images(self, by, project, images, fetch))
    }

    fn dry_run<'a>(
        &'a self,
        by: &'a Principal,
        project: &'a Project,
    ) -> Answer<'a, Result<BTreeMap<ServiceName, DryRun>, ApiError>> {
        Box::pin(dry_run(self, by, project))
    }
}

/// Manifest digest of each service's image.
async fn images(
    builder: &LocalBuilder,
    by: &Principal,
    project: &Project,
    options: &UpOptions,
    events: &EventSink,
) -> Result<BTreeMap<ServiceName, String>, ApiError> {
    let mut digests = BTreeMap::new();
    let environment = &environment_of(project);
    let using = Use {
        by,
        environment,
        events: Some(events),
    };
    for needed in needed_images(project)? {
        let image = match needed.build {
            Some(build) => {
                let host = &builder.host;
                let checkout = git::context(build, host, events).await?;
                let platform = &*host.platform;
                let mut request =
                    request(project, &needed, build, options, &digests, platform, using)?;
                request.secrets = secrets(project, &needed, build, platform)?;
                let further = git::further_contexts(build, host, events).await?;
                for (name, checkout) in &further {
                    let given = checkout.give_as(name, &mut request);
                    given.map_err(|error| git::refusal(&error))?;
                }
                if let Some(checkout) = &checkout {
                    let given = checkout.give(&mut request);
                    given.map_err(|error| git::refusal(&error))?;
                }
                let image = build_one(builder, using, &needed, build, request, events).await?;
                warn_of_local_addresses(builder, project, &needed, &image, events).await;
                image
            }
            None => fetch_one(builder, using, &needed, options, events).await?,
        };
        for service in needed.services {
            digests.insert(service, image.manifest_digest.to_string());
        }
        if events.cancellation().is_cancelled() {
            break;
        }
    }
    Ok(digests)
}

/// Puts digests where steps before a start name images of their own; `images`: those of services.
/// An image that is not stored is fetched, or left as it is named where nothing is to be fetched.
async fn hook_images(
    builder: &LocalBuilder,
    by: &Principal,
    project: &mut Project,
    images: &BTreeMap<ServiceName, String>,
    fetch: Option<(&UpOptions, &EventSink)>,
) -> Result<(), ApiError> {
    let built = references(project)?;
    let events = fetch.map(|(_, events)| events);
    let environment = &environment_of(project);
    let using = Use {
        by,
        environment,
        events,
    };
    for (name, service) in &mut project.services {
        for hook in &mut service.pre_start {
            let Some(text) = &hook.image else { continue };
            let needed = NeededImage {
                reference: reference(text, name)?,
                is_named: true,
                build: None,
                policy: service.pull_policy,
                services: Vec::new(),
            };
            let known = built.get(&needed.reference.to_string());
            let known = known.and_then(|service| images.get(service));
            let digest = match (known, fetch) {
                (Some(digest), _) => Some(digest.clone()),
                (None, Some((options, events))) => {
                    let image = fetch_one(builder, using, &needed, options, events).await?;
                    Some(image.manifest_digest.to_string())
                }
                (None, None) => {
                    let names = using.pulls();
                    let images = &builder.host.platform.images;
                    let stored = images.resolve_as(&needed.reference, &names);
                    let stored = stored.map_err(|error| image_names::image_error(&error))?;
                    stored.map(|image| image.manifest_digest.to_string())
                }
            };
            if digest.is_some() {
                hook.image = digest;
            }
        }
    }
    Ok(())
}

/// A service by the name of the image that it runs.
fn references(project: &Project) -> Result<BTreeMap<String, ServiceName>, ApiError> {
    let mut all = BTreeMap::new();
    for needed in each_once(project)? {
        if let Some(service) = needed.services.first() {
            all.insert(needed.reference.to_string(), service.clone());
        }
    }
    Ok(all)
}

/// What would have to be done for each service's image; nothing of it is done.
async fn dry_run(
    builder: &LocalBuilder,
    by: &Principal,
    project: &Project,
) -> Result<BTreeMap<ServiceName, DryRun>, ApiError> {
    let platform = &*builder.host.platform;
    let images = &platform.images;
    let environment = &environment_of(project);
    let using = Use {
        by,
        environment,
        events: None,
    };
    let names = using.builds();
    let options = UpOptions::default();
    let mut all: BTreeMap<ServiceName, DryRun> = BTreeMap::new();
    // When nobody waits any more, this future is dropped, and reading contexts ends.
    let cancel = CancellationToken::new();
    let _left = cancel.clone().drop_guard();
    let mut digests = BTreeMap::new();
    for needed in needed_images(project)? {
        let unready = needed.needs().find_map(|other| match all.get(other) {
            Some(DryRun::Image(_)) | None => None,
            Some(unready) => Some(unready.clone()),
        });
        let outcome = match needed.build {
            // What it is made from comes first.
            Some(_) if unready.is_some() => unready.unwrap_or_else(|| DryRun::Fetch {
                reference: needed.reference.to_string(),
            }),
            // It may be another one since the last time.
            Some(build) if let Some(git) = git::contexts(build).next() => DryRun::Fetch {
                reference: git.url.clone(),
            },
            Some(build) => {
                let mut request =
                    request(project, &needed, build, &options, &digests, platform, using)?;
                // Nothing depends on what they are.
                let unread = build.secrets.keys().map(|id| (id.clone(), Secret::new([])));
                request.secrets = unread.collect();
                builder::dry_run(images, &request, &cancel)
                    .await
                    .map_err(|error| image_names::build_error(&error))?
            }
            None => {
                let reference = &needed.reference;
                let stored = images.resolve_as(reference, &names);
                let stored = stored.map_err(|error| image_names::image_error(&error))?;
                if needed.policy == PullPolicy::Always {
                    let given = images.check_name(NameUse::Give, reference, &using.pulls());
                    given.map_err(|error| image_names::image_error(&error))?;
                }
                match stored {
                    Some(image) if needed.policy != PullPolicy::Always => {
                        DryRun::Image(image.manifest_digest)
                    }
                    _ => DryRun::Fetch {
                        reference: needed.reference.to_string(),
                    },
                }
            }
        };
        for service in needed.services {
            if let DryRun::Image(digest) = &outcome {
                digests.insert(service.clone(), digest.to_string());
            }
            all.insert(service, outcome.clone());
        }
    }
    Ok(all)
}

/// What is masked in the output of a build's steps.
fn mask(request: &BuildRequest, events: &EventSink) -> Result<SharedFilter, ApiError> {
    let secrets = request.secrets.iter();
    let (filter, unmasked) =
        Filter::new(secrets.map(|(id, secret)| (id.as_str(), secret.expose())));
    for secret in unmasked {
        events.emit(Event::Warning {
            message: format!("secret `{}` of a build: {}", secret.name, secret.why),
            hint: None,
        });
    }
    SharedFilter::new(&filter).map_err(|error| {
        let message = format!("secrets cannot be masked in the output of builds: {error}");
        ApiError::new(ErrorCode::Failed, message)
    })
}

async fn build_one(
    builder: &LocalBuilder,
    using: Use<'_>,
    needed: &NeededImage<'_>,
    build: &Build,
    mut request: BuildRequest,
    events: &EventSink,
) -> Result<Image, ApiError> {
    let turn = builder.workshop.turn().await;
    let platform = &builder.host.platform;
    // One that was free before may be somebody's by now.
    request.tags = tags(needed, build, &platform.images, &request.names)?;
    let name = needed.reference.to_string();
    if build.host_ca && request.host_ca.is_none() {
        events.emit(Event::Warning {
            message: format!("{name}: this machine has no bundle of CA certificates for its build"),
            hint: Some("install ca-certificates, or set build.host_ca to false".to_owned()),
        });
    }
    let bases = Bases {
        images: platform.images.clone(),
        names: using.pulls(),
        events: events.clone(),
    };
    let services = needed.services.clone();
    let progress = |event| {
        if let Some(event) = event_of(&name, &services, event) {
            events.emit(event);
        }
    };
    let what = (&request, name.as_str(), mask(&request, events)?);
    let cancel = events.cancellation();
    let building = turn.build(&platform.images, &bases, what, &progress, cancel);
    building.await.map_err(|unbuilt| match unbuilt {
        Unbuilt::NoRoom(refusal) => refusal,
        Unbuilt::Build(error) => build_error(&name, needed, &error, events),
    })
}

/// Says which scripts of a new image send visitors to their own machine. A trial on addresses that
/// only this machine has is spared.
async fn warn_of_local_addresses(
    builder: &LocalBuilder,
    project: &Project,
    needed: &NeededImage<'_>,
    image: &Image,
    events: &EventSink,
) {
    if project
        .hosts
        .iter()
        .all(|host| host.ends_with(".localhost"))
    {
        return;
    }
    let ports = project.services.values().flat_map(|service| {
        let published = service.ports.iter();
        let published = published.flat_map(|port| [Some(port.target), port.published]);
        published.flatten().chain(service.expose.iter().copied())
    });
    let routed = project.routes.iter().map(|route| route.port);
    let ports: BTreeSet<u16> = ports.chain(routed).collect();
    let (images, image) = (builder.host.platform.images.clone(), image.clone());
    let name = needed.reference.to_string();
    let looking = tokio::task::spawn_blocking(move || {
        let layers = images
            .ensure_unpacked(&image)
            .map_err(std::io::Error::other)?;
        pages::local_addresses(&layers, &ports)
    });
    let found = match looking.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(image = name, %error, "cannot look through the pages of an image");
            return;
        }
        Err(error) => {
            tracing::warn!(image = name, %error, "looking through the pages of an image was given up");
            return;
        }
    };
    for pages::LocalAddress { address, file } in found {
        events.emit(Event::Warning {
            message: format!(
                "{name}: {file} asks {address}: every visitor's browser would ask itself"
            ),
            hint: Some(
                "build it with a path (/api) or the public address; `havre doctor` says which variable"
                    .to_owned(),
            ),
        });
    }
}

/// Fetches base images during a build.
struct Bases {
    images: Images,
    names: NameRights,
    events: EventSink,
}

impl BaseImages for Bases {
    fn fetch<'a>(
        &'a self,
        reference: &'a ImageRef,
        cancel: &'a CancellationToken,
    ) -> FetchFuture<'a> {
        Box::pin(async move {
            pulls::pull(
                &self.images,
                reference,
                self.names.clone(),
                &self.events,
                cancel,
            )
            .await
            .map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>)
        })
    }
}

async fn fetch_one(
    builder: &LocalBuilder,
    using: Use<'_>,
    needed: &NeededImage<'_>,
    options: &UpOptions,
    events: &EventSink,
) -> Result<Image, ApiError> {
    let images = &builder.host.platform.images;
    let reference = &needed.reference;
    let names = using.pulls();
    let stored = images
        .resolve_as(reference, &names)
        .map_err(|error| image_names::image_error(&error))?;
    let fresh = options.pull || needed.policy == PullPolicy::Always;
    match (stored, needed.policy) {
        (Some(image), _) if !fresh => Ok(image),
        (None, PullPolicy::Never) => Err(ApiError::new(
            ErrorCode::Failed,
            format!("image {reference} is not stored here and its pull_policy is never"),
        )
        .with_hint(format!(
            "import it: havre image import FILE --tag {reference}"
        ))),
        (_, _) => {
            let pulling = pulls::pull(images, reference, names, events, events.cancellation());
            let state_dir = builder.host.platform.root.state_dir();
            let what = format!("image {reference} is not fetched");
            let pulled = tokio::select! {
                pulled = pulling => pulled,
                refusal = pressure::short(state_dir, &what) => {
                    builder.host.platform.built.notify_one();
                    return Err(refusal);
                }
            };
            pulled.map_err(|error| {
                if let Some(refused) = image_names::of_fetch(&error) {
                    return refused;
                }
                ApiError::from_error(ErrorCode::Failed, &error).with_hint(format!(
                    "check the name and the network, or import it: havre image import FILE --tag \
                     {reference}"
                ))
            })
        }
    }
}

#[cfg(test)]
mod tests;
