//! The register of tokens and users: in memory, over the database.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use havre_model::grant::Grant;
use havre_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::records::{Holder, TokenRecord, User, UserKind};
use crate::tables::Tables;
use crate::token::{self, Hash};

/// How exactly it is known when a token was last used.
const USED_EVERY: Duration = Duration::from_secs(3600);
/// Tokens and users that there may be. Logins count with tokens.
const MOST_TOKENS: usize = 10_000;
const MOST_USERS: usize = 1000;
/// The longest that expired tokens are waited for.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// A change of the register failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kernel has no random bytes.
    #[error("cannot make a token")]
    Random(#[source] io::Error),
    /// The database.
    #[error("cannot change who has access")]
    Store(#[source] StoreError),
    /// One of that name is there.
    #[error("there is a token {0:?} already")]
    TokenExists(String),
    /// None such.
    #[error("there is no token {0:?}")]
    NoToken(String),
    /// None such.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// The same person by another name.
    #[error("{0:?} is that person already")]
    UserExists(String),
    /// As many as there may be.
    #[error("there are {0} already, as many as there may be")]
    Full(usize),
}

/// Why a token lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has not the form of a token, or a wrong checksum.
    #[error("this is no token of Havre's: it may be cut off or mistyped")]
    Malformed,
    /// It is not in the register: never made, or revoked.
    #[error("the token is not known here, or was revoked")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// A token that is to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// For whom it is.
    pub holder: Holder,
    /// What it lets its holder do.
    pub grant: Grant,
    /// Who has it made.
    pub created_by: String,
    /// How long it holds; `None`: until it is revoked.
    pub lifetime: Option<Duration>,
}

/// A token that was made. Its text is nowhere else.
pub struct Issued {
    /// What to show as a bearer.
    pub text: String,
    /// What is kept of it.
    pub record: TokenRecord,
}

/// Whom a token has let in.
#[derive(Clone, Debug)]
pub struct Known {
    /// The token.
    pub record: TokenRecord,
    /// Cancelled when it is revoked, or expires.
    pub lost: CancellationToken,
}

/// Who has access.
pub struct Register {
    tables: Tables,
    state: Mutex<State>,
    /// A token has come that may expire before the others.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// By the first half of their hash; the rest is compared in constant time.
    tokens: HashMap<[u8; 16], Entry>,
    users: BTreeMap<String, User>,
}

struct Entry {
    hash: Hash,
    record: TokenRecord,
    lost: CancellationToken,
}

