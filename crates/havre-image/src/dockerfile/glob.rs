//! Patterns for one path component, as Go's `filepath.Match` reads them: `*`, `?`, `[a-z]`,
//! `[^a-z]` and `\`.

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern {0:?} has a bracket or escape without its end")]
pub struct GlobError(pub String);

/// Whether a path contains anything but plain names.
pub fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '[', '\\'])
}

/// Matches one name against one component of a pattern.
pub fn matches_name(pattern: &str, name: &str) -> Result<bool, GlobError> {
    let tokens = compile(pattern)?;
    let name: Vec<char> = name.chars().collect();
    Ok(run(&tokens, &name))
}

/// A piece of a pattern. The path-spanning ones are made by [`super::ignore`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Exactly this.
    One(char),
    /// Any but `/`.
    AnyOne,
    /// Any run without `/`.
    AnyMany,
    /// Any run, `/` included.
    Everything,
    /// Nothing, or any run that ends with `/`.
    Folders,
    /// One of these, or none of these.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

pub(super) fn compile(pattern: &str) -> Result<Vec<Token>, GlobError> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    let wrong = || GlobError(pattern.to_owned());
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::AnyMany,
            '?' => Token::AnyOne,
            '\\' => Token::One(chars.next().ok_or_else(wrong)?),
            '[' => class(&mut chars).ok_or_else(wrong)?,
            c => Token::One(c),
        });
    }
    Ok(tokens)
}

/// Reads a class behind its `[`.
pub(super) fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Some(Token::Class { negated, ranges });
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() {
            member(chars)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

/// Whether the tokens match the whole text. O(tokens × text), no backtracking.
pub(super) fn run(tokens: &[Token], text: &[char]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens {
        reached = advance(token, &reached, text);
    }
    reached[text.len()]
}

fn advance(token: &Token, reached: &[bool], text: &[char]) -> Vec<bool> {
    let mut after = vec![false; text.len() + 1];
    let mut open = false;
    for at in 0..=text.len() {
        let before = at.checked_sub(1).map(|i| (reached[i], text[i]));
        after[at] = match token {
            Token::One(c) => before.is_some_and(|(was, t)| was && t == *c),
            Token::AnyOne => before.is_some_and(|(was, t)| was && t != '/'),
            Token::Class { negated, ranges } => before.is_some_and(|(was, t)| {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&t));
                was && t != '/' && inside != *negated
            }),
            Token::AnyMany => {
                open = reached[at] || (open && before.is_some_and(|(_, t)| t != '/'));
                open
            }
            Token::Everything => {
                open |= reached[at];
                open
            }
            Token::Folders => {
                let here = reached[at] || (open && before.is_some_and(|(_, t)| t == '/'));
                open |= reached[at];
                here
            }
        };
    }
    after
}

#[cfg(test)]
mod tests {
    use super::matches_name;

    #[test]
    fn names_match_as_in_go() {
        let cases = [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-x]", "-", Ok(true)),
            ("[x\\-]", "z", Ok(false)),
            ("[-]", "-", Err(())),
            ("[x-]", "x", Err(())),
            ("[]a]", "]", Err(())),
            ("[", "a", Err(())),
            ("a[", "ab", Err(())),
            ("a\\", "a", Err(())),
            ("*x", "xxx", Ok(true)),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                matches_name(pattern, name).map_err(drop),
                expected,
                "{pattern} on {name}"
            );
        }
    }
}
