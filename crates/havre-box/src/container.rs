//! The containers of a box, as the engine is to make them. No I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use havre_engine::{
    ContainerId, ContainerSpec, HealthProbe, IdRange, Limits, LogSpec, MountSpec, RestartRule,
    Security,
};
use havre_image::config::{Healthcheck, RunConfig};
use havre_image::overlay::Overlay;

use crate::network::Place;
use crate::options::{CreateOptions, Probe};
use crate::request::{Beside, Caps, Service};

/// The control group of all boxes.
pub const PARENT: &str = "box";
/// A container's box.
pub const LABEL_BOX: &str = "havre.box";
/// What it is in it: [`RUNNER`], or the name of a service.
pub const LABEL_ROLE: &str = "havre.box.role";
/// The role of the first one.
pub const RUNNER: &str = "runner";

/// Where programs are looked for that say nothing of it; as of the hosted machines.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SHM_BYTES: u64 = 64 << 20;
/// Ended before services when memory is out; as builds.
const OOM_SCORE: i32 = 900;

/// The spool holds all that a runner tells within its bounds, with what stands before each line.
const RUNNER_LOG: (u64, u32) = (64 << 20, 4);
const SERVICE_LOG: (u64, u32) = (8 << 20, 2);
// The events that are told beyond the budget have a file's room at least.
const _: () = assert!(havre_job::MAX_TOLD <= RUNNER_LOG.0 * (RUNNER_LOG.1 as u64 - 2));

/// The container of a box's runner.
pub fn runner_id(id: &str) -> ContainerId {
    ContainerId(format!("box.{id}"))
}

/// The container of a service.
pub fn service_id(id: &str, number: usize) -> ContainerId {
    ContainerId(format!("svc{number}.{id}"))
}

/// One of those that run beside the runner for a while.
pub fn beside_id(id: &str, number: usize) -> ContainerId {
    ContainerId(format!("step{number}.{id}"))
}

/// A container beside the runner, which is as that one is but for what it runs; an error is for who wrote it.
pub fn beside(
    runner: ContainerSpec,
    id: ContainerId,
    (rootfs, mounts, log): (Overlay, Vec<MountSpec>, PathBuf),
    beside: &Beside,
) -> Result<ContainerSpec, String> {
    let run = &beside.image.run;
    let default = || run.entrypoint.clone().unwrap_or_default();
    let entrypoint = beside.entrypoint.clone().unwrap_or_else(default);
    // As Docker: another entry point goes without the image's command.
    let command = match (beside.args.is_empty(), &beside.entrypoint) {
        (false, _) => beside.args.clone(),
        (true, Some(_)) => Vec::new(),
        (true, None) => run.cmd.clone().unwrap_or_default(),
    };
    let argv = [entrypoint, command].concat();
    if argv.is_empty() {
        return Err("neither the step nor its image says what to run".to_owned());
    }
    let mut env = environment(run, PATH);
    env.extend(beside.env.clone());
    let folder = beside.folder.as_ref().unwrap_or(&run.working_dir);
    let (max_size_bytes, max_files) = RUNNER_LOG;
    let mut labels = runner.labels.clone();
    labels.insert(LABEL_ROLE.to_owned(), "step".to_owned());
    Ok(ContainerSpec {
        id,
        labels,
        rootfs,
        argv,
        env,
        cwd: match folder.as_str() {
            "" => "/".to_owned(),
            folder => folder.to_owned(),
        },
        user: run.user.clone(),
        mounts,
        secrets: Vec::new(),
        // Who runs as the first process of a container often sees to no children.
        init: true,
        log: LogSpec {
            dir: log,
            max_size_bytes,
            max_files,
        },
        ..runner
    })
}

/// What a container of a box is made of.
pub struct Parts {
    /// Its id.
    pub id: ContainerId,
    /// Its box.
    pub of: String,
    /// [`LABEL_ROLE`].
    pub role: String,
    /// Its files.
    pub rootfs: Overlay,
    /// Its network.
    pub place: Place,
    /// What it may use.
    pub caps: Caps,
    /// Its users.
    pub ids: IdRange,
    /// Its spool.
    pub log: PathBuf,
}

/// The runner's container.
pub fn runner(
    parts: Parts,
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    hostname: String,
    mounts: Vec<MountSpec>,
    options: &CreateOptions,
) -> ContainerSpec {
    let (max_size_bytes, max_files) = RUNNER_LOG;
    let mut spec = base(parts, options, max_size_bytes, max_files);
    spec.argv = argv;
    spec.env = env;
    spec.hostname = hostname;
    spec.mounts.splice(0..0, mounts);
    spec
}

