//! From a file to its values.

use data_encoding::HEXUPPER;
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use crate::cipher::{self, KEY_BYTES};
use crate::error::SopsError;
use crate::metadata::Metadata;
use crate::tree::{Node, Step, walk};
use crate::{Format, MAX_FILE_BYTES, dotenv, json, yaml};

/// What the MAC begins with where it is over encrypted values alone.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
    0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// A value of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// The names that lead to it, and numbers in lists.
    pub path: Vec<String>,
    /// As text.
    pub value: Zeroizing<String>,
    /// Whether it was encrypted.
    pub was_encrypted: bool,
}

/// Never shows the value.
impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Item")
            .field("path", &self.path)
            .field("was_encrypted", &self.was_encrypted)
            .finish_non_exhaustive()
    }
}

/// The values of a file, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// All but nulls.
    pub items: Vec<Item>,
}

/// Whether SOPS has written that file. What cannot be read is not for that in clear: of dotenv, which has more forms than that
/// of SOPS, the text alone decides.
pub fn is_encrypted(text: &str, format: Format) -> Result<bool, SopsError> {
    match format {
        Format::Dotenv => Ok(dotenv::is_encrypted(text)),
        Format::Yaml | Format::Json => Ok(parsed(text, format)?.get("sops").is_some()),
    }
}

/// The values of a file. `unwrap` opens an age file, which holds the data key, with what identities it has.
pub fn decrypt(
    text: &str,
    format: Format,
    mut unwrap: impl FnMut(&[u8]) -> Option<Zeroizing<Vec<u8>>>,
) -> Result<Opened, SopsError> {
    let mut tree = parsed(text, format)?;
    let metadata = Metadata::new(&tree.take("sops").ok_or(SopsError::NotSops)?)?;
    let key = metadata.keys.iter().find_map(|file| unwrap(file));
    let key = key.ok_or(SopsError::NoKey)?;
    let key: &[u8; KEY_BYTES] = key.as_slice().try_into().map_err(|_| SopsError::NoKey)?;
    let mut hash = Sha512::new();
    if metadata.mac_only_encrypted {
        hash.update(ONLY_ENCRYPTED);
    }
    let mut items = Vec::new();
    walk(&tree, &mut Vec::new(), &mut |way, text| {
        let was_encrypted = cipher::is_encrypted(text);
        let value = match was_encrypted {
            true => opened(key, way, text)?,
            false => text.clone(),
        };
        if was_encrypted || !metadata.mac_only_encrypted {
            hash.update(value.as_bytes());
        }
        items.push(Item {
            path: way.iter().map(named).collect(),
            value,
            was_encrypted,
        });
        Ok(())
    })?;
    let mac = cipher::open(key, &metadata.last_modified, &metadata.mac).ok_or(SopsError::Mac)?;
    if mac.as_slice() != HEXUPPER.encode(&hash.finalize()).as_bytes() {
        return Err(SopsError::Mac);
    }
    Ok(Opened { items })
}

fn opened(
    key: &[u8; KEY_BYTES],
    way: &[Step<'_>],
    text: &str,
) -> Result<Zeroizing<String>, SopsError> {
    let path = || way.iter().map(named).collect::<Vec<_>>().join(".");
    let plain = cipher::open(key, &additional(way), text)
        .ok_or_else(|| SopsError::Value { path: path() })?;
    match std::str::from_utf8(&plain) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(SopsError::NotText { path: path() }),
    }
}

/// Names, each with a colon behind it; lists add nothing.
fn additional(way: &[Step<'_>]) -> String {
    let mut data = String::new();
    for step in way {
        if let Step::Name(name) = step {
            data.push_str(name);
            data.push(':');
        }
    }
    data
}

fn named(step: &Step<'_>) -> String {
    match step {
        Step::Name(name) => (*name).to_owned(),
        Step::Index(index) => index.to_string(),
    }
}

fn parsed(text: &str, format: Format) -> Result<Node, SopsError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(SopsError::TooLarge);
    }
    let syntax = |why: String| SopsError::Syntax { why };
    match format {
        Format::Yaml => yaml::parse(text).map_err(|error| syntax(error.to_string())),
        Format::Json => json::parse(text).map_err(|error| syntax(error.to_string())),
        Format::Dotenv => dotenv::parse(text).map_err(syntax),
    }
}
