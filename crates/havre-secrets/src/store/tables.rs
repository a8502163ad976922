//! The tables of seals, secrets and their versions.

use havre_store::rusqlite::params;
use havre_store::{Schema, Store, StoreError, now};

/// Their versions.
pub const SCHEMA: Schema = Schema {
    name: "secrets",
    migrations: &[
        include_str!("../schema/001.sql"),
        include_str!("../schema/002.sql"),
        include_str!("../schema/003.sql"),
    ],
};

/// Whether there was a seal with this database before: none is made in its place then.
pub fn is_anything_sealed(store: &Store) -> Result<bool, StoreError> {
    store.run("look for seals", |db| {
        db.query_row("SELECT EXISTS (SELECT * FROM seals)", [], |row| row.get(0))
    })
}

/// Notes that this seal is in use with this database.
pub fn note_seal(store: &Store, id: &str) -> Result<(), StoreError> {
    let id = id.to_owned();
    store.run("note the seal", move |db| {
        db.execute(
            "INSERT INTO seals VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![id, now()],
        )
        .map(drop)
    })
}
