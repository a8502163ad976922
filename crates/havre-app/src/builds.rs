//! Images of a project: each service's is built, fetched or already there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use havre_api::{
    ApiError, BuildFailure, BuildProgress, ErrorCode, Event, EventSink, FailureReport, LogStream,
    Place, UpOptions,
};
use havre_image::builder::{
    self, BaseImages, BuildError, BuildEvent, BuildRequest, DockerfileSource, FetchFuture,
    Foreseen, NamedContext, Secret, StepSettings, Stream, host_ca_bundle,
};
use havre_image::{Image, ImageRef, Images};
use havre_model::{Build, BuildContext, Project, PullPolicy, ServiceName};
use tokio_util::sync::CancellationToken;

use crate::daemon::Daemon;
use crate::steps::{self, BuildLimits, Steps};
use crate::{files, git, pages, pressure, pulls};

/// Manifest digest of each service's image.
pub(crate) async fn images(
    daemon: &Arc<Daemon>,
    project: &Project,
    options: &UpOptions,
    events: &EventSink,
) -> Result<BTreeMap<ServiceName, String>, ApiError> {
    let mut digests = BTreeMap::new();
    for wanted in wanted(project)? {
        let image = match wanted.build {
            Some(build) => {
                let checkout = git::context(build, &daemon.platform.root.git_dir(), events).await?;
                let mut request = request(&wanted, build, options, &digests)?;
                request.secrets = secrets(project, &wanted, build)?;
                request.steps.mounts_of = project.name.to_string();
                if let Some(checkout) = &checkout {
                    let given = checkout.give(&mut request);
                    given.map_err(|error| git::refusal(&error))?;
                }
                let image = build_one(daemon, &wanted, build, request, events).await?;
                warn_of_local_addresses(daemon, project, &wanted, &image, events).await;
                image
            }
            None => fetch_one(daemon, &wanted, options, events).await?,
        };
        for service in wanted.services {
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
pub(crate) async fn hook_images(
    daemon: &Arc<Daemon>,
    project: &mut Project,
    images: &BTreeMap<ServiceName, String>,
    fetch: Option<(&UpOptions, &EventSink)>,
) -> Result<(), ApiError> {
    let built = references(project)?;
    for (name, service) in &mut project.services {
        for hook in &mut service.pre_start {
            let Some(text) = &hook.image else { continue };
            let wanted = Wanted {
                reference: reference(text, name)?,
                build: None,
                policy: service.pull_policy,
                services: Vec::new(),
            };
            let known = built.get(&wanted.reference.to_string());
            let known = known.and_then(|service| images.get(service));
            let digest = match (known, fetch) {
                (Some(digest), _) => Some(digest.clone()),
                (None, Some((options, events))) => {
                    let image = fetch_one(daemon, &wanted, options, events).await?;
                    Some(image.manifest_digest.to_string())
                }
                (None, None) => {
                    let stored = daemon.platform.images.resolve(&wanted.reference);
                    let stored =
                        stored.map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
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
    for wanted in each_once(project)? {
        if let Some(service) = wanted.services.first() {
            all.insert(wanted.reference.to_string(), service.clone());
        }
    }
    Ok(all)
}

fn reference(text: &str, service: &ServiceName) -> Result<ImageRef, ApiError> {
    text.parse().map_err(|error: havre_image::RefError| {
        ApiError::from_error(ErrorCode::Invalid, &error)
            .with_hint(format!("see `image` of service `{service}`"))
    })
}

/// What would have to be done for each service's image; nothing of it is done.
pub(crate) async fn foresee(
    daemon: &Arc<Daemon>,
    project: &Project,
) -> Result<BTreeMap<ServiceName, Foreseen>, ApiError> {
    let images = &daemon.platform.images;
    let options = UpOptions::default();
    let mut all: BTreeMap<ServiceName, Foreseen> = BTreeMap::new();
    // When nobody waits any more, this future is dropped, and reading contexts ends.
    let cancel = CancellationToken::new();
    let _left = cancel.clone().drop_guard();
    let mut digests = BTreeMap::new();
    for wanted in wanted(project)? {
        let unready = wanted.needs().find_map(|other| match all.get(other) {
            Some(Foreseen::Image(_)) | None => None,
            Some(unready) => Some(unready.clone()),
        });
        let foreseen = match wanted.build {
            // What it is made from comes first.
            Some(_) if unready.is_some() => unready.unwrap_or_else(|| Foreseen::Fetch {
                reference: wanted.reference.to_string(),
            }),
            // It may be another one since the last time.
            Some(Build { git: Some(git), .. }) => Foreseen::Fetch {
                reference: git.url.clone(),
            },
            Some(build) => {
                let mut request = request(&wanted, build, &options, &digests)?;
                // Nothing depends on what they are.
                let unread = build.secrets.keys().map(|id| (id.clone(), Secret::new([])));
                request.secrets = unread.collect();
                builder::foresee(images, &request, &cancel)
                    .await
                    .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?
            }
            None => {
                let stored = images
                    .resolve(&wanted.reference)
                    .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
                match stored {
                    Some(image) if wanted.policy != PullPolicy::Always => {
                        Foreseen::Image(image.manifest_digest)
                    }
                    _ => Foreseen::Fetch {
                        reference: wanted.reference.to_string(),
                    },
                }
            }
        };
        for service in wanted.services {
            if let Foreseen::Image(digest) = &foreseen {
                digests.insert(service.clone(), digest.to_string());
            }
            all.insert(service, foreseen.clone());
        }
    }
    Ok(all)
}

/// One image that services need.
struct Wanted<'a> {
    reference: ImageRef,
    build: Option<&'a Build>,
    policy: PullPolicy,
    services: Vec<ServiceName>,
}

impl Wanted<'_> {
    /// Services whose images it is made from.
    fn needs(&self) -> impl Iterator<Item = &ServiceName> {
        let contexts = self
            .build
            .into_iter()
            .flat_map(|build| build.contexts.values());
        contexts.filter_map(|context| match context {
            BuildContext::Service { name } => Some(name),
            BuildContext::Folder { .. } | BuildContext::Image { .. } => None,
        })
    }
}

/// The images of a project, each once, and after those that it is made from.
fn wanted(project: &Project) -> Result<Vec<Wanted<'_>>, ApiError> {
    let mut waiting = each_once(project)?;
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let is_ready = |one: &Wanted<'_>| {
            let awaited =
                |name: &ServiceName| waiting.iter().any(|other| other.services.contains(name));
            !one.needs().any(awaited)
        };
        let Some(index) = waiting.iter().position(is_ready) else {
            // The reader refuses services that are made from each other; one image of several
            // services can still be.
            let message = "images of this project are made from each other";
            return Err(
                ApiError::new(ErrorCode::Invalid, message).with_hint("see `additional_contexts`")
            );
        };
        ordered.push(waiting.remove(index));
    }
    Ok(ordered)
}

fn each_once(project: &Project) -> Result<Vec<Wanted<'_>>, ApiError> {
    let mut all: Vec<Wanted<'_>> = Vec::new();
    // First those that are built: what only names an image may mean one of them.
    let (built, named): (Vec<_>, Vec<_>) = project
        .services
        .iter()
        .partition(|(_, service)| service.build.is_some());
    for (name, service) in built.into_iter().chain(named) {
        let text = match (&service.image, &service.build) {
            (Some(image), _) => image.clone(),
            (None, Some(_)) => format!("{}-{name}", project.name),
            (None, None) => {
                let message = format!("service `{name}` has neither image nor build");
                return Err(ApiError::new(ErrorCode::Invalid, message));
            }
        };
        let reference = reference(&text, name)?;
        let build = service.build.as_ref();
        let same = all.iter_mut().find(|other| {
            other.reference == reference && (other.build == build || build.is_none())
        });
        match same {
            Some(other) => other.services.push(name.clone()),
            None => {
                if let Some(other) = all.iter().find(|other| other.reference == reference) {
                    let message = format!(
                        "services `{}` and `{name}` give different images the name {reference}",
                        other
                            .services
                            .iter()
                            .map(ServiceName::as_str)
                            .collect::<Vec<_>>()
                            .join("`, `")
                    );
                    return Err(ApiError::new(ErrorCode::Invalid, message)
                        .with_hint("give one of them another `image`, or the same `build`"));
                }
                let services = vec![name.clone()];
                all.push(Wanted {
                    reference,
                    build,
                    policy: service.pull_policy,
                    services,
                });
            }
        }
    }
    Ok(all)
}

async fn build_one(
    daemon: &Arc<Daemon>,
    wanted: &Wanted<'_>,
    build: &Build,
    request: BuildRequest,
    events: &EventSink,
) -> Result<Image, ApiError> {
    let _one_at_a_time = daemon.building.lock().await;
    let state_dir = daemon.platform.root.state_dir();
    let platform = &daemon.platform;
    let name = wanted.reference.to_string();
    if build.host_ca && request.host_ca.is_none() {
        events.emit(Event::Warning {
            message: format!("{name}: this machine has no bundle of CA certificates for its build"),
            hint: Some("install ca-certificates, or set build.host_ca to false".to_owned()),
        });
    }
    let steps = Steps {
        engine: platform.engine.clone(),
        net: Arc::clone(&platform.net),
        exe: platform.exe.clone(),
        dir: platform.root.state_dir().join("build"),
        secrets: steps::secrets_dir(&platform.root),
        limits: BuildLimits::of_this_machine(),
    };
    let bases = Bases {
        images: platform.images.clone(),
        events: events.clone(),
    };
    let services = wanted.services.clone();
    let progress = |event| {
        if let Some(event) = told(&name, &services, event) {
            events.emit(event);
        }
    };
    // What ends for want of room is not what the user cancelled.
    let cancel = events.cancellation().child_token();
    let building = builder::build(
        &platform.images,
        &bases,
        &steps,
        &request,
        &progress,
        &cancel,
    );
    let what = format!("image {name} is not built");
    tokio::pin!(building);
    let built = tokio::select! {
        built = &mut building => built,
        refusal = pressure::short(state_dir, &what) => {
            cancel.cancel();
            // It takes its steps down and lets go of what it holds.
            drop(building.await);
            // What can go makes room.
            daemon.built.notify_one();
            return Err(refusal);
        }
    };
    daemon.built.notify_one();
    built.map_err(|error| build_error(&name, wanted, &error, events))
}

/// Says which scripts of a new image send visitors to their own machine. A trial on addresses that
/// only this machine has is spared.
async fn warn_of_local_addresses(
    daemon: &Arc<Daemon>,
    project: &Project,
    wanted: &Wanted<'_>,
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
    let (images, image) = (daemon.platform.images.clone(), image.clone());
    let name = wanted.reference.to_string();
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

/// The secrets of a build, read.
fn secrets(
    project: &Project,
    wanted: &Wanted<'_>,
    build: &Build,
) -> Result<BTreeMap<String, Secret>, ApiError> {
    let services = wanted.services.iter();
    let services = services.filter_map(|name| project.services.get(name));
    let reach = files::Reach::new(project, services);
    let mut secrets = BTreeMap::new();
    for (id, name) in &build.secrets {
        let Some(source) = project.secrets.get(name) else {
            let message = format!("the secret `{name}`, which a build needs, has no source");
            return Err(ApiError::new(ErrorCode::Invalid, message));
        };
        let (content, _) = files::content("secret", name, source, reach)
            .map_err(|error| ApiError::from_error(ErrorCode::Invalid, &error))?;
        secrets.insert(id.clone(), Secret::new(content));
    }
    Ok(secrets)
}

/// Without its secrets. `digests`: the images that are there already.
fn request(
    wanted: &Wanted<'_>,
    build: &Build,
    options: &UpOptions,
    digests: &BTreeMap<ServiceName, String>,
) -> Result<BuildRequest, ApiError> {
    let mut tags = vec![wanted.reference.clone()];
    for tag in &build.tags {
        tags.push(tag.parse().map_err(|error: havre_image::RefError| {
            ApiError::from_error(ErrorCode::Invalid, &error)
        })?);
    }
    let mut contexts = BTreeMap::new();
    for (name, context) in &build.contexts {
        contexts.insert(name.clone(), named_context(context, digests)?);
    }
    Ok(BuildRequest {
        secrets: BTreeMap::new(),
        contexts,
        steps: StepSettings {
            mounts_of: String::new(),
            offline: build.offline,
            hosts: build.extra_hosts.clone(),
            shm_size_bytes: build.shm_size_bytes,
            ulimits: build.ulimits.clone(),
        },
        context: build.context.clone(),
        dockerfile: match &build.dockerfile_inline {
            Some(text) => DockerfileSource::Inline(text.clone()),
            None => DockerfileSource::Path(build.dockerfile.clone()),
        },
        target: build.target.clone(),
        args: build.args.clone(),
        labels: build.labels.clone(),
        tags,
        no_cache: build.no_cache || options.no_cache,
        pull: options.pull || wanted.policy == PullPolicy::Always,
        host_ca: if build.host_ca {
            host_ca_bundle()
        } else {
            None
        },
    })
}

fn named_context(
    context: &BuildContext,
    digests: &BTreeMap<ServiceName, String>,
) -> Result<NamedContext, ApiError> {
    match context {
        BuildContext::Folder { path } => Ok(NamedContext::Folder(path.clone())),
        BuildContext::Image { reference } => Ok(NamedContext::Image(reference.clone())),
        BuildContext::Service { name } => {
            let digest = digests.get(name).and_then(|digest| digest.parse().ok());
            digest.map(NamedContext::Stored).ok_or_else(|| {
                let message = format!("a build needs the image of `{name}`, which is not there");
                ApiError::new(ErrorCode::Invalid, message)
            })
        }
    }
}

/// Fetches base images during a build.
struct Bases {
    images: Images,
    events: EventSink,
}

impl BaseImages for Bases {
    fn fetch<'a>(
        &'a self,
        reference: &'a ImageRef,
        cancel: &'a CancellationToken,
    ) -> FetchFuture<'a> {
        Box::pin(async move {
            pulls::pull(&self.images, reference, &self.events, cancel)
                .await
                .map_err(|error| Box::new(error) as Box<dyn std::error::Error + Send + Sync>)
        })
    }
}

