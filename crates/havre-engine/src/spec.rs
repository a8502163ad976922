//! What a caller asks of the engine and what it observes; kept in the shim's `meta.json`, so the
//! form stays readable by the version before and after.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use havre_image::overlay::{Overlay, Writable};
use serde::{Deserialize, Serialize};

/// A container's id: `[a-z0-9][a-z0-9_.-]{0,62}`, unique per root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

/// Everything that defines one container. Immutable: a change makes another container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Identity.
    pub id: ContainerId,
    /// Opaque to the engine (environment, service, release, …); returned by `list`.
    pub labels: BTreeMap<String, String>,
    /// Mounted in the container's own mount namespace, so the host never sees the mount.
    pub rootfs: Overlay,
    /// Mount the root file system read-only.
    pub read_only: bool,
    /// Program and arguments; looked up in PATH of `env`.
    pub argv: Vec<String>,
    /// Complete environment.
    pub env: BTreeMap<String, String>,
    /// Working directory, made when missing.
    pub cwd: String,
    /// `user[:group]`, names resolved inside the root file system; empty: 0:0.
    pub user: String,
    /// Supplementary groups, names or numbers.
    pub groups: Vec<String>,
    /// Host name.
    pub hostname: String,
    /// Mounts beside the standard ones, in order.
    pub mounts: Vec<MountSpec>,
    /// Files that exist in memory only, bind-mounted read-only (secrets, configs,
    /// resolv.conf, hosts).
    pub files: Vec<FileSpec>,
    /// Secrets, whose contents are not in the spec: see [`crate::Confidential`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// Path of a pinned network namespace; `None`: a fresh one with only loopback.
    pub netns: Option<PathBuf>,
    /// Namespaces of the host that it is in, instead of its own.
    #[serde(default)]
    pub shares: Shares,
    /// Devices of the host.
    #[serde(default)]
    pub devices: Devices,
    /// Limits.
    pub limits: Limits,
    /// Added to the score by which the kernel chooses whom to end when memory is out, -1000 to
    /// 1000: what is highest goes first.
    #[serde(default)]
    pub oom_score_adj: i32,
    /// Relative cgroup that holds this container's, e.g. `fnt/production` or `build`.
    pub cgroup_parent: String,
    /// Privileges.
    pub security: Security,
    /// name → (soft, hard), names as in compose (`nofile`).
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Namespaced kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Bytes of /dev/shm; Docker's default is 64 MiB.
    pub shm_size_bytes: u64,
    /// Process 1 is a small init that reaps and forwards signals.
    pub init: bool,
    /// The process gets a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin_open: bool,
    /// Signal that asks the process to end.
    pub stop_signal: String,
    /// Time between that signal and SIGKILL.
    pub stop_grace: Duration,
    /// Whether it is fit to serve; run by the shim.
    pub health: Option<HealthProbe>,
    /// Whether a new process is needed; run by the shim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<HealthProbe>,
    /// Applied by the shim with back-off.
    pub restart: RestartRule,
    /// Where output goes and how much is kept.
    pub log: LogSpec,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountSpec {
    /// A path of the host (volumes too: the caller resolves them).
    Bind {
        /// Absolute, exists, without links: none is followed, at whatever start it appears.
        source: PathBuf,
        /// Absolute inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// What is mounted below `source`; see [`MountSpec::Volume`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// A folder that outlives the container. While it is empty it first receives what the image
    /// has at `target`, with owners and modes, as Docker does for named volumes.
    Volume {
        /// Absolute, exists, without links, as for [`MountSpec::Bind`].
        source: PathBuf,
        /// Absolute inside.
        target: String,
        /// Mounted read-only.
        read_only: bool,
        /// What is mounted below `source`, relative: a folder, made when missing. Links on the way
        /// do not lead out of `source`, whoever changes it meanwhile.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// Files of the host as if they were the container's own, which has a user namespace: who has them is
    /// root in it. They are not changed.
    Layers {
        /// Folders, the topmost first; or one file, or socket. Absolute, without links, as for
        /// [`MountSpec::Bind`]; what is mounted below them is not shown.
        lower: Vec<PathBuf>,
        /// Where changes go; `None`: it is read-only.
        upper: Option<Writable>,
        /// Absolute inside.
        target: String,
        /// User and group of the host who are root in the container; root has theirs for it.
        #[serde(default)]
        owner: (u32, u32),
    },
    /// A folder as a process of another container sees it, with what is mounted below: both have the same users.
    Seen {
        /// The process, by its id on the host.
        by: u32,
        /// Absolute, for that process; no link is followed.
        path: String,
        /// Absolute inside.
        target: String,
    },
    /// Memory.
    Tmpfs {
        /// Absolute inside.
        target: String,
        /// Limit.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner and group.
        #[serde(default)]
        owner: (u32, u32),
        /// Programs may be started from it.
        #[serde(default)]
        exec: bool,
    },
}

/// A small file delivered through memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute inside.
    pub target: String,
    /// Where the bytes are: a root-only file of the host, copied to tmpfs at start. The bytes
    /// themselves are never in the spec.
    pub source: PathBuf,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A secret as a file in memory. Those below [`SECRETS_DIR`] change while the container runs, when
/// [`crate::Engine::entrust`] brings others, unless something is mounted at or below that folder. All others are
/// what they were at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Its contents' name.
    pub name: String,
    /// Absolute inside.
    pub target: String,
    /// Owner: a number, or a name of the image.
    pub user: String,
    /// Group: the same.
    pub group: String,
    /// Permission bits; that nobody may write is seen to.
    pub mode: u32,
}

/// Where secrets are that do not say otherwise.
pub const SECRETS_DIR: &str = "/run/secrets";

/// cgroup limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousand-millionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Relative share of CPU under contention (cgroup v2 weight, 1–10000, default 100).
    pub cpu_weight: Option<u64>,
    /// Hard limit.
    pub memory_bytes: Option<u64>,
    /// Kept under pressure.
    pub memory_reservation_bytes: Option<u64>,
    /// Most tasks.
    pub pids: Option<u64>,
    /// Relative share of I/O under contention (1–10000, default 100).
    pub io_weight: Option<u64>,
}

