//! Rotations: a new version takes the place of the one in use, step by step, and what was begun is gone on
//! with or taken back.
//!
//! ```text
//! staged ─► switched ─► retiring ─► done          the version before is out of use
//!    └─────────┴─► aborting ─► aborted            the new one is
//! ```
//! Each step is on disk before what it stands for is begun. From `retiring` on there is no way back: the
//! version before may not work any more.

use std::collections::BTreeSet;
use std::fmt;

use havre_store::now;
use havre_store::rusqlite::{self, Connection, Row, params};

use super::keys::ScopeKeys;
use super::rows::{self, HeadRow, SecretRow};
use super::{MOST_VALUE_BYTES, Scope, SecretError, SecretName, Secrets, damaged, not_found};

/// Rotations of a secret that are remembered.
const MOST_ROTATIONS: u32 = 200;

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// There is a new version, which nobody has yet.
    Staged,
    /// The new version is in use.
    Switched,
    /// The version before may not work any more.
    Retiring,
    /// The version before is out of use.
    Done,
    /// The version before is in use again.
    Aborting,
    /// The new version is out of use.
    Aborted,
}

/// A rotation of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The version before.
    pub from: u32,
    /// The one that takes its place.
    pub to: u32,
    /// How far it is.
    pub step: RotationStep,
    /// When it was begun.
    pub begun_at: i64,
    /// By whom.
    pub begun_by: String,
    /// A script makes values valid and invalid, without which nobody is to go on.
    pub scripted: bool,
}

impl RotationStep {
    const ALL: [Self; 6] = [
        Self::Staged,
        Self::Switched,
        Self::Retiring,
        Self::Done,
        Self::Aborting,
        Self::Aborted,
    ];

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Switched => "switched",
            Self::Retiring => "retiring",
            Self::Done => "done",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.word() == word)
    }

    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        match self {
            Self::Done | Self::Aborted => true,
            Self::Staged | Self::Switched | Self::Retiring | Self::Aborting => false,
        }
    }

    /// Whether `next` may follow.
    pub fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Staged => matches!(next, Self::Switched | Self::Aborting),
            Self::Switched => matches!(next, Self::Retiring | Self::Aborting),
            Self::Retiring => next == Self::Done,
            Self::Aborting => next == Self::Aborted,
            Self::Done | Self::Aborted => false,
        }
    }
}

impl fmt::Display for RotationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Rotation {
    /// The version that is to be used while it is so far.
    fn in_use(&self) -> u32 {
        match self.step {
            RotationStep::Staged | RotationStep::Aborting | RotationStep::Aborted => self.from,
            RotationStep::Switched | RotationStep::Retiring | RotationStep::Done => self.to,
        }
    }

    /// The version that is not to be used again.
    pub fn out_of_use(&self) -> Option<u32> {
        match self.step {
            RotationStep::Staged | RotationStep::Switched => None,
            RotationStep::Retiring | RotationStep::Done => Some(self.from),
            RotationStep::Aborting | RotationStep::Aborted => Some(self.to),
        }
    }
}

/// A rotation as it is kept.
#[derive(Clone, Debug)]
pub(super) struct RotationRow {
    scope: String,
    name: String,
    from: u32,
    to: u32,
    step: String,
    begun_at: i64,
    begun_by: String,
    scripted: bool,
    mac: Vec<u8>,
}

