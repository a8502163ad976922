//! What steps and jobs of `havre ci run` cost that do nothing, by the times that runners tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::figures::{median, print_figure, rounded};
use crate::shell::{command, read, say, succeed};

const STEPS: usize = 100;
/// In a row, each of which needs the one before.
const JOBS: usize = 20;
const RUNS: usize = 3;
const BAR_STEP_MS: f64 = 10.0;
const BAR_START_MS: f64 = 60.0;

pub fn measure(binary: &Path) -> Result<Value> {
    let place = Place::new(binary)?;
    say(&format!("{RUNS} times {STEPS} steps"));
    let steps = "      - run: \"true\"\n".repeat(STEPS);
    let steps = format!("  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}");
    let mut step_ms = Vec::new();
    for _ in 0..RUNS {
        let times = times(&place.run(&steps)?)?;
        let (began, ended) = *times.first().context("no job told of itself")?;
        step_ms.push((ended - began) / STEPS as f64);
    }
    say(&format!("{RUNS} times {JOBS} jobs in a row"));
    let jobs = (0..JOBS).map(|n| {
        let needs = match n {
            0 => String::new(),
            n => format!("needs: j{}, ", n - 1),
        };
        format!("  j{n}: {{{needs}runs-on: ubuntu-latest, steps: [{{run: \"true\"}}]}}\n")
    });
    let jobs: String = jobs.collect();
    let mut start_ms = Vec::new();
    for _ in 0..RUNS {
        let times = times(&place.run(&jobs)?)?;
        ensure!(
            times.len() == JOBS,
            "{} jobs told of themselves",
            times.len()
        );
        let between = times.windows(2).map(|pair| pair[1].0 - pair[0].1);
        start_ms.extend(between);
    }
    let (step, start) = (median(&step_ms), median(&start_ms));
    print_figure("a step of `true` (median)", step, "ms", BAR_STEP_MS);
    print_figure(
        "end of a job to the next one's first step (median)",
        start,
        "ms",
        BAR_START_MS,
    );
    Ok(json!({
        "bench": "ci-step",
        "step_ms": rounded(step),
        "job_start_ms": rounded(start),
        "slowest_job_start_ms": rounded(start_ms.iter().copied().fold(0.0, f64::max)),
        "steps": STEPS * RUNS,
        "jobs": start_ms.len(),
    }))
}

/// Where repositories are run, with caches of its own; gone with it.
pub(super) struct Place {
    folder: tempfile::TempDir,
    binary: PathBuf,
}

impl Place {
    pub(super) fn new(binary: &Path) -> Result<Self> {
        // Not where the machine's programs are: boxes are not kept in what they see.
        let folder = tempfile::Builder::new()
            .prefix("havre-bench-")
            .tempdir_in("/var/tmp");
        Ok(Self {
            folder: folder.context("cannot make a folder in /var/tmp")?,
            binary: binary.to_owned(),
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `havre ci run` in a folder of the place.
    pub(super) fn havre(&self, folder: &Path) -> Command {
        let mut havre = command(&self.binary);
        havre.arg("--root").arg(self.path("root"));
        havre.args(["ci", "run", "--json"]).current_dir(folder);
        havre
    }

    /// What a run of these jobs tells.
    fn run(&self, jobs: &str) -> Result<String> {
        let folder = self.path("repository");
        fs::create_dir_all(folder.join(".github/workflows")).context("cannot make a repository")?;
        let text = format!("on: push\njobs:\n{jobs}");
        fs::write(folder.join(".github/workflows/ci.yml"), text)?;
        succeed(
            command("git")
                .args(["init", "--quiet", "-b", "main"])
                .current_dir(&folder),
        )?;
        read(&mut self.havre(&folder))
    }
}

/// When each job began and ended, in milliseconds, in the order of their beginnings.
fn times(told: &str) -> Result<Vec<(f64, f64)>> {
    let mut jobs: Vec<(String, f64, f64)> = Vec::new();
    for line in told.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("{line} is no JSON"))?;
        let (leg, told) = (line["leg"].as_str().unwrap_or_default(), &line["told"]);
        let at = told["at_ms"].as_f64().unwrap_or_default();
        match told["told"].as_str() {
            Some("began") => jobs.push((leg.to_owned(), at, 0.0)),
            Some("ended") => {
                let job = jobs.iter_mut().find(|job| job.0 == leg);
                job.context("a job ended that did not begin")?.2 = at;
            }
            _ => {}
        }
    }
    Ok(jobs
        .into_iter()
        .map(|(_, began, ended)| (began, ended))
        .collect())
}
