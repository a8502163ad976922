//! Single values as text: what GitHub makes of numbers and truth values where text is expected.

use std::borrow::Cow;

use havre_yaml::Scalar;
use havre_yaml::tree::core::{Core, core};

/// Significant digits of a number.
const DIGITS: usize = 15;

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

/// A number as GitHub writes it: 15 digits, `1E+15` where it is large or small.
pub fn format_number(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:.*e}", DIGITS - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let negative = mantissa.starts_with('-');
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let sign = if negative { "-" } else { "" };
    if !(-5..DIGITS as i32).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!(
            "{sign}{first}{point}{rest}E{direction}{:02}",
            exponent.abs()
        );
    }
    if exponent < 0 {
        let zeros = "0".repeat((-exponent - 1) as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let whole = exponent as usize + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (whole, rest) = digits.split_at(whole);
    format!("{sign}{whole}.{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_github_does() {
        for (number, expected) in [
            (3.10, "3.1"),
            (20.0, "20"),
            (-755.0, "-755"),
            (0.1 + 0.2, "0.3"),
            (-0.0, "0"),
            (1e15, "1E+15"),
            (123_456_789_012_345.0, "123456789012345"),
            (0.00001, "0.00001"),
            (0.000001, "1E-06"),
            (1.5e300, "1.5E+300"),
            (100.25, "100.25"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(format_number(number), expected);
        }
    }
}
