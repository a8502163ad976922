//! Settings of the machine: small values by key.

use rusqlite::OptionalExtension;

use crate::{Store, StoreError};

impl Store {
    /// The value of `key`.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.run("read a setting", |db| {
            db.query_row("SELECT value FROM settings WHERE key = ?1", [key], |row| {
                row.get(0)
            })
            .optional()
        })
    }

    /// Sets `key` to `value`.
    pub fn setting_put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.run("write a setting", |db| {
            db.execute(
                "INSERT INTO settings VALUES (?1, ?2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )
            .map(drop)
        })
    }
}
