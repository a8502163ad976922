//! `havre check` of compose files of a growing number of services, and of hostile ones: time of the
//! whole program on the clock and of computing, and its peak memory. Beside it docker compose on
//! the same files. Where other work takes the processors the clock misses its bars, and the
//! computing time says why.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use super::figures::{median, mention, millis, print_figure, rounded};
use crate::peers;
use crate::shell::say;

const TIMES: usize = 21;
const PEER_TIMES: usize = 7;
const SERVICES: [usize; 4] = [50, 100, 200, 400];
/// Of the third of [`SERVICES`].
const BAR_MS: f64 = 50.0;
/// From the third of [`SERVICES`] to the fourth, which has twice as many.
const BAR_GROWTH: f64 = 2.6;
const BAR_HOSTILE_MS: f64 = 100.0;
const BAR_HOSTILE_MIB: f64 = 50.0;
/// As `havre` ends when a project's files are wrong.
const FILES_ARE_WRONG: i32 = 3;

/// What one program takes for one file.
#[derive(Clone, Copy)]
struct Figure {
    /// On the clock; median.
    ms: f64,
    /// Of computing, in user and kernel mode; median.
    cpu_ms: f64,
    /// The highest of all runs. What the bench itself had in memory counts too: a new program
    /// begins as its parent.
    peak_mib: f64,
}

impl Figure {
    fn json(self) -> Value {
        json!({
            "ms": rounded(self.ms),
            "cpu_ms": rounded(self.cpu_ms),
            "peak_mib": rounded(self.peak_mib),
        })
    }
}

/// One run of a program.
struct Run {
    took: Duration,
    computing: Duration,
    status: ExitStatus,
    peak_kib: i64,
}

pub fn measure(binary: &Path) -> Result<Value> {
    let peer = peers::compose()?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let mut failed = 0;
    let mut bar = |what: &str, value: f64, unit: &str, bar: f64| {
        print_figure(what, value, unit, bar);
        failed += u32::from(value > bar);
    };
    let mut projects = Map::new();
    let mut times = Vec::new();
    for services in SERVICES {
        let project = folder.path().join(services.to_string());
        write_project(&project, services)?;
        let ours = check(binary, &project, 0)?;
        times.push(ours.ms);
        let what = format!("havre check, {services} services (median)");
        match services == SERVICES[2] {
            true => bar(&what, ours.ms, "ms", BAR_MS),
            false => mention(&what, ours.ms, "ms"),
        }
        mention("  of computing", ours.cpu_ms, "ms");
        mention("  peak", ours.peak_mib, "MiB");
        let mut found = ours.json();
        if let Some(peer) = &peer {
            let mut command = Command::new(peer);
            command.args(["config", "--quiet"]).current_dir(&project);
            let theirs = figure(&mut command, 0, PEER_TIMES)?;
            mention("  docker compose config --quiet", theirs.ms, "ms");
            found["docker_compose"] = theirs.json();
        }
        projects.insert(services.to_string(), found);
    }
    let growth = times[3] / times[2];
    bar("from 200 to 400 services", growth, "×", BAR_GROWTH);
    let mut hostile = Map::new();
    for (name, text) in [
        ("billion laughs", laughs()),
        ("deep nesting", "[".repeat(1 << 20)),
    ] {
        let project = folder.path().join(name);
        fs::create_dir(&project)
            .and_then(|()| fs::write(project.join("compose.yaml"), text))
            .with_context(|| format!("cannot write {}", project.display()))?;
        let ours = check(binary, &project, FILES_ARE_WRONG)?;
        let what = format!("{name} refused (median)");
        bar(&what, ours.ms, "ms", BAR_HOSTILE_MS);
        mention("  of computing", ours.cpu_ms, "ms");
        bar("  peak", ours.peak_mib, "MiB", BAR_HOSTILE_MIB);
        hostile.insert(name.replace(' ', "_"), ours.json());
    }
    if peer.is_none() {
        say("no figures of docker compose: it is not built for this machine");
    }
    Ok(json!({
        "bench": "check",
        "failed": failed,
        "services": projects,
        "growth": rounded(growth),
        "hostile": hostile,
        "times": TIMES,
    }))
}

fn check(binary: &Path, project: &Path, code: i32) -> Result<Figure> {
    let mut command = Command::new(binary);
    command.arg("check").arg(project).env_remove("HAVRE_ROOT");
    figure(&mut command, code, TIMES)
}

/// Runs a program that must end with `code`, again and again.
fn figure(command: &mut Command, code: i32, times: usize) -> Result<Figure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // The first one warms the caches.
    once(command)?;
    let runs = (0..times)
        .map(|_| once(command))
        .collect::<Result<Vec<_>>>()?;
    for run in &runs {
        let status = run.status;
        ensure!(
            status.code() == Some(code),
            "{command:?} ended with {status}"
        );
    }
    let middle = |time: fn(&Run) -> Duration| {
        let all: Vec<f64> = runs.iter().map(|run| millis(time(run))).collect();
        median(&all)
    };
    let peak_kib = runs.iter().map(|run| run.peak_kib).max().unwrap_or(0);
    Ok(Figure {
        ms: middle(|run| run.took),
        cpu_ms: middle(|run| run.computing),
        peak_mib: peak_kib as f64 / 1024.0,
    })
}

