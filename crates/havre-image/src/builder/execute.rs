//! Carries a plan out: one stage after another, one instruction after another.
//!
//! Stages are values that later ones take up, so that independent ones can be carried out side by
//! side one day.

mod files;
mod mounts;
mod steps;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::config::History;
use crate::dockerfile::{self, Dockerfile, Problem, Step};
use crate::limits::MAX_LAYERS;
use crate::{CommitError, Digest, Image, ImageConfig, ImageRef, Images, Layer};

use super::action::Action;
use super::context::{self, Context};
use super::error::{BuildError, BuildLocation};
use super::interpret::{State, Variables};
use super::plan::{self, Files, Origin, Plan, Planned};
use super::problem::problem_at;
use super::run::StepRunner;
use super::scope::{Globals, SOURCE_DATE_EPOCH};
use super::{BaseImages, BuildEvent, BuildRequest, DockerfileSource, Progress, milliseconds, time};

/// A finished stage.
#[derive(Clone)]
struct Built {
    config: ImageConfig,
    /// Empty for an image.
    variables: Variables,
    /// The lowest first.
    layers: Vec<Layer>,
    /// The image at its bottom.
    base: Option<Arc<Image>>,
}

impl Built {
    fn of(image: Arc<Image>) -> Self {
        Self {
            config: image.config.clone(),
            variables: Variables::default(),
            layers: image.layers.clone(),
            base: Some(image),
        }
    }

    fn top(&self) -> Option<&Digest> {
        self.layers.last().map(|layer| &layer.chain_id)
    }
}

/// An instruction under way.
struct Begun {
    /// Counted from 1.
    index: u32,
    at: Instant,
}

/// The most bytes that the configurations of all stages may take.
const MAX_DESCRIBED: usize = 64 << 20;

fn size_of_description(built: &Built) -> Result<usize, BuildError> {
    let config = serde_json::to_vec(&built.config);
    let config = config.map_err(|error| BuildError::io("form a configuration")(error.into()))?;
    Ok(config.len() + built.variables.bytes())
}

struct Build<'a> {
    images: &'a Images,
    bases: &'a dyn BaseImages,
    runner: &'a dyn StepRunner,
    request: &'a BuildRequest,
    progress: Progress<'a>,
    cancel: &'a CancellationToken,
    /// Carry nothing out; look only whether it has been.
    only_cached: bool,
    dockerfile: &'a Dockerfile,
    globals: &'a Globals,
    context: Arc<Context>,
    /// Time of all documents, where the caller fixed it.
    epoch: Option<String>,
    /// Instructions in all.
    steps: u32,
    /// The instruction under way, counted from 1.
    index: u32,
    /// Images fetched so far.
    fetched: u32,
    built: BTreeMap<usize, Built>,
    /// Bytes that they are described in.
    described: usize,
    /// Images that were looked up, by name.
    found: HashMap<String, Arc<Image>>,
    /// Folders beside the context that were opened, by name.
    folders: HashMap<String, Arc<Context>>,
}

/// Who does what a build cannot do by itself.
#[derive(Clone, Copy)]
pub(super) struct Helpers<'a> {
    pub(super) bases: &'a dyn BaseImages,
    pub(super) runner: &'a dyn StepRunner,
    pub(super) progress: Progress<'a>,
    pub(super) cancel: &'a CancellationToken,
}

pub(super) async fn build(
    images: &Images,
    request: &BuildRequest,
    helpers: Helpers<'_>,
) -> Result<Image, BuildError> {
    let finish = |build: &Build<'_>, built| build.commit(built);
    carry_out(images, request, helpers, false, finish).await
}

/// The digest of the image that a build would make; [`BuildError::NotCached`] where a step would
/// have to be carried out.
pub(super) async fn dry_run(
    images: &Images,
    request: &BuildRequest,
    helpers: Helpers<'_>,
) -> Result<Digest, BuildError> {
    let finish = |build: &Build<'_>, built| build.form(built);
    carry_out(images, request, helpers, true, finish).await
}

