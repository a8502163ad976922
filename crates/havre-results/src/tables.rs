//! What is known of artifacts and caches, on disk. Times are milliseconds since 1970.

mod artifacts;
mod caches;
mod evictions;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use havre_store::rusqlite::{OptionalExtension as _, Transaction, params};
use havre_store::{Schema, Store, StoreError};

use crate::blobs::Known;

pub(crate) use artifacts::{ArtifactRow, NewArtifact, Published};
pub(crate) use caches::{CacheRow, Lookup, NewCache};

/// Its versions.
pub const SCHEMA: Schema = Schema {
    name: "results",
    migrations: &[include_str!("schema/001.sql")],
};

/// Most unfinished uploads of a job at a time, of artifacts and of caches each.
const MAX_PENDING: u32 = 256;

#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// It stands; folders of what was in its place are to go.
    Made(Option<Gone>),
    /// Somebody else's stands.
    Taken {
        /// Whether that one is finished.
        is_published: bool,
    },
    /// There are too many.
    TooMany,
}

/// A row that is there no more, and whose files are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) folder: String,
    /// Bytes, where it was published.
    pub(crate) published: Option<u64>,
}

/// Milliseconds since 1970; 0 on a machine whose clock stands before it.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        })
}

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// All folders. `most` bytes may each upload of an artifact, or of a cache, have.
    pub(crate) fn known(&self, artifact: u64, cache: u64) -> Result<Known, StoreError> {
        self.0.run("list artifacts and caches", move |db| {
            let mut known = Known::default();
            for (table, most) in [("artifacts", artifact), ("caches", cache)] {
                let query = format!("SELECT folder, published, size FROM results_{table}");
                let mut statement = db.prepare(&query)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    match row.get(1)? {
                        true => known.published.insert(row.get(0)?, row.get(2)?),
                        false => known.uploads.insert(row.get(0)?, most),
                    };
                }
            }
            Ok(known)
        })
    }

    /// Forgets artifacts and caches whose files are not there.
    pub(crate) fn forget_folders(&self, folders: Vec<String>) -> Result<(), StoreError> {
        self.0.run("forget what is lost", move |db| {
            let change = db.transaction()?;
            for folder in folders {
                for table in ["artifacts", "caches"] {
                    let delete = format!("DELETE FROM results_{table} WHERE folder = ?1");
                    change.execute(&delete, [&folder])?;
                }
            }
            change.commit()
        })
    }

    /// Ends a job: its tokens hold no more, and what it did not finish is given up.
    pub(crate) fn end(&self, run: &str, job: &str) -> Result<Vec<Gone>, StoreError> {
        let (run, job) = (run.to_owned(), job.to_owned());
        self.0.run("end a job", move |db| {
            let change = db.transaction()?;
            change.execute(
                "INSERT OR REPLACE INTO results_ended VALUES (?1, ?2, ?3)",
                params![run, job, now_ms()],
            )?;
            let mut gone = Vec::new();
            for table in ["artifacts", "caches"] {
                let delete = format!(
                    "DELETE FROM results_{table} WHERE run = ?1 AND job = ?2 AND published = 0 RETURNING folder"
                );
                gone.extend(unfinished(&change, &delete, params![run, job])?);
            }
            change.commit()?;
            Ok(gone)
        })
    }

    /// Whether a job has ended.
    pub(crate) fn has_ended(&self, run: &str, job: &str) -> Result<bool, StoreError> {
        let (run, job) = (run.to_owned(), job.to_owned());
        self.0.run("look a job up", move |db| {
            let query = "SELECT 1 FROM results_ended WHERE run = ?1 AND job = ?2";
            let found: Option<i64> = db
                .query_row(query, [run, job], |row| row.get(0))
                .optional()?;
            Ok(found.is_some())
        })
    }

    /// Gives uploads up whose token is over, and forgets jobs that ended before `before`.
    pub(crate) fn expire(&self, now: i64, before: i64) -> Result<Vec<Gone>, StoreError> {
        self.0.run("give unfinished uploads up", move |db| {
            let change = db.transaction()?;
            change.execute("DELETE FROM results_ended WHERE at < ?1", [before])?;
            let mut gone = Vec::new();
            for table in ["artifacts", "caches"] {
                let delete = format!(
                    "DELETE FROM results_{table} WHERE published = 0 AND expires <= ?1 RETURNING folder"
                );
                gone.extend(unfinished(&change, &delete, params![now])?);
            }
            change.commit()?;
            Ok(gone)
        })
    }
}

fn unfinished(
    change: &Transaction<'_>,
    delete: &str,
    parameters: &[&dyn havre_store::rusqlite::ToSql],
) -> havre_store::rusqlite::Result<Vec<Gone>> {
    let gone = |row: &havre_store::rusqlite::Row<'_>| {
        Ok(Gone {
            folder: row.get(0)?,
            published: None,
        })
    };
    change
        .prepare(delete)?
        .query_map(parameters, gone)?
        .collect()
}
