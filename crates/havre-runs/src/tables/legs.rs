//! What legs told.

use havre_pipeline::run::LegId;
use havre_store::StoreError;
use havre_store::rusqlite::params;

use super::{Tables, parse, text};
use crate::ports::{LegKey, RunId};
use crate::record::Record;

/// An attempt of a leg, what it told, and why it ended as it did.
pub(crate) type ToldOf = (LegKey, Option<Record>, Option<String>);

impl Tables {
    pub(crate) fn put_record(&self, key: &LegKey, record: &Record) -> Result<(), StoreError> {
        let (key, record) = (key.clone(), record.clone());
        self.0.run("keep what a leg told", move |db| {
            db.execute(
                "INSERT INTO run_legs VALUES (?1, ?2, ?3, ?4, ?5, NULL) \
                 ON CONFLICT (run, job, leg, attempt) DO UPDATE SET record = excluded.record",
                params![
                    key.run.0,
                    key.leg.job,
                    key.leg.index,
                    key.leg.attempt,
                    text(&record)?
                ],
            )
            .map(drop)
        })
    }

    /// What was told of the legs of a run, in all attempts, and why they ended as they did.
    pub(crate) fn records(&self, run: RunId) -> Result<Vec<ToldOf>, StoreError> {
        self.0.run("look up what legs told", move |db| {
            let of = "SELECT job, leg, attempt, record, why FROM run_legs WHERE run = ?1";
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map([run.0], |row| {
                let leg = LegId {
                    job: row.get(0)?,
                    index: row.get(1)?,
                    attempt: row.get(2)?,
                };
                let record: String = row.get(3)?;
                let record = match record.as_str() {
                    "{}" => None,
                    record => Some(parse(record)?),
                };
                Ok((LegKey { run, leg }, record, row.get(4)?))
            })?;
            rows.collect()
        })
    }

    pub(crate) fn put_summary(
        &self,
        key: &LegKey,
        step: u32,
        text: &str,
    ) -> Result<(), StoreError> {
        let (key, text) = (key.clone(), text.to_owned());
        self.0.run("keep a step's summary", move |db| {
            db.execute(
                "INSERT OR REPLACE INTO run_summaries VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key.run.0,
                    key.leg.job,
                    key.leg.index,
                    key.leg.attempt,
                    step,
                    text
                ],
            )
            .map(drop)
        })
    }

    /// The summaries of an attempt of a leg, by their steps.
    pub(crate) fn summaries(&self, key: &LegKey) -> Result<Vec<(u32, String)>, StoreError> {
        let key = key.clone();
        self.0.run("look up summaries", move |db| {
            let of = "SELECT step, text FROM run_summaries \
                      WHERE run = ?1 AND job = ?2 AND leg = ?3 AND attempt = ?4 ORDER BY step";
            let values = params![key.run.0, key.leg.job, key.leg.index, key.leg.attempt];
            let mut statement = db.prepare(of)?;
            let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }
}
