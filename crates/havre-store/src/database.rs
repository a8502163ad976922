//! Opening the database, and having it do something.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, TransactionBehavior};

use crate::Schema;
use crate::schema;
use crate::thread::StoreThread;

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
    /// The thread that is to speak to it cannot be started.
    #[error("cannot start the database's thread")]
    Thread {
        /// The kernel's reason.
        source: io::Error,
    },
    /// It was written by a later version of Havre.
    #[error("the database's {what} has schema {found}, this version of havre knows up to {known}")]
    TooNew {
        /// The subsystem, or the file as a whole.
        what: &'static str,
        /// The schema's version.
        found: usize,
        /// The newest this binary knows.
        known: usize,
    },
    /// A migration failed; the tables are as they were before it.
    #[error("cannot migrate {what} in the database to schema {version}")]
    Migrate {
        /// The subsystem, or the file as a whole.
        what: &'static str,
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
    /// The database's thread has ended: a fault of this program.
    #[error("cannot {operation}: the database's thread has ended")]
    Ended {
        /// What was attempted.
        operation: &'static str,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    thread: StoreThread,
}

impl Store {
    /// Opens `path`, makes it when missing and brings the tables to this version's schemas.
    pub fn open(path: &Path, schemas: &[Schema]) -> Result<Self, StoreError> {
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
        schema::migrate(&mut connection, schemas)?;
        // One that begins by reading would not wait for another process that writes: it would fail at once.
        connection.set_transaction_behavior(TransactionBehavior::Immediate);
        let thread =
            StoreThread::start(connection).map_err(|source| StoreError::Thread { source })?;
        Ok(Self { thread })
    }

    /// Has the database's thread do `work`, and waits for it, for seconds where another process holds
    /// the database: a thread that runs tasks leaves them to another one meanwhile. What `work` did not commit when it fails
    /// is undone. `operation` says what is attempted, as in "cannot … in the database".
    pub fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.thread
            .run(work)
            .ok_or(StoreError::Ended { operation })?
            .map_err(|source| StoreError::Statement { operation, source })
    }
}

