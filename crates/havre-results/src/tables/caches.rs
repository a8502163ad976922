//! Caches.

use havre_store::StoreError;
use havre_store::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

use super::{Gone, MAX_PENDING, Reserved, Tables, now_ms};

const COLUMNS: &str = "id, repository, scope, key, version, run, job, folder, published, size, created, used, expires";

/// A cache, or a reservation of one.
#[derive(Clone, Debug)]
pub(crate) struct CacheRow {
    pub(crate) id: i64,
    pub(crate) repository: String,
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) folder: String,
    pub(crate) is_published: bool,
    pub(crate) size: u64,
    pub(crate) created: i64,
    pub(crate) used: i64,
    pub(crate) expires: i64,
}

/// A reservation.
#[derive(Clone, Debug)]
pub(crate) struct NewCache {
    pub(crate) repository: String,
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) version: String,
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) folder: String,
    /// When it is given up.
    pub(crate) until: i64,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub(crate) repository: String,
    /// In the order they are looked through.
    pub(crate) scopes: Vec<String>,
    pub(crate) version: String,
    /// The first as a whole, then each as a beginning.
    pub(crate) keys: Vec<String>,
}

impl Tables {
    /// Takes a key. An unfinished reservation of the same job gives way: it is the same call, made again.
    pub(crate) fn reserve_cache(&self, new: NewCache) -> Result<Reserved, StoreError> {
        self.0.run("reserve a cache", move |db| {
            let change = db.transaction()?;
            let now = now_ms();
            let before = by_key(&change, &new.repository, &new.scope, &new.version, &new.key)?;
            if let Some(before) = &before {
                let is_own = before.run == new.run && before.job == new.job;
                if before.is_published || (!is_own && before.expires > now) {
                    let is_published = before.is_published;
                    return Ok(Reserved::Taken { is_published });
                }
                change.execute("DELETE FROM results_caches WHERE id = ?1", [before.id])?;
            }
            let pending: u32 = change.query_row(
                "SELECT count(*) FROM results_caches WHERE run = ?1 AND job = ?2 AND published = 0",
                [&new.run, &new.job],
                |row| row.get(0),
            )?;
            if pending >= MAX_PENDING {
                return Ok(Reserved::TooMany);
            }
            change.execute(
                "INSERT INTO results_caches (repository, scope, key, version, run, job, folder, published, \
                 size, created, used, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8, ?8, ?9)",
                params![
                    new.repository, new.scope, new.key, new.version, new.run, new.job, new.folder, now,
                    new.until
                ],
            )?;
            change.commit()?;
            Ok(Reserved::Made(before.map(gone)))
        })
    }

    /// A cache or a reservation of one, by its key.
    pub(crate) fn cache(
        &self,
        repository: &str,
        scope: &str,
        version: &str,
        key: &str,
    ) -> Result<Option<CacheRow>, StoreError> {
        let [repository, scope] = [repository.to_owned(), scope.to_owned()];
        let [version, key] = [version.to_owned(), key.to_owned()];
        self.0.run("look a cache up", move |db| {
            by_key(db, &repository, &scope, &version, &key)
        })
    }

    /// Says of a reservation that it is there. `false`: it was given up meanwhile.
    pub(crate) fn publish_cache(
        &self,
        id: i64,
        size: u64,
        boot: String,
    ) -> Result<bool, StoreError> {
        self.0.run("finish a cache", move |db| {
            let changed = db.execute(
                "UPDATE results_caches SET published = 1, size = ?2, created = ?3, used = ?3, boot = ?4 \
                 WHERE id = ?1 AND published = 0",
                params![id, size, now_ms(), boot],
            )?;
            Ok(changed == 1)
        })
    }

