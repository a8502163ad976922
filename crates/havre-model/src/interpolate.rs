//! `${…}` in values: every operator of compose, nested, once per file and before the merge.
//!
//! ```text
//! $X ${X}        the value            ${X:-d} ${X-d}   d when unset (`:` also when empty)
//! $$             one dollar sign      ${X:?m} ${X?m}   fail with m
//! $ before       itself               ${X:+a} ${X+a}   a when set
//!   anything else
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::Severity;
use crate::report::Report;
use crate::source::Span;
use crate::yaml::{Node, Value};

/// Deepest nesting of defaults.
const MAX_DEPTH: usize = 16;
/// Names without a value that are reported for one value.
const MAX_NAMES: usize = 8;
/// Most text that one file's values may become, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// The variables that values may refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    /// The caller's own environment: always wins.
    pub process: BTreeMap<String, String>,
    /// From `.env` and the like.
    pub files: BTreeMap<String, String>,
}

impl Variables {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.process
            .get(name)
            .or_else(|| self.files.get(name))
            .map(String::as_str)
    }
}

/// What becomes of a variable that has no value and no default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unset {
    /// Production: the release must not start with a hole in it.
    Error,
    /// Elsewhere, as docker compose does.
    Warning,
}

/// Why a template cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// Not the form of a template; the text that is wrong.
    Malformed(String),
    /// `${name:?message}`.
    Required { name: String, message: String },
    /// Defaults nest too deep.
    TooDeep,
    /// The text grows too large.
    TooLarge,
}

/// What an expansion met that somebody may want to hear of.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Names without a value.
    pub unset: Vec<String>,
    /// The first dollar sign that begins no variable, with the character behind it.
    pub lone: Option<String>,
}

/// Expands `template`. A dollar sign that begins no variable stays, as docker compose leaves it:
/// passwords, regular expressions and shell scripts have them.
pub(crate) fn expand(
    template: &str,
    variables: &dyn Fn(&str) -> Option<String>,
    seen: &mut Seen,
) -> Result<String, TemplateError> {
    let mut output = String::with_capacity(template.len());
    let mut expansion = Expansion { variables, seen };
    expansion.text(template, &mut output, 0)?;
    Ok(output)
}

/// Interpolates every value below `node`; keys are left alone, and so is what `x-` keys hold.
pub(crate) fn interpolate(
    node: &mut Node,
    variables: &Variables,
    policy: Unset,
    report: &mut Report,
) {
    let mut budget = MAX_OUTPUT_BYTES;
    let Some(top) = node.as_map_mut() else {
        walk(node, variables, policy, &mut budget, report);
        return;
    };
    for (key, entry) in &mut top.entries {
        match entry.value.as_map_mut() {
            _ if key.starts_with("x-") => {}
            Some(services) if key == "services" => {
                for (name, service) in &mut services.entries {
                    report.subject = Some(name.clone());
                    walk(&mut service.value, variables, policy, &mut budget, report);
                }
                report.subject = None;
            }
            _ => walk(&mut entry.value, variables, policy, &mut budget, report),
        }
    }
}

fn walk(
    node: &mut Node,
    variables: &Variables,
    policy: Unset,
    budget: &mut usize,
    report: &mut Report,
) {
    let span = node.span;
    match &mut node.value {
        Value::Null => {}
        Value::Scalar(scalar) => {
            if scalar.text.contains('$') {
                scalar.text = value(&scalar.text, span, variables, policy, budget, report);
            }
        }
        Value::List(items) => {
            for item in items {
                walk(item, variables, policy, budget, report);
            }
        }
        Value::Map(map) => {
            for (key, entry) in &mut map.entries {
                if !key.starts_with("x-") {
                    walk(&mut entry.value, variables, policy, budget, report);
                }
            }
        }
    }
}