impl Register {
    /// As the database has it.
    pub fn open(store: Arc<Store>) -> Result<Self, AccessError> {
        let tables = Tables::new(store);
        let mut state = State::default();
        for (hash, record) in tables.tokens().map_err(AccessError::Store)? {
            state.insert(hash, record);
        }
        for user in tables.users().map_err(AccessError::Store)? {
            state.users.insert(user.name.clone(), user);
        }
        Ok(Self {
            tables,
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// Whom this text lets in. It may wait for the database once an hour.
    pub fn look_up(&self, text: &str, now: SystemTime) -> Result<Known, Refused> {
        let hash = token::hash(text).ok_or(Refused::Malformed)?;
        let mut state = self.lock();
        let entry = state.tokens.get_mut(&key(&hash));
        let entry = entry.filter(|entry| token::same(&entry.hash, &hash));
        let entry = entry.ok_or(Refused::Unknown)?;
        if entry.has_expired(now) {
            entry.lost.cancel();
            return Err(Refused::Expired);
        }
        let stale = |last: SystemTime| now.duration_since(last).is_ok_and(|age| age >= USED_EVERY);
        let to_note = entry.record.last_used_at.is_none_or(stale);
        if to_note {
            entry.record.last_used_at = Some(now);
        }
        let known = Known {
            record: entry.record.clone(),
            lost: entry.lost.clone(),
        };
        drop(state);
        if to_note && let Err(error) = self.tables.token_used(&known.record.id, now) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "use of a token is not noted"
            );
        }
        Ok(known)
    }

    /// What is cancelled once a token holds no longer; `None` where it does not any more.
    pub fn lost(&self, id: &str) -> Option<CancellationToken> {
        let state = self.lock();
        let mut entries = state.tokens.values();
        let entry = entries.find(|entry| entry.record.id == id)?;
        Some(entry.lost.clone())
    }

    /// Makes a token. A name is one token's alone; of logins there may be many.
    pub fn create(&self, new: NewToken, now: SystemTime) -> Result<Issued, AccessError> {
        let text = token::generate().map_err(AccessError::Random)?;
        // It was made in that form just now.
        let hash = token::hash(&text).ok_or(AccessError::NoToken(String::new()))?;
        let record = TokenRecord {
            id: token::generate_id().map_err(AccessError::Random)?,
            name: new.name,
            holder: new.holder,
            grant: new.grant,
            created_at: now,
            created_by: new.created_by,
            expires_at: new.lifetime.and_then(|lifetime| now.checked_add(lifetime)),
            last_used_at: None,
        };
        let mut state = self.lock();
        if state.tokens.len() >= MOST_TOKENS {
            return Err(AccessError::Full(MOST_TOKENS));
        }
        let is_named = |entry: &Entry| {
            entry.record.holder == Holder::Token && entry.record.name == record.name
        };
        if record.holder == Holder::Token && state.tokens.values().any(is_named) {
            return Err(AccessError::TokenExists(record.name));
        }
        self.tables
            .put_token(hash, &record)
            .map_err(AccessError::Store)?;
        state.insert(hash, record.clone());
        drop(state);
        self.changed.notify_one();
        Ok(Issued { text, record })
    }

    /// All tokens, the oldest first; those that have expired are not among them for long.
    pub fn tokens(&self) -> Vec<TokenRecord> {
        let state = self.lock();
        let mut all: Vec<_> = state
            .tokens
            .values()
            .map(|one| one.record.clone())
            .collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// Revokes a token by its number or its name. What it has under way that only answers it ends.
    pub fn revoke(&self, id_or_name: &str) -> Result<TokenRecord, AccessError> {
        let mut state = self.lock();
        let named = |entry: &Entry| {
            entry.record.id == id_or_name
                || (entry.record.holder == Holder::Token && entry.record.name == id_or_name)
        };
        let found = state.tokens.iter().find(|(_, entry)| named(entry));
        let found = found.map(|(key, entry)| (*key, entry.record.clone()));
        let (key, record) = found.ok_or_else(|| AccessError::NoToken(id_or_name.to_owned()))?;
        self.remove(&mut state, &[key])?;
        Ok(record)
    }

    /// Users by name.
    pub fn users(&self) -> Vec<User> {
        self.lock().users.values().cloned().collect()
    }

    /// The user of this machine of that name, where one was entered.
    pub fn local_user(&self, name: &str) -> Option<User> {
        let state = self.lock();
        let user = state.users.get(name);
        user.filter(|user| user.kind == UserKind::Local).cloned()
    }

    /// Whom an issuer calls so, where one was entered.
    pub fn user_of(&self, issuer: &str, subject: &str) -> Option<User> {
        let state = self.lock();
        let mut users = state.users.values();
        let found = users.find(|user| user.kind.is(issuer, subject));
        found.cloned()
    }

    /// Enters a person, or changes what they may do: what they have logged in with before ends.
    pub fn put_user(&self, user: User) -> Result<(), AccessError> {
        let mut state = self.lock();
        if state.users.len() >= MOST_USERS && !state.users.contains_key(&user.name) {
            return Err(AccessError::Full(MOST_USERS));
        }
        if let UserKind::Oidc { issuer, subject } = &user.kind {
            let mut others = state.users.values().filter(|one| one.name != user.name);
            if let Some(other) = others.find(|one| one.kind.is(issuer, subject)) {
                return Err(AccessError::UserExists(other.name.clone()));
            }
        }
        self.tables.put_user(&user).map_err(AccessError::Store)?;
        let before = state.users.insert(user.name.clone(), user.clone());
        self.end_logins(&mut state, &user.kind)?;
        match before {
            Some(before) if before.kind != user.kind => self.end_logins(&mut state, &before.kind),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a person's rights away, and ends what they have logged in with.
    pub fn remove_user(&self, name: &str) -> Result<User, AccessError> {
        let mut state = self.lock();
        let user = state.users.get(name).cloned();
        let user = user.ok_or_else(|| AccessError::NoUser(name.to_owned()))?;
        self.tables.remove_user(name).map_err(AccessError::Store)?;
        state.users.remove(name);
        self.end_logins(&mut state, &user.kind)?;
        Ok(user)
    }

    /// Forgets tokens as they expire, and ends what they have under way. Until it is dropped.
    pub async fn expire(&self) {
        loop {
            let now = SystemTime::now();
            let next = self.expire_at(now).unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired tokens stay listed"
                );
                None
            });
            let pause = next.and_then(|at| at.duration_since(now).ok());
            // By the wall clock, which may be set: looked at now and then.
            let pause = pause.map_or(LOOK_EVERY, |pause| pause.min(LOOK_EVERY));
            tokio::select! {
                () = tokio::time::sleep(pause.max(Duration::from_secs(1))) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Removes what has expired; when the next one does.
    fn expire_at(&self, now: SystemTime) -> Result<Option<SystemTime>, AccessError> {
        let mut state = self.lock();
        let expired = state.tokens.iter().filter(|(_, one)| one.has_expired(now));
        let expired: Vec<[u8; 16]> = expired.map(|(key, _)| *key).collect();
        for key in &expired {
            if let Some(entry) = state.tokens.get(key) {
                entry.lost.cancel();
            }
        }
        self.remove(&mut state, &expired)?;
        let times = state
            .tokens
            .values()
            .filter_map(|one| one.record.expires_at);
        Ok(times.min())
    }

    /// Ends the logins of a person.
    fn end_logins(&self, state: &mut State, kind: &UserKind) -> Result<(), AccessError> {
        let of_them = |entry: &Entry| match &entry.record.holder {
            Holder::Login { issuer, subject } => kind.is(issuer, subject),
            Holder::Token => false,
        };
        let tokens = state.tokens.iter().filter(|(_, entry)| of_them(entry));
        let keys: Vec<[u8; 16]> = tokens.map(|(key, _)| *key).collect();
        self.remove(state, &keys)
    }

    /// Written down first: what comes back after a restart was never gone.
    fn remove(&self, state: &mut State, keys: &[[u8; 16]]) -> Result<(), AccessError> {
        let entries = keys.iter().filter_map(|key| state.tokens.get(key));
        let ids: Vec<String> = entries.map(|entry| entry.record.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.tables
            .remove_tokens(&ids)
            .map_err(AccessError::Store)?;
        for key in keys {
            if let Some(entry) = state.tokens.remove(key) {
                entry.lost.cancel();
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole after every statement, so a panic elsewhere does not spoil them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, hash: Hash, record: TokenRecord) {
        let lost = CancellationToken::new();
        let entry = Entry { hash, record, lost };
        self.tokens.insert(key(&hash), entry);
    }
}

impl Entry {
    fn has_expired(&self, now: SystemTime) -> bool {
        self.record.expires_at.is_some_and(|at| now >= at)
    }
}

fn key(hash: &Hash) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

#[cfg(test)]
mod tests;
