//! The tables of promotions, and of what they are judged by.

use std::sync::Arc;

use havre_api::EnvironmentId;
use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError};

/// Their versions.
pub(crate) const SCHEMA: Schema = Schema {
    name: "promotions",
    migrations: &[include_str!("schema/001.sql")],
};

/// Reports of one environment's images that are looked at, the newest.
const MAX_REPORTS: u32 = 100;
/// Promotions that are over and kept, of the whole machine.
const MAX_OVER: u32 = 1000;

/// That nothing new comes in, because somebody said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FreezeRow {
    pub(crate) reason: String,
    pub(crate) by: String,
    /// Seconds since 1970.
    pub(crate) until: Option<i64>,
}

/// A promotion as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PromotionRow {
    pub(crate) id: u64,
    /// JSON of the release crate.
    pub(crate) promotion: String,
    /// The release that is to come, likewise.
    pub(crate) content: Option<String>,
}

/// What is written of a promotion.
pub(crate) struct Written {
    pub(crate) over: bool,
    pub(crate) promotion: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Environments of a project with what has to hold there, in their order.
    pub(crate) fn gates(&self, project: &str) -> Result<Vec<(String, String)>, StoreError> {
        let project = project.to_owned();
        self.0.run("list gates of environments", move |db| {
            db.prepare(
                "SELECT environment, gates FROM environment_gates WHERE project = ?1 \
                 ORDER BY position, environment",
            )?
            .query_map([project], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
        })
    }

    /// Puts some in force: environment, place in the order, gates. All or none of them.
    pub(crate) fn gates_put(
        &self,
        project: &str,
        gates: Vec<(String, u64, String)>,
    ) -> Result<(), StoreError> {
        let project = project.to_owned();
        self.0.run("write gates of environments", move |db| {
            let transaction = db.transaction()?;
            for (environment, position, gates) in gates {
                transaction.execute(
                    "INSERT INTO environment_gates VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (project, environment) DO UPDATE SET \
                     position = excluded.position, gates = excluded.gates",
                    params![project, environment, position, gates],
                )?;
            }
            transaction.commit()
        })
    }

    /// What somebody said of an environment.
    pub(crate) fn freeze(&self, id: &EnvironmentId) -> Result<Option<FreezeRow>, StoreError> {
        let (project, environment) = names(id);
        self.0.run("look a freeze up", move |db| {
            db.query_row(
                "SELECT reason, by, until FROM freezes WHERE project = ?1 AND environment = ?2",
                params![project, environment],
                |row| {
                    Ok(FreezeRow {
                        reason: row.get(0)?,
                        by: row.get(1)?,
                        until: row.get(2)?,
                    })
                },
            )
            .optional()
        })
    }

    /// In place of what was said before; `None`: nothing is said.
    pub(crate) fn freeze_put(
        &self,
        id: &EnvironmentId,
        freeze: Option<FreezeRow>,
    ) -> Result<(), StoreError> {
        let (project, environment) = names(id);
        self.0.run("write a freeze", move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "DELETE FROM freezes WHERE project = ?1 AND environment = ?2",
                params![project, environment],
            )?;
            if let Some(FreezeRow { reason, by, until }) = freeze {
                transaction.execute(
                    "INSERT INTO freezes VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![project, environment, reason, by, until],
                )?;
            }
            transaction.commit()
        })
    }

    /// Keeps what a test said.
    pub(crate) fn report_add(
        &self,
        id: &EnvironmentId,
        images: &str,
        report: String,
    ) -> Result<(), StoreError> {
        let ((project, environment), images) = (names(id), images.to_owned());
        self.0.run("keep a test's report", move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT INTO test_reports (project, environment, images, report) \
                 VALUES (?1, ?2, ?3, ?4)",
                params![project, environment, images, report],
            )?;
            transaction.execute(
                "DELETE FROM test_reports WHERE project = ?1 AND environment = ?2 AND images = ?3 \
                 AND id NOT IN (SELECT id FROM test_reports WHERE project = ?1 AND environment = ?2 \
                 AND images = ?3 ORDER BY id DESC LIMIT ?4)",
                params![project, environment, images, MAX_REPORTS],
            )?;
            transaction.commit()
        })
    }

    /// What tests said of these images, the oldest first.
    pub(crate) fn reports(
        &self,
        id: &EnvironmentId,
        images: &str,
    ) -> Result<Vec<String>, StoreError> {
        let ((project, environment), images) = (names(id), images.to_owned());
        self.0.run("list reports of tests", move |db| {
            db.prepare(
                "SELECT report FROM test_reports \
                 WHERE project = ?1 AND environment = ?2 AND images = ?3 ORDER BY id",
            )?
            .query_map(params![project, environment, images], |row| row.get(0))?
            .collect()
        })
    }

    /// Makes one; what is written of it depends on its number.
    pub(crate) fn promotion_add(
        &self,
        id: &EnvironmentId,
        content: Option<String>,
        written: impl FnOnce(u64) -> serde_json::Result<Written> + Send + 'static,
    ) -> Result<u64, StoreError> {
        let (project, environment) = names(id);
        self.0.run("make a promotion", move |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT INTO promotions (project, environment, over, promotion, content) \
                 VALUES (?1, ?2, 0, '', ?3)",
                params![project, environment, content],
            )?;
            let number =
                transaction.query_row("SELECT last_insert_rowid()", [], |row| row.get(0))?;
            let unwritable = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            let written = written(number).map_err(unwritable)?;
            put(&transaction, number, &written)?;
            transaction.commit()?;
            Ok(number)
        })
    }

    /// Writes how far one is; of one that is over its release is forgotten, and in time it is itself.
    pub(crate) fn promotion_put(&self, number: u64, written: Written) -> Result<(), StoreError> {
        self.0.run("write a promotion", move |db| {
            let transaction = db.transaction()?;
            put(&transaction, number, &written)?;
            if written.over {
                transaction.execute(
                    "DELETE FROM promotions WHERE over = 1 AND id NOT IN \
                     (SELECT id FROM promotions WHERE over = 1 ORDER BY id DESC LIMIT ?1)",
                    [MAX_OVER],
                )?;
            }
            transaction.commit()
        })
    }

    /// One of them.
    pub(crate) fn promotion(&self, number: u64) -> Result<Option<PromotionRow>, StoreError> {
        self.0.run("look a promotion up", move |db| {
            db.query_row(
                "SELECT id, promotion, content FROM promotions WHERE id = ?1",
                [number],
                promotion_row,
            )
            .optional()
        })
    }

    /// Those that are not over, the oldest first.
    pub(crate) fn pending(&self) -> Result<Vec<PromotionRow>, StoreError> {
        self.0.run("list promotions", |db| {
            db.prepare("SELECT id, promotion, content FROM promotions WHERE over = 0 ORDER BY id")?
                .query_map([], promotion_row)?
                .collect()
        })
    }

    /// Those of an environment, the newest first.
    pub(crate) fn promotions_of(
        &self,
        id: &EnvironmentId,
    ) -> Result<Vec<PromotionRow>, StoreError> {
        let (project, environment) = names(id);
        self.0.run("list an environment's promotions", move |db| {
            db.prepare(
                "SELECT id, promotion, content FROM promotions \
                 WHERE project = ?1 AND environment = ?2 ORDER BY id DESC",
            )?
            .query_map(params![project, environment], promotion_row)?
            .collect()
        })
    }
}