fn value(
    template: &str,
    span: Span,
    variables: &Variables,
    policy: Unset,
    budget: &mut usize,
    report: &mut Report,
) -> String {
    let mut seen = Seen::default();
    let lookup = |name: &str| variables.get(name).map(str::to_owned);
    let result = expand(template, &lookup, &mut seen);
    let Seen { mut unset, lone } = seen;
    let result = result.and_then(|text| match budget.checked_sub(text.len()) {
        Some(rest) => {
            *budget = rest;
            Ok(text)
        }
        None => Err(TemplateError::TooLarge),
    });
    let mut said = BTreeSet::new();
    unset.retain(|name| said.len() < MAX_NAMES && said.insert(name.clone()));
    // Said before the value is marked: a `${…}` may be the whole value.
    for name in &unset {
        report_unset(name, span, policy, report);
    }
    if !unset.is_empty() && policy == Unset::Error {
        report.mark_broken(span);
    }
    if let Some(lone) = lone {
        report_lone(&lone, span, report);
    }
    match result {
        Ok(text) => text,
        Err(error) => {
            report_malformed(&error, span, report);
            report.mark_broken(span);
            template.to_owned()
        }
    }
}

fn report_unset(name: &str, span: Span, policy: Unset, report: &mut Report) {
    let severity = match policy {
        Unset::Error => Severity::Error,
        Unset::Warning => Severity::Warning,
    };
    let at = place_of(name, span, severity, report);
    let hint = format!("give it a value in .env, or a default: `${{{name}:-…}}`");
    match policy {
        Unset::Error => {
            let message = format!("variable `{name}` is not set");
            report
                .error("compose/unset-variable", at, message)
                .hint(hint);
        }
        Unset::Warning => {
            let message = format!("variable `{name}` is not set; an empty text takes its place");
            report
                .warn("compose/unset-variable", at, message)
                .hint(hint);
        }
    }
}

fn report_lone(lone: &str, span: Span, report: &mut Report) {
    let at = find(lone, span, Severity::Warning, report).unwrap_or(span);
    let message = format!("`{lone}` begins no variable: the dollar sign stays as it is");
    report
        .warn("compose/lone-dollar", at, message)
        .hint("write `$$` for a dollar sign, so that nobody has to wonder");
}

fn report_malformed(error: &TemplateError, span: Span, report: &mut Report) {
    match error {
        TemplateError::Required { name, message } => {
            let text = if message.is_empty() {
                format!("variable `{name}` is required but not set")
            } else {
                format!("variable `{name}` is required: {message}")
            };
            let at = place_of(name, span, Severity::Error, report);
            report
                .error("compose/required-variable", at, text)
                .hint(format!("set {name} in the environment or in .env"));
        }
        TemplateError::Malformed(part) => {
            let at = find(part, span, Severity::Error, report).unwrap_or(span);
            report
                .error(
                    "compose/interpolation",
                    at,
                    format!("`{part}` is not a valid variable"),
                )
                .hint("write `${NAME}`, or `$$` for a dollar sign");
        }
        TemplateError::TooDeep => {
            report.error(
                "compose/interpolation",
                span,
                "defaults are nested too deep",
            );
        }
        TemplateError::TooLarge => {
            let message = "the values grow too large when variables are filled in";
            report.error("compose/interpolation", span, message);
        }
    }
}

/// Where `$name` or `${name` stands inside the value.
fn place_of(name: &str, span: Span, severity: Severity, report: &Report) -> Span {
    let braced = find(&format!("${{{name}"), span, severity, report);
    braced
        .or_else(|| find(&format!("${name}"), span, severity, report))
        .unwrap_or(span)
}

fn find(needle: &str, span: Span, severity: Severity, report: &Report) -> Option<Span> {
    if report.is_full(severity) {
        None
    } else {
        report.sources.find(span, needle)
    }
}

struct Expansion<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    seen: &'a mut Seen,
}