    /// The cache that fits best: in each scope the whole key, then each key as a beginning, newest first. It counts as
    /// used now.
    pub(crate) fn find_cache(&self, lookup: Lookup) -> Result<Option<CacheRow>, StoreError> {
        self.0.run("look for a cache", move |db| {
            for scope in &lookup.scopes {
                if let Some(found) = in_scope(db, &lookup, scope)? {
                    let used = "UPDATE results_caches SET used = max(used + 1, ?2) WHERE id = ?1";
                    db.execute(used, params![found.id, now_ms()])?;
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    /// Whether a cache is in this folder.
    pub(crate) fn cache_in(&self, folder: &str) -> Result<bool, StoreError> {
        let folder = folder.to_owned();
        self.0.run("look a cache up", move |db| {
            let query = "SELECT 1 FROM results_caches WHERE folder = ?1 AND published = 1";
            let found: Option<i64> = db.query_row(query, [folder], |row| row.get(0)).optional()?;
            Ok(found.is_some())
        })
    }

    /// Finished caches, the newest first.
    pub(crate) fn caches(&self, repository: &str, most: u32) -> Result<Vec<CacheRow>, StoreError> {
        let repository = repository.to_owned();
        self.0.run("list caches", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_caches WHERE repository = ?1 AND published = 1 \
                 ORDER BY created DESC, id DESC LIMIT ?2"
            );
            db.prepare(&query)?
                .query_map(params![repository, most], read)?
                .collect()
        })
    }

    /// Finished caches, those first that were not used for longest; of one repository where one is given.
    pub(crate) fn least_used(
        &self,
        repository: Option<String>,
        most: u32,
    ) -> Result<Vec<CacheRow>, StoreError> {
        self.0.run("list caches", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_caches WHERE published = 1 \
                 AND (?1 IS NULL OR repository = ?1) ORDER BY used, id LIMIT ?2"
            );
            db.prepare(&query)?
                .query_map(params![repository, most], read)?
                .collect()
        })
    }

    /// Removes one that is finished.
    pub(crate) fn delete_cache(
        &self,
        repository: &str,
        id: i64,
    ) -> Result<Option<Gone>, StoreError> {
        let repository = repository.to_owned();
        self.0.run("remove a cache", move |db| {
            let delete = format!(
                "DELETE FROM results_caches WHERE repository = ?1 AND id = ?2 AND published = 1 \
                 RETURNING {COLUMNS}"
            );
            let row = db.query_row(&delete, params![repository, id], read);
            Ok(row.optional()?.map(gone))
        })
    }

    /// How many caches are finished, and their bytes; of one repository where one is given.
    pub(crate) fn cache_usage(&self, repository: Option<String>) -> Result<(u64, u64), StoreError> {
        self.0.run("add caches up", move |db| {
            let query = "SELECT count(*), coalesce(sum(size), 0) FROM results_caches \
                         WHERE published = 1 AND (?1 IS NULL OR repository = ?1)";
            db.query_row(query, [repository], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }

    /// Those whose files may be in memory alone, with the boot since which they are.
    pub(crate) fn unsynced(&self) -> Result<Vec<(CacheRow, String)>, StoreError> {
        self.0.run("list caches", move |db| {
            let query = format!(
                "SELECT {COLUMNS}, boot FROM results_caches WHERE published = 1 AND boot IS NOT NULL"
            );
            db.prepare(&query)?
                .query_map([], |row| Ok((read(row)?, row.get(13)?)))?
                .collect()
        })
    }

    /// Notes that a cache is on disk.
    pub(crate) fn synced(&self, id: i64) -> Result<(), StoreError> {
        self.0.run("note that a cache is on disk", move |db| {
            let update = "UPDATE results_caches SET boot = NULL WHERE id = ?1";
            db.execute(update, [id]).map(drop)
        })
    }
}

fn by_key(
    db: &Connection,
    repository: &str,
    scope: &str,
    version: &str,
    key: &str,
) -> rusqlite::Result<Option<CacheRow>> {
    let query = format!(
        "SELECT {COLUMNS} FROM results_caches \
         WHERE repository = ?1 AND scope = ?2 AND version = ?3 AND key = ?4"
    );
    db.query_row(&query, [repository, scope, version, key], read)
        .optional()
}

fn in_scope(db: &Connection, lookup: &Lookup, scope: &str) -> rusqlite::Result<Option<CacheRow>> {
    let Some(first) = lookup.keys.first() else {
        return Ok(None);
    };
    let whole = by_key(db, &lookup.repository, scope, &lookup.version, first)?;
    if let Some(whole) = whole.filter(|row| row.is_published) {
        return Ok(Some(whole));
    }
    let query = format!(
        "SELECT {COLUMNS} FROM results_caches WHERE repository = ?1 AND scope = ?2 AND version = ?3 \
         AND key >= ?4 AND substr(key, 1, length(?4)) = ?4 AND published = 1 \
         ORDER BY created DESC, id DESC LIMIT 1"
    );
    let mut statement = db.prepare(&query)?;
    for key in &lookup.keys {
        let parameters = params![lookup.repository, scope, lookup.version, key];
        let found = statement.query_row(parameters, read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn gone(row: CacheRow) -> Gone {
    Gone {
        folder: row.folder,
        published: row.is_published.then_some(row.size),
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<CacheRow> {
    Ok(CacheRow {
        id: row.get(0)?,
        repository: row.get(1)?,
        scope: row.get(2)?,
        key: row.get(3)?,
        version: row.get(4)?,
        run: row.get(5)?,
        job: row.get(6)?,
        folder: row.get(7)?,
        is_published: row.get(8)?,
        size: row.get(9)?,
        created: row.get(10)?,
        used: row.get(11)?,
        expires: row.get(12)?,
    })
}
