//! The validated project: what the files mean, after interpolation, merge and defaults.
//!
//! Units are in the types (`Duration`) or in the names (`_bytes`, `nano_cpus`). Maps are ordered,
//! so that a digest of the serialised form is stable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::allow::Allow;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a name that the reader has already checked.
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as written in the file.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A project's name: `[a-z0-9][a-z0-9_-]*`, by default the folder's name.
    ProjectName
);
name_type!(
    /// An environment's name (`production`, `staging`, …).
    EnvironmentName
);
name_type!(
    /// A service's name as in the compose file.
    ServiceName
);
name_type!(
    /// A network's name as in the compose file (`default` where none is given).
    NetworkName
);
name_type!(
    /// A volume's name as in the compose file.
    VolumeName
);

/// One project in one environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Project {
    /// The project's name.
    pub name: ProjectName,
    /// The environment these values were resolved for.
    pub environment: EnvironmentName,
    /// The folder that relative paths of the first compose file start from.
    pub directory: PathBuf,
    /// Services enabled by the active profiles.
    pub services: BTreeMap<ServiceName, Service>,
    /// Networks that a service uses.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Named volumes that a service uses.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Secrets that a service is granted.
    pub secrets: BTreeMap<String, FileSource>,
    /// Configs that a service is granted.
    pub configs: BTreeMap<String, FileSource>,
    /// Hosts this environment answers to; never empty (default `<project>.localhost`).
    pub hosts: Vec<String>,
    /// Where the certificate for `hosts` comes from.
    pub tls: Tls,
    /// Host and path → service, from havre.yaml or inferred; longest path first.
    pub routes: Vec<Route>,
    /// How the environment moves from one release to the next.
    #[serde(default, skip_serializing_if = "RolloutSettings::is_default")]
    pub rollout: RolloutSettings,
}

impl Project {
    /// Published ports that must be forwarded as they are. Not among them are those that the proxy
    /// serves: a port that a route leads to, and of a service with a route its HTTPS port (HTTP/3
    /// too: it would lead around the proxy) and what it publishes where the proxy listens.
    pub fn forwarded_ports(&self) -> impl Iterator<Item = (&ServiceName, &Port)> {
        self.services.iter().flat_map(|(name, service)| {
            service
                .forwarded_ports(name, &self.routes)
                .map(move |port| (name, port))
        })
    }
}

impl Service {
    /// [`Project::forwarded_ports`] of this service, called `name`.
    pub fn forwarded_ports(
        &self,
        name: &ServiceName,
        routes: &[Route],
    ) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(move |port| {
            let served = |route: &Route| match port.protocol {
                Protocol::Tcp => {
                    let web = matches!(port.published, Some(80 | 443));
                    route.port == port.target || port.target == 443 || web
                }
                Protocol::Udp => port.target == 443 || port.published == Some(443),
            };
            !routes
                .iter()
                .any(|route| route.service == *name && served(route))
        })
    }
}

