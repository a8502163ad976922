//! From text to logical lines: parser directives, comments, continuations and heredoc bodies.

use super::error::{DockerfileError, Problem, excerpt};
use super::instruction::{Heredoc, Span, Warning};
use super::words::{self, HeredocWord};

/// The file, cut into instructions.
pub(super) struct LogicalLines {
    /// `\` or `` ` ``.
    pub escape: char,
    /// One entry per instruction.
    pub lines: Vec<Logical>,
    /// Found on the way.
    pub warnings: Vec<Warning>,
}

/// One instruction as text.
pub(super) struct Logical {
    /// Upper case.
    pub keyword: String,
    /// As written.
    pub word: String,
    /// What follows the keyword, trimmed.
    pub rest: String,
    /// Heredoc bodies in the order of their words.
    pub heredocs: Vec<Heredoc>,
    /// Where it stands.
    pub span: Span,
    /// Its first physical line, for errors.
    pub first_line: String,
}

/// A line of the file, for errors about it.
pub(super) struct LineRef<'a> {
    pub file: &'a str,
    pub line: u32,
    pub text: &'a str,
}

impl LineRef<'_> {
    pub fn error(&self, problem: Problem) -> DockerfileError {
        DockerfileError {
            file: self.file.to_owned(),
            line: self.line,
            text: excerpt(self.text.trim_end()),
            problem: Box::new(problem),
        }
    }
}

/// Cuts `text` into instructions.
pub(super) fn read(file: &str, text: &str) -> Result<LogicalLines, DockerfileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    let (escape, mut warnings) = directives(file, &physical)?;
    let mut lines = Vec::new();
    let mut next = 0;
    while next < physical.len() {
        if is_comment(physical[next]) || physical[next].trim().is_empty() {
            next += 1;
            continue;
        }
        let first = next;
        let joined = join(&physical, &mut next, escape, &mut warnings);
        let place = LineRef {
            file,
            line: number(first),
            text: physical[first].trim_end(),
        };
        if let Some(line) = logical(&place, joined, &physical, first, &mut next, escape)? {
            lines.push(line);
        }
    }
    Ok(LogicalLines {
        escape,
        lines,
        warnings,
    })
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// Reads `# name=value` at the very top. The first line of another form ends them.
fn directives(file: &str, physical: &[&str]) -> Result<(char, Vec<Warning>), DockerfileError> {
    let mut escape = '\\';
    let mut warnings = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in physical.iter().enumerate() {
        let Some((name, value)) = directive(line) else {
            break;
        };
        let place = LineRef {
            file,
            line: number(index),
            text: line,
        };
        let wrong = |reason: &str| {
            place.error(Problem::Directive {
                name: name.clone(),
                reason: reason.to_owned(),
            })
        };
        if !["syntax", "escape", "check"].contains(&name.as_str()) {
            break;
        }
        if seen.contains(&name) {
            return Err(wrong("given twice"));
        }
        match (name.as_str(), value) {
            ("escape", "\\") => escape = '\\',
            ("escape", "`") => escape = '`',
            ("escape", _) => return Err(wrong("must be \\ or `")),
            ("syntax", value) if !value.starts_with("docker/dockerfile") => {
                warnings.push(Warning {
                    line: number(index),
                    message: format!(
                        "syntax={value} is not loaded: Dockerfiles are read by the built-in reader"
                    ),
                });
            }
            // `syntax` of Docker's own front end is what the built-in reader follows; `check`
            // configures lint rules that do not exist here.
            _ => {}
        }
        seen.push(name);
    }
    Ok((escape, warnings))
}

fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let letters = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (letters && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// Joins a line with those it continues on; `next` ends behind the last of them.
fn join(physical: &[&str], next: &mut usize, escape: char, warnings: &mut Vec<Warning>) -> String {
    let mut joined = String::new();
    let mut first = true;
    while *next < physical.len() {
        let line = physical[*next].trim_end_matches(['\n', '\r']);
        *next += 1;
        if !first && is_comment(line) {
            continue;
        }
        if !first && line.trim().is_empty() {
            warnings.push(Warning {
                line: number(*next - 1),
                message: "empty line inside a continued instruction; end the line before it \
                          without the continuation, or remove it"
                    .to_owned(),
            });
            continue;
        }
        let line = if first { line.trim_start() } else { line };
        first = false;
        match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
            Some(continued) => joined.push_str(continued),
            None => {
                joined.push_str(line);
                break;
            }
        }
    }
    joined
}

fn logical(
    place: &LineRef<'_>,
    joined: String,
    physical: &[&str],
    first: usize,
    next: &mut usize,
    escape: char,
) -> Result<Option<Logical>, DockerfileError> {
    let trimmed = joined.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let (word, rest) = split_keyword(trimmed);
    let keyword = word.to_ascii_uppercase();
    let mut heredocs = Vec::new();
    if let Some(body) = heredoc_host(&keyword, rest) {
        for found in words::heredocs(body, escape) {
            heredocs.push(heredoc_body(place, found, physical, next)?);
        }
    }
    Ok(Some(Logical {
        keyword,
        word: word.to_owned(),
        rest: rest.to_owned(),
        heredocs,
        span: Span {
            line: place.line,
            end: number(next.saturating_sub(1).max(first)),
        },
        first_line: place.text.to_owned(),
    }))
}

/// The first word and the trimmed rest.
pub(super) fn split_keyword(line: &str) -> (&str, &str) {
    match line.find(char::is_whitespace) {
        Some(at) => (&line[..at], line[at..].trim()),
        None => (line, ""),
    }
}

/// The part of an instruction in which `<<WORD` starts a document; `None` where it means nothing.
fn heredoc_host<'a>(keyword: &str, rest: &'a str) -> Option<&'a str> {
    match keyword {
        "RUN" | "COPY" | "ADD" if words::json_array(rest).is_none() => Some(rest),
        "ONBUILD" => {
            let (word, rest) = split_keyword(rest);
            let keyword = word.to_ascii_uppercase();
            (keyword != "ONBUILD")
                .then(|| heredoc_host(&keyword, rest))
                .flatten()
        }
        _ => None,
    }
}

fn heredoc_body(
    place: &LineRef<'_>,
    found: HeredocWord,
    physical: &[&str],
    next: &mut usize,
) -> Result<Heredoc, DockerfileError> {
    let (mut content, mut raw) = (String::new(), String::new());
    while *next < physical.len() {
        let line = physical[*next];
        *next += 1;
        raw.push_str(line);
        let stripped = if found.strip_tabs {
            line.trim_start_matches('\t')
        } else {
            line
        };
        if stripped.trim_end_matches(['\n', '\r']) == found.name {
            return Ok(Heredoc {
                name: found.name,
                content,
                raw,
                expand: found.expand,
            });
        }
        content.push_str(stripped);
    }
    Err(place.error(Problem::UnterminatedHeredoc { name: found.name }))
}
