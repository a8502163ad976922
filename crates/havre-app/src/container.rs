//! From a service of a release and its image to a container spec. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use havre_engine::{
    ContainerId, ContainerSpec, DeviceSpec, Devices, FileSpec, HealthProbe, Limits, LogSpec,
    MountSpec, RestartRule, SecretSpec, Security, Shares,
};
use havre_image::config::{Healthcheck as ImageHealthcheck, RunConfig};
use havre_image::overlay::Overlay;
use havre_model::{Healthcheck, Hook, Liveness, Probe, ProbeTiming, RestartPolicy, Service};

/// Docker's default of /dev/shm.
const SHM_BYTES: u64 = 64 * 1024 * 1024;
const LOG_FILE_BYTES: u64 = 10 * 1024 * 1024;
const LOG_FILES: u32 = 3;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Guards the host against fork bombs where a service sets no limit of its own.
const DEFAULT_PIDS: u64 = 4096;

/// What the caller has prepared for a container.
pub(crate) struct Prepared {
    pub(crate) id: ContainerId,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) rootfs: Overlay,
    pub(crate) mounts: Vec<MountSpec>,
    pub(crate) files: Vec<FileSpec>,
    pub(crate) secrets: Vec<SecretSpec>,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) cgroup_parent: String,
    pub(crate) log_dir: PathBuf,
}

/// What a container is made for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// A replica.
    Replica,
    /// The service itself, once.
    Job,
    /// A `pre_start` hook, once.
    Hook(&'a Hook),
}

/// A container that cannot be made from this service and image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SpecError {
    /// Neither the service nor the image says what to run.
    #[error("service has no command and its image has neither ENTRYPOINT nor CMD")]
    NoCommand,
}

/// The container for `service` run from an image with `config`.
pub(crate) fn container_spec(
    service: &Service,
    config: &RunConfig,
    purpose: Purpose<'_>,
    prepared: Prepared,
) -> Result<ContainerSpec, SpecError> {
    let hook = match purpose {
        Purpose::Hook(hook) => Some(hook),
        Purpose::Replica | Purpose::Job => None,
    };
    let own_image = hook.is_some_and(|hook| hook.image.is_some());
    let argv = match hook {
        Some(hook) if own_image => arguments_of(config, &hook.command),
        Some(hook) => hook.command.clone(),
        None => command(service, config),
    };
    if argv.is_empty() {
        return Err(SpecError::NoCommand);
    }
    let mut env = environment(config, service);
    env.extend(hook.into_iter().flat_map(|hook| hook.environment.clone()));
    // What the service says of its own image means nothing in another.
    let of_service = |value: &Option<String>| value.clone().filter(|_| !own_image);
    let user = hook
        .and_then(|hook| hook.user.clone())
        .or_else(|| of_service(&service.user))
        .unwrap_or_else(|| config.user.clone());
    let working_dir = hook
        .and_then(|hook| hook.working_dir.clone())
        .or_else(|| of_service(&service.working_dir))
        .unwrap_or_else(|| config.working_dir.clone());
    let lasting = matches!(purpose, Purpose::Replica);
    Ok(ContainerSpec {
        hostname: hostname(service, &prepared.id),
        id: prepared.id,
        labels: prepared.labels,
        rootfs: prepared.rootfs,
        read_only: service.read_only,
        argv,
        env,
        cwd: if working_dir.is_empty() {
            "/".to_owned()
        } else {
            working_dir
        },
        user,
        groups: service.group_add.clone(),
        mounts: prepared.mounts,
        files: prepared.files,
        secrets: prepared.secrets,
        netns: prepared.netns,
        limits: Limits {
            nano_cpus: service.resources.nano_cpus,
            cpu_weight: None,
            memory_bytes: service.resources.memory_bytes,
            memory_reservation_bytes: service.resources.memory_reservation_bytes,
            pids: Some(service.resources.pids.unwrap_or(DEFAULT_PIDS)),
            io_weight: None,
        },
        oom_score_adj: 0,
        cgroup_parent: prepared.cgroup_parent,
        security: Security {
            cap_add: service.cap_add.clone(),
            cap_drop: service.cap_drop.clone(),
            no_new_privileges: service.no_new_privileges,
            seccomp_unconfined: service.seccomp_unconfined,
            privileged: service.privileged,
            user_namespace: None,
        },
        shares: Shares {
            network: service.shares.network,
            pid: service.shares.pid,
            ipc: service.shares.ipc,
        },
        devices: devices(service),
        ulimits: service.ulimits.clone(),
        sysctls: service.sysctls.clone(),
        shm_size_bytes: service.shm_size_bytes.unwrap_or(SHM_BYTES),
        init: service.init,
        tty: service.tty && lasting,
        stdin_open: service.stdin_open && lasting,
        stop_signal: service
            .stop_signal
            .clone()
            .or_else(|| config.stop_signal.clone())
            .unwrap_or_else(|| "SIGTERM".to_owned()),
        stop_grace: service.stop_grace_period,
        health: if lasting {
            probe(service, config)
        } else {
            None
        },
        liveness: match &service.liveness {
            Some(liveness) if lasting => Some(alive(liveness)),
            Some(_) | None => None,
        },
        restart: restart(&purpose, &service.restart),
        log: LogSpec {
            dir: prepared.log_dir,
            max_size_bytes: service.logging.max_size_bytes.unwrap_or(LOG_FILE_BYTES),
            max_files: service.logging.max_files.unwrap_or(LOG_FILES),
        },
    })
}

