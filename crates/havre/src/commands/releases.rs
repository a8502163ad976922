//! `havre releases`, `rollback`, `pause`, `resume` and `abort`.

use havre_api::{
    Course, PlannedService, ReleaseId, ReleaseOrigin, ReleaseState, ReleaseStatus, Releases,
    ReleasesQuery, RequestCount, Rollback, RollbackRequest, Steer, SteerRequest, Timestamp,
};

use super::up;
use crate::cli::{ReleasesArgs, RollbackArgs, SteerArgs};
use crate::context::Context;
use crate::error::Outcome;
use crate::exit::Exit;
use crate::paint::Paint;
use crate::progress::verb;
use crate::table::Table;
use crate::{connect, human, progress};

pub async fn list(context: &Context, args: ReleasesArgs) -> Outcome {
    let ui = context.ui;
    let query = ReleasesQuery {
        environment: args.folder.project.environment()?,
        most: args.last,
    };
    let (client, _) = connect::running(context).await?;
    let releases = client.call::<Releases>(&query).await?;
    if args.json.json {
        ui.json(&releases)?;
    } else {
        ui.data(&render(&releases, ui.out, Timestamp::now()))?;
    }
    Ok(Exit::Ok)
}

pub async fn rollback(context: &Context, args: RollbackArgs) -> Outcome {
    let request = RollbackRequest {
        environment: args.project.environment()?,
        release: args.release.map(ReleaseId),
    };
    let client = connect::started(context).await?;
    let outcome =
        progress::follow::<Rollback>(&client, context.ui, &request.environment, &request).await?;
    up::print_outcome(context.ui, args.json.json, &outcome)
}

pub async fn steer(context: &Context, args: SteerArgs, course: Course) -> Outcome {
    let ui = context.ui;
    let request = SteerRequest {
        environment: args.folder.project.environment()?,
        course,
    };
    let client = connect::started(context).await?;
    let outcome = client.call::<Steer>(&request).await?;
    if args.json.json {
        ui.json(&outcome)?;
        return Ok(Exit::Ok);
    }
    let (environment, release) = (&request.environment, outcome.release);
    ui.note(&match (course, outcome.previous) {
        (Course::Pause, _) => format!(
            "the rollout of {environment} to release {release} is paused; `havre rollout resume` \
             continues it, `havre rollout abort` rolls it back"
        ),
        (Course::Resume, _) => {
            format!("the rollout of {environment} to release {release} continues")
        }
        (Course::Abort, Some(previous)) => {
            format!("{environment} rolls back to release {previous}; `havre status` shows how far")
        }
        (Course::Abort, None) => {
            format!("the first release of {environment} is given up; nothing will serve")
        }
    });
    Ok(Exit::Ok)
}

fn render(releases: &[ReleaseStatus], paint: Paint, now: Timestamp) -> String {
    let mut table = Table::new([
        "RELEASE", "MADE", "BY", "WHY", "STATE", "READY IN", "DONE IN", "REQUESTS", "CHANGES",
    ]);
    for release in releases {
        let mut lines = origin_lines(release)
            .into_iter()
            .chain(release.reason.clone())
            .chain(release.changes.iter().flat_map(change_lines));
        table.row(cells(release, now, lines.next().unwrap_or_default()));
        for line in lines {
            table.row_below(8, line);
        }
    }
    table.render(paint, "")
}

/// Where it comes from, as far as that is not told by why there is one.
fn origin_lines(release: &ReleaseStatus) -> Vec<String> {
    let Some(ReleaseOrigin {
        origin,
        promotion,
        approvals,
        overridden,
        said_by,
        ..
    }) = &release.origin
    else {
        return Vec::new();
    };
    let mut words = Vec::new();
    words.extend(promotion.map(|id| format!("promotion {id}")));
    words.extend(origin.commit.as_ref().map(|commit| {
        let short: String = commit.chars().take(12).collect();
        format!("commit {short}")
    }));
    words.extend(origin.run.as_ref().map(|run| format!("run {run}")));
    words.extend(
        origin
            .actor
            .as_ref()
            .map(|actor| format!("pushed by {actor}")),
    );
    words.extend(said_by.as_ref().map(|by| format!("as {by} says")));
    let people: Vec<&str> = approvals.iter().map(|one| one.by.as_str()).collect();
    if !people.is_empty() {
        words.push(format!("approved by {}", people.join(", ")));
    }
    let mut lines = Vec::new();
    if !words.is_empty() {
        lines.push(words.join(", "));
    }
    lines.extend(
        overridden
            .as_ref()
            .map(|reason| format!("override: {reason}")),
    );
    lines
}

fn cells(release: &ReleaseStatus, now: Timestamp, change: String) -> [String; 9] {
    let state = match release.state {
        ReleaseState::Serving => "serving",
        ReleaseState::UnderWay => "under way",
        ReleaseState::Served if release.kept => "served, kept",
        ReleaseState::Served => "served",
        ReleaseState::WentBack => "rolled back",
        ReleaseState::Superseded => "superseded",
    };
    let took = |ms: Option<u64>| ms.map(human::millis).unwrap_or_default();
    [
        release.release.to_string(),
        human::age(release.at.age_at(now)),
        release.by.clone().unwrap_or_default(),
        release.cause.clone(),
        state.to_owned(),
        took(release.prepared_ms),
        took(release.elapsed_ms),
        release.requests.as_ref().map(requests).unwrap_or_default(),
        change,
    ]
}

/// What became of the requests during the rollout, the bad news only where there is any.
fn requests(count: &RequestCount) -> String {
    let mut text = format!("{} served", count.served);
    for (number, what) in [(count.server_errors, "5xx"), (count.dropped, "dropped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    text
}

/// What became different of a service: one line, or one for each difference.
fn change_lines(planned: &PlannedService) -> Vec<String> {
    let what = format!("{} {}", verb(planned.action), planned.service);
    match planned.changes.as_slice() {
        [] => vec![what],
        changes => changes
            .iter()
            .map(|change| format!("{what}: {change}"))
            .collect(),
    }
}
