//! Load on the example over HTTPS: pages, calls, uploads, event streams and WebSockets.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use havre_testing::load::{self, LoadPlan, LoadReport, Shot, Streams};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::figures::{mention, print_figure};
use super::installation::Installation;
use crate::shell::{command, read, succeed};

/// A little above what is promised, since a pace is never met exactly.
const RATE: f64 = 310.0;
/// Requests a second that a report must have seen.
pub const LEAST_RATE: f64 = 300.0;
const EVENT_STREAMS: usize = 5;
const WEBSOCKETS: usize = 20;
/// Shares of the requests beside one upload. What asks the database is the smaller part: the
/// figure is about releases, and an application that drowns fails without one.
const SHARES: &[(&str, u32)] = &[
    ("/", 100),
    ("/live/", 150),
    ("/api/v1/health/live", 350),
    ("/api/v1/jobs", 60),
];
/// A POST for so many other requests.
const POSTS: u32 = 60;

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

/// Load that goes on until it is ended.
pub struct Load {
    runtime: Runtime,
    end: CancellationToken,
    running: JoinHandle<Result<LoadReport, load::PlanError>>,
    least_rate: f64,
}

impl Load {
    /// On everything the application has.
    pub fn start(place: &Installation) -> Result<Self> {
        Self::of(plan(place)?, LEAST_RATE)
    }

    /// As the plan says, with at least so many requests a second.
    pub fn of(plan: LoadPlan, least_rate: f64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let end = CancellationToken::new();
        let running = runtime.spawn(load::run(plan, end.clone()));
        Ok(Self {
            runtime,
            end,
            running,
            least_rate,
        })
    }

    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends it; an error where it was less than promised.
    pub fn finish(self) -> Result<LoadReport> {
        self.end.cancel();
        let report = self.runtime.block_on(self.running);
        let report = report.context("the load ended early")??;
        let rate = report.requests as f64 / report.seconds;
        ensure!(
            rate >= self.least_rate,
            "the load was {rate:.0} requests a second, not {}",
            self.least_rate
        );
        Ok(report)
    }
}

fn plan(place: &Installation) -> Result<LoadPlan> {
    let id = read(&mut place.havre(&["exec", "backend", "python", "-c", HELD_JOB]))?;
    let id = id.trim();
    ensure!(!id.is_empty(), "no job was made for the event streams");
    let mut plan = place.plan()?;
    plan.rate = RATE;
    plan.websockets = Streams {
        count: WEBSOCKETS,
        path: "/live/socket".to_owned(),
    };
    plan.event_streams = Streams {
        count: EVENT_STREAMS,
        path: format!("/api/v1/jobs/{id}/events"),
    };
    plan.shots = SHARES
        .iter()
        .map(|(path, weight)| Shot {
            weight: *weight,
            ..Shot::get(path)
        })
        .collect();
    plan.shots.push(Shot {
        weight: POSTS,
        ..Shot::post("/live/post", "text/plain", vec![b'x'; 2000])
    });
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

pub fn print_report(report: &LoadReport) {
    print_figure("requests that failed", report.failed as f64, "", 0.0);
    print_figure("streams that were cut", report.streams_cut as f64, "", 0.0);
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
