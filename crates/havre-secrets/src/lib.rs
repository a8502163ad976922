//! Secrets at rest: the seal, under which whatever must not lie in clear is encrypted, and the store of
//! secrets with versions.
//!
//! ```text
//! slots: machine · passphrase · age recipient
//!              │ each opens
//!              ▼
//!          root key ──► keys by generation ──► per use and context (HKDF): certificates, accounts, …
//!                              │
//!                              └─► a key per environment ──► a key per version ──► value
//! ```
//!
//! Ciphers: XChaCha20-Poly1305, HKDF- and HMAC-SHA256, X25519 as in age, Argon2id. Keys are wiped from
//! memory when they go. Times are seconds since the Unix epoch.

pub mod age;
mod key;
mod seal;
mod store;
mod text;
mod wipe;

pub use key::CryptoError;
pub use seal::machine::{MachineError, MachineKind};
pub use seal::passphrase::PassphraseError;
pub use seal::status::{SealStatus, SlotKind, SlotStatus};
pub use seal::{ChangeError, LockReason, Place, Seal, SealedError, Unlocked};
pub use store::{
    Listed, MOST_VALUE_BYTES, NameError, Rotation, RotationStep, SCHEMA, Scope, SecretError,
    SecretName, Secrets, Set, Value, Version, is_anything_sealed, note_seal,
};
pub use wipe::wipe;
