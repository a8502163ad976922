//! Addresses with a password in them: `postgres://app:hunter2@db/shop`.

use crate::{Match, random};

/// Shorter passwords in examples are many.
const LEAST: usize = 6;
/// Passwords of examples, which anybody may know.
const COMMON: &[&str] = &[
    "password", "passwd", "postgres", "secret", "mysql", "guest", "admin", "test", "root", "user",
    "pass",
];

pub(crate) fn find<'a>(line: &'a str, matches: &mut Vec<Match<'a>>) {
    for (at, _) in line.match_indices("://") {
        let scheme = line[..at].bytes().rev();
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        if scheme.take_while(is_word).count() < 2 {
            continue;
        }
        let from = at + "://".len();
        let end = line[from..].find(|c: char| c.is_whitespace() || "/?#\"'`<>,;)]}".contains(c));
        let authority = &line[from..end.map_or(line.len(), |end| from + end)];
        let Some((user_info, _)) = authority.rsplit_once('@') else {
            continue;
        };
        let Some((_, password)) = user_info.split_once(':') else {
            continue;
        };
        let lower = password.to_ascii_lowercase();
        let is_real = password.len() >= LEAST
            && !random::is_placeholder(password)
            && !COMMON.contains(&lower.as_str());
        if is_real {
            matches.push(Match {
                rule: "address-password",
                what: "an address with a password in it",
                start: from + user_info.len() - password.len(),
                secret: password,
                name: None,
            });
        }
    }
}