fn devices(service: &Service) -> Devices {
    let given = service.devices.iter().map(|device| DeviceSpec {
        source: device.source.clone(),
        target: device.target.clone(),
        permissions: device.permissions.clone(),
    });
    Devices {
        given: given.collect(),
        rules: service.device_rules.clone(),
    }
}

/// The name a container has for itself.
pub(crate) fn hostname(service: &Service, id: &ContainerId) -> String {
    let own = service.hostname.clone();
    own.unwrap_or_else(|| id.0.replace(['.', '_'], "-"))
}

/// Entry point and command by Docker's rules: an entry point of the service makes the image's CMD
/// void.
fn command(service: &Service, config: &RunConfig) -> Vec<String> {
    let entrypoint = service
        .entrypoint
        .as_ref()
        .or(config.entrypoint.as_ref())
        .cloned()
        .unwrap_or_default();
    let arguments = match (&service.command, &service.entrypoint) {
        (Some(command), _) => command.clone(),
        (None, Some(_)) => Vec::new(),
        (None, None) => config.cmd.clone().unwrap_or_default(),
    };
    entrypoint.into_iter().chain(arguments).collect()
}

/// An image run with these arguments, or with its own where there are none.
fn arguments_of(config: &RunConfig, arguments: &[String]) -> Vec<String> {
    let entrypoint = config.entrypoint.clone().unwrap_or_default();
    let arguments = match arguments {
        [] => config.cmd.clone().unwrap_or_default(),
        given => given.to_vec(),
    };
    entrypoint.into_iter().chain(arguments).collect()
}

fn environment(config: &RunConfig, service: &Service) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    env.extend(
        config
            .env
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    env.extend(service.environment.clone());
    env
}

/// A service whose file says nothing still heals after a crash; one that ends with 0 has done its
/// work. A job is tried again only where its file says so.
pub(crate) fn restart(purpose: &Purpose<'_>, policy: &RestartPolicy) -> RestartRule {
    match (purpose, policy) {
        (Purpose::Replica | Purpose::Job, RestartPolicy::OnFailure { max_retries }) => {
            RestartRule::OnFailure {
                max_retries: *max_retries,
            }
        }
        (Purpose::Hook(_) | Purpose::Job, _) | (Purpose::Replica, RestartPolicy::No) => {
            RestartRule::Never
        }
        (Purpose::Replica, RestartPolicy::Unset) => RestartRule::OnFailure { max_retries: None },
        (Purpose::Replica, RestartPolicy::Always | RestartPolicy::UnlessStopped) => {
            RestartRule::Always
        }
    }
}

