//! What is wrong with a project's files, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nothing is wrong.
    Note,
    /// The project is understood, but something has no effect or is risky.
    Warning,
    /// The project cannot be run as written.
    Error,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Relative to the project's folder where it lies inside, else absolute.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Characters of the line that the finding is about; at least 1.
    pub length: u32,
    /// The line itself, control characters replaced, cut to a bounded window.
    pub line_text: String,
    /// Characters cut from the front of `line_text`.
    pub cut: u32,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Stable id, e.g. `compose/unknown-key`.
    pub code: &'static str,
    /// One sentence, no period.
    pub message: String,
    /// `None`: about the project as a whole.
    pub location: Option<Location>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Sets the hint; the last one wins.
    pub fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(plain(&hint.into()));
        self
    }
}

/// Text of the user's files without control characters, which a terminal might obey.
pub fn plain(text: &str) -> String {
    let safe = |c: char| {
        if c.is_control() && !matches!(c, '\t' | '\n') {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(safe).collect()
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        let mut gutter = 1;
        if let Some(place) = &self.location {
            let number = place.line.to_string();
            gutter = number.len() + 1;
            let blank = " ".repeat(gutter);
            let (file, line, column) = (place.file.display(), place.line, place.column);
            write!(f, "\n{:>gutter$}--> {file}:{line}:{column}", "")?;
            write!(f, "\n{blank} |\n {number} | {}", place.line_text)?;
            write!(f, "\n{blank} | {}{}", place.indent(), place.carets())?;
        }
        if let Some(hint) = &self.hint {
            let mut lines = hint.lines();
            let first = lines.next().unwrap_or_default();
            write!(f, "\n{:>gutter$} = help: {first}", "")?;
            for line in lines {
                write!(f, "\n{:>gutter$}         {line}", "")?;
            }
        }
        Ok(())
    }
}

impl Location {
    /// White space that puts what follows under the column; tabs stay tabs.
    fn indent(&self) -> String {
        let before = self.column.saturating_sub(1).saturating_sub(self.cut) as usize;
        let mut indent: String = self
            .line_text
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let missing = before.saturating_sub(indent.chars().count());
        indent.push_str(&" ".repeat(missing));
        indent
    }

    fn carets(&self) -> String {
        let shown = self.line_text.chars().count() as u32;
        let start = self.column.saturating_sub(1).saturating_sub(self.cut);
        let room = shown.saturating_sub(start).max(1);
        "^".repeat(self.length.clamp(1, room) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_like_a_compiler() {
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            code: "compose/unknown-key",
            message: "service `web` has unknown key `imagee`".into(),
            location: Some(Location {
                file: "docker-compose.yml".into(),
                line: 4,
                column: 5,
                length: 6,
                line_text: "    imagee: nginx".into(),
                cut: 0,
            }),
            hint: Some("did you mean `image`?".into()),
        };
        let expected = "\
error[compose/unknown-key]: service `web` has unknown key `imagee`
  --> docker-compose.yml:4:5
   |
 4 |     imagee: nginx
   |     ^^^^^^
   = help: did you mean `image`?";
        assert_eq!(diagnostic.to_string(), expected);
    }
}
