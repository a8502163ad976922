//! Caches that went without being asked to.

use havre_store::StoreError;
use havre_store::rusqlite::{self, OptionalExtension as _, Row, params};

use super::{CacheRow, Gone, Lookup, Tables, now_ms};
use crate::shown::{Eviction, Why};

/// How many are remembered.
const KEPT: u32 = 1000;
const COLUMNS: &str = "at, scope, key, version, size, why";

impl Tables {
    /// Removes caches, and remembers that. Those that went by themselves meanwhile are left out.
    pub(crate) fn evict(&self, rows: Vec<CacheRow>, why: Why) -> Result<Vec<Gone>, StoreError> {
        self.0.run("evict caches", move |db| {
            let change = db.transaction()?;
            let mut gone = Vec::new();
            for row in rows {
                let delete = "DELETE FROM results_caches WHERE id = ?1 AND published = 1";
                if change.execute(delete, [row.id])? == 0 {
                    continue;
                }
                change.execute(
                    "INSERT INTO results_evictions (at, repository, scope, key, version, size, why) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        now_ms(), row.repository, row.scope, row.key, row.version, row.size, why.word()
                    ],
                )?;
                gone.push(Gone {
                    folder: row.folder,
                    published: Some(row.size),
                });
            }
            change.execute(
                "DELETE FROM results_evictions WHERE id <= (SELECT max(id) FROM results_evictions) - ?1",
                [KEPT],
            )?;
            change.commit()?;
            Ok(gone)
        })
    }

    /// What is remembered of a repository, the newest first.
    pub(crate) fn evictions(&self, repository: &str) -> Result<Vec<Eviction>, StoreError> {
        let repository = repository.to_owned();
        self.0.run("list evicted caches", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_evictions WHERE repository = ?1 ORDER BY id DESC"
            );
            db.prepare(&query)?.query_map([repository], read)?.collect()
        })
    }

    /// The newest of those that a lookup would have found under its whole key.
    pub(crate) fn evicted(&self, lookup: Lookup) -> Result<Option<Eviction>, StoreError> {
        let Some(key) = lookup.keys.into_iter().next() else {
            return Ok(None);
        };
        let (repository, version, scopes) = (lookup.repository, lookup.version, lookup.scopes);
        self.0.run("look an evicted cache up", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_evictions WHERE repository = ?1 AND key = ?2 \
                 AND version = ?3 AND scope = ?4 ORDER BY id DESC LIMIT 1"
            );
            for scope in scopes {
                let parameters = params![repository, key, version, scope];
                let found = db.query_row(&query, parameters, read).optional()?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Eviction> {
    let why: String = row.get(5)?;
    Ok(Eviction {
        at_ms: row.get(0)?,
        scope: row.get(1)?,
        key: row.get(2)?,
        version: row.get(3)?,
        size: row.get(4)?,
        why: Why::parse(&why),
    })
}
