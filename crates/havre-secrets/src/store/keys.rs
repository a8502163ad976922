//! The keys of a scope, and what is encrypted under them.

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::Scope;
use super::rows::{HeadRow, SecretRow, VersionRow};
use crate::key::{CryptoError, KEY_BYTES, Key, SEALED_BYTES};
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
        mut head: HeadRow,
        value: &[u8],
    ) -> Result<VersionRow, CryptoError> {
        let data_key = Key::random()?;
        head.data_key = self.wrapping().encrypt(&head.told(), data_key.bytes())?;
        let content = data_key.encrypt(&head.told(), value)?;
        head.content_bytes = content.len();
        Ok(VersionRow { head, content })
    }

    /// The value of a version; none: the row is not what was written.
    pub(super) fn decrypt(&self, row: &VersionRow) -> Option<Zeroizing<Vec<u8>>> {
        let (data_key, _) = self.data_key(&row.head)?;
        data_key.decrypt(&row.head.told(), &row.content)
    }

    /// Whether all that is known of a version is what was written, its value aside, which may be a MiB; none: only
    /// that tells.
    pub(super) fn is_sound(&self, head: &HeadRow) -> Option<bool> {
        let size = usize::try_from(head.size).unwrap_or(usize::MAX);
        match self.data_key(head) {
            Some((_, true)) => Some(head.content_bytes == size.saturating_add(SEALED_BYTES)),
            Some((_, false)) => None,
            None => Some(false),
        }
    }

    /// Puts the key of a version under other keys of its scope; false: it is not what was written.
    pub(super) fn rewrap(&self, head: &mut HeadRow, for_: &Self) -> Result<bool, CryptoError> {
        let data_key = match self.data_key(head) {
            Some((data_key, true)) => for_.wrapping().encrypt(&head.told(), data_key.bytes())?,
            Some((data_key, false)) => for_.wrapping().encrypt(&head.place(), data_key.bytes())?,
            None => return Ok(false),
        };
        head.data_key = data_key;
        Ok(true)
    }

    /// The key of a version, and whether it is bound to all that is known of it: the first ones were to their
    /// place alone.
    fn data_key(&self, head: &HeadRow) -> Option<(Key, bool)> {
        let wrapping = self.wrapping();
        let bound = wrapping.decrypt_key(&head.told(), &head.data_key);
        let placed = || wrapping.decrypt_key(&head.place(), &head.data_key);
        bound
            .map(|key| (key, true))
            .or_else(|| Some((placed()?, false)))
    }

    /// As versions were that are older than the binding of their keys.
    #[cfg(test)]
    pub(super) fn bind_to_place(&self, head: &mut HeadRow) {
        let (data_key, _) = self.data_key(head).unwrap();
        let sealed = self.wrapping().encrypt(&head.place(), data_key.bytes());
        head.data_key = sealed.unwrap();
    }

    pub(super) fn sign(&self, row: &mut SecretRow) {
        row.mac = self.signing().mac(&row.told()).to_vec();
    }

    pub(super) fn is_signed(&self, row: &SecretRow) -> bool {
        self.signing().is_mac(&row.told(), &row.mac)
    }

    /// Whether a row is what was written, and not one of before a version that there is.
    pub(super) fn is_newest(&self, row: &SecretRow) -> bool {
        self.is_signed(row) && row.there <= row.newest
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
