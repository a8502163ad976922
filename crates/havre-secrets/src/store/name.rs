//! What secrets are called, and whose they are.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
const MOST_BYTES: usize = 200;

/// Whose a secret is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The machine's: every environment has it that has no own of that name.
    Machine,
    /// One environment's.
    Environment {
        /// Its project.
        project: String,
        /// Its name there.
        environment: String,
    },
}

impl Scope {
    /// As it stands in the database, and wherever it is authenticated.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Machine => String::new(),
            Self::Environment {
                project,
                environment,
            } => format!("{project}/{environment}"),
        }
    }

    pub(crate) fn from_key(key: &str) -> Self {
        match key.split_once('/') {
            Some((project, environment)) => Self::Environment {
                project: project.to_owned(),
                environment: environment.to_owned(),
            },
            None => Self::Machine,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("this machine"),
            Self::Environment {
                project,
                environment,
            } => write!(f, "{project}/{environment}"),
        }
    }
}

/// Name of a secret: any letters, in folders by `/` if somebody likes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name of a secret: {why}")]
pub struct NameError {
    /// It, without what would upset a terminal.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

impl SecretName {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SecretName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match fault(name) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(NameError {
                name: name.chars().take(50).map(shown).collect(),
                why,
            }),
        }
    }
}

fn fault(name: &str) -> Option<&'static str> {
    let mut folders = name.split('/');
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MOST_BYTES {
        Some("it is longer than 200 bytes")
    } else if name.starts_with('-') {
        Some("it begins as an option does")
    } else if name.chars().any(char::is_whitespace) {
        Some("there is white space in it")
    } else if name.chars().any(|char| shown(char) != char) {
        Some("there are characters in it that nobody sees")
    } else if folders.any(|folder| matches!(folder, "" | "." | "..")) {
        Some("a part between slashes is empty, `.` or `..`")
    } else {
        None
    }
}

/// A character, or what stands for one that is not seen or turns the writing around.
fn shown(char: char) -> char {
    let hidden = char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{00ad}' | '\u{061c}' | '\u{e0000}'..='\u{e007f}');
    if hidden { '\u{fffd}' } else { char }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_folders_and_any_letters() {
        for name in [
            "DB_PASSWORD",
            "stripe/live/key",
            "schlüssel",
            "鍵",
            "a.b-c@d",
        ] {
            assert_eq!(name.parse::<SecretName>().unwrap().as_str(), name);
        }
        let long = "x".repeat(201);
        for name in [
            "",
            "/a",
            "a/",
            "a//b",
            "a/../b",
            ".",
            "a b",
            "a\n",
            "-x",
            "a\u{202e}b",
            "\u{feff}a",
            &long,
        ] {
            assert!(name.parse::<SecretName>().is_err(), "{name:?}");
        }
        let error = "a\u{1b}[31m".parse::<SecretName>().unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        let own = Scope::Environment {
            project: "shop".to_owned(),
            environment: "production".to_owned(),
        };
        for scope in [Scope::Machine, own] {
            assert_eq!(Scope::from_key(&scope.key()), scope);
        }
    }
}