async fn carry_out<T>(
    images: &Images,
    request: &BuildRequest,
    helpers: Helpers<'_>,
    only_cached: bool,
    finish: impl FnOnce(&Build<'_>, Built) -> Result<T, BuildError>,
) -> Result<T, BuildError> {
    let _hold = images.hold();
    let (file, path, text) = read(request)?;
    let dockerfile = dockerfile::parse(&file, &text)?;
    let target = request.target.as_deref();
    let globals = Globals::new(&dockerfile, &request.args, target)?;
    let plan = plan::plan(&dockerfile, &globals, &request.contexts, target)?;
    let context = Arc::new(Context::open(
        &request.context,
        path.as_deref(),
        &request.reach,
    )?);
    let steps = u32::try_from(plan.steps).unwrap_or(u32::MAX);
    let Helpers {
        bases,
        runner,
        progress,
        cancel,
    } = helpers;
    progress(BuildEvent::Started { steps });
    warn(&dockerfile, &globals, progress);
    let mut build = Build {
        images,
        bases,
        runner,
        request,
        progress,
        cancel,
        only_cached,
        dockerfile: &dockerfile,
        globals: &globals,
        context,
        epoch: request
            .args
            .get(SOURCE_DATE_EPOCH)
            .and_then(|text| text.trim().parse().ok())
            .map(time::of_epoch),
        steps,
        index: 0,
        fetched: 0,
        built: BTreeMap::new(),
        described: 0,
        found: HashMap::new(),
        folders: HashMap::new(),
    };
    let built = build.stages(&plan).await?;
    finish(&build, built)
}

/// The Dockerfile's name in messages, its path, and its text.
fn read(request: &BuildRequest) -> Result<(String, Option<PathBuf>, String), BuildError> {
    match &request.dockerfile {
        DockerfileSource::Inline(text) => Ok(("inline Dockerfile".to_owned(), None, text.clone())),
        DockerfileSource::Sent { name, text } => Ok((name.clone(), None, text.clone())),
        DockerfileSource::Path(path) => {
            let full = request.context.join(path);
            let text = context::text(&full, &request.reach).map_err(|source| BuildError::Read {
                path: full.clone(),
                source,
            })?;
            Ok((path.display().to_string(), Some(full), text))
        }
    }
}

fn warn(dockerfile: &Dockerfile, globals: &Globals, progress: Progress<'_>) {
    for warning in &dockerfile.warnings {
        progress(BuildEvent::Warning {
            line: Some(warning.line),
            message: warning.message.clone(),
        });
    }
    for name in globals.unused(dockerfile) {
        progress(BuildEvent::Warning {
            line: None,
            message: format!("build argument {name} is given, but no ARG declares it"),
        });
    }
}

impl Build<'_> {
    async fn stages(&mut self, plan: &Plan) -> Result<Built, BuildError> {
        self.carry_out(plan).await?;
        // A plan always contains its target.
        self.built.remove(&plan.target).ok_or(BuildError::Cancelled)
    }

    async fn carry_out(&mut self, plan: &Plan) -> Result<(), BuildError> {
        for planned in &plan.stages {
            if self.built.contains_key(&planned.index) {
                continue;
            }
            let built = self.stage(planned).await?;
            self.described += size_of_description(&built)?;
            if self.described > MAX_DESCRIBED {
                let stage = &self.dockerfile.stages[planned.index];
                let problem = Problem::Described {
                    limit_mib: MAX_DESCRIBED >> 20,
                };
                let error = problem_at(self.dockerfile, stage.span, &stage.text, problem);
                return Err(error.into());
            }
            self.built.insert(planned.index, built);
        }
        Ok(())
    }

    /// Carries out the stages that a trigger takes files from: no plan can know of it before the
    /// base image is there.
    async fn needs_of(&mut self, index: usize, step: &Step) -> Result<(), BuildError> {
        for from in plan::froms(step) {
            let contexts = &self.request.contexts;
            let at = |problem| problem_at(self.dockerfile, step.span, &step.text, problem);
            let files = plan::files(self.dockerfile, contexts, index, from).map_err(at)?;
            let Files::Of(Origin::Stage(needed)) = files else {
                continue;
            };
            let mut plan = plan::plan_stage(self.dockerfile, self.globals, contexts, needed)?;
            plan.stages
                .retain(|planned| !self.built.contains_key(&planned.index));
            let instructions =
                |planned: &Planned| 1 + self.dockerfile.stages[planned.index].steps.len();
            let more: usize = plan.stages.iter().map(instructions).sum();
            self.steps = self
                .steps
                .saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
            Box::pin(self.carry_out(&plan)).await?;
        }
        Ok(())
    }

    async fn stage(&mut self, planned: &Planned) -> Result<Built, BuildError> {
        let stage = &self.dockerfile.stages[planned.index];
        let place = BuildLocation::new(&self.dockerfile.file, stage.span, &stage.text);
        let started = self.begin(planned.index, &place);
        let fetched = self.fetched;
        let base = self.origin(&planned.base, &place).await?;
        let mut cached = fetched == self.fetched;
        let triggers = base.config.run.on_build.clone();
        let escape = self.dockerfile.escape;
        let mut state = State::new(base.config, base.variables, escape, self.globals);
        let mut built = Built {
            config: ImageConfig::default(),
            variables: Variables::default(),
            ..base
        };
        for trigger in triggers {
            let step = dockerfile::parse_trigger(&self.dockerfile.file, &trigger, stage.span)?;
            plan::refuse(&step)
                .map_err(|problem| problem_at(self.dockerfile, step.span, &step.text, problem))?;
            self.needs_of(planned.index, &step).await?;
            let place = BuildLocation::new(&self.dockerfile.file, step.span, &step.text);
            cached &= self
                .step(planned.index, &mut state, &mut built, &step, &place)
                .await?;
        }
        self.end(started, cached);
        for step in &stage.steps {
            let place = BuildLocation::new(&self.dockerfile.file, step.span, &step.text);
            let started = self.begin(planned.index, &place);
            let cached = self
                .step(planned.index, &mut state, &mut built, step, &place)
                .await?;
            self.end(started, cached);
        }
        built.variables = state.variables();
        built.config = state.config;
        Ok(built)
    }

    /// Where files come from: an earlier stage, an image, or nothing.
    async fn origin(
        &mut self,
        origin: &Origin,
        place: &BuildLocation,
    ) -> Result<Built, BuildError> {
        match origin {
            Origin::Scratch => {
                let config = ImageConfig::for_this_machine();
                Ok(Built {
                    config,
                    variables: Variables::default(),
                    layers: Vec::new(),
                    base: None,
                })
            }
            // Plans order stages by need.
            Origin::Stage(index) => self.built.get(index).cloned().ok_or(BuildError::Cancelled),
            Origin::Image(name) => {
                let image = self.image(name, place).await?;
                Ok(Built::of(image))
            }
            Origin::Stored(digest) => {
                let image = self.images.image(*digest);
                let image = image.map_err(|source| BuildError::Image {
                    place: Box::new(place.clone()),
                    reference: digest.to_string(),
                    source: Box::new(source),
                })?;
                Ok(Built::of(Arc::new(image)))
            }
        }
    }

    async fn image(&mut self, name: &str, place: &BuildLocation) -> Result<Arc<Image>, BuildError> {
        if let Some(image) = self.found.get(name) {
            return Ok(image.clone());
        }
        let reference: ImageRef = name.parse().map_err(|source| BuildError::Reference {
            place: Box::new(place.clone()),
            source,
        })?;
        let stored = self
            .images
            .resolve_as(&reference, &self.request.names)
            .map_err(|source| BuildError::Image {
                place: Box::new(place.clone()),
                reference: name.to_owned(),
                source: Box::new(source),
            });
        let image = match stored {
            Ok(Some(image)) if !self.request.pull => image,
            // Fetching it would take the name away.
            Err(refused) if refused.refusal().is_some() && !self.request.pull => {
                return Err(refused);
            }
            stored => {
                let fetched = self.bases.fetch(&reference, self.cancel).await;
                match (fetched, stored) {
                    (Ok(image), _) => {
                        self.fetched += 1;
                        image
                    }
                    _ if self.cancel.is_cancelled() => return Err(BuildError::Cancelled),
                    // An import has no registry behind it; what is stored is the best there is.
                    (Err(error), Ok(Some(image))) => {
                        (self.progress)(BuildEvent::Warning {
                            line: Some(place.line),
                            message: format!(
                                "{reference} could not be refreshed ({error}); the stored image \
                                 is used"
                            ),
                        });
                        image
                    }
                    (Err(_), Err(unreadable)) => return Err(unreadable),
                    (Err(source), Ok(None)) => {
                        return Err(BuildError::Base {
                            place: Box::new(place.clone()),
                            reference: name.to_owned(),
                            registry: reference.registry().to_owned(),
                            stage: plan::similar_stage(self.dockerfile, name),
                            source,
                        });
                    }
                }
            }
        };
        let image = Arc::new(image);
        self.found.insert(name.to_owned(), image.clone());
        Ok(image)
    }

    /// Carries an instruction out; `true` when nothing had to be done anew.
    async fn step(
        &mut self,
        stage: usize,
        state: &mut State<'_>,
        built: &mut Built,
        step: &Step,
        place: &BuildLocation,
    ) -> Result<bool, BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let at = |problem| problem_at(self.dockerfile, step.span, &step.text, problem);
        let action = state.apply(step).map_err(at)?;
        if !matches!(action, Action::Configure) && built.layers.len() >= MAX_LAYERS {
            let place = Box::new(place.clone());
            return Err(BuildError::Layers { place });
        }
        let worked = match &action {
            Action::Configure => Ok(None),
            Action::Run(run) => self.run(stage, built, run, place).await.map(Some),
            Action::Copy(copy) => self.copy(stage, built, copy, place).await.map(Some),
            Action::MakeDir(folder) => self.make_dir(built, folder, place).await.map(Some),
        };
        let worked = worked.map_err(|error| match self.cancel.is_cancelled() {
            // Whatever the work ended with, this is why.
            true => BuildError::Cancelled,
            false => self.say_where(error, stage),
        });
        let (outcome, cached) = match worked? {
            None => (None, true),
            Some((outcome, cached)) => (Some(outcome), cached),
        };
        let mut entry = History {
            created_by: Some(step.text.clone()),
            empty_layer: true,
            ..History::default()
        };
        if let Some(outcome) = outcome {
            state.config.created = Some(outcome.created);
            if let Some(layer) = outcome.layer {
                built.layers.push(layer);
                entry.empty_layer = false;
            }
        }
        if self.epoch.is_some() {
            state.config.created.clone_from(&self.epoch);
        }
        entry.created.clone_from(&state.config.created);
        state.config.history.push(entry);
        Ok(cached)
    }

    fn begin(&mut self, stage: usize, place: &BuildLocation) -> Begun {
        self.index += 1;
        let stages = &self.dockerfile.stages;
        let number = || (stages.len() > 1).then(|| stage.to_string());
        (self.progress)(BuildEvent::StepStarted {
            index: self.index,
            steps: self.steps,
            stage: stages[stage].name.clone().or_else(number),
            instruction: place.instruction.clone(),
            line: place.line,
        });
        Begun {
            index: self.index,
            at: Instant::now(),
        }
    }

    fn end(&self, begun: Begun, cached: bool) {
        (self.progress)(BuildEvent::StepDone {
            index: begun.index,
            cached,
            elapsed_ms: milliseconds(begun.at),
        });
    }

    fn commit(&self, built: Built) -> Result<Image, BuildError> {
        let digest = self.form(built)?;
        let unreadable = |error| BuildError::Commit(Box::new(CommitError::Name(error)));
        let image = self.images.image(digest).map_err(unreadable)?;
        self.images.touch_image(&image).map_err(unreadable)?;
        let bases: Vec<&Image> = self.found.values().map(Arc::as_ref).collect();
        if let Err(error) = self.images.lease_bases(&image, &bases) {
            // It is whole without them; the next build may have to fetch them again.
            tracing::warn!(%digest, error = %error, "what an image was built from is not kept");
        }
        for tag in &self.request.tags {
            self.images
                .tag_as(tag, digest, &self.request.names)
                .map_err(|error| BuildError::Tag(Box::new(error)))?;
        }
        Ok(image)
    }

    /// The image without a name.
    fn form(&self, built: Built) -> Result<Digest, BuildError> {
        self.images
            .form_image(
                self.labelled(built.config),
                &built.layers,
                &self.request.annotations,
            )
            .map_err(|error| BuildError::Commit(Box::new(error)))
    }

    fn labelled(&self, mut config: ImageConfig) -> ImageConfig {
        config.run.labels.extend(self.request.labels.clone());
        config
    }
}
