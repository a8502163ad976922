//! The tables: rows in and out, nothing decided.

use std::time::SystemTime;

use havre_base::time::rfc3339;
use havre_store::Schema;
use havre_store::rusqlite::types::Type;
use havre_store::rusqlite::{self, Connection, OptionalExtension as _, Row, params};

use crate::chain::{Hash, Key, Purpose, link};
use crate::head::Head;
use crate::record::{Entry, Record};
use crate::retention::Kept;

/// Its versions.
pub const SCHEMA: Schema = Schema {
    name: "audit",
    migrations: &[include_str!("schema/001.sql")],
};

/// Which records to show. What is not said excludes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// At that time or later.
    pub since: Option<SystemTime>,
    /// Before that time.
    pub until: Option<SystemTime>,
    /// By whom: a name, `kind:name` or an id.
    pub principal: Option<String>,
    /// What: an action, or the part before its `/`.
    pub action: Option<String>,
    /// In which project.
    pub project: Option<String>,
    /// In which environment.
    pub environment: Option<String>,
    /// The newest that many.
    pub limit: u32,
}

/// A record, and the one that says what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What was begun, or done at once.
    pub record: Record,
    /// What came of what was begun.
    pub ended: Option<Record>,
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) sequence: u64,
    pub(crate) record: String,
    pub(crate) hash: Hash,
}

/// A head or a cut, with this machine's word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) head: Head,
    pub(crate) mac: Option<Hash>,
}

/// Adds a record behind another.
pub(crate) fn append(
    db: &Connection,
    before: Head,
    entry: Entry,
    at: SystemTime,
    key: Option<&Key>,
) -> rusqlite::Result<Head> {
    let record = Record::new(entry, before.sequence + 1, at);
    let text = record
        .canonical()
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let head = Head {
        sequence: record.sequence,
        hash: link(&before.hash, &text),
    };
    db.execute(
        "INSERT INTO audit (sequence, record, hash) VALUES (?1, ?2, ?3)",
        params![head.sequence, text, head.hash.0],
    )?;
    put_head(db, head, key)?;
    Ok(head)
}

/// Says once more which record is the newest.
pub(crate) fn put_head(db: &Connection, head: Head, key: Option<&Key>) -> rusqlite::Result<()> {
    let put = "INSERT INTO audit_head VALUES (1, ?1, ?2, ?3) ON CONFLICT (one) DO UPDATE \
               SET sequence = excluded.sequence, hash = excluded.hash, mac = excluded.mac";
    put_signed(db, put, Purpose::Head, head, key)
}

/// Removes all records up to `cut`, with which the chain goes on.
pub(crate) fn put_cut(db: &Connection, cut: Head, key: Option<&Key>) -> rusqlite::Result<()> {
    let put = "INSERT INTO audit_cut VALUES (1, ?1, ?2, ?3) ON CONFLICT (one) DO UPDATE \
               SET sequence = excluded.sequence, hash = excluded.hash, mac = excluded.mac";
    put_signed(db, put, Purpose::Cut, cut, key)?;
    db.execute("DELETE FROM audit WHERE sequence <= ?1", [cut.sequence])
        .map(drop)
}

fn put_signed(
    db: &Connection,
    put: &str,
    purpose: Purpose,
    head: Head,
    key: Option<&Key>,
) -> rusqlite::Result<()> {
    let mac = key.map(|key| key.sign(purpose, head.sequence, &head.hash).0);
    db.execute(put, params![head.sequence, head.hash.0, mac])
        .map(drop)
}

/// What the next record follows. Where head and rows do not agree, which `verify` tells, the later one of them, so that
/// the trail goes on.
pub(crate) fn newest(db: &Connection) -> rusqlite::Result<Head> {
    let row = "SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1";
    let row = db.query_row(row, [], head_of).optional()?;
    let all = [
        row,
        head(db)?.map(|head| head.head),
        cut(db)?.map(|cut| cut.head),
    ];
    let newest = all.into_iter().flatten().max_by_key(|head| head.sequence);
    Ok(newest.unwrap_or(Head::START))
}

pub(crate) fn head(db: &Connection) -> rusqlite::Result<Option<Signed>> {
    db.query_row("SELECT sequence, hash, mac FROM audit_head", [], signed)
        .optional()
}

pub(crate) fn cut(db: &Connection) -> rusqlite::Result<Option<Signed>> {
    db.query_row("SELECT sequence, hash, mac FROM audit_cut", [], signed)
        .optional()
}

