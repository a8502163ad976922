//! Artifacts.

use havre_store::StoreError;
use havre_store::rusqlite::{self, OptionalExtension as _, Row, params};

use super::{Gone, MAX_PENDING, Reserved, Tables, now_ms};

const COLUMNS: &str =
    "id, job, name, mime, folder, published, size, digest, created, expires, asked";

const OF_REPOSITORY: &str =
    "SELECT coalesce(sum(size), 0) FROM results_artifacts WHERE repository = ?1 AND published = 1";

/// What became of an upload that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Done,
    /// It was given up meanwhile.
    Gone,
    /// There is no room for it among those of its repository.
    Full,
}

/// An artifact, or an upload of one.
#[derive(Clone, Debug)]
pub(crate) struct ArtifactRow {
    pub(crate) id: i64,
    pub(crate) job: String,
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) folder: String,
    pub(crate) is_published: bool,
    pub(crate) size: u64,
    pub(crate) digest: String,
    pub(crate) created: i64,
    pub(crate) expires: i64,
    /// When its client wants it to go.
    pub(crate) asked: Option<i64>,
}

/// An upload that begins.
#[derive(Clone, Debug)]
pub(crate) struct NewArtifact {
    pub(crate) repository: String,
    pub(crate) run: String,
    pub(crate) job: String,
    pub(crate) name: String,
    pub(crate) mime: String,
    pub(crate) folder: String,
    /// When it is given up.
    pub(crate) until: i64,
    /// When its client wants it to go.
    pub(crate) asked: Option<i64>,
}

impl Tables {
    /// Takes a name. An unfinished upload of the same job gives way: it is the same call, made again. What an earlier
    /// attempt of the run has left gives way to a later one.
    pub(crate) fn reserve_artifact(
        &self,
        new: NewArtifact,
        most: u32,
    ) -> Result<Reserved, StoreError> {
        self.0.run("begin an artifact", move |db| {
            let change = db.transaction()?;
            let now = now_ms();
            let find = format!(
                "SELECT {COLUMNS} FROM results_artifacts WHERE run = ?1 AND name = ?2"
            );
            let before = change
                .query_row(&find, [&new.run, &new.name], read)
                .optional()?;
            if let Some(before) = &before {
                let is_earlier = attempt(&before.job) < attempt(&new.job);
                let is_own = !before.is_published && before.job == new.job;
                let stays = !is_earlier && !is_own && before.expires > now;
                if stays {
                    let is_published = before.is_published;
                    return Ok(Reserved::Taken { is_published });
                }
                change.execute("DELETE FROM results_artifacts WHERE id = ?1", [before.id])?;
            }
            let count: u32 = change.query_row(
                "SELECT count(*) FROM results_artifacts WHERE run = ?1",
                [&new.run],
                |row| row.get(0),
            )?;
            let pending: u32 = change.query_row(
                "SELECT count(*) FROM results_artifacts WHERE run = ?1 AND job = ?2 AND published = 0",
                [&new.run, &new.job],
                |row| row.get(0),
            )?;
            if count >= most || pending >= MAX_PENDING {
                return Ok(Reserved::TooMany);
            }
            change.execute(
                "INSERT INTO results_artifacts (repository, run, job, name, mime, folder, published, size, \
                 digest, created, expires, asked) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, '', ?7, ?8, ?9)",
                params![new.repository, new.run, new.job, new.name, new.mime, new.folder, now, new.until, new.asked],
            )?;
            change.commit()?;
            Ok(Reserved::Made(before.map(gone)))
        })
    }

    /// Says of an upload that it is there, where all of its repository have at most `quota` bytes then.
    pub(crate) fn publish_artifact(
        &self,
        id: i64,
        size: u64,
        digest: String,
        expires: i64,
        quota: u64,
    ) -> Result<Published, StoreError> {
        self.0.run("finish an artifact", move |db| {
            let change = db.transaction()?;
            let find = "SELECT repository FROM results_artifacts WHERE id = ?1 AND published = 0";
            let repository: Option<String> =
                change.query_row(find, [id], |row| row.get(0)).optional()?;
            let Some(repository) = repository else {
                return Ok(Published::Gone);
            };
            let used: u64 = change.query_row(OF_REPOSITORY, [repository], |row| row.get(0))?;
            if used.saturating_add(size) > quota {
                return Ok(Published::Full);
            }
            change.execute(
                "UPDATE results_artifacts SET published = 1, size = ?2, digest = ?3, created = ?4, \
                 expires = ?5 WHERE id = ?1 AND published = 0",
                params![id, size, digest, now_ms(), expires],
            )?;
            change.commit()?;
            Ok(Published::Done)
        })
    }

