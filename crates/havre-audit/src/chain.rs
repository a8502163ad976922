//! Hashes and MACs: what links records, and what vouches for the newest.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use ring::hmac;

/// What is hashed begins with what it is hashed for, so that no text of one purpose passes for another's.
const RECORD: &[u8] = b"havre-audit-1 record\n";
const HEAD: &[u8] = b"havre-audit-1 head\n";
const COPY: &[u8] = b"havre-audit-1 copy\n";
const CUT: &[u8] = b"havre-audit-1 cut\n";
const KEY: &[u8] = b"havre-audit-1 key\n";

/// A SHA-256 hash; text is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; SHA256_OUTPUT_LEN]);

impl Hash {
    /// What stands before the first record.
    pub const START: Self = Self([0; SHA256_OUTPUT_LEN]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// It is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash has 64 hex digits")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| NotAHash)?;
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

/// The hash of a record: over the hash of the one before, and its own canonical text.
pub fn link(previous: &Hash, canonical: &str) -> Hash {
    let mut text = Vec::with_capacity(RECORD.len() + previous.0.len() + canonical.len());
    text.extend_from_slice(RECORD);
    text.extend_from_slice(&previous.0);
    text.extend_from_slice(canonical.as_bytes());
    let mut hash = [0; SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA256, &text).as_ref());
    Hash(hash)
}

/// What a MAC vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// That a record is the newest one, in the database.
    Head,
    /// The same, outside of it: what the database once had says nothing there.
    Copy,
    /// That all up to a record were removed by us.
    Cut,
}

/// The key of this machine's word.
#[derive(Clone, Debug)]
pub struct Key(hmac::Key);

impl Key {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// Of random bytes.
    pub fn new(bytes: &[u8; Self::BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// Eight hex digits by which it is told from others; they say nothing of it.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&hmac::sign(&self.0, KEY).as_ref()[..4])
    }

    pub(crate) fn sign(&self, purpose: Purpose, sequence: u64, hash: &Hash) -> Hash {
        let tag = hmac::sign(&self.0, &message(purpose, sequence, hash));
        let mut mac = [0; SHA256_OUTPUT_LEN];
        mac.copy_from_slice(tag.as_ref());
        Hash(mac)
    }

    pub(crate) fn vouches(&self, purpose: Purpose, sequence: u64, hash: &Hash, mac: &Hash) -> bool {
        hmac::verify(&self.0, &message(purpose, sequence, hash), &mac.0).is_ok()
    }
}

fn message(purpose: Purpose, sequence: u64, hash: &Hash) -> Vec<u8> {
    let purpose = match purpose {
        Purpose::Head => HEAD,
        Purpose::Copy => COPY,
        Purpose::Cut => CUT,
    };
    [purpose, &sequence.to_be_bytes(), &hash.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_is_the_documented_one() {
        // printf 'havre-audit-1 record\n' with 32 zero bytes and {} behind it, by sha256sum.
        assert_eq!(
            link(&Hash::START, "{}").to_string(),
            "942f093ee8ae2f000b404870b2146805cd1f71f51c01712826d498a46fe74829"
        );
    }

    #[test]
    fn a_mac_is_for_one_purpose_number_and_hash() {
        let (key, other) = (Key::new(&[7; 32]), Key::new(&[8; 32]));
        let (one, two) = (link(&Hash::START, "1"), link(&Hash::START, "2"));
        let mac = key.sign(Purpose::Head, 5, &one);
        assert!(key.vouches(Purpose::Head, 5, &one, &mac));
        assert!(!key.vouches(Purpose::Cut, 5, &one, &mac));
        assert!(!key.vouches(Purpose::Copy, 5, &one, &mac));
        assert!(!key.vouches(Purpose::Head, 6, &one, &mac));
        assert!(!key.vouches(Purpose::Head, 5, &two, &mac));
        assert!(!other.vouches(Purpose::Head, 5, &one, &mac));
        assert_ne!(key.id(), other.id());
    }

    #[test]
    fn hashes_are_read_as_they_are_written() {
        let hash = link(&Hash::START, "");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in ["", "00", &"0".repeat(65), &"A".repeat(64), &"ä".repeat(32)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash));
        }
    }
}
