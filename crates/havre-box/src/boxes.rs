//! Making boxes, following, ending and removing them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use havre_engine::{
    Confidential, ContainerSpec, ControlError, Engine, IdRange, MountSpec, STANDARD_INPUT,
};
use havre_image::overlay::{Overlay, Writable};
use havre_job::paths;
use havre_net::Net;

use crate::container::{self, LABEL_BOX, Parts};
use crate::error::BoxError;
use crate::follow::Follow;
use crate::ground::{self, Grounds};
use crate::network::{self, Named, Place};
use crate::options::CreateOptions;
use crate::request::{self, BoxRequest, Ground, Workspace};
use crate::runtime::Runtime;
use crate::services;

/// Between two signals of a runner that is to end at once: the kernel makes one of two that are pending.
const BETWEEN: Duration = Duration::from_millis(50);
/// Of a runner that is to end at once, until it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// Names the look at the machine that a box stands on.
const GROUND: &str = "ground";

/// What all boxes have in common.
#[derive(Clone, Debug)]
pub struct BoxConfig {
    /// Files of boxes while they are there: on a disk, whose file system allows mapped mounts.
    pub dir: PathBuf,
    /// The binary that `dns` is run by.
    pub exe: PathBuf,
    /// What the binary of [`Runtime`] is started with: `job-runner`.
    pub runner_args: Vec<String>,
    /// Users and groups of boxes on the host, nobody else's.
    pub ids: IdRange,
}

/// Makes and removes boxes.
#[derive(Clone)]
pub struct Boxes {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    net: Arc<Net>,
    grounds: Arc<Grounds>,
    runtime: Runtime,
    config: BoxConfig,
}

/// A box whose runner was started, and what it took.
#[derive(Clone, Debug)]
pub struct Started {
    /// What has no effect, for who wrote the workflow.
    pub warnings: Vec<String>,
    /// Its network and its files, both at once.
    pub prepared: Duration,
    /// Until all services were healthy.
    pub services: Duration,
    /// Until the runner's process ran.
    pub container: Duration,
}

/// What is made at the same time as the network.
struct Files {
    rootfs: Overlay,
    mounts: Vec<MountSpec>,
    services: Vec<Overlay>,
}