async fn fetch_one(
    daemon: &Arc<Daemon>,
    wanted: &Wanted<'_>,
    options: &UpOptions,
    events: &EventSink,
) -> Result<Image, ApiError> {
    let images = &daemon.platform.images;
    let reference = &wanted.reference;
    let stored = images
        .resolve(reference)
        .map_err(|error| ApiError::from_error(ErrorCode::Failed, &error))?;
    let fresh = options.pull || wanted.policy == PullPolicy::Always;
    match (stored, wanted.policy) {
        (Some(image), _) if !fresh => Ok(image),
        (None, PullPolicy::Never) => Err(ApiError::new(
            ErrorCode::Failed,
            format!("image {reference} is not stored here and its pull_policy is never"),
        )
        .with_hint(format!(
            "import it: havre image import FILE --tag {reference}"
        ))),
        (_, _) => {
            let pulling = pulls::pull(images, reference, events, events.cancellation());
            let state_dir = daemon.platform.root.state_dir();
            let what = format!("image {reference} is not fetched");
            let pulled = tokio::select! {
                pulled = pulling => pulled,
                refusal = pressure::short(state_dir, &what) => {
                    daemon.built.notify_one();
                    return Err(refusal);
                }
            };
            pulled.map_err(|error| {
                ApiError::from_error(ErrorCode::Failed, &error).with_hint(format!(
                    "check the name and the network, or import it: havre image import FILE --tag \
                     {reference}"
                ))
            })
        }
    }
}

