//! Filter patterns of `branches`, `tags` and `paths`.

use std::ops::RangeInclusive;

use havre_workflow::{Filter, Spanned};

/// A pattern: `*` stands for anything but `/`, `**` for anything, `[a-c1]` for one character, `\x` for `x`; `?` behind a
/// character makes it optional, `+` repeats it.
#[derive(Clone, Debug)]
struct Pattern {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    what: What,
    /// Whether the text may go on without it.
    optional: bool,
    /// Whether more of it may follow.
    repeats: bool,
}

#[derive(Clone, Debug)]
enum What {
    Any,
    NoSlash,
    One(char),
    Of(Vec<RangeInclusive<char>>),
    /// `**/`: nothing, or anything up to a slash.
    Folders,
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let mut length = first.len_utf8();
            let what = match first {
                '*' if rest.starts_with("**/") => {
                    length = 3;
                    What::Folders
                }
                '*' if rest.starts_with("**") => {
                    length = 2;
                    What::Any
                }
                '*' => What::NoSlash,
                '[' => match of_brackets(rest) {
                    Some((ranges, bytes)) => {
                        length = bytes;
                        What::Of(ranges)
                    }
                    None => What::One('['),
                },
                '\\' => match rest.chars().nth(1) {
                    Some(escaped) => {
                        length += escaped.len_utf8();
                        What::One(escaped)
                    }
                    None => What::One('\\'),
                },
                '?' | '+' if !pieces.is_empty() => {
                    if let Some(before) = pieces.last_mut() {
                        before.optional |= first == '?';
                        before.repeats |= first == '+';
                    }
                    rest = &rest[length..];
                    continue;
                }
                other => What::One(other),
            };
            let is_star = matches!(what, What::Any | What::NoSlash);
            pieces.push(Piece {
                optional: is_star || matches!(what, What::Folders),
                repeats: is_star,
                what,
            });
            rest = &rest[length..];
        }
        Self { pieces }
    }

    /// All places that the pattern can have reached are followed at once: no text makes it slow.
    fn matches(&self, text: &str) -> bool {
        let end = self.pieces.len();
        let mut here = Reached::nowhere(end);
        let mut next = Reached::nowhere(end);
        here.before[0] = true;
        self.skip_optional(&mut here);
        for character in text.chars() {
            next.before.fill(false);
            next.inside.fill(false);
            for (at, piece) in self.pieces.iter().enumerate() {
                if let What::Folders = piece.what {
                    next.inside[at] = here.before[at] || here.inside[at];
                    // At least one character stands before the slash.
                    next.before[at + 1] |= character == '/' && here.inside[at];
                } else if here.before[at] && piece.what.takes(character) {
                    next.before[at + 1] = true;
                    next.before[at] |= piece.repeats;
                }
            }
            self.skip_optional(&mut next);
            std::mem::swap(&mut here, &mut next);
        }
        here.before[end]
    }

    fn skip_optional(&self, reached: &mut Reached) {
        for (at, piece) in self.pieces.iter().enumerate() {
            reached.before[at + 1] |= reached.before[at] && piece.optional;
        }
    }
}

/// The places of a pattern that a text can have come to.
struct Reached {
    /// Before each piece, and behind the last.
    before: Vec<bool>,
    /// Within each `**/`, before its slash.
    inside: Vec<bool>,
}

impl Reached {
    fn nowhere(pieces: usize) -> Self {
        Self {
            before: vec![false; pieces + 1],
            inside: vec![false; pieces],
        }
    }
}

impl What {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Any => true,
            Self::NoSlash => character != '/',
            Self::One(one) => *one == character,
            Self::Of(ranges) => ranges.iter().any(|range| range.contains(&character)),
            Self::Folders => false,
        }
    }
}

