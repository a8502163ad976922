//! Accounts, certificates and attempts on disk. Keys come here sealed.

use std::sync::Arc;

use havre_store::rusqlite::{self, OptionalExtension as _, params};
use havre_store::{Schema, Store, StoreError, now};

use crate::moment::Moment;
use crate::name::Name;
use crate::record::{Attempts, Held, Source, Wait};

/// Its versions.
pub const SCHEMA: Schema = Schema {
    name: "acme",
    migrations: &[
        include_str!("schema/001.sql"),
        include_str!("schema/002.sql"),
    ],
};

/// A certificate with its sealed key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: Name,
    pub(crate) held: Held,
    pub(crate) chain: String,
    pub(crate) sealed_key: Vec<u8>,
}

/// What is sealed, with what names it.
#[derive(Debug)]
pub(crate) struct AllSealed {
    /// By the id of a certificate.
    pub(crate) keys: Vec<(String, Vec<u8>)>,
    /// By the directory of an authority.
    pub(crate) accounts: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// The sealed credentials of an account.
    pub(crate) fn account(&self, directory: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let directory = directory.to_owned();
        self.0.run("look an ACME account up", move |db| {
            db.query_row(
                "SELECT credentials FROM acme_accounts WHERE directory = ?1",
                [directory],
                |row| row.get(0),
            )
            .optional()
        })
    }

    /// Keeps a new account. There is none before: an account is never replaced by the way.
    pub(crate) fn account_put(
        &self,
        directory: &str,
        url: &str,
        sealed: Vec<u8>,
    ) -> Result<(), StoreError> {
        let (directory, url) = (directory.to_owned(), url.to_owned());
        self.0.run("keep an ACME account", move |db| {
            db.execute(
                "INSERT INTO acme_accounts VALUES (?1, ?2, ?3, ?4)",
                params![directory, url, sealed, now()],
            )
            .map(drop)
        })
    }

    /// All that is sealed, with the id of its certificate or the directory of its account.
    pub(crate) fn sealed(&self) -> Result<AllSealed, StoreError> {
        self.0.run("list what is sealed for certificates", |db| {
            let all = |query| -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
                db.prepare(query)?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            };
            Ok(AllSealed {
                keys: all("SELECT id, key FROM acme_certificates")?,
                accounts: all("SELECT directory, credentials FROM acme_accounts")?,
            })
        })
    }

    /// Puts what was sealed anew in the place of what it was. Where that is gone meanwhile nothing is changed.
    pub(crate) fn sealed_put(&self, anew: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        self.0.run("keep what is sealed anew", move |db| {
            let change = db.transaction()?;
            for (before, after) in &anew {
                for update in [
                    "UPDATE acme_certificates SET key = ?2 WHERE key = ?1",
                    "UPDATE acme_accounts SET credentials = ?2 WHERE credentials = ?1",
                ] {
                    change.execute(update, params![before, after])?;
                }
            }
            change.commit()
        })
    }

    /// The certificates of all names.
    pub(crate) fn certificates(&self) -> Result<Vec<Row>, StoreError> {
        self.0.run("list certificates", |db| {
            db.prepare(
                "SELECT name, authority, id, chain, key, valid_from, valid_until, since, renewal, \
                 next_look FROM acme_certificates ORDER BY name",
            )?
            .query_map([], row)?
            .filter_map(Result::transpose)
            .collect()
        })
    }

    /// Replaces the certificates of these names, and forgets what was tried before: of all or of none.
    pub(crate) fn certificates_put(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.0.run("keep a certificate", move |db| {
            let change = db.transaction()?;
            for row in rows {
                put(&change, row)?;
            }
            change.commit()
        })
    }

    /// Notes what was learned about a certificate; of another one of the same name it is not true.
    pub(crate) fn renewal_put(&self, name: &Name, held: &Held) -> Result<(), StoreError> {
        let (name, id) = (name.clone(), held.id.clone());
        let (renewal, next_look) = (json(held.ari.as_ref()), held.next_look.0);
        self.0.run("note when a certificate is to be replaced", move |db| {
            db.execute(
                "UPDATE acme_certificates SET renewal = ?3, next_look = ?4 WHERE name = ?1 AND id = ?2",
                params![name.as_str(), id, renewal, next_look],
            )
            .map(drop)
        })
    }

    /// Removes a name's certificate and all that was tried for it.
    pub(crate) fn forget(&self, name: &Name) -> Result<(), StoreError> {
        let name = name.clone();
        self.0.run("forget a certificate", move |db| {
            let change = db.transaction()?;
            for table in ["acme_certificates", "acme_attempts"] {
                let delete = format!("DELETE FROM {table} WHERE name = ?1");
                change.execute(&delete, [name.as_str()])?;
            }
            change.commit()
        })
    }

    /// What was tried, by name. What an other version wrote and this one cannot read is begun anew.
    pub(crate) fn attempts(&self) -> Result<Vec<(Name, Attempts)>, StoreError> {
        self.0.run("list attempts for certificates", |db| {
            let mut all = Vec::new();
            let mut statement = db.prepare("SELECT name, attempts FROM acme_attempts")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (name, text): (String, String) = (row.get(0)?, row.get(1)?);
                let read = serde_json::from_str(&text);
                if let (Some(name), Ok(attempts)) = (Name::parse(&name), read) {
                    all.push((name, attempts));
                }
            }
            Ok(all)
        })
    }

    /// Authorities that have said until when they are not to be asked. What cannot be read is forgotten.
    pub(crate) fn waits(&self) -> Result<Vec<(String, Wait)>, StoreError> {
        self.0
            .run("list authorities that are not to be asked", |db| {
                let mut all = Vec::new();
                let mut statement = db.prepare("SELECT authority, wait FROM acme_waits")?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let (authority, text): (String, String) = (row.get(0)?, row.get(1)?);
                    if let Ok(wait) = serde_json::from_str(&text) {
                        all.push((authority, wait));
                    }
                }
                Ok(all)
            })
    }

    /// Notes until when an authority is not to be asked.
    pub(crate) fn wait_put(&self, authority: &str, wait: &Wait) -> Result<(), StoreError> {
        let (authority, text) = (authority.to_owned(), json(Some(wait)));
        self.0.run("note that an authority waits", move |db| {
            db.execute(
                "INSERT OR REPLACE INTO acme_waits VALUES (?1, ?2)",
                params![authority, text],
            )
            .map(drop)
        })
    }

    /// Notes what was tried for a name.
    pub(crate) fn attempts_put(&self, name: &Name, attempts: &Attempts) -> Result<(), StoreError> {
        let (name, text) = (name.clone(), json(Some(attempts)));
        self.0.run("note an attempt for a certificate", move |db| {
            db.execute(
                "INSERT OR REPLACE INTO acme_attempts VALUES (?1, ?2)",
                params![name.as_str(), text],
            )
            .map(drop)
        })
    }
}

