//! What a plain scalar is by YAML 1.2's core schema.

/// A scalar's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Core {
    /// Empty, `~` or `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// Any number, also `.inf` and `.nan`.
    Number(f64),
    /// Anything else.
    Text,
}

/// What `text` is where it stands without quotes.
pub fn core(text: &str) -> Core {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Core::Null,
        "true" | "True" | "TRUE" => Core::Boolean(true),
        "false" | "False" | "FALSE" => Core::Boolean(false),
        _ => number(text).map_or(Core::Text, Core::Number),
    }
}

fn number(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" if text.starts_with('-') => return Some(f64::NEG_INFINITY),
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" if unsigned == text => return Some(f64::NAN),
        _ => {}
    }
    // What Rust reads besides, as `inf`, begins with a letter.
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    let shaped = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let begins = digits.starts_with(|c: char| c.is_ascii_digit());
    if shaped && begins {
        text.parse().ok()
    } else {
        None
    }
}

fn radix(digits: &str, radix: u32) -> Option<f64> {
    let all = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    all.then(|| {
        let digit = |c: char| f64::from(c.to_digit(radix).unwrap_or_default());
        digits
            .chars()
            .fold(0.0, |value, c| value * f64::from(radix) + digit(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_the_schema_says() {
        let check = |text: &str, expected: Core| assert_eq!(core(text), expected, "{text}");
        check("", Core::Null);
        check("nULL", Core::Text);
        check("True", Core::Boolean(true));
        check("yes", Core::Text);
        for (text, number) in [
            ("0755", 755.0),
            ("-00755", -755.0),
            ("0o10", 8.0),
            ("0xfF", 255.0),
            ("+1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e3", 1000.0),
            ("-.INF", f64::NEG_INFINITY),
        ] {
            check(text, Core::Number(number));
        }
        for text in [
            "12_345", "0x", "0o9", "+0x1", ".", "e3", "inf", "NaN", "1e", "--1", "1.2.3",
        ] {
            check(text, Core::Text);
        }
        assert!(matches!(core(".nan"), Core::Number(number) if number.is_nan()));
    }
}