impl RotationRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            scope: row.get(0)?,
            name: row.get(1)?,
            from: row.get(2)?,
            to: row.get(3)?,
            step: row.get(4)?,
            begun_at: row.get(5)?,
            begun_by: row.get(6)?,
            scripted: row.get(7)?,
            mac: row.get(8)?,
        })
    }

    fn new(scope: &Scope, name: &SecretName, rotation: &Rotation, keys: &ScopeKeys) -> Self {
        let mut row = Self {
            scope: scope.key(),
            name: name.to_string(),
            from: rotation.from,
            to: rotation.to,
            step: rotation.step.word().to_owned(),
            begun_at: rotation.begun_at,
            begun_by: rotation.begun_by.clone(),
            scripted: rotation.scripted,
            mac: Vec::new(),
        };
        row.sign(keys);
        row
    }

    fn told(&self) -> [Vec<u8>; 9] {
        [
            b"havre rotation 1".to_vec(),
            self.scope.clone().into_bytes(),
            self.name.clone().into_bytes(),
            self.from.to_be_bytes().to_vec(),
            self.to.to_be_bytes().to_vec(),
            self.step.clone().into_bytes(),
            self.begun_at.to_be_bytes().to_vec(),
            self.begun_by.clone().into_bytes(),
            vec![u8::from(self.scripted)],
        ]
    }

    fn sign(&mut self, keys: &ScopeKeys) {
        self.mac = keys.mac(&self.told());
    }

    /// By other keys, where it is what was written.
    pub(super) fn renew(&mut self, old: &ScopeKeys, new: &ScopeKeys) -> bool {
        let sound = old.is_mac(&self.told(), &self.mac);
        if sound {
            self.sign(new);
        }
        sound
    }

    /// What of its secret is damaged, where it is.
    pub(super) fn about(&self) -> String {
        format!("the rotation to version {}", self.to)
    }

    /// Its secret's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn rotation(
        &self,
        scope: &Scope,
        keys: &ScopeKeys,
    ) -> Result<Rotation, SecretError> {
        let step = RotationStep::from_word(&self.step);
        match step.filter(|_| keys.is_mac(&self.told(), &self.mac)) {
            Some(step) => Ok(Rotation {
                from: self.from,
                to: self.to,
                step,
                begun_at: self.begun_at,
                begun_by: self.begun_by.clone(),
                scripted: self.scripted,
            }),
            None => Err(damaged(scope, &self.name, self.about())),
        }
    }

    pub(super) fn put(&self, db: &Connection) -> rusqlite::Result<()> {
        db.execute(
            "INSERT INTO secret_rotations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (scope, name, to_version) DO UPDATE SET from_version = excluded.from_version, \
             step = excluded.step, begun_at = excluded.begun_at, begun_by = excluded.begun_by, \
             scripted = excluded.scripted, mac = excluded.mac",
            params![
                self.scope,
                self.name,
                self.from,
                self.to,
                self.step,
                self.begun_at,
                self.begun_by,
                self.scripted,
                self.mac
            ],
        )
        .map(drop)
    }
}

/// Of a scope, or of one of its secrets, the oldest first.
pub(super) fn of_scope(
    db: &Connection,
    scope: &str,
    name: Option<&str>,
) -> rusqlite::Result<Vec<RotationRow>> {
    db.prepare_cached(
        "SELECT scope, name, from_version, to_version, step, begun_at, begun_by, scripted, mac \
         FROM secret_rotations WHERE scope = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY name, to_version",
    )?
    .query_map(params![scope, name], RotationRow::read)?
    .collect()
}

/// A rotation, and of which secret.
pub type Named = (SecretName, Rotation);

impl Secrets {
    /// The rotation of a secret that is under way.
    pub fn rotation(
        &self,
        scope: &Scope,
        name: &SecretName,
    ) -> Result<Option<Rotation>, SecretError> {
        let rotations = self.rotations(scope, name)?;
        Ok(rotations.into_iter().find(|one| !one.step.is_over()))
    }