/// Privileges; the default is Docker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Added to Docker's default set, without `CAP_`; `ALL` is allowed.
    pub cap_add: Vec<String>,
    /// Removed from it.
    pub cap_drop: Vec<String>,
    /// Set the flag of that name.
    pub no_new_privileges: bool,
    /// Run without the seccomp profile.
    pub seccomp_unconfined: bool,
    /// Every capability and device, no seccomp profile, nothing of the kernel masked or read-only.
    #[serde(default)]
    pub privileged: bool,
    /// Its users and groups are others on the host: root of the container is nobody there. It gets none of
    /// [`ContainerSpec::secrets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<IdRange>,
}

/// How many users and groups a container with a user namespace has: 0 to 65535.
pub const IDS: u32 = 1 << 16;

/// Users and groups of the host that a container has for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The one that is 0 in the container; [`IDS`] follow, this one included. As many behind those are nobody in any
    /// container: they own the namespaces.
    pub first: u32,
}

impl IdRange {
    /// What a user or group of the container is on the host.
    pub fn on_host(self, id: u32) -> Option<u32> {
        (id < IDS).then(|| self.first.checked_add(id)).flatten()
    }

    /// Whether a user or group of the host is one of the container's.
    pub fn has(self, id: u32) -> bool {
        id.checked_sub(self.first).is_some_and(|id| id < IDS)
    }

    /// The user of the host that owns the namespace of a container. The kernel lets each user have so many watches,
    /// queued signals, message queues and locked pages: so one container takes them from no other, nor from root.
    pub fn owner(self, container: &ContainerId) -> u32 {
        // FNV-1a: names are spread, and nothing rests on it.
        let hash = container.0.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        self.first
            .saturating_add(IDS)
            .saturating_add((hash ^ (hash >> 16)) % IDS)
    }
}

/// Namespaces of the host that a container is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Its network; then there is no [`ContainerSpec::netns`].
    pub network: bool,
    /// Its processes.
    pub pid: bool,
    /// Its shared memory and message queues.
    pub ipc: bool,
}

/// Devices beside those that each container has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// Made in it.
    pub given: Vec<DeviceSpec>,
    /// May be used: `c 189:* rmw`.
    pub rules: Vec<String>,
}

/// A device of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// Absolute: a device, or a folder of them.
    pub source: PathBuf,
    /// Absolute inside, below `/dev`.
    pub target: String,
    /// Of `r`, `w` and `m`.
    pub permissions: String,
}

/// A probe; all fields decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// Command, already with its shell where it had the shell form.
    pub argv: Vec<String>,
    /// Between probes once started.
    pub interval: Duration,
    /// Per probe.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures in this time do not count.
    pub start_period: Duration,
    /// Between probes in the start period, until the first success.
    pub start_interval: Duration,
}

/// When the shim starts the process again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum RestartRule {
    /// Never.
    Never,
    /// Whenever it ends and was not told to stop.
    Always,
    /// When it ends with other than 0.
    OnFailure {
        /// `None`: for ever.
        max_retries: Option<u32>,
    },
}

/// Spool of the output, in CRI form: `RFC3339Nano stdout|stderr F|P text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Folder on disk that outlives the container (`<dir>/current.log`, older `1.log`).
    pub dir: PathBuf,
    /// Rotate at this size.
    pub max_size_bytes: u64,
    /// Files kept, the current one included.
    pub max_files: u32,
}

/// What the engine sees of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The container.
    pub id: ContainerId,
    /// As in its spec.
    pub labels: BTreeMap<String, String>,
    /// State of its process.
    pub state: State,
    /// Starts after the first.
    pub restarts: u32,
    /// Result of the probe; `None` without a probe.
    pub health: Option<Health>,
    /// Result of the other probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Health>,
    /// How the last process ended, kept while the next one runs.
    pub last_exit: Option<Exit>,
    /// Contents of secrets that can change as the program runs; `None`: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Given>,
}

/// Contents of secrets that a container was given, without their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// What stands for them: [`crate::Confidential::contents`].
    pub contents: String,
    /// Its program was started with them, or told of them.
    pub loaded: bool,
}

/// State of a container's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Being set up.
    Creating,
    /// The process could not be started; no restart follows.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// Running.
    Running {
        /// Process id on the host.
        pid: u32,
        /// Since when.
        started_at: SystemTime,
    },
    /// Ended, the next start is planned.
    BackOff {
        /// When it starts again.
        until: SystemTime,
    },
    /// Ended for good.
    Exited,
    /// The shim is gone and took the container along (a reboot, `kill -9` of the shim).
    Lost,
}

/// Health by the container's own probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The newest probe's exit code, output (at most 4 KiB) and time.
    pub last: Option<ProbeResult>,
}

/// Verdict of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// No verdict yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// `retries` failures in a row.
    Unhealthy,
}

/// One run of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it ended.
    pub at: SystemTime,
    /// Its exit code; `None`: it ran into its timeout.
    pub exit_code: Option<i32>,
    /// First 4 KiB of both outputs.
    pub output: String,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When.
    pub at: SystemTime,
    /// Exit code; 128 + signal where a signal ended it.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// The kernel killed it for memory.
    pub oom_killed: bool,
    /// Most bytes that the container had used until then, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Ended because it was told to.
    pub requested: bool,
}
