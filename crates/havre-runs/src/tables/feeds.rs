//! What starts by itself.

use havre_store::StoreError;
use havre_store::rusqlite::params;

use super::Tables;
use crate::ports::RunId;

/// A time at which a workflow starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) project: String,
    pub(crate) path: String,
    pub(crate) cron: String,
    pub(crate) timezone: String,
    pub(crate) next_ms: u64,
}

impl Tables {
    /// What others were not asked about yet, the oldest first.
    pub(crate) fn outbox(&self) -> Result<Vec<(RunId, String)>, StoreError> {
        self.0.run("look what others may follow", |db| {
            let of = "SELECT run, action FROM run_outbox ORDER BY run, action DESC LIMIT 100";
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map([], |row| Ok((RunId(row.get(0)?), row.get(1)?)))?;
            rows.collect()
        })
    }

    /// Replaces the times of a project.
    pub(crate) fn put_schedules(
        &self,
        project: &str,
        schedules: Vec<Schedule>,
    ) -> Result<(), StoreError> {
        let project = project.to_owned();
        self.0
            .run("keep times at which workflows start", move |db| {
                let change = db.transaction()?;
                change.execute("DELETE FROM run_schedules WHERE project = ?1", [&project])?;
                for at in &schedules {
                    change.execute(
                        "INSERT OR IGNORE INTO run_schedules VALUES (?1, ?2, ?3, ?4, ?5)",
                        params![project, at.path, at.cron, at.timezone, at.next_ms],
                    )?;
                }
                change.commit()
            })
    }

    pub(crate) fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        self.0.run("look up times at which workflows start", |db| {
            let of =
                "SELECT project, path, cron, timezone, next_ms FROM run_schedules ORDER BY next_ms";
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map([], |row| {
                Ok(Schedule {
                    project: row.get(0)?,
                    path: row.get(1)?,
                    cron: row.get(2)?,
                    timezone: row.get(3)?,
                    next_ms: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }
}
