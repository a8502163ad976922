//! The store of secrets: values with versions, each encrypted by a key of its own.
//!
//! Every row is bound to its place: one that was edited, put in another's place or cut off is named and not
//! used. What cannot be seen is a row that is gone with all that names it, or a whole database that is older.

mod error;
mod keys;
mod name;
mod rotation;
mod rows;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use havre_store::rusqlite::{self, Connection};
use havre_store::{Store, StoreError, now};
use zeroize::Zeroizing;

use crate::seal::{Seal, SealedError};
use keys::ScopeKeys;
use rows::{HeadRow, SecretRow, VersionRow};

use error::MOST_SCOPE_BYTES;
pub use error::{MOST_SECRETS, MOST_VALUE_BYTES, SecretError};
pub use name::{NameError, Scope, SecretName};
pub use rotation::{Rotation, RotationStep};
pub use tables::{SCHEMA, is_anything_sealed, note_seal};

/// Secrets that are read in one go: each may have [`MOST_VALUE_BYTES`].
const READ_AT_ONCE: usize = 32;

/// Versions of a secret that are kept beside the one in use.
const MOST_VERSIONS: u32 = 100;

/// The store; a clone is the same.
#[derive(Clone)]
pub struct Secrets {
    store: Arc<Store>,
    seal: Seal,
    /// Held alone from reading what a change is made of until it is written, and shared from reading the keys of a
    /// scope until the rows under them are read: with keys that are no more all of them would seem edited.
    changing: Arc<RwLock<()>>,
    /// Bytes of a scope.
    most_bytes: usize,
    /// Whether there was any when that was last seen.
    seen: Arc<AtomicBool>,
}

/// A version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Counted from 1.
    pub version: u32,
    /// Whether it is the one in use.
    pub current: bool,
    /// Bytes of its value.
    pub size: u32,
    /// When it was set.
    pub set_at: i64,
    /// By whom.
    pub set_by: String,
    /// How it came about: `set`, `generated`, …
    pub origin: String,
}

/// A secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// The version in use, or why nothing is known of it.
    pub current: Result<Version, String>,
    /// The rotation that is under way.
    pub rotation: Option<Rotation>,
}

/// A value.
#[derive(Clone)]
pub struct Value {
    /// Whose it is.
    pub scope: Scope,
    /// Which of its versions.
    pub version: u32,
    /// It.
    pub plain: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value(version {} of {}: …)", self.version, self.scope)
    }
}

