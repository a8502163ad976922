//! Releases of back end, front end and a service with WebSockets, under load over HTTPS: what
//! fails, which streams are cut.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::figures::{median, mention, print_figure, rounded};
use super::installation::Installation;
use super::load::{Load, print_report};
use crate::shell::say;

/// Load before the first and after the last rollout.
const CALM: Duration = Duration::from_secs(3);
/// Where a change makes another front end.
const STYLES: &str = "frontend/src/app/globals.css";
/// Seconds that a rollout may take, in the middle.
const LONGEST_ROLLOUT: f64 = 8.0;
/// Versions that the releases take turns with: each has to be built once, and releases are measured
/// here, not builds.
const VERSIONS: u32 = 5;

pub fn measure(place: &Installation, rollouts: u32) -> Result<Value> {
    place.bring_up_with_live("{bake: 0s}")?;
    let load = Load::start(place)?;
    std::thread::sleep(CALM);
    let rolled = roll(place, &load, rollouts);
    std::thread::sleep(CALM);
    let report = load.finish()?;
    print_report(&report);
    let times = rolled?;
    let whole: Vec<f64> = times.iter().map(|time| time.up_s).collect();
    let rollout: Vec<f64> = times.iter().map(|time| time.rollout_s).collect();
    let (median_up_s, median_s) = (median(&whole), median(&rollout));
    mention("`up` with its builds (median)", median_up_s, "s");
    print_figure("rollout (median)", median_s, "s", LONGEST_ROLLOUT);
    Ok(json!({
        "bench": "rollout",
        "rollouts": times.len(),
        "requests": report.requests,
        "failed": report.failed,
        "streams_cut": report.streams_cut,
        "streams_closed": report.streams_closed,
        "streams_refused": report.streams_refused,
        "rate_per_s": rounded(report.requests as f64 / report.seconds),
        "p50_ms": rounded(report.p50_ms),
        "p99_ms": rounded(report.p99_ms),
        "max_ms": rounded(report.max_ms),
        "max_gap_ms": rounded(report.max_gap_ms),
        "median_up_s": rounded(median_up_s),
        "median_rollout_s": rounded(median_s),
    }))
}

/// How long a release took.
struct Took {
    /// With its builds.
    up_s: f64,
    /// Without: from the first new replica to the end of the last old one.
    rollout_s: f64,
}

fn roll(place: &Installation, load: &Load, count: u32) -> Result<Vec<Took>> {
    let visitor = place.visitor()?;
    let mut times = Vec::new();
    let path = place.project.join(STYLES);
    let styles =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for number in 1..=count {
        let version = number % VERSIONS;
        let styles = format!("{styles}\n.version-{version} {{ order: {version}; }}\n");
        fs::write(&path, styles).with_context(|| format!("cannot write {}", path.display()))?;
        let version = format!("1.1.{version}");
        place.set_version(&version)?;
        let before = replicas(place)?;
        let up_s = place.up()?.as_secs_f64();
        let kept: Vec<String> = replicas(place)?.intersection(&before).cloned().collect();
        if !kept.is_empty() {
            bail!("a release left replicas in place: {}", kept.join(", "));
        }
        let answer = load.runtime().block_on(visitor.get("/api/v1/version"));
        let (_, text) = answer.map_err(anyhow::Error::msg)?;
        ensure!(text.contains(&version), "not {version} answers: {text}");
        let rollout_s = newest_rollout(place)?;
        say(&format!(
            "release {number} of {count}: {up_s:.1} s, its rollout {rollout_s:.1} s"
        ));
        times.push(Took { up_s, rollout_s });
    }
    Ok(times)
}

/// Seconds of the newest release's rollout, from the history.
pub fn newest_rollout(place: &Installation) -> Result<f64> {
    let releases = place.json(&["releases", "--last", "1"])?;
    let elapsed = releases[0]["elapsed_ms"].as_f64();
    Ok(elapsed.context("the newest release has no end")? / 1000.0)
}

/// Replicas of the services that each release changes.
fn replicas(place: &Installation) -> Result<BTreeSet<String>> {
    let found = place.json(&["ps", "backend", "frontend", "live"])?;
    let list = found.as_array().context("ps printed no list")?;
    let ids: BTreeSet<String> = list
        .iter()
        .filter_map(|replica| replica["id"].as_str())
        .map(str::to_owned)
        .collect();
    ensure!(!ids.is_empty(), "ps lists no replicas");
    Ok(ids)
}
