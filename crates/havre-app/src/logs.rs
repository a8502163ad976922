//! Output of replicas, merged.

use std::collections::BTreeSet;
use std::sync::Arc;

use havre_api::{ApiError, EnvironmentId, ErrorCode, LogLine, LogQuery, LogSink, LogStream};
use havre_model::ServiceName;
use havre_release::{Line, OutputQuery, Release, ReplicaId, Stream, Target, TargetStatus, job_id};
use tokio::task::JoinSet;

use crate::daemon::Daemon;
use crate::labels::environment_key;
use crate::status;

/// So many releases back a job's output is looked for: `restart` and `rollback` run none.
const RELEASES_BACK: u64 = 64;

/// A replica whose output is asked for.
struct Source {
    service: ServiceName,
    replica: ReplicaId,
}

/// Sends what a query asks for. Without `follow`, the lines of all replicas in order of time.
pub(crate) async fn send(
    daemon: &Arc<Daemon>,
    query: LogQuery,
    lines: LogSink,
) -> Result<(), ApiError> {
    let environment = daemon.environment(&query.environment).await?;
    let target = &*environment.target;
    let tail = query
        .tail
        .map(|tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let past = OutputQuery {
        tail,
        since: query.since.map(Into::into),
        follow: false,
    };
    let snapshot = environment.status();
    status::expect_services(&query.services, &[&snapshot])?;
    let first = sources(&query.environment, &snapshot, &query.services, target);
    if !query.follow {
        return send_past(target, first, &past, &lines).await;
    }
    let mut watch = environment.watch();
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    let mut is_first = true;
    loop {
        let snapshot = watch.borrow_and_update().clone();
        for source in sources(&query.environment, &snapshot, &query.services, target) {
            if known.insert(source.replica.clone()) {
                // A replica that came later is read from its start.
                let query = if is_first {
                    past.clone()
                } else {
                    OutputQuery::default()
                };
                let query = OutputQuery {
                    follow: true,
                    ..query
                };
                readers.spawn(follow(
                    Arc::clone(&environment.target),
                    source,
                    query,
                    lines.clone(),
                ));
            }
        }
        is_first = false;
        tokio::select! {
            () = lines.closed() => return Ok(()),
            changed = watch.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Spools of all containers, and what those have left that are gone: the newest run of each job,
/// and all of a first release that failed.
fn sources(
    id: &EnvironmentId,
    snapshot: &TargetStatus,
    services: &[ServiceName],
    target: &dyn Target,
) -> Vec<Source> {
    let seen = snapshot.instances.iter();
    let mut all: Vec<(ServiceName, ReplicaId)> = seen
        .map(|one| (one.service.clone(), one.id.clone()))
        .collect();
    if let Some((number, release)) = snapshot.failed_first() {
        let left = release.ids(&environment_key(id), number);
        all.extend(left.into_iter().filter(|(_, id)| target.has_output(id)));
    }
    all.extend(newest_runs(id, snapshot, target));
    let mut told = BTreeSet::new();
    all.into_iter()
        .filter(|(service, _)| services.is_empty() || services.contains(service))
        .filter(|(_, replica)| told.insert(replica.clone()))
        .map(|(service, replica)| Source { service, replica })
        .collect()
}

/// The newest run of each job whose output is still there.
fn newest_runs(
    id: &EnvironmentId,
    snapshot: &TargetStatus,
    target: &dyn Target,
) -> Vec<(ServiceName, ReplicaId)> {
    let jobs: BTreeSet<_> = snapshot
        .releases
        .values()
        .flat_map(Release::all_jobs)
        .collect();
    let last_made = snapshot.releases.keys().next_back();
    let newest = last_made.copied().max(snapshot.desired.last_failed);
    let numbers = newest.map_or(0..=0, |newest| {
        newest.saturating_sub(RELEASES_BACK)..=newest
    });
    let key = environment_key(id);
    jobs.into_iter()
        .filter_map(|job| {
            let runs = numbers
                .clone()
                .rev()
                .map(|number| job_id(&key, &job, number));
            let run = { runs }.find(|run| target.has_output(run))?;
            Some((job.service, run))
        })
        .collect()
}

/// Merges by time, reading one line ahead in each spool.
async fn send_past(
    target: &dyn Target,
    sources: Vec<Source>,
    query: &OutputQuery,
    lines: &LogSink,
) -> Result<(), ApiError> {
    let failed = |error: std::io::Error| ApiError::from_error(ErrorCode::Failed, &error);
    let mut readers = Vec::new();
    for source in sources {
        let mut reader = target.output(&source.replica, query);
        if let Some(line) = reader.next().await.map_err(failed)? {
            readers.push((line, reader, source));
        }
    }
    while let Some(index) = (0..readers.len()).min_by_key(|index| readers[*index].0.at) {
        let (line, reader, source) = &mut readers[index];
        let sent = lines.send(log_line(source, line)).await;
        match reader.next().await.map_err(failed)? {
            Some(next) => *line = next,
            None => drop(readers.swap_remove(index)),
        }
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}

async fn follow(target: Arc<dyn Target>, source: Source, query: OutputQuery, lines: LogSink) {
    let mut reader = target.output(&source.replica, &query);
    loop {
        match reader.next().await {
            Ok(Some(line)) => {
                if lines.send(log_line(&source, &line)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(replica = %source.replica, %error, "output cannot be read");
                return;
            }
        }
    }
}

fn log_line(source: &Source, line: &Line) -> LogLine {
    LogLine {
        at: line.at.into(),
        service: source.service.clone(),
        replica: source.replica.to_string(),
        stream: match line.stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
        },
        text: line.text.clone(),
        partial: line.partial,
    }
}
