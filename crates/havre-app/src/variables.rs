//! Secrets that a service has as variables: where they stand, and what they hold.

/// Where the fingerprint of a variable's value stands among those of files.
pub(crate) fn variable_key(name: &str) -> String {
    format!("${name}")
}

/// A variable's value: a secret's content, without the line end that a file has.
pub(crate) fn variable_value(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    (!text.contains('\0')).then_some(text)
}
