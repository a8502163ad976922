//! Rows of secrets and versions, and the statements that read and write them.

use havre_store::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

/// A secret: which of its versions is in use.
#[derive(Clone, Debug)]
pub(super) struct SecretRow {
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) current: u32,
    pub(super) newest: u32,
    pub(super) mac: Vec<u8>,
    /// The newest version that lies there, which the row has to know of.
    pub(super) there: u32,
}

/// One version.
#[derive(Clone, Debug)]
pub(super) struct VersionRow {
    pub(super) head: HeadRow,
    pub(super) content: Vec<u8>,
}

/// What is known of a version, without what its key encrypts: a scope has many MiB of those.
#[derive(Clone, Debug)]
pub(super) struct HeadRow {
    pub(super) scope: String,
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) data_key: Vec<u8>,
    pub(super) size: u32,
    pub(super) set_at: i64,
    pub(super) set_by: String,
    pub(super) origin: String,
    /// Of what is encrypted.
    pub(super) content_bytes: usize,
}

const SECRET: &str = "scope, name, current, newest, mac, (SELECT coalesce(max(v.version), 0) \
    FROM secret_versions v WHERE v.scope = secrets.scope AND v.name = secrets.name)";
/// The length of a column is had without reading it.
const HEAD: &str = "v.scope, v.name, v.version, v.data_key, v.size, v.set_at, v.set_by, v.origin, length(v.content)";

impl SecretRow {
    /// All that its MAC is of.
    pub(super) fn told(&self) -> [Vec<u8>; 5] {
        [
            b"havre secret 1".to_vec(),
            self.scope.clone().into_bytes(),
            self.name.clone().into_bytes(),
            self.current.to_be_bytes().to_vec(),
            self.newest.to_be_bytes().to_vec(),
        ]
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            scope: row.get(0)?,
            name: row.get(1)?,
            current: row.get(2)?,
            newest: row.get(3)?,
            mac: row.get(4)?,
            there: row.get(5)?,
        })
    }
}

impl HeadRow {
    /// Where it is.
    pub(super) fn place(&self) -> [Vec<u8>; 4] {
        [
            b"havre secret version 1".to_vec(),
            self.scope.clone().into_bytes(),
            self.name.clone().into_bytes(),
            self.version.to_be_bytes().to_vec(),
        ]
    }

    /// All that is authenticated with its key, and with its value.
    pub(super) fn told(&self) -> [Vec<u8>; 8] {
        let [what, scope, name, version] = self.place();
        [
            what,
            scope,
            name,
            version,
            self.size.to_be_bytes().to_vec(),
            self.set_at.to_be_bytes().to_vec(),
            self.set_by.clone().into_bytes(),
            self.origin.clone().into_bytes(),
        ]
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            scope: row.get(0)?,
            name: row.get(1)?,
            version: row.get(2)?,
            data_key: row.get(3)?,
            size: row.get(4)?,
            set_at: row.get(5)?,
            set_by: row.get(6)?,
            origin: row.get(7)?,
            content_bytes: row.get(8)?,
        })
    }
}

pub(super) fn scope_keys(db: &Connection, scope: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let query = "SELECT keys FROM secret_scopes WHERE scope = ?1";
    db.prepare_cached(query)?
        .query_row([scope], |row| row.get(0))
        .optional()
}

pub(super) fn is_any_scope(db: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM secret_scopes)";
    db.query_row(query, [], |row| row.get(0))
}

pub(super) fn all_scopes(db: &Connection) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    db.prepare("SELECT scope, keys FROM secret_scopes ORDER BY scope")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

pub(super) fn put_scope(db: &Connection, scope: &str, keys: &[u8]) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO secret_scopes VALUES (?1, ?2) ON CONFLICT (scope) DO UPDATE SET keys = excluded.keys",
        params![scope, keys],
    )
    .map(drop)
}

pub(super) fn secret(
    db: &Connection,
    scope: &str,
    name: &str,
) -> rusqlite::Result<Option<SecretRow>> {
    let query = format!("SELECT {SECRET} FROM secrets WHERE scope = ?1 AND name = ?2");
    db.prepare_cached(&query)?
        .query_row([scope, name], SecretRow::read)
        .optional()
}

pub(super) fn secrets(db: &Connection, scope: &str) -> rusqlite::Result<Vec<SecretRow>> {
    db.prepare_cached(&format!(
        "SELECT {SECRET} FROM secrets WHERE scope = ?1 ORDER BY name"
    ))?
    .query_map([scope], SecretRow::read)?
    .collect()
}

/// The scopes that have a secret of this name.
pub(super) fn scopes_of(db: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare_cached("SELECT scope FROM secrets WHERE name = ?1 ORDER BY scope")?
        .query_map([name], |row| row.get(0))?
        .collect()
}

pub(super) fn version(
    db: &Connection,
    scope: &str,
    name: &str,
    version: u32,
) -> rusqlite::Result<Option<VersionRow>> {
    let query = format!(
        "SELECT {HEAD}, v.content FROM secret_versions v WHERE scope = ?1 AND name = ?2 AND version = ?3"
    );
    let read = |row: &Row<'_>| {
        Ok(VersionRow {
            head: HeadRow::read(row)?,
            content: row.get(9)?,
        })
    };
    db.prepare_cached(&query)?
        .query_row(params![scope, name, version], read)
        .optional()
}

/// What is known of the versions of a scope, or of one of its secrets, the oldest first.
pub(super) fn heads(
    db: &Connection,
    scope: &str,
    name: Option<&str>,
) -> rusqlite::Result<Vec<HeadRow>> {
    db.prepare_cached(&format!(
        "SELECT {HEAD} FROM secret_versions v WHERE v.scope = ?1 AND (?2 IS NULL OR v.name = ?2) \
         ORDER BY v.name, v.version"
    ))?
    .query_map(params![scope, name], HeadRow::read)?
    .collect()
}

