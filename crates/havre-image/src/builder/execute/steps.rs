//! The instructions that change files: look the result up, or make it and keep it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use havre_base::blocking;
use tempfile::TempDir;

use crate::overlay::{Overlay, Writable};
use crate::{Digest, LayerError};

use super::super::action::{CopyAction, MakeDir, MountAction, RunAction};
use super::super::cache::{self, Key, Outcome};
use super::super::context::Context;
use super::super::copy_error::CopyError;
use super::super::error::{BuildError, BuildLocation};
use super::super::mounted::with_mounts;
use super::super::plan::{self, Files, Origin};
use super::super::problem::problem_at;
use super::super::root::Root;
use super::super::run::{StepError, StepLine, StepMount, StepSpec};
use super::super::{BuildEvent, NamedContext, time};
use super::files::{self, CopyJob, CopySource, WorkError};
use super::mounts::{CA_APT, CA_BUNDLE, bind_folder, secret_variables};
use super::{Build, Built};

/// Lines of a failed step that its error carries.
const LOG_LINES: usize = 20;
/// How often a copy is tried while its files keep changing.
const COPY_ATTEMPTS: u32 = 3;
/// Bytes of a line that are passed on.
const MAX_LINE: usize = 8 << 10;
/// Variables by which programs find a CA bundle.
const CA_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "NIX_SSL_CERT_FILE",
];
/// Paths a runner mounts on in every step; made by it where an image lacks them.
const STANDARD_MOUNTS: [&str; 6] = [
    "/dev",
    "/proc",
    "/sys",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
];

/// Where an instruction takes files from.
enum FilesFrom {
    /// A stage or image.
    Layers(Box<Built>),
    /// The build context, or a folder beside it.
    Context(Arc<Context>),
}

/// Files that are copied.
enum Taken {
    /// Of a stage or image.
    Layers(Box<Built>),
    /// Of a context; the digest of what is copied.
    Context(Arc<Context>, Digest),
}

impl Taken {
    /// What stands for the files in a key.
    fn identity(&self) -> String {
        match self {
            Self::Layers(origin) => origin.top().map_or("scratch".to_owned(), Digest::to_string),
            Self::Context(_, digest) => digest.to_string(),
        }
    }
}

/// A fresh upper folder in a scratch folder of its own.
struct Scratch {
    dir: TempDir,
    writable: Writable,
}

