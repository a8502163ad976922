//! Tokens and users in the database.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use havre_model::grant::{EnvironmentPattern, Grant};
use havre_store::rusqlite::{self, Row, params, types::Type};
use havre_store::{Schema, Store, StoreError};

use crate::records::{Holder, TokenRecord, User, UserKind};
use crate::token::Hash;

/// Its versions.
pub const SCHEMA: Schema = Schema {
    name: "access",
    migrations: &[
        include_str!("schema/001.sql"),
        include_str!("schema/002.sql"),
        include_str!("schema/003.sql"),
    ],
};

/// The tables.
#[derive(Clone, Debug)]
pub(crate) struct Tables(Arc<Store>);

impl Tables {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.0
    }

    /// All tokens with their hashes.
    pub(crate) fn tokens(&self) -> Result<Vec<(Hash, TokenRecord)>, StoreError> {
        self.0.run("read the tokens", |db| {
            db.prepare(
                "SELECT hash, id, name, issuer, subject, role, environments, created_at, created_by, \
                 expires_at, last_used_at FROM access_tokens ORDER BY created_at, id",
            )?
            .query_map([], token_row)?
            .collect()
        })
    }

    /// Keeps a token; those of the numbers end in its stead.
    pub(crate) fn put_token(
        &self,
        hash: Hash,
        token: &TokenRecord,
        ending: &[String],
    ) -> Result<(), StoreError> {
        let (token, ending) = (token.clone(), ending.to_vec());
        self.0.run("keep a token", move |db| {
            let transaction = db.transaction()?;
            delete_tokens(&transaction, ending)?;
            let (issuer, subject) = match &token.holder {
                Holder::Token => (None, None),
                Holder::Login { issuer, subject } => (Some(issuer), Some(subject)),
            };
            transaction.execute(
                "INSERT INTO access_tokens (hash, id, name, issuer, subject, role, environments, \
                 created_at, created_by, expires_at, last_used_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                params![
                    hash.as_slice(),
                    token.id,
                    token.name,
                    issuer,
                    subject,
                    token.grant.role.word(),
                    places(&token.grant),
                    millis(token.created_at),
                    token.created_by,
                    token.expires_at.map(millis),
                    token.last_used_at.map(millis),
                ],
            )?;
            transaction.commit()
        })
    }

    pub(crate) fn token_used(&self, id: &str, at: SystemTime) -> Result<(), StoreError> {
        let (id, at) = (id.to_owned(), millis(at));
        self.0.run("note that a token was used", move |db| {
            let update = "UPDATE access_tokens SET last_used_at = ?2 WHERE id = ?1";
            db.execute(update, params![id, at]).map(drop)
        })
    }

    pub(crate) fn remove_tokens(&self, ids: &[String]) -> Result<(), StoreError> {
        let ids = ids.to_vec();
        self.0.run("revoke tokens", move |db| {
            let transaction = db.transaction()?;
            delete_tokens(&transaction, ids)?;
            transaction.commit()
        })
    }

    pub(crate) fn users(&self) -> Result<Vec<User>, StoreError> {
        self.0.run("read the users", |db| {
            db.prepare(
                "SELECT name, issuer, subject, role, environments, created_at, created_by \
                 FROM access_users ORDER BY name",
            )?
            .query_map([], user_row)?
            .collect()
        })
    }

    /// Enters or changes a user; the tokens of the numbers end with it, or nothing of it is done.
    pub(crate) fn put_user(&self, user: &User, ending: &[String]) -> Result<(), StoreError> {
        let (user, ending) = (user.clone(), ending.to_vec());
        self.0.run("keep a user", move |db| {
            let transaction = db.transaction()?;
            delete_tokens(&transaction, ending)?;
            let (issuer, subject) = match &user.kind {
                UserKind::Local => (None, None),
                UserKind::Oidc { issuer, subject } => (Some(issuer), Some(subject)),
            };
            transaction.execute(
                "INSERT INTO access_users VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (name) DO UPDATE SET issuer = ?2, subject = ?3, role = ?4, \
                 environments = ?5, created_at = ?6, created_by = ?7",
                params![
                    user.name,
                    issuer,
                    subject,
                    user.grant.role.word(),
                    places(&user.grant),
                    millis(user.created_at),
                    user.created_by,
                ],
            )?;
            transaction.commit()
        })
    }

    /// Removes a user; the tokens of the numbers end with it, or nothing of it is done.
    pub(crate) fn remove_user(&self, name: &str, ending: &[String]) -> Result<(), StoreError> {
        let (name, ending) = (name.to_owned(), ending.to_vec());
        self.0.run("remove a user", move |db| {
            let transaction = db.transaction()?;
            delete_tokens(&transaction, ending)?;
            transaction.execute("DELETE FROM access_users WHERE name = ?1", [name])?;
            transaction.commit()
        })
    }
}

fn delete_tokens(db: &rusqlite::Transaction<'_>, ids: Vec<String>) -> rusqlite::Result<()> {
    let mut delete = db.prepare("DELETE FROM access_tokens WHERE id = ?1")?;
    for id in ids {
        delete.execute([id])?;
    }
    Ok(())
}

fn token_row(row: &Row<'_>) -> rusqlite::Result<(Hash, TokenRecord)> {
    let (issuer, subject): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
    let expires_at: Option<i64> = row.get(9)?;
    let last_used_at: Option<i64> = row.get(10)?;
    let token = TokenRecord {
        id: row.get(1)?,
        name: row.get(2)?,
        holder: match (issuer, subject) {
            (Some(issuer), Some(subject)) => Holder::Login { issuer, subject },
            _ => Holder::Token,
        },
        grant: grant(row, 5)?,
        created_at: time(row.get(7)?),
        created_by: row.get(8)?,
        expires_at: expires_at.map(time),
        last_used_at: last_used_at.map(time),
    };
    Ok((row.get(0)?, token))
}

fn user_row(row: &Row<'_>) -> rusqlite::Result<User> {
    let (issuer, subject): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
    Ok(User {
        name: row.get(0)?,
        kind: match (issuer, subject) {
            (Some(issuer), Some(subject)) => UserKind::Oidc { issuer, subject },
            _ => UserKind::Local,
        },
        grant: grant(row, 3)?,
        created_at: time(row.get(5)?),
        created_by: row.get(6)?,
    })
}

/// Role and environments. What cannot be read grants nothing: the row is an error.
fn grant(row: &Row<'_>, column: usize) -> rusqlite::Result<Grant> {
    let broken = |column, error: Box<dyn std::error::Error + Send + Sync>| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error)
    };
    let (role, places): (String, String) = (row.get(column)?, row.get(column + 1)?);
    let role = role
        .parse()
        .map_err(|error| broken(column, Box::new(error)))?;
    let places = places.split_ascii_whitespace().map(str::parse);
    let environments: Result<Vec<EnvironmentPattern>, _> = places.collect();
    let environments = environments.map_err(|error| broken(column + 1, Box::new(error)))?;
    Ok(Grant { role, environments })
}

/// Patterns hold no spaces.
fn places(grant: &Grant) -> String {
    let places: Vec<String> = grant.environments.iter().map(ToString::to_string).collect();
    places.join(" ")
}

fn millis(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}
