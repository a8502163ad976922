//! Numbers as text, both ways, as GitHub's runner has them.

/// The number that a text stands for; NaN where it stands for none. Also the numbers of expressions.
pub(crate) fn of_text(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    let is_decimal = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    if text.bytes().all(is_decimal) {
        return text.parse().unwrap_or(f64::NAN);
    }
    let digits = |digits: &str, radix| {
        // `from_str_radix` takes a sign. These are signed 32 bits: from 0x80000000 on they are negative.
        match u32::from_str_radix(digits, radix) {
            Ok(bits) if !digits.starts_with('+') => f64::from(bits.cast_signed()),
            _ => f64::NAN,
        }
    };
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case("Infinity") {
        return match text.starts_with('-') {
            true => f64::NEG_INFINITY,
            false => f64::INFINITY,
        };
    }
    match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => digits(hex, 16),
        (_, Some(octal)) => digits(octal, 8),
        (None, None) => f64::NAN,
    }
}

/// With 15 significant digits: .NET's `G15`, which writes 1E+15 and 1E-05.
pub(crate) fn to_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}Infinity");
    }
    if number == 0.0 {
        return "0".to_owned();
    }
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return format!("{number:.0}");
    }
    let exact = format!("{number:.14e}");
    let (mantissa, exponent) = exact.split_once('e').unwrap_or((&exact, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => digits.to_owned(),
    };
    if !(-4..15).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}E{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(14 - exponent).unwrap_or_default();
    trimmed(&format!("{number:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbers() {
        for (text, number) in [
            ("", 0.0),
            (" 12 ", 12.0),
            ("1.", 1.0),
            ("1e400", f64::INFINITY),
            ("0x80000000", -2_147_483_648.0),
            ("-infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(of_text(text), number, "{text:?}");
        }
        let not_numbers = [
            "inf",
            "--Infinity",
            "nan",
            "0x",
            "0x+1",
            "-0x1",
            "0x123456789",
            "0o8",
            "1 2",
            ".",
            "1_0",
            "١",
        ];
        for text in not_numbers {
            assert!(of_text(text).is_nan(), "{text:?}");
        }
    }

    #[test]
    fn numbers_have_fifteen_digits() {
        for (number, text) in [
            (0.1 + 0.2, "0.3"),
            (-0.0, "0"),
            (999_999_999_999_999.0, "999999999999999"),
            (1e15, "1E+15"),
            (123_456_789_012_345_678.0, "1.23456789012346E+17"),
            (0.000_01, "1E-05"),
            (0.000_12, "0.00012"),
            (1e-300, "1E-300"),
            (-1234.5, "-1234.5"),
            (0.999_999_999_999_999_9, "1"),
        ] {
            assert_eq!(to_text(number), text);
        }
    }
}
