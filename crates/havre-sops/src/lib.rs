//! Files of SOPS: YAML, JSON and dotenv whose values are encrypted and whose names are not.
//!
//! ```text
//! file ─► tree ─► data key (by age, the caller's) ─► values, in order ─► MAC ─► Items
//! ```
//!
//! A value is `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`: AES-256-GCM with a nonce of 32 bytes, and the names that lead to
//! it as additional data, each with a colon behind it. The MAC is SHA-512 over all values in the order of the file, but for
//! comments; it is encrypted like a value, with the time of the last change as additional data. The data key is in
//! the file once for each recipient. What is here knows age's armour, and leaves age itself to the caller.
//!
//! Written after the files that SOPS 3 writes (<https://github.com/getsops/sops>, version 3.11), which is the judge of the tests.
//! Left out, and refused: recipients other than age's, data keys that are split over groups of recipients, and several
//! documents in one file.

mod armor;
mod cipher;
mod decrypt;
mod dotenv;
mod encrypt;
mod error;
mod json;
mod metadata;
mod tree;
mod yaml;

pub use decrypt::{Item, Opened, decrypt, is_encrypted};
pub use encrypt::{EncryptError, Entropy, Sealed, encrypt};
pub use error::SopsError;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A YAML document.
    Yaml,
    /// A JSON document.
    Json,
    /// Lines of `NAME=value`.
    Dotenv,
}

impl Format {
    /// By what a file's name ends with, as SOPS tells them apart.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let is = |end: &str| name.ends_with(end);
        if is(".yaml") || is(".yml") {
            Some(Self::Yaml)
        } else if is(".json") {
            Some(Self::Json)
        } else if is(".env") {
            Some(Self::Dotenv)
        } else {
            None
        }
    }
}

/// Most bytes of a file.
pub const MAX_FILE_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests;