/// What became of a value that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// The version in use.
    pub version: u32,
    /// It was in use already: there is no new version.
    pub unchanged: bool,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Of this database, under this seal.
    pub fn new(store: Arc<Store>, seal: Seal) -> Self {
        Self {
            store,
            seal,
            changing: Arc::default(),
            most_bytes: MOST_SCOPE_BYTES,
            seen: Arc::default(),
        }
    }

    /// Makes `value` the one in use, as a new version unless it is so already.
    pub fn set(
        &self,
        scope: &Scope,
        name: &SecretName,
        value: &[u8],
        by: &str,
        origin: &str,
    ) -> Result<Set, SecretError> {
        if value.is_empty() {
            return Err(SecretError::Empty);
        }
        let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
        if value.len() > MOST_VALUE_BYTES {
            let bytes = value.len();
            return Err(SecretError::TooLarge { bytes });
        }
        let _changing = self.changing();
        let keys = self.keys_or_new(scope)?;
        let before = self.secret(scope, name, &keys)?;
        if let Some(before) = &before {
            self.is_at_rest(scope, name)?;
            let version = before.current;
            // One that cannot be read is replaced.
            let same = self.version(scope, name, version, &keys);
            if same.is_ok_and(|current| **current.plain == *value) {
                return Ok(Set {
                    version,
                    unchanged: true,
                });
            }
        } else if self.count(scope)? >= MOST_SECRETS {
            let scope = scope.clone();
            return Err(SecretError::TooMany { scope });
        }
        let newest = match before {
            Some(before) => before.newest,
            None => self.removed(scope, name)?,
        };
        let version = newest + 1;
        let mut secret = SecretRow {
            scope: scope.key(),
            name: name.to_string(),
            current: version,
            newest: version,
            mac: Vec::new(),
            there: version,
        };
        keys.sign(&mut secret);
        let head = HeadRow {
            scope: scope.key(),
            name: name.to_string(),
            version,
            data_key: Vec::new(),
            size,
            set_at: now(),
            set_by: by.to_owned(),
            origin: origin.to_owned(),
            content_bytes: 0,
        };
        let row = keys.encrypt(head, value)?;
        let room = self.room(scope, name)?;
        if row.content.len() > room {
            let scope = scope.clone();
            return Err(SecretError::NoRoom { scope });
        }
        self.write("set a secret", move |db| {
            rows::put_secret(db, &secret)?;
            rows::forget_removed(db, &secret)?;
            rows::put_version(db, &row)?;
            rows::prune(db, &secret, MOST_VERSIONS, room)
        })?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(Set {
            version,
            unchanged: false,
        })
    }

    /// The value in use, or that of a version.
    pub fn get(
        &self,
        scope: &Scope,
        name: &SecretName,
        version: Option<u32>,
    ) -> Result<Value, SecretError> {
        let _reading = self.reading();
        let mut found = self.read(scope, std::slice::from_ref(name), version)?;
        found.pop().unwrap_or_else(|| Err(not_found(scope, name)))
    }

    /// The value that an environment has: its own, or the machine's.
    pub fn resolve(&self, scope: &Scope, name: &SecretName) -> Result<Value, SecretError> {
        let mut found = self.resolve_all(scope, std::slice::from_ref(name))?;
        found.pop().unwrap_or_else(|| Err(not_found(scope, name)))
    }

    /// The same of several, in their order.
    pub fn resolve_all(
        &self,
        scope: &Scope,
        names: &[SecretName],
    ) -> Result<Vec<Result<Value, SecretError>>, SecretError> {
        let _reading = self.reading();
        let mut all = Vec::with_capacity(names.len());
        for names in names.chunks(READ_AT_ONCE) {
            let mut found = self.read(scope, names, None)?;
            if *scope != Scope::Machine {
                let is_missing = |one: &Result<Value, SecretError>| {
                    matches!(one, Err(SecretError::NotFound { .. }))
                };
                let missing = found.iter().zip(names).filter(|(one, _)| is_missing(one));
                let missing: Vec<_> = missing.map(|(_, name)| name.clone()).collect();
                let mut machines = self.read(&Scope::Machine, &missing, None)?.into_iter();
                for one in found.iter_mut().filter(|one| is_missing(one)) {
                    match machines.next() {
                        Some(Err(SecretError::NotFound { .. })) | None => {}
                        Some(machines) => *one = machines,
                    }
                }
            }
            all.extend(found);
        }
        Ok(all)
    }

    /// Whether anybody's secrets were ever kept. It needs no seal that is open.
    pub fn is_any_kept(&self) -> Result<bool, StoreError> {
        self.store
            .run("look for secrets", |db| rows::is_any_scope(db))
    }

    /// The secrets of the scopes that are `wanted`, by name; of others nothing is read. It needs no seal that is
    /// open, but then nothing is known but names. No value is read: one that was edited is named when it is used,
    /// all else here.
    pub fn list(&self, wanted: impl Fn(&Scope) -> bool) -> Result<Vec<Listed>, SecretError> {
        let _reading = self.reading();
        let mut listed = Vec::new();
        for (scope, sealed) in self.scopes()? {
            if !wanted(&scope) {
                continue;
            }
            let keys = ScopeKeys::open(&self.seal, &scope, &sealed);
            let key = scope.key();
            let (secrets, heads, rotations) = self.store.run("list secrets", move |db| {
                Ok((
                    rows::secrets(db, &key)?,
                    rows::current_heads(db, &key)?,
                    rotation::of_scope(db, &key, None)?,
                ))
            })?;
            let heads: BTreeMap<_, _> = heads.iter().map(|head| (&*head.name, head)).collect();
            for secret in secrets {
                let (current, rotation) = match &keys {
                    Ok(keys) => {
                        let head = heads.get(&*secret.name).copied();
                        let mut own = rotations.iter().filter(|row| row.name() == secret.name);
                        // What cannot be read is told of the secret itself.
                        let rotation = own.find_map(|row| {
                            row.rotation(&scope, keys)
                                .ok()
                                .filter(|one| !one.step.is_over())
                        });
                        (self.sound(keys, &scope, &secret, head)?, rotation)
                    }
                    Err(error) => (Err(error.to_string()), None),
                };
                listed.push(Listed {
                    scope: scope.clone(),
                    name: secret.name,
                    current,
                    rotation,
                });
            }
        }
        Ok(listed)
    }

    /// How many secrets there are of all scopes; two stand for more.
    pub fn few(&self) -> Result<u32, SecretError> {
        let few = self.store.run("look for secrets", |db| rows::few(db))?;
        self.seen.store(few > 0, Ordering::Relaxed);
        Ok(few)
    }

    /// Whether there were any when they were last counted, for whoever cannot wait for the database.
    pub fn were_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    /// Where there is a secret of this name. It needs no seal that is open.
    pub fn scopes_of(&self, name: &SecretName) -> Result<Vec<Scope>, SecretError> {
        let owned = name.to_string();
        let keys = self
            .store
            .run("look for a secret", move |db| rows::scopes_of(db, &owned))?;
        Ok(keys.iter().map(|key| Scope::from_key(key)).collect())
    }

    /// The versions of a secret, the oldest first. As of a list, no value is read.
    pub fn history(&self, scope: &Scope, name: &SecretName) -> Result<Vec<Version>, SecretError> {
        let _reading = self.reading();
        let missing = || not_found(scope, name);
        let keys = self.keys(scope)?.ok_or_else(missing)?;
        let secret = self.secret(scope, name, &keys)?.ok_or_else(missing)?;
        let (key, owned) = (scope.key(), name.to_string());
        let heads = self.store.run("list versions of a secret", move |db| {
            rows::heads(db, &key, Some(&owned))
        })?;
        let mut versions = Vec::new();
        for head in heads {
            if !self.is_sound(&keys, scope, &head)? {
                return Err(damaged(scope, &head.name, version_of(head.version)));
            }
            versions.push(told(&head, secret.current));
        }
        Ok(versions)
    }

    /// Puts an earlier version into use: the one before, or the one that is named.
    pub fn rollback(
        &self,
        scope: &Scope,
        name: &SecretName,
        to: Option<u32>,
    ) -> Result<u32, SecretError> {
        let _changing = self.changing();
        let missing = || not_found(scope, name);
        let keys = self.keys(scope)?.ok_or_else(missing)?;
        let mut secret = self.secret(scope, name, &keys)?.ok_or_else(missing)?;
        let version = match to {
            Some(version) => version,
            None => {
                self.before(scope, name, secret.current)?
                    .ok_or_else(|| SecretError::NoVersion {
                        scope: scope.clone(),
                        name: name.clone(),
                        version: secret.current.saturating_sub(1),
                    })?
            }
        };
        self.is_at_rest(scope, name)?;
        // It has to be there, and readable.
        self.version(scope, name, version, &keys)?;
        let rotations = self.rotations_read(scope, name)?;
        let mut retired = rotations.iter().filter_map(Rotation::out_of_use);
        if retired.any(|retired| retired == version) {
            return Err(SecretError::OutOfUse {
                scope: scope.clone(),
                name: name.clone(),
                version,
            });
        }
        secret.current = version;
        keys.sign(&mut secret);
        self.write("put a version of a secret into use", move |db| {
            rows::put_secret(db, &secret)
        })?;
        Ok(version)
    }

    /// Removes a secret with all its versions; one that is set again goes on counting. It needs no seal that is
    /// open.
    pub fn remove(&self, scope: &Scope, name: &SecretName) -> Result<(), SecretError> {
        let _changing = self.changing();
        let (key, owned) = (scope.key(), name.to_string());
        let was_there = self.write("remove a secret", move |db| {
            rows::remove(db, &key, &owned, MOST_SECRETS)
        })?;
        if !was_there {
            return Err(not_found(scope, name));
        }
        // It was removed, whether the others can be counted or not.
        self.few().ok();
        Ok(())
    }

    /// What stands for a content in an environment's records: equal for equal contents of the same
    /// environment, and no help in guessing one without the environment's key.
    pub fn fingerprint(&self, scope: &Scope, content: &[u8]) -> Result<String, SecretError> {
        if let Some(keys) = self.keys(scope)? {
            return Ok(keys.fingerprint(content));
        }
        let _changing = self.changing();
        Ok(self.keys_or_new(scope)?.fingerprint(content))
    }

    /// Whether this stands for a content in an environment's records. It makes no keys: without any, nothing does.
    pub fn is_fingerprint(
        &self,
        scope: &Scope,
        content: &[u8],
        fingerprint: &str,
    ) -> Result<bool, SecretError> {
        let keys = self.keys(scope)?;
        Ok(keys.is_some_and(|keys| keys.fingerprint(content) == fingerprint))
    }

    /// Gives every scope whose key is under an older key of the seal another one, under the newest, and encrypts
    /// the keys of its versions anew: all of a scope or, if it is killed, none, so that the next call goes on.
    /// What is damaged stays so, and is returned by name.
    pub fn renew(&self) -> Result<Vec<String>, SecretError> {
        let _changing = self.changing();
        let mut broken = Vec::new();
        for (scope, sealed) in self.scopes()? {
            match ScopeKeys::open(&self.seal, &scope, &sealed) {
                Ok(old) if self.seal.is_outdated(&sealed)? => {
                    self.renew_scope(&scope, &old, &mut broken)?;
                }
                Ok(_) => {}
                // What is lost for one scope is no reason to leave the others.
                Err(SealedError::Damaged { .. } | SealedError::Foreign { .. }) => {
                    broken.push(format!("the keys of {scope}"));
                }
                Err(error @ (SealedError::Locked { .. } | SealedError::Crypto(_))) => {
                    return Err(error.into());
                }
            }
        }
        Ok(broken)
    }

    fn renew_scope(
        &self,
        scope: &Scope,
        old: &ScopeKeys,
        broken: &mut Vec<String>,
    ) -> Result<(), SecretError> {
        let new = old.renewed()?;
        let sealed = new.seal(&self.seal, scope)?;
        let key = scope.key();
        let (secrets, versions, mut rotations) = self.store.run("read secrets", move |db| {
            Ok((
                rows::secrets(db, &key)?,
                rows::heads(db, &key, None)?,
                rotation::of_scope(db, &key, None)?,
            ))
        })?;
        rotations.retain_mut(|row| {
            let is_sound = row.renew(old, &new);
            if !is_sound {
                broken.push(format!("{} of `{}` of {scope}", row.about(), row.name()));
            }
            is_sound
        });
        let mut signed = Vec::new();
        for mut secret in secrets {
            match old.is_signed(&secret) {
                true => {
                    new.sign(&mut secret);
                    signed.push(secret);
                }
                false => broken.push(format!("`{}` of {scope}", secret.name)),
            }
        }
        let mut wrapped: Vec<HeadRow> = Vec::new();
        for mut row in versions {
            match old.rewrap(&mut row, &new)? {
                true => wrapped.push(row),
                false => {
                    let version = version_of(row.version);
                    broken.push(format!("{version} of `{}` of {scope}", row.name));
                }
            }
        }
        let key = scope.key();
        self.write("encrypt the keys of secrets anew", move |db| {
            rows::put_scope(db, &key, &sealed)?;
            for secret in &signed {
                rows::put_secret(db, secret)?;
            }
            for rotation in &rotations {
                rotation.put(db)?;
            }
            for row in &wrapped {
                rows::put_data_key(db, row)?;
            }
            Ok(())
        })
    }

    fn keys(&self, scope: &Scope) -> Result<Option<ScopeKeys>, SecretError> {
        let key = scope.key();
        let sealed = self.store.run("read the keys of secrets", move |db| {
            rows::scope_keys(db, &key)
        })?;
        let keys = sealed.map(|sealed| ScopeKeys::open(&self.seal, scope, &sealed));
        Ok(keys.transpose()?)
    }

    /// To be called by who changes.
    fn keys_or_new(&self, scope: &Scope) -> Result<ScopeKeys, SecretError> {
        if let Some(keys) = self.keys(scope)? {
            return Ok(keys);
        }
        let keys = ScopeKeys::new()?;
        let sealed = keys.seal(&self.seal, scope)?;
        let key = scope.key();
        self.write("keep the keys of secrets", move |db| {
            rows::put_scope(db, &key, &sealed)
        })?;
        Ok(keys)
    }

    fn scopes(&self) -> Result<Vec<(Scope, Vec<u8>)>, SecretError> {
        let all = self
            .store
            .run("list the keys of secrets", |db| rows::all_scopes(db))?;
        let all = all.into_iter();
        Ok(all
            .map(|(key, sealed)| (Scope::from_key(&key), sealed))
            .collect())
    }

    fn removed(&self, scope: &Scope, name: &SecretName) -> Result<u32, SecretError> {
        let (key, owned) = (scope.key(), name.to_string());
        let newest = self.store.run("count versions of a secret", move |db| {
            rows::removed(db, &key, &owned)
        })?;
        Ok(newest)
    }

    fn count(&self, scope: &Scope) -> Result<usize, SecretError> {
        let key = scope.key();
        let count = self
            .store
            .run("count secrets", move |db| rows::count(db, &key))?;
        Ok(count)
    }

    /// Bytes that the other secrets of its scope leave to all versions of one.
    fn room(&self, scope: &Scope, name: &SecretName) -> Result<usize, SecretError> {
        let (key, owned) = (scope.key(), name.to_string());
        let others = self.store.run("measure secrets", move |db| {
            rows::bytes_of_others(db, &key, &owned)
        })?;
        Ok(self.most_bytes.saturating_sub(others))
    }

    fn row(
        &self,
        scope: &Scope,
        name: &str,
        version: u32,
    ) -> Result<Option<VersionRow>, SecretError> {
        let (key, owned) = (scope.key(), name.to_owned());
        let row = self.store.run("read a version of a secret", move |db| {
            rows::version(db, &key, &owned, version)
        })?;
        Ok(row)
    }

    fn secret(
        &self,
        scope: &Scope,
        name: &SecretName,
        keys: &ScopeKeys,
    ) -> Result<Option<SecretRow>, SecretError> {
        let (key, owned) = (scope.key(), name.to_string());
        let found = self
            .store
            .run("read a secret", move |db| rows::secret(db, &key, &owned))?;
        match found {
            Some(row) if !keys.is_newest(&row) => {
                Err(damaged(scope, name.as_str(), WHICH_VERSION.to_owned()))
            }
            found => Ok(found),
        }
    }

    /// The version in use, or another, of secrets of one scope, in their order.
    fn read(
        &self,
        scope: &Scope,
        names: &[SecretName],
        version: Option<u32>,
    ) -> Result<Vec<Result<Value, SecretError>>, SecretError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let key = scope.key();
        let owned: Vec<String> = names.iter().map(ToString::to_string).collect();
        let (sealed, rows) = self.store.run("read secrets", move |db| {
            let read = |name: &String| {
                let secret = rows::secret(db, &key, name)?;
                let row = match &secret {
                    Some(secret) => {
                        let version = version.unwrap_or(secret.current);
                        rows::version(db, &key, name, version)?
                    }
                    None => None,
                };
                Ok((secret, row))
            };
            let rows: rusqlite::Result<Vec<_>> = owned.iter().map(read).collect();
            Ok((rows::scope_keys(db, &key)?, rows?))
        })?;
        let keys = sealed.map(|sealed| ScopeKeys::open(&self.seal, scope, &sealed));
        let Some(keys) = keys.transpose()? else {
            let missing = names.iter().map(|name| Err(not_found(scope, name)));
            return Ok(missing.collect());
        };
        let read = |(name, (secret, row)): (&SecretName, (Option<SecretRow>, _))| {
            let secret = secret.ok_or_else(|| not_found(scope, name))?;
            if !keys.is_newest(&secret) {
                return Err(damaged(scope, name.as_str(), WHICH_VERSION.to_owned()));
            }
            value(scope, name, version.unwrap_or(secret.current), row, &keys)
        };
        Ok(names.iter().zip(rows).map(read).collect())
    }

    fn version(
        &self,
        scope: &Scope,
        name: &SecretName,
        version: u32,
        keys: &ScopeKeys,
    ) -> Result<Value, SecretError> {
        let row = self.row(scope, name.as_str(), version)?;
        value(scope, name, version, row, keys)
    }

    /// The version in use, or what of it was edited.
    fn sound(
        &self,
        keys: &ScopeKeys,
        scope: &Scope,
        secret: &SecretRow,
        head: Option<&HeadRow>,
    ) -> Result<Result<Version, String>, SecretError> {
        let what = match head {
            _ if !keys.is_newest(secret) => WHICH_VERSION.to_owned(),
            Some(head) if self.is_sound(keys, scope, head)? => {
                return Ok(Ok(told(head, secret.current)));
            }
            Some(_) | None => version_of(secret.current),
        };
        Ok(Err(damaged(scope, &secret.name, what).to_string()))
    }

    /// Whether what is known of a version is what was written.
    fn is_sound(
        &self,
        keys: &ScopeKeys,
        scope: &Scope,
        head: &HeadRow,
    ) -> Result<bool, SecretError> {
        if let Some(is_sound) = keys.is_sound(head) {
            return Ok(is_sound);
        }
        let row = self.row(scope, &head.name, head.version)?;
        Ok(row.is_some_and(|row| keys.decrypt(&row).is_some()))
    }

    /// The version before one.
    fn before(
        &self,
        scope: &Scope,
        name: &SecretName,
        version: u32,
    ) -> Result<Option<u32>, SecretError> {
        let (key, owned) = (scope.key(), name.to_string());
        let before = self.store.run("list versions of a secret", move |db| {
            rows::before(db, &key, &owned, version)
        })?;
        Ok(before)
    }

    /// Does `work` as a whole or not at all.
    fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SecretError> {
        let done = self.store.run(operation, move |db| {
            let transaction = db.transaction()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })?;
        Ok(done)
    }

    fn changing(&self) -> RwLockWriteGuard<'_, ()> {
        self.changing
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Not to be had twice by one, nor by who changes.
    fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.changing.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a version's row holds.