/// So many rows behind a record, and no later than another.
pub(crate) fn rows(
    db: &Connection,
    after: u64,
    until: u64,
    limit: u32,
) -> rusqlite::Result<Vec<StoredRow>> {
    let query = "SELECT sequence, hash, record FROM audit \
                 WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3";
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map(params![after, until, limit], |row| {
        let head = head_of(row)?;
        Ok(StoredRow {
            sequence: head.sequence,
            hash: head.hash,
            record: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// The bytes of the texts of all rows.
pub(crate) fn bytes(db: &Connection) -> rusqlite::Result<u64> {
    let all = "SELECT coalesce(sum(octet_length(record)), 0) FROM audit";
    db.query_row(all, [], |row| row.get(0))
}

/// The oldest rows.
pub(crate) fn oldest(db: &Connection, limit: u32) -> rusqlite::Result<Vec<Kept>> {
    let query = "SELECT sequence, coalesce(at, ''), octet_length(record) FROM audit \
                 ORDER BY sequence LIMIT ?1";
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([limit], |row| {
        Ok(Kept {
            sequence: row.get(0)?,
            at: row.get(1)?,
            bytes: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// Whether a key has signed anything that is there, or a record of that action is.
pub(crate) fn is_signed(db: &Connection, action: &str) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM audit_head WHERE mac IS NOT NULL) \
                 OR EXISTS (SELECT 1 FROM audit_cut WHERE mac IS NOT NULL) \
                 OR EXISTS (SELECT 1 FROM audit WHERE action = ?1)";
    db.query_row(query, [action], |row| row.get(0))
}

pub(crate) fn row_hash(db: &Connection, sequence: u64) -> rusqlite::Result<Option<Hash>> {
    let query = "SELECT sequence, hash FROM audit WHERE sequence = ?1";
    let found = db.query_row(query, [sequence], head_of).optional()?;
    Ok(found.map(|head| head.hash))
}

/// Whether a record is there, and of that action.
pub(crate) fn is_of(db: &Connection, sequence: u64, action: &str) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM audit WHERE sequence = ?1 AND action = ?2)";
    db.query_row(query, params![sequence, action], |row| row.get(0))
}

/// The newest records that a query asks for, the oldest of them first. What came of an event stands with
/// it, and by itself only where the event was cut off.
pub(crate) fn shown(db: &Connection, query: &Query) -> rusqlite::Result<Vec<Shown>> {
    const SELECT: &str = "\
        SELECT a.record, e.record FROM audit AS a LEFT JOIN audit AS e ON e.of = a.sequence \
        WHERE (a.of IS NULL OR NOT EXISTS (SELECT 1 FROM audit AS b WHERE b.sequence = a.of)) \
          AND (?1 IS NULL OR a.at >= ?1) AND (?2 IS NULL OR a.at < ?2) \
          AND (?3 IS NULL OR ?3 IN ( \
            json_extract(a.record, '$.principal.name'), \
            json_extract(a.record, '$.principal.id'), \
            json_extract(a.record, '$.principal.kind') || ':' || json_extract(a.record, '$.principal.name'))) \
          AND (?4 IS NULL OR a.action = ?4 OR substr(a.action, 1, length(?4) + 1) = ?4 || '/') \
          AND (?5 IS NULL OR a.project = ?5) AND (?6 IS NULL OR a.environment = ?6) \
        ORDER BY a.sequence DESC LIMIT ?7";
    let time = |at: Option<SystemTime>| at.map(|at| rfc3339(at, 3));
    let mut statement = db.prepare(SELECT)?;
    let wanted = params![
        time(query.since),
        time(query.until),
        query.principal,
        query.action,
        query.project,
        query.environment,
        query.limit
    ];
    let rows = statement.query_map(wanted, |row| {
        let ended: Option<String> = row.get(1)?;
        Ok(Shown {
            record: parsed(0, &row.get::<_, String>(0)?)?,
            ended: ended.map(|text| parsed(1, &text)).transpose()?,
        })
    })?;
    let mut rows: Vec<Shown> = rows.collect::<Result<_, _>>()?;
    rows.reverse();
    Ok(rows)
}

pub(crate) fn sealed_key(db: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    db.query_row("SELECT sealed FROM audit_key", [], |row| row.get(0))
        .optional()
}

pub(crate) fn put_sealed_key(db: &Connection, sealed: &[u8]) -> rusqlite::Result<()> {
    let put = "INSERT INTO audit_key VALUES (1, ?1) \
               ON CONFLICT (one) DO UPDATE SET sealed = excluded.sealed";
    db.execute(put, [sealed]).map(drop)
}

fn head_of(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        sequence: row.get(0)?,
        hash: Hash(row.get(1)?),
    })
}

fn signed(row: &Row<'_>) -> rusqlite::Result<Signed> {
    Ok(Signed {
        head: head_of(row)?,
        mac: row.get::<_, Option<[u8; 32]>>(2)?.map(Hash),
    })
}

fn parsed(column: usize, text: &str) -> rusqlite::Result<Record> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}