/// The builder's news in the API's words.
fn told(image: &str, services: &[ServiceName], event: BuildEvent) -> Option<Event> {
    let progress = match event {
        BuildEvent::Started { steps } => BuildProgress::Started {
            services: services.to_vec(),
            steps,
        },
        BuildEvent::Warning { line, message } => {
            let message = match line {
                Some(line) => format!("{image}: Dockerfile line {line}: {message}"),
                None => format!("{image}: {message}"),
            };
            return Some(Event::Warning {
                message,
                hint: None,
            });
        }
        BuildEvent::StepStarted {
            index,
            stage,
            instruction,
            ..
        } => BuildProgress::StepStarted {
            index,
            stage,
            instruction,
        },
        BuildEvent::StepOutput {
            index,
            stream,
            text,
        } => {
            let stream = match stream {
                Stream::Stdout => LogStream::Stdout,
                Stream::Stderr => LogStream::Stderr,
            };
            BuildProgress::StepOutput {
                index,
                stream,
                text,
            }
        }
        BuildEvent::StepDone {
            index,
            cached,
            elapsed_ms,
        } => BuildProgress::StepDone {
            index,
            cached,
            elapsed_ms,
        },
        BuildEvent::Done { digest, elapsed_ms } => BuildProgress::Done { digest, elapsed_ms },
    };
    Some(Event::Build {
        image: image.to_owned(),
        progress,
    })
}