    /// Those of a scope that are under way, and which of them cannot be vouched for.
    pub fn rotations_under_way(
        &self,
        scope: &Scope,
    ) -> Result<Vec<Result<Named, SecretError>>, SecretError> {
        let _reading = self.reading();
        let Some(keys) = self.keys(scope)? else {
            return Ok(Vec::new());
        };
        let key = scope.key();
        let rows = self.store.run("read rotations under way", move |db| {
            of_scope(db, &key, None)
        })?;
        let read = rows.iter().map(|row| {
            let rotation = row.rotation(scope, &keys)?;
            let name = row.name.parse();
            let name = name.map_err(|_| damaged(scope, &row.name, row.about()))?;
            Ok((name, rotation))
        });
        let is_over = |read: &Result<Named, SecretError>| {
            read.as_ref().is_ok_and(|(_, one)| one.step.is_over())
        };
        Ok(read.filter(|read| !is_over(read)).collect())
    }

    /// Versions that are not to be used again.
    pub fn out_of_use(
        &self,
        scope: &Scope,
        name: &SecretName,
    ) -> Result<BTreeSet<u32>, SecretError> {
        let rotations = self.rotations(scope, name)?;
        Ok(rotations.iter().filter_map(Rotation::out_of_use).collect())
    }

    /// All rotations of a secret that are remembered, the oldest first.
    pub fn rotations(
        &self,
        scope: &Scope,
        name: &SecretName,
    ) -> Result<Vec<Rotation>, SecretError> {
        let _reading = self.reading();
        self.rotations_read(scope, name)
    }

    /// The same for who reads or changes already.
    pub(super) fn rotations_read(
        &self,
        scope: &Scope,
        name: &SecretName,
    ) -> Result<Vec<Rotation>, SecretError> {
        let Some(keys) = self.keys(scope)? else {
            return Ok(Vec::new());
        };
        let (key, owned) = (scope.key(), name.to_string());
        let rows = self.store.run("read rotations of a secret", move |db| {
            of_scope(db, &key, Some(&owned))
        })?;
        rows.iter().map(|row| row.rotation(scope, &keys)).collect()
    }

    /// Begins a rotation: `value` is a version that nobody has yet.
    pub fn begin_rotation(
        &self,
        scope: &Scope,
        name: &SecretName,
        value: &[u8],
        (by, origin): (&str, &str),
        scripted: bool,
    ) -> Result<Rotation, SecretError> {
        if value.is_empty() {
            return Err(SecretError::Empty);
        }
        let bytes = value.len();
        let Some(size) = u32::try_from(bytes)
            .ok()
            .filter(|_| bytes <= MOST_VALUE_BYTES)
        else {
            return Err(SecretError::TooLarge { bytes });
        };
        let _changing = self.changing();
        let missing = || not_found(scope, name);
        let keys = self.keys(scope)?.ok_or_else(missing)?;
        let before = self.secret(scope, name, &keys)?.ok_or_else(missing)?;
        self.is_at_rest(scope, name)?;
        let current = self.version(scope, name, before.current, &keys)?;
        if **current.plain == *value {
            return Err(SecretError::SameValue {
                scope: scope.clone(),
                name: name.clone(),
            });
        }
        let rotation = Rotation {
            from: before.current,
            to: before.newest + 1,
            step: RotationStep::Staged,
            begun_at: now(),
            begun_by: by.to_owned(),
            scripted,
        };
        let mut secret = SecretRow {
            newest: rotation.to,
            ..before
        };
        keys.sign(&mut secret);
        let head = HeadRow {
            scope: scope.key(),
            name: name.to_string(),
            version: rotation.to,
            data_key: Vec::new(),
            size,
            set_at: rotation.begun_at,
            set_by: by.to_owned(),
            origin: origin.to_owned(),
            content_bytes: 0,
        };
        let row = keys.encrypt(head, value)?;
        if row.content.len() > self.room(scope, name)? {
            let scope = scope.clone();
            return Err(SecretError::NoRoom { scope });
        }
        let begun = RotationRow::new(scope, name, &rotation, &keys);
        self.write("begin the rotation of a secret", move |db| {
            rows::put_secret(db, &secret)?;
            rows::put_version(db, &row)?;
            begun.put(db)?;
            let oldest = begun.to.saturating_sub(MOST_ROTATIONS);
            db.execute(
                "DELETE FROM secret_rotations WHERE scope = ?1 AND name = ?2 AND to_version < ?3",
                params![begun.scope, begun.name, oldest],
            )
            .map(drop)
        })?;
        Ok(rotation)
    }

