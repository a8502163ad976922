//! Names that say what they hold, and a value that looks it: `API_SECRET=…`.

use crate::{Match, clipped, random};

/// What in a name says that it is a secret. Compared without case, `_`, `-` and `.`.
const NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "authtoken",
    "accesstoken",
    "refreshtoken",
    "apitoken",
    "encryptionkey",
    "signingkey",
    "masterkey",
    "jwtkey",
    "credential",
];
/// Ends of names that say so.
const ENDS: &[&str] = &["token", "pwd", "pass", "dsnkey"];
/// Names that hold something about one.
const NOT: &[&str] = &[
    "file", "path", "name", "id", "url", "uri", "length", "policy", "ttl", "expiry", "type",
    "hash", "field", "version", "enabled", "public", "arn", "ref", "dir", "header", "endpoint",
    "audience",
];
/// Shorter values are words.
const LEAST: usize = 12;
const MOST: usize = 512;
/// How far from its sign a name may begin, and a value end, in bytes.
const NAME_BYTES: usize = 256;
const VALUE_BYTES: usize = MOST + 64;
/// Bits per byte. Twenty random hex digits have about 3.3, an English sentence 3.5, but spaces too.
const LEAST_ENTROPY: f64 = 3.0;

/// What forms the lines of a file have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `name=value`, `name: value`: values need no quotes.
    Settings,
    /// A program: only what is in quotes is a value.
    Program,
}

impl Kind {
    pub(crate) fn of(file: &str) -> Self {
        let name = file.rsplit('/').next().unwrap_or(file).to_ascii_lowercase();
        let ends = [
            ".env",
            ".yaml",
            ".yml",
            ".ini",
            ".cfg",
            ".conf",
            ".properties",
            ".toml",
            ".tfvars",
            ".envrc",
            ".pgpass",
        ];
        let is_settings = ends.iter().any(|end| name.ends_with(end))
            || name.starts_with(".env")
            || name.starts_with("dockerfile")
            || name.ends_with("dockerfile")
            || name == ".npmrc"
            || name == ".netrc";
        match is_settings {
            true => Self::Settings,
            false => Self::Program,
        }
    }
}

pub(crate) fn find<'a>(kind: Kind, line: &'a str, matches: &mut Vec<Match<'a>>) {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') && kind == Kind::Settings {
        return;
    }
    let mut from = 0;
    while let Some(at) = line[from..].find(['=', ':']) {
        let at = from + at;
        from = at + 1;
        let name = name_before(&line[..at]).filter(|name| is_secret_name(name));
        let Some(name) = name else {
            continue;
        };
        let Some((start, value)) = value_after(kind, line, at + 1) else {
            continue;
        };
        if !is_secret_value(value) {
            continue;
        }
        let is_told = matches
            .iter()
            .any(|one| one.start < start + value.len() && start < one.start + one.secret.len());
        if !is_told {
            matches.push(Match {
                rule: "assigned-secret",
                what: "a value whose name says that it is a secret",
                start,
                secret: value,
                name: Some(name),
            });
        }
    }
}

/// The word that ends there.
fn name_before(text: &str) -> Option<&str> {
    let mut from = text.len().saturating_sub(NAME_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let text = &text[from..];
    let text = text.trim_end().trim_end_matches(['"', '\'', ']', ':']);
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| is_part(*c))
        .last()?
        .0;
    Some(&text[start..])
}

/// The value from there on, and where it begins.
fn value_after(kind: Kind, line: &str, from: usize) -> Option<(usize, &str)> {
    let rest = clipped(&line[from..], VALUE_BYTES);
    let skipped = rest.len() - rest.trim_start_matches([' ', '\t', '=', '>']).len();
    let (start, rest) = (from + skipped, &rest[skipped..]);
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = rest.strip_prefix(quote) {
            let end = inner.find(quote)?;
            return Some((start + 1, &inner[..end]));
        }
    }
    match kind {
        Kind::Program => None,
        Kind::Settings => {
            let end = rest.find([' ', '\t', ',', '}', '#']).unwrap_or(rest.len());
            Some((start, rest[..end].trim_end_matches(['"', '\''])))
        }
    }
}

fn is_secret_name(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let says_so = NAMES.iter().any(|word| plain.contains(word))
        || ENDS.iter().any(|end| plain.ends_with(end));
    says_so && !NOT.iter().any(|end| plain.ends_with(end))
}

fn is_secret_value(value: &str) -> bool {
    let has = |test: fn(&u8) -> bool| value.bytes().any(|byte| test(&byte));
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    let is_path = value.starts_with(['/', '.', '~', '@', '&', '*', '!', '[', '{', '('])
        || value.contains("://");
    // Calls, fields and names of a program.
    let is_code = value.contains(['(', ')', ' ', ';']);
    (LEAST..=MOST).contains(&value.len())
        && is_mixed
        && !is_path
        && !is_code
        && !random::is_placeholder(value)
        && random::entropy(value) >= LEAST_ENTROPY
}
