//! age files (age-encryption.org/v1) with X25519 recipients, as far as keys of a seal need them: short, to
//! and from keys that are text. Debian's `age` reads what is written here, and writes what is read.
//!
//! Other kinds of recipients (passphrases, SSH keys, plugins) are skipped in a file and refused as a
//! recipient.

mod bech32;
mod file;

use std::fmt;
use std::str::FromStr;

use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::key::{CryptoError, fill};

pub use file::{DecryptError, decrypt, encrypt};

/// Human-readable part of a recipient.
const RECIPIENT: &str = "age";
/// Human-readable part of an identity.
const IDENTITY: &str = "age-secret-key-";

/// A text that is no recipient or identity of ours. It is not repeated: it may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// It is something else.
    #[error("not an age recipient: one begins with age1 and has 62 characters")]
    Recipient,
    /// Nor is it one.
    #[error("not an age identity: one begins with AGE-SECRET-KEY-1 and has 74 characters")]
    Identity,
    /// It belongs to a plugin, SSH or the post-quantum kind.
    #[error(
        "not an X25519 recipient of age: other kinds (SSH, plugins, post-quantum) are not supported"
    )]
    Unsupported,
}

/// Whom something is encrypted to.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(RECIPIENT, self.0.as_bytes()))
    }
}

impl FromStr for Recipient {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let text = text.trim();
        if let Some(bytes) = bech32::decode(RECIPIENT, text) {
            return Ok(Self(PublicKey::from(bytes)));
        }
        let other = text.starts_with("ssh-")
            || (text.starts_with("age1") && text.len() != 62 && text.is_ascii());
        Err(match other {
            true => KeyTextError::Unsupported,
            false => KeyTextError::Recipient,
        })
    }
}

/// What decrypts. It is wiped when it goes, and never shown but by [`Identity::secret_text`].
#[derive(Clone)]
pub struct Identity(StaticSecret);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

impl Identity {
    /// A new one.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new([0; 32]);
        fill(&mut bytes[..])?;
        Ok(Self::from_bytes(&bytes))
    }

    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*bytes))
    }

    /// Whom to encrypt to for it.
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0))
    }

    /// `AGE-SECRET-KEY-1…`, as age writes and reads it.
    pub fn secret_text(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        let mut text = Zeroizing::new(bech32::encode(IDENTITY, &bytes));
        text.make_ascii_uppercase();
        text
    }
}

impl FromStr for Identity {
    type Err = KeyTextError;

    /// A key by itself, or a file of age-keygen's with comments around it.
    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(KeyTextError::Identity);
        };
        let bytes = bech32::decode(IDENTITY, line).ok_or(KeyTextError::Identity)?;
        Ok(Self::from_bytes(&Zeroizing::new(bytes)))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_macros, reason = "a test that is skipped says so")]
mod oracle;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let identity = Identity::generate().unwrap();
        let text = identity.secret_text();
        assert!(
            text.starts_with("AGE-SECRET-KEY-1") && text.len() == 74,
            "{}",
            text.len()
        );
        let file = format!("# created: today\n# public key: x\n{}\n", *text);
        for text in [text.as_str(), &file, &text.to_lowercase()] {
            let read: Identity = text.parse().unwrap();
            assert_eq!(read.recipient(), identity.recipient());
        }
        let public = identity.recipient().to_string();
        assert!(public.starts_with("age1") && public.len() == 62);
        assert_eq!(public.parse(), Ok(identity.recipient()));
        assert_eq!(format!("{identity:?}"), "Identity(…)");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let good = Identity::generate().unwrap().recipient().to_string();
        for (text, error) in [
            ("", KeyTextError::Recipient),
            (&good[..61], KeyTextError::Unsupported),
            ("ssh-ed25519 AAAA", KeyTextError::Unsupported),
            (
                "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
                KeyTextError::Unsupported,
            ),
            ("AGE-SECRET-KEY-1QQQQ", KeyTextError::Recipient),
        ] {
            assert_eq!(text.parse::<Recipient>().unwrap_err(), error, "{text}");
        }
        let mut typo = good.clone();
        let last = if good.ends_with('q') { "p" } else { "q" };
        typo.replace_range(61.., last);
        assert_eq!(
            typo.parse::<Recipient>().unwrap_err(),
            KeyTextError::Recipient
        );
        assert_eq!(
            good.parse::<Identity>().unwrap_err(),
            KeyTextError::Identity
        );
    }
}
