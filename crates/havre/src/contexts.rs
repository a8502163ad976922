//! Contexts: the daemons that commands can go to, by the names that the user gave them.
//!
//! ```text
//! $XDG_CONFIG_HOME/havre/contexts.json     which there are, and which one is meant where none is named
//! $XDG_CONFIG_HOME/havre/tokens/<name>     an address, and what shows the daemon there who asks
//! ```
//!
//! `local` is this machine and is always there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use havre_api::Address;
use serde::{Deserialize, Serialize};

mod folder;

pub use folder::{ConfigFolder, ConfigFolderError};

/// The context that is this machine.
pub const LOCAL: &str = "local";

/// Most bytes of a context's name.
const MAX_NAME_BYTES: usize = 63;

/// All contexts of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contexts {
    /// The one that is meant where none is named; `None`: this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    pub contexts: BTreeMap<String, Saved>,
}

/// A context as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// `https://…` or `ssh://…`.
    pub address: String,
    /// Authorities to be believed there beside the machine's, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// By whom people log in there, as it was at the first login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<SavedIssuer>,
}

/// An issuer of identities, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedIssuer {
    /// Its address.
    pub issuer: String,
    /// What the command line calls itself there: whom a token is for.
    pub client_id: String,
}

/// What a command is told about where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To this machine.
    Here,
    /// To a context of the user's.
    Named(String),
    /// To an address that was written instead of a name.
    At(Address),
}

/// Why it cannot be said where a command is to go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// This machine's folder and another machine were both named.
    #[error("--root is a folder of this machine, and the context {context} is another one")]
    Root {
        /// The context.
        context: String,
    },
    /// The address is none.
    #[error(transparent)]
    Address(#[from] havre_api::AddressError),
}

/// Where a command goes: to what is named on its command line or by HAVRE_CONTEXT, to this machine where
/// a folder of it is named, and else to the context in use.
pub fn wanted(
    named: Option<&str>,
    has_root: bool,
    current: impl FnOnce() -> Option<String>,
) -> Result<Wanted, WantedError> {
    let wanted = match named.filter(|name| !name.is_empty()) {
        Some(LOCAL) => Wanted::Here,
        Some(address) if address.contains("://") => Wanted::At(address.parse()?),
        Some(name) => Wanted::Named(name.to_owned()),
        None if has_root => Wanted::Here,
        None => match current() {
            Some(name) if name != LOCAL => Wanted::Named(name),
            _ => Wanted::Here,
        },
    };
    match &wanted {
        Wanted::Here => Ok(wanted),
        Wanted::Named(context) if has_root => Err(WantedError::Root {
            context: context.clone(),
        }),
        Wanted::At(address) if has_root => Err(WantedError::Root {
            context: address.to_string(),
        }),
        Wanted::Named(_) | Wanted::At(_) => Ok(wanted),
    }
}

/// Whether a context may be called so: names are names of files, too.
pub fn is_name(name: &str) -> bool {
    let sound =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with(['-', '.'])
        && name.chars().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_said_last_counts() {
        let go = |named, has_root, current: Option<&str>| {
            wanted(named, has_root, || current.map(str::to_owned))
        };
        let prod = || Wanted::Named("prod".to_owned());
        assert_eq!(go(None, false, None), Ok(Wanted::Here));
        assert_eq!(go(None, false, Some("local")), Ok(Wanted::Here));
        assert_eq!(go(None, false, Some("prod")), Ok(prod()));
        assert_eq!(go(Some(""), false, Some("prod")), Ok(prod()));
        assert_eq!(go(Some("local"), false, Some("prod")), Ok(Wanted::Here));
        assert_eq!(go(Some("prod"), false, None), Ok(prod()));
        assert_eq!(go(None, true, Some("prod")), Ok(Wanted::Here));
        assert_eq!(go(Some("local"), true, None), Ok(Wanted::Here));
        assert!(matches!(
            go(Some("prod"), true, None),
            Err(WantedError::Root { .. })
        ));
        let at = "https://havre.example.org".parse().unwrap();
        let went = go(Some("https://havre.example.org"), false, None);
        assert_eq!(went, Ok(Wanted::At(at)));
        assert!(go(Some("ssh://-x"), false, None).is_err());
    }

    #[test]
    fn a_name_is_a_file_of_its_folder() {
        for name in ["prod", "a.b-c_1", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "-x", "a/b", "A", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
