//! What a spec must satisfy before anything is touched. Pure.

use std::path::Path;
use std::time::Duration;

use crate::devices::{self, Rule};
use crate::init::{caps::CapSet, is_ulimit};
use crate::secrets;
use crate::signal;
use crate::spec::{ContainerId, ContainerSpec, IDS, MountSpec};

/// A spec that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSpec {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Checks all of it.
pub fn validate(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    id(&spec.id)?;
    cgroup_parent(&spec.cgroup_parent)?;
    process(spec)?;
    environment(spec)?;
    for mount in &spec.mounts {
        source(mount)?;
        target("mounts", mount_target(mount))?;
    }
    for file in &spec.files {
        target("files", &file.target)?;
    }
    for secret in &spec.secrets {
        target("secrets", &secret.target)?;
        if secrets::below(&secret.target).is_some_and(|path| !secrets::is_plain(path)) {
            return invalid("secrets", format!("{:?} cannot be a secret", secret.target));
        }
    }
    shared(spec)?;
    users(spec)?;
    kernel(spec)?;
    timing(spec)
}

fn invalid<T>(field: &'static str, problem: impl Into<String>) -> Result<T, InvalidSpec> {
    Err(InvalidSpec {
        field,
        problem: problem.into(),
    })
}

/// `[a-z0-9][a-z0-9_.-]{0,62}`: one path component, safe everywhere.
pub fn id(id: &ContainerId) -> Result<(), InvalidSpec> {
    if is_name(&id.0) {
        Ok(())
    } else {
        invalid("id", format!("{:?} is not a valid name", id.0))
    }
}

/// Whether this is good as one component of a path.
pub fn is_name(name: &str) -> bool {
    let head = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 63
        && name.starts_with(head)
        && name
            .chars()
            .all(|c| head(c) || matches!(c, '_' | '.' | '-'))
}

fn cgroup_parent(parent: &str) -> Result<(), InvalidSpec> {
    // The ending marks the group of a container.
    let good = |part: &str| is_name(part) && !part.ends_with(".c");
    if parent.split('/').all(good) {
        Ok(())
    } else {
        invalid(
            "cgroup_parent",
            format!("{parent:?} is not a path of names"),
        )
    }
}

fn process(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    if spec.argv.first().is_none_or(String::is_empty) {
        return invalid("argv", "no command given");
    }
    if spec.argv.iter().any(|a| a.contains('\0')) {
        return invalid("argv", "contains a NUL byte");
    }
    if !spec.cwd.starts_with('/') || spec.cwd.contains('\0') {
        return invalid("cwd", format!("{:?} is not an absolute path", spec.cwd));
    }
    if spec.hostname.is_empty() || spec.hostname.len() > 64 || spec.hostname.contains('\0') {
        return invalid(
            "hostname",
            format!("{:?} is not 1 to 64 bytes long", spec.hostname),
        );
    }
    if spec.rootfs.lower.is_empty() {
        return invalid("rootfs", "has no layer");
    }
    if signal::number(&spec.stop_signal).is_none() {
        return invalid(
            "stop_signal",
            format!("unknown signal {:?}", spec.stop_signal),
        );
    }
    match CapSet::of(&spec.security) {
        Ok(_) => Ok(()),
        Err(error) => invalid("security", error.to_string()),
    }
}

fn environment(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return invalid("env", format!("{name:?} cannot be set"));
        }
    }
    Ok(())
}

fn mount_target(mount: &MountSpec) -> &str {
    match mount {
        MountSpec::Bind { target, .. }
        | MountSpec::Volume { target, .. }
        | MountSpec::Layers { target, .. }
        | MountSpec::Seen { target, .. }
        | MountSpec::Tmpfs { target, .. } => target,
    }
}

fn source(mount: &MountSpec) -> Result<(), InvalidSpec> {
    match mount {
        MountSpec::Bind { source, .. } | MountSpec::Volume { source, .. }
            if !source.is_absolute() =>
        {
            let text = format!("the source {} is not an absolute path", source.display());
            invalid("mounts", text)
        }
        MountSpec::Seen { path, .. } if !path.starts_with('/') => {
            invalid("mounts", format!("{path:?} is not an absolute path"))
        }
        MountSpec::Layers { lower, target, .. } => match lower.first() {
            Some(_) if lower.iter().all(|path| path.is_absolute()) => Ok(()),
            _ => {
                let text = format!("what is to be mounted at {target} has no absolute paths");
                invalid("mounts", text)
            }
        },
        _ => Ok(()),
    }
}

/// Targets that would undo what protects the host, or be covered again.
fn target(field: &'static str, target: &str) -> Result<(), InvalidSpec> {
    let path = Path::new(target);
    let has_dots = path
        .components()
        .any(|c| c == std::path::Component::ParentDir);
    if !path.is_absolute() || has_dots || target.contains('\0') {
        return invalid(
            field,
            format!("the target {target:?} is not a plain absolute path"),
        );
    }
    if is_protected(target) {
        return invalid(field, format!("nothing can be mounted at {target}"));
    }
    Ok(())
}