fn build_error(
    image: &str,
    wanted: &Wanted<'_>,
    error: &BuildError,
    events: &EventSink,
) -> ApiError {
    if matches!(error, BuildError::Cancelled) {
        return ApiError::new(
            ErrorCode::Cancelled,
            "the build was cancelled; nothing was changed",
        );
    }
    let exit_code = match error {
        BuildError::Failed { code, .. } => Some(*code),
        _ => None,
    };
    events.emit(Event::Failure {
        report: Box::new(FailureReport::Build(BuildFailure {
            image: image.to_owned(),
            services: wanted.services.clone(),
            reason: crate::report::one_line(error),
            place: error.place().map(|(file, line)| Place {
                file: file.to_owned(),
                line,
                column: None,
            }),
            instruction: error.instruction().map(str::to_owned),
            exit_code,
            log: error.log().to_vec(),
            hint: error.hint(),
        })),
    });
    ApiError::new(
        ErrorCode::Failed,
        format!("image {image} cannot be built; nothing was changed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_another_service_builds_is_not_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let text = "services:\n  api: {image: \"shop/app:latest\"}\n  \
                    web: {image: shop/app, build: {context: ., dockerfile_inline: FROM scratch}}\n  \
                    db: {image: \"postgres:16\"}\n";
        std::fs::write(folder.path().join("compose.yaml"), text).unwrap();
        let options = havre_model::LoadOptions {
            directory: folder.path().to_owned(),
            ..havre_model::LoadOptions::default()
        };
        let project = havre_model::load(&options).unwrap().project;
        let wanted = wanted(&project).unwrap();
        let shown: Vec<(bool, Vec<&str>)> = wanted
            .iter()
            .map(|wanted| {
                let services = wanted.services.iter().map(ServiceName::as_str).collect();
                (wanted.build.is_some(), services)
            })
            .collect();
        assert_eq!(shown, [(true, vec!["web", "api"]), (false, vec!["db"])]);
    }
}
