//! A job's cache of 500 MB, saved and restored by GitHub's own client, beside `cp -r` of the same folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use havre_results::{CacheMode, Grant, Limits, Results, SCHEMA};
use havre_store::{Store, now};
use serde_json::{Value, json};

use super::figures::{median, mention, rounded};
use crate::shell::{command, read, succeed, workspace};

const FILES: usize = 50;
const FILE_BYTES: usize = 10_000_000;
const RUNS: usize = 5;
const BAR_RATIO: f64 = 0.5;
const CLIENT: &str = include_str!("ci_cache.mjs");

/// Times of one run, in milliseconds.
struct Times {
    save: f64,
    restore: f64,
    copy: f64,
}

pub fn measure() -> Result<Value> {
    let peer = crate::peers::actions()?;
    // Beside the build: a folder for scratch may be in memory.
    let folder =
        tempfile::tempdir_in(workspace().join("target")).context("cannot make a folder")?;
    let store = Store::open(&folder.path().join("state.db"), &[SCHEMA])?;
    let results = Results::open(
        Arc::new(store),
        folder.path().join("results"),
        &[1; 32],
        Limits::default(),
    )?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let router = results.router();
    let server = runtime.spawn(async move { axum::serve(listener, router).await });
    let token = results.token(&Grant {
        run: "1".to_owned(),
        job: "1".to_owned(),
        repository: "bench".to_owned(),
        scopes: vec![("refs/heads/main".to_owned(), true)],
        cache: CacheMode::Write,
        expires: now() + 6 * 3600,
    })?;
    let environment = [
        ("ACTIONS_RESULTS_URL", format!("http://{address}/")),
        ("ACTIONS_RUNTIME_TOKEN", token),
    ];

    fill(&folder.path().join("kept"))?;
    let mut times = Vec::new();
    for run in 0..RUNS {
        times.push(once(folder.path(), &peer, &environment, run)?);
    }
    server.abort();
    Ok(told(&times))
}

/// Saves and restores the folder, and copies it twice.
fn once(folder: &Path, peer: &Path, environment: &[(&str, String)], run: usize) -> Result<Times> {
    let begun = Instant::now();
    for copy in ["copy", "copy-back"] {
        let mut cp = command("cp");
        succeed(cp.arg("-r").args(["kept", copy]).current_dir(folder))?;
    }
    let copy = begun.elapsed().as_secs_f64() * 1000.0 / 2.0;
    for copy in ["copy", "copy-back"] {
        fs::remove_dir_all(folder.join(copy)).context("cannot remove a copy")?;
    }
    let mut node = command("node");
    node.args(["--input-type=module", "--eval", CLIENT, "--"])
        .arg(folder)
        .arg(format!("run-{run}"))
        .current_dir(peer)
        .env("GITHUB_SERVER_URL", "https://shop.localhost")
        .env("GITHUB_WORKSPACE", folder)
        .env("RUNNER_TEMP", folder)
        .env("ACTIONS_CACHE_SERVICE_V2", "true");
    for (name, value) in environment {
        node.env(name, value);
    }
    let output = read(&mut node)?;
    let last = output.lines().last().context("the client says nothing")?;
    let said: Value = serde_json::from_str(last).with_context(|| format!("{last} is no JSON"))?;
    let number = |name: &str| said[name].as_f64().context("the client says no time");
    let size: u64 = folder_size(&folder.join("kept"))?;
    ensure!(
        size == (FILES * FILE_BYTES) as u64,
        "{size} bytes came back"
    );
    Ok(Times {
        save: number("save")?,
        restore: number("restore")?,
        copy,
    })
}

fn told(times: &[Times]) -> Value {
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

/// Files that compress a little, as what jobs keep does that is compressed already in part.
fn fill(folder: &Path) -> Result<()> {
    fs::create_dir(folder).context("cannot make the folder to keep")?;
    let mut state = 0x9e37_79b9_u64;
    for n in 0..FILES {
        let bytes: Vec<u8> = (0..FILE_BYTES / 8)
            .flat_map(|at| {
                if at % 64 < 32 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                }
                state.to_le_bytes()
            })
            .collect();
        fs::write(folder.join(n.to_string()), bytes).context("cannot write a file to keep")?;
    }
    Ok(())
}

fn folder_size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder).context("nothing came back")? {
        size += entry?.metadata()?.len();
    }
    Ok(size)
}
