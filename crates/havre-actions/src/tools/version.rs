//! Versions and ranges of them, as npm writes them. Pure.

use std::fmt;

/// Three numbers, and what comes behind a hyphen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) numbers: [u64; 3],
    /// Of what is not released yet: before it, not behind.
    pub(super) pre: Pre,
}

/// Compared so that what is released is the greatest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pre {
    Of(String),
    Released,
}

/// Some alternatives, each of some bounds that all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range(Vec<Vec<Bound>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    From(Version),
    After(Version),
    Until(Version),
    Before(Version),
}

impl Version {
    /// `1`, `1.2`, `v1.2.3`, `1.2.3-rc.1`, `1.2.3rc1`, with `+…` behind: what is missing is 0.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches(['v', 'V', '=']);
        let text = text.split('+').next()?;
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        let mut numbers = [0; 3];
        let parts: Vec<&str> = digits.trim_end_matches('.').split('.').collect();
        if parts.len() > numbers.len() {
            return None;
        }
        for (number, part) in numbers.iter_mut().zip(&parts) {
            *number = part.parse().ok()?;
        }
        let rest = rest.trim_start_matches('-');
        let pre = if rest.is_empty() {
            Pre::Released
        } else {
            Pre::Of(rest.to_owned())
        };
        Some(Self { numbers, pre })
    }

    pub(super) fn major(&self) -> u64 {
        self.numbers[0]
    }

    fn released(numbers: [u64; 3]) -> Self {
        Self {
            numbers,
            pre: Pre::Released,
        }
    }

    /// Before all of these numbers, what is not released among them.
    fn floor(numbers: [u64; 3]) -> Self {
        Self {
            numbers,
            pre: Pre::Of(String::new()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")?;
        match &self.pre {
            Pre::Of(pre) => write!(out, "-{pre}"),
            Pre::Released => Ok(()),
        }
    }
}

impl Range {
    pub(super) fn any() -> Self {
        Self(vec![Vec::new()])
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split("||")
            .map(alternative)
            .collect::<Option<_>>()
            .map(Self)
    }

    pub(super) fn exactly(version: &Version) -> Self {
        Self(vec![vec![
            Bound::From(version.clone()),
            Bound::Until(version.clone()),
        ]])
    }

    /// Whether a version is in it. One that is not released is only if `pre` says so, or a bound names it.
    pub(super) fn holds(&self, version: &Version, pre: bool) -> bool {
        self.0.iter().any(|bounds| {
            let named = bounds.iter().any(|bound| {
                let (Bound::From(at) | Bound::After(at) | Bound::Until(at) | Bound::Before(at)) =
                    bound;
                matches!(&at.pre, Pre::Of(text) if !text.is_empty())
                    && at.numbers == version.numbers
            });
            (version.pre == Pre::Released || pre || named)
                && bounds.iter().all(|bound| bound.holds(version))
        })
    }
}

impl Bound {
    fn holds(&self, version: &Version) -> bool {
        match self {
            Self::From(at) => version >= at,
            Self::After(at) => version > at,
            Self::Until(at) => version <= at,
            Self::Before(at) => version < at,
        }
    }
}

fn alternative(text: &str) -> Option<Vec<Bound>> {
    let text = text.trim();
    if let Some((from, to)) = text.split_once(" - ") {
        let (from, to) = (Part::parse(from)?, Part::parse(to)?);
        return Some(
            vec![Bound::From(from.least()), to.below()?]
                .into_iter()
                .collect(),
        );
    }
    // An operator may stand apart from its version.
    let text = text.replace(',', " ");
    let mut joined = String::new();
    for word in text.split_whitespace() {
        let operator = word.chars().all(|c| "<>=^~".contains(c));
        joined.push_str(word);
        joined.push_str(if operator { "" } else { " " });
    }
    let mut bounds = Vec::new();
    for word in joined.split_whitespace() {
        bounds.extend(term(word)?);
    }
    Some(bounds)
}

fn term(word: &str) -> Option<Vec<Bound>> {
    let end = word
        .find(|c: char| !"<>=^~".contains(c))
        .unwrap_or(word.len());
    let (operator, rest) = word.split_at(end);
    let part = Part::parse(rest)?;
    let least = part.least();
    Some(match operator {
        "" | "=" | "==" | "===" => match part.known {
            0 => Vec::new(),
            3 => vec![Bound::From(least.clone()), Bound::Until(least)],
            _ => vec![Bound::From(part.floor()), part.below()?],
        },
        ">=" => vec![Bound::From(least)],
        ">" if part.known == 3 => vec![Bound::After(least)],
        ">" => vec![Bound::From(part.next()?)],
        "<=" => vec![part.below()?],
        "<" => vec![Bound::Before(Version {
            pre: least.pre.or_floor(),
            ..least
        })],
        "^" => {
            let place = least
                .numbers
                .iter()
                .take(part.known)
                .position(|number| *number > 0);
            let place = place.unwrap_or(part.known.saturating_sub(1));
            vec![
                Bound::From(least.clone()),
                Bound::Before(bumped(least.numbers, place)?),
            ]
        }
        "~" | "~>" => {
            let place = part.known.saturating_sub(1).min(1);
            vec![
                Bound::From(least.clone()),
                Bound::Before(bumped(least.numbers, place)?),
            ]
        }
        // As PEP 440 has it: all but the last number given stay.
        "~=" => {
            let place = part.known.checked_sub(2)?;
            vec![
                Bound::From(least.clone()),
                Bound::Before(bumped(least.numbers, place)?),
            ]
        }
        _ => return None,
    })
}

impl Pre {
    fn or_floor(self) -> Self {
        match self {
            Self::Released => Self::Of(String::new()),
            of @ Self::Of(_) => of,
        }
    }
}

/// A version of which maybe not all is said.
struct Part {
    version: Version,
    /// How many of its numbers are said.
    known: usize,
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let is_wild = |part: &&str| matches!(*part, "x" | "X" | "*");
        let head: Vec<&str> = text.split('.').take_while(|part| !is_wild(part)).collect();
        if head.is_empty() || text.is_empty() {
            let known = text.is_empty() || text.split('.').all(|part| is_wild(&part));
            return known.then(|| Self {
                version: Version::released([0; 3]),
                known: 0,
            });
        }
        if text.split('.').skip(head.len()).any(|part| !is_wild(&part)) {
            return None;
        }
        let version = Version::parse(&head.join("."))?;
        let known = match version.pre {
            Pre::Released => head.len(),
            Pre::Of(_) => 3,
        };
        Some(Self { version, known })
    }

    fn least(&self) -> Version {
        self.version.clone()
    }

    fn floor(&self) -> Version {
        Version::floor(self.version.numbers)
    }

    /// Everything that is of this part, and nothing behind it.
    fn below(&self) -> Option<Bound> {
        match self.known {
            0 => Some(Bound::From(Version::floor([0; 3]))),
            3 => Some(Bound::Until(self.version.clone())),
            known => Some(Bound::Before(bumped(self.version.numbers, known - 1)?)),
        }
    }

    fn next(&self) -> Option<Version> {
        bumped(self.version.numbers, self.known.checked_sub(1)?)
    }
}

