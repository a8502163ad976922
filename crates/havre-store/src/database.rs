//! Opening, migrating and locking the database.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

/// One script per schema version; version N is reached by running scripts 1..=N. A script that
/// was released is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
];

/// How long a statement waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(5);

/// What the database could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or is not a database.
    #[error("cannot open the database {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The file was written by a later version of Havre.
    #[error(
        "the database {path} has schema {found}, this version of havre knows up to {known}",
        path = path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: usize,
        /// The newest this binary knows.
        known: usize,
    },
    /// A migration failed; the database is as it was before.
    #[error("cannot migrate the database to schema {version}")]
    Migrate {
        /// The version that was not reached.
        version: usize,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A statement failed.
    #[error("cannot {operation} in the database")]
    Statement {
        /// What was attempted.
        operation: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens `path`, makes it when missing and migrates it to this version's schema.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open_error = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        let mut connection = Connection::open(path).map_err(open_error)?;
        connection.busy_timeout(BUSY).map_err(open_error)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA cache_size = -512;",
            )
            .map_err(open_error)?;
        let found: usize = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(open_error)?;
        if found > MIGRATIONS.len() {
            let known = MIGRATIONS.len();
            return Err(StoreError::TooNew {
                path: path.to_owned(),
                found,
                known,
            });
        }
        for (index, script) in MIGRATIONS.iter().enumerate().skip(found) {
            migrate(&mut connection, index + 1, script).map_err(|source| StoreError::Migrate {
                version: index + 1,
                source,
            })?;
        }
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Runs `work` with the connection. A panic of another thread inside a statement leaves no
    /// half-written row (SQLite rolls back), so a poisoned lock is used on.
    pub(crate) fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut guard: MutexGuard<'_, Connection> = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        work(&mut guard).map_err(|source| StoreError::Statement { operation, source })
    }
}

/// Seconds since the epoch; 0 on a machine whose clock stands before it.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
        })
}

fn migrate(connection: &mut Connection, version: usize, script: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(script)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reopening_keeps_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        Store::open(&path).unwrap().setting_put("k", "v").unwrap();
        assert_eq!(
            Store::open(&path).unwrap().setting("k").unwrap().as_deref(),
            Some("v")
        );
    }

    #[test]
    fn a_database_of_a_later_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 999)
            .unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 999, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        std::fs::write(&path, vec![0x42; 8192]).unwrap();
        assert!(matches!(
            Store::open(&path).unwrap_err(),
            StoreError::Open { .. }
        ));
    }
}