/// A service as the engine will run it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Image reference; with `build`, the name the built image gets.
    pub image: Option<String>,
    /// How to build the image; at least one of `image` and `build` is given.
    pub build: Option<Build>,
    /// When an image is fetched.
    pub pull_policy: PullPolicy,
    /// Replaces the image's ENTRYPOINT (and then its CMD is not used).
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    pub environment: BTreeMap<String, String>,
    /// Container ports other services may use (documentation, and input of route inference).
    pub expose: Vec<u16>,
    /// Published ports; [`Project::forwarded_ports`] says which of them the proxy does not serve.
    pub ports: Vec<Port>,
    /// Volumes, bind mounts and tmpfs.
    pub mounts: Vec<Mount>,
    /// Networks joined; empty where `network_mode` says so: none, the machine's, another service's.
    pub networks: BTreeMap<NetworkName, Attachment>,
    /// `network_mode: service:NAME`: its replicas are in the network namespaces of this service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_of: Option<ServiceName>,
    /// What must hold before this service starts.
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// `None`: the image's own health check, if it has one.
    pub healthcheck: Option<Healthcheck>,
    /// `services.*.liveness` of havre.yaml: it alone decides then whether a new process is needed,
    /// and the health check only whether requests come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// What happens when the process ends.
    pub restart: RestartPolicy,
    /// Secrets as files.
    pub secrets: Vec<FileGrant>,
    /// Configs as files.
    pub configs: Vec<FileGrant>,
    /// Wished number of replicas.
    pub replicas: u32,
    /// Limits of one replica.
    pub resources: Resources,
    /// How a new release replaces the old one.
    pub update: UpdateConfig,
    /// Signal that asks the process to end; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Time between the stop signal and SIGKILL (compose default 10 s).
    pub stop_grace_period: Duration,
    /// Run a small init as process 1.
    pub init: bool,
    /// `user[:group]`, names or numbers; `None`: the image's.
    pub user: Option<String>,
    /// Supplementary groups.
    pub group_add: Vec<String>,
    /// `None`: the image's.
    pub working_dir: Option<String>,
    /// Host name inside; `None`: the container's id.
    pub hostname: Option<String>,
    /// Capabilities added to the default set, without `CAP_`; `ALL` is allowed.
    pub cap_add: Vec<String>,
    /// Capabilities removed from the default set, without `CAP_`; `ALL` is allowed.
    pub cap_drop: Vec<String>,
    /// `security_opt: no-new-privileges:true`.
    pub no_new_privileges: bool,
    /// `security_opt: seccomp:unconfined`.
    pub seccomp_unconfined: bool,
    /// `services.*.allow` of havre.yaml: what it may have of the machine.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<Allow>,
    /// Every capability and device, and nothing of the kernel hidden.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// What it has in common with the machine.
    #[serde(default, skip_serializing_if = "Shares::are_none")]
    pub shares: Shares,
    /// Devices of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// `device_cgroup_rules`: `c 189:* rmw`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_rules: Vec<String>,
    /// `ulimits`, name → (soft, hard).
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Namespaced kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes; `None`: 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// The root file system is read-only.
    pub read_only: bool,
    /// Extra lines of /etc/hosts: host → addresses (`host-gateway` is kept as is).
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Names for other services that hold in this one only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, ServiceName>,
    /// How names are looked up.
    #[serde(default, skip_serializing_if = "Resolver::is_default")]
    pub resolver: Resolver,
    /// Allocate a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin_open: bool,
    /// How much of the output is kept.
    pub logging: Logging,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// Run once per release, before any replica of it starts.
    pub pre_start: Vec<Hook>,
    /// Run in each replica after it started.
    pub post_start: Vec<Hook>,
    /// Run in each replica before it is stopped.
    pub pre_stop: Vec<Hook>,
}

impl Service {
    /// Whether something may connect to it.
    pub fn is_reachable(&self) -> bool {
        !self.networks.is_empty() || self.network_of.is_some() || self.shares.network
    }
}

/// Namespaces of the machine that a container is in, instead of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shares {
    /// `network_mode: host`.
    #[serde(skip_serializing_if = "is_false")]
    pub network: bool,
    /// `pid: host`.
    #[serde(skip_serializing_if = "is_false")]
    pub pid: bool,
    /// `ipc: host`.
    #[serde(skip_serializing_if = "is_false")]
    pub ipc: bool,
}

impl Shares {
    /// Whether all are its own.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A device of the machine in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Absolute on the machine: a device, or a folder of them.
    pub source: PathBuf,
    /// Absolute inside, below `/dev`.
    pub target: String,
    /// Of `r`, `w` and `m` (make).
    pub permissions: String,
}

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
    /// Secrets that RUN steps may mount: their id in the Dockerfile → key in [`Project::secrets`].
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

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Port in the container.
    pub target: u16,
    /// Port on the host; `None`: chosen by the kernel.
    pub published: Option<u16>,
    /// Address on the host.
    pub host_ip: Option<String>,
    /// Transport.
    pub protocol: Protocol,
    /// What it speaks to the proxy, where a route leads to it.
    #[serde(default, skip_serializing_if = "RouteProtocol::is_http")]
    pub app_protocol: RouteProtocol,
}

/// Transport of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Something mounted into a container at `target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Mount {
    /// A named volume, kept across releases.
    Volume {
        /// Key in [`Project::volumes`].
        name: VolumeName,
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// Do not copy the image's content into the empty volume.
        nocopy: bool,
        /// Folder of the volume that is mounted, relative, without `..`; `None`: all of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// [`Volume::backing`], here too so that another one makes new replicas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backing: Option<PathBuf>,
    },
    /// A volume without a name, removed with its container.
    Anonymous {
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Do not copy the image's content into it.
        #[serde(default, skip_serializing_if = "is_false")]
        nocopy: bool,
    },
    /// A path of the host.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// Absolute path inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// Make the folder when it is missing.
        create_host_path: bool,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Limit in bytes.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner; `None`: root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
        /// Group; `None`: root's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gid: Option<u32>,
        /// Programs may be started from it.
        #[serde(default, skip_serializing_if = "is_false")]
        exec: bool,
    },
}

