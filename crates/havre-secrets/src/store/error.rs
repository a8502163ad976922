//! What can be wrong with a secret.

use havre_store::StoreError;

use super::{RotationStep, Scope, SecretName};
use crate::key::CryptoError;
use crate::seal::SealedError;

/// Why a secret cannot be had, kept or changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("{scope} has no secret `{name}`")]
    NotFound {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
    },
    /// There is no such version.
    #[error("`{name}` of {scope} has no version {version}")]
    NoVersion {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
        /// Its version.
        version: u32,
    },
    /// A row is not what was written.
    #[error("{what} of secret `{name}` of {scope} was edited, swapped or cut off in the database")]
    Damaged {
        /// Where.
        scope: Scope,
        /// Which.
        name: String,
        /// What of it.
        what: String,
    },
    /// Nothing is no secret.
    #[error("the value is empty")]
    Empty,
    /// More than a secret may have.
    #[error("the value has {bytes} bytes; a secret has {MOST_VALUE_BYTES} at most")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// More than anybody could keep apart.
    #[error("{scope} has {MOST_SECRETS} secrets, which is the most")]
    TooMany {
        /// Where.
        scope: Scope,
    },
    /// More than a database should have.
    #[error(
        "{scope} has secrets of {MOST_SCOPE_MIB} MiB with this one, all versions counted, which is the most"
    )]
    NoRoom {
        /// Where.
        scope: Scope,
    },
    /// A rotation decides which version is in use.
    #[error("`{name}` of {scope} is being rotated to version {to}, which is {step}")]
    Rotating {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
        /// The new version.
        to: u32,
        /// How far it is.
        step: RotationStep,
    },
    /// A rotation to the value that there is.
    #[error("`{name}` of {scope} has this value already")]
    SameValue {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
    },
    /// A rotation has ended its time.
    #[error(
        "version {version} of `{name}` of {scope} was retired by a rotation: it may work no more"
    )]
    OutOfUse {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
        /// Its version.
        version: u32,
    },
    /// A step of a rotation that does not follow.
    #[error("the rotation of `{name}` of {scope} to version {to} cannot be {wanted}: {}", stands(*.is))]
    NotThere {
        /// Where.
        scope: Scope,
        /// Which.
        name: SecretName,
        /// The new version.
        to: u32,
        /// How far it is; `None`: there is none.
        is: Option<RotationStep>,
        /// The step.
        wanted: RotationStep,
    },
    /// Its scope's keys, or the seal.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The database.
    #[error(transparent)]
    Database(#[from] StoreError),
    /// There are no random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

fn stands(is: Option<RotationStep>) -> String {
    match is {
        Some(step) => format!("it is {step}"),
        None => "there is none".to_owned(),
    }
}

/// Most bytes of a value, as for files that services get.
pub const MOST_VALUE_BYTES: usize = 1024 * 1024;
/// Most names of one scope.
pub const MOST_SECRETS: usize = 10_000;
/// Most MiB of all values of one scope, with the versions that are kept of each.
pub(super) const MOST_SCOPE_MIB: usize = 256;
/// The same in bytes.
pub(super) const MOST_SCOPE_BYTES: usize = MOST_SCOPE_MIB * 1024 * 1024;
