//! Answers that tests share.

use havre_api::Info;
use std::time::Duration;

use havre_api::*;
use havre_model::{EnvironmentName, ProjectName, ServiceName};
use havre_testing::api::Script;

pub fn ago(seconds: u64) -> Timestamp {
    Timestamp::ago(Duration::from_secs(seconds))
}

pub fn service(name: &str) -> ServiceName {
    ServiceName::new(name)
}

pub fn environment(project: &str) -> EnvironmentId {
    EnvironmentId {
        project: ProjectName::new(project),
        environment: EnvironmentName::new("production"),
    }
}

pub fn info() -> DaemonInfo {
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: 4711,
        root: None,
        since: "2024-05-01T10:00:00Z".parse().unwrap(),
        http: Vec::new(),
        https: Vec::new(),
        given: None,
        edge: None,
        tasks: Vec::new(),
        refused: None,
        problems: Vec::new(),
        advice: Vec::new(),
    }
}

/// A backend that answers who it is, as often as it is asked `times`.
pub fn backend(times: usize) -> Script {
    (0..times).fold(Script::default(), |backend, _| {
        backend.call::<Info, _>(async |_| Ok(info()))
    })
}

pub fn killed_for_memory() -> ExitReport {
    ExitReport {
        at: "2024-05-01T10:04:05Z".parse().unwrap(),
        code: 137,
        signal: Some(9),
        oom_killed: true,
        memory_limit_bytes: Some(256 << 20),
        memory_peak_bytes: Some(255 << 20),
    }
}

pub fn running_environment() -> EnvironmentStatus {
    let status = |name: &str, state, ready, wanted| ServiceStatus {
        name: service(name),
        state,
        wanted,
        ready,
        image: Some(format!("shop-{name}")),
        digest: Some("sha256:0123456789abcdef0123456789abcdef".into()),
        restarts: 0,
        last_exit: None,
        reason: None,
    };
    let route = |path: &str, name: &str, serving| RouteStatus {
        url: format!("https://shop.localhost{path}"),
        service: service(name),
        serving,
    };
    EnvironmentStatus {
        id: environment("shop"),
        state: EnvironmentState::Degraded,
        release: Some(ReleaseId(7)),
        since: Some(ago(3 * 3600)),
        operation: Some(RunningOperation {
            kind: "up".into(),
            since: ago(65),
            phase: "starting web".into(),
        }),
        routes: vec![route("/", "web", true), route("/api", "backend", false)],
        services: vec![
            status("db", ServiceState::Running, 1, 1),
            ServiceStatus {
                restarts: 3,
                last_exit: Some(killed_for_memory()),
                reason: Some("1 of 2 replicas is not healthy".into()),
                ..status("backend", ServiceState::Degraded, 1, 2)
            },
            status("migrate", ServiceState::Completed, 0, 1),
        ],
        secrets: Vec::new(),
        waiting: Vec::new(),
        runs: None,
        problems: vec!["the disk is 95 % full".into()],
    }
}

pub fn replica(id: &str) -> ReplicaStatus {
    ReplicaStatus {
        id: id.into(),
        environment: environment("shop"),
        service: service("web"),
        release: ReleaseId(7),
        state: ReplicaState::Running,
        health: Some(HealthState::Healthy),
        since: Some(ago(3 * 3600)),
        restarts: 0,
        address: Some("10.88.0.4".into()),
        pid: Some(815),
        last_exit: None,
        cpu_percent: Some(1.25),
        memory_bytes: Some(96 << 20),
        memory_limit_bytes: Some(256 << 20),
    }
}

pub fn up_outcome(changed: bool) -> UpOutcome {
    UpOutcome {
        environment: environment("shop"),
        release: ReleaseId(7),
        previous: Some(ReleaseId(6)),
        changed,
        urls: vec![
            "https://shop.localhost/".into(),
            "https://shop.localhost/api".into(),
        ],
        elapsed_ms: 12_345,
    }
}

fn build(image: &str, progress: BuildProgress) -> Event {
    Event::Build {
        image: image.into(),
        progress,
    }
}

fn change(name: &str, progress: ServiceProgress) -> Event {
    Event::Service {
        service: service(name),
        progress,
    }
}