/// What stands in brackets, and how many bytes that takes.
fn of_brackets(text: &str) -> Option<(Vec<RangeInclusive<char>>, usize)> {
    let inside = &text[1..text.find(']')?];
    let characters: Vec<char> = inside.chars().collect();
    let mut ranges = Vec::new();
    let mut rest = characters.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [from, '-', to, rest @ ..] => {
                ranges.push(*from..=*to);
                rest
            }
            [one, rest @ ..] => {
                ranges.push(*one..=*one);
                rest
            }
        };
    }
    (!ranges.is_empty()).then_some((ranges, inside.len() + 2))
}

/// The pattern that decides about a text, if one of them matches it: the last; and whether it begins with `!`.
fn decides<'p>(patterns: &'p [Spanned<String>], text: &str) -> Option<(&'p Spanned<String>, bool)> {
    patterns.iter().rev().find_map(|pattern| {
        let (negative, positive) = match pattern.value.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern.value.as_str()),
        };
        let matches = Pattern::new(positive).matches(text);
        matches.then_some((pattern, negative))
    })
}

/// What a filter says of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'f> {
    pub passes: bool,
    /// The pattern that decided, if one did.
    pub by: Option<&'f Spanned<String>>,
}

/// Whether a filter lets a text pass.
pub(crate) fn says<'f>(filter: &'f Filter, text: &str) -> Said<'f> {
    let (patterns, without) = match filter {
        Filter::Only(patterns) => (patterns, false),
        Filter::Except(patterns) => (patterns, true),
    };
    match decides(patterns, text) {
        Some((pattern, negative)) => Said {
            passes: without == negative,
            by: Some(pattern),
        },
        None => Said {
            passes: without,
            by: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_githubs_documentation_says() {
        for (pattern, matched, others) in [
            (
                "feature/*",
                &["feature/my-branch"][..],
                &["feature/a/b", "feature"][..],
            ),
            (
                "feature/**",
                &["feature/a/my-branch", "feature/"],
                &["feature"],
            ),
            ("*", &["main", "README.md", ""], &["path/with/slash"]),
            ("**", &["all/the/branches", ""], &[]),
            ("*feature", &["mona-feature", "feature"], &["features"]),
            ("v2*", &["v2", "v2.0", "v2.9"], &["v1", "xv2"]),
            (
                "v[12].[0-9]+.[0-9]+",
                &["v1.10.1", "v2.0.0"],
                &["v3.0.0", "v1..1", "v1.1"],
            ),
            (
                "*.jsx?",
                &["page.js", "page.jsx"],
                &["page.jsxx", "a/page.js"],
            ),
            ("**.js", &["index.js", "src/js/app.js"], &["a.ts"]),
            ("docs/*", &["docs/README.md"], &["docs/a/b.md"]),
            (
                "docs/**/*.md",
                &["docs/README.md", "docs/a/markdown/file.md"],
                &["docs/a.txt", "x/docs/a.md"],
            ),
            (
                "**/docs/**",
                &["docs/hello.md", "dir/docs/my.txt", "a/docs/b/c.doc"],
                &["xdocs/a", "docs"],
            ),
            (
                "**/README.md",
                &["README.md", "js/README.md"],
                &["xREADME.md", "/README.md"],
            ),
            (
                "**/*src/**",
                &["a/src/app.js", "my-src/code/js/app.js"],
                &[],
            ),
            (
                "**/migrate-*.sql",
                &["migrate-1.sql", "db/a/migrate-v1.sql"],
                &[],
            ),
            (".yml", &[".yml"], &["fyml"]),
            ("\\!file", &["!file"], &["file"]),
            ("escape\\\\backslash", &["escape\\backslash"], &[]),
            ("+a?", &["+a", "+"], &["a"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[", &["["], &["x"]),
            ("é?a", &["éa", "a"], &["ée"]),
        ] {
            for text in matched {
                assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
            }
            for text in others {
                assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn no_text_makes_a_pattern_slow() {
        assert!(!Pattern::new(&"**/a+*".repeat(40)).matches(&"b/".repeat(2_000)));
        assert!(!Pattern::new(&"*a".repeat(50)).matches(&"a".repeat(49)));
    }
}
