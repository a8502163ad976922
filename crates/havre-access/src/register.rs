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
/// Tokens, logins and users that there may be; however many log in, tokens can be made.
const MOST_TOKENS: usize = 10_000;
const MOST_LOGINS: usize = 10_000;
const MOST_USERS: usize = 1000;
/// Logins that one whom an issuer vouches for may have: with one more their oldest ends.
const MOST_LOGINS_EACH: usize = 20;
/// The longest that expired tokens are waited for.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The same while they cannot be forgotten.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// A change of the register failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kernel has no random bytes.
    #[error("cannot make a token")]
    Random(#[source] io::Error),
    /// The database.
    #[error("cannot change who has access")]
    Store(#[source] StoreError),
    /// A token lets nobody in any more, and the database has it still.
    #[error(
        "token {name} lets nobody in any more, but that cannot be written down: it would again once the daemon is restarted"
    )]
    Unwritten {
        /// The token's name.
        name: String,
        /// The reason.
        source: StoreError,
    },
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
    /// A person's rights were changed or taken away while they logged in.
    #[error("the rights of {0:?} were changed just now")]
    UserChanged(String),
    /// It would hold longer than there is a calendar for.
    #[error("a token cannot hold that long")]
    Lifetime,
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

/// The first half of a token's hash; the rest is compared in constant time.
type Key = [u8; 16];

#[derive(Default)]
struct State {
    tokens: HashMap<Key, Entry>,
    users: BTreeMap<String, User>,
    /// Revoked, and in the database still.
    unwritten: Vec<TokenRecord>,
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

    /// Makes a token. A name is one token's alone; of a person's logins there may be some, the oldest of
    /// which ends for a new one.
    pub fn create(&self, new: NewToken, now: SystemTime) -> Result<Issued, AccessError> {
        self.make(new, None, now)
    }

    /// Makes a token for a login of a user, who is to be entered still as they were found.
    pub fn create_for(
        &self,
        user: &User,
        new: NewToken,
        now: SystemTime,
    ) -> Result<Issued, AccessError> {
        self.make(new, Some(user), now)
    }

    fn make(
        &self,
        new: NewToken,
        user: Option<&User>,
        now: SystemTime,
    ) -> Result<Issued, AccessError> {
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
            expires_at: match new.lifetime {
                Some(lifetime) => Some(now.checked_add(lifetime).ok_or(AccessError::Lifetime)?),
                None => None,
            },
            last_used_at: None,
        };
        let mut state = self.lock();
        if let Some(user) = user
            && state.users.get(&user.name) != Some(user)
        {
            return Err(AccessError::UserChanged(user.name.clone()));
        }
        let ending = state.room_for(&record)?;
        self.tables
            .put_token(hash, &record, &state.ids(&ending))
            .map_err(AccessError::Store)?;
        state.forget(&ending);
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

    /// Revokes a token by its number, or else by its name. What it has under way that only answers it ends. That holds at once:
    /// where it cannot be written down, as on a full disk, [`AccessError::Unwritten`] says so, and it is tried again.
    pub fn revoke(&self, id_or_name: &str) -> Result<TokenRecord, AccessError> {
        // A token may be called as another is numbered: the number is meant then.
        let numbered = |record: &TokenRecord| record.id == id_or_name;
        let named =
            |record: &TokenRecord| record.holder == Holder::Token && record.name == id_or_name;
        let mut state = self.lock();
        let revoked = state.revoke_first(numbered);
        let revoked = revoked.or_else(|| state.revoke_first(named));
        let record = revoked.ok_or_else(|| AccessError::NoToken(id_or_name.to_owned()))?;
        let written = self.remove(&mut state, &[]);
        drop(state);
        written.map_err(|source| {
            self.changed.notify_one();
            let name = record.name.clone();
            AccessError::Unwritten { name, source }
        })?;
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
        let mut ending = state.logins(&user.kind);
        if let Some(before) = state.users.get(&user.name)
            && before.kind != user.kind
        {
            ending.extend(state.logins(&before.kind));
        }
        self.tables
            .put_user(&user, &state.ids(&ending))
            .map_err(AccessError::Store)?;
        state.users.insert(user.name.clone(), user);
        state.forget(&ending);
        Ok(())
    }

    /// Takes a person's rights away, and ends what they have logged in with.
    pub fn remove_user(&self, name: &str) -> Result<User, AccessError> {
        let mut state = self.lock();
        let user = state.users.get(name).cloned();
        let user = user.ok_or_else(|| AccessError::NoUser(name.to_owned()))?;
        let ending = state.logins(&user.kind);
        self.tables
            .remove_user(name, &state.ids(&ending))
            .map_err(AccessError::Store)?;
        state.users.remove(name);
        state.forget(&ending);
        Ok(user)
    }