/// A service's container; an error is for who wrote it.
pub fn service(parts: Parts, service: &Service, image_path: &str) -> Result<ContainerSpec, String> {
    let (max_size_bytes, max_files) = SERVICE_LOG;
    let (run, options) = (&service.image.run, &service.options);
    let mut spec = base(parts, options, max_size_bytes, max_files);
    spec.argv = argv(service);
    if spec.argv.is_empty() {
        return Err("neither the workflow nor its image says what to run".to_owned());
    }
    spec.env = environment(run, image_path);
    spec.env.extend(service.env.iter().cloned());
    spec.env.extend(options.env.iter().cloned());
    spec.user = options.user.clone().unwrap_or_else(|| run.user.clone());
    let folder = options.workdir.as_ref().unwrap_or(&run.working_dir);
    spec.cwd = if folder.is_empty() {
        "/".to_owned()
    } else {
        folder.clone()
    };
    spec.hostname = hostname(service);
    spec.init = options.init;
    spec.health = health(&options.health, run.healthcheck.as_ref());
    if let Some(signal) = &run.stop_signal {
        spec.stop_signal = signal.clone();
    }
    Ok(spec)
}

/// What a service is called by itself.
pub fn hostname(service: &Service) -> String {
    let own = service.options.hostname.as_ref();
    own.unwrap_or(&service.name).clone()
}

fn base(
    parts: Parts,
    options: &CreateOptions,
    max_size_bytes: u64,
    max_files: u32,
) -> ContainerSpec {
    let memory = |(target, size_bytes): &(String, Option<u64>)| MountSpec::Tmpfs {
        target: target.clone(),
        size_bytes: *size_bytes,
        mode: None,
        owner: (0, 0),
        exec: false,
    };
    let most = parts.caps.memory_bytes;
    let wanted = options.memory_bytes.unwrap_or(most);
    let labels = [(LABEL_BOX, parts.of), (LABEL_ROLE, parts.role)];
    ContainerSpec {
        id: parts.id,
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        rootfs: parts.rootfs,
        read_only: false,
        argv: Vec::new(),
        env: BTreeMap::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        groups: Vec::new(),
        hostname: String::new(),
        mounts: options.tmpfs.iter().map(memory).collect(),
        files: parts.place.files,
        secrets: Vec::new(),
        netns: Some(parts.place.netns),
        limits: Limits {
            nano_cpus: options.nano_cpus,
            cpu_weight: Some(parts.caps.cpu_weight),
            memory_bytes: Some(wanted.min(most)),
            memory_reservation_bytes: None,
            pids: Some(parts.caps.pids),
            io_weight: Some(parts.caps.io_weight),
        },
        oom_score_adj: OOM_SCORE,
        cgroup_parent: PARENT.to_owned(),
        security: Security {
            user_namespace: Some(parts.ids),
            ..Security::default()
        },
        shares: Default::default(),
        devices: Default::default(),
        ulimits: limits(options),
        // Root of a box is no root of its network.
        sysctls: [
            ("net.ipv4.ip_unprivileged_port_start", "0"),
            ("net.ipv4.ping_group_range", "0 2147483647"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        shm_size_bytes: options.shm_size_bytes.unwrap_or(SHM_BYTES),
        init: false,
        tty: false,
        stdin_open: false,
        stop_signal: "SIGTERM".to_owned(),
        stop_grace: Duration::from_secs(10),
        health: None,
        liveness: None,
        restart: RestartRule::Never,
        log: LogSpec {
            dir: parts.log,
            max_size_bytes,
            max_files,
        },
    }
}

fn limits(options: &CreateOptions) -> BTreeMap<String, (u64, u64)> {
    let limits = options.ulimits.iter();
    limits
        .map(|(name, soft, hard)| (name.clone(), (*soft, *hard)))
        .collect()
}

/// The image's variables, with a PATH.
pub fn environment(run: &RunConfig, path: &str) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), path.to_owned())]);
    let pairs = run.env.iter().filter_map(|line| line.split_once('='));
    env.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    env
}

/// As Docker: another entry point goes without the image's command.
fn argv(service: &Service) -> Vec<String> {
    let run = &service.image.run;
    let option = service.options.entrypoint.as_ref();
    let option = option.map(|one| match one.is_empty() {
        true => Vec::new(),
        false => vec![one.clone()],
    });
    let own = service.entrypoint.clone().or(option);
    let command = match (&service.command, &own) {
        (Some(command), _) => command.clone(),
        (None, Some(_)) => Vec::new(),
        (None, None) => run.cmd.clone().unwrap_or_default(),
    };
    let entrypoint = own.unwrap_or_else(|| run.entrypoint.clone().unwrap_or_default());
    [entrypoint, command].concat()
}

