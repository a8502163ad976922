//! The validated project: what the files mean, after interpolation, merge and defaults.
//!
//! Units are in the types (`Duration`) or in the names (`_bytes`, `nano_cpus`). Maps are ordered,
//! so that a digest of the serialised form is stable.

mod build;
mod gates;
mod mount;
mod probe;
mod reload;
mod rollout;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::allow::Allow;

pub use build::{Build, BuildContext, GitContext, PullPolicy};
pub use gates::{
    ApprovalRule, Approver, EnvironmentGates, Freeze, FreezeTime, Previews, WEEK_MINUTES,
};
pub use mount::{Account, FileGrant, FileSource, Mount, Volume};
pub use probe::{Healthcheck, Liveness, Probe, ProbeTiming};
pub use reload::Reload;
pub use rollout::{OnFailure, RolloutSettings, RolloutStrategy, UpdateConfig, UpdateOrder};
pub use route::{Route, RouteProtocol, Tls};

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
    /// Its files were sent from another machine: nothing outside of `directory` is its own. The daemon
    /// finds it out; what a request says of it counts for nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sent: bool,
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
    /// What has to hold before anything comes into an environment, in the order in which releases go through
    /// them. One that is not here is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<EnvironmentGates>,
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
    /// `services.*.environment` of havre.yaml: variables whose values are secrets, by their keys in
    /// [`Project::secrets`]. None of these is in `environment`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_environment: BTreeMap<String, String>,
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
    /// What becomes of its replicas when secrets below `/run/secrets` change.
    #[serde(default, skip_serializing_if = "Reload::is_restart")]
    pub reload: Reload,
    /// Configs as files.
    pub configs: Vec<FileGrant>,
    /// Desired number of replicas.
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

/// Where secrets are that can change while a container runs.
pub const SECRETS_FOLDER: &str = "/run/secrets";

impl Service {
    /// Secrets whose contents are replaced in its replicas as they run.
    pub fn live_secrets(&self) -> impl Iterator<Item = &FileGrant> {
        let is_live =
            move |grant: &&FileGrant| self.reload.is_in_place() && self.is_renewable(grant);
        self.secrets.iter().filter(is_live)
    }

    /// Whether another content of this secret can be put in its place while a container runs: below the
    /// folder of secrets, where nothing else is mounted.
    pub fn is_renewable(&self, grant: &FileGrant) -> bool {
        let below = |target: &str| std::path::Path::new(target).starts_with(SECRETS_FOLDER);
        let covered = |mount: &Mount| match mount {
            Mount::Bind { target, .. }
            | Mount::Volume { target, .. }
            | Mount::Anonymous { target, .. }
            | Mount::Tmpfs { target, .. } => below(target),
        };
        below(&grant.target) && !self.mounts.iter().any(covered)
    }

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
    /// The network of the machine that it is, which environments share: what is on it reaches, and is
    /// reached by, what other environments have on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
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
