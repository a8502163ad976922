//! Open-loop load over HTTP or HTTPS, with exact accounting of what failed and which streams were cut.
//!
//! Requests start at their planned instants whether or not earlier ones are answered, and latency
//! counts from the planned instant: a server that stops for a second shows a second.
//!
//! A request has failed when it could not connect, was reset, had no answer in time, an answer outside
//! the expected statuses, or a body that ended early. The one case that is tried again is a kept
//! connection that was closed before anything was sent on it, as every client does.

mod connect;
mod once;
mod plan;
mod report;
mod requests;
mod streams;

pub use once::Visitor;
pub use plan::{LoadPlan, PlanError, Shot, Streams};
pub use report::LoadReport;

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connect::Connector;
use report::Tally;

/// Runs a plan until its duration is over or `cancel` is called, waits for what is under way, and
/// counts.
pub async fn run(plan: LoadPlan, cancel: CancellationToken) -> Result<LoadReport, PlanError> {
    let connector = Arc::new(Connector::new(&plan)?);
    let plan = Arc::new(plan);
    let tally = Arc::new(Tally::new(Instant::now()));
    let end = cancel.child_token();
    let tasks = TaskTracker::new();
    for number in 0..plan.websockets.count {
        let load = streams::Load::new(&plan, &connector, &tally, &end);
        tasks.spawn(async move { load.websocket(number).await });
    }
    for number in 0..plan.event_streams.count {
        let load = streams::Load::new(&plan, &connector, &tally, &end);
        tasks.spawn(async move { load.event_stream(number).await });
    }
    let requests = requests::Pacer::new(&plan, &connector, &tally, &tasks);
    match plan.duration {
        Some(duration) => drop(tokio::time::timeout(duration, requests.run(&end)).await),
        None => requests.run(&end).await,
    }
    end.cancel();
    tasks.close();
    // Each task has its own deadline.
    tasks.wait().await;
    Ok(tally.report(Instant::now()))
}
