//! Names: of repositories, and of what is in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a repository.
const MOST_NAME_BYTES: usize = 63;

/// A repository's name, which is its project's: lower-case letters, digits, `-` and `_`, the first of them a letter
/// or a digit, at most 63 bytes. It is a safe name of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A text that names no repository, or no object.
#[derive(Debug, thiserror::Error)]
#[error("not the name of {what}")]
pub struct InvalidName {
    what: &'static str,
}

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let begins = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_sound = text.len() <= MOST_NAME_BYTES
            && text.starts_with(begins)
            && text.chars().all(|c| begins(c) || matches!(c, '-' | '_'));
        match is_sound {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidName {
                what: "a repository",
            }),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an object: 40 hex digits in lower case (SHA-1), or 64 (SHA-256).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Oid(String);

impl Oid {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As hooks are told: all zeros stand for nothing.
    pub(crate) fn or_none(text: &str) -> Result<Option<Self>, InvalidName> {
        let oid: Self = text.parse()?;
        Ok((!oid.0.bytes().all(|digit| digit == b'0')).then_some(oid))
    }
}

impl FromStr for Oid {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match matches!(text.len(), 40 | 64) && text.bytes().all(is_hex) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidName { what: "an object" }),
        }
    }
}

impl TryFrom<String> for Oid {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Oid> for String {
    fn from(oid: Oid) -> Self {
        oid.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_plain_folder() {
        for good in ["shop", "a", "0-x_y"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", ".", "..", "../x", "a/b", "a.git", "-x", "_x", "Shop", "a b", "a\n", "é", &long,
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_object_is_named_by_its_digest() {
        let digest = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(digest.parse::<Oid>().expect("sound").as_str(), digest);
        assert_eq!(Oid::or_none(&"0".repeat(40)).expect("sound"), None);
        for bad in ["HEAD", "--all", &digest[1..], &digest.to_uppercase()] {
            assert!(bad.parse::<Oid>().is_err(), "{bad}");
        }
    }
}
