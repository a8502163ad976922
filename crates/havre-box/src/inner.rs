//! What boxes are made with: of one box, all that is no state of its making.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use havre_engine::{ContainerSpec, Engine, IdRange, MountSpec};
use havre_image::overlay::Overlay;
use havre_job::paths;
use havre_net::Net;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::container::{self, Parts};
use crate::disk::DiskBounds;
use crate::error::BoxError;
use crate::ground::Grounds;
use crate::layout::{Files, GROUND, Layout, TOOLS};
use crate::network::{self, Named, Place};
use crate::request::{self, BoxRequest, Ground};
use crate::runtime::Runtime;
use crate::spare::Spare;
use crate::starting::Starting;
use crate::tools::{self, Tools};

/// Names the network of a box, in its folder.
pub const NETWORK: &str = "network";
/// Longest note; those that hold paths are longer.
const MAX_NOTE: u64 = 256;
const MAX_PATHS: u64 = 64 << 10;

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
    /// What boxes may take of the disk that `dir` is on.
    pub disk: DiskBounds,
}

/// Says why a box was ended, in its folder.
const ENDED: &str = "ended";

/// Shared by all handles of [`crate::Boxes`].
pub struct Inner {
    pub engine: Engine,
    pub net: Arc<Net>,
    pub grounds: Arc<Grounds>,
    pub runtime: Runtime,
    pub config: BoxConfig,
    pub spare: Spare,
    pub starting: Starting,
    pub tasks: TaskTracker,
    pub guarding: AtomicBool,
    /// Why boxes were ended whose end is not known to all yet.
    pub ended: Mutex<BTreeMap<String, String>>,
    /// This daemon comes to its end.
    pub closing: CancellationToken,
}

impl Inner {
    /// The folder of a box.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.config.dir.join(id)
    }

    fn hostname(&self, request: &BoxRequest) -> String {
        let own = request.options.hostname.clone();
        own.unwrap_or_else(|| "runner".to_owned())
    }

    /// The network of a box, with its services in it. Blocks.
    pub fn join(&self, request: &BoxRequest) -> Result<network::Joined, BoxError> {
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
        let note = dir.join(NETWORK);
        let prepared = self.spare.take(|name| {
            let what = format!("write {}", note.display());
            fs::write(&note, name).map_err(BoxError::files(what))
        })?;
        let exe = &self.config.exe;
        network::join(&self.net, exe, prepared, who, together, &dir)
    }

    /// The files of a box. Blocks.
    pub fn files(&self, request: &BoxRequest) -> Result<Files, BoxError> {
        let layout = Layout {
            dir: &self.dir(&request.id),
            ids: self.config.ids,
            grounds: &self.grounds,
            runtime: &self.runtime,
        };
        layout.files(request)
    }

    /// What was noted in a box's folder; `None`: nothing yet, or the box is gone.
    pub fn note(&self, id: &str, name: &str) -> Result<Option<String>, BoxError> {
        let path = self.dir(id).join(name);
        match havre_base::read_small(&path, MAX_NOTE) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BoxError::files(format!("read {}", path.display()))(error)),
        }
    }

    /// Why a box was ended; `None`: it was not, or by itself.
    pub fn why_ended(&self, id: &str) -> Option<String> {
        let known = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(id).cloned();
        // By the daemon before this one.
        known.or_else(|| havre_base::read_small(&self.dir(id).join(ENDED), MAX_PATHS).ok())
    }

    /// Notes why a box is ended; memory holds it where the disk is full.
    pub fn note_end(&self, id: &str, why: &str) {
        if let Err(error) = fs::write(self.dir(id).join(ENDED), why) {
            tracing::warn!(%error, "what ends a job cannot be noted");
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(id.to_owned(), why.to_owned());
    }

    /// Folders of tools that boxes see or add to. Blocks.
    pub fn tools_in_use(&self) -> io::Result<BTreeSet<PathBuf>> {
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(&self.config.dir)? {
            let tools = read_tools(&entry?.path())?;
            used.extend(tools.shown);
            used.extend(tools.keep);
        }
        Ok(used)
    }

    /// What the runner, or a service by its number and name, is made of.
    pub fn parts(
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

    /// The container of the runner.
    pub fn runner(
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
    pub fn remove_rest(&self, id: &str) -> Vec<String> {
        let errors = match self.note(id, NETWORK) {
            Ok(None) => Vec::new(),
            Ok(Some(name)) => self.spare.remove(&name),
            Err(error) => vec![havre_base::one_line(&error)],
        };
        // Its notes are what is left to find it by.
        if !errors.is_empty() {
            return errors;
        }
        let mut errors = Vec::new();
        let dir = self.dir(id);
        let changes = dir.join(format!("{TOOLS}.changes"));
        let kept = match changes.is_dir() {
            true => read_tools(&dir).and_then(|of| tools::keep(&changes, &of, self.config.ids)),
            false => Ok(0),
        };
        if let Err(error) = kept {
            // The next job fetches them again.
            tracing::warn!(box_id = id, %error, "tools of a job are not kept");
        }
        if let Err(error) = havre_image::remove_tree(&dir) {
            errors.push(format!("cannot remove {}: {error}", dir.display()));
        }
        let used = || -> io::Result<BTreeSet<String>> {
            let mut used = BTreeSet::new();
            for entry in fs::read_dir(&self.config.dir)? {
                match havre_base::read_small(&entry?.path().join(GROUND), MAX_NOTE) {
                    Ok(name) => drop(used.insert(name)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(used)
        };
        errors.extend(self.grounds.sweep(used).iter().map(ToString::to_string));
        if errors.is_empty() {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.remove(id);
        }
        errors
    }
}

/// What is noted of the tools of a box in this folder.
fn read_tools(dir: &Path) -> io::Result<Tools> {
    match havre_base::read_small(&dir.join(TOOLS), MAX_PATHS) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Tools::default()),
        Err(error) => Err(error),
    }
}

/// What the runner reads.
pub fn document(request: &BoxRequest) -> Result<Vec<u8>, BoxError> {
    let document = serde_json::to_vec(&request.document).map_err(io::Error::from);
    let document = document.map_err(BoxError::files("write down what the runner is told"))?;
    let (size, most) = (document.len(), havre_job::MAX_DOCUMENT);
    match size > most {
        true => Err(BoxError::refused(format!(
            "the runner would be told {size} bytes; {most} are the most"
        ))),
        false => Ok(document),
    }
}