fn put(change: &rusqlite::Transaction<'_>, row: Row) -> rusqlite::Result<()> {
    let Row {
        name,
        held,
        chain,
        sealed_key,
    } = row;
    let authority = match held.source {
        Source::Authority(name) => Some(name),
        Source::Imported => None,
    };
    change.execute(
        "INSERT OR REPLACE INTO acme_certificates VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            name.as_str(),
            authority,
            held.id,
            chain,
            sealed_key,
            held.from.0,
            held.until.0,
            held.since.0,
            json(held.ari.as_ref()),
            held.next_look.0
        ],
    )?;
    let forget = "DELETE FROM acme_attempts WHERE name = ?1";
    change.execute(forget, [name.as_str()]).map(drop)
}

/// Our own types, whose keys are texts: they can be written.
fn json<T: serde::Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok())
}

/// `None` for a name that this version does not know how to read.
fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Row>> {
    let name: String = row.get(0)?;
    let Some(name) = Name::parse(&name) else {
        return Ok(None);
    };
    let renewal: Option<String> = row.get(8)?;
    let authority: Option<String> = row.get(1)?;
    Ok(Some(Row {
        name,
        chain: row.get(3)?,
        sealed_key: row.get(4)?,
        held: Held {
            id: row.get(2)?,
            source: authority.map_or(Source::Imported, Source::Authority),
            from: Moment(row.get(5)?),
            until: Moment(row.get(6)?),
            since: Moment(row.get(7)?),
            ari: renewal.and_then(|text| serde_json::from_str(&text).ok()),
            next_look: Moment(row.get(9)?),
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ari::Ari;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let open = || Tables::new(Arc::new(Store::open(&path, &[SCHEMA]).unwrap()));
        let tables = open();
        let name = Name::parse("a.dev").unwrap();
        let mut held = Held {
            id: "k.1".to_owned(),
            source: Source::Authority("ca".to_owned()),
            from: Moment(1),
            until: Moment(2),
            since: Moment(3),
            ari: None,
            next_look: Moment(4),
        };
        let row = Row {
            name: name.clone(),
            held: held.clone(),
            chain: "chain".to_owned(),
            sealed_key: vec![1, 2],
        };
        let mut attempts = Attempts::default();
        attempts.ask(Moment(9));
        tables.attempts_put(&name, &attempts).unwrap();
        assert_eq!(tables.attempts().unwrap(), [(name.clone(), attempts)]);
        tables.certificates_put(vec![row.clone()]).unwrap();
        assert_eq!(tables.attempts().unwrap(), []);

        held.ari = Some(Ari {
            start: Moment(5),
            end: Moment(7),
            moment: Moment(6),
            explanation: None,
        });
        tables.renewal_put(&name, &held).unwrap();
        let other = Held {
            id: "k.2".to_owned(),
            ari: None,
            ..held.clone()
        };
        tables.renewal_put(&name, &other).unwrap();
        let wait = Wait {
            failures: 1,
            until: Moment(8),
            told: true,
        };
        tables.wait_put("ca", &Wait::default()).unwrap();
        tables.wait_put("ca", &wait).unwrap();
        drop(tables);
        let tables = open();
        assert_eq!(tables.waits().unwrap(), [("ca".to_owned(), wait)]);
        let expected = Row { held, ..row };
        assert_eq!(tables.certificates().unwrap(), [expected]);

        tables
            .account_put("https://ca/dir", "https://ca/1", vec![7])
            .unwrap();
        assert_eq!(tables.account("https://ca/dir").unwrap(), Some(vec![7]));
        assert!(tables.account_put("https://ca/dir", "x", vec![8]).is_err());
        tables.forget(&name).unwrap();
        assert_eq!(tables.certificates().unwrap(), []);
    }
}