    /// Forgets tokens as they expire, and ends what they have under way; removes what was revoked and could not be
    /// written down. Until it is dropped.
    pub async fn expire(&self) {
        loop {
            let now = SystemTime::now();
            let (next, forgotten) = self.expire_at(now);
            let longest = match forgotten {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "expired or revoked tokens stay in the database"
                    );
                    TRY_AGAIN
                }
            };
            let pause = next.and_then(|at| at.duration_since(now).ok());
            // By the wall clock, which may be set: looked at now and then.
            let pause = pause.map_or(longest, |pause| pause.min(longest));
            tokio::select! {
                () = tokio::time::sleep(pause.max(Duration::from_secs(1))) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Ends what has expired, then removes it; when the next one does, whether that could be written down
    /// or not.
    fn expire_at(&self, now: SystemTime) -> (Option<SystemTime>, Result<(), StoreError>) {
        let mut state = self.lock();
        let expired = state.keys(|one| one.has_expired(now));
        for key in &expired {
            if let Some(entry) = state.tokens.get(key) {
                entry.lost.cancel();
            }
        }
        let times = state.tokens.values().filter(|one| !one.has_expired(now));
        let next = times.filter_map(|one| one.record.expires_at).min();
        let forgotten = self.remove(&mut state, &expired);
        (next, forgotten)
    }

    /// Forgets tokens once that is written down, and with them those that were revoked before it could be.
    fn remove(&self, state: &mut State, keys: &[Key]) -> Result<(), StoreError> {
        let mut ids = state.ids(keys);
        ids.extend(state.unwritten.iter().map(|record| record.id.clone()));
        if ids.is_empty() {
            return Ok(());
        }
        self.tables.remove_tokens(&ids)?;
        state.unwritten.clear();
        state.forget(keys);
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

    /// Whether there may be one more; what ends in its stead.
    fn room_for(&self, record: &TokenRecord) -> Result<Vec<Key>, AccessError> {
        let is_made = |one: &&Entry| one.record.holder == Holder::Token;
        match &record.holder {
            Holder::Token => {
                let mut made = self.tokens.values().filter(is_made);
                if made.any(|one| one.record.name == record.name) {
                    return Err(AccessError::TokenExists(record.name.clone()));
                }
                if self.tokens.values().filter(is_made).count() >= MOST_TOKENS {
                    return Err(AccessError::Full(MOST_TOKENS));
                }
                Ok(Vec::new())
            }
            Holder::Login { .. } => {
                let mut theirs = self.keys(|one| one.record.holder == record.holder);
                theirs.sort_by_key(|key| self.tokens.get(key).map(|one| one.record.created_at));
                theirs.truncate((theirs.len() + 1).saturating_sub(MOST_LOGINS_EACH));
                let made = self.tokens.values().filter(is_made).count();
                if self.tokens.len() - made - theirs.len() >= MOST_LOGINS {
                    return Err(AccessError::Full(MOST_LOGINS));
                }
                Ok(theirs)
            }
        }
    }

    /// The logins of a person.
    fn logins(&self, kind: &UserKind) -> Vec<Key> {
        self.keys(|one| match &one.record.holder {
            Holder::Login { issuer, subject } => kind.is(issuer, subject),
            Holder::Token => false,
        })
    }

    fn keys(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Key> {
        let found = self.tokens.iter().filter(|(_, one)| wanted(one));
        found.map(|(key, _)| *key).collect()
    }

    fn ids(&self, keys: &[Key]) -> Vec<String> {
        let entries = keys.iter().filter_map(|key| self.tokens.get(key));
        entries.map(|entry| entry.record.id.clone()).collect()
    }

    /// The first such token lets nobody in any more, or does not already.
    fn revoke_first(&mut self, wanted: impl Fn(&TokenRecord) -> bool) -> Option<TokenRecord> {
        match self.keys(|entry| wanted(&entry.record)).first() {
            Some(key) => self.revoke(key),
            None => self.unwritten.iter().find(|one| wanted(one)).cloned(),
        }
    }

    /// It lets nobody in any more, whatever becomes of the database.
    fn revoke(&mut self, key: &Key) -> Option<TokenRecord> {
        let entry = self.tokens.remove(key)?;
        entry.lost.cancel();
        self.unwritten.push(entry.record.clone());
        Some(entry.record)
    }

    /// They let nobody in any more, and what they have under way ends.
    fn forget(&mut self, keys: &[Key]) {
        for key in keys {
            if let Some(entry) = self.tokens.remove(key) {
                entry.lost.cancel();
            }
        }
    }
}

impl Entry {
    fn has_expired(&self, now: SystemTime) -> bool {
        self.record.expires_at.is_some_and(|at| now >= at)
    }
}

fn key(hash: &Hash) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

#[cfg(test)]
mod tests;