/// What is known of the versions of a scope that are in use.
pub(super) fn current_heads(db: &Connection, scope: &str) -> rusqlite::Result<Vec<HeadRow>> {
    db.prepare_cached(&format!(
        "SELECT {HEAD} FROM secrets s JOIN secret_versions v \
         ON v.scope = s.scope AND v.name = s.name AND v.version = s.current WHERE s.scope = ?1"
    ))?
    .query_map([scope], HeadRow::read)?
    .collect()
}

/// The newest version before one.
pub(super) fn before(
    db: &Connection,
    scope: &str,
    name: &str,
    version: u32,
) -> rusqlite::Result<Option<u32>> {
    let query =
        "SELECT max(version) FROM secret_versions WHERE scope = ?1 AND name = ?2 AND version < ?3";
    db.prepare_cached(query)?
        .query_row(params![scope, name, version], |row| row.get(0))
}

/// How many secrets a scope has.
pub(super) fn count(db: &Connection, scope: &str) -> rusqlite::Result<usize> {
    let query = "SELECT count(*) FROM secrets WHERE scope = ?1";
    db.prepare_cached(query)?
        .query_row([scope], |row| row.get(0))
}

/// How many there are of all scopes; two stand for more.
pub(super) fn few(db: &Connection) -> rusqlite::Result<u32> {
    let query = "SELECT count(*) FROM (SELECT 1 FROM secrets LIMIT 2)";
    db.prepare_cached(query)?.query_row([], |row| row.get(0))
}

/// Bytes of all versions of a scope's other secrets. The length of a column is had without reading it.
pub(super) fn bytes_of_others(db: &Connection, scope: &str, name: &str) -> rusqlite::Result<usize> {
    let query = "SELECT coalesce(sum(length(content)), 0) FROM secret_versions WHERE scope = ?1 \
                 AND name <> ?2";
    db.prepare_cached(query)?
        .query_row([scope, name], |row| row.get(0))
}

pub(super) fn put_secret(db: &Connection, row: &SecretRow) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO secrets VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (scope, name) DO UPDATE SET \
         current = excluded.current, newest = excluded.newest, mac = excluded.mac",
        params![row.scope, row.name, row.current, row.newest, row.mac],
    )
    .map(drop)
}

pub(super) fn put_version(db: &Connection, row: &VersionRow) -> rusqlite::Result<()> {
    let head = &row.head;
    db.execute(
        "INSERT INTO secret_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            head.scope,
            head.name,
            head.version,
            head.data_key,
            head.size,
            head.set_at,
            head.set_by,
            head.origin,
            row.content
        ],
    )
    .map(drop)
}

pub(super) fn put_data_key(db: &Connection, row: &HeadRow) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE secret_versions SET data_key = ?4 WHERE scope = ?1 AND name = ?2 AND version = ?3",
    )?
    .execute(params![row.scope, row.name, row.version, row.data_key])
    .map(drop)
}

/// Forgets the oldest versions, but for the one in use: all but the newest `most`, and those that with what is
/// newer have more than `room` bytes.
pub(super) fn prune(
    db: &Connection,
    row: &SecretRow,
    most: u32,
    room: usize,
) -> rusqlite::Result<()> {
    let oldest = row.newest.saturating_sub(most);
    db.execute(
        "DELETE FROM secret_versions WHERE scope = ?1 AND name = ?2 AND version <> ?4 AND (version <= ?3 OR \
         version IN (SELECT version FROM (SELECT version, sum(length(content)) OVER (ORDER BY version DESC) \
         AS bytes FROM secret_versions WHERE scope = ?1 AND name = ?2) WHERE bytes > ?5))",
        params![row.scope, row.name, oldest, row.current, room],
    )
    .map(drop)
}

/// Removes a secret with its versions, and remembers how far these were counted: of the names of a scope that
/// were removed last. Whether it was there; what of it was edited is not looked at.
pub(super) fn remove(
    db: &Connection,
    scope: &str,
    name: &str,
    most: usize,
) -> rusqlite::Result<bool> {
    let removed = db.execute(
        "INSERT OR REPLACE INTO secrets_removed \
         SELECT scope, name, newest FROM secrets WHERE scope = ?1 AND name = ?2",
        [scope, name],
    )?;
    db.execute(
        "DELETE FROM secrets_removed WHERE scope = ?1 AND rowid NOT IN \
         (SELECT rowid FROM secrets_removed WHERE scope = ?1 ORDER BY rowid DESC LIMIT ?2)",
        params![scope, most],
    )?;
    db.execute(
        "DELETE FROM secrets WHERE scope = ?1 AND name = ?2",
        [scope, name],
    )?;
    Ok(removed > 0)
}

/// How far the versions of a secret were counted that was removed.
pub(super) fn removed(db: &Connection, scope: &str, name: &str) -> rusqlite::Result<u32> {
    // Whatever it is edited to, there are numbers left.
    let query = "SELECT max(0, min(newest, 1000000000)) FROM secrets_removed WHERE scope = ?1 AND name = ?2";
    let newest = db
        .prepare_cached(query)?
        .query_row([scope, name], |row| row.get(0))
        .optional()?;
    Ok(newest.unwrap_or_default())
}

/// The secret counts by itself again.
pub(super) fn forget_removed(db: &Connection, row: &SecretRow) -> rusqlite::Result<()> {
    db.execute(
        "DELETE FROM secrets_removed WHERE scope = ?1 AND name = ?2",
        [&row.scope, &row.name],
    )
    .map(drop)
}
