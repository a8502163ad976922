//! Boxes for the driver of runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use havre_base::{blocking, one_line};
use havre_box::{
    BoxError, BoxRequest, Boxes, Caps, CreateOptions, Ending, Follow, Ground, Heard, Image,
    Workspace,
};
use havre_image::{Credentials, ImageRef, Images, Login, NameRights, PullOptions};
use havre_job::{
    Actions, Document, LineKind, Results as ResultsOfJob, Runner, Sources, Told, paths,
};
use havre_results::{CacheMode, Grant, Results};
use havre_runs::{BoxEnd, ContainerStart, Followed, LegKey, LegStart, Legs, StartError};
use serde_json::{Value, json};

use super::container;
use super::elsewhere::Fetcher;
use super::notes::{Note, Notes, box_id};
use super::place::{Place, place};
use super::sockets::{self, Sockets};

/// Longest that tokens of a job hold beyond its time.
const BEYOND: Duration = Duration::from_secs(15 * 60);
/// What the machine believes, where it has such a file; programs that ask for it each by a variable of their own.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
const OF_AUTHORITIES: [&str; 6] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
];
/// As of GitHub's machines; every Linux has it.
const LANGUAGE: &str = "C.UTF-8";
/// Most that processes of a job share in memory, where it has no container of its own: browsers need more than
/// containers have. It counts as the job's memory.
const SHARED_BYTES: u64 = 1 << 30;

/// What a daemon and a local run each see to in their own way.
pub(crate) trait Surroundings: Send + Sync {
    /// How the workspace of a leg comes about.
    fn ground(&self, leg: &LegStart) -> Result<Grounded, String>;
    /// Whether a job may make calls of the API: with these variables of its processes.
    fn calls(&self, leg: &LegStart) -> Result<Option<BTreeMap<String, String>>, String>;
    /// What answers those calls; `None`: nobody.
    fn api(&self) -> Option<Router>;
    /// Where images are kept; opened when the first is wanted.
    fn images(&self) -> Result<Images, String>;
    /// The run whose artifacts a leg sees: one that never was before, where artifacts and caches are kept.
    fn artifacts_of(&self, leg: &LegStart) -> String {
        leg.root.to_string()
    }
    /// For whom images of a project's jobs are used and named.
    fn names(&self, project: &str) -> NameRights;
    /// Nothing of the leg is there any more.
    fn removed(&self, key: &LegKey);
}

/// How the workspace of a leg comes about.
pub(crate) struct Grounded {
    pub(crate) workspace: Workspace,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) sources: Sources,
    /// Kept from job to job; none for what comes from outside.
    pub(crate) tool_cache: Option<PathBuf>,
}

/// Boxes for the driver of runs.
#[derive(Clone)]
pub(crate) struct BoxLegs {
    inner: Arc<Inner>,
}

struct Inner {
    boxes: Boxes,
    notes: Notes,
    sockets: Sockets,
    results: Results,
    labels: BTreeMap<String, String>,
    fetcher: Fetcher,
    surroundings: Arc<dyn Surroundings>,
}

impl BoxLegs {
    /// `dir` has a folder for each box. `labels` are images by labels of `runs-on`.
    pub(crate) fn new(
        boxes: Boxes,
        dir: PathBuf,
        results: Results,
        labels: BTreeMap<String, String>,
        fetcher: Fetcher,
        surroundings: Arc<dyn Surroundings>,
    ) -> std::io::Result<Self> {
        let inner = Inner {
            boxes,
            notes: Notes::open(dir)?,
            sockets: Sockets::default(),
            results,
            labels,
            fetcher,
            surroundings,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Removes what of boxes is nobody's, and serves those again that a process before this one has left.
    pub(crate) async fn adopt(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let there = self.inner.boxes.list().map_err(|error| one_line(&error));
        let there = there.unwrap_or_else(|error| {
            errors.push(error);
            Default::default()
        });
        let noted = self.inner.notes.all().unwrap_or_default();
        for id in there.union(&noted) {
            match self.inner.notes.read(id) {
                Ok(note) if self.inner.boxes.is_made(id) => {
                    let served = self.inner.serve(id, note.may_call);
                    errors.extend(served.err().map(|error| {
                        format!("artifacts and caches are out of reach of box {id}: {error}")
                    }));
                }
                // Nobody's, or the daemon before this one died as it made it: that is made anew.
                Ok(_) | Err(_) => errors.extend(self.inner.remove(id).await),
            }
        }
        errors
    }
}

impl Legs for BoxLegs {
    fn start(&self, leg: LegStart) -> BoxFuture<'_, Result<(), StartError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.start(leg).await })
    }

    fn follow(&self, key: &LegKey) -> BoxStream<'static, Followed> {
        follow(Arc::clone(&self.inner), box_id(key))
    }

