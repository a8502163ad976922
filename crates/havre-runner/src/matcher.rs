//! Problem matchers: regular expressions that find errors in what tools print, over one line or several.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// Most bytes of a file with matchers.
pub(crate) const MAX_FILE: u64 = 1 << 20;
/// Most matchers at a time.
pub(crate) const MAX_MATCHERS: usize = 50;
/// Longer lines are not looked at, in bytes.
pub(crate) const MAX_LINE: usize = 64 << 10;
/// Most patterns of a matcher.
const MAX_PATTERNS: usize = 10;
/// Most bytes of a compiled expression.
const MAX_REGEX: usize = 256 << 10;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "problemMatcher", default)]
    matchers: Vec<MatcherFile>,
}

#[derive(Deserialize)]
struct MatcherFile {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    pattern: Vec<PatternFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatternFile {
    #[serde(default)]
    regexp: String,
    file: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    #[serde(rename = "fromPath")]
    beside: Option<usize>,
    #[serde(default, rename = "loop")]
    repeats: bool,
}

/// A matcher, ready to be used by any number of outputs.
#[derive(Debug)]
pub(crate) struct Matcher {
    /// What it is removed by.
    pub owner: String,
    severity: String,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    /// Which group each of [`FIELDS`] is.
    groups: [Option<usize>; 7],
    repeats: bool,
}

const FIELDS: [&str; 7] = [
    "file", "line", "column", "severity", "code", "message", "fromPath",
];

/// What a matcher found; as it stands in the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Match {
    fields: [Option<String>; 7],
}

impl Match {
    fn field(&self, name: &str) -> Option<&str> {
        let at = FIELDS.iter().position(|field| *field == name)?;
        let value = self.fields[at].as_deref()?;
        (!value.trim().is_empty()).then_some(value)
    }

    /// Of the finding.
    pub fn message(&self) -> Option<&str> {
        self.field("message")
    }

    /// `error`, `warning`, `notice` or something else.
    pub fn severity(&self) -> Option<&str> {
        self.field("severity")
    }

    /// Where it is.
    pub fn file(&self) -> Option<&str> {
        self.field("file")
    }

    /// A file beside which [`Match::file`] is.
    pub fn beside(&self) -> Option<&str> {
        self.field("fromPath")
    }

    /// Which rule it breaks.
    pub fn code(&self) -> Option<&str> {
        self.field("code").map(str::trim)
    }

    /// Line and column, where they are numbers.
    pub fn place(&self) -> (Option<u32>, Option<u32>) {
        let number = |name| self.field(name).and_then(|text| text.parse().ok());
        (number("line"), number("column"))
    }
}

/// Reads a file of matchers.
pub(crate) fn read(text: &str) -> Result<Vec<Matcher>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut matchers: Vec<Matcher> = Vec::new();
    for matcher in file.matchers {
        let owner = matcher.owner.clone();
        let known = |other: &Matcher| other.owner.eq_ignore_ascii_case(&owner);
        if matchers.iter().any(known) {
            return Err(format!("the owner `{owner}` is there twice"));
        }
        matchers.push(checked(matcher)?);
    }
    Ok(matchers)
}

fn checked(matcher: MatcherFile) -> Result<Matcher, String> {
    let owner = matcher.owner;
    if owner.is_empty() {
        return Err("a matcher has no `owner`".to_owned());
    }
    let severity = matcher.severity.to_lowercase();
    if !["", "error", "warning", "notice"].contains(&severity.as_str()) {
        return Err(format!(
            "matcher `{owner}` has the unknown severity `{severity}`"
        ));
    }
    let count = matcher.pattern.len();
    if count == 0 || count > MAX_PATTERNS {
        return Err(format!(
            "matcher `{owner}` has {count} patterns: 1 to {MAX_PATTERNS} are possible"
        ));
    }
    let mut set = [false; 7];
    let mut patterns = Vec::new();
    for (at, pattern) in matcher.pattern.into_iter().enumerate() {
        if pattern.repeats && (at == 0 || at + 1 < count) {
            return Err(format!(
                "matcher `{owner}`: `loop` is for the last of several patterns"
            ));
        }
        if pattern.repeats && pattern.message.is_none() {
            return Err(format!(
                "matcher `{owner}`: the pattern with `loop` has to set `message`"
            ));
        }
        patterns.push(compiled(&owner, &pattern, &mut set)?);
    }
    if !set[5] {
        return Err(format!("matcher `{owner}`: a pattern has to set `message`"));
    }
    Ok(Matcher {
        owner,
        severity,
        patterns,
    })
}

fn compiled(owner: &str, pattern: &PatternFile, set: &mut [bool; 7]) -> Result<Pattern, String> {
    let mut builder = RegexBuilder::new(&pattern.regexp);
    let regex = builder.size_limit(MAX_REGEX).build();
    let regex = regex.map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        format!("matcher `{owner}`: the expression cannot be used here: {last}")
    })?;
    let groups = [
        pattern.file,
        pattern.line,
        pattern.column,
        pattern.severity,
        pattern.code,
        pattern.message,
        pattern.beside,
    ];
    for ((group, set), field) in groups.iter().zip(set).zip(FIELDS) {
        let Some(group) = group else { continue };
        if std::mem::replace(set, true) {
            return Err(format!("matcher `{owner}`: `{field}` is set twice"));
        }
        if *group >= regex.captures_len() {
            return Err(format!(
                "matcher `{owner}`: `{field}` is group {group}, which there is not"
            ));
        }
    }
    Ok(Pattern {
        regex,
        groups,
        repeats: pattern.repeats,
    })
}

