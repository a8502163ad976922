//! What boxes are made with: of one box, all that is no state of its making.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use havre_engine::{ContainerSpec, Engine, IdRange, MountSpec};
use havre_image::overlay::Overlay;
use havre_job::paths;
use havre_net::Net;
use tokio_util::task::TaskTracker;

use crate::container::{self, Parts};
use crate::error::BoxError;
use crate::ground::Grounds;
use crate::layout::{Files, GROUND, Layout};
use crate::network::{self, Named, Place};
use crate::request::{self, BoxRequest, Ground};
use crate::runtime::Runtime;
use crate::spare::Spare;
use crate::starting::Starting;

/// Names the network of a box, in its folder.
pub const NETWORK: &str = "network";
/// Longest name that such a note holds.
const MAX_NOTE: u64 = 256;

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
        errors
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