impl Build<'_> {
    pub(super) async fn copy(
        &mut self,
        stage: usize,
        built: &Built,
        action: &CopyAction,
        place: &BuildLocation,
    ) -> Result<(Outcome, bool), BuildError> {
        let from = self.from(stage, action.from.as_deref(), place).await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.try_copy(built, action, &from, place).await {
                // Somebody saves a file while it is being built: take what is there now.
                Err(BuildError::Copy { source, .. })
                    if matches!(*source, CopyError::Changed) && attempts < COPY_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    /// A file that is missing is missing in a stage, an image or a folder.
    pub(super) fn say_where(&self, mut error: BuildError, stage: usize) -> BuildError {
        if let BuildError::Copy { source, .. } = &mut error
            && let CopyError::NotFound {
                from: Some(from), ..
            } = source.as_mut()
        {
            let contexts = &self.request.contexts;
            *from = match plan::files(self.dockerfile, contexts, stage, from) {
                Ok(Files::Of(Origin::Stage(index))) => {
                    let line = self.dockerfile.stages[index].span.line;
                    format!("the stage {from} (line {line})")
                }
                Ok(Files::Of(Origin::Image(image))) => format!("the image {image}"),
                Ok(Files::Folder(_)) => format!("the folder {from}"),
                Ok(Files::Of(Origin::Scratch | Origin::Stored(_))) | Err(_) => from.clone(),
            };
        }
        error
    }

    async fn try_copy(
        &self,
        built: &Built,
        action: &CopyAction,
        from: &FilesFrom,
        place: &BuildLocation,
    ) -> Result<(Outcome, bool), BuildError> {
        let taken = self.taken(action, from, place).await?;
        let key = Key::copy(action, taken.identity()).digest(built.top())?;
        if let Some(outcome) = self.cached(&key, place)? {
            return Ok((outcome, true));
        }
        let scratch = self.scratch()?;
        let job = CopyJob {
            action: action.clone(),
            from: self.copy_source(&taken, place).await?,
            lower: self.lower(built, place).await?,
            upper: scratch.writable.clone(),
            cancel: self.cancel.clone(),
        };
        with_mounts(scratch.dir.path(), move |mounts| job.run(mounts))
            .await
            .map_err(|error| work_error(error, place))?;
        self.keep(&key, scratch, built, place).await
    }

    pub(super) async fn make_dir(
        &mut self,
        built: &Built,
        folder: &MakeDir,
        place: &BuildLocation,
    ) -> Result<(Outcome, bool), BuildError> {
        let key = Key::MakeDir(folder).digest(built.top())?;
        if let Some(outcome) = self.cached(&key, place)? {
            return Ok((outcome, true));
        }
        let lower = self.lower(built, place).await?;
        let scratch = self.scratch()?;
        let (upper, folder) = (scratch.writable.clone(), folder.clone());
        with_mounts(scratch.dir.path(), move |mounts| {
            files::make_dir(&lower, &upper, &folder, mounts)
        })
        .await
        .map_err(|error| work_error(error, place))?;
        self.keep(&key, scratch, built, place).await
    }

    pub(super) async fn run(
        &mut self,
        stage: usize,
        built: &Built,
        run: &RunAction,
        place: &BuildLocation,
    ) -> Result<(Outcome, bool), BuildError> {
        let mut binds = Vec::new();
        let mut identities = Vec::new();
        for mount in &run.mounts {
            let MountAction::Bind { from, source, .. } = mount else {
                continue;
            };
            let action = bind_copy(from.as_deref(), source);
            let origin = self.from(stage, from.as_deref(), place).await?;
            let taken = self.taken(&action, &origin, place).await?;
            identities.push(taken.identity());
            binds.push((action, taken));
        }
        let steps = &self.request.steps;
        let key_of = |of: &str| {
            let (binds, hosts) = (identities.clone(), &steps.hosts);
            let key = Key::Run {
                run,
                binds,
                hosts,
                of,
            };
            key.digest(built.top())
        };
        let key = key_of(&steps.cache_of)?;
        for of in steps.cache_from.iter().filter(|_| !self.request.no_cache) {
            if cache::get(self.images, &key)?.is_none()
                && let Some(outcome) = cache::get(self.images, &key_of(of)?)?
            {
                return Ok((outcome, true));
            }
        }
        if let Some(outcome) = self.cached(&key, place)? {
            return Ok((outcome, true));
        }
        let lower = self.lower(built, place).await?;
        let scratch = self.scratch()?;
        let mut jobs = Vec::new();
        for (action, taken) in binds {
            jobs.push((action, self.copy_source(&taken, place).await?));
        }
        let secrets = self.secrets(run, place)?;
        let (mounts, locks) = self.mounts(run, &secrets, scratch.dir.path()).await?;
        let mut targets: Vec<String> = STANDARD_MOUNTS.map(str::to_owned).to_vec();
        targets.extend(mounts.iter().map(|mount| mount.target().to_owned()));
        let missing = self.prepare(&lower, &scratch, jobs, targets, place).await?;
        let mut step = self.step_spec(run, lower, &scratch, mounts);
        step.secret_env.extend(secret_variables(&secrets, place)?);
        self.run_step(&step, place).await?;
        drop(locks);
        files::remove_stubs(&scratch.writable.upper, &missing)
            .map_err(BuildError::io("remove mount points from a layer"))?;
        self.keep(&key, scratch, built, place).await
    }

    /// What `from` names; `None`: the context.
    async fn from(
        &mut self,
        stage: usize,
        from: Option<&str>,
        place: &BuildLocation,
    ) -> Result<FilesFrom, BuildError> {
        let Some(from) = from else {
            return Ok(FilesFrom::Context(self.context.clone()));
        };
        let contexts = &self.request.contexts;
        let files = plan::files(self.dockerfile, contexts, stage, from).map_err(|problem| {
            let span = crate::dockerfile::Span {
                line: place.line,
                end: place.line,
            };
            problem_at(self.dockerfile, span, &place.instruction, problem)
        })?;
        match files {
            Files::Of(origin) => {
                let built = self.origin(&origin, place).await?;
                Ok(FilesFrom::Layers(Box::new(built)))
            }
            Files::Folder(name) => self.folder(name).map(FilesFrom::Context),
        }
    }

    /// A folder beside the context.
    fn folder(&mut self, name: String) -> Result<Arc<Context>, BuildError> {
        if let Some(known) = self.folders.get(&name) {
            return Ok(known.clone());
        }
        let path = match self.request.contexts.get(&name) {
            Some(NamedContext::Folder(path)) => path.as_path(),
            // Where no folder is, opening it says so.
            Some(NamedContext::Image(_) | NamedContext::Stored(_)) | None => Path::new(&name),
        };
        let opened = Arc::new(Context::open(path, None, &self.request.reach)?);
        self.folders.insert(name, opened.clone());
        Ok(opened)
    }

    /// What `action` takes, so far as a key needs to know.
    async fn taken(
        &self,
        action: &CopyAction,
        from: &FilesFrom,
        place: &BuildLocation,
    ) -> Result<Taken, BuildError> {
        let context = match from {
            FilesFrom::Layers(built) => return Ok(Taken::Layers(built.clone())),
            FilesFrom::Context(context) => context.clone(),
        };
        let whose = match &action.from {
            None => "the build context",
            Some(name) => name,
        };
        let (own, action, cancel) = (context.clone(), action.clone(), self.cancel.clone());
        let digest = blocking(move || own.digest(&action, &cancel)).await?;
        let (digest, empty) = digest.map_err(|error| copy_error(error, place))?;
        for pattern in empty {
            (self.progress)(BuildEvent::Warning {
                line: Some(place.line),
                message: format!("{pattern} matches nothing in {whose}"),
            });
        }
        Ok(Taken::Context(context, digest))
    }

    async fn copy_source(
        &self,
        taken: &Taken,
        place: &BuildLocation,
    ) -> Result<CopySource, BuildError> {
        Ok(match taken {
            Taken::Layers(origin) => CopySource::Layers(self.lower(origin, place).await?),
            Taken::Context(context, digest) => CopySource::Context(context.clone(), *digest),
        })
    }

    fn cached(&self, key: &str, place: &BuildLocation) -> Result<Option<Outcome>, BuildError> {
        let found = match self.request.no_cache {
            true => None,
            false => cache::get(self.images, key)?,
        };
        if found.is_none() && self.only_cached {
            return Err(BuildError::NotCached {
                place: Box::new(place.clone()),
            });
        }
        Ok(found)
    }

    /// The folders below, the topmost first; unpacks the base image when that is still to do.
    async fn lower(
        &self,
        built: &Built,
        place: &BuildLocation,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let (images, layers, base) = (
            self.images.clone(),
            built.layers.clone(),
            built.base.clone(),
        );
        let paths = blocking(move || {
            if let Some(paths) = images.layer_paths(&layers)? {
                return Ok(paths);
            }
            if let Some(base) = base {
                images.ensure_unpacked(&base)?;
            }
            images
                .layer_paths(&layers)?
                .ok_or_else(|| LayerError::Missing {
                    chain: layers
                        .last()
                        .map_or(Digest::of(b""), |layer| layer.chain_id),
                })
        })
        .await?;
        paths.map_err(|source| BuildError::Layer {
            place: Box::new(place.clone()),
            source: Box::new(source),
        })
    }

    fn scratch(&self) -> Result<Scratch, BuildError> {
        let make = || -> io::Result<Scratch> {
            let dir = self.images.scratch()?;
            let writable = Writable {
                upper: dir.path().join("upper"),
                work: dir.path().join("work"),
            };
            for folder in [&writable.upper, &writable.work] {
                std::fs::create_dir(folder)?;
            }
            // The upper folder becomes the root folder of the step, whatever the umask.
            let mode = Permissions::from_mode(0o755);
            std::fs::set_permissions(&writable.upper, mode)?;
            Ok(Scratch { dir, writable })
        };
        make().map_err(BuildError::io("make a scratch folder for a step"))
    }

    /// Makes a layer of what the step wrote, and then remembers it.
    async fn keep(
        &self,
        key: &str,
        scratch: Scratch,
        built: &Built,
        place: &BuildLocation,
    ) -> Result<(Outcome, bool), BuildError> {
        let (images, parent) = (self.images.clone(), built.top().copied());
        let cancel = self.cancel.clone();
        let layer = blocking(move || {
            let upper = &scratch.writable.upper;
            let empty = std::fs::read_dir(upper).map(|mut names| names.next().is_none());
            match empty {
                Ok(true) => Ok(None),
                Ok(false) => images
                    .layer_from_upper_until(upper, parent, &cancel)
                    .map(Some),
                Err(source) => Err(LayerError::Io {
                    operation: "list",
                    path: upper.clone(),
                    source,
                }),
            }
        })
        .await?
        .map_err(|source| match self.cancel.is_cancelled() {
            true => BuildError::Cancelled,
            false => BuildError::Layer {
                place: Box::new(place.clone()),
                source: Box::new(source),
            },
        })?;
        let outcome = Outcome {
            layer,
            created: time::now(),
            step: Some(place.instruction.clone()),
        };
        cache::put(self.images, key, &outcome)?;
        Ok((outcome, false))
    }

    /// Copies what bind mounts show, and finds out which mount points the image lacks.
    async fn prepare(
        &self,
        lower: &[PathBuf],
        scratch: &Scratch,
        jobs: Vec<(CopyAction, CopySource)>,
        targets: Vec<String>,
        place: &BuildLocation,
    ) -> Result<Vec<PathBuf>, BuildError> {
        let (lower, cancel) = (lower.to_vec(), self.cancel.clone());
        let dir = scratch.dir.path().to_owned();
        with_mounts(scratch.dir.path(), move |mounts| -> Result<_, WorkError> {
            for (index, (action, from)) in jobs.iter().enumerate() {
                let folder = bind_folder(&dir, index);
                std::fs::create_dir(&folder)?;
                let root = Root::open(&folder)?;
                files::copy_into(&root, action, None, from, mounts, &cancel)?;
            }
            files::missing(&lower, &targets, mounts)
        })
        .await
        .map_err(|error| work_error(error, place))
    }

    fn step_spec(
        &self,
        run: &RunAction,
        lower: Vec<PathBuf>,
        scratch: &Scratch,
        mounts: Vec<StepMount>,
    ) -> StepSpec {
        let mut env = run.env.clone();
        env.extend(run.proxies.clone());
        if self.request.host_ca.is_some() {
            for name in CA_VARIABLES {
                env.entry(name.to_owned())
                    .or_insert_with(|| CA_BUNDLE.to_owned());
            }
            env.entry("APT_CONFIG".to_owned())
                .or_insert_with(|| CA_APT.to_owned());
        }
        StepSpec {
            secret_env: BTreeMap::new(),
            rootfs: Overlay {
                lower,
                upper: Some(scratch.writable.clone()),
            },
            argv: run.argv.clone(),
            env,
            cwd: run.cwd.clone(),
            user: run.user.clone(),
            network: run.network && !self.request.steps.offline,
            mounts,
            hosts: self.request.steps.hosts.clone(),
            shm_size_bytes: self.request.steps.shm_size_bytes,
            ulimits: self.request.steps.ulimits.clone(),
        }
    }

    async fn run_step(&self, step: &StepSpec, place: &BuildLocation) -> Result<(), BuildError> {
        let mut log: VecDeque<String> = VecDeque::with_capacity(LOG_LINES);
        let (index, progress) = (self.index, self.progress);
        let mut output = |line: StepLine| {
            let text = clamp(line.text);
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(text.clone());
            progress(BuildEvent::StepOutput {
                index,
                stream: line.stream,
                text,
            });
        };
        let result = self.runner.run(step, &mut output, self.cancel).await;
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let log = || log.iter().cloned().collect();
        match result {
            Ok(exit) if exit.code == 0 && !exit.oom_killed => Ok(()),
            Ok(exit) => Err(BuildError::Failed {
                place: Box::new(place.clone()),
                code: exit.code,
                oom_killed: exit.oom_killed,
                log: log(),
            }),
            Err(StepError::Cancelled) => Err(BuildError::Cancelled),
            Err(source) => Err(BuildError::Run {
                place: Box::new(place.clone()),
                log: log(),
                source,
            }),
        }
    }
}

/// The copy that makes the content of a bind mount.
fn bind_copy(from: Option<&str>, source: &str) -> CopyAction {
    CopyAction {
        keyword: "RUN --mount",
        from: from.map(str::to_owned),
        sources: vec![source.to_owned()],
        documents: Vec::new(),
        destination: "/content".to_owned(),
        into_folder: false,
        several: false,
        mirror: true,
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        unpack: false,
    }
}

/// Cuts a line that is longer than anybody reads.
fn clamp(mut text: String) -> String {
    if text.len() > MAX_LINE {
        text.truncate(havre_base::clipped(&text, MAX_LINE).len());
        text.push('…');
    }
    text
}

fn copy_error(error: CopyError, place: &BuildLocation) -> BuildError {
    match error {
        CopyError::Cancelled => BuildError::Cancelled,
        source => BuildError::Copy {
            place: Box::new(place.clone()),
            source: Box::new(source),
        },
    }
}

fn work_error(error: WorkError, place: &BuildLocation) -> BuildError {
    match error {
        WorkError::Copy(error) => copy_error(error, place),
        WorkError::Io(source) => BuildError::Io {
            operation: "mount the layers of a step",
            source,
        },
    }
}
