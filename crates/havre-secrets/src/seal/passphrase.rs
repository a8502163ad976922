//! From a passphrase to the identity that opens its slot.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::age::Identity;
use crate::key::{CryptoError, fill};
use crate::text;

/// Fewest characters: below, all are tried in less time than anybody waits.
const LEAST_CHARACTERS: usize = 12;
/// Most bytes: the whole of it is hashed.
const MOST_BYTES: usize = 1024;
/// Most memory that a stored slot may ask for: an edited one does not exhaust the machine.
const MOST_KIB: u32 = 1024 * 1024;
/// Most rounds that it may ask for.
const MOST_PASSES: u32 = 64;

/// Why a passphrase cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// It is guessed too easily.
    #[error(
        "a passphrase has {LEAST_CHARACTERS} characters at least: take five or more random words"
    )]
    TooShort,
    /// It is no passphrase.
    #[error("a passphrase has {MOST_BYTES} bytes at most")]
    TooLong,
}

/// Argon2id's parameters, with which a slot was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kdf {
    /// Always `argon2id`.
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "text")]
    salt: Vec<u8>,
}

/// How much work a passphrase is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
}

impl Cost {
    /// Twice and more of what RFC 9106 asks of machines with little memory; a quarter of a second.
    pub(crate) const USUAL: Self = Self {
        memory_kib: 64 * 1024,
        passes: 4,
    };
}

/// Whether a new slot may have it.
pub(crate) fn check(passphrase: &str) -> Result<(), PassphraseError> {
    if passphrase.len() > MOST_BYTES {
        return Err(PassphraseError::TooLong);
    }
    match passphrase.chars().count() < LEAST_CHARACTERS {
        true => Err(PassphraseError::TooShort),
        false => Ok(()),
    }
}

impl Kdf {
    /// With a salt of its own.
    pub(crate) fn new(cost: Cost) -> Result<Self, CryptoError> {
        let mut salt = vec![0; 16];
        fill(&mut salt)?;
        Ok(Self {
            algorithm: "argon2id".to_owned(),
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: 1,
            salt,
        })
    }

    /// What the passphrase is the identity of. Takes a while.
    pub(crate) fn identity(&self, passphrase: &str) -> Result<Identity, CryptoError> {
        let sound = self.algorithm == "argon2id"
            && self.memory_kib <= MOST_KIB
            && self.passes <= MOST_PASSES
            && passphrase.len() <= MOST_BYTES;
        let unsound = CryptoError("the parameters of the passphrase slot are not sound");
        if !sound {
            return Err(unsound);
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        let params = params.map_err(|_| unsound)?;
        let mut bytes = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, &mut bytes[..])
            .map_err(|_| unsound)?;
        Ok(Identity::from_bytes(&bytes))
    }
}
