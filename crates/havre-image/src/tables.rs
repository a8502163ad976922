//! Names of images, the build cache and leases on stored objects: the image store's tables.

use std::sync::Arc;

use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError, now};

use crate::names::{NameRefused, NameRights, NameUse};
use crate::{Digest, ImageRef};

/// A document about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// Of the manifest that refers to the image.
    pub manifest: Digest,
    /// Of the document.
    pub document: Digest,
    /// What it is.
    pub kind: String,
}

/// Their versions.
pub const SCHEMA: Schema = Schema {
    name: "images",
    migrations: &[
        include_str!("schema/001.sql"),
        include_str!("schema/002.sql"),
        include_str!("schema/003.sql"),
    ],
};

/// A name and the manifest it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRow {
    /// Canonical reference.
    pub(crate) reference: String,
    /// Digest of the manifest.
    pub(crate) manifest_digest: String,
    /// When the name was last given.
    pub(crate) created_at: i64,
    /// Who gave it, in the caller's words.
    pub(crate) giver: Option<String>,
}

/// One entry of the build cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheRow {
    /// Digest of all the step depends on.
    pub(crate) key: String,
    /// JSON of the builder.
    pub(crate) value: String,
    /// When the entry last saved a step.
    pub(crate) used_at: i64,
}

