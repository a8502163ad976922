//! What the tasks of the daemon share: one handle on each subsystem.

use std::path::PathBuf;
use std::sync::Arc;

use havre_engine::Engine;
use havre_image::Images;
use havre_net::Net;
use havre_release::{Policy, ReplicaId};

use crate::certificates::Certificates;
use crate::edge::EdgeHub;
use crate::environment::tables::Tables;
use crate::files::FileVault;
use crate::root::Root;
use crate::shared_networks;
use crate::tls::LocalCa;

/// Handles on the subsystems of one installation.
pub(crate) struct Platform {
    pub(crate) root: Root,
    /// The binary, for the processes it starts.
    pub(crate) exe: PathBuf,
    pub(crate) tables: Tables,
    pub(crate) networks: shared_networks::tables::Tables,
    pub(crate) images: Images,
    pub(crate) engine: Engine,
    pub(crate) net: Arc<Net>,
    pub(crate) hub: EdgeHub,
    pub(crate) vault: FileVault,
    pub(crate) ca: LocalCa,
    pub(crate) certificates: Certificates,
    pub(crate) policy: Policy,
}

impl Platform {
    /// Scratch space of a container: the writable layer and small files.
    pub(crate) fn container_dir(&self, id: &ReplicaId) -> PathBuf {
        self.containers_dir().join(&id.0)
    }

    /// The containers' scratch space: a folder of each that is there.
    pub(crate) fn containers_dir(&self) -> PathBuf {
        self.root.state_dir().join("containers")
    }

    /// Output of an environment, one folder per container.
    pub(crate) fn log_dir(&self, environment_key: &str) -> PathBuf {
        self.root.state_dir().join("logs").join(environment_key)
    }

    /// Named volumes.
    pub(crate) fn volumes_dir(&self) -> PathBuf {
        self.root.state_dir().join("volumes")
    }
}