impl Expansion<'_> {
    fn text(
        &mut self,
        template: &str,
        output: &mut String,
        depth: usize,
    ) -> Result<(), TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::TooDeep);
        }
        let mut rest = template;
        while let Some(at) = rest.find('$') {
            output.push_str(&rest[..at]);
            if output.len() > MAX_OUTPUT_BYTES {
                return Err(TemplateError::TooLarge);
            }
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                output.push('$');
                rest = tail;
            } else if let Some(inner) = after.strip_prefix('{') {
                let Some(end) = closing_brace(inner) else {
                    return Err(TemplateError::Malformed(rest[at..].to_owned()));
                };
                self.braced(&inner[..end], output, depth)?;
                rest = &inner[end + 1..];
            } else {
                let length = name_length(after);
                if length == 0 {
                    output.push('$');
                    let shown = || rest[at..].chars().take(2).collect();
                    self.seen.lone.get_or_insert_with(shown);
                } else {
                    self.plain(&after[..length], output);
                }
                rest = &after[length..];
            }
        }
        output.push_str(rest);
        Ok(())
    }

    fn plain(&mut self, name: &str, output: &mut String) {
        match (self.variables)(name) {
            Some(text) => output.push_str(&text),
            None => self.seen.unset.push(name.to_owned()),
        }
    }

    /// One `${…}`, without its braces.
    fn braced(
        &mut self,
        inner: &str,
        output: &mut String,
        depth: usize,
    ) -> Result<(), TemplateError> {
        let length = name_length(inner);
        let malformed = || TemplateError::Malformed(format!("${{{inner}}}"));
        if length == 0 {
            return Err(malformed());
        }
        let (name, tail) = inner.split_at(length);
        if tail.is_empty() {
            self.plain(name, output);
            return Ok(());
        }
        let (colon, tail) = match tail.strip_prefix(':') {
            Some(tail) => (true, tail),
            None => (false, tail),
        };
        // With a colon, an empty value counts as none.
        let present = (self.variables)(name).filter(|text| !colon || !text.is_empty());
        let mut characters = tail.chars();
        let operator = characters.next();
        let word = characters.as_str();
        match (operator, present) {
            (Some('-' | '?'), Some(text)) => output.push_str(&text),
            (Some('-'), None) | (Some('+'), Some(_)) => self.text(word, output, depth + 1)?,
            (Some('+'), None) => {}
            (Some('?'), None) => {
                let mut message = String::new();
                self.text(word, &mut message, depth + 1)?;
                return Err(TemplateError::Required {
                    name: name.to_owned(),
                    message,
                });
            }
            _ => return Err(malformed()),
        }
        Ok(())
    }
}

/// The place of the brace that closes a `${`. Braces inside come in pairs, as in a default that is
/// JSON; where they do not, only those of `${…}` count.
fn closing_brace(text: &str) -> Option<usize> {
    matching_brace(text, |_| true).or_else(|| matching_brace(text, |before| before == Some(b'$')))
}