/// The probe: the service's fields, then the image's, then the defaults.
fn probe(service: &Service, config: &RunConfig) -> Option<HealthProbe> {
    let (test, own) = match &service.healthcheck {
        Some(Healthcheck::Disabled) => return None,
        Some(Healthcheck::Probe { test, timing }) => (test.as_ref(), *timing),
        None => (None, ProbeTiming::default()),
    };
    let inherited = config.healthcheck.as_ref();
    let argv = match test {
        Some(test) => probe_command(test),
        None => inherited_test(inherited?)?,
    };
    Some(health_probe(argv, own, inherited))
}

fn alive(liveness: &Liveness) -> HealthProbe {
    health_probe(probe_command(&liveness.test), liveness.timing, None)
}

fn probe_command(test: &Probe) -> Vec<String> {
    match test {
        Probe::Exec(argv) => argv.clone(),
        Probe::Shell(line) => shell(line),
    }
}

/// Shortest time between probes that an image can ask for: it does not decide how busy the machine is.
const SHORTEST_OF_IMAGE: Duration = Duration::from_millis(100);

/// With all its times: its own, then those of the image, then the defaults.
fn health_probe(
    argv: Vec<String>,
    own: ProbeTiming,
    inherited: Option<&ImageHealthcheck>,
) -> HealthProbe {
    let image = |pick: fn(&ImageHealthcheck) -> i64| {
        let nanos = inherited.map_or(0, pick);
        u64::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos > 0)
            .map(|nanos| Duration::from_nanos(nanos).max(SHORTEST_OF_IMAGE))
    };
    let interval = own
        .interval
        .or_else(|| image(|h| h.interval))
        .unwrap_or(Duration::from_secs(30));
    let retries = inherited.and_then(|h| u32::try_from(h.retries).ok());
    HealthProbe {
        argv,
        interval,
        timeout: own
            .timeout
            .or_else(|| image(|h| h.timeout))
            .unwrap_or(Duration::from_secs(30)),
        retries: own
            .retries
            .or(retries.filter(|n| *n > 0))
            .unwrap_or(3)
            .max(1),
        start_period: own
            .start_period
            .or_else(|| image(|h| h.start_period))
            .unwrap_or_default(),
        // Docker's 5 s keeps a rollout waiting for nothing: in the start period no failure counts,
        // and a probe a second costs little.
        start_interval: own
            .start_interval
            .or_else(|| image(|h| h.start_interval))
            .unwrap_or(Duration::from_secs(1))
            .min(interval),
    }
}

/// What an image's health check runs, as its author wrote it.
pub(crate) fn image_probe(healthcheck: &ImageHealthcheck) -> Option<String> {
    match healthcheck.test.split_first() {
        Some((form, rest)) if form == "CMD" || form == "CMD-SHELL" => Some(rest.join(" ")),
        Some(_) | None => None,
    }
}

fn inherited_test(healthcheck: &ImageHealthcheck) -> Option<Vec<String>> {
    match healthcheck.test.split_first() {
        Some((form, rest)) if form == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
        Some((form, rest)) if form == "CMD-SHELL" => Some(shell(rest.first()?)),
        Some(_) | None => None,
    }
}

fn shell(line: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of the page that compares with Docker.
    #[test]
    fn the_page_is_right() {
        let page = include_str!("../../../docs/isolation.md");
        let pids = format!(
            "| most processes | no limit | {DEFAULT_PIDS} unless `pids_limit` says otherwise |"
        );
        assert!(page.contains(&pids), "{pids}");
        let memory = format!("| `/dev/shm` | 64 MiB | {} MiB |", SHM_BYTES >> 20);
        assert!(page.contains(&memory), "{memory}");
    }

    /// `check` refuses what the engine refuses.
    #[test]
    fn users_of_our_own_are_known_to_both() {
        assert_eq!(havre_model::OWN_USERS, havre_confine::OWN_USERS);
    }
}
