//! Networks of the machine, which environments share.

use rusqlite::{OptionalExtension, params};

use crate::database::now;
use crate::{Store, StoreError};

/// A network that environments share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRow {
    /// Its name.
    pub name: String,
    /// Without a way out.
    pub internal: bool,
    /// When it was made.
    pub created_at: i64,
}

impl Store {
    /// Makes a network; `false` where there is one of that name, which stays as it is.
    pub fn network_put(&self, name: &str, internal: bool) -> Result<bool, StoreError> {
        self.run("make a network", |db| {
            let made = db.execute(
                "INSERT INTO networks VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
                params![name, internal, now()],
            )?;
            Ok(made > 0)
        })
    }

    /// The network of that name.
    pub fn network(&self, name: &str) -> Result<Option<NetworkRow>, StoreError> {
        self.run("look a network up", |db| {
            db.query_row(
                "SELECT name, internal, created_at FROM networks WHERE name = ?1",
                [name],
                network_row,
            )
            .optional()
        })
    }

    /// All networks, by name.
    pub fn networks(&self) -> Result<Vec<NetworkRow>, StoreError> {
        self.run("list networks", |db| {
            db.prepare("SELECT name, internal, created_at FROM networks ORDER BY name")?
                .query_map([], network_row)?
                .collect()
        })
    }

    /// Removes a network; `false` where there was none of that name.
    pub fn network_remove(&self, name: &str) -> Result<bool, StoreError> {
        self.run("remove a network", |db| {
            let removed = db.execute("DELETE FROM networks WHERE name = ?1", [name])?;
            Ok(removed > 0)
        })
    }
}

fn network_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<NetworkRow> {
    Ok(NetworkRow {
        name: row.get(0)?,
        internal: row.get(1)?,
        created_at: row.get(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_made_once_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let store = Store::open(&path).unwrap();
        assert!(store.network_put("proxy", true).unwrap());
        assert!(!store.network_put("proxy", false).unwrap());
        assert!(store.network_put("backbone", false).unwrap());
        drop(store);
        let store = Store::open(&path).unwrap();
        let names = |store: &Store| -> Vec<String> {
            let all = store.networks().unwrap();
            all.into_iter().map(|network| network.name).collect()
        };
        assert_eq!(names(&store), ["backbone", "proxy"]);
        assert!(store.network("proxy").unwrap().unwrap().internal);
        assert!(store.network_remove("proxy").unwrap());
        assert!(!store.network_remove("proxy").unwrap());
        assert_eq!(store.network("proxy").unwrap(), None);
    }
}
