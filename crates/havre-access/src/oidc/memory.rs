//! What is remembered of logins: numbers of names, and which tokens were exchanged.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use havre_store::rusqlite::{OptionalExtension as _, params};
use havre_store::{Store, StoreError};

/// Whether a name has the number that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pinned {
    /// It has, or this is the first login.
    Same,
    /// It had that one.
    Other(String),
}

#[derive(Clone, Debug)]
pub(super) struct Memory(Arc<Store>);

impl Memory {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self(store)
    }

    /// Compares a name's number with the one it had at its first login, which this may be.
    pub(super) fn pin(
        &self,
        issuer: &str,
        claim: &'static str,
        name: &str,
        number: &str,
        now: SystemTime,
    ) -> Result<Pinned, StoreError> {
        let (issuer, name, number) = (issuer.to_owned(), name.to_owned(), number.to_owned());
        self.0
            .run("compare a number with the first one", move |db| {
                let transaction = db.transaction()?;
                let known: Option<String> = transaction
                .query_row(
                    "SELECT number FROM access_pins WHERE issuer = ?1 AND claim = ?2 AND name = ?3",
                    params![issuer, claim, name],
                    |row| row.get(0),
                )
                .optional()?;
                let pinned = match known {
                    Some(known) if known == number => Pinned::Same,
                    Some(known) => Pinned::Other(known),
                    None => {
                        transaction.execute(
                            "INSERT INTO access_pins VALUES (?1, ?2, ?3, ?4, ?5)",
                            params![issuer, claim, name, number, seconds(now)],
                        )?;
                        Pinned::Same
                    }
                };
                transaction.commit()?;
                Ok(pinned)
            })
    }

    /// Whether nobody has exchanged it before; nobody can from now on.
    pub(super) fn take_once(
        &self,
        mark: [u8; 32],
        until: SystemTime,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        self.0.run("remember an identity token", move |db| {
            let transaction = db.transaction()?;
            let delete = "DELETE FROM access_exchanged WHERE until < ?1";
            transaction.execute(delete, [seconds(now)])?;
            let new = transaction.execute(
                "INSERT INTO access_exchanged VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING",
                params![mark.as_slice(), seconds(until)],
            )?;
            transaction.commit()?;
            Ok(new > 0)
        })
    }
}

fn seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
