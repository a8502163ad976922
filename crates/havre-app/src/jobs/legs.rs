//! Boxes for the driver of runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use havre_base::{blocking, one_line};
use havre_box::{
    BoxError, BoxRequest, Boxes, Caps, CreateOptions, Ending, Follow, Ground, Heard, Image,
};
use havre_image::{Credentials, ImageRef, Login, PullOptions};
use havre_job::{
    Actions, Document, Door, LineKind, Results as ResultsOfJob, Runner, Sources, Told, paths,
};
use havre_results::{CacheMode, Grant, Results};
use havre_runs::{BoxEnd, ContainerStart, Followed, LegKey, LegStart, Legs, StartError};
use serde_json::{Value, json};

use super::around::{Proxy, Surroundings};
use super::container;
use super::doors::Doors;
use super::elsewhere::Fetcher;
use super::images::{self, OfBox, Served};
use super::notes::{Note, Notes, box_id};
use super::place::{Place, place};
use super::rights::Rights;
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
/// The certificate of the machine's own authority in the folder of sockets; [`paths::AUTHORITY`] inside.
const AUTHORITY: &str = "ca.pem";
/// As of GitHub's machines; every Linux has it.
const LANGUAGE: &str = "C.UTF-8";
/// Most that processes of a job share in memory, where it has no container of its own: browsers need more than
/// containers have. It counts as the job's memory.
const SHARED_BYTES: u64 = 1 << 30;

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

    /// Ends what boxes still have going on; what does not end in time is told.
    pub(crate) async fn end(&self) -> Vec<String> {
        match self.inner.sockets.end().await {
            true => Vec::new(),
            false => vec!["what a job had built does not end".to_owned()],
        }
    }

    /// Removes what of boxes is nobody's, and serves those again that a process before this one has left.
    pub(crate) async fn adopt(&self) -> Vec<String> {
        let mut errors = Vec::new();
        let there = self.inner.boxes.list().map_err(|error| one_line(&error));
        let there = there.unwrap_or_else(|error| {
            errors.push(error);
            Default::default()
        });
        let noted = self.inner.notes.all().unwrap_or_else(|error| {
            errors.push(format!("cannot list the boxes of jobs: {error}"));
            Default::default()
        });
        if self.inner.surroundings.has_images() {
            let (surroundings, noted) = (Arc::clone(&self.inner.surroundings), noted.clone());
            let released = blocking(move || {
                images::release_unknown(&surroundings.images()?, |id| noted.contains(id))
            });
            match released.await {
                Ok(released) => errors.extend(released.err()),
                Err(error) => errors.push(one_line(&error)),
            }
        }
        for id in there.union(&noted) {
            match self.inner.notes.read(id) {
                Ok(note) if self.inner.boxes.is_made(id) => {
                    errors.extend(self.inner.boxes.end_beside(id).await);
                    let proxy = note.has_doors.then(|| self.inner.surroundings.proxy());
                    let served = self
                        .inner
                        .serve(id, &note, &proxy.flatten().unwrap_or_default());
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
            let read = |id: &String| {
                let note = inner.notes.read(id);
                let warn = |error: &std::io::Error| {
                    tracing::warn!(id, %error, "nobody knows whose box it is");
                };
                note.inspect_err(warn).ok()
            };
            noted.iter().filter_map(read).map(|note| note.key).collect()
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
        Ending::Stopped(why) => BoxEnd::Stopped(why.clone()),
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
        // Others may make room.
        passing: matches!(error, BoxError::NoRoom(_)),
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
        let wants_proxy = self.surroundings.wants_proxy(&leg).await;
        let proxy = wants_proxy.then(|| self.surroundings.proxy()).flatten();
        let proxy = proxy.unwrap_or_default();
        let rights = Rights::of(&leg);
        let (identity, mut unmet) = match self.surroundings.identity(&id, &rights) {
            Ok(identity) => (identity, Vec::new()),
            Err(why) => (None, vec![why]),
        };
        let note = |warnings| Note {
            key: leg.key.clone(),
            results: (grant.run.clone(), grant.job.clone()),
            may_call,
            has_doors: wants_proxy,
            rights: rights.clone(),
            images: images::Rights::of((&leg.project, &leg.reference, leg.foreign), &grant),
            warnings,
        };
        let kept = |error: std::io::Error| StartError {
            why: format!("cannot make the folder of the job's box: {error}"),
            passing: true,
        };
        let first = note(unmet.clone());
        self.notes.write(&id, &first).map_err(kept)?;
        self.serve(&id, &first, &proxy).map_err(kept)?;
        let builds = (havre_job::images::VARIABLE, paths::IMAGES_SOCKET);
        env.insert(builds.0.to_owned(), builds.1.to_owned());
        if matches!(ground, Ground::Host) {
            env.extend(of_host());
        } else if !proxy.doors.is_empty() {
            // Beside those that Node.js brings; other programs of an image have no such variable.
            let name = "NODE_EXTRA_CA_CERTS".to_owned();
            env.insert(name, paths::AUTHORITY.to_owned());
        }
        let in_container = matches!(ground, Ground::Image(_));
        let document = Document {
            doors: doors_in_box(&proxy.doors),
            actions: fetched.actions,
            ..document(
                &leg,
                &id,
                grounded.sources,
                in_container,
                ResultsOfJob {
                    socket: paths::RESULTS_SOCKET.to_owned(),
                    token,
                    identity,
                },
                env,
            )
        };
        let request = BoxRequest {
            document,
            actions: fetched.folders,
            id: id.clone(),
            filter: None,
            ground,
            workspace: grounded.workspace,
            repository: grounded.repository,
            results: Some(folder),
            tools: grounded.tools,
            options,
            services,
            limits: Caps::of_this_machine(),
        };
        let started = self.boxes.start(request).await;
        let started = started.map_err(|error| of_box(&error))?;
        if !started.warnings.is_empty() {
            unmet.extend(started.warnings);
            self.notes.write(&id, &note(unmet)).map_err(kept)?;
        }
        Ok(())
    }

    /// Serves a box at its sockets.
    fn serve(&self, id: &str, note: &Note, proxy: &Proxy) -> std::io::Result<()> {
        let api = self.surroundings.api().filter(|_| note.may_call);
        let own = self.surroundings.own(id, &note.rights);
        let router = sockets::all(self.results.router(), api, own);
        let folder = self.notes.socket_folder(id);
        let closed = self.sockets.serve(id, &folder, router, &proxy.doors)?;
        if !proxy.doors.is_empty() {
            std::fs::write(folder.join(AUTHORITY), &proxy.authority)?;
        }
        let (rights, surroundings) = (note.images.clone(), Arc::clone(&self.surroundings));
        let (boxes, folder_of) = (self.boxes.clone(), self.notes.folder(id));
        let own = OfBox::new(id, folder_of, rights, surroundings, boxes);
        Served::start(own, &folder, closed, self.sockets.tasks())
    }

    /// Lets go of the images of a box that is gone.
    async fn let_go(&self, id: &str) -> Result<(), String> {
        // Of a job without images nobody has opened where they are kept.
        if !self.surroundings.has_images() {
            return Ok(());
        }
        let (surroundings, id) = (Arc::clone(&self.surroundings), id.to_owned());
        let released = blocking(move || images::release(&surroundings.images()?, &id)).await;
        released.map_err(|error| one_line(&error))?
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
        errors.extend(self.let_go(id).await.err());
        // Its note goes last: what could not be removed is found by it.
        if errors.is_empty()
            && let Err(error) = self.notes.remove(id)
        {
            errors.push(format!("cannot remove the folder of box {id}: {error}"));
        }
        errors
    }
}

/// As the runner knows them.
fn doors_in_box(doors: &Doors) -> Vec<Door> {
    let door = |port: &u16| Door {
        port: *port,
        socket: format!("{}/{}", paths::RESULTS_FOLDER, paths::door(*port)),
    };
    doors.keys().map(door).collect()
}

/// References whose caches a job sees: its own first, which it may add to.
pub(crate) fn scopes(leg: &LegStart) -> Vec<String> {
    let github: Value = leg
        .contexts
        .get("github")
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut scopes = vec![leg.reference.clone()];
    let base = text(&github["base_ref"]);
    let default = text(&github["event"]["repository"]["default_branch"]);
    for branch in [base, default] {
        let scope = format!("refs/heads/{branch}");
        if !branch.is_empty() && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    scopes
}

/// What the job may do with artifacts and caches.
fn grant(leg: &LegStart, run: String) -> Grant {
    let scopes = scopes(leg).into_iter().enumerate();
    let scopes = scopes.map(|(at, scope)| (scope, at == 0 && !leg.foreign));
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
        scopes: scopes.collect(),
        cache,
        expires: i64::try_from(expires).unwrap_or(i64::MAX),
    }
}

fn document(
    leg: &LegStart,
    id: &str,
    sources: Sources,
    in_container: bool,
    results: ResultsOfJob,
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
        results: Some(results),
        doors: Vec::new(),
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