/// For what is left out of the serialised form, which digests are made of.
fn is_false(value: &bool) -> bool {
    !*value
}

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// No way out of the machine.
    pub internal: bool,
    /// `external`: made outside the project, under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A named volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// `name:`, else `<project>_<key>`.
    pub name: Option<String>,
    /// Must exist already.
    pub external: bool,
    /// The folder of this machine that it is (`driver_opts`), instead of one of Havre's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<PathBuf>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// Its name on the machine: its own, or `<project>_<key>` as docker compose has it;
    /// environments other than production have volumes of their own.
    pub fn name_on_machine(&self, project: &str, environment: &str, key: &VolumeName) -> String {
        match (&self.name, environment) {
            (Some(name), _) if self.external => name.clone(),
            (Some(name), "production") => name.clone(),
            (Some(name), environment) => format!("{environment}_{name}"),
            (None, "production") => format!("{project}_{key}"),
            (None, environment) => format!("{project}-{environment}_{key}"),
        }
    }
}

/// A service's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Further names that resolve to the service.
    pub aliases: Vec<String>,
}

/// How a service looks names up: `dns`, `dns_search`, `dns_opt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Asked for all names but those of the project; none: the machine's.
    pub servers: Vec<IpAddr>,
    /// Domains tried behind a name.
    pub search: Vec<String>,
    /// Options of the C library's resolver, e.g. `ndots:2`.
    pub options: Vec<String>,
}

impl Resolver {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Content of a secret or config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum FileSource {
    /// A file of the project.
    File {
        /// Absolute path.
        path: PathBuf,
    },
    /// The value of a variable, resolved by the reader from the caller's environment.
    Environment {
        /// The variable's name.
        variable: String,
        /// Its value.
        value: String,
    },
    /// Inline content (configs only).
    Content {
        /// The text.
        content: String,
    },
}

/// A secret or config as seen by one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// Key in [`Project::secrets`] or [`Project::configs`].
    pub source: String,
    /// Absolute path inside (secrets default to `/run/secrets/<source>`, configs to `/<source>`).
    pub target: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits (default 0444).
    pub mode: u32,
}

/// One edge of `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// What must hold.
    pub condition: Condition,
    /// The other service must exist.
    pub required: bool,
    /// New replicas of the other bring new ones of this.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restart: bool,
}

/// Condition of a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The process runs.
    ServiceStarted,
    /// The health check passes.
    ServiceHealthy,
    /// The process ended with 0; once per release.
    ServiceCompletedSuccessfully,
}

/// `healthcheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Healthcheck {
    /// `disable: true` or `test: NONE`: also removes the image's.
    Disabled,
    /// A probe; unset fields fall back to the image's, then to the defaults.
    Probe {
        /// `None`: the image's test.
        test: Option<Probe>,
        /// When it runs.
        #[serde(flatten)]
        timing: ProbeTiming,
    },
}

/// A liveness probe; unset fields have the defaults of a health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// What it runs.
    pub test: Probe,
    /// When.
    #[serde(flatten)]
    pub timing: ProbeTiming,
}

impl ProbeTiming {
    /// How long a process may take at most until the probe gives it up, with the defaults.
    fn longest_start(&self) -> Duration {
        let usual = Duration::from_secs(30);
        let interval = self.interval.unwrap_or(usual);
        let one = interval.saturating_add(self.timeout.unwrap_or(usual));
        one.saturating_mul(self.retries.unwrap_or(3).max(1))
            .saturating_add(self.start_period.unwrap_or_default())
    }
}

/// When a probe runs, and what its results mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTiming {
    /// Default 30 s.
    pub interval: Option<Duration>,
    /// Default 30 s.
    pub timeout: Option<Duration>,
    /// Default 3.
    pub retries: Option<u32>,
    /// Default 0 s.
    pub start_period: Option<Duration>,
    /// In the start period. Default 1 s, where Docker has 5.
    pub start_interval: Option<Duration>,
}

/// What a health check runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "form", content = "value", rename_all = "snake_case")]
pub enum Probe {
    /// `["CMD", …]`.
    Exec(Vec<String>),
    /// `["CMD-SHELL", "…"]` or a plain string; run by `/bin/sh -c`.
    Shell(String),
}

/// `restart` or `deploy.restart_policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case")]
pub enum RestartPolicy {
    /// The file says nothing: started again when it fails. An earlier version wrote it down so.
    #[serde(rename = "no")]
    Unset,
    /// `no`: never started again, however it ends.
    #[serde(rename = "never")]
    No,
    /// Whenever it ends.
    Always,
    /// Whenever it ends, unless a user stopped it.
    UnlessStopped,
    /// When it ends with other than 0.
    OnFailure {
        /// `None`: for ever.
        max_retries: Option<u32>,
    },
}

/// Limits of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousand-millionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Hard memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory kept for it under pressure, in bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
}

/// `deploy.update_config`; unset fields get safe defaults in the planner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// `start-first` or `stop-first`; `None`: the planner decides and says why.
    pub order: Option<UpdateOrder>,
    /// Replicas replaced at a time; `None`: all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// Rest between two such groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// How long the release is watched because of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Duration>,
    /// What becomes of a release that fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// `deploy.rollback_config.order`: the order on the way back, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_order: Option<UpdateOrder>,
}