/// Seconds since the epoch; 0 on a machine whose clock stands before it.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| {
            i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ONE: Schema = Schema {
        name: "one",
        migrations: &["CREATE TABLE one (value TEXT NOT NULL) STRICT"],
    };
    const TWO: Schema = Schema {
        name: "two",
        migrations: &[
            "CREATE TABLE two (value TEXT NOT NULL) STRICT",
            "ALTER TABLE two ADD COLUMN more TEXT NOT NULL DEFAULT 'x'",
        ],
    };

    fn path(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("state.db")
    }

    fn put(store: &Store, value: &'static str) -> Result<(), StoreError> {
        store.run("put", move |db| {
            db.execute("INSERT INTO one VALUES (?1)", [value]).map(drop)
        })
    }

    fn all(store: &Store) -> Vec<String> {
        let found = store.run("list", |db| {
            db.prepare("SELECT value FROM one ORDER BY value")?
                .query_map([], |row| row.get(0))?
                .collect()
        });
        found.unwrap()
    }

    #[test]
    fn each_subsystem_comes_with_its_tables_and_migrates_them_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        put(&Store::open(&path(&dir), &[ONE]).unwrap(), "kept").unwrap();
        let old = Schema {
            migrations: &TWO.migrations[..1],
            ..TWO
        };
        drop(Store::open(&path(&dir), &[ONE, old]).unwrap());
        let store = Store::open(&path(&dir), &[TWO, ONE]).unwrap();
        assert_eq!(all(&store), ["kept"]);
        let more = store.run("use what is new", |db| {
            db.execute("INSERT INTO two (value) VALUES ('a')", [])?;
            db.query_row("SELECT more FROM two", [], |row| row.get::<_, String>(0))
        });
        assert_eq!(more.unwrap(), "x");
    }

    #[test]
    fn a_change_that_begins_by_reading_waits_for_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&path(&dir), &[ONE]).unwrap());
        let other = Connection::open(path(&dir)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (changed, begun) = (Arc::clone(&store), Arc::new(std::sync::Barrier::new(2)));
        let begins = Arc::clone(&begun);
        let change = std::thread::spawn(move || {
            changed.run("count and put", move |db| {
                begins.wait();
                let change = db.transaction()?;
                let count: u32 =
                    change.query_row("SELECT count(*) FROM one", [], |row| row.get(0))?;
                change.execute("INSERT INTO one VALUES (?1)", [count.to_string()])?;
                change.commit()
            })
        });
        begun.wait();
        other
            .execute_batch("INSERT INTO one VALUES ('other')")
            .unwrap();
        std::thread::sleep(Duration::from_millis(50));
        other.execute_batch("COMMIT").unwrap();
        change.join().unwrap().expect("its turn comes");
        assert_eq!(all(&store), ["1", "other"]);
    }

    #[test]
    fn a_migration_that_fails_leaves_the_tables_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        put(&Store::open(&path(&dir), &[ONE]).unwrap(), "kept").unwrap();
        const BROKEN: Schema = Schema {
            migrations: &[
                ONE.migrations[0],
                "CREATE TABLE half (a TEXT); DROP TABLE none",
            ],
            ..ONE
        };
        let error = Store::open(&path(&dir), &[BROKEN]).unwrap_err();
        let is_named = matches!(
            error,
            StoreError::Migrate {
                what: "one",
                version: 2,
                ..
            }
        );
        assert!(is_named, "{error}");
        let store = Store::open(&path(&dir), &[ONE]).unwrap();
        assert_eq!(all(&store), ["kept"]);
        let half = store.run("look", |db| {
            db.query_row("SELECT count(*) FROM half", [], |row| row.get::<_, u32>(0))
        });
        half.expect_err("nothing of it is there");
    }

    #[test]
    fn what_came_before_each_subsystem_had_its_own_version_is_taken_over() {
        for version in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let before = Connection::open(path(&dir)).unwrap();
            let tables =
                "CREATE TABLE images (reference TEXT); CREATE TABLE environments (a TEXT);";
            before.execute_batch(tables).unwrap();
            before.pragma_update(None, "user_version", version).unwrap();
            drop(before);
            let known = |name, versions: usize| Schema {
                name,
                migrations: &["CREATE TABLE once (a TEXT)"; 2][..versions],
            };
            // What is there is not made again; what is new is.
            let schemas = [known("images", 1), known("environments", 2)];
            let store = Store::open(&path(&dir), &schemas).unwrap();
            let made = store.run("look", |db| {
                let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'once'";
                db.query_row(query, [], |row| row.get::<_, usize>(0))
            });
            assert_eq!(made.unwrap(), 2 - version);
        }
    }

    #[test]
    fn a_later_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(&path(&dir), &[ONE, TWO]).unwrap());
        let old = Schema {
            migrations: &TWO.migrations[..1],
            ..TWO
        };
        let error = Store::open(&path(&dir), &[ONE, old]).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { what: "two", .. }),
            "{error}"
        );
        drop(Store::open(&path(&dir), &[ONE, TWO]).unwrap());
        let later = Connection::open(path(&dir)).unwrap();
        later.pragma_update(None, "user_version", 999).unwrap();
        let error = Store::open(&path(&dir), &[ONE]).unwrap_err();
        assert!(
            matches!(error, StoreError::TooNew { found: 999, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(path(&dir), vec![0x42; 8192]).unwrap();
        assert!(matches!(
            Store::open(&path(&dir), &[ONE]).unwrap_err(),
            StoreError::Open { .. }
        ));
    }

    #[test]
    fn statements_of_many_threads_are_done_one_after_the_other_on_one_thread() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&path(&dir), &[ONE]).unwrap());
        std::thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| {
                    let count = store.run("count", |db| {
                        assert_eq!(std::thread::current().name(), Some("store"));
                        let read = "SELECT count(*) FROM one";
                        let before: u32 = db.query_row(read, [], |row| row.get(0))?;
                        db.execute("INSERT INTO one VALUES ('a')", [])?;
                        let after: u32 = db.query_row(read, [], |row| row.get(0))?;
                        Ok(after - before)
                    });
                    assert_eq!(count.unwrap(), 1);
                });
            }
        });
        assert_eq!(all(&store).len(), 200);
    }

    #[test]
    fn work_that_panics_is_an_error_for_who_asked_and_for_who_asks_next() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&path(&dir), &[ONE]).unwrap();
        let panics = store.run("panic", |_| -> rusqlite::Result<()> {
            panic!("on purpose")
        });
        assert!(matches!(panics, Err(StoreError::Ended { .. })));
        assert!(matches!(put(&store, "a"), Err(StoreError::Ended { .. })));
    }
}
