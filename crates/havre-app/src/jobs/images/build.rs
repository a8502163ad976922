//! Builds and pulls of jobs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use havre_base::one_line;
use havre_engine::SharedFilter;
use havre_image::builder::{
    BaseImages, BuildError, BuildEvent, BuildRequest, DockerfileSource, FetchFuture, NamedContext,
    Reach, Secret, StepSettings, host_ca_bundle,
};
use havre_image::{
    Credentials, DockerLogins, Image, ImageRef, Images, NameRights, PullError, PullOptions,
};
use havre_job::images::{Build, Failed, Image as Told, Pull};
use havre_redact::Filter;
use tokio_util::sync::CancellationToken;

use super::OfBox;
use super::held::{find, keep, names, told};
use super::talk::{Teller, failed};
use crate::workshop::Unbuilt;

/// Builds an image of what is in `context`.
pub(super) async fn build(
    of: &OfBox,
    build: &Build,
    context: &Path,
    teller: &Teller,
    cancel: &CancellationToken,
) -> Result<Told, Failed> {
    let images = of.images().map_err(failed)?;
    let workshop = of.workshop().map_err(failed)?;
    let tags = names(&build.tags)?;
    let request = request(of, build, context)?;
    let mask = mask(&request, teller).map_err(failed)?;
    let turn = match workshop.turn_now() {
        Some(turn) => turn,
        None => {
            teller.line("Another image is being built on this machine; this one is next.");
            tokio::select! {
                turn = workshop.turn() => turn,
                () = cancel.cancelled() => return Err(failed("the build was cancelled")),
            }
        }
    };
    let bases = Bases {
        images: images.clone(),
        names: of.machine(),
        logins: DockerLogins::new(build.logins.as_str()),
        foreign: of.rights.foreign,
        teller: teller.clone(),
    };
    let progress = |event| tell(teller, event);
    let name = build.tags.first().map_or("of a job", String::as_str);
    let _hold = images.hold();
    let what = (&request, name, mask);
    let built = turn.build(&images, &bases, what, &progress, cancel).await;
    drop(turn);
    let image = built.map_err(unbuilt)?;
    keep(of, &tags, &image).await?;
    Ok(told(&image))
}

/// Fetches an image, or takes one that is here and may be used.
pub(super) async fn pull(
    of: &OfBox,
    pull: &Pull,
    teller: &Teller,
    cancel: &CancellationToken,
) -> Result<Told, Failed> {
    let images = of.images().map_err(failed)?;
    let names = names(std::slice::from_ref(&pull.name))?;
    let Some(reference) = names.first() else {
        return Err(failed("an image to fetch needs a name"));
    };
    let bases = Bases {
        images: images.clone(),
        names: of.machine(),
        logins: DockerLogins::new(pull.logins.as_str()),
        foreign: of.rights.foreign,
        teller: teller.clone(),
    };
    if !pull.fresh && of.names.find(&pull.name).is_some() {
        return find(of, &pull.name).map(|image| told(&image));
    }
    let _hold = images.hold();
    let stored = images.resolve_as(reference, &bases.names);
    let image = match stored {
        Ok(Some(image)) if !pull.fresh => image,
        stored => {
            let fetched = tokio::select! {
                fetched = bases.pull(reference) => fetched,
                () = cancel.cancelled() => return Err(failed("the pull was cancelled")),
            };
            match (fetched, stored) {
                (Ok(image), _) => image,
                // An import has no registry behind it.
                (Err(error), Ok(Some(image))) => {
                    teller.warn(format!(
                        "{}; the image that is here is used",
                        one_line(&error)
                    ));
                    image
                }
                (Err(error), _) => {
                    return Err(Failed {
                        why: one_line(&error),
                        hint: error.hint(),
                        ..Failed::default()
                    });
                }
            }
        }
    };
    keep(of, &names, &image).await?;
    Ok(told(&image))
}