    fn cancel<'a>(&'a self, key: &'a LegKey, at_once: bool) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Err(error) = self.inner.boxes.cancel(&box_id(key), at_once).await {
                tracing::warn!(leg = %key, error = one_line(&error), "cannot cancel a job");
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a LegKey) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for error in self.inner.remove(&box_id(key)).await {
                tracing::warn!(leg = %key, error, "cannot remove all of a job's box");
            }
            self.inner.surroundings.removed(key);
        })
    }

    fn there(&self) -> BoxFuture<'_, Vec<LegKey>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let noted = inner.notes.all().unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot list the boxes of jobs");
                Default::default()
            });
            let notes = noted.iter().map(|id| inner.notes.read(id));
            notes.flatten().map(|note| note.key).collect()
        })
    }
}

/// What a box told and tells, after what there is to be said of it.
fn follow(inner: Arc<Inner>, id: String) -> BoxStream<'static, Followed> {
    let warnings = match inner.notes.read(&id) {
        Ok(note) => note.warnings,
        Err(_) => Vec::new(),
    };
    let warnings = warnings.into_iter().map(|text| {
        Followed::Told(Told::Line {
            step: None,
            kind: LineKind::Warning,
            text,
        })
    });
    const LOST: Followed = Followed::Ended { how: BoxEnd::Lost };
    let told: BoxStream<'static, Followed> = match inner.boxes.follow(&id) {
        Err(_) => stream::iter([LOST]).boxed(),
        Ok(follow) => stream::unfold(Some(follow), |follow| async move {
            let mut follow: Follow = follow?;
            let heard = match follow.next().await {
                Ok(heard) => heard?,
                Err(error) => {
                    tracing::warn!(error = one_line(&error), "cannot read what a job tells");
                    return Some((LOST, None));
                }
            };
            Some(match heard {
                Heard::Told(told) => (Followed::Told(told), Some(follow)),
                Heard::Ended(ending) => (Followed::Ended { how: end(&ending) }, None),
            })
        })
        .boxed(),
    };
    stream::iter(warnings).chain(told).boxed()
}

fn end(ending: &Ending) -> BoxEnd {
    match ending {
        Ending::Exited {
            oom_killed: true, ..
        } => BoxEnd::OutOfMemory,
        Ending::Exited { code, .. } => BoxEnd::Exited(Some(*code)),
        Ending::Failed(_) => BoxEnd::Exited(None),
        Ending::Lost => BoxEnd::Lost,
    }
}

/// Variables of what runs on the programs of this machine.
fn of_host() -> Vec<(String, String)> {
    let mut variables = vec![("LANG".to_owned(), LANGUAGE.to_owned())];
    if std::path::Path::new(AUTHORITIES).exists() {
        let all = OF_AUTHORITIES.map(|name| (name.to_owned(), AUTHORITIES.to_owned()));
        variables.extend(all);
    }
    variables
}

fn refused(why: String) -> StartError {
    StartError {
        why,
        passing: false,
    }
}

fn of_box(error: &BoxError) -> StartError {
    StartError {
        why: one_line(error),
        passing: false,
    }
}