/// All that can be said, in the order in which `up` says it.
pub fn events() -> Vec<Event> {
    let planned = |name: &str, action, replicas, strategy: Option<&str>| PlannedService {
        service: service(name),
        action,
        replicas,
        strategy: strategy.map(str::to_owned),
        changes: Vec::new(),
    };
    let image = "shop-backend";
    let replica = || "shop.production.backend.0a1b.1".to_owned();
    vec![
        Event::Phase {
            phase: OperationPhase::Images,
        },
        Event::Pull {
            reference: "debian:bookworm-slim".into(),
            progress: PullProgress::Started,
        },
        Event::Pull {
            reference: "debian:bookworm-slim".into(),
            progress: PullProgress::Bytes {
                done: 12_000_000,
                total: Some(28_000_000),
            },
        },
        Event::Pull {
            reference: "debian:bookworm-slim".into(),
            progress: PullProgress::Done {
                digest: "sha256:fedcba9876543210".into(),
                elapsed_ms: 1100,
            },
        },
        build(
            image,
            BuildProgress::Started {
                services: vec![service("backend"), service("worker")],
                steps: 2,
            },
        ),
        build(
            image,
            BuildProgress::StepStarted {
                index: 1,
                stage: Some("base".into()),
                instruction: "RUN apt-get update".into(),
            },
        ),
        build(
            image,
            BuildProgress::StepDone {
                index: 1,
                cached: true,
                elapsed_ms: 2,
            },
        ),
        build(
            image,
            BuildProgress::StepStarted {
                index: 2,
                stage: None,
                instruction: "RUN pip install flask".into(),
            },
        ),
        build(
            image,
            BuildProgress::StepOutput {
                index: 2,
                stream: LogStream::Stdout,
                text: "\x1b[32mCollecting\x1b[0m flask".into(),
            },
        ),
        build(
            image,
            BuildProgress::StepDone {
                index: 2,
                cached: false,
                elapsed_ms: 4200,
            },
        ),
        build(
            image,
            BuildProgress::Done {
                digest: "sha256:0123456789abcdef".into(),
                elapsed_ms: 4300,
            },
        ),
        Event::Plan {
            services: vec![
                planned("db", PlannedAction::Keep, 1, None),
                planned(
                    "backend",
                    PlannedAction::Replace,
                    2,
                    Some("start-first: default for a routed service"),
                ),
                planned("old", PlannedAction::Remove, 0, None),
            ],
        },
        Event::Warning {
            message: "web has no health check".into(),
            hint: Some("add `healthcheck:`".into()),
        },
        Event::Phase {
            phase: OperationPhase::Jobs,
        },
        Event::Job {
            service: service("backend"),
            progress: JobProgress::Started {
                command: vec!["alembic".into(), "upgrade".into()],
            },
        },
        Event::Job {
            service: service("backend"),
            progress: JobProgress::Output {
                stream: LogStream::Stderr,
                text: "INFO running upgrade".into(),
            },
        },
        Event::Job {
            service: service("backend"),
            progress: JobProgress::Done { elapsed_ms: 900 },
        },
        Event::Phase {
            phase: OperationPhase::Rollout,
        },
        change(
            "backend",
            ServiceProgress::Waiting {
                dependency: service("db"),
            },
        ),
        change("backend", ServiceProgress::Starting { replica: replica() }),
        change(
            "backend",
            ServiceProgress::Health {
                replica: replica(),
                health: HealthState::Starting,
                detail: Some("connection refused".into()),
            },
        ),
        change(
            "backend",
            ServiceProgress::Ready {
                replica: replica(),
                ready: 1,
                wanted: 2,
            },
        ),
        change("backend", ServiceProgress::Shifting),
        change(
            "backend",
            ServiceProgress::Draining {
                replica: "shop.production.backend.9f8e.1".into(),
                in_flight: 3,
            },
        ),
        change(
            "backend",
            ServiceProgress::Stopping {
                replica: "shop.production.backend.9f8e.1".into(),
            },
        ),
        change(
            "backend",
            ServiceProgress::Stopped {
                replica: "shop.production.backend.9f8e.1".into(),
            },
        ),
        change("backend", ServiceProgress::Done { elapsed_ms: 6100 }),
    ]
}

pub fn failure() -> FailureReport {
    FailureReport::Service(ServiceFailure {
        service: service("backend"),
        replica: Some("shop.production.backend.0a1b.1".into()),
        reason: "not healthy after 60 s".into(),
        state: Some(ReplicaState::BackOff),
        since: "2024-05-01T10:04:05Z".parse().ok(),
        restarts: 3,
        probe: Some(ProbeReport {
            kind: ProbeKind::Health,
            probe: "curl -f http://localhost:8000/ready".into(),
            exit_code: Some(7),
            output: "curl: (7) Failed to connect\nto localhost".into(),
            failing_streak: 3,
        }),
        exit: Some(killed_for_memory()),
        log: (1..=25).map(|n| format!("line {n}")).collect(),
        hint: Some("raise deploy.resources.limits.memory".into()),
    })
}

pub fn build_failure() -> FailureReport {
    FailureReport::Build(BuildFailure {
        image: "shop-backend".into(),
        services: vec![service("backend")],
        reason: "the step ended with exit code 1".into(),
        place: Some(SourceLocation {
            file: "backend/Dockerfile".into(),
            line: 12,
            column: Some(1),
        }),
        instruction: Some("RUN make && \\\n    make install".into()),
        exit_code: Some(1),
        log: vec!["make: *** No targets.  Stop.".into()],
        hint: None,
    })
}
