//! Single values as text: what GitHub makes of numbers and truth values where text is expected.

use std::borrow::Cow;

use havre_yaml::Scalar;
use havre_yaml::tree::core::{Core, core};

/// What a scalar is, by its quotes and its looks.
pub(crate) fn kind(scalar: &Scalar) -> Core {
    if scalar.quoted {
        Core::Text
    } else {
        core(&scalar.text)
    }
}

/// A scalar as text: `3.10` without quotes is the number 3.1.
pub(crate) fn as_text(scalar: &Scalar) -> Cow<'_, str> {
    match kind(scalar) {
        Core::Text => Cow::Borrowed(&scalar.text),
        Core::Null => Cow::Borrowed(""),
        Core::Boolean(true) => Cow::Borrowed("true"),
        Core::Boolean(false) => Cow::Borrowed("false"),
        Core::Number(number) => Cow::Owned(format_number(number)),
    }
}

/// A number as text: 15 digits, `1E+15` where it is large and `1E-05` where it is small.
pub fn format_number(number: f64) -> String {
    havre_expressions::Value::Number(number)
        .to_text()
        .into_owned()
}

/// The beginning of a text, for messages.
pub(crate) fn short(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
