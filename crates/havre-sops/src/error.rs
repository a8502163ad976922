//! Why a file is not read.

use crate::MAX_FILE_BYTES;

/// Why a file is not read. No message repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SopsError {
    /// It is larger than any that is read.
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// It is not of the format.
    #[error("it cannot be read: {why}")]
    Syntax {
        /// Where and why.
        why: String,
    },
    /// SOPS did not write it.
    #[error("it has no `sops` in it: it was not encrypted by sops")]
    NotSops,
    /// The metadata is incomplete.
    #[error("its `sops` has no {name}")]
    Metadata {
        /// What is missing.
        name: &'static str,
    },
    /// It is encrypted to others than recipients of age.
    #[error("it is encrypted to no age recipient{}", listed(others))]
    NotForAge {
        /// To what kinds it is.
        others: Vec<&'static str>,
    },
    /// Its data key is split.
    #[error("its data key is split over key groups, which is not supported")]
    KeyGroups,
    /// None of the keys at hand opens it.
    #[error("it is encrypted to other age recipients: none of the given identities opens it")]
    NoKey,
    /// A value was edited, or moved.
    #[error("{path} was edited, moved or cut: it does not decrypt")]
    Value {
        /// The names that lead to it.
        path: String,
    },
    /// A value is not text.
    #[error("{path} is not text")]
    NotText {
        /// The names that lead to it.
        path: String,
    },
    /// The values are not those that the MAC is about.
    #[error("its MAC does not match: values were edited, added, removed or put in another order")]
    Mac,
}

fn listed(others: &[&str]) -> String {
    match others.is_empty() {
        true => String::new(),
        false => format!(", but to {}", others.join(", ")),
    }
}
