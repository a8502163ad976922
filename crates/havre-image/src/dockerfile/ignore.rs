//! `.dockerignore`: which paths of the context the build does not see.
//!
//! The last pattern that matches a path or one of its folders decides; `!` takes paths back.
//! `**` spans folders. Patterns are relative to the context, whatever `/` they start with.

use super::glob::{self, GlobError, Token};

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct IgnoreError {
    /// Line, counted from 1.
    pub line: u32,
    /// Why.
    pub reason: String,
}

/// Far more patterns than anybody writes; each is tried on every file.
const MAX_RULES: usize = 10_000;

/// The rules of a `.dockerignore` file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    negated: bool,
    /// Text before the first wildcard.
    literal: String,
    /// `None`: the literal is the whole pattern.
    tokens: Option<Vec<Token>>,
}

/// Which rules matched a folder; handed down to what it contains.
#[derive(Clone, Debug, Default)]
pub struct ParentMatches(Vec<bool>);

impl Ignore {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let number = u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
            if rules.len() == MAX_RULES {
                return Err(IgnoreError {
                    line: number,
                    reason: format!("there are more than {MAX_RULES} patterns"),
                });
            }
            let rule = Rule::parse(line.trim()).map_err(|reason| IgnoreError {
                line: number,
                reason,
            })?;
            rules.push(rule);
        }
        Ok(Self { rules })
    }

    /// From patterns of `--exclude`.
    pub fn from_patterns(patterns: &[String]) -> Result<Self, String> {
        let rules: Result<_, String> = patterns.iter().map(|p| Rule::parse(p.trim())).collect();
        Ok(Self { rules: rules? })
    }

    /// No rules: nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` (relative, `/` between names) is ignored, and what its children need to
    /// know. `parent` is the answer for its folder; the default for names at the top.
    pub fn verdict(&self, path: &str, parent: &ParentMatches) -> (bool, ParentMatches) {
        let mut ignored = false;
        let mut matches = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            // A rule that cannot change the verdict is not run.
            let hit = inherited || (rule.negated == ignored && rule.matches(path));
            if hit {
                ignored = !rule.negated;
            }
            matches.push(hit);
        }
        (ignored, ParentMatches(matches))
    }

    /// Whether a `!` rule may take back something inside the ignored folder `path`.
    pub fn may_take_back_inside(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        let depth = inside.matches('/').count();
        self.rules
            .iter()
            .filter(|rule| rule.negated)
            .any(|rule| match &rule.tokens {
                None => rule.literal.starts_with(&inside),
                Some(tokens) => {
                    let spans = |t: &Token| matches!(t, Token::Everything | Token::Folders);
                    let slashes = tokens.iter().filter(|t| **t == Token::One('/')).count();
                    (slashes >= depth || tokens.iter().any(spans))
                        && (rule.literal.starts_with(&inside)
                            || inside.starts_with(rule.literal.as_str()))
                }
            })
    }

    /// The verdict for a path without having walked its folders.
    pub fn ignores(&self, path: &str) -> bool {
        let mut parent = ParentMatches::default();
        let mut ignored = false;
        for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (ignored, parent) = self.verdict(&path[..at], &parent);
        }
        ignored
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        let (negated, pattern) = match text.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, text),
        };
        if pattern.is_empty() {
            return Err("! alone means nothing".to_owned());
        }
        let pattern = clean(pattern);
        glob::compile(&pattern).map_err(|GlobError(pattern)| {
            format!("pattern {pattern:?} has a bracket or escape without its end")
        })?;
        let tokens = tokens(&pattern);
        let literal = tokens
            .iter()
            .map_while(|token| match token {
                Token::One(c) => Some(*c),
                _ => None,
            })
            .collect::<String>();
        let plain = literal.chars().count() == tokens.len();
        Ok(Self {
            negated,
            literal,
            tokens: (!plain).then_some(tokens),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match &self.tokens {
            None => path == self.literal,
            Some(tokens) => {
                path.starts_with(&self.literal)
                    && glob::run(tokens, &path.chars().collect::<Vec<_>>())
            }
        }
    }
}