/// Of a probe whose options say nothing; Docker's.
const INTERVAL: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
/// Between probes of a service that has not been healthy yet: a job waits for it.
const AT_FIRST: Duration = Duration::from_millis(250);

/// The probe of options and image. Until the first success it runs often, and failures do not count as long as all
/// retries would have taken: a service is healthy as soon as it is, and unhealthy no sooner than with Docker.
fn health(probe: &Probe, image: Option<&Healthcheck>) -> Option<HealthProbe> {
    let of_image = image.filter(|it| it.test.first().is_some_and(|kind| kind != "NONE"));
    let shell = |line: &String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()];
    let argv = match (&probe.command, of_image) {
        _ if probe.none => return None,
        (Some(line), _) => shell(line),
        (None, Some(check)) => match check.test.split_first()? {
            (kind, [line]) if kind == "CMD-SHELL" => shell(line),
            (_, words) => words.to_vec(),
        },
        (None, None) => return None,
    };
    let of_image = |get: fn(&Healthcheck) -> i64| {
        let nanos = of_image
            .map(get)
            .and_then(|nanos| u64::try_from(nanos).ok());
        nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    };
    let given = |own: Option<Duration>| own.filter(|own| !own.is_zero());
    let interval = given(probe.interval).or_else(|| of_image(|it| it.interval));
    let interval = interval.unwrap_or(INTERVAL);
    let timeout = given(probe.timeout).or_else(|| of_image(|it| it.timeout));
    let retries = image.and_then(|it| u32::try_from(it.retries).ok());
    let retries = probe
        .retries
        .or(retries.filter(|count| *count > 0))
        .unwrap_or(RETRIES);
    let start = probe
        .start_period
        .or_else(|| of_image(|it| it.start_period));
    Some(HealthProbe {
        argv,
        interval: interval.max(Duration::from_millis(1)),
        timeout: timeout.unwrap_or(INTERVAL).max(Duration::from_millis(1)),
        retries,
        start_period: start
            .unwrap_or_default()
            .max(interval.saturating_mul(retries)),
        start_interval: AT_FIRST.min(interval.max(Duration::from_millis(1))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Image;

    fn service(
        entrypoint: Option<&[&str]>,
        command: Option<&[&str]>,
        option: Option<&str>,
    ) -> Vec<String> {
        let own = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let run = RunConfig {
            entrypoint: Some(own(&["entry"])),
            cmd: Some(own(&["cmd"])),
            ..RunConfig::default()
        };
        argv(&Service {
            name: "x".to_owned(),
            image: Image {
                lower: Vec::new(),
                run,
            },
            env: Vec::new(),
            entrypoint: entrypoint.map(own),
            command: command.map(own),
            ports: Vec::new(),
            options: CreateOptions {
                entrypoint: option.map(str::to_owned),
                ..CreateOptions::default()
            },
        })
    }

    #[test]
    fn what_a_service_runs() {
        assert_eq!(service(None, None, None), ["entry", "cmd"]);
        assert_eq!(service(None, Some(&["c"]), None), ["entry", "c"]);
        assert_eq!(service(Some(&["e"]), None, None), ["e"]);
        assert_eq!(service(Some(&["e"]), Some(&["c"]), None), ["e", "c"]);
        assert_eq!(service(None, None, Some("o")), ["o"]);
        assert_eq!(service(None, Some(&["c"]), Some("")), ["c"]);
        assert_eq!(service(Some(&["e"]), None, Some("o")), ["e"]);
    }

    #[test]
    fn options_come_before_the_images_health() {
        let image = Healthcheck {
            test: ["CMD-SHELL", "check"].map(str::to_owned).to_vec(),
            interval: 5_000_000_000,
            retries: 2,
            ..Healthcheck::default()
        };
        let of_image = health(&Probe::default(), Some(&image)).expect("a probe");
        assert_eq!(of_image.argv, ["/bin/sh", "-c", "check"]);
        assert_eq!((of_image.interval.as_secs(), of_image.retries), (5, 2));
        assert_eq!(of_image.start_period.as_secs(), 10);
        let own = Probe {
            command: Some("mine".to_owned()),
            interval: Some(Duration::from_secs(1)),
            retries: Some(9),
            ..Probe::default()
        };
        let own = health(&own, Some(&image)).expect("a probe");
        assert_eq!((own.argv[2].as_str(), own.retries), ("mine", 9));
        assert_eq!(own.start_period.as_secs(), 9);
        let none = Probe {
            none: true,
            ..Probe::default()
        };
        assert_eq!(health(&none, Some(&image)), None);
        assert_eq!(health(&Probe::default(), None), None);
    }
}
