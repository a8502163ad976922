//! `.env` and `env_file`: `NAME=value` lines as docker compose reads them.
//!
//! Unquoted values end at ` #`; single quotes are literal but for `\'`; double quotes know `\n`,
//! `\t`, `\"` and the like; both may span lines. Unquoted and double-quoted values are interpolated.
//! A colon may stand for the equals sign.

use std::collections::BTreeMap;

use crate::interpolate::{self, Seen, TemplateError};
use crate::report::Report;
use crate::source::{LineColumn, SourceId, Span};

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As above.
    Compose,
    /// `format: raw`: everything after `=` is the value.
    Raw,
}

/// What values may refer to beside the lines before.
pub(crate) struct Around<'a> {
    /// Wins over the file's own lines.
    pub outer: &'a dyn Fn(&str) -> Option<String>,
    /// From files before this one, whose lines win over it.
    pub earlier: &'a BTreeMap<String, String>,
}

/// Reads a file that is already in the report's sources. A name without `=` takes its value from
/// around, and is left out when that has none.
pub(crate) fn parse(
    source: SourceId,
    format: Format,
    around: &Around<'_>,
    report: &mut Report,
) -> BTreeMap<String, String> {
    let text = report.sources.text(source).to_owned();
    let mut values = BTreeMap::new();
    let mut lines = Lines {
        rest: text.strip_prefix('\u{feff}').unwrap_or(&text),
        number: 0,
    };
    let separators: &[char] = match format {
        Format::Compose => &['=', ':'],
        Format::Raw => &['='],
    };
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let span = line_span(source, number, line);
        let statement = match trimmed.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
            _ => trimmed,
        };
        let Some((name, value)) = statement.split_once(separators) else {
            if !valid_name(statement) {
                bad_line(statement, span, report);
            } else if let Some(value) = around.get(statement, &BTreeMap::new()) {
                values.insert(statement.to_owned(), value);
            }
            continue;
        };
        let name = name.trim_end();
        if !valid_name(name) {
            bad_line(name, span, report);
            continue;
        }
        let raw = match format {
            Format::Raw => {
                let (_, value) = line.split_once('=').unwrap_or_default();
                values.insert(name.to_owned(), value.to_owned());
                continue;
            }
            Format::Compose => read_value(value, &mut lines),
        };
        let Some(raw) = raw else {
            report.error("compose/env-file", span, "the quote is never closed");
            break;
        };
        let value = match raw {
            Raw::Literal(text) => text,
            Raw::Template(text) => expand(&text, &values, around, span, report),
        };
        values.insert(name.to_owned(), value);
    }
    values
}

impl Around<'_> {
    fn get(&self, name: &str, lines: &BTreeMap<String, String>) -> Option<String> {
        let inner = || lines.get(name).or_else(|| self.earlier.get(name)).cloned();
        (self.outer)(name).or_else(inner)
    }
}

enum Raw {
    Literal(String),
    Template(String),
}

struct Lines<'t> {
    rest: &'t str,
    number: u32,
}

impl<'t> Lines<'t> {
    fn next(&mut self) -> Option<(u32, &'t str)> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        Some((self.number, line.strip_suffix('\r').unwrap_or(line)))
    }
}

/// What follows the `=`; `None` when its quote is not closed in the rest of the file.
fn read_value(text: &str, lines: &mut Lines<'_>) -> Option<Raw> {
    let value = text.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else {
        return Some(Raw::Template(unquoted(text).to_owned()));
    };
    let mut text = value[1..].to_owned();
    // Only the line just added is searched: a long open quote must not cost a square.
    let mut searched = 0;
    loop {
        if let Some(end) = closing_quote(&text[searched..], quote) {
            text.truncate(searched + end);
            return Some(match quote {
                '\'' => Raw::Literal(text.replace("\\'", "'")),
                _ => Raw::Template(unescape(&text)),
            });
        }
        let (_, line) = lines.next()?;
        searched = text.len();
        text.push('\n');
        text.push_str(line);
    }
}

/// Up to a comment: `#` after white space.
fn unquoted(text: &str) -> &str {
    let mut previous = '=';
    for (index, c) in text.char_indices() {
        if c == '#' && previous.is_whitespace() {
            return text[..index].trim();
        }
        previous = c;
    }
    text.trim()
}

fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (index, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && (quote == '"' || text[index + 1..].starts_with('\'')) {
            escaped = true;
        } else if c == quote {
            return Some(index);
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            output.push(c);
            continue;
        }
        match characters.next() {
            Some('a') => output.push('\u{7}'),
            Some('b') => output.push('\u{8}'),
            Some('f') => output.push('\u{c}'),
            Some('n') => output.push('\n'),
            Some('r') => output.push('\r'),
            Some('t') => output.push('\t'),
            Some('v') => output.push('\u{b}'),
            Some(c @ ('"' | '\\')) => output.push(c),
            // An escaped dollar sign must survive the interpolation that follows.
            Some('$') => output.push_str("$$"),
            Some(other) => output.extend(['\\', other]),
            None => output.push('\\'),
        }
    }
    output
}

fn expand(
    template: &str,
    lines: &BTreeMap<String, String>,
    around: &Around<'_>,
    span: Span,
    report: &mut Report,
) -> String {
    if !template.contains('$') {
        return template.to_owned();
    }
    let lookup = |name: &str| around.get(name, lines);
    let mut seen = Seen::default();
    let result = interpolate::expand(template, &lookup, &mut seen);
    for name in seen.unset {
        let message = format!("variable `{name}` is not set; an empty text takes its place");
        report.warn("compose/unset-variable", span, message);
    }
    match result {
        Ok(text) => text,
        Err(TemplateError::Required { name, message }) => {
            let message = format!("variable `{name}` is required: {message}");
            report.error("compose/required-variable", span, message);
            String::new()
        }
        Err(TemplateError::Malformed(part)) => {
            let message = format!("`{part}` is not a valid variable");
            report
                .error("compose/interpolation", span, message)
                .hint("put the value in single quotes to keep it as it is");
            String::new()
        }
        Err(TemplateError::TooDeep | TemplateError::TooLarge) => {
            report.error("compose/interpolation", span, "the value grows too large");
            String::new()
        }
    }
}

/// Names may hold dots and dashes in env files.
fn valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn bad_line(name: &str, span: Span, report: &mut Report) {
    report
        .error(
            "compose/env-file",
            span,
            format!("`{name}` is not a variable's name"),
        )
        .hint("each line reads NAME=value; comments start with #");
}

fn line_span(source: SourceId, line: u32, text: &str) -> Span {
    let end = LineColumn {
        line,
        column: text.chars().count() as u32 + 1,
    };
    Span {
        source,
        start: LineColumn { line, column: 1 },
        end,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        let mut report = crate::yaml::report("/p".into());
        let source = report.add_source(Path::new("/p/.env"), text.to_owned());
        let outer = |name: &str| (name == "HOST").then(|| "outer".to_owned());
        let earlier = BTreeMap::from([("EARLIER".to_owned(), "before".to_owned())]);
        let around = Around {
            outer: &outer,
            earlier: &earlier,
        };
        let values = parse(source, Format::Compose, &around, &mut report);
        let (errors, _) = report.finish();
        assert!(errors.is_empty(), "{errors:?}");
        values.into_iter().collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(read(text), expected, "{text}");
    }

    #[test]
    fn forms() {
        check(
            "A=1\nexport B = 2 # two\n\n# no\r\nC='x # y'\r\n",
            &[("A", "1"), ("B", "2"), ("C", "x # y")],
        );
        check(
            "A=a#b\nB=#c\nC=\nD= # c",
            &[("A", "a#b"), ("B", "#c"), ("C", ""), ("D", "")],
        );
        check(
            "A=\"x\\ny \\\"q\\\"\"\nB='$A \\n'",
            &[("A", "x\ny \"q\""), ("B", "$A \\n")],
        );
        check(
            "A=\"one\ntwo\"\nB='three\nfour'",
            &[("A", "one\ntwo"), ("B", "three\nfour")],
        );
        check(
            "A=1\nB=${A}2\nC=$HOST\nD=\"\\$A\"",
            &[("A", "1"), ("B", "12"), ("C", "outer"), ("D", "$A")],
        );
        check("HOST\nNOPE\n", &[("HOST", "outer")]);
        check(
            "A=$EARLIER\nEARLIER=own\nB=$EARLIER\nHOST=own\nC=$HOST",
            &[
                ("A", "before"),
                ("B", "own"),
                ("C", "outer"),
                ("EARLIER", "own"),
                ("HOST", "own"),
            ],
        );
        check(
            "A='it\\'s'\nB: x:y\nexport\tC=\"\\a\"\n",
            &[("A", "it's"), ("B", "x:y"), ("C", "\u{7}")],
        );
        check("X=1\nY=$X and $ 5", &[("X", "1"), ("Y", "1 and $ 5")]);
        check("P=pa$\nQ=a$1", &[("P", "pa$"), ("Q", "a$1")]);
    }
}
