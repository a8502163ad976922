//! From a value to the byte strings by which it may appear.

mod encoded;
mod escaped;

use std::collections::BTreeSet;

use zeroize::Zeroize as _;

/// Shorter values are not masked: too much that is no secret looks like them.
pub const MIN_BYTES: usize = 6;

/// Of a longer value only this much is masked.
pub const MAX_VALUE: usize = 64 * 1024;

/// A line or a JSON leaf must be longer than a value to be masked: it was not said to be a secret by itself.
const MIN_PART: usize = 8;

/// Letters and digits without which a line is taken for punctuation.
const MIN_WORD: usize = 4;

/// Longer values are masked in fewer forms: keys and certificates are below, key stores above.
const MAX_ALL_FORMS: usize = 8 * 1024;

/// A longer form is cut into pieces, each masked by itself, which bounds what a stream holds back.
pub const MAX_FORM: usize = 256;

/// Length of such a piece.
const PIECE: usize = 128;

/// A value that is not masked, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmasked {
    /// The secret's name.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// Why a value is not masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Shorter than [`MIN_BYTES`], spaces around it not counted.
    TooShort,
    /// Longer than [`MAX_VALUE`]: the rest shows.
    TooLong,
}

impl std::fmt::Display for Why {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooShort => write!(
                out,
                "shorter than {MIN_BYTES} bytes, it is not masked in output"
            ),
            Self::TooLong => write!(out, "only its first {MAX_VALUE} bytes are masked in output"),
        }
    }
}

/// Byte strings to mask, sorted, each at least [`MIN_BYTES`] and at most [`MAX_FORM`] long; wiped when
/// they are no longer needed.
#[derive(Debug, Default)]
pub struct Forms(BTreeSet<Vec<u8>>);

impl Forms {
    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Cuts what is too long.
    fn insert(&mut self, mut form: Vec<u8>) {
        if form.len() > MAX_FORM {
            let last = form.len() - PIECE;
            for at in (0..last).step_by(PIECE).chain([last]) {
                self.insert(form[at..at + PIECE].to_vec());
            }
        } else if form.len() >= MIN_BYTES && !self.0.contains(&form) {
            self.0.insert(form);
            return;
        }
        form.zeroize();
    }
}

impl Drop for Forms {
    fn drop(&mut self) {
        for mut form in std::mem::take(&mut self.0) {
            form.zeroize();
        }
    }
}

/// Whether and how much of `value` can be masked.
pub fn judge(value: &[u8]) -> Option<Why> {
    let value = trim(value);
    match value.len() {
        len if len < MIN_BYTES => Some(Why::TooShort),
        len if len > MAX_VALUE => Some(Why::TooLong),
        _ => None,
    }
}

/// Adds the forms of `value`.
pub fn add(forms: &mut Forms, value: &[u8]) {
    let value = trim(value);
    let value = &value[..value.len().min(MAX_VALUE)];
    if value.len() < MIN_BYTES {
        return;
    }
    let rich = value.len() <= MAX_ALL_FORMS;
    add_one(forms, value, rich);
    if let Ok(text) = std::str::from_utf8(value) {
        add_lines(forms, text, rich);
        if !text.contains('\r') && text.lines().any(|line| is_no_form(line.trim())) {
            // As a terminal ends lines; others are found one by one.
            forms.insert(text.replace('\n', "\r\n").into_bytes());
        }
        if let Ok(json) = serde_json::from_str(text) {
            add_leaves(forms, &json, rich);
        }
    }
}

fn add_lines(forms: &mut Forms, text: &str, rich: bool) {
    for line in text.lines().map(str::trim) {
        if line.len() < text.len() && !is_frame(line) && is_telling(line) {
            add_one(forms, line.as_bytes(), rich);
        }
    }
}

fn add_leaves(forms: &mut Forms, json: &serde_json::Value, rich: bool) {
    use serde_json::Value;
    match json {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(leaf) => {
            let leaf = leaf.trim();
            if is_telling(leaf) {
                add_one(forms, leaf.as_bytes(), rich);
            }
            add_lines(forms, leaf, rich);
        }
        Value::Array(items) => items.iter().for_each(|item| add_leaves(forms, item, rich)),
        Value::Object(fields) => fields
            .values()
            .for_each(|field| add_leaves(forms, field, rich)),
    }
}

/// Of a key: it says nothing.
fn is_frame(line: &str) -> bool {
    line.starts_with("-----") && line.ends_with("-----")
}

/// Masked only with the lines around it.
fn is_no_form(line: &str) -> bool {
    !line.is_empty() && !is_frame(line) && !is_telling(line)
}

/// Long enough, and not only punctuation.
fn is_telling(part: &str) -> bool {
    part.len() >= MIN_PART && part.chars().filter(|c| c.is_alphanumeric()).count() >= MIN_WORD
}

/// One byte string and what becomes of it on the way into an output.
fn add_one(forms: &mut Forms, bytes: &[u8], rich: bool) {
    forms.insert(bytes.to_vec());
    encoded::base64(bytes, rich, |form| forms.insert(form));
    if rich {
        encoded::hex(bytes, |form| forms.insert(form));
        encoded::url(bytes, |form| forms.insert(form));
        escaped::bytes(bytes, |form| forms.insert(form));
        if let Ok(text) = std::str::from_utf8(bytes) {
            escaped::all(text, |form| forms.insert(form));
        }
    }
}

/// Files end with a line end that is not part of what they hold.
fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(value: &[u8]) -> Vec<String> {
        let mut forms = Forms::default();
        add(&mut forms, value);
        let text = |form: &[u8]| String::from_utf8_lossy(form).into_owned();
        forms.iter().map(text).collect()
    }

    #[test]
    fn braces_of_json_and_frames_of_keys_are_no_secrets() {
        let json = b"{\n  \"user\": \"someone-else\",\n  \"pin\": 12345678\n}\n";
        let json = forms(json);
        assert!(json.contains(&"someone-else".to_owned()));
        assert!(!json.iter().any(|form| form == "{" || form == "}"));
        let key =
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\nqZ8=\n-----END PRIVATE KEY-----\n";
        let key = forms(key.as_bytes());
        assert!(key.contains(&"MIIEvQIBADANBgkqhkiG".to_owned()));
        assert!(!key.contains(&"-----BEGIN PRIVATE KEY-----".to_owned()));
    }

    #[test]
    fn long_forms_are_pieces_that_leave_nothing_out() {
        let value: Vec<u8> = (0..1000u32)
            .flat_map(|n| n.to_string().into_bytes())
            .collect();
        let mut all = Forms::default();
        all.insert(value.clone());
        assert!(all.iter().all(|form| form.len() == PIECE));
        let mut covered = vec![false; value.len()];
        for form in all.iter() {
            let at = value.windows(PIECE).position(|part| part == form);
            let at = at.expect("a part of the value");
            covered[at..at + PIECE].fill(true);
        }
        assert!(covered.iter().all(|byte| *byte));
    }

    #[test]
    fn what_cannot_be_masked_is_told() {
        assert_eq!(judge(b"short"), Some(Why::TooShort));
        assert_eq!(judge(b"short\n\n"), Some(Why::TooShort));
        assert_eq!(judge(b"longer"), None);
        assert_eq!(judge(&[b'x'; MAX_VALUE + 1]), Some(Why::TooLong));
        assert!(forms(b"short").is_empty());
    }
}
