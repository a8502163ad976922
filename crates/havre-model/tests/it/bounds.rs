//! Hostile and huge files: refused or read in bounded time.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use havre_model::{
    Healthcheck, LoadFailure, LoadOptions, Loaded, Project, RolloutStrategy, Route, RouteProtocol,
    Service, ServiceName, Volume, VolumeName, load,
};

/// Computing time, not time on the clock: far above what an unoptimised build needs, far below what
/// a square of the file's size takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn timed(text: &str) -> Result<Loaded, LoadFailure> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("compose.yaml"), text).unwrap();
    let options = LoadOptions {
        directory: folder.path().to_owned(),
        project_name: Some("case".into()),
        ..LoadOptions::default()
    };
    let start = thread_time();
    let outcome = load(&options);
    let took = thread_time() - start;
    println!("{took:?} for {} bytes", text.len());
    assert!(took < PATIENCE, "{took:?} for {} bytes", text.len());
    outcome
}

/// The codes of what is wrong.
fn codes(text: &str) -> Vec<&'static str> {
    match timed(text) {
        Ok(_) => Vec::new(),
        Err(failure) => failure.errors.iter().map(|error| error.code).collect(),
    }
}

#[test]
fn billion_laughs() {
    let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "x-{level}: &a{level} [{aliases}]").unwrap();
    }
    text.push_str("services: {web: {image: x}}\n");
    assert_eq!(codes(&text), ["yaml/too-large"]);
}

#[test]
fn billion_laughs_by_merge_keys_and_text() {
    let mut text = format!("x-0: &a0 {{k0: \"{}\"}}\n", "x".repeat(100_000));
    for level in 1..200 {
        let below = level - 1;
        writeln!(
            text,
            "x-{level}: &a{level} {{k{level}: [*a{below}, *a{below}], <<: *a{below}}}"
        )
        .unwrap();
    }
    assert_eq!(codes(&text), ["yaml/too-large"]);
}

#[test]
fn laughs_by_extends() {
    // Each service adds a variable to all those of the one before.
    let mut text = String::from("services:\n  s0: {image: x}\n");
    for n in 1..1500 {
        let below = n - 1;
        writeln!(
            text,
            "  s{n}: {{extends: s{below}, environment: {{V{n}: x}}}}"
        )
        .unwrap();
    }
    assert!(codes(&text).contains(&"compose/too-deep"));
    let mut text = String::from("services:\n  base:\n    image: x\n    environment:\n");
    for n in 0..2000 {
        writeln!(text, "      V{n}: x").unwrap();
    }
    for n in 0..2000 {
        writeln!(text, "  s{n}: {{extends: base}}").unwrap();
    }
    assert!(codes(&text).contains(&"compose/too-large"));
}

#[test]
fn laughs_by_interpolation() {
    let nested = format!("{}x{}", "${A:-".repeat(5000), "}".repeat(5000));
    let text = format!("services: {{web: {{image: \"{nested}\"}}}}\n");
    assert!(codes(&text).contains(&"compose/interpolation"));
    let many = "$A $B ".repeat(100_000);
    let text = format!("services: {{web: {{image: x, environment: {{V: \"{many}\"}}}}}}\n");
    assert!(codes(&text).contains(&"compose/unset-variable"));
    let open = "${".repeat(200_000);
    let text = format!("services: {{web: {{image: x, environment: {{V: \"{open}\"}}}}}}\n");
    assert!(codes(&text).contains(&"compose/interpolation"));
}

#[test]
fn deep_and_long() {
    assert!(!codes(&"[".repeat(100_000)).is_empty());
    assert!(!codes(&"{a: ".repeat(100_000)).is_empty());
    assert!(!codes(&"- ".repeat(100_000)).is_empty());
    assert!(!codes(&"? ".repeat(100_000)).is_empty());
    assert!(!codes(&"a: ".repeat(100_000)).is_empty());
    assert!(!codes(&"&a ".repeat(100_000)).is_empty());
    assert!(!codes(&"!".repeat(300_000)).is_empty());
    assert!(!codes(&"\"".repeat(300_001)).is_empty());
    assert!(!codes(&"x".repeat(400_000)).is_empty());
    assert!(!codes(&"\n".repeat(400_000)).is_empty());
    assert!(!codes(&" ".repeat(400_000)).is_empty());
    assert!(!codes(&"#".repeat(400_000)).is_empty());
    assert!(!codes(&"a\n".repeat(300_000)).is_empty());
    assert!(!codes(&"---\n".repeat(100_000)).is_empty());
    assert!(!codes(&"%YAML 1.2\n".repeat(100_000)).is_empty());
    assert!(!codes(&"|\n".repeat(100_000)).is_empty());
    assert!(!codes(&"[a,".repeat(300_000)).is_empty());
    assert!(!codes(&format!("[{}]", "a,".repeat(200_000))).is_empty());
    assert_eq!(codes(&"x".repeat(3 << 20)), ["compose/missing-file"]);
}

#[test]
fn many_of_everything() {
    let mut text = String::from("services:\n");
    for n in 0..4_000 {
        writeln!(text, "  s{n}: {{imagee: x, depends_on: [t{n}]}}").unwrap();
    }
    let codes = codes(&text);
    assert!(codes.contains(&"compose/unknown-key"));
    assert!(codes.len() <= 201, "{}", codes.len());
    assert_eq!(codes.last(), Some(&"compose/more"));
}

