//! Where an image comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ServiceName, is_false};

/// How an image is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Absolute folder of the build context; where it is fetched, its address.
    pub context: PathBuf,
    /// Where the context is fetched from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitContext>,
    /// Path relative to the context, or absolute.
    pub dockerfile: PathBuf,
    /// `dockerfile_inline`.
    pub dockerfile_inline: Option<String>,
    /// Stage to build; `None`: the last.
    pub target: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Names to give to the result beside the service's `image`.
    pub tags: Vec<String>,
    /// Labels of the result.
    pub labels: BTreeMap<String, String>,
    /// Ignore the layer cache.
    pub no_cache: bool,
    /// havre.yaml `build: host_ca`: RUN steps see the host's CA bundle.
    pub host_ca: bool,
    /// Secrets that RUN steps may mount: their id in the Dockerfile → key in
    /// [`Project::secrets`](super::Project::secrets).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What FROM and `--from=` may name beside stages and images.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, BuildContext>,
    /// Names that RUN steps resolve so: host → addresses (`host-gateway` is kept as is).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Size of /dev/shm of RUN steps in bytes; `None`: 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size_bytes: Option<u64>,
    /// Limits of RUN steps, name → (soft, hard).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// `network: none`: RUN steps have no network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub offline: bool,
}

/// A git repository that is a build context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitContext {
    /// By https, http or git, without a password.
    pub url: String,
    /// Branch, tag or commit; `None`: what the repository shows first.
    pub reference: Option<String>,
    /// The folder in it that is the context, relative, without `..`.
    pub subdir: Option<String>,
}

/// A further context of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum BuildContext {
    /// A folder of this machine.
    Folder {
        /// Absolute.
        path: PathBuf,
    },
    /// A git repository.
    Git(GitContext),
    /// An image.
    Image {
        /// Its name.
        reference: String,
    },
    /// The image of another service, which is there first.
    Service {
        /// The service.
        name: ServiceName,
    },
}

/// `pull_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Fetch only what is not stored (default).
    Missing,
    /// Ask the registry at every `up`.
    Always,
    /// Never ask a registry.
    Never,
}
