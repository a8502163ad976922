//! Environments, their desired state and their releases: the tables of what is wanted.

use std::sync::Arc;

use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError, now};

/// Releases that served before whose images and files are kept for a rollback.
pub(crate) const KEPT: usize = 5;
/// Releases among which they are looked for.
pub(crate) const LOOKED_THROUGH: u32 = 100;

/// Their versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "environments",
    migrations: &[
        include_str!("schema/001.sql"),
        include_str!("schema/002.sql"),
    ],
};

/// An environment and what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvironmentRow {
    /// Project.
    pub(crate) project: String,
    /// Environment.
    pub(crate) environment: String,
    /// JSON of the release crate.
    pub(crate) desired: String,
    /// When it was last written.
    pub(crate) updated_at: i64,
}

/// A release that is made with the desired state that wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRelease {
    /// As [`Tables::next_release`] says.
    pub(crate) number: u64,
    /// JSON of the release crate.
    pub(crate) content: String,
    /// Why it is made: JSON of the release crate.
    pub(crate) record: String,
}

/// A release of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseRow {
    /// Counts from 1 within its environment.
    pub(crate) number: u64,
    /// JSON of the release crate.
    pub(crate) content: String,
    /// When it was made.
    pub(crate) created_at: i64,
    /// What became of it: JSON of the release crate.
    pub(crate) record: String,
}

/// A release with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedRelease {
    pub(crate) project: String,
    pub(crate) environment: String,
    pub(crate) number: u64,
    /// JSON of the release crate.
    pub(crate) content: String,
}

/// The tables of environments and releases.
#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Writes the record of a release that is there, while nobody else changes the environment.
    pub(crate) fn record_put(
        &self,
        project: &str,
        environment: &str,
        number: u64,
        record: String,
    ) -> Result<(), StoreError> {
        let (project, environment) = (project.to_owned(), environment.to_owned());
        self.0.run("write the record of a release", move |db| {
            db.execute(
                "UPDATE releases SET record = ?4 \
                 WHERE project = ?1 AND environment = ?2 AND number = ?3",
                params![project, environment, number, record],
            )
            .map(drop)
        })
    }

    /// Writes an environment's desired state, and with it the release that it wants, where that is
    /// new, and the records of the releases it tells of (by number): all of it or nothing.
    pub(crate) fn environment_put(
        &self,
        project: &str,
        environment: &str,
        desired: &str,
        made: Option<&NewRelease>,
        records: &[(u64, String)],
    ) -> Result<(), StoreError> {
        let (project, environment, desired, made, records) = (
            project.to_owned(),
            environment.to_owned(),
            desired.to_owned(),
            made.cloned(),
            records.to_vec(),
        );
        self.0.run("write an environment", move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT INTO environments VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (project, environment) DO UPDATE SET \
                 desired = excluded.desired, updated_at = excluded.updated_at",
                params![project, environment, desired, now()],
            )?;
            if let Some(release) = made {
                let NewRelease {
                    number,
                    content,
                    record,
                } = release;
                transaction.execute(
                    "INSERT INTO releases \
                     (project, environment, number, content, created_at, record) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![project, environment, number, content, now(), record],
                )?;
            }
            for (number, record) in records {
                transaction.execute(
                    "UPDATE releases SET record = ?4 \
                     WHERE project = ?1 AND environment = ?2 AND number = ?3",
                    params![project, environment, number, record],
                )?;
            }
            transaction.commit()
        })
    }

    /// All environments, in order.
    pub(crate) fn environments(&self) -> Result<Vec<EnvironmentRow>, StoreError> {
        self.0.run("list environments", move |db| {
            db.prepare(
                "SELECT project, environment, desired, updated_at FROM environments \
                 ORDER BY project, environment",
            )?
            .query_map([], |row| {
                Ok(EnvironmentRow {
                    project: row.get(0)?,
                    environment: row.get(1)?,
                    desired: row.get(2)?,
                    updated_at: row.get(3)?,
                })
            })?
            .collect()
        })
    }

    /// The releases of all environments.
    pub(crate) fn all_releases(&self) -> Result<Vec<PlacedRelease>, StoreError> {
        self.0.run("list all releases", |db| {
            db.prepare("SELECT project, environment, number, content FROM releases")?
                .query_map([], |row| {
                    Ok(PlacedRelease {
                        project: row.get(0)?,
                        environment: row.get(1)?,
                        number: row.get(2)?,
                        content: row.get(3)?,
                    })
                })?
                .collect()
        })
    }

    /// Gives releases other contents, all or none.
    pub(crate) fn replace_releases(
        &self,
        changed: Vec<(PlacedRelease, String)>,
    ) -> Result<(), StoreError> {
        self.0.run("change releases", move |db| {
            let transaction = db.transaction()?;
            put_contents(&transaction, &changed)?;
            transaction.commit()
        })
    }

    /// Gives releases other contents, all or none, and leaves nothing of those before in the file.
    pub(crate) fn replace_contents(
        &self,
        changed: Vec<(PlacedRelease, String)>,
    ) -> Result<(), StoreError> {
        self.0.run("change releases", move |db| {
            let transaction = db.transaction()?;
            put_contents(&transaction, &changed)?;
            transaction.commit()?;
            match changed.is_empty() {
                true => Ok(()),
                // Pages that are free would keep what was there.
                false => db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"),
            }
        })
    }

    /// Forgets an environment and its releases.
    pub(crate) fn environment_remove(
        &self,
        project: &str,
        environment: &str,
    ) -> Result<(), StoreError> {
        let (project, environment) = (project.to_owned(), environment.to_owned());
        self.0.run("remove an environment", move |db| {
            let transaction = db.transaction()?;
            for table in ["releases", "environments"] {
                transaction.execute(
                    &format!("DELETE FROM {table} WHERE project = ?1 AND environment = ?2"),
                    [&project, &environment],
                )?;
            }
            transaction.commit()
        })
    }

    /// The number of the next release. It is taken once a release with it is written; each
    /// environment has one writer.
    pub(crate) fn next_release(&self, project: &str, environment: &str) -> Result<u64, StoreError> {
        let (project, environment) = (project.to_owned(), environment.to_owned());
        self.0.run("number a release", move |db| {
            db.query_row(
                "SELECT coalesce(max(number), 0) + 1 FROM releases \
                 WHERE project = ?1 AND environment = ?2",
                params![project, environment],
                |row| row.get(0),
            )
        })
    }

    /// One release.
    pub(crate) fn release(
        &self,
        project: &str,
        environment: &str,
        number: u64,
    ) -> Result<Option<ReleaseRow>, StoreError> {
        let (project, environment) = (project.to_owned(), environment.to_owned());
        self.0.run("read a release", move |db| {
            db.query_row(
                "SELECT number, content, created_at, record FROM releases \
                 WHERE project = ?1 AND environment = ?2 AND number = ?3",
                params![project, environment, number],
                release_row,
            )
            .optional()
        })
    }

    /// The newest releases, newest first.
    pub(crate) fn releases(
        &self,
        project: &str,
        environment: &str,
        most: u32,
    ) -> Result<Vec<ReleaseRow>, StoreError> {
        let (project, environment) = (project.to_owned(), environment.to_owned());
        self.0.run("list releases", move |db| {
            db.prepare(
                "SELECT number, content, created_at, record FROM releases \
                 WHERE project = ?1 AND environment = ?2 ORDER BY number DESC LIMIT ?3",
            )?
            .query_map(params![project, environment, most], release_row)?
            .collect()
        })
    }
}