impl Inner {
    async fn start(&self, leg: LegStart) -> Result<(), StartError> {
        let id = box_id(&leg.key);
        let there = self.boxes.list().map_err(|error| of_box(&error))?;
        if there.contains(&id) && self.notes.read(&id).is_ok() {
            return Ok(());
        }
        let fetched = self.fetcher.fetch(&leg).await.map_err(refused)?;
        let (ground, options) = self.ground(&leg).await?;
        let mut services = Vec::new();
        for (name, asked) in &leg.services {
            let image = self.image(&leg, asked).await.map_err(|error| StartError {
                why: format!("service {name}: {}", error.why),
                ..error
            })?;
            services.push(container::service(name, asked, image).map_err(refused)?);
        }
        let grounded = self.surroundings.ground(&leg).map_err(refused)?;
        let calls = self.surroundings.calls(&leg).map_err(refused)?;
        let may_call = calls.is_some();
        let mut env = calls.unwrap_or_default();
        let grant = grant(&leg, self.surroundings.artifacts_of(&leg));
        let token = self.results.token(&grant);
        let token = token.map_err(|error| refused(one_line(&error)))?;
        let folder = self.notes.socket_folder(&id);
        let note = |warnings| Note {
            key: leg.key.clone(),
            results: (grant.run.clone(), grant.job.clone()),
            may_call,
            warnings,
        };
        let kept = |error: std::io::Error| StartError {
            why: format!("cannot make the folder of the job's box: {error}"),
            passing: true,
        };
        self.notes.write(&id, &note(Vec::new())).map_err(kept)?;
        self.serve(&id, may_call).map_err(kept)?;
        if matches!(ground, Ground::Host) {
            env.extend(of_host());
        }
        let in_container = matches!(ground, Ground::Image(_));
        let mut document = document(&leg, &id, grounded.sources, in_container, token, env);
        document.actions = fetched.actions;
        let request = BoxRequest {
            document,
            actions: fetched.folders,
            id: id.clone(),
            filter: None,
            ground,
            workspace: grounded.workspace,
            repository: grounded.repository,
            results: Some(folder),
            tool_cache: grounded.tool_cache,
            options,
            services,
            limits: Caps::of_this_machine(),
        };
        let started = self.boxes.start(request).await;
        let started = started.map_err(|error| of_box(&error))?;
        if !started.warnings.is_empty() {
            self.notes
                .write(&id, &note(started.warnings))
                .map_err(kept)?;
        }
        Ok(())
    }

    /// Serves a box at its socket.
    fn serve(&self, id: &str, may_call: bool) -> std::io::Result<()> {
        let api = self.surroundings.api().filter(|_| may_call);
        let router = sockets::both(self.results.router(), api);
        let folder = self.notes.socket_folder(id);
        self.sockets.serve(id, &folder, router)
    }

    /// What the box stands on, and the options of the container that was asked for.
    async fn ground(&self, leg: &LegStart) -> Result<(Ground, CreateOptions), StartError> {
        let place = place(&leg.labels, &self.labels).map_err(refused)?;
        match (&leg.container, place) {
            (Some(asked), _) => {
                let options = container::own(asked).map_err(refused)?;
                let image = self.image(leg, asked).await?;
                Ok((Ground::Image(Box::new(image)), options))
            }
            (None, Place::Host) => {
                let options = CreateOptions {
                    shm_size_bytes: Some(SHARED_BYTES),
                    ..CreateOptions::default()
                };
                Ok((Ground::Host, options))
            }
            (None, Place::Image(name)) => {
                let image = self.named(leg, &name, None).await?;
                Ok((Ground::Image(Box::new(image)), CreateOptions::default()))
            }
        }
    }

    async fn image(&self, leg: &LegStart, asked: &ContainerStart) -> Result<Image, StartError> {
        let login = asked.credentials.clone();
        self.named(leg, &asked.image, login).await
    }

    /// An image that is here, or is fetched.
    async fn named(
        &self,
        leg: &LegStart,
        name: &str,
        login: Option<(String, String)>,
    ) -> Result<Image, StartError> {
        let reference: ImageRef = name
            .parse()
            .map_err(|error| refused(format!("the image {name:?}: {}", one_line(&error))))?;
        let images = self.surroundings.images().map_err(refused)?;
        let names = self.surroundings.names(&leg.project);
        let (store, wanted, rights) = (images.clone(), reference.clone(), names.clone());
        let known = blocking(move || store.resolve_as(&wanted, &rights)).await;
        let known = known.map_err(|error| refused(one_line(&error)))?;
        let known = known.map_err(|error| refused(one_line(&error)))?;
        let image = match known {
            Some(image) => image,
            None => {
                let credentials = match login {
                    Some((user, password)) => Credentials::Login(Login { user, password }),
                    // The machine's own logins are not for strangers.
                    None if leg.foreign => Credentials::Anonymous,
                    None => crate::pulls::credentials(),
                };
                let options = PullOptions {
                    credentials,
                    names,
                    ..PullOptions::default()
                };
                let pulled = images.pull(&reference, &options).await;
                pulled.map_err(|error| StartError {
                    why: match error.hint() {
                        Some(hint) => format!("{}; {hint}", one_line(&error)),
                        None => one_line(&error),
                    },
                    passing: false,
                })?
            }
        };
        let (store, wanted) = (images, image.clone());
        let lower = blocking(move || store.ensure_unpacked(&wanted)).await;
        let lower = lower.map_err(|error| refused(one_line(&error)))?;
        Ok(Image {
            lower: lower.map_err(|error| refused(one_line(&error)))?,
            run: image.config.run,
        })
    }