/// How far a matcher is in one output.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What each pattern but the last has matched.
    state: Vec<Option<Match>>,
}

impl Progress {
    /// At the start.
    pub fn new(matcher: &Matcher) -> Self {
        Self {
            state: vec![None; matcher.patterns.len().saturating_sub(1)],
        }
    }

    /// Forgets what was matched.
    pub fn reset(&mut self) {
        self.state.fill(None);
    }

    /// What a line completes.
    pub fn line(&mut self, matcher: &Matcher, line: &str) -> Option<Match> {
        let last = matcher.patterns.len() - 1;
        for (at, pattern) in matcher.patterns.iter().enumerate().rev() {
            let before = match at {
                0 => None,
                at => match &self.state[at - 1] {
                    None => continue,
                    some => some.clone(),
                },
            };
            let found = pattern.regex.captures(line);
            let found = found.map(|groups| merged(before.as_ref(), pattern, &groups));
            match (found, at == last) {
                (Some(mut found), true) => {
                    self.reset();
                    if let (true, Some(place)) = (pattern.repeats, at.checked_sub(1)) {
                        self.state[place] = before;
                    }
                    if found.severity().is_none() && !matcher.severity.is_empty() {
                        found.fields[3] = Some(matcher.severity.clone());
                    }
                    return Some(found);
                }
                (None, true) => {
                    if let Some(place) = at.checked_sub(1) {
                        self.state[place] = None;
                    }
                }
                (found, false) => self.state[at] = found,
            }
        }
        None
    }
}

fn merged(before: Option<&Match>, pattern: &Pattern, groups: &regex::Captures<'_>) -> Match {
    let mut found = Match::default();
    for (at, field) in found.fields.iter_mut().enumerate() {
        let earlier = before.and_then(|before| before.fields[at].clone());
        *field = earlier.or_else(|| {
            let group = pattern.groups[at]?;
            // A group that took no part is empty, as in the runner.
            Some(
                groups
                    .get(group)
                    .map_or("", |group| group.as_str())
                    .to_owned(),
            )
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, severity: &str, lines: &[&str]) -> String {
        let text = format!(
            r#"{{"problemMatcher":[{{"owner":"o","severity":"{severity}","pattern":{patterns}}}]}}"#
        );
        let matchers = match read(&text) {
            Ok(matchers) => matchers,
            Err(why) => return why,
        };
        let mut progress = Progress::new(&matchers[0]);
        let found = lines
            .iter()
            .filter_map(|line| progress.line(&matchers[0], line));
        let found = found.map(|found| {
            let (line, column) = found.place();
            format!(
                "{}:{}:{} {} {}",
                found.file().unwrap_or("-"),
                line.unwrap_or(0),
                column.unwrap_or(0),
                found.severity().unwrap_or("-"),
                found.message().unwrap_or("-")
            )
        });
        found.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn one_line() {
        let pattern = r#"[{"regexp":"^(.+):(\\d+):(\\d+): (?:(error|note): )?(.+)$","file":1,"line":2,"column":3,"severity":4,"message":5}]"#;
        assert_eq!(
            check(
                pattern,
                "warning",
                &["a.c:1:2: error: bad", "x", "b.c:3:4: odd"]
            ),
            "a.c:1:2 error bad; b.c:3:4 warning odd"
        );
    }

    const SEVERAL: &str = r#"[{"regexp":"^File (.+)$","file":1},{"regexp":"^Line (\\d+)$","line":1},{"regexp":"^ (.+)$","message":1,"loop":true}]"#;

    #[test]
    fn several_lines_and_a_loop() {
        assert_eq!(
            check(SEVERAL, "", &["File a", "Line 1", " x", " y", "z", " w"]),
            "a:1:0 - x; a:1:0 - y"
        );
        assert_eq!(
            check(SEVERAL, "", &["File a", "Line 1", "File b", " x"]),
            ""
        );
        let once = SEVERAL.replace(r#","loop":true"#, "");
        assert_eq!(
            check(&once, "", &["File a", "File b", "Line 1", " x", " y"]),
            "b:1:0 - x"
        );
    }

    #[test]
    fn what_is_refused() {
        for (patterns, severity, expected) in [
            ("[]", "", "0 patterns"),
            (r#"[{"regexp":"a"}]"#, "", "has to set `message`"),
            (
                r#"[{"regexp":"a","message":1}]"#,
                "",
                "group 1, which there is not",
            ),
            (
                r#"[{"regexp":"(a)","message":1,"loop":true}]"#,
                "",
                "for the last of several",
            ),
            (
                r#"[{"regexp":"(a)","message":1},{"regexp":"(b)","message":1}]"#,
                "",
                "set twice",
            ),
            (
                r#"[{"regexp":"(a)","message":1},{"regexp":"b","loop":true}]"#,
                "",
                "has to set `message`",
            ),
            (
                r#"[{"regexp":"(?=a)(b)","message":1}]"#,
                "",
                "cannot be used here",
            ),
            (
                r#"[{"regexp":"((((a{99}){99}){99}){99})","message":1}]"#,
                "",
                "cannot be used here",
            ),
            (
                r#"[{"regexp":"(a)","message":1}]"#,
                "bad",
                "unknown severity",
            ),
        ] {
            let said = check(patterns, severity, &[]);
            assert!(said.contains(expected), "{patterns}: {said}");
        }
        assert!(read(r#"{"problemMatcher":[{"pattern":[]}]}"#).is_err());
        assert!(read("nope").is_err());
    }
}