/// Removes `.`, resolves `..`, joins double slashes, drops the leading slash.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

/// Compiles a checked pattern. `**` is any depth: everything at the end of the pattern, and at its
/// start when plain text follows directly (`**.go`), whole folders elsewhere.
fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let folder = chars.next_if_eq(&'/').is_some();
                let rest: String = chars.clone().collect();
                let suffix = tokens.is_empty() && !folder && !glob::has_wildcard(&rest);
                let everything = rest.is_empty() || suffix;
                tokens.push(if everything {
                    Token::Everything
                } else {
                    Token::Folders
                });
            }
            '*' => tokens.push(Token::AnyMany),
            '?' => tokens.push(Token::AnyOne),
            '\\' => tokens.extend(chars.next().map(Token::One)),
            '[' => tokens.extend(glob::class(&mut chars)),
            c => tokens.push(Token::One(c)),
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::Ignore;

    fn check(rules: &str, ignored: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(rules).expect("rules parse");
        for path in ignored {
            assert!(ignore.ignores(path), "{rules:?} should ignore {path}");
        }
        for path in kept {
            assert!(!ignore.ignores(path), "{rules:?} should keep {path}");
        }
    }

    #[test]
    fn rules_apply_as_docker_applies_them() {
        check(
            "node_modules",
            &["node_modules", "node_modules/a/b.js"],
            &["src/node_modules"],
        );
        check(
            "**/node_modules",
            &["node_modules/a", "x/y/node_modules/a"],
            &["node_modulesx"],
        );
        check("*.md\n!README.md", &["a.md"], &["README.md", "docs/a.md"]);
        check(
            "*.md\n!README*.md\nREADME-secret.md",
            &["README-secret.md"],
            &["README-x.md"],
        );
        check("/build/", &["build", "build/x"], &["src/build"]);
        check(
            "*/temp*",
            &["a/temp", "a/temporary.txt"],
            &["temp", "a/b/temp"],
        );
        check("temp?", &["tempa"], &["temp", "tempab"]);
        check("**", &["a", "a/b"], &[]);
        check("**\n!src/**", &["a", "b/c"], &["src/a", "src/b/c"]);
        check(
            "*\n!package.json\n!src",
            &["a", "b/c"],
            &["package.json", "src", "src/x"],
        );
        check("a/**", &["a/b", "a/b/c"], &["a", "b"]);
        check("**/*.pyc", &["x.pyc", "a/b/x.pyc"], &["x.py"]);
        check("**.pyc", &["x.pyc", "a/b/x.pyc"], &["x.py"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b/c"], &["b", "ab"]);
        check("# comment\n\n  x  \n", &["x"], &["# comment"]);
        check("./a/../b", &["b", "b/c"], &["a"]);
        check("[ab].txt", &["a.txt"], &["c.txt"]);
        check("foo\n!foo/bar", &["foo/x"], &["foo/bar", "foo/bar/baz"]);
        check("\\!x", &["!x"], &["x"]);
    }

    #[test]
    fn wrong_lines_are_named() {
        let error = Ignore::parse(&"x\n".repeat(10_001)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 10001: there are more than 10000 patterns"
        );
        for (text, message) in [
            ("a\n!", "line 2: ! alone means nothing"),
            (
                "[a",
                "line 1: pattern \"[a\" has a bracket or escape without its end",
            ),
        ] {
            assert_eq!(Ignore::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn an_ignored_folder_is_entered_only_when_something_may_come_back() {
        let ignore = Ignore::parse("*\n!src/a\n!*.md").expect("rules parse");
        assert!(ignore.may_take_back_inside("src"));
        assert!(!ignore.may_take_back_inside("docs"));
        let ignore = Ignore::parse("*\n!**/*.md").expect("rules parse");
        assert!(ignore.may_take_back_inside("docs/a"));
        let ignore = Ignore::parse("*\n!src/a").expect("rules parse");
        assert!(!ignore.may_take_back_inside("node_modules"));
    }
}