/// `opens`: whether a brace opens, by the character before it.
fn matching_brace(text: &str, opens: impl Fn(Option<u8>) -> bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 1usize;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if opens(index.checked_sub(1).map(|before| bytes[before])) => open += 1,
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SET=value`, `EMPTY=` (empty), anything else unset.
    fn check(template: &str, expected: Result<&str, TemplateError>, unset_names: &[&str]) {
        let lookup = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut seen = Seen::default();
        let actual = expand(template, &lookup, &mut seen);
        assert_eq!(actual, expected.map(str::to_owned), "{template}");
        assert_eq!(seen.unset, unset_names, "{template}");
    }

    fn required(name: &str, message: &str) -> Result<&'static str, TemplateError> {
        Err(TemplateError::Required {
            name: name.into(),
            message: message.into(),
        })
    }

    #[test]
    fn every_operator() {
        check("a $SET b", Ok("a value b"), &[]);
        check("${SET}", Ok("value"), &[]);
        check("$SET.x", Ok("value.x"), &[]);
        check("x${NONE}y", Ok("xy"), &["NONE"]);
        check("$$SET $${SET} $$$SET", Ok("$SET ${SET} $value"), &[]);
        check("${NONE:-d}${NONE-d}", Ok("dd"), &[]);
        check("${EMPTY:-d}${EMPTY-d}", Ok("d"), &[]);
        check("${SET:-d}${SET-d}", Ok("valuevalue"), &[]);
        check("${SET:+a}${SET+a}", Ok("aa"), &[]);
        check("${EMPTY:+a}${EMPTY+b}", Ok("b"), &[]);
        check("${NONE:+a}${NONE+b}", Ok(""), &[]);
        check("${NONE:?give it}", required("NONE", "give it"), &[]);
        check("${EMPTY:?give it}", required("EMPTY", "give it"), &[]);
        check("${EMPTY?give it}", Ok(""), &[]);
        check("${NONE?}", required("NONE", ""), &[]);
        check("${SET:?x}", Ok("value"), &[]);
    }

    #[test]
    fn nesting_and_odd_text() {
        check("${NONE:-${SET}}", Ok("value"), &[]);
        check("${NONE:-${ALSO:-${SET}!}?}", Ok("value!?"), &[]);
        check("${NONE:-${ALSO}}", Ok(""), &["ALSO"]);
        check("${SET:-${ALSO}}", Ok("value"), &[]);
        check("${NONE:?see ${SET}}", required("NONE", "see value"), &[]);
        check("${NONE:-}", Ok(""), &[]);
        check("${NONE:-a:b-c?d+e}", Ok("a:b-c?d+e"), &[]);
        check("${NONE:-{}}", Ok("{}"), &[]);
        check("${NONE:-$$x}", Ok("$x"), &[]);
        check("é$SETé", Ok("évalueé"), &[]);
    }

    #[test]
    fn malformed() {
        for bad in ["${", "${}", "${SET", "${1A}", "${SET!x}", "${SET:}"] {
            let result = expand(bad, &|_| Some("v".into()), &mut Seen::default());
            assert!(
                matches!(result, Err(TemplateError::Malformed(_))),
                "{bad}: {result:?}"
            );
        }
        let deep = "${A:-".repeat(100) + &"}".repeat(100);
        assert_eq!(
            expand(&deep, &|_| None, &mut Seen::default()),
            Err(TemplateError::TooDeep)
        );
    }

    /// What docker compose 2.40.3 makes of them.
    #[test]
    fn a_dollar_sign_that_begins_no_variable_stays() {
        for (text, lone) in [
            ("$", "$"),
            ("a $ b", "$ "),
            ("^https?://x(:[0-9]+)?$", "$"),
            ("ps | awk '{print $2}'; [ $? -eq 0 ]", "$2"),
            ("$(id)", "$("),
            ("$é", "$é"),
            ("$\nx", "$\n"),
        ] {
            let mut seen = Seen::default();
            assert_eq!(expand(text, &|_| None, &mut seen).as_deref(), Ok(text));
            assert_eq!(seen.lone.as_deref(), Some(lone), "{text}");
        }
        check("${NONE:-$2a$14$1b}", Ok("$2a$14$1b"), &[]);
        check("${NONE:-$}$SET$", Ok("$value$"), &[]);
        check("$2y$05$SET", Ok("$2y$05value"), &[]);
        check("${SET:+$}", Ok("$"), &[]);
        check("${SET:-$1}", Ok("value"), &[]);
        check("$$$", Ok("$$"), &[]);
        check("$$$$", Ok("$$"), &[]);
    }

    #[test]
    fn braces_inside_come_in_pairs() {
        check(
            r#"${NONE:-[{"u":"${SET}"}]}"#,
            Ok(r#"[{"u":"value"}]"#),
            &[],
        );
        check("${NONE:-a{b}c{d}e}", Ok("a{b}c{d}e"), &[]);
        check("${NONE:-{x${SET}z}w}", Ok("{xvaluez}w"), &[]);
        check("${NONE:-{}${SET}}", Ok("{}value"), &[]);
        check("${SET:-{a} y}", Ok("value"), &[]);
        check("${SET:-{{.Name}}}", Ok("value"), &[]);
        check("${NONE:-{{.Name}}}", Ok("{{.Name}}"), &[]);
        check("${NONE:-{a}b} ${NONE:-c}", Ok("{a}b c"), &[]);
        // Without a pair, the first one closes.
        check("${NONE:-{a}", Ok("{a"), &[]);
        check("${NONE:-{{}", Ok("{{"), &[]);
        check("${NONE:-a}}", Ok("a}"), &[]);
    }
}