/// Whether nothing can be mounted there, whoever asks for it.
pub fn is_protected(target: &str) -> bool {
    let path = Path::new(target);
    let exact = ["/", "/dev", "/dev/pts", "/sys"];
    let below = ["/proc", "/sys/fs/cgroup"];
    exact.iter().any(|place| path == Path::new(place))
        || below.iter().any(|place| path.starts_with(place))
}

/// Whether the kernel is seen there. Only who writes such a target himself may mount there.
pub fn is_of_the_kernel(target: &str) -> bool {
    let path = Path::new(target);
    // What processes share in memory is theirs; Debian once had a link to it at /run/shm.
    let shared = path.starts_with("/dev/shm");
    let kernels = ["/dev", "/proc", "/sys"];
    path == Path::new("/") || !shared && kernels.iter().any(|place| path.starts_with(place))
}

/// What it has of the host.
fn shared(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    if spec.shares.network && spec.netns.is_some() {
        return invalid("shares", "the host's network and another one");
    }
    for name in spec.sysctls.keys() {
        let of_network = name.starts_with("net.");
        if of_network && spec.shares.network || !of_network && spec.shares.ipc {
            return invalid("sysctls", format!("{name:?} would be the host's own"));
        }
    }
    for device in &spec.devices.given {
        if !devices::is_valid(device) {
            let text = format!("{:?} cannot be given to a container", device.target);
            return invalid("devices", text);
        }
    }
    for rule in &spec.devices.rules {
        if Rule::parse(rule).is_none() {
            return invalid("devices", format!("{rule:?} is no rule for devices"));
        }
    }
    Ok(())
}

/// Its users and groups, where they are others on the host.
fn users(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    let layers =
        |mount: &MountSpec| matches!(mount, MountSpec::Layers { .. } | MountSpec::Seen { .. });
    let Some(range) = spec.security.user_namespace else {
        return match spec.mounts.iter().any(layers) {
            true => invalid("mounts", "layers need a user namespace"),
            false => Ok(()),
        };
    };
    // The last number means none.
    if range.first < IDS || range.first > u32::MAX - 2 * IDS {
        let text = format!(
            "{} is no start of {} users of nobody's",
            range.first,
            2 * IDS
        );
        return invalid("security", text);
    }
    let shares = &spec.shares;
    if spec.security.privileged || shares.network || shares.pid || shares.ipc {
        return invalid(
            "security",
            "a user namespace, and what only the host's root may",
        );
    }
    if spec.devices != Default::default() || !spec.secrets.is_empty() {
        return invalid("security", "no devices or secrets with a user namespace");
    }
    Ok(())
}

/// Settings that a namespace of the container holds.
const SYSCTL_PREFIXES: [&str; 2] = ["net.", "fs.mqueue."];
const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

fn kernel(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    for (name, (soft, hard)) in &spec.ulimits {
        if !is_ulimit(name) {
            return invalid("ulimits", format!("unknown limit {name:?}"));
        }
        if soft > hard {
            return invalid(
                "ulimits",
                format!("{name}: the soft limit exceeds the hard one"),
            );
        }
    }
    for name in spec.sysctls.keys() {
        let known = SYSCTLS.contains(&name.as_str())
            || SYSCTL_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if !known || name.contains("..") || name.contains('/') {
            return invalid(
                "sysctls",
                format!("{name:?} does not belong to a container"),
            );
        }
    }
    if spec
        .limits
        .memory_bytes
        .is_some_and(|bytes| bytes < 6 << 20)
    {
        return invalid("limits", "a memory limit below 6 MiB starts nothing");
    }
    if spec.limits.pids.is_some_and(|pids| pids < 2) {
        return invalid("limits", "a limit of less than 2 tasks starts nothing");
    }
    Ok(())
}

/// Most files of one container's output: each rotation renames them all.
const MAX_LOG_FILES: u32 = 100;
/// Smallest of them: a smaller one would be rotated with each line.
const MIN_LOG_BYTES: u64 = 4 << 10;

/// Shortest time between probes: each is a process of its own.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

fn timing(spec: &ContainerSpec) -> Result<(), InvalidSpec> {
    for probe in [&spec.health, &spec.liveness].into_iter().flatten() {
        if probe.argv.first().is_none_or(String::is_empty) {
            return invalid("health", "no command given");
        }
        if [probe.interval, probe.timeout, probe.start_interval]
            .iter()
            .any(|d| *d < MIN_INTERVAL)
        {
            return invalid(
                "health",
                "interval, timeout and start interval must be at least a millisecond",
            );
        }
    }
    if !(1..=MAX_LOG_FILES).contains(&spec.log.max_files) {
        return invalid("log", format!("1 to {MAX_LOG_FILES} files can be kept"));
    }
    if spec.log.max_size_bytes < MIN_LOG_BYTES {
        return invalid("log", format!("a file has at least {MIN_LOG_BYTES} bytes"));
    }
    Ok(())
}
