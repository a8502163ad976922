//! What starts by itself: workflows that follow others, and those whose time came.

use std::sync::Arc;

use havre_pipeline::Event;
use jiff::Timestamp;
use serde_json::{Map, json};

use crate::begin::How;
use crate::book::Inner;
use crate::cron::{Cron, CronError, zone};
use crate::defined;
use crate::error::RunsError;
use crate::ports::{RunId, SourcesError};
use crate::row::{Row, word};
use crate::tables::{Consumed, Schedule};
use crate::trigger::{Source, Trigger};

/// Runs in a row that each follow another; GitHub's bound.
const MAX_CHAIN: u32 = 3;
/// The time of what comes never: the last that the database can hold.
const NEVER: u64 = i64::MAX as u64;
/// How long it is tried to start what follows a run, in milliseconds.
const MAX_TRIED: u64 = 3_600_000;
/// How late a time may be that was missed, in milliseconds: what was due longer ago waits for its next time.
const MAX_LATE: u64 = 24 * 3_600_000;

pub(super) async fn feed(inner: Arc<Inner>) -> Result<(), RunsError> {
    inner.book().outbox = false;
    let followed = follow_all(&inner).await;
    let started = times(&inner).await;
    let more = !inner.tables.outbox()?.is_empty();
    inner.book().outbox |= more;
    inner.poke.notify_one();
    followed.and(started)
}

/// One that cannot be read keeps no other from starting.
async fn follow_all(inner: &Inner) -> Result<(), RunsError> {
    let mut failed = Ok(());
    for (run, action) in inner.tables.outbox()? {
        let action = match action.as_str() {
            "requested" => "requested",
            _ => "completed",
        };
        if let Err(error) = follow(inner, run, action).await {
            failed = Err(error);
        }
    }
    failed
}

/// Starts what follows a run.
async fn follow(inner: &Inner, run: RunId, action: &'static str) -> Result<(), RunsError> {
    let consumed = Consumed::Outbox(run, action);
    let row = inner.tables.row(run)?;
    let followable = row.filter(|row| {
        let since = row.change.ended_ms.unwrap_or(row.queued_ms);
        row.facts.chain < MAX_CHAIN && since.saturating_add(MAX_TRIED) > inner.now()
    });
    let newest = match &followable {
        None => None,
        Some(row) => newest(inner, &row.project).await?,
    };
    let (Some(row), Some(source)) = (followable, newest) else {
        let mut book = inner.book();
        return inner.insert(&mut book, Vec::new(), consumed);
    };
    let how = How {
        only: None,
        except: Vec::new(),
        jobs: Vec::new(),
        chain: row.facts.chain + 1,
        consumed,
    };
    told(inner.begin(&followed(&row, source, action), how).await)
}

