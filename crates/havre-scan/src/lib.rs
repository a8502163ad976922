//! Secrets in texts: few kinds, each by a form that little else has.
//!
//! ```text
//! file name, text ─► line by line: keys · tokens · addresses · assignments ─► Found (where, why, masked)
//! ```
//!
//! What has a checksum is checked by it (tokens of Havre, GitHub, npm). What has only a name and a value is looked at for
//! how random the value is, and for words that stand where a secret will. A line with `havre:allow` or `gitleaks:allow`
//! in it is left alone. Pure; a line costs microseconds. Nothing here ever repeats a secret: what is told of one is its first
//! characters, four at most, and never more than a third.

mod address;
mod assignment;
mod checksum;
mod keys;
mod random;
mod tokens;

/// Longest line that is looked at, in bytes: what is longer was made by a program, and its start is looked at.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Most that is told of one file.
const MAX_FOUND: usize = 200;
/// Lines that say so are left alone.
const ALLOWED: [&str; 2] = ["havre:allow", "gitleaks:allow"];

/// A secret in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The kind, for programs: `github-token`.
    pub rule: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Its first characters, and `…`.
    pub masked: String,
    /// The name that stands before it, if one does.
    pub name: Option<String>,
}

/// A match in a line, by bytes.
pub(crate) struct Match<'a> {
    rule: &'static str,
    what: &'static str,
    start: usize,
    secret: &'a str,
    name: Option<&'a str>,
}

/// All in a text, at most two hundred. `file` is the name it goes by, which tells what forms its lines have.
pub fn scan(file: &str, text: &str) -> Vec<Found> {
    let kind = assignment::Kind::of(file);
    let mut found: Vec<Found> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let line = clipped(line, MAX_LINE_BYTES);
        if ALLOWED.iter().any(|word| line.contains(word)) {
            continue;
        }
        let next = lines.peek().map_or("", |(_, next)| next);
        let mut matches = Vec::new();
        keys::find(line, next, &mut matches);
        tokens::find(line, &mut matches);
        address::find(line, &mut matches);
        // What is known for sure is not told once more as something that has a name.
        assignment::find(kind, line, &mut matches);
        matches.sort_by_key(|one| one.start);
        for one in matches {
            if found.len() == MAX_FOUND {
                return found;
            }
            found.push(Found {
                rule: one.rule,
                what: one.what,
                line: index + 1,
                column: line[..one.start].chars().count() + 1,
                masked: masked(one.secret),
                name: one.name.map(str::to_owned),
            });
        }
    }
    found
}

/// Whether a file is none of text: it has a NUL byte near its start.
pub fn is_binary(bytes: &[u8]) -> bool {
    bytes.iter().take(8000).any(|&byte| byte == 0)
}

/// Its start, of so many bytes at most.
pub(crate) fn clipped(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The first characters: four, or a third where there are fewer.
fn masked(secret: &str) -> String {
    let shown = (secret.chars().count() / 3).min(4);
    let start: String = secret.chars().take(shown).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests;
