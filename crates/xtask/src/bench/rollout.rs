//! Releases of back end and front end under load over HTTPS: what fails, which streams are cut.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use havre_testing::load::{self, LoadPlan, LoadReport, Shot, Streams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::figures::{median, mention, rounded, tell};
use super::installation::Installation;
use crate::shell::{command, read, say, succeed};

/// A little above what is promised, since a pace is never met exactly.
const RATE: f64 = 210.0;
const LEAST_RATE: f64 = 200.0;
const STREAMS: usize = 8;
/// Load before the first and after the last rollout.
const CALM: Duration = Duration::from_secs(3);
/// Where a change makes another front end.
const STYLES: &str = "frontend/src/app/globals.css";
/// Shares of the requests beside one upload. What asks the database is the smaller part: the
/// figure is about releases, and an application that drowns fails without one.
const SHARES: &[(&str, u32)] = &[
    ("/", 140),
    ("/api/v1/health/live", 220),
    ("/api/v1/jobs", 59),
];

/// Makes a job that someone seems to work on for a day, so that its event stream stays open.
const HELD_JOB: &str = "
from datetime import timedelta
from app import jobs, runtime
from app.models import Status
with runtime.current().sessions() as session:
    job = jobs.create(session, filename='held.pdf', content=b'', mode='rules', word_limit=20)
    job.status, job.owner = Status.RUNNING, 'bench'
    job.leased_until = jobs.now() + timedelta(days=1)
    session.commit()
    print(job.id)
";

pub fn measure(place: &Installation, rollouts: u32) -> Result<Value> {
    place.bring_up()?;
    let plan = plan(place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let end = CancellationToken::new();
    let load = runtime.spawn(load::run(plan, end.clone()));
    std::thread::sleep(CALM);
    let rolled = roll(place, &runtime, rollouts);
    std::thread::sleep(CALM);
    end.cancel();
    let report = runtime.block_on(load).context("the load ended early")??;
    tell_report(&report);
    let times = rolled?;
    let rate = report.requests as f64 / report.seconds;
    ensure!(
        rate >= LEAST_RATE,
        "the load was {rate:.0} requests a second, not {LEAST_RATE}"
    );
    let median_s = median(&times);
    mention("rollout (median)", median_s, "s");
    Ok(json!({
        "bench": "rollout",
        "rollouts": times.len(),
        "requests": report.requests,
        "failed": report.failed,
        "streams_cut": report.streams_cut,
        "streams_closed": report.streams_closed,
        "streams_refused": report.streams_refused,
        "rate_per_s": rounded(rate),
        "p50_ms": rounded(report.p50_ms),
        "p99_ms": rounded(report.p99_ms),
        "max_ms": rounded(report.max_ms),
        "max_gap_ms": rounded(report.max_gap_ms),
        "median_rollout_s": rounded(median_s),
    }))
}

fn plan(place: &Installation) -> Result<LoadPlan> {
    let id = read(&mut place.havre(&["exec", "backend", "python", "-c", HELD_JOB]))?;
    let id = id.trim();
    ensure!(!id.is_empty(), "no job was made for the event streams");
    let mut plan = place.plan()?;
    plan.rate = RATE;
    plan.event_streams = Streams {
        count: STREAMS,
        path: format!("/api/v1/jobs/{id}/events"),
    };
    plan.shots = SHARES
        .iter()
        .map(|(path, weight)| Shot {
            weight: *weight,
            ..Shot::get(path)
        })
        .collect();
    plan.shots.push(upload(place)?);
    Ok(plan)
}

/// A PDF in a form.
fn upload(place: &Installation) -> Result<Shot> {
    const BOUNDARY: &str = "havre-bench-form";
    let path = place.instance.root.join("sample.pdf");
    succeed(
        command("python3")
            .arg(place.project.join("make_pdf.py"))
            .arg(&path),
    )?;
    let pdf = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"sample.pdf\"\
         \r\nContent-Type: application/pdf\r\n\r\n"
    );
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let body = [head.as_bytes(), &pdf, tail.as_bytes()].concat();
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    Ok(Shot::post("/api/v1/jobs", &kind, body))
}

/// The seconds that each release took.
fn roll(place: &Installation, runtime: &tokio::runtime::Runtime, count: u32) -> Result<Vec<f64>> {
    let visitor = place.visitor()?;
    let mut times = Vec::new();
    for number in 1..=count {
        let version = format!("1.1.{number}");
        place.set_version(&version)?;
        restyle(place, number)?;
        let before = replicas(place)?;
        let took = place.up()?.as_secs_f64();
        let kept: Vec<String> = replicas(place)?.intersection(&before).cloned().collect();
        if !kept.is_empty() {
            bail!("a release left replicas in place: {}", kept.join(", "));
        }
        let answer = runtime.block_on(visitor.get("/api/v1/version"));
        let (_, text) = answer.map_err(anyhow::Error::msg)?;
        ensure!(text.contains(&version), "not {version} answers: {text}");
        say(&format!("rollout {number} of {count}: {took:.1} s"));
        times.push(took);
    }
    Ok(times)
}

fn restyle(place: &Installation, number: u32) -> Result<()> {
    let path = place.project.join(STYLES);
    let mut text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.push_str(&format!("\n.release-{number} {{ order: {number}; }}\n"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Replicas of the services that each release changes.
fn replicas(place: &Installation) -> Result<BTreeSet<String>> {
    let text = read(&mut place.havre(&["ps", "--json", "backend", "frontend"]))?;
    let found: Value = serde_json::from_str(&text).context("ps printed no JSON")?;
    let list = found.as_array().context("ps printed no list")?;
    let ids: BTreeSet<String> = list
        .iter()
        .filter_map(|replica| replica["id"].as_str())
        .map(str::to_owned)
        .collect();
    ensure!(!ids.is_empty(), "ps lists no replicas");
    Ok(ids)
}

fn tell_report(report: &LoadReport) {
    tell("requests that failed", report.failed as f64, "", 0.0);
    tell("streams that were cut", report.streams_cut as f64, "", 0.0);
    mention("requests", report.requests as f64, "");
    mention(
        "streams closed in good order",
        report.streams_closed as f64,
        "",
    );
    mention("streams refused", report.streams_refused as f64, "");
    mention("latency, median", report.p50_ms, "ms");
    mention("latency, 99th percentile", report.p99_ms, "ms");
    mention("longest time without a success", report.max_gap_ms, "ms");
    for (why, times) in &report.reasons {
        eprintln!("  {times} × {why}");
    }
    for failure in &report.first_failures {
        eprintln!("  {failure}");
    }
}