/// What cannot start is told, and not tried for ever.
fn told(outcome: Result<crate::begin::Outcome, RunsError>) -> Result<(), RunsError> {
    match outcome {
        Ok(outcome) => {
            for not in outcome.not_started.iter().filter(|not| not.wrong) {
                tracing::warn!(
                    path = not.path,
                    why = not.why,
                    "a workflow does not start by itself"
                );
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn followed(row: &Row, source: Source, action: &str) -> Trigger {
    let conclusion = row.change.conclusion();
    let run = json!({
        "id": row.id.0,
        "name": row.workflow,
        "path": row.path,
        "display_title": row.facts.title,
        "run_number": row.facts.number,
        "run_attempt": row.change.state.attempt,
        "event": row.facts.event.name(),
        "status": match conclusion { None => "in_progress", Some(_) => "completed" },
        "conclusion": conclusion.map(word),
        "head_branch": row.facts.event.reference().name(),
        "head_sha": row.facts.source.commit,
        "actor": {"login": row.actor},
    });
    let payload: Map<String, serde_json::Value> =
        [("workflow_run".to_owned(), run)].into_iter().collect();
    Trigger {
        project: row.project.clone(),
        event: Event::WorkflowRun {
            workflow: row.workflow.clone(),
            action: action.to_owned(),
            ran_on: row.facts.event.reference().name().to_owned(),
            branch: source.default_branch.clone(),
        },
        source,
        before: None,
        forced: false,
        actor: row.actor.clone(),
        payload: Some(payload),
        // It runs what is on the default branch, whoever made it run.
        foreign: false,
    }
}

async fn newest(inner: &Inner, project: &str) -> Result<Option<Source>, RunsError> {
    let newest = inner.ports.sources.newest(project).await;
    newest.map_err(|source| unread(project, source))
}

fn unread(project: &str, source: SourcesError) -> RunsError {
    RunsError::Sources {
        project: project.to_owned(),
        source,
    }
}

/// Starts what is due by its time.
async fn times(inner: &Inner) -> Result<(), RunsError> {
    let now = inner.now();
    let mut failed = Ok(());
    let schedules = inner.tables.schedules()?;
    for schedule in schedules.into_iter().filter(|at| at.next_ms <= now) {
        if let Err(error) = time(inner, schedule, now).await {
            failed = Err(error);
        }
    }
    let first = inner.tables.schedules()?.first().map(|at| at.next_ms);
    inner.book().schedule_ms = first;
    failed
}

async fn time(inner: &Inner, schedule: Schedule, now: u64) -> Result<(), RunsError> {
    let late = now.saturating_sub(schedule.next_ms);
    let next = match next(&schedule.cron, &schedule.timezone, now) {
        Ok(next) => next.unwrap_or(NEVER),
        Err(error) => {
            tracing::warn!(
                path = schedule.path,
                error = error.to_string(),
                "a time is none any more"
            );
            NEVER
        }
    };
    let consumed = Consumed::Time(Schedule {
        next_ms: next,
        ..schedule.clone()
    });
    let newest = match late > MAX_LATE {
        true => None,
        false => newest(inner, &schedule.project).await?,
    };
    let Some(source) = newest else {
        let mut book = inner.book();
        return inner.insert(&mut book, Vec::new(), consumed);
    };
    let trigger = Trigger {
        project: schedule.project,
        event: Event::Schedule {
            cron: schedule.cron,
            branch: source.default_branch.clone(),
        },
        actor: source.author.0.clone(),
        source,
        before: None,
        forced: false,
        payload: None,
        foreign: false,
    };
    let how = How {
        only: Some(schedule.path),
        except: Vec::new(),
        jobs: Vec::new(),
        chain: 0,
        consumed,
    };
    told(inner.begin(&trigger, how).await)
}

fn next(cron: &str, timezone: &str, after: u64) -> Result<Option<u64>, CronError> {
    let zone = zone(timezone)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let after = Timestamp::from_millisecond(after).unwrap_or(Timestamp::MAX);
    let next = Cron::parse(cron)?.next(after, &zone);
    Ok(next.and_then(|next| u64::try_from(next.as_millisecond()).ok()))
}

/// Takes the times of a project's workflows from the newest commit of its default branch; what is wrong with them.
pub(crate) async fn refresh(inner: &Inner, project: &str) -> Result<Vec<String>, RunsError> {
    let mut schedules = Vec::new();
    let mut wrong = Vec::new();
    if let Some(source) = newest(inner, project).await? {
        let files = inner.ports.sources.workflows(project, &source.commit).await;
        for (path, bytes) in files.map_err(|source| unread(project, source))? {
            let text = String::from_utf8_lossy(&bytes);
            let Ok(workflow) = defined::workflow(&path, &text) else {
                continue;
            };
            for time in &workflow.on.schedule {
                let cron = time.cron.value.clone();
                let timezone = time.timezone.as_ref();
                let timezone = timezone.map_or(String::new(), |zone| zone.value.clone());
                match next(&cron, &timezone, inner.now()) {
                    Ok(next) => schedules.push(Schedule {
                        project: project.to_owned(),
                        path: path.clone(),
                        cron,
                        timezone,
                        next_ms: next.unwrap_or(NEVER),
                    }),
                    Err(error) => wrong.push(format!("{path}: {error}")),
                }
            }
        }
    }
    inner.tables.put_schedules(project, schedules)?;
    let first = inner.tables.schedules()?.first().map(|at| at.next_ms);
    inner.book().schedule_ms = first;
    inner.poke.notify_one();
    Ok(wrong)
}