/// `rollout` of `havre.yaml`: how an environment moves from one release to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutSettings {
    /// How requests move to the new release.
    pub strategy: RolloutStrategy,
    /// How long the new release is watched when it has all requests.
    pub bake: Duration,
    /// So many more of a thousand requests may fail than before.
    pub max_errors_permille: u32,
    /// So many times the latency of before is still borne (95th percentile, in hundredths).
    pub max_slowdown_percent: u32,
    /// How long a replica may take until it is ready.
    pub ready_timeout: Duration,
    /// Requests and streams of a replica that leaves are given up after this.
    pub drain_timeout: Duration,
    /// How long requests wait for a service without a replica; `None`: as long as its last start
    /// took, and a margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
    /// What becomes of a rollout that fails.
    pub on_failure: OnFailure,
}

/// How requests move to a new release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "strategy", rename_all = "kebab-case")]
pub enum RolloutStrategy {
    /// All at once, when every service is ready.
    #[default]
    BlueGreen,
    /// A share of the visitors first.
    Canary {
        /// The shares in a thousand, growing.
        steps: Vec<u32>,
        /// How long each is watched.
        step: Duration,
    },
}

/// What becomes of a rollout that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The release before serves again.
    #[default]
    Rollback,
    /// It stops where it is until a person decides.
    Pause,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::default(),
            bake: Duration::from_secs(10),
            max_errors_permille: 10,
            max_slowdown_percent: 300,
            ready_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(30),
            hold: None,
            on_failure: OnFailure::default(),
        }
    }
}

impl RolloutSettings {
    /// Nobody waits longer for an answer.
    pub const LONGEST_HOLD: Duration = Duration::from_secs(600);
    /// Requests wait so long for a service that nobody has seen start.
    pub const USUAL_HOLD: Duration = Duration::from_secs(30);

    /// How long requests wait for a service without a replica that took `start` to be ready when
    /// it was last seen to start. `end`: all the time of one that has to end before.
    pub fn hold_for(&self, start: Option<Duration>, end: Duration) -> Duration {
        // Half as long again, and a margin.
        let measured = start.map(|start| start.saturating_mul(3) / 2 + Duration::from_secs(15));
        let usual = measured.unwrap_or_default().max(Self::USUAL_HOLD);
        let usual = usual.saturating_add(end);
        self.hold.unwrap_or(usual).min(Self::LONGEST_HOLD)
    }

    /// Whether nothing was said about it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long a replica of this service may take until it is ready: where nobody chose a time,
    /// at least as long as its own health check bears.
    pub fn ready_within(&self, service: &Service) -> Duration {
        let usual = Self::default().ready_timeout;
        match &service.healthcheck {
            Some(Healthcheck::Probe { timing, .. }) if self.ready_timeout == usual => {
                usual.max(timing.longest_start())
            }
            Some(Healthcheck::Probe { .. } | Healthcheck::Disabled) | None => self.ready_timeout,
        }
    }
}

/// Order of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new replica starts before the old one ends.
    StartFirst,
    /// The old replica ends before the new one starts.
    StopFirst,
}

/// `logging` of the json-file and local drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logging {
    /// Size at which the spool rotates.
    pub max_size_bytes: Option<u64>,
    /// Files kept.
    pub max_files: Option<u32>,
}

/// A command at a point of a replica's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Runs in this image, by its name and in a release by its digest, instead of the service's
    /// (`pre_start` only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The command, already split; with an image of its own, the arguments of its entry point.
    pub command: Vec<String>,
    /// `None`: the service's.
    pub user: Option<String>,
    /// `None`: the service's.
    pub working_dir: Option<String>,
    /// Added to the service's.
    pub environment: BTreeMap<String, String>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Tls {
    /// Signed by this machine's own CA.
    LocalCa,
    /// Given files.
    Files {
        /// PEM chain, leaf first.
        certificate: PathBuf,
        /// PEM key.
        key: PathBuf,
    },
}

/// What a service speaks behind a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, as gRPC servers do.
    H2c,
}

impl RouteProtocol {
    /// The usual one.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Requests for `host` whose path starts with `path` go to `service:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `None`: every host of the project.
    pub host: Option<String>,
    /// Prefix of whole segments, starts with `/`.
    pub path: String,
    /// The service that answers.
    pub service: ServiceName,
    /// Its container port.
    pub port: u16,
    /// Whether `path` is removed before the request is passed on.
    pub strip_prefix: bool,
    /// What the service speaks there.
    #[serde(default, skip_serializing_if = "RouteProtocol::is_http")]
    pub protocol: RouteProtocol,
    /// Whether a person wrote it or it was inferred from the compose file.
    pub inferred: bool,
}
