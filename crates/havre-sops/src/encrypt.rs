//! From values to a file.

use data_encoding::HEXUPPER;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::Format;
use crate::armor::armored;
use crate::cipher::{self, KEY_BYTES, NONCE_BYTES};

/// The version of SOPS whose form this is.
const VERSION: &str = "3.11.0";

/// Where random bytes come from.
pub trait Entropy {
    /// Why there are none.
    type Error;

    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// The data key for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Whom it is for.
    pub recipient: String,
    /// The data key as an age file.
    pub file: Vec<u8>,
}

/// Why no file is written. No message repeats a value.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError<E> {
    /// There are no random bytes.
    #[error("there are no random bytes")]
    Entropy(#[source] E),
    /// The data key could not be encrypted.
    #[error("the data key cannot be encrypted")]
    Wrap(#[source] E),
    /// A name or value that the format has no form for.
    #[error("{name:?} cannot stand in a {form} file: {why}")]
    Form {
        /// The name.
        name: String,
        /// The format.
        form: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A file with these values, by names, in their order; `at` is the time now as `2026-11-30T00:00:00Z`. `wrap` encrypts the data
/// key to each recipient.
pub fn encrypt<R: Entropy>(
    values: &[(&str, &str)],
    format: Format,
    at: &str,
    random: &mut R,
    wrap: impl FnOnce(&[u8]) -> Result<Vec<Sealed>, R::Error>,
) -> Result<String, EncryptError<R::Error>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random.fill(&mut key[..]).map_err(EncryptError::Entropy)?;
    let mut hash = Sha512::new();
    let mut sealed = Vec::with_capacity(values.len());
    let mut nonce = || {
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce).map_err(EncryptError::Entropy)?;
        Ok(nonce)
    };
    for &(name, value) in values {
        check(name, value, format)?;
        hash.update(value.as_bytes());
        // An empty value stays one.
        let text = match value {
            "" => String::new(),
            _ => seal(&key, nonce()?, &format!("{name}:"), name, value)?,
        };
        sealed.push((name, text));
    }
    let mac = Zeroizing::new(HEXUPPER.encode(&hash.finalize()));
    let mac = seal(&key, nonce()?, at, "mac", &mac)?;
    let keys = wrap(&key[..]).map_err(EncryptError::Wrap)?;
    let file = File {
        values: &sealed,
        keys: &keys,
        at,
        mac: &mac,
    };
    Ok(match format {
        Format::Yaml => file.yaml(),
        Format::Json => file.json(),
        Format::Dotenv => file.dotenv(),
    })
}

fn seal<E>(
    key: &[u8; KEY_BYTES],
    nonce: [u8; NONCE_BYTES],
    data: &str,
    name: &str,
    value: &str,
) -> Result<String, EncryptError<E>> {
    cipher::seal(key, nonce, data, value).ok_or_else(|| EncryptError::Form {
        name: name.to_owned(),
        form: "sops",
        why: "it is too long",
    })
}

fn check<E>(name: &str, value: &str, format: Format) -> Result<(), EncryptError<E>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    let (form, why) = match format {
        Format::Yaml | Format::Json if name == "sops" => ("sops", "sops keeps its own there"),
        Format::Yaml | Format::Json if name.ends_with("_unencrypted") => {
            ("sops", "sops leaves what ends in _unencrypted in clear")
        }
        Format::Yaml | Format::Json => return Ok(()),
        Format::Dotenv if name.is_empty() || !name.chars().all(is_word) => (
            "dotenv",
            "its name has other characters than letters, digits and _ . - /",
        ),
        Format::Dotenv if name.starts_with("sops_") || name.ends_with("_unencrypted") => {
            ("dotenv", "sops keeps names like that to itself")
        }
        Format::Dotenv if value.contains("\\n") || value.contains('\r') => (
            "dotenv",
            "its value has a \\n or a carriage return in it: write YAML or JSON",
        ),
        Format::Dotenv => return Ok(()),
    };
    Err(EncryptError::Form {
        name: name.to_owned(),
        form,
        why,
    })
}

struct File<'a> {
    /// Names and what is encrypted.
    values: &'a [(&'a str, String)],
    keys: &'a [Sealed],
    at: &'a str,
    mac: &'a str,
}

impl File<'_> {
    fn yaml(&self) -> String {
        let mut out = String::new();
        for (name, text) in self.values {
            let text = if text.is_empty() { "\"\"" } else { text };
            out.push_str(&format!("{}: {text}\n", quoted(name)));
        }
        out.push_str("sops:\n    age:\n");
        for key in self.keys {
            out.push_str(&format!(
                "        - recipient: {}\n          enc: |\n",
                key.recipient
            ));
            for line in armored(&key.file).lines() {
                out.push_str(&format!("            {line}\n"));
            }
        }
        out.push_str(&format!(
            "    lastmodified: \"{}\"\n    mac: {}\n    unencrypted_suffix: _unencrypted\n    version: {VERSION}\n",
            self.at, self.mac
        ));
        out
    }

    fn json(&self) -> String {
        let mut out = String::from("{\n");
        for (name, text) in self.values {
            out.push_str(&format!("\t{}: {},\n", quoted(name), quoted(text)));
        }
        out.push_str("\t\"sops\": {\n\t\t\"age\": [\n");
        let keys: Vec<String> = self
            .keys
            .iter()
            .map(|key| {
                let (recipient, file) = (quoted(&key.recipient), quoted(&armored(&key.file)));
                format!("\t\t\t{{\n\t\t\t\t\"recipient\": {recipient},\n\t\t\t\t\"enc\": {file}\n\t\t\t}}")
            })
            .collect();
        out.push_str(&keys.join(",\n"));
        out.push_str(&format!(
            "\n\t\t],\n\t\t\"lastmodified\": {},\n\t\t\"mac\": {},\n\t\t\"unencrypted_suffix\": \"_unencrypted\",\n\t\t\"version\": \"{VERSION}\"\n\t}}\n}}\n",
            quoted(self.at),
            quoted(self.mac)
        ));
        out
    }

    fn dotenv(&self) -> String {
        let mut out = String::new();
        for (name, text) in self.values {
            out.push_str(&format!("{name}={text}\n"));
        }
        for (index, key) in self.keys.iter().enumerate() {
            let file = armored(&key.file).replace('\n', "\\n");
            out.push_str(&format!("sops_age__list_{index}__map_enc={file}\n"));
            out.push_str(&format!(
                "sops_age__list_{index}__map_recipient={}\n",
                key.recipient
            ));
        }
        out.push_str(&format!(
            "sops_lastmodified={}\nsops_mac={}\nsops_unencrypted_suffix=_unencrypted\nsops_version={VERSION}\n",
            self.at, self.mac
        ));
        out
    }
}

/// In double quotes, as both JSON and YAML read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
