//! An action on its way to this machine, and why one fails.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_model::ServiceName;
use havre_release::ReplicaId;

use crate::container::SpecError;
use crate::contents::ContentsError;
use crate::hooks::HookError;
use crate::host::Host;
use crate::host_mounts::MountRefused;
use crate::machine::Work;
use crate::variables::NoVariable;
use crate::volumes::VolumeError;

/// One action, for whom and with what.
pub(crate) struct Job {
    pub(crate) host: Arc<Host>,
    pub(crate) id: EnvironmentId,
    pub(crate) work: Work,
}

/// Why an action failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActionError {
    #[error("release {number} or its service `{service}` is not known")]
    NoService { number: u64, service: ServiceName },
    #[error("image {digest} of service `{service}` cannot be used")]
    Image {
        service: ServiceName,
        digest: String,
        source: havre_image::ImageError,
    },
    #[error("image {digest} is not a digest")]
    Digest { digest: String },
    #[error("layers of the image of service `{service}` cannot be unpacked")]
    Layers {
        service: ServiceName,
        source: havre_image::LayerError,
    },
    #[error("container {id} cannot join its networks")]
    Network {
        id: ReplicaId,
        source: havre_net::NetError,
    },
    #[error("service `{service}` cannot be given its mounts")]
    MountRefused {
        service: ServiceName,
        source: MountRefused,
    },
    #[error("mounts of service `{service}` cannot be prepared")]
    Volumes {
        service: ServiceName,
        source: VolumeError,
    },
    #[error("its secret or config {target} is not to be had")]
    Contents {
        target: String,
        source: ContentsError,
    },
    #[error("cannot {attempt} {path}", path = path.display())]
    Files {
        attempt: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the secret of variable `{variable}` cannot be one")]
    Variable {
        variable: String,
        source: NoVariable,
    },
    #[error("what is to be masked in output cannot be found out")]
    Mask { source: io::Error },
    #[error("service `{service}` cannot run")]
    Spec {
        service: ServiceName,
        source: SpecError,
    },
    #[error("container {id} cannot be created")]
    Create {
        id: ReplicaId,
        source: havre_engine::CreateError,
    },
    #[error("container {id} cannot be given other secrets")]
    Renew {
        id: ReplicaId,
        source: havre_engine::ControlError,
    },
    #[error("container {id} does not reload its secrets")]
    Reload { id: ReplicaId, source: HookError },
    #[error("container {id} cannot be stopped")]
    Stop {
        id: ReplicaId,
        source: havre_engine::ControlError,
    },
    #[error("container {id} cannot be removed completely: {}", errors.join("; "))]
    Remove { id: ReplicaId, errors: Vec<String> },
    #[error("`post_start` of service `{service}`")]
    PostStart {
        service: ServiceName,
        source: HookError,
    },
    #[error("a worker thread ended early")]
    Thread {
        #[from]
        source: tokio::task::JoinError,
    },
}