#[test]
fn a_long_chain_of_dependencies_is_no_recursion() {
    let mut text = String::from("services:\n  s0: {image: x, expose: [80]}\n");
    for n in 1..4_000 {
        let below = n - 1;
        writeln!(text, "  s{n}: {{image: x, depends_on: [s{below}]}}").unwrap();
    }
    assert_eq!(timed(&text).unwrap().project.services.len(), 4_000);
}

/// Time that this thread was computing: other processes of a busy machine do not count.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Twice the services may take about twice the time; a square would take four times.
#[test]
fn time_grows_with_the_file_and_not_with_its_square() {
    let project = |services: usize| {
        let mut text = String::from("services:\n");
        for n in 0..services {
            let below = n.saturating_sub(1);
            writeln!(
                text,
                "  s{n}:\n    image: app:$TAG\n    environment: [A=1, B=$TAG]\n    \
                 volumes: ['v{n}:/data']\n    networks: [n{n}, default]\n    \
                 healthcheck: {{test: true, interval: 5s}}\n    depends_on: [s0, s{below}]\n    \
                 deploy: {{replicas: 2, resources: {{limits: {{memory: 64m}}}}}}",
            )
            .unwrap();
        }
        text = text.replace("  s0:\n", "  s0:\n    expose: [80]\n");
        text = text.replace("depends_on: [s0, s0]", "depends_on: [s0]");
        text = text.replacen("    depends_on: [s0]\n", "", 1);
        text.push_str("volumes:\n");
        (0..services).for_each(|n| writeln!(text, "  v{n}:").unwrap());
        text.push_str("networks:\n");
        (0..services).for_each(|n| writeln!(text, "  n{n}:").unwrap());
        text
    };
    let best = |services: usize| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("compose.yaml"), project(services)).unwrap();
        let options = LoadOptions {
            directory: folder.path().to_owned(),
            project_name: Some("case".into()),
            variables: [("TAG".to_owned(), "1".to_owned())].into(),
            ..LoadOptions::default()
        };
        let run = || {
            let start = thread_time();
            load(&options).unwrap();
            thread_time() - start
        };
        (0..3).map(|_| run()).min().unwrap()
    };
    let times: Vec<_> = [50, 100, 200, 400].map(|n| (n, best(n))).into();
    println!("{times:?}");
    let (small, large) = (times[0].1, times[3].1);
    assert!(large < small * 8 * 3, "{times:?}");
}

type Change = fn(&mut Project);

#[test]
fn a_project_from_elsewhere_has_the_bounds_of_files() {
    let text = "services: {web: {image: x, healthcheck: {test: a, interval: 1000000h}}}\n";
    let sound = timed(text).unwrap().project;
    assert_eq!(sound.in_bounds(), Ok(()));
    let changes: [(&str, Change); 16] = [
        ("volumes.data", |project| {
            let volume = Volume {
                name: Some("../../etc".to_owned()),
                ..Volume::default()
            };
            project.volumes.insert(VolumeName::new("data"), volume);
        }),
        ("services.web.deploy.replicas", |project| {
            web(project).replicas = 1001;
        }),
        ("services.web.cap_add", |project| {
            web(project).cap_add = vec!["sys_admin".to_owned()];
        }),
        ("services.web.cap_add", |project| {
            web(project).cap_add = vec!["CAP_SYS_ADMIN".to_owned()];
        }),
        ("services.web.cap_drop", |project| {
            web(project).cap_drop = vec!["all".to_owned()];
        }),
        ("domains", |project| project.hosts.push("*".to_owned())),
        ("domains", |project| project.hosts.push("a\nb".to_owned())),
        ("domains", |project| {
            let hosts = (0..101).map(|n| format!("h{n}.example.org"));
            project.hosts = hosts.collect();
        }),
        ("routes", |project| {
            project.routes.push(Route {
                host: None,
                path: "/\u{1b}[2J".to_owned(),
                service: ServiceName::new("web"),
                port: 80,
                strip_prefix: false,
                protocol: RouteProtocol::Http,
                inferred: false,
            });
        }),
        ("services.web.stop_grace_period", |project| {
            web(project).stop_grace_period = Duration::MAX;
        }),
        ("services.web.deploy.update_config.delay", |project| {
            web(project).update.delay = Some(Duration::MAX);
        }),
        ("services.web.healthcheck.interval", |project| {
            let Some(Healthcheck::Probe { timing, .. }) = &mut web(project).healthcheck else {
                panic!("a probe");
            };
            timing.interval = Some(Duration::MAX);
        }),
        ("services.web.logging.options.max-file", |project| {
            web(project).logging.max_files = Some(101);
        }),
        ("services.web.logging.options.max-size", |project| {
            web(project).logging.max_size_bytes = Some(4095);
        }),
        ("rollout.drain_timeout", |project| {
            project.rollout.drain_timeout = Duration::from_secs(24 * 3600 + 1);
        }),
        ("rollout.steps", |project| {
            project.rollout.strategy = RolloutStrategy::Canary {
                steps: vec![500, 50],
                step: Duration::ZERO,
            };
        }),
    ];
    for (place, change) in changes {
        let mut project = sound.clone();
        change(&mut project);
        assert_eq!(project.in_bounds().unwrap_err().place, place);
    }
}

fn web(project: &mut Project) -> &mut Service {
    project.services.get_mut(&ServiceName::new("web")).unwrap()
}