fn put_contents(
    db: &rusqlite::Connection,
    changed: &[(PlacedRelease, String)],
) -> rusqlite::Result<()> {
    for (release, content) in changed {
        db.execute(
            "UPDATE releases SET content = ?4 \
             WHERE project = ?1 AND environment = ?2 AND number = ?3",
            params![
                release.project,
                release.environment,
                release.number,
                content
            ],
        )?;
    }
    Ok(())
}

fn release_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ReleaseRow> {
    Ok(ReleaseRow {
        number: row.get(0)?,
        content: row.get(1)?,
        created_at: row.get(2)?,
        record: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_count_within_their_environment() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let add = |environment| {
            let release = NewRelease {
                number: tables.next_release("p", environment).unwrap(),
                content: "{}".to_owned(),
                record: "first".to_owned(),
            };
            let made = tables.environment_put("p", environment, "{}", Some(&release), &[]);
            made.map(|()| release.number).unwrap()
        };
        assert_eq!(
            [add("production"), add("production"), add("staging")],
            [1, 2, 1]
        );
        let records = [(2, "second".to_owned())];
        tables
            .environment_put("p", "production", "{}", None, &records)
            .unwrap();
        let listed = tables.releases("p", "production", 10).unwrap();
        let listed: Vec<_> = listed.iter().map(|r| (r.number, &*r.record)).collect();
        assert_eq!(listed, [(2, "second"), (1, "first")]);
        tables.environment_remove("p", "production").unwrap();
        assert_eq!(tables.release("p", "production", 2).unwrap(), None);
        assert_eq!(
            tables.release("p", "staging", 1).unwrap().unwrap().content,
            "{}"
        );
    }
}