fn request(of: &OfBox, build: &Build, context: &Path) -> Result<BuildRequest, Failed> {
    let mut contexts = of.names.contexts();
    for (name, image) in &build.contexts {
        let given = match of.names.find(image) {
            Some(digest) => NamedContext::Stored(digest),
            None => NamedContext::Image(image.clone()),
        };
        contexts.insert(name.clone(), given);
    }
    let secrets = build.secrets.iter();
    let secrets = secrets.map(|(id, value)| (id.clone(), Secret::new(value.as_bytes())));
    let own = std::fs::canonicalize(context)
        .map_err(|error| failed(format!("the context is gone: {error}")))?;
    let outside = || io::Error::other("it is outside of the build context");
    Ok(BuildRequest {
        context: context.to_owned(),
        dockerfile: match &build.text {
            Some(text) => DockerfileSource::Sent {
                name: build.dockerfile.clone(),
                text: text.clone(),
            },
            None => DockerfileSource::Path(build.dockerfile.clone().into()),
        },
        target: build.target.clone(),
        args: build.args.clone(),
        labels: build.labels.clone(),
        annotations: build.annotations.clone(),
        // They are the job's own.
        tags: Vec::new(),
        names: of.machine(),
        no_cache: build.no_cache || of.rights.no_cache,
        pull: build.pull,
        host_ca: host_ca_bundle(),
        secrets: secrets.collect(),
        contexts,
        steps: StepSettings {
            cache_of: of.rights.cache_of.clone(),
            cache_from: of.rights.cache_from.clone(),
            offline: build.offline,
            hosts: build.hosts.clone(),
            shm_size_bytes: build.shm_bytes,
            ulimits: BTreeMap::new(),
        },
        reach: Reach::new(move |real| match real.starts_with(&own) {
            true => Ok(()),
            false => Err(outside()),
        }),
    })
}

/// What is masked in the output of a build's steps.
fn mask(request: &BuildRequest, teller: &Teller) -> Result<SharedFilter, String> {
    let secrets = request.secrets.iter();
    let (filter, unmasked) =
        Filter::new(secrets.map(|(id, secret)| (id.as_str(), secret.expose())));
    for secret in unmasked {
        teller.warn(format!(
            "secret `{}` of a build: {}",
            secret.name, secret.why
        ));
    }
    SharedFilter::new(&filter)
        .map_err(|error| format!("secrets cannot be masked in the output of builds: {error}"))
}

/// As people know it from BuildKit. No line begins like a command of a workflow.
fn tell(teller: &Teller, event: BuildEvent) {
    match event {
        BuildEvent::Started { .. } => {}
        BuildEvent::Warning { line, message } => teller.warn(match line {
            Some(line) => format!("Dockerfile line {line}: {message}"),
            None => message,
        }),
        BuildEvent::StepStarted {
            index,
            steps,
            stage,
            instruction,
            ..
        } => {
            let stage = stage.map_or_else(String::new, |stage| format!("{stage} "));
            teller.line(format!("#{index} [{stage}{index}/{steps}] {instruction}"));
        }
        BuildEvent::StepOutput { index, text, .. } => teller.line(format!("#{index} {text}")),
        BuildEvent::StepDone {
            index,
            cached: true,
            ..
        } => teller.line(format!("#{index} CACHED")),
        BuildEvent::StepDone {
            index, elapsed_ms, ..
        } => {
            let (seconds, tenth) = (elapsed_ms / 1000, elapsed_ms % 1000 / 100);
            teller.line(format!("#{index} DONE {seconds}.{tenth}s"));
        }
        BuildEvent::Done { .. } => {}
    }
}

fn unbuilt(why: Unbuilt) -> Failed {
    match why {
        Unbuilt::NoRoom(refusal) => Failed {
            why: refusal.message,
            hint: refusal.hint,
            ..Failed::default()
        },
        Unbuilt::Build(BuildError::Cancelled) => failed("the build was cancelled"),
        Unbuilt::Build(error) => Failed {
            why: one_line(&error),
            place: error.place().map(|(file, line)| (file.to_owned(), line)),
            instruction: error.instruction().map(str::to_owned),
            log: error.log().to_vec(),
            hint: error
                .hint()
                .or_else(|| error.refusal().and_then(|refused| refused.hint.clone())),
        },
    }
}

/// Fetches base images for a job.
struct Bases {
    images: Images,
    names: NameRights,
    logins: DockerLogins,
    foreign: bool,
    teller: Teller,
}

impl Bases {
    async fn pull(&self, reference: &ImageRef) -> Result<Image, PullError> {
        self.teller.line(format!("Fetching {reference}"));
        // What a job's own login fetches is for that job alone.
        let own = self.logins.has(reference.registry());
        let credentials = match (own, self.foreign) {
            (true, _) => Credentials::Docker(self.logins.clone()),
            // The machine's own logins are not for strangers.
            (false, true) => Credentials::Anonymous,
            (false, false) => crate::pulls::credentials(),
        };
        let options = PullOptions {
            credentials,
            names: self.names.clone(),
            named: !own,
            ..PullOptions::default()
        };
        self.images.pull(reference, &options).await
    }
}

impl BaseImages for Bases {
    fn fetch<'a>(
        &'a self,
        reference: &'a ImageRef,
        cancel: &'a CancellationToken,
    ) -> FetchFuture<'a> {
        Box::pin(async move {
            tokio::select! {
                image = self.pull(reference) => Ok(image?),
                () = cancel.cancelled() => Err(format!("the pull of {reference} was cancelled").into()),
            }
        })
    }
}
