//! The keys of a scope, and what is encrypted under them.

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::Scope;
use super::rows::{DataKeyRow, SecretRow, VersionRow};
use crate::key::{CryptoError, KEY_BYTES, Key};
use crate::seal::{Seal, SealedError};

/// What a scope has.
#[derive(Clone, Debug)]
pub(super) struct ScopeKeys {
    /// Encrypts the keys of versions; another one comes with each new root key.
    key: Key,
    /// Tells equal contents from others. It stays: what it made is in the records of releases.
    fingerprints: Key,
}

impl ScopeKeys {
    pub(super) fn new() -> Result<Self, CryptoError> {
        Ok(Self {
            key: Key::random()?,
            fingerprints: Key::random()?,
        })
    }

    /// With another key for versions.
    pub(super) fn renewed(&self) -> Result<Self, CryptoError> {
        Ok(Self {
            key: Key::random()?,
            fingerprints: self.fingerprints.clone(),
        })
    }

    pub(super) fn seal(&self, seal: &Seal, scope: &Scope) -> Result<Vec<u8>, SealedError> {
        let both = [&self.key.bytes()[..], &self.fingerprints.bytes()[..]].concat();
        seal.seal(&context(scope), &Zeroizing::new(both))
    }

    pub(super) fn open(seal: &Seal, scope: &Scope, sealed: &[u8]) -> Result<Self, SealedError> {
        let context = context(scope);
        let both = seal.open(&context, sealed)?;
        let (key, fingerprints) = both.split_at_checked(KEY_BYTES).unwrap_or_default();
        match (Key::from_bytes(key), Key::from_bytes(fingerprints)) {
            (Some(key), Some(fingerprints)) => Ok(Self { key, fingerprints }),
            _ => Err(SealedError::Damaged { context }),
        }
    }

    /// Equal for equal contents of this scope, and of no use to who has no key.
    pub(super) fn fingerprint(&self, content: &[u8]) -> String {
        HEXLOWER.encode(&self.fingerprints.mac(&[&b"havre content 1"[..], content]))
    }

    /// The row of a version with this value.
    pub(super) fn encrypt(
        &self,
        mut row: VersionRow,
        value: &[u8],
    ) -> Result<VersionRow, CryptoError> {
        let data_key = Key::random()?;
        row.data_key = self.wrapping().encrypt(&row.place(), data_key.bytes())?;
        row.content = data_key.encrypt(&row.told(), value)?;
        Ok(row)
    }

    /// The value of a version; none: the row is not what was written.
    pub(super) fn decrypt(&self, row: &VersionRow) -> Option<Zeroizing<Vec<u8>>> {
        let data_key = self.wrapping().decrypt_key(&row.place(), &row.data_key)?;
        data_key.decrypt(&row.told(), &row.content)
    }

    /// Puts the key of a version under other keys of its scope; false: it is not what was written.
    pub(super) fn rewrap(&self, row: &mut DataKeyRow, for_: &Self) -> Result<bool, CryptoError> {
        let Some(data_key) = self.wrapping().decrypt_key(&row.place(), &row.data_key) else {
            return Ok(false);
        };
        row.data_key = for_.wrapping().encrypt(&row.place(), data_key.bytes())?;
        Ok(true)
    }

    pub(super) fn sign(&self, row: &mut SecretRow) {
        row.mac = self.signing().mac(&row.told()).to_vec();
    }

    pub(super) fn is_signed(&self, row: &SecretRow) -> bool {
        self.signing().is_mac(&row.told(), &row.mac)
    }

    /// Of a row that says what becomes of a secret.
    pub(super) fn mac(&self, told: &[Vec<u8>]) -> Vec<u8> {
        self.signing().mac(told).to_vec()
    }

    pub(super) fn is_mac(&self, told: &[Vec<u8>], mac: &[u8]) -> bool {
        self.signing().is_mac(told, mac)
    }

    fn wrapping(&self) -> Key {
        self.key.derive(&["havre data keys 1"])
    }

    fn signing(&self) -> Key {
        self.key.derive(&["havre secret rows 1"])
    }
}

fn context(scope: &Scope) -> String {
    format!("secrets/{}", scope.key())
}