    /// Carries the rotation to version `to` on to a step; one that is there already is fine. The version that
    /// is in use then is so with the same write.
    pub fn advance_rotation(
        &self,
        scope: &Scope,
        name: &SecretName,
        to: u32,
        step: RotationStep,
    ) -> Result<Rotation, SecretError> {
        let _changing = self.changing();
        let missing = || not_found(scope, name);
        let keys = self.keys(scope)?.ok_or_else(missing)?;
        let mut secret = self.secret(scope, name, &keys)?.ok_or_else(missing)?;
        let rotations = self.rotations_read(scope, name)?;
        let refused = |is: Option<RotationStep>| SecretError::NotThere {
            scope: scope.clone(),
            name: name.clone(),
            to,
            is,
            wanted: step,
        };
        let found = rotations.into_iter().find(|one| one.to == to);
        let mut rotation = found.ok_or_else(|| refused(None))?;
        if rotation.step == step {
            return Ok(rotation);
        }
        if !rotation.step.leads_to(step) {
            return Err(refused(Some(rotation.step)));
        }
        rotation.step = step;
        // It has to be there, and readable.
        self.version(scope, name, rotation.in_use(), &keys)?;
        secret.current = rotation.in_use();
        keys.sign(&mut secret);
        let row = RotationRow::new(scope, name, &rotation, &keys);
        self.write("carry on the rotation of a secret", move |db| {
            rows::put_secret(db, &secret)?;
            row.put(db)
        })?;
        Ok(rotation)
    }

