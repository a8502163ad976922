//! Private keys in PEM, and identities of age.

use crate::Match;

const BEGIN: &str = "-----BEGIN ";
const PRIVATE: &str = "PRIVATE KEY";
const AGE: &str = "AGE-SECRET-KEY-1";
const AGE_LENGTH: usize = 74;
/// Base64 that follows: less is talk about keys.
const LEAST: usize = 32;

pub(crate) fn find<'a>(line: &'a str, next: &str, matches: &mut Vec<Match<'a>>) {
    for (start, _) in line.match_indices(BEGIN) {
        let rest = &line[start + BEGIN.len()..];
        let Some((label, after)) = rest.split_once("-----") else {
            continue;
        };
        // `BLOCK` as in OpenPGP.
        let is_private = label.ends_with(PRIVATE) || label.ends_with("PRIVATE KEY BLOCK");
        // In one line it goes on behind `\n`; else in the next, or behind a header.
        let inline = after.trim_start_matches("\\r").trim_start_matches("\\n");
        if is_private && (is_base64(inline) || is_base64(next.trim()) || next.contains(": ")) {
            matches.push(Match {
                rule: "private-key",
                what: "a private key",
                start,
                secret: "-----BEGIN",
                name: None,
            });
        }
    }
    for (start, _) in line.match_indices(AGE) {
        let rest = &line[start..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '-');
        let key = &rest[..end.unwrap_or(rest.len())];
        let before = line[..start].chars().next_back();
        let is_part = before.is_some_and(|c| c.is_ascii_alphanumeric());
        if key.len() == AGE_LENGTH && !is_part {
            matches.push(Match {
                rule: "age-identity",
                what: "an identity of age",
                start,
                secret: key,
                name: None,
            });
        }
    }
}

fn is_base64(text: &str) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    text.bytes().take_while(|byte| is_digit(byte)).count() >= LEAST
}