fn value(
    scope: &Scope,
    name: &SecretName,
    version: u32,
    row: Option<VersionRow>,
    keys: &ScopeKeys,
) -> Result<Value, SecretError> {
    let row = row.ok_or_else(|| SecretError::NoVersion {
        scope: scope.clone(),
        name: name.clone(),
        version,
    })?;
    let plain = keys
        .decrypt(&row)
        .ok_or_else(|| damaged(scope, name.as_str(), version_of(version)))?;
    Ok(Value {
        scope: scope.clone(),
        version,
        plain,
    })
}

/// What of a secret says which version is in use.
const WHICH_VERSION: &str = "the version in use";

fn told(head: &HeadRow, current: u32) -> Version {
    Version {
        version: head.version,
        current: head.version == current,
        size: head.size,
        set_at: head.set_at,
        set_by: head.set_by.clone(),
        origin: head.origin.clone(),
    }
}

fn version_of(version: u32) -> String {
    format!("version {version}")
}

fn damaged(scope: &Scope, name: &str, what: String) -> SecretError {
    SecretError::Damaged {
        scope: scope.clone(),
        name: name.to_owned(),
        what,
    }
}

fn not_found(scope: &Scope, name: &SecretName) -> SecretError {
    SecretError::NotFound {
        scope: scope.clone(),
        name: name.clone(),
    }
}

#[cfg(test)]
mod tests;
