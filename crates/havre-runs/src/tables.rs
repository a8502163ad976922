//! The tables: rows in and out, nothing decided.

mod feeds;
mod legs;

use std::sync::Arc;

use data_encoding::HEXLOWER;
use havre_pipeline::run::{Conclusion, LegId};
use havre_store::rusqlite::types::Type;
use havre_store::rusqlite::{self, Connection, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::ports::{LegKey, RunId};
use crate::row::{Change, Row, of_word, word};

pub(crate) use feeds::Schedule;

/// Its versions.
pub const SCHEMA: Schema = Schema {
    name: "runs",
    migrations: &[include_str!("schema/001.sql")],
};

const COLUMNS: &str = "SELECT id, root, parent, parent_job, parent_leg, parent_attempt, project, path, workflow, actor, \
     queued_ms, ended_ms, facts, contexts, entered, forced, state, why, \
     (SELECT text FROM run_texts WHERE run_texts.digest = runs.digest) FROM runs ";

/// What is used up by runs that begin: done in one with them.
#[derive(Clone, Debug)]
pub(crate) enum Consumed {
    Nothing,
    /// Others were asked whether they follow.
    Outbox(RunId, &'static str),
    /// A time came; its next one.
    Time(Schedule),
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: RunId,
    /// Its number in the project; none of a called workflow.
    pub number: Option<u64>,
    /// The project.
    pub project: String,
    /// The workflow's file.
    pub path: String,
    /// The workflow's name.
    pub workflow: String,
    /// What the run is called.
    pub title: String,
    /// What happened, as `on` writes it.
    pub event: String,
    /// As git has it.
    pub reference: String,
    /// What ran.
    pub commit: String,
    /// Who.
    pub actor: String,
    /// When it was asked for, in milliseconds since 1970.
    pub queued_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// How.
    pub conclusion: Option<Conclusion>,
}

/// Which runs to list. What is not said excludes none.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of the workflow with this file or name.
    pub workflow: Option<String>,
    /// On this reference, as git has it.
    pub reference: Option<String>,
    /// Of this commit.
    pub commit: Option<String>,
    /// That did not end.
    pub live: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Tables(pub(crate) Arc<Store>);

impl Tables {
    /// A new run's id, and its numbers in the project and of its workflow. What is not used stays a gap.
    pub(crate) fn next(&self, project: &str, path: &str) -> Result<(RunId, u64, u64), StoreError> {
        let (project, path) = (project.to_owned(), path.to_owned());
        self.0.run("number a run", move |db| {
            let change = db.transaction()?;
            let count = |project: &str, path: &str| -> rusqlite::Result<u64> {
                let next = "INSERT INTO run_counters VALUES (?1, ?2, 1) \
                            ON CONFLICT (project, path) DO UPDATE SET last = last + 1 RETURNING last";
                change.query_row(next, params![project, path], |row| row.get(0))
            };
            let id = count("", "")?;
            let numbers = (count(&project, "")?, count(&project, &path)?);
            change.commit()?;
            let id = i64::try_from(id).map_err(|error| failed(Type::Integer, error))?;
            Ok((RunId(id), numbers.0, numbers.1))
        })
    }

    /// A called run's id.
    pub(crate) fn next_child(&self) -> Result<RunId, StoreError> {
        self.0.run("number a run", |db| {
            let next = "INSERT INTO run_counters VALUES ('', '', 1) \
                        ON CONFLICT (project, path) DO UPDATE SET last = last + 1 RETURNING last";
            db.query_row(next, [], |row| row.get(0)).map(RunId)
        })
    }

    /// Keeps runs that begin, and that others may want to follow them.
    pub(crate) fn insert(
        &self,
        rows: Vec<Row>,
        consumed: Consumed,
        outbox: bool,
    ) -> Result<(), StoreError> {
        self.0.run("keep runs that begin", move |db| {
            let change = db.transaction()?;
            for row in &rows {
                insert(&change, row)?;
                if outbox && row.parent.is_none() {
                    put_outbox(&change, row.id, "requested")?;
                    if row.change.conclusion().is_some() {
                        put_outbox(&change, row.id, "completed")?;
                    }
                }
            }
            match consumed {
                Consumed::Nothing => {}
                Consumed::Outbox(run, action) => {
                    let done = "DELETE FROM run_outbox WHERE run = ?1 AND action = ?2";
                    change.execute(done, params![run.0, action])?;
                }
                Consumed::Time(at) => {
                    let next = "UPDATE run_schedules SET next_ms = ?5 \
                                WHERE project = ?1 AND path = ?2 AND cron = ?3 AND timezone = ?4";
                    let values = params![at.project, at.path, at.cron, at.timezone, at.next_ms];
                    change.execute(next, values)?;
                }
            }
            change.commit()
        })
    }

    /// Keeps what became of a run; with its end, that others may want to follow; with a leg's, why.
    pub(crate) fn update(
        &self,
        row: &Row,
        outbox: Option<&'static str>,
        leg: Option<(LegKey, String)>,
    ) -> Result<(), StoreError> {
        let (id, queued, change) = (row.id, row.queued_ms, row.change.clone());
        self.0.run("keep what became of a run", move |db| {
            let transaction = db.transaction()?;
            let Change { entered, forced, state, ended_ms, why } = &change;
            let conclusion = change.conclusion().map(word);
            transaction.execute(
                "UPDATE runs SET entered = ?2, forced = ?3, state = ?4, conclusion = ?5, ended_ms = ?6, why = ?7, \
                 queued_ms = ?8 WHERE id = ?1",
                params![id.0, entered, forced, text(state)?, conclusion, ended_ms, why, queued],
            )?;
            if let Some(action) = outbox {
                put_outbox(&transaction, id, action)?;
            }
            if let Some((key, why)) = &leg {
                transaction.execute(
                    "INSERT INTO run_legs VALUES (?1, ?2, ?3, ?4, '{}', ?5) \
                     ON CONFLICT (run, job, leg, attempt) DO UPDATE SET why = excluded.why",
                    params![key.run.0, key.leg.job, key.leg.index, key.leg.attempt, why],
                )?;
            }
            transaction.commit()
        })
    }

    /// Runs that did not end, and those that they called.
    pub(crate) fn live(&self) -> Result<Vec<Row>, StoreError> {
        self.0.run("list runs", |db| {
            let of = format!(
                "{COLUMNS} WHERE conclusion IS NULL \
                 OR parent IN (SELECT id FROM runs WHERE conclusion IS NULL) ORDER BY id"
            );
            db.prepare(&of)?.query_map([], row)?.collect()
        })
    }

    pub(crate) fn row(&self, run: RunId) -> Result<Option<Row>, StoreError> {
        self.0.run("look up a run", move |db| {
            let of = format!("{COLUMNS} WHERE id = ?1");
            db.query_row(&of, [run.0], row).optional()
        })
    }

    /// The run of a number.
    pub(crate) fn numbered(&self, project: &str, number: u64) -> Result<Option<RunId>, StoreError> {
        let project = project.to_owned();
        self.0.run("look up a run", move |db| {
            let of = "SELECT id FROM runs WHERE project = ?1 AND number = ?2";
            let row = db.query_row(of, params![project, number], |row| row.get(0).map(RunId));
            row.optional()
        })
    }

    /// A run and all that were called for it, itself first.
    pub(crate) fn family(&self, root: RunId) -> Result<Vec<RunId>, StoreError> {
        self.0.run("list called runs", move |db| {
            let of = "SELECT id FROM runs WHERE root = ?1 ORDER BY id";
            db.prepare(of)?
                .query_map([root.0], |row| row.get(0).map(RunId))?
                .collect()
        })
    }

    /// The newest runs of a project before one, that nobody called.
    pub(crate) fn list(
        &self,
        project: &str,
        filter: &Filter,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreError> {
        let (project, filter) = (project.to_owned(), filter.clone());
        self.0.run("list runs", move |db| {
            let of = "SELECT id, number, project, path, workflow, facts ->> 'title', event, reference, commit_id, \
                 actor, queued_ms, ended_ms, conclusion FROM runs \
                 WHERE project = ?1 AND parent IS NULL AND id < ?2 \
                 AND (?3 IS NULL OR path = ?3 OR workflow = ?3) AND (?4 IS NULL OR reference = ?4) \
                 AND (?5 IS NULL OR commit_id = ?5) AND (NOT ?6 OR conclusion IS NULL) \
                 ORDER BY number DESC LIMIT ?7";
            let values = params![
                project,
                before.map_or(i64::MAX, |run| run.0),
                filter.workflow,
                filter.reference,
                filter.commit,
                filter.live,
                limit
            ];
            db.prepare(of)?.query_map(values, listed)?.collect()
        })
    }

    pub(crate) fn listed(&self, run: RunId) -> Result<Option<Listed>, StoreError> {
        self.0.run("look up a run", move |db| {
            let of = "SELECT id, number, project, path, workflow, facts ->> 'title', event, reference, commit_id, \
                 actor, queued_ms, ended_ms, conclusion FROM runs WHERE id = ?1";
            db.query_row(of, [run.0], listed).optional()
        })
    }

    /// Runs that legs of a run called.
    pub(crate) fn called(&self, run: RunId) -> Result<Vec<(LegKey, RunId)>, StoreError> {
        self.0.run("list called runs", move |db| {
            let of =
                "SELECT parent_job, parent_leg, parent_attempt, id FROM runs WHERE parent = ?1";
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map([run.0], |row| {
                let leg = LegId {
                    job: row.get(0)?,
                    index: row.get(1)?,
                    attempt: row.get(2)?,
                };
                Ok((LegKey { run, leg }, RunId(row.get(3)?)))
            })?;
            rows.collect()
        })
    }

    /// Ends a run of which nothing can be decided any more.
    pub(crate) fn give_up(&self, run: RunId, why: &str, now: u64) -> Result<(), StoreError> {
        let why = why.to_owned();
        self.0.run("end a run", move |db| {
            let end =
                "UPDATE runs SET conclusion = 'failure', why = ?2, ended_ms = ?3 WHERE id = ?1";
            db.execute(end, params![run.0, why, now]).map(drop)
        })
    }

    /// Finished runs that nobody called, the newest first, with their projects and ends.
    pub(crate) fn finished(&self) -> Result<Vec<(RunId, String, u64)>, StoreError> {
        self.0.run("list finished runs", |db| {
            let of = "SELECT id, project, ended_ms FROM runs \
                      WHERE conclusion IS NOT NULL AND parent IS NULL ORDER BY project, id DESC";
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map([], |row| {
                let ended: Option<u64> = row.get(2)?;
                Ok((RunId(row.get(0)?), row.get(1)?, ended.unwrap_or_default()))
            })?;
            rows.collect()
        })
    }

    /// Forgets a finished run and all that it called.
    pub(crate) fn forget(&self, root: RunId) -> Result<(), StoreError> {
        self.0.run("forget a run", move |db| {
            let change = db.transaction()?;
            for table in ["run_legs", "run_summaries", "run_outbox"] {
                let of = format!(
                    "DELETE FROM {table} WHERE run IN (SELECT id FROM runs WHERE root = ?1)"
                );
                change.execute(&of, [root.0])?;
            }
            change.execute("DELETE FROM runs WHERE root = ?1", [root.0])?;
            let unused = "DELETE FROM run_texts WHERE digest NOT IN (SELECT digest FROM runs)";
            change.execute(unused, [])?;
            change.commit()
        })
    }
}

fn insert(db: &Connection, row: &Row) -> rusqlite::Result<()> {
    let digest = HEXLOWER.encode(&Sha256::digest(row.text.as_bytes()));
    let put = "INSERT OR IGNORE INTO run_texts VALUES (?1, ?2)";
    db.execute(put, params![digest, &*row.text])?;
    let parent = row.parent.as_ref();
    db.execute(
        "INSERT INTO runs (id, root, parent, parent_job, parent_leg, parent_attempt, project, number, path, workflow, \
         event, reference, commit_id, actor, queued_ms, ended_ms, digest, facts, contexts, entered, forced, state, \
         conclusion, why) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
         ?20, ?21, ?22, ?23, ?24)",
        params![
            row.id.0,
            row.root.0,
            parent.map(|key| key.run.0),
            parent.map(|key| key.leg.job.as_str()),
            parent.map(|key| key.leg.index),
            parent.map(|key| key.leg.attempt),
            row.project,
            parent.is_none().then_some(row.facts.number),
            row.path,
            row.workflow,
            row.facts.event.name(),
            row.facts.reference,
            row.facts.source.commit,
            row.actor,
            row.queued_ms,
            row.change.ended_ms,
            digest,
            text(&row.facts)?,
            text(&row.contexts)?,
            row.change.entered,
            row.change.forced,
            text(&row.change.state)?,
            row.change.conclusion().map(word),
            row.change.why,
        ],
    )
    .map(drop)
}

fn put_outbox(db: &Connection, run: RunId, action: &str) -> rusqlite::Result<()> {
    let put = "INSERT OR IGNORE INTO run_outbox VALUES (?1, ?2)";
    db.execute(put, params![run.0, action]).map(drop)
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let id = RunId(row.get(0)?);
    let parent: Option<i64> = row.get(2)?;
    let parent = match parent {
        None => None,
        Some(run) => Some(LegKey {
            run: RunId(run),
            leg: LegId {
                job: row.get(3)?,
                index: row.get(4)?,
                attempt: row.get(5)?,
            },
        }),
    };
    let workflow: String = row.get(18)?;
    Ok(Row {
        id,
        root: RunId(row.get(1)?),
        parent,
        project: row.get(6)?,
        path: row.get(7)?,
        workflow: row.get(8)?,
        actor: row.get(9)?,
        queued_ms: row.get(10)?,
        text: workflow.into(),
        facts: parse(&row.get::<_, String>(12)?)?,
        contexts: parse(&row.get::<_, String>(13)?)?,
        change: Change {
            entered: row.get(14)?,
            forced: row.get(15)?,
            state: parse(&row.get::<_, String>(16)?)?,
            ended_ms: row.get(11)?,
            why: row.get(17)?,
        },
    })
}

fn listed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Listed> {
    let conclusion: Option<String> = row.get(12)?;
    Ok(Listed {
        id: RunId(row.get(0)?),
        number: row.get(1)?,
        project: row.get(2)?,
        path: row.get(3)?,
        workflow: row.get(4)?,
        title: row.get(5)?,
        event: row.get(6)?,
        reference: row.get(7)?,
        commit: row.get(8)?,
        actor: row.get(9)?,
        queued_ms: row.get(10)?,
        ended_ms: row.get(11)?,
        conclusion: conclusion.as_deref().and_then(of_word),
    })
}

fn text<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn parse<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| failed(Type::Text, error))
}

fn failed(kind: Type, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, kind, error.into())
}
