//! Versions of the tables: each subsystem's own.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::StoreError;

/// The tables of one subsystem.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The subsystem; never renamed.
    pub name: &'static str,
    /// One script per version; version N is reached by running scripts 1..=N. A script that was
    /// released is never edited.
    pub migrations: &'static [&'static str],
}

/// The version of the file as a whole: that of the table of versions.
const FILE_VERSION: usize = 4;

/// Before that one number stood for the tables of all; 0: there were none yet.
const BEFORE: &[(&str, [usize; 3])] = &[
    ("images", [1, 1, 1]),
    ("environments", [1, 2, 2]),
    ("networks", [0, 0, 1]),
];

/// Brings every schema to the version of this binary. Each step is done or not done at all.
pub(crate) fn migrate(connection: &mut Connection, schemas: &[Schema]) -> Result<(), StoreError> {
    file(connection)?;
    for schema in schemas {
        let found =
            version(connection, schema.name).map_err(|source| failed(schema.name, 0, source))?;
        let known = schema.migrations.len();
        if found > known {
            return Err(StoreError::TooNew {
                what: schema.name,
                found,
                known,
            });
        }
        for (index, script) in schema.migrations.iter().enumerate().skip(found) {
            let version = index + 1;
            step(connection, |transaction| {
                transaction.execute_batch(script)?;
                note(transaction, schema.name, version)
            })
            .map_err(|source| failed(schema.name, version, source))?;
        }
    }
    Ok(())
}

/// Makes the table of versions, or makes it of what stood in its place.
fn file(connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |source| failed("file", FILE_VERSION, source);
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > FILE_VERSION {
        return Err(StoreError::TooNew {
            what: "file",
            found,
            known: FILE_VERSION,
        });
    }
    if found == FILE_VERSION {
        return Ok(());
    }
    step(connection, |transaction| {
        transaction.execute_batch(
            "CREATE TABLE schemas (name TEXT PRIMARY KEY, version INTEGER NOT NULL) \
             STRICT, WITHOUT ROWID;",
        )?;
        for (name, versions) in BEFORE {
            if let Some(index) = found.checked_sub(1) {
                note(transaction, name, versions[index])?;
            }
        }
        transaction.pragma_update(None, "user_version", FILE_VERSION)
    })
    .map_err(failed)
}

fn version(connection: &Connection, name: &str) -> rusqlite::Result<usize> {
    let found = connection
        .query_row(
            "SELECT version FROM schemas WHERE name = ?1",
            [name],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.unwrap_or(0))
}

fn note(transaction: &Transaction<'_>, name: &str, version: usize) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT INTO schemas VALUES (?1, ?2) \
             ON CONFLICT (name) DO UPDATE SET version = excluded.version",
            params![name, version],
        )
        .map(drop)
}

fn step(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    work(&transaction)?;
    transaction.commit()
}

fn failed(what: &'static str, version: usize, source: rusqlite::Error) -> StoreError {
    StoreError::Migrate {
        what,
        version,
        source,
    }
}