    async fn remove(&self, id: &str) -> Vec<String> {
        let mut errors = self.boxes.remove(id).await;
        self.sockets.close(id);
        if let Ok(note) = self.notes.read(id) {
            let (run, job) = note.results;
            let results = self.results.clone();
            let ended = blocking(move || results.job_ended(&run, &job)).await;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(one_line(&error)),
                Err(error) => errors.push(one_line(&error)),
            }
        }
        // Its note goes last: what could not be removed is found by it.
        if errors.is_empty()
            && let Err(error) = self.notes.remove(id)
        {
            errors.push(format!("cannot remove the folder of box {id}: {error}"));
        }
        errors
    }
}

/// What the job may do with artifacts and caches.
fn grant(leg: &LegStart, run: String) -> Grant {
    let github: Value = leg
        .contexts
        .get("github")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut scopes = vec![(leg.reference.clone(), !leg.foreign)];
    let base = text(&github["base_ref"]);
    let default = text(&github["event"]["repository"]["default_branch"]);
    for branch in [base, default] {
        let scope = format!("refs/heads/{branch}");
        if !branch.is_empty() && !scopes.iter().any(|(known, _)| *known == scope) {
            scopes.push((scope, false));
        }
    }
    let cache = match leg.cache_mode {
        _ if leg.foreign => CacheMode::Read,
        None | Some(havre_workflow::CacheMode::Write) => CacheMode::Write,
        Some(havre_workflow::CacheMode::Read) => CacheMode::Read,
        Some(havre_workflow::CacheMode::WriteOnly) => CacheMode::WriteOnly,
        Some(havre_workflow::CacheMode::None) => CacheMode::None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let life = Duration::from_millis(leg.timeout_ms)
        .saturating_add(BEYOND)
        .min(havre_results::MAX_LIFE);
    let expires = now.unwrap_or_default().saturating_add(life).as_secs();
    Grant {
        // Jobs of one run see each other's artifacts, whatever attempts they are of.
        run,
        job: box_id(&leg.key),
        repository: leg.project.clone(),
        scopes,
        cache,
        expires: i64::try_from(expires).unwrap_or(i64::MAX),
    }
}

fn document(
    leg: &LegStart,
    id: &str,
    sources: Sources,
    in_container: bool,
    token: String,
    env: BTreeMap<String, String>,
) -> Document {
    let name = leg.repository.rsplit('/').next().unwrap_or("repository");
    let services: serde_json::Map<String, Value> = leg
        .services
        .iter()
        .map(|(name, asked)| {
            let ports: serde_json::Map<String, Value> = asked
                .ports
                .iter()
                .map(|port| {
                    let port = port.rsplit(':').next().unwrap_or(port);
                    let port = port.split('/').next().unwrap_or(port);
                    (port.to_owned(), json!(port))
                })
                .collect();
            let service = json!({"id": format!("{id}-{name}"), "network": id, "ports": ports});
            (name.clone(), service)
        })
        .collect();
    let mut job = json!({"services": services});
    if in_container {
        job["container"] = json!({"id": id, "network": id});
    }
    Document {
        version: havre_job::VERSION,
        path: leg.path.clone(),
        workflow: leg.workflow.clone(),
        job: leg.key.leg.job.clone(),
        contexts: leg.contexts.clone(),
        masks: leg.masks.clone(),
        runner: Runner {
            name: "havre".to_owned(),
            arch: match std::env::consts::ARCH {
                "aarch64" => "ARM64".to_owned(),
                _ => "X64".to_owned(),
            },
            workspace: format!("{}/{name}/{name}", paths::WORK),
            temp: paths::TEMP.to_owned(),
            tool_cache: paths::TOOL_CACHE.to_owned(),
            in_container,
            job_context: job.to_string(),
        },
        sources,
        results: Some(ResultsOfJob {
            socket: paths::RESULTS_SOCKET.to_owned(),
            token,
            identity: None,
        }),
        actions: Actions::default(),
        env,
        debug: leg
            .contexts
            .get("vars")
            .is_some_and(|vars| wants_debug(vars)),
    }
}

/// `ACTIONS_STEP_DEBUG: true`
fn wants_debug(vars: &str) -> bool {
    let vars: Value = serde_json::from_str(vars).unwrap_or_default();
    vars["ACTIONS_STEP_DEBUG"] == "true"
}
