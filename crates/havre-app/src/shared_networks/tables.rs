//! Networks of the machine, which environments share: their table.

use std::sync::Arc;

use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError, now};

/// Its versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "networks",
    migrations: &[include_str!("schema/001.sql")],
};

/// A network that environments share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRow {
    /// Its name.
    pub(crate) name: String,
    /// Without a way out.
    pub(crate) internal: bool,
    /// When it was made.
    pub(crate) created_at: i64,
}

/// The table of networks.
#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Makes a network; `false` where there is one of that name, which stays as it is.
    pub(crate) fn network_put(&self, name: &str, internal: bool) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.0.run("make a network", move |db| {
            let made = db.execute(
                "INSERT INTO networks VALUES (?1, ?2, ?3) ON CONFLICT (name) DO NOTHING",
                params![name, internal, now()],
            )?;
            Ok(made > 0)
        })
    }

    /// The network of that name.
    pub(crate) fn network(&self, name: &str) -> Result<Option<NetworkRow>, StoreError> {
        let name = name.to_owned();
        self.0.run("look a network up", move |db| {
            db.query_row(
                "SELECT name, internal, created_at FROM networks WHERE name = ?1",
                [name],
                network_row,
            )
            .optional()
        })
    }

    /// All networks, by name.
    pub(crate) fn networks(&self) -> Result<Vec<NetworkRow>, StoreError> {
        self.0.run("list networks", |db| {
            db.prepare("SELECT name, internal, created_at FROM networks ORDER BY name")?
                .query_map([], network_row)?
                .collect()
        })
    }

    /// Removes a network; `false` where there was none of that name.
    pub(crate) fn network_remove(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.0.run("remove a network", move |db| {
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

    fn opened(path: &std::path::Path) -> Tables {
        Tables::new(Arc::new(Store::open(path, &[SCHEMA]).unwrap()))
    }

    #[test]
    fn networks_are_made_once_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let tables = opened(&path);
        assert!(tables.network_put("proxy", true).unwrap());
        assert!(!tables.network_put("proxy", false).unwrap());
        assert!(tables.network_put("backbone", false).unwrap());
        drop(tables);
        let tables = opened(&path);
        let names = |tables: &Tables| -> Vec<String> {
            let all = tables.networks().unwrap();
            all.into_iter().map(|network| network.name).collect()
        };
        assert_eq!(names(&tables), ["backbone", "proxy"]);
        assert!(tables.network("proxy").unwrap().unwrap().internal);
        assert!(tables.network_remove("proxy").unwrap());
        assert!(!tables.network_remove("proxy").unwrap());
        assert_eq!(tables.network("proxy").unwrap(), None);
    }
}