fn bumped(mut numbers: [u64; 3], place: usize) -> Option<Version> {
    numbers[place] = numbers[place].checked_add(1)?;
    numbers[place + 1..].fill(0);
    Some(Version::floor(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: &str, within: &[&str], without: &[&str]) {
        let parsed = Range::parse(range).unwrap_or_else(|| panic!("{range} is no range"));
        let holds = |text: &&&str| parsed.holds(&Version::parse(text).unwrap(), false);
        assert_eq!(
            within
                .iter()
                .filter(|text| !holds(text))
                .collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "{range}"
        );
        assert_eq!(
            without.iter().filter(holds).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "{range}"
        );
    }

    #[test]
    fn ranges_are_those_of_npm() {
        check(
            "20",
            &["20.0.0", "20.9.1"],
            &["19.9.9", "21.0.0", "20.1.0-rc.1"],
        );
        check("20.x", &["20.9.1"], &["21.0.0"]);
        check("3.11", &["3.11.7"], &["3.12.0", "3.1.0"]);
        check("v18.2.0", &["18.2.0"], &["18.2.1"]);
        check(">=18", &["18.0.0", "30.1.0"], &["17.9.9"]);
        check(">= 18 < 21", &["20.0.0"], &["21.0.0", "17.0.0"]);
        check(">=3.9,<3.12", &["3.9.0", "3.11.9"], &["3.12.0", "3.8.1"]);
        check("^1.2.3", &["1.2.3", "1.9.0"], &["2.0.0", "1.2.2"]);
        check("^0.2.3", &["0.2.9"], &["0.3.0"]);
        check("~1.21", &["1.21.9"], &["1.22.0"]);
        check("~=3.10", &["3.10.0", "3.12.1"], &["4.0.0"]);
        check("==3.11.*", &["3.11.1"], &["3.12.0"]);
        check("18 || >=22.1", &["18.1.0", "22.1.0"], &["20.0.0", "22.0.9"]);
        check("1.2 - 2", &["1.2.0", "2.9.9"], &["3.0.0", "1.1.9"]);
        check("*", &["1.0.0"], &[]);
        check("", &["1.0.0"], &[]);
        check(">3.9", &["3.10.0"], &["3.9.9"]);
        check("1.2.3-rc.1", &["1.2.3-rc.1"], &["1.2.3"]);
    }

    #[test]
    fn what_is_no_range_is_none() {
        for text in [
            "lts/*",
            "latest",
            "1.x.3",
            "1.2.3.4",
            ">>1",
            "!=3.9",
            "1.99999999999999999999",
        ] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_released_comes_before() {
        let version = |text: &str| Version::parse(text).unwrap();
        assert!(
            version("3.13.0rc2") < version("3.13.0")
                && version("3.12.9") < version("3.13.0-alpha.1")
        );
        assert!(
            Range::parse("3.13")
                .unwrap()
                .holds(&version("3.13.0rc2"), true)
        );
        assert_eq!(version("v1.2-rc1").to_string(), "1.2.0-rc1");
        assert_eq!(version("21.0.2+13"), version("21.0.2"));
    }
}