    /// Fails while a rotation is under way: which version is in use is for it to say.
    pub(super) fn is_at_rest(&self, scope: &Scope, name: &SecretName) -> Result<(), SecretError> {
        let rotations = self.rotations_read(scope, name)?;
        match rotations.into_iter().find(|one| !one.step.is_over()) {
            None => Ok(()),
            Some(rotation) => Err(SecretError::Rotating {
                scope: scope.clone(),
                name: name.clone(),
                to: rotation.to,
                step: rotation.step,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use havre_store::Store;
    use tempfile::TempDir;

    use super::*;
    use crate::seal::{Place, Seal};
    use crate::store::SCHEMA;

    fn store() -> (TempDir, Arc<Store>, Seal, Secrets) {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&folder.path().join("state.db"), &[SCHEMA]).unwrap());
        let place = Place {
            state: folder.path().join("seal"),
            machine: folder.path().join("etc"),
        };
        let seal = Seal::start(place, false, 1);
        let secrets = Secrets::new(Arc::clone(&store), seal.clone());
        (folder, store, seal, secrets)
    }

    fn name() -> SecretName {
        "key".parse().unwrap()
    }

    const SCOPE: Scope = Scope::Machine;

    fn value(secrets: &Secrets) -> Vec<u8> {
        secrets.get(&SCOPE, &name(), None).unwrap().plain.to_vec()
    }

    fn begin(secrets: &Secrets, value: &[u8]) -> Result<Rotation, SecretError> {
        secrets.begin_rotation(&SCOPE, &name(), value, ("tester", "set"), false)
    }

    fn advance(secrets: &Secrets, to: u32, step: RotationStep) -> Result<Rotation, SecretError> {
        secrets.advance_rotation(&SCOPE, &name(), to, step)
    }

    #[test]
    fn the_new_version_is_in_use_from_the_switch_on_and_the_old_one_is_out_of_use_at_the_end() {
        let (_folder, _, _, secrets) = store();
        assert!(matches!(
            begin(&secrets, b"two"),
            Err(SecretError::NotFound { .. })
        ));
        secrets.set(&SCOPE, &name(), b"one", "", "set").unwrap();
        assert!(matches!(
            begin(&secrets, b"one"),
            Err(SecretError::SameValue { .. })
        ));
        let begun = begin(&secrets, b"two").unwrap();
        assert_eq!(
            (begun.from, begun.to, begun.step),
            (1, 2, RotationStep::Staged)
        );
        assert_eq!(value(&secrets), b"one");
        assert_eq!(secrets.rotation(&SCOPE, &name()).unwrap(), Some(begun));
        // Nothing else decides meanwhile.
        for refused in [
            begin(&secrets, b"three").map(drop),
            secrets.set(&SCOPE, &name(), b"x", "", "set").map(drop),
            secrets.rollback(&SCOPE, &name(), Some(2)).map(drop),
        ] {
            assert!(matches!(refused, Err(SecretError::Rotating { .. })));
        }
        for _ in 0..2 {
            advance(&secrets, 2, RotationStep::Switched).unwrap();
            assert_eq!(value(&secrets), b"two");
        }
        assert!(secrets.out_of_use(&SCOPE, &name()).unwrap().is_empty());
        advance(&secrets, 2, RotationStep::Retiring).unwrap();
        assert!(
            advance(&secrets, 2, RotationStep::Aborting).is_err(),
            "it may work no more"
        );
        advance(&secrets, 2, RotationStep::Done).unwrap();
        assert_eq!(secrets.rotation(&SCOPE, &name()).unwrap(), None);
        let back = secrets.rollback(&SCOPE, &name(), None);
        assert!(matches!(
            back,
            Err(SecretError::OutOfUse { version: 1, .. })
        ));
        assert_eq!(begin(&secrets, b"three").unwrap().to, 3);
    }

    #[test]
    fn what_is_aborted_leaves_the_version_before() {
        for switched in [false, true] {
            let (_folder, _, _, secrets) = store();
            secrets.set(&SCOPE, &name(), b"one", "", "set").unwrap();
            begin(&secrets, b"two").unwrap();
            if switched {
                advance(&secrets, 2, RotationStep::Switched).unwrap();
            }
            advance(&secrets, 2, RotationStep::Aborting).unwrap();
            assert_eq!(value(&secrets), b"one");
            assert!(advance(&secrets, 2, RotationStep::Switched).is_err());
            assert!(advance(&secrets, 3, RotationStep::Switched).is_err());
            advance(&secrets, 2, RotationStep::Aborted).unwrap();
            let forth = secrets.rollback(&SCOPE, &name(), Some(2));
            assert!(matches!(
                forth,
                Err(SecretError::OutOfUse { version: 2, .. })
            ));
            assert_eq!(begin(&secrets, b"three").unwrap().to, 3);
        }
    }

    #[test]
    fn steps_lead_to_an_end() {
        for step in RotationStep::ALL {
            assert_eq!(RotationStep::from_word(step.word()), Some(step));
            let next = RotationStep::ALL
                .iter()
                .filter(|next| step.leads_to(**next));
            assert_eq!(next.count() == 0, step.is_over());
        }
    }

    #[test]
    fn a_rotation_that_was_edited_is_refused_and_one_under_new_keys_goes_on() {
        let (_folder, store, seal, secrets) = store();
        secrets.set(&SCOPE, &name(), b"one", "", "set").unwrap();
        begin(&secrets, b"two").unwrap();
        seal.rekey(2).unwrap();
        assert_eq!(secrets.renew().unwrap(), Vec::<String>::new());
        assert!(secrets.rotation(&SCOPE, &name()).unwrap().is_some());
        store
            .run("edit", |db| {
                db.execute("UPDATE secret_rotations SET step = 'retiring'", [])
            })
            .unwrap();
        let error = secrets.rotation(&SCOPE, &name()).unwrap_err();
        assert!(
            error.to_string().contains("the rotation to version 2"),
            "{error}"
        );
    }
}
