//! The latency of an application in production, alone, and while jobs and a build of another project take all that they
//! are given.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use havre_testing::load::{LoadReport, Shot};
use serde_json::{Value, json};

use super::figures::{median, mention, print_figure, rounded};
use super::installation::Installation;
use super::load::Load;
use crate::shell::{command, read, say, succeed, wait_until};

/// Requests a second: production is not at its end by itself.
const RATE: f64 = 60.0;
const LEAST_RATE: f64 = 50.0;
/// How long each time is looked.
const LOOK: Duration = Duration::from_secs(15);
const ROUNDS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(120);
const BAR_RATIO: f64 = 2.0;

const COMPOSE: &str = "name: neighbour\nservices: {web: {image: 'debian:bookworm-slim'}}\n";
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
ARG ROUND
RUN for n in 1 2 3 4; do (timeout 600 sh -c 'while :; do :; done') & done; \\
    timeout 600 sh -c 'while :; do dd if=/dev/zero of=/file bs=1M count=200 2>/dev/null; done'
";
/// Each takes what it gets of processors and of the disk.
const WORKFLOW: &str = "\
on: push
jobs:
  busy:
    runs-on: ubuntu-latest
    strategy: {matrix: {n: [1, 2]}}
    steps:
      - run: |
          for n in 1 2 3 4; do (while :; do :; done) & done
          while :; do dd if=/dev/zero of=file bs=1M count=200 conv=fsync 2>/dev/null; done
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - run: docker build --build-arg ROUND=${{ github.run_number }} .
";

pub fn measure(place: &Installation) -> Result<Value> {
    place.bring_up()?;
    let neighbour = Neighbour::new(place)?;
    let (mut alone, mut beside, mut failed) = (Vec::new(), Vec::new(), 0);
    for round in 1..=ROUNDS {
        let calm = look(place)?;
        let run = neighbour.begin(round)?;
        let busy = look(place);
        neighbour.end(&run)?;
        let busy = busy?;
        say(&format!(
            "99th percentile {:.1} ms alone, {:.1} ms beside jobs and a build",
            calm.p99_ms, busy.p99_ms
        ));
        failed += calm.failed + busy.failed;
        alone.push(calm.p99_ms);
        beside.push(busy.p99_ms);
    }
    let (alone_ms, beside_ms) = (median(&alone), median(&beside));
    let ratio = beside_ms / alone_ms;
    mention("99th percentile alone (median)", alone_ms, "ms");
    mention("beside jobs and a build (median)", beside_ms, "ms");
    print_figure("beside them to alone", ratio, "×", BAR_RATIO);
    print_figure("requests that failed", failed as f64, "", 0.0);
    Ok(json!({
        "bench": "ci-neighbour",
        "p99_ratio": rounded(ratio),
        "failed": failed,
        "alone_p99_ms": rounded(alone_ms),
        "beside_p99_ms": rounded(beside_ms),
        "rounds": ROUNDS,
    }))
}

/// What visitors of production see for a while.
fn look(place: &Installation) -> Result<LoadReport> {
    let mut plan = place.plan()?;
    plan.rate = RATE;
    plan.shots = ["/", "/api/v1/health/live"].map(Shot::get).to_vec();
    let load = Load::of(plan, LEAST_RATE)?;
    std::thread::sleep(LOOK);
    load.finish()
}

/// Another project on the machine.
struct Neighbour<'a> {
    place: &'a Installation,
    folder: PathBuf,
}

impl<'a> Neighbour<'a> {
    fn new(place: &'a Installation) -> Result<Self> {
        let folder = place.instance.root.join("neighbour");
        fs::create_dir_all(folder.join(".github/workflows")).context("cannot make a project")?;
        for (name, text) in [
            ("compose.yaml", COMPOSE),
            ("Dockerfile", DOCKERFILE),
            (".github/workflows/ci.yml", WORKFLOW),
        ] {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let neighbour = Self { place, folder };
        neighbour.git(&["init", "--quiet", "--initial-branch", "main"])?;
        neighbour.git(&["config", "user.name", "The neighbour"])?;
        neighbour.git(&["config", "user.email", "neighbour@localhost"])?;
        succeed(&mut neighbour.havre(&["git", "remote", "--add"]))?;
        Ok(neighbour)
    }

    fn havre(&self, arguments: &[&str]) -> std::process::Command {
        let mut havre = self.place.instance.havre(arguments);
        havre.current_dir(&self.folder);
        havre
    }

    fn git(&self, arguments: &[&str]) -> Result<()> {
        succeed(command("git").args(arguments).current_dir(&self.folder))
    }

    /// Pushes, and waits until all jobs are at work; the run's number.
    fn begin(&self, round: usize) -> Result<String> {
        fs::write(self.folder.join("round"), round.to_string())?;
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", "Work"])?;
        let mut push = command("git");
        push.args(["push", "--quiet", "havre", "main"]);
        push.current_dir(&self.folder).stdin(Stdio::null());
        push.stdout(Stdio::null()).stderr(Stdio::null());
        // It follows the run, which is cancelled: ended with it.
        let mut push = push.spawn().context("cannot run git push")?;
        let number = wait_until("all jobs are at work", DEADLINE, || {
            ensure!(
                push.try_wait()?.is_none(),
                "git push ended before the jobs were looked at"
            );
            let runs = self.json(&["ci", "ls", "--live"])?;
            let Some(number) = runs[0]["number"].as_u64() else {
                return Ok(None);
            };
            let shown = self.json(&["ci", "show", &number.to_string()])?;
            let jobs = shown["jobs"].as_array().map_or(0, Vec::len);
            let busy = shown["jobs"].as_array().into_iter().flatten();
            let busy = busy.filter(|job| job["state"] == "running").count();
            Ok((jobs > 0 && busy == jobs).then_some(number))
        });
        push.kill().ok();
        push.wait().context("git push was lost")?;
        Ok(number?.to_string())
    }

    /// Ends a run, and waits until nothing of it is there.
    fn end(&self, run: &str) -> Result<()> {
        read(&mut self.havre(&["ci", "cancel", run, "--force"]))?;
        wait_until("the run has ended", DEADLINE, || {
            let live = self.json(&["ci", "ls", "--live"])?;
            Ok(live.as_array().is_some_and(Vec::is_empty).then_some(()))
        })
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = read(&mut self.havre(&[arguments, &["--json"]].concat()))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments:?} printed no JSON"))
    }
}