fn names(id: &EnvironmentId) -> (String, String) {
    (id.project.to_string(), id.environment.to_string())
}

fn put(db: &rusqlite::Connection, number: u64, written: &Written) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE promotions SET promotion = ?2, over = ?3, \
         content = CASE ?3 WHEN 0 THEN content ELSE NULL END WHERE id = ?1",
        params![number, written.promotion, written.over],
    )
    .map(drop)
}

fn promotion_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<PromotionRow> {
    Ok(PromotionRow {
        id: row.get(0)?,
        promotion: row.get(1)?,
        content: row.get(2)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::id;

    fn written(text: &str, over: bool) -> Written {
        Written {
            over,
            promotion: text.to_owned(),
        }
    }

    #[test]
    fn what_is_over_is_no_longer_pending_and_its_number_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let shop = id("shop");
        let add = |content: Option<&str>| {
            let content = content.map(str::to_owned);
            let made = tables.promotion_add(&shop, content, |number| {
                Ok(written(&format!("new {number}"), false))
            });
            made.unwrap()
        };
        assert_eq!([add(Some("release")), add(None)], [1, 2]);
        let of = |number: u64| tables.promotion(number).unwrap().unwrap();
        assert_eq!(of(1).promotion, "new 1");
        tables.promotion_put(1, written("waits", false)).unwrap();
        assert_eq!(of(1).content.as_deref(), Some("release"));
        tables.promotion_put(1, written("over", true)).unwrap();
        assert_eq!(of(1).content, None);
        let pending = tables.pending().unwrap();
        assert_eq!(Vec::from_iter(pending.iter().map(|row| row.id)), [2]);
        let all = tables.promotions_of(&shop).unwrap();
        assert_eq!(Vec::from_iter(all.iter().map(|row| row.id)), [2, 1]);
        assert_eq!(add(None), 3);
    }

    #[test]
    fn a_freeze_takes_the_place_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap();
        let tables = Tables::new(Arc::new(store));
        let row = |reason: &str, until| FreezeRow {
            reason: reason.to_owned(),
            by: "anna".to_owned(),
            until,
        };
        for freeze in [Some(row("a", None)), Some(row("b", Some(7))), None] {
            tables.freeze_put(&id("shop"), freeze.clone()).unwrap();
            assert_eq!(tables.freeze(&id("shop")).unwrap(), freeze);
        }
    }
}