impl Boxes {
    /// Boxes of an engine, whose containers are those of earlier daemons too. Blocks.
    pub fn new(
        engine: Engine,
        net: Arc<Net>,
        grounds: Grounds,
        runtime: Runtime,
        mut config: BoxConfig,
    ) -> Result<Self, BoxError> {
        let what = || format!("make {}", config.dir.display());
        fs::create_dir_all(&config.dir).map_err(BoxError::files(what()))?;
        fs::set_permissions(&config.dir, fs::Permissions::from_mode(0o700))
            .map_err(BoxError::files(what()))?;
        config.dir = fs::canonicalize(&config.dir).map_err(BoxError::files(what()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                engine,
                net,
                grounds: Arc::new(grounds),
                runtime,
                config,
            }),
        })
    }

    /// Looks at the machine, so that the first box on it need not wait for that. Blocks.
    pub fn warm(&self) -> Result<(), BoxError> {
        Ok(self.inner.grounds.get().map(drop)?)
    }

    /// Makes a box and starts its runner; returns when the runner's process runs. Of a box that cannot be made
    /// nothing stays.
    pub async fn start(&self, request: BoxRequest) -> Result<Started, BoxError> {
        request::check(&request)?;
        let dir = self.inner.dir(&request.id);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BoxError::Exists(request.id));
            }
            made => made.map_err(BoxError::files(format!("make {}", dir.display())))?,
        }
        let id = request.id.clone();
        let started = self.make(request).await;
        if started.is_err() {
            for error in self.remove(&id).await {
                tracing::warn!(box_id = id, error, "cannot remove what was made of a box");
            }
        }
        started
    }

    async fn make(&self, request: BoxRequest) -> Result<Started, BoxError> {
        let begun = Instant::now();
        let warnings = warnings(&request)?;
        let request = Arc::new(request);
        let document = serde_json::to_vec(&request.document).map_err(io::Error::from);
        let document = document.map_err(BoxError::files("write down what the runner is told"))?;
        let blocking = |work: fn(&Inner, &BoxRequest) -> Result<Made, BoxError>| {
            let (inner, request) = (Arc::clone(&self.inner), Arc::clone(&request));
            tokio::task::spawn_blocking(move || work(&inner, &request))
        };
        let (joined, files) = tokio::join!(
            blocking(|inner, request| inner.join(request).map(Made::Network)),
            blocking(|inner, request| inner.files(request).map(Made::Files)),
        );
        let (Made::Network(joined), Made::Files(files)) = (joined??, files??) else {
            return Err(BoxError::refused(
                "the parts of the box came in another order",
            ));
        };
        let prepared = begun.elapsed();

        let begun = Instant::now();
        let all = request
            .services
            .iter()
            .zip(files.services)
            .zip(joined.services);
        let mut specs = Vec::new();
        for (number, ((service, rootfs), place)) in all.enumerate() {
            let parts = self
                .inner
                .parts(&request, Some((number, &service.name)), rootfs, place);
            let spec = container::service(parts, service, container::PATH);
            let spec =
                spec.map_err(|why| BoxError::refused(format!("service {}: {why}", service.name)))?;
            specs.push((service.name.clone(), spec));
        }
        services::start(&self.inner.engine, &specs).await?;
        let services = begun.elapsed();

        let begun = Instant::now();
        let spec = self
            .inner
            .runner(&request, files.rootfs, files.mounts, joined.runner);
        let confidential = Confidential {
            filter: request.filter.clone(),
            files: BTreeMap::from([(STANDARD_INPUT.to_owned(), document.into())]),
            ..Confidential::default()
        };
        let created = self.inner.engine.create_with(&spec, confidential).await;
        created.map_err(BoxError::Runner)?;
        Ok(Started {
            warnings,
            prepared,
            services,
            container: begun.elapsed(),
        })
    }

    /// What the runner of a box has told and tells, from its start. To be called in a tokio runtime.
    pub fn follow(&self, id: &str) -> Result<Follow, BoxError> {
        request::check_id(id)?;
        let dir = self.inner.dir(id);
        if !dir.exists() {
            return Err(BoxError::NotFound(id.to_owned()));
        }
        let container = container::runner_id(id);
        Ok(Follow::new(&self.inner.engine, container, dir.join("log")))
    }

    /// Asks the runner of a box to end its job, or to end at once; then it is killed if it does not. One that has
    /// ended is fine. Returns when it was asked; at once: when it has ended.
    pub async fn cancel(&self, id: &str, at_once: bool) -> Result<(), BoxError> {
        request::check_id(id)?;
        let container = container::runner_id(id);
        let term = self.inner.engine.signal(&container, SIGTERM).await;
        match (term, at_once) {
            (Err(ControlError::NotRunning { .. }), _) => Ok(()),
            (Err(error), _) => Err(error.into()),
            (Ok(()), false) => Ok(()),
            (Ok(()), true) => {
                tokio::time::sleep(BETWEEN).await;
                Ok(self.inner.engine.stop(&container, Some(GRACE)).await?)
            }
        }
    }

    /// Ends and removes all that belongs to a box; what could not be removed is returned. Safe to repeat, and for ids
    /// that never were.
    pub async fn remove(&self, id: &str) -> Vec<String> {
        if let Err(error) = request::check_id(id) {
            return vec![error.to_string()];
        }
        let mut errors = Vec::new();
        for observed in self.inner.engine.containers() {
            if observed.labels.get(LABEL_BOX).is_some_and(|of| of == id) {
                let left = self.inner.engine.remove(&observed.id).await;
                errors.extend(left.iter().map(|error| havre_base::one_line(error)));
            }
        }
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        let rest = tokio::task::spawn_blocking(move || inner.remove_rest(&id)).await;
        errors.extend(rest.unwrap_or_else(|error| vec![error.to_string()]));
        errors
    }

    /// Boxes of which anything is there, also those of an earlier daemon, once the engine has been reconciled.
    pub fn list(&self) -> Result<BTreeSet<String>, BoxError> {
        let containers = self.inner.engine.containers();
        let labels = containers.into_iter();
        let mut ids: BTreeSet<_> = labels
            .filter_map(|mut observed| observed.labels.remove(LABEL_BOX))
            .collect();
        let what = || format!("list {}", self.inner.config.dir.display());
        let entries = fs::read_dir(&self.inner.config.dir).map_err(BoxError::files(what()))?;
        for entry in entries {
            let entry = entry.map_err(BoxError::files(what()))?;
            ids.insert(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(ids)
    }

    /// The names of the networks of boxes, for who sweeps others: of all that are there.
    pub fn networks(&self) -> Result<BTreeSet<String>, BoxError> {
        let ids = self.list()?;
        Ok(ids.iter().map(|id| network::environment(id)).collect())
    }
}

const SIGTERM: i32 = 15;

/// What one of the two threads has made.
enum Made {
    Network(network::Joined),
    Files(Files),
}

/// What has no effect; an error of what would mislead.
fn warnings(request: &BoxRequest) -> Result<Vec<String>, BoxError> {
    let CreateOptions {
        user,
        entrypoint,
        health,
        aliases,
        workdir,
        ..
    } = &request.options;
    let root = user.as_deref().is_none_or(|user| {
        let name = user.split(':').next().unwrap_or_default();
        matches!(name, "" | "0" | "root")
    });
    for (good, text) in [
        (root, "--user: jobs run as root of their own box"),
        (
            entrypoint.is_none(),
            "--entrypoint: a job's container runs its steps",
        ),
        (
            *health == Default::default(),
            "--health-…: only services are awaited",
        ),
        (
            aliases.is_empty(),
            "--network-alias: only services are reached by name",
        ),
        (workdir.is_none(), "--workdir: steps say where they run"),
    ] {
        if !good {
            return Err(BoxError::refused(format!(
                "options of the job's container: {text}"
            )));
        }
    }
    let of_services = request.services.iter();
    let of_services = of_services.flat_map(|service| {
        let name = &service.name;
        service
            .options
            .warnings
            .iter()
            .map(move |text| format!("service {name}: {text}"))
    });
    Ok(request
        .options
        .warnings
        .iter()
        .cloned()
        .chain(of_services)
        .collect())
}

impl Inner {
    fn dir(&self, id: &str) -> PathBuf {
        self.config.dir.join(id)
    }

    fn hostname(&self, request: &BoxRequest) -> String {
        let own = request.options.hostname.clone();
        own.unwrap_or_else(|| "runner".to_owned())
    }

    fn join(&self, request: &BoxRequest) -> Result<network::Joined, BoxError> {
        let named = |service: &request::Service| Named {
            names: std::iter::once(service.name.clone())
                .chain(service.options.aliases.iter().cloned())
                .collect(),
            hostname: container::hostname(service),
        };
        let services: Vec<_> = request.services.iter().map(named).collect();
        let together = matches!(request.ground, Ground::Host);
        let (hostname, dir) = (self.hostname(request), self.dir(&request.id));
        let who = (hostname.as_str(), services.as_slice());
        network::join(
            &self.net,
            &self.config.exe,
            &request.id,
            who,
            together,
            &dir,
        )
    }

    /// Folders for changes, and what is mounted.
    fn files(&self, request: &BoxRequest) -> Result<Files, BoxError> {
        let dir = self.dir(&request.id);
        let made = |name: &str| {
            let what = format!("make the folders of {}", dir.display());
            writable(&dir, name).map_err(BoxError::files(what))
        };
        let mut mounts = Vec::new();
        let lower = match &request.ground {
            Ground::Host => {
                let ground = self.ground(&dir)?;
                let parts = ground.mounts(|name| writable(&dir, name));
                mounts.extend(parts.map_err(BoxError::files("make the folders of the box"))?);
                vec![ground.lower()]
            }
            Ground::Image(image) => image.lower.clone(),
        };
        mounts.extend(self.work(request, &dir)?);
        mounts.extend(self.runtime.mounts());
        for (path, target) in [
            (&request.repository, paths::REPOSITORY),
            (&request.results_socket, paths::RESULTS_SOCKET),
        ] {
            if let Some(path) = path {
                mounts.push(shown(path, target)?);
            }
        }
        let services = request
            .services
            .iter()
            .enumerate()
            .map(|(number, service)| {
                Ok(Overlay {
                    lower: service.image.lower.clone(),
                    upper: Some(made(&format!("service{number}"))?),
                })
            });
        Ok(Files {
            rootfs: Overlay {
                lower,
                upper: Some(made("root")?),
            },
            mounts,
            services: services.collect::<Result<_, BoxError>>()?,
        })
    }

    /// The newest look at the machine, noted as in use.
    fn ground(&self, dir: &Path) -> Result<Arc<ground::Ground>, BoxError> {
        let ground = self.grounds.get()?;
        let note = dir.join(GROUND);
        fs::write(&note, &ground.name)
            .map_err(BoxError::files(format!("write {}", note.display())))?;
        // Swept before it was noted: it is looked at anew.
        match ground.lower().exists() {
            true => Ok(ground),
            false => Err(BoxError::refused(
                "the look at this machine is gone: try again",
            )),
        }
    }

    /// The folders in which the job works.
    fn work(&self, request: &BoxRequest, dir: &Path) -> Result<Vec<MountSpec>, BoxError> {
        let work = dir.join("work");
        let below = |path: &str| {
            let rest = path.strip_prefix(paths::WORK).unwrap_or(path);
            work.join(rest.trim_start_matches('/'))
        };
        let workspace = &request.document.runner.workspace;
        for path in [paths::WORK, paths::TEMP, paths::ACTIONS, workspace] {
            self.give_folder(&work, &below(path))?;
        }
        let tools = request
            .tool_cache
            .clone()
            .unwrap_or_else(|| dir.join("tools"));
        self.give_folder(&tools, &tools)?;
        let bind = |source: PathBuf, target: &str| MountSpec::Bind {
            source,
            target: target.to_owned(),
            read_only: false,
            subpath: None,
        };
        let mut mounts = vec![bind(work, paths::WORK), bind(tools, paths::TOOL_CACHE)];
        if let Workspace::Copy(tree) = &request.workspace {
            let what = format!("find {}", tree.display());
            let meta = fs::symlink_metadata(tree).map_err(BoxError::files(what))?;
            let upper =
                writable(dir, "workspace").map_err(BoxError::files("make the workspace"))?;
            mounts.push(MountSpec::Layers {
                lower: vec![tree.clone()],
                upper: Some(upper),
                target: workspace.clone(),
                owner: (meta.uid(), meta.gid()),
            });
        }
        Ok(mounts)
    }

    /// Makes a folder, and those above it from `top` on, and gives them to the box's root, unless a user of boxes
    /// has them.
    fn give_folder(&self, top: &Path, path: &Path) -> Result<(), BoxError> {
        let ids = self.config.ids;
        let give = || -> io::Result<()> {
            fs::create_dir_all(path)?;
            for folder in path.ancestors().take_while(|it| it.starts_with(top)) {
                if !ids.has(fs::symlink_metadata(folder)?.uid()) {
                    std::os::unix::fs::lchown(folder, Some(ids.first), Some(ids.first))?;
                }
            }
            Ok(())
        };
        give().map_err(BoxError::files(format!(
            "give {} to the box",
            path.display()
        )))
    }

    fn parts(
        &self,
        request: &BoxRequest,
        service: Option<(usize, &str)>,
        rootfs: Overlay,
        place: Place,
    ) -> Parts {
        let dir = self.dir(&request.id);
        let (id, role, log) = match service {
            None => (
                container::runner_id(&request.id),
                container::RUNNER,
                "log".to_owned(),
            ),
            Some((number, name)) => {
                let id = container::service_id(&request.id, number);
                (id, name, format!("service{number}.log"))
            }
        };
        Parts {
            id,
            of: request.id.clone(),
            role: role.to_owned(),
            rootfs,
            place,
            caps: request.limits,
            ids: self.config.ids,
            log: dir.join(log),
        }
    }

    fn runner(
        &self,
        request: &BoxRequest,
        rootfs: Overlay,
        mounts: Vec<MountSpec>,
        place: Place,
    ) -> ContainerSpec {
        let parts = self.parts(request, None, rootfs, place);
        let mut env = match &request.ground {
            Ground::Host => container::environment(&Default::default(), container::PATH),
            Ground::Image(image) => container::environment(&image.run, container::PATH),
        };
        env.insert("HOME".to_owned(), paths::HOME.to_owned());
        env.extend(request.options.env.iter().cloned());
        let argv = [self.runtime.argv(), self.config.runner_args.clone()].concat();
        let hostname = self.hostname(request);
        container::runner(parts, argv, env, hostname, mounts, &request.options)
    }

    /// All that is no container. Blocks.
    fn remove_rest(&self, id: &str) -> Vec<String> {
        let mut errors: Vec<String> = self
            .net
            .remove_environment(&network::environment(id))
            .iter()
            .map(|error| havre_base::one_line(error))
            .collect();
        let dir = self.dir(id);
        if let Err(error) = havre_image::remove_tree(&dir) {
            errors.push(format!("cannot remove {}: {error}", dir.display()));
        }
        let used = fs::read_dir(&self.config.dir).map(|entries| {
            let notes = entries.flatten().map(|entry| entry.path().join(GROUND));
            notes
                .filter_map(|note| fs::read_to_string(note).ok())
                .collect()
        });
        if let Ok(used) = used {
            errors.extend(self.grounds.sweep(&used).iter().map(ToString::to_string));
        }
        errors
    }
}

/// Folders for the changes of an overlay.
fn writable(dir: &Path, name: &str) -> io::Result<Writable> {
    let folder = |kind: &str| {
        let path = dir.join(format!("{name}.{kind}"));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok::<_, io::Error>(path)
    };
    Ok(Writable {
        upper: folder("changes")?,
        work: folder("scratch")?,
    })
}

/// Something of the host for reading, as if root of the box had it.
fn shown(path: &Path, target: &str) -> Result<MountSpec, BoxError> {
    let what = format!("find {}", path.display());
    let meta = fs::symlink_metadata(path).map_err(BoxError::files(what))?;
    Ok(MountSpec::Layers {
        lower: vec![path.to_owned()],
        upper: None,
        target: target.to_owned(),
        owner: (meta.uid(), meta.gid()),
    })
}
