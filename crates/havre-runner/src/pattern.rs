//! Patterns of `hashFiles`: `*`, `?`, `[…]` and `**`; a later `!` takes away again.

/// Patterns, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    segments: Vec<String>,
}

impl Patterns {
    /// Of texts that may hold several lines each; `root` is the absolute folder that all of them are in.
    pub fn parse<'t>(texts: impl Iterator<Item = &'t str>, root: &str) -> Result<Self, String> {
        let mut patterns = Vec::new();
        for line in texts.flat_map(str::lines).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bare = line.trim_start_matches('!');
            let negated = (line.len() - bare.len()) % 2 == 1;
            let bare = bare.trim();
            let inside = match bare.strip_prefix(root.trim_end_matches('/')) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
                _ if bare.starts_with('/') => {
                    return Err(format!(
                        "the pattern `{bare:.100}` leads out of the workspace"
                    ));
                }
                _ => bare,
            };
            let segments = inside
                .split('/')
                .filter(|part| !part.is_empty() && *part != ".");
            let segments: Vec<String> = segments.map(str::to_owned).collect();
            if segments.iter().any(|part| part == "..") {
                return Err(format!(
                    "the pattern `{bare:.100}` holds `..`, which none may"
                ));
            }
            patterns.push(Pattern { negated, segments });
        }
        Ok(Self(patterns))
    }

    /// Folders or files, none within another, outside of which nothing matches.
    pub fn roots(&self) -> Vec<String> {
        let wild = |part: &String| part.contains(['*', '?', '[']);
        let positive = self.0.iter().filter(|pattern| !pattern.negated);
        let mut roots: Vec<Vec<String>> = positive
            .map(|pattern| {
                let plain = pattern.segments.iter().take_while(|part| !wild(part));
                plain.cloned().collect()
            })
            .collect();
        roots.sort();
        roots.dedup_by(|next, first| next.starts_with(first));
        roots.into_iter().map(|root| root.join("/")).collect()
    }

    /// Whether a path matches; what is in a folder that matches does as well.
    pub fn matches(&self, path: &[&str]) -> bool {
        let mut result = false;
        for pattern in &self.0 {
            if pattern.negated == result {
                let within = (1..=path.len()).any(|end| full(&pattern.segments, &path[..end]));
                if within || pattern.segments.is_empty() {
                    result = !pattern.negated;
                }
            }
        }
        result
    }

    /// Whether something below a folder may match.
    pub fn reaches(&self, folder: &[&str]) -> bool {
        let positive = self.0.iter().filter(|pattern| !pattern.negated);
        let mut patterns = positive.map(|pattern| &pattern.segments);
        patterns.any(|segments| {
            for (at, part) in segments.iter().enumerate() {
                match folder.get(at) {
                    _ if part == "**" => return true,
                    None => return true,
                    Some(name) if !segment(part, name) => return false,
                    Some(_) => {}
                }
            }
            true
        })
    }
}

/// By a row for each segment of the pattern: no pattern takes long.
fn full(pattern: &[String], path: &[&str]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        if part == "**" {
            let mut any = false;
            for (at, here) in reached.iter().enumerate() {
                any |= here;
                next[at] = any;
            }
        } else {
            for (at, name) in path.iter().enumerate() {
                next[at + 1] = reached[at] && segment(part, name);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

fn segment(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => (p, n) = (p + length, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How long a `[…]` is that has the character; without its end, `[` is itself.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let end = pattern.iter().skip(first + 1).position(|c| *c == ']');
    let Some(end) = end.map(|at| at + first + 1) else {
        return (c == '[').then_some(1);
    };
    let set = &pattern[first..end];
    let mut at = 0;
    let mut has = false;
    while at < set.len() {
        match (set.get(at + 1), set.get(at + 2)) {
            (Some('-'), Some(last)) => {
                has |= (set[at]..=*last).contains(&c);
                at += 3;
            }
            _ => {
                has |= set[at] == c;
                at += 1;
            }
        }
    }
    (has != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, path: &str) -> bool {
        let patterns = Patterns::parse(patterns.split(' '), "/w").expect("patterns are sound");
        patterns.matches(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn patterns_match_as_githubs_do() {
        for (patterns, path, expected) in [
            ("a.txt", "a.txt", true),
            ("a.txt", "b/a.txt", false),
            ("**/a.txt", "a.txt", true),
            ("**/a.txt", "b/c/a.txt", true),
            ("**/*.lock", "b/.c.lock", true),
            ("src", "src/deep/file", true),
            ("*", "x/y", true),
            ("src/*/x", "src/a/x", true),
            ("src/*/x", "src/a/b/x", false),
            ("src/**", "src/a/b", true),
            ("src/**", "other/a", false),
            ("** !**/t/**", "a/t/b", false),
            ("** !**/t/** a/t/b", "a/t/b", true),
            ("!a", "b", false),
            ("[ab]c", "bc", true),
            ("[!ab]c", "bc", false),
            ("[a-c]?", "bz", true),
            ("[x", "[x", true),
            ("/w/a", "a", true),
            ("./a", "a", true),
            ("# a", "a", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
        ] {
            assert_eq!(check(patterns, path), expected, "{patterns} {path}");
        }
        assert!(Patterns::parse(["/x"].into_iter(), "/w").is_err());
        assert!(Patterns::parse(["/wx"].into_iter(), "/w").is_err());
        assert!(Patterns::parse(["a/../b"].into_iter(), "/w").is_err());
        assert!(!check(&format!("{}b", "*a".repeat(40)), &"a".repeat(60)));
    }

    #[test]
    fn what_is_looked_through_is_what_may_match() {
        let patterns = Patterns::parse("a/b/*.x a/b c/**/d !e".split(' '), "/w").expect("sound");
        assert_eq!(patterns.roots(), ["a/b", "c"]);
        assert!(patterns.reaches(&["c", "x", "y"]) && !patterns.reaches(&["d"]));
    }
}