/// The tables of images, build cache and leases.
#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Lets `reference` stand for `manifest_digest`, unless it is not to be given.
    pub(crate) fn image_put(
        &self,
        reference: &ImageRef,
        manifest_digest: &str,
        rights: &NameRights,
    ) -> Result<Result<(), NameRefused>, StoreError> {
        let (reference, manifest_digest) = (reference.clone(), manifest_digest.to_owned());
        let rights = rights.clone();
        self.0.run("name an image", move |db| {
            let transaction = db.transaction()?;
            let key = reference.canonical();
            if let Some(row) = image(&transaction, &key)?
                && let Err(refused) = rights.check(NameUse::Give, &reference, row.giver.as_deref())
            {
                return Ok(Err(refused));
            }
            transaction.execute(
                "INSERT INTO images (reference, manifest_digest, created_at, giver) \
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT (reference) DO UPDATE SET \
                 manifest_digest = excluded.manifest_digest, created_at = excluded.created_at, \
                 giver = excluded.giver",
                params![key, manifest_digest, now(), rights.giver],
            )?;
            transaction.commit().map(Ok)
        })
    }

    /// What `reference` stands for.
    pub(crate) fn image(&self, reference: &str) -> Result<Option<ImageRow>, StoreError> {
        let reference = reference.to_owned();
        self.0
            .run("look an image up", move |db| image(db, &reference))
    }

    /// All names, in order.
    pub(crate) fn images(&self) -> Result<Vec<ImageRow>, StoreError> {
        self.0.run("list images", move |db| {
            db.prepare(
                "SELECT reference, manifest_digest, created_at, giver FROM images \
                 ORDER BY reference",
            )?
            .query_map([], image_row)?
            .collect()
        })
    }

    /// Forgets a name; `false` when there was none.
    pub(crate) fn image_remove(&self, reference: &str) -> Result<bool, StoreError> {
        let reference = reference.to_owned();
        self.0.run("remove an image's name", move |db| {
            db.execute("DELETE FROM images WHERE reference = ?1", [reference])
                .map(|rows| rows > 0)
        })
    }

    /// The cached result for `key`; marks it as used.
    pub(crate) fn build_cache(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.0.run("read the build cache", move |db| {
            db.query_row(
                "UPDATE build_cache SET used_at = ?2 WHERE key = ?1 RETURNING value",
                params![key, now()],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Keeps `value` for `key`; call it only once what the value names is durable.
    pub(crate) fn build_cache_put(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.0.run("write the build cache", move |db| {
            db.execute(
                "INSERT INTO build_cache VALUES (?1, ?2, ?3, ?3) ON CONFLICT (key) DO UPDATE SET \
                 value = excluded.value, used_at = excluded.used_at",
                params![key, value, now()],
            )
            .map(drop)
        })
    }

    /// All entries, the one unused for longest first.
    pub(crate) fn build_cache_rows(&self) -> Result<Vec<CacheRow>, StoreError> {
        self.0.run("list the build cache", move |db| {
            db.prepare("SELECT key, value, used_at FROM build_cache ORDER BY used_at, key")?
                .query_map([], |row| {
                    Ok(CacheRow {
                        key: row.get(0)?,
                        value: row.get(1)?,
                        used_at: row.get(2)?,
                    })
                })?
                .collect()
        })
    }

    /// Forgets one entry, unless it was used after `used_at`; whether it is forgotten.
    pub(crate) fn build_cache_remove_unused(
        &self,
        key: &str,
        used_at: i64,
    ) -> Result<bool, StoreError> {
        let key = key.to_owned();
        self.0.run("remove a build cache entry", move |db| {
            db.execute(
                "DELETE FROM build_cache WHERE key = ?1 AND used_at <= ?2",
                params![key, used_at],
            )
            .map(|rows| rows > 0)
        })
    }

    /// Makes `holder` hold exactly `objects`.
    pub(crate) fn lease_put(&self, holder: &str, objects: &[String]) -> Result<(), StoreError> {
        let (holder, objects) = (holder.to_owned(), objects.to_vec());
        self.0.run("take a lease", move |db| {
            let transaction = db.transaction()?;
            transaction.execute("DELETE FROM leases WHERE holder = ?1", [&holder])?;
            for object in objects {
                transaction.execute(
                    "INSERT OR IGNORE INTO leases VALUES (?1, ?2)",
                    [&holder, &object],
                )?;
            }
            transaction.commit()
        })
    }

    /// Lets go of all that `holder` holds.
    pub(crate) fn lease_release(&self, holder: &str) -> Result<(), StoreError> {
        let holder = holder.to_owned();
        self.0.run("release a lease", move |db| {
            db.execute("DELETE FROM leases WHERE holder = ?1", [holder])
                .map(drop)
        })
    }

    /// All leases as (holder, object).
    pub(crate) fn leases(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.0.run("list leases", move |db| {
            db.prepare("SELECT holder, object FROM leases ORDER BY holder, object")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Keeps what is said of an image, and the `most` newest of it.
    pub(crate) fn attestation_put(
        &self,
        subject: &str,
        row: &Attestation,
        most: usize,
    ) -> Result<(), StoreError> {
        let (subject, row) = (subject.to_owned(), row.clone());
        self.0.run("keep what is said of an image", move |db| {
            let change = db.transaction()?;
            change.execute(
                "INSERT OR REPLACE INTO attestations VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    subject,
                    row.manifest.to_string(),
                    row.document.to_string(),
                    row.kind,
                    now()
                ],
            )?;
            change.execute(
                "DELETE FROM attestations WHERE subject = ?1 AND manifest NOT IN (
                     SELECT manifest FROM attestations WHERE subject = ?1 ORDER BY made_at DESC LIMIT ?2)",
                params![subject, i64::try_from(most).unwrap_or(i64::MAX)],
            )?;
            change.commit()
        })
    }

    pub(crate) fn attestations(&self, subject: &str) -> Result<Vec<Attestation>, StoreError> {
        let subject = subject.to_owned();
        self.0.run("read what is said of an image", move |db| {
            db.prepare(
                "SELECT manifest, document, kind FROM attestations WHERE subject = ?1 ORDER BY made_at DESC, manifest",
            )?
            .query_map([subject], |row| attestation(row, 0))?
            .collect()
        })
    }

    pub(crate) fn all_attestations(&self) -> Result<Vec<(String, Attestation)>, StoreError> {
        self.0.run("read what is said of images", move |db| {
            db.prepare("SELECT subject, manifest, document, kind FROM attestations")?
                .query_map([], |row| Ok((row.get(0)?, attestation(row, 1)?)))?
                .collect()
        })
    }

    pub(crate) fn attestations_remove(&self, subject: &str) -> Result<(), StoreError> {
        let subject = subject.to_owned();
        self.0.run("forget what was said of an image", move |db| {
            let delete = "DELETE FROM attestations WHERE subject = ?1";
            db.execute(delete, [subject]).map(drop)
        })
    }
}

fn attestation(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Attestation> {
    let digest = |at: usize| {
        let text: String = row.get(at)?;
        let parsed = text.parse();
        parsed.map_err(|error: crate::DigestError| {
            rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, error.into())
        })
    };
    Ok(Attestation {
        manifest: digest(from)?,
        document: digest(from + 1)?,
        kind: row.get(from + 2)?,
    })
}

fn image(db: &rusqlite::Connection, reference: &str) -> rusqlite::Result<Option<ImageRow>> {
    db.query_row(
        "SELECT reference, manifest_digest, created_at, giver FROM images WHERE reference = ?1",
        [reference],
        image_row,
    )
    .optional()
}

fn image_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        reference: row.get(0)?,
        manifest_digest: row.get(1)?,
        created_at: row.get(2)?,
        giver: row.get(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> (tempfile::TempDir, Tables) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db"), &[SCHEMA]).unwrap();
        (dir, Tables::new(Arc::new(store)))
    }

    #[test]
    fn a_name_moves_to_the_newest_manifest() {
        let (_dir, tables) = tables();
        let (name, rights) = ("a:1".parse().unwrap(), NameRights::everything());
        for digest in ["sha256:1", "sha256:2"] {
            let put = tables.image_put(&name, digest, &rights).unwrap();
            put.unwrap();
        }
        let row = tables.image("docker.io/library/a:1").unwrap().unwrap();
        assert_eq!(row.manifest_digest, "sha256:2");
        assert!(tables.image_remove("docker.io/library/a:1").unwrap());
        assert!(!tables.image_remove("docker.io/library/a:1").unwrap());
    }

    #[test]
    fn a_lease_holds_exactly_what_was_given_last() {
        let (_dir, tables) = tables();
        tables.lease_put("c1", &["a".into(), "b".into()]).unwrap();
        tables.lease_put("c1", &["b".into(), "c".into()]).unwrap();
        let held = [
            ("c1".to_owned(), "b".to_owned()),
            ("c1".to_owned(), "c".to_owned()),
        ];
        assert_eq!(tables.leases().unwrap(), held);
        tables.lease_release("c1").unwrap();
        assert!(tables.leases().unwrap().is_empty());
    }
}