    /// Bytes of a repository's finished artifacts.
    pub(crate) fn artifacts_of(&self, repository: &str) -> Result<u64, StoreError> {
        let repository = repository.to_owned();
        self.0.run("add artifacts up", move |db| {
            db.query_row(OF_REPOSITORY, [repository], |row| row.get(0))
        })
    }

    /// An artifact or an upload of one, by its name.
    pub(crate) fn artifact(
        &self,
        run: &str,
        name: &str,
    ) -> Result<Option<ArtifactRow>, StoreError> {
        let (run, name) = (run.to_owned(), name.to_owned());
        self.0.run("look an artifact up", move |db| {
            let query =
                format!("SELECT {COLUMNS} FROM results_artifacts WHERE run = ?1 AND name = ?2");
            db.query_row(&query, [run, name], read).optional()
        })
    }

    /// A finished one, by its folder.
    pub(crate) fn artifact_in(&self, folder: &str) -> Result<Option<ArtifactRow>, StoreError> {
        let folder = folder.to_owned();
        self.0.run("look an artifact up", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_artifacts WHERE folder = ?1 AND published = 1 AND expires > ?2"
            );
            db.query_row(&query, params![folder, now_ms()], read).optional()
        })
    }

    /// Finished artifacts of a run, the oldest first, of one name or id where one is given.
    pub(crate) fn artifacts(
        &self,
        run: &str,
        name: Option<String>,
        id: Option<i64>,
        most: u32,
    ) -> Result<Vec<ArtifactRow>, StoreError> {
        let run = run.to_owned();
        self.0.run("list artifacts", move |db| {
            let query = format!(
                "SELECT {COLUMNS} FROM results_artifacts WHERE run = ?1 AND published = 1 \
                 AND expires > ?2 AND (?3 IS NULL OR name = ?3) AND (?4 IS NULL OR id = ?4) \
                 ORDER BY id LIMIT ?5"
            );
            db.prepare(&query)?
                .query_map(params![run, now_ms(), name, id, most], read)?
                .collect()
        })
    }

    /// Removes one, finished or not.
    pub(crate) fn delete_artifact(
        &self,
        run: &str,
        name: &str,
    ) -> Result<Option<(i64, Gone)>, StoreError> {
        let (run, name) = (run.to_owned(), name.to_owned());
        self.0.run("remove an artifact", move |db| {
            let delete = format!(
                "DELETE FROM results_artifacts WHERE run = ?1 AND name = ?2 RETURNING {COLUMNS}"
            );
            let row = db.query_row(&delete, [run, name], read).optional()?;
            Ok(row.map(|row| (row.id, gone(row))))
        })
    }

    /// Removes all of a run.
    pub(crate) fn delete_artifacts(&self, run: &str) -> Result<Vec<Gone>, StoreError> {
        let run = run.to_owned();
        self.0.run("remove the artifacts of a run", move |db| {
            let delete =
                format!("DELETE FROM results_artifacts WHERE run = ?1 RETURNING {COLUMNS}");
            db.prepare(&delete)?
                .query_map([run], |row| read(row).map(gone))?
                .collect()
        })
    }

    /// Removes those whose time is over.
    pub(crate) fn delete_expired(&self, now: i64) -> Result<Vec<Gone>, StoreError> {
        self.0.run("remove artifacts that have expired", move |db| {
            let delete = format!(
                "DELETE FROM results_artifacts WHERE published = 1 AND expires <= ?1 RETURNING {COLUMNS}"
            );
            db.prepare(&delete)?
                .query_map([now], |row| read(row).map(gone))?
                .collect()
        })
    }

    /// How many artifacts are finished, and their bytes.
    pub(crate) fn artifact_usage(&self) -> Result<(u64, u64), StoreError> {
        self.0.run("add artifacts up", |db| {
            let query =
                "SELECT count(*), coalesce(sum(size), 0) FROM results_artifacts WHERE published = 1";
            db.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
    }
}

/// Which attempt of its run a job is of: what its name ends with, after a dot.
fn attempt(job: &str) -> u32 {
    let last = job.rsplit_once('.').map(|(_, last)| last.parse());
    last.and_then(Result::ok).unwrap_or(0)
}

fn gone(row: ArtifactRow) -> Gone {
    Gone {
        folder: row.folder,
        published: row.is_published.then_some(row.size),
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<ArtifactRow> {
    Ok(ArtifactRow {
        id: row.get(0)?,
        job: row.get(1)?,
        name: row.get(2)?,
        mime: row.get(3)?,
        folder: row.get(4)?,
        is_published: row.get(5)?,
        size: row.get(6)?,
        digest: row.get(7)?,
        created: row.get(8)?,
        expires: row.get(9)?,
        asked: row.get(10)?,
    })
}
