//! One pattern. Pure.

use std::path::PathBuf;

/// What paths are looked for, or left out.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) negated: bool,
    parts: Vec<String>,
    /// Ends in a slash: files are not meant.
    folders_only: bool,
}

const ANY_DEPTH: &str = "**";

impl Pattern {
    /// `text` is absolute.
    pub(super) fn new(negated: bool, text: &str) -> Self {
        let parts = text
            .split('/')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        Self {
            negated,
            parts,
            folders_only: text.ends_with('/') && text != "/",
        }
    }

    pub(super) fn ends_anywhere(&self) -> bool {
        self.parts.last().is_some_and(|part| part == ANY_DEPTH)
    }

    pub(super) fn with_all_below(&self) -> Self {
        let mut pattern = self.clone();
        pattern.parts.push(ANY_DEPTH.to_owned());
        pattern.folders_only = false;
        pattern
    }

    /// Where to begin to look: what comes before the first part that is a pattern.
    pub(super) fn place(&self) -> PathBuf {
        let plain = self.parts.iter().take_while(|part| !is_pattern(part));
        let mut place = PathBuf::from("/");
        place.extend(plain.map(|part| part.replace('\\', "")));
        place
    }

    pub(super) fn matches(&self, path: &[&str], is_folder: bool) -> bool {
        (is_folder || !self.folders_only) && whole(&self.parts, path)
    }

    /// Whether something below this folder may be meant.
    pub(super) fn leads_to(&self, folder: &[&str]) -> bool {
        let mut parts = self.parts.iter();
        for name in folder {
            match parts.next() {
                None => return false,
                Some(part) if part == ANY_DEPTH => return true,
                Some(part) if !part_matches(part, name) => return false,
                Some(_) => {}
            }
        }
        parts.next().is_some()
    }
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn whole(parts: &[String], path: &[&str]) -> bool {
    match parts.split_first() {
        None => path.is_empty(),
        Some((part, rest)) if part == ANY_DEPTH => {
            (0..=path.len()).any(|skipped| whole(rest, &path[skipped..]))
        }
        Some((part, rest)) => match path.split_first() {
            Some((name, below)) => part_matches(part, name) && whole(rest, below),
            None => false,
        },
    }
}

/// Whether one name is of a pattern.
pub(super) fn part_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut to) = (0, 0);
    // Where the last star stands, and what it has swallowed up to.
    let mut star: Option<(usize, usize)> = None;
    while to < name.len() {
        match one(&pattern[at..], name[to]) {
            One::Star => {
                star = Some((at, to));
                at += 1;
            }
            One::Yes(length) => {
                at += length;
                to += 1;
            }
            One::No => match star {
                Some((place, swallowed)) => {
                    at = place + 1;
                    to = swallowed + 1;
                    star = Some((place, to));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

enum One {
    Star,
    /// It matches by so many characters of the pattern.
    Yes(usize),
    No,
}

fn one(pattern: &[char], c: char) -> One {
    match pattern {
        ['*', ..] => One::Star,
        ['?', ..] => One::Yes(1),
        ['[', rest @ ..] if rest.iter().skip(1).any(|c| *c == ']') => class(rest, c),
        ['\\', escaped, ..] if *escaped == c => One::Yes(2),
        ['\\', _, ..] | [] => One::No,
        [plain, ..] if *plain == c => One::Yes(1),
        [_, ..] => One::No,
    }
}

/// `rest` begins behind the bracket, and holds the one that closes it.
fn class(rest: &[char], c: char) -> One {
    let negated = matches!(rest.first(), Some('!' | '^'));
    let begin = usize::from(negated);
    let Some(length) = rest[begin..]
        .iter()
        .skip(1)
        .position(|c| *c == ']')
        .map(|place| place + 1)
    else {
        return One::No;
    };
    let members = &rest[begin..begin + length];
    let mut found = false;
    let mut place = 0;
    while place < members.len() {
        if let [from, '-', to, ..] = members[place..] {
            found |= (from..=to).contains(&c);
            place += 3;
        } else {
            found |= members[place] == c;
            place += 1;
        }
    }
    if found == negated {
        One::No
    } else {
        One::Yes(begin + length + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        for (pattern, name) in [
            ("*", "a"),
            ("a*c", "abbc"),
            ("*a*b", "xaab"),
            ("[!x]y", "ay"),
            ("[a-c]", "b"),
            ("\\*", "*"),
        ] {
            assert!(part_matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a*c", "abb"),
            ("?", ""),
            ("[!x]y", "xy"),
            ("[a-c]", "d"),
            ("\\*", "a"),
            ("a", "ab"),
        ] {
            assert!(!part_matches(pattern, name), "{pattern} {name}");
        }
    }
}