fn once(command: &mut Command) -> Result<Run> {
    let begun = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let pid = i32::try_from(child.id()).context("a process number is too large")?;
    let mut status = 0;
    // SAFETY: all zeros is a valid rusage, and wait4 writes nothing but the two places given.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    let took = begun.elapsed();
    ensure!(
        waited == pid,
        "cannot wait for {command:?}: {}",
        std::io::Error::last_os_error()
    );
    let time = |time: libc::timeval| {
        let micros = time.tv_sec * 1_000_000 + time.tv_usec;
        Duration::from_micros(micros.unsigned_abs())
    };
    Ok(Run {
        took,
        computing: time(usage.ru_utime) + time(usage.ru_stime),
        status: ExitStatus::from_raw(status),
        peak_kib: usage.ru_maxrss,
    })
}

/// A project as a team of many services has it: anchors, builds, health checks, networks.
fn write_project(folder: &Path, services: usize) -> Result<()> {
    let dockerfile = folder.join("app/Dockerfile");
    fs::create_dir_all(folder.join("app"))
        .and_then(|()| fs::write(&dockerfile, "FROM debian:bookworm-slim\n"))
        .and_then(|()| fs::write(folder.join(".env"), "TAG=1.4.2\nDB_PASSWORD=secret\n"))
        .and_then(|()| fs::write(folder.join("compose.yaml"), project(services)))
        .with_context(|| format!("cannot write {}", folder.display()))
}

fn project(services: usize) -> String {
    let mut text = String::from(
        "x-common: &common
  restart: unless-stopped
  stop_grace_period: 30s
  logging: {driver: json-file, options: {max-size: 10m, max-file: \"3\"}}
  deploy: {resources: {limits: {memory: 256m, cpus: \"0.5\"}}}
x-environment: &environment
  LOG_LEVEL: ${LOG_LEVEL:-info}
  DATABASE_URL: postgres://app:${DB_PASSWORD}@s0:5432/app
  REDIS_URL: redis://s1:6379/0
  FEATURES: ${FEATURES:-${DEFAULT_FEATURES:-none}}
services:
",
    );
    // Writing to a text cannot fail.
    let mut add = |n: usize| -> std::fmt::Result {
        writeln!(text, "  s{n}:\n    <<: *common")?;
        match n % 3 {
            0 => writeln!(
                text,
                "    build:\n      context: ./app\n      args: {{SERVICE: s{n}, VERSION: \"${{TAG}}\"}}"
            )?,
            _ => writeln!(text, "    image: registry.example.org/team/s{n}:${{TAG}}")?,
        }
        writeln!(
            text,
            "    environment:\n      <<: *environment\n      SERVICE_NAME: s{n}\n      \
             QUEUE: ${{QUEUE_PREFIX:-q}}-{n}\n      WORKERS: \"4\"\n      TIMEOUT: 30s"
        )?;
        writeln!(
            text,
            "    healthcheck:\n      test: [\"CMD\", \"curl\", \"-f\", \"http://localhost:8080/health\"]\n      \
             interval: 10s\n      timeout: 3s\n      retries: 5\n      start_period: 20s"
        )?;
        writeln!(
            text,
            "    expose: [\"8080\"]\n    networks: [n{}, shared]",
            n % 10
        )?;
        writeln!(
            text,
            "    volumes:\n      - v{n}:/data\n      - type: tmpfs\n        target: /tmp"
        )?;
        writeln!(
            text,
            "    labels:\n      - team=t{}\n      - tier=backend",
            n % 7
        )?;
        if n > 0 {
            writeln!(
                text,
                "    depends_on:\n      s0: {{condition: service_healthy}}"
            )?;
        }
        if n > 1 {
            writeln!(text, "      s{}: {{condition: service_started}}", n - 1)?;
        }
        if n == 2 {
            writeln!(text, "    ports: [\"8080:8080\"]")?;
        }
        Ok(())
    };
    let written = (0..services).try_for_each(&mut add);
    debug_assert!(written.is_ok());
    text.push_str("networks:\n  shared:\n");
    (0..10).for_each(|n| text.push_str(&format!("  n{n}:\n")));
    text.push_str("volumes:\n");
    (0..services).for_each(|n| text.push_str(&format!("  v{n}:\n")));
    text
}

/// Ten levels of lists, each nine times the one below.
fn laughs() -> String {
    let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        text.push_str(&format!("x-{level}: &a{level} [{aliases}]\n"));
    }
    text.push_str("services: {web: {image: x}}\n");
    text
}
