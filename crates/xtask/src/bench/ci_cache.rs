//! A job's cache of 500 MB, saved and restored in a job of `havre ci run` by GitHub's own client, beside `cp -r` of the
//! same folder in the same job.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::ci_step::Place;
use super::figures::{median, mention, rounded};
use crate::shell::{command, read, succeed};

const FILES: usize = 50;
const FILE_BYTES: usize = 10_000_000;
const RUNS: usize = 5;
const BAR_RATIO: f64 = 0.5;
const CLIENT: &str = include_str!("ci_cache.mjs");
/// What the client's lines with times begin with.
const MARK: &str = "times ";
const WORKFLOW: &str = "\
on: push
jobs:
  cache:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v5
      - uses: ./client
";

/// Times of one run, in milliseconds.
struct Times {
    save: f64,
    restore: f64,
    copy: f64,
}

pub fn measure(binary: &Path) -> Result<Value> {
    let peer = crate::peers::actions()?;
    let place = Place::new(binary)?;
    let folder = place.path("repository");
    fs::create_dir_all(folder.join(".github/workflows")).context("cannot make a repository")?;
    fs::write(folder.join(".github/workflows/ci.yml"), WORKFLOW)?;
    let client = folder.join("client");
    fs::create_dir(&client).context("cannot make the action")?;
    fs::write(
        client.join("action.yml"),
        "name: client\nruns: {using: node20, main: main.mjs}\n",
    )?;
    fs::write(client.join("main.mjs"), script())?;
    succeed(
        command("cp")
            .arg("-r")
            .arg(peer.join("node_modules"))
            .arg(&client),
    )?;
    succeed(
        command("git")
            .args(["init", "--quiet", "-b", "main"])
            .current_dir(&folder),
    )?;
    let told = read(&mut place.havre(&folder))?;
    let times: Vec<Times> = told
        .lines()
        .map(times_of)
        .filter_map(Result::transpose)
        .collect::<Result<_>>()?;
    ensure!(
        times.len() == RUNS,
        "{} of {RUNS} runs told their times",
        times.len()
    );
    Ok(figures(&times))
}

/// The client with its numbers.
fn script() -> String {
    format!(
        "const [files, bytes, runs, mark] = [{FILES}, {FILE_BYTES}, {RUNS}, '{MARK}'];\n{CLIENT}"
    )
}

/// Times, where a line of the run's is one of them.
fn times_of(line: &str) -> Result<Option<Times>> {
    let told: Value = serde_json::from_str(line).with_context(|| format!("{line} is no JSON"))?;
    let text = told["told"]["text"].as_str().unwrap_or_default();
    let Some(text) = text.strip_prefix(MARK) else {
        return Ok(None);
    };
    let said: Value = serde_json::from_str(text).with_context(|| format!("{text} is no JSON"))?;
    let number = |name: &str| said[name].as_f64().context("the client says no time");
    Ok(Some(Times {
        save: number("save")?,
        restore: number("restore")?,
        copy: number("copy")?,
    }))
}

fn figures(times: &[Times]) -> Value {
    let of = |pick: fn(&Times) -> f64| median(&times.iter().map(pick).collect::<Vec<_>>());
    let (save, restore, copy) = (of(|it| it.save), of(|it| it.restore), of(|it| it.copy));
    let ratio = 2.0 * copy / (save + restore);
    let verdict = if ratio >= BAR_RATIO { "held" } else { "missed" };
    eprintln!(
        "two copies beside a save and a restore {ratio:>16.2} ×   bar ≥ {BAR_RATIO} ×: {verdict}"
    );
    mention("save", save, "ms");
    mention("restore", restore, "ms");
    mention("cp -r", copy, "ms");
    json!({
        "bench": "ci-cache",
        "bytes": FILES * FILE_BYTES,
        "ratio": rounded(ratio),
        "bar_ratio": BAR_RATIO,
        "save_ms": rounded(save),
        "restore_ms": rounded(restore),
        "copy_ms": rounded(copy),
    })
}
