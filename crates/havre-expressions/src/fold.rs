//! Text without regard to case, as .NET's `OrdinalIgnoreCase` has it: each character by itself, no language.

use std::borrow::Cow;
use std::cmp::Ordering;

/// In upper case, for looking it up.
pub(crate) fn folded(text: &str) -> Cow<'_, str> {
    if !text.is_ascii() {
        Cow::Owned(chars(text).collect())
    } else if text.bytes().any(|b| b.is_ascii_lowercase()) {
        Cow::Owned(text.to_ascii_uppercase())
    } else {
        Cow::Borrowed(text)
    }
}

pub(crate) fn equal(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && chars(a).eq(chars(b)))
}

/// By units of UTF-16, as strings of .NET and of JavaScript are.
pub(crate) fn order(a: &str, b: &str) -> Ordering {
    chars(a).map(utf16_order).cmp(chars(b).map(utf16_order))
}

pub(crate) fn starts_with(text: &str, start: &str) -> bool {
    let alike = text.as_bytes().get(..start.len());
    if alike.is_some_and(|alike| alike.eq_ignore_ascii_case(start.as_bytes())) {
        return true;
    }
    begins(chars(text), chars(start))
}

pub(crate) fn ends_with(text: &str, end: &str) -> bool {
    begins(chars(text).rev(), chars(end).rev())
}

pub(crate) fn contains(text: &str, part: &str) -> bool {
    folded(text).contains(folded(part).as_ref())
}

fn begins(mut text: impl Iterator<Item = char>, mut start: impl Iterator<Item = char>) -> bool {
    start.all(|c| text.next() == Some(c))
}

fn chars(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().map(upper)
}

/// Where upper case is several characters (`ß`) there is none; `ı` is no `I`.
fn upper(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_uppercase();
    }
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) if c != 'ı' => one,
        _ => c,
    }
}

/// Surrogates stand below the last characters of the basic plane.
fn utf16_order(c: char) -> u32 {
    match c {
        '\u{e000}'..='\u{ffff}' => u32::from(c) + 0x11_0000,
        _ => u32::from(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_character_by_character() {
        for (a, b) in [
            ("Straße", "STRAßE"),
            ("ς", "σ"),
            ("Ǆ", "ǆ"),
            ("\u{10428}", "\u{10400}"),
        ] {
            assert!(equal(a, b), "{a} {b}");
            assert!(starts_with(a, b) && ends_with(a, b) && contains(a, b));
            assert_eq!(order(a, b), Ordering::Equal);
        }
        for (a, b) in [("ß", "SS"), ("ı", "I"), ("İ", "i"), ("a", "á")] {
            assert!(!equal(a, b), "{a} {b}");
        }
        assert_eq!(order("\u{1f600}", "\u{ffee}"), Ordering::Less);
        assert!(!starts_with("ab", "abc") && !ends_with("bc", "abc"));
    }
}
