//! The values of a `.env` file by itself, for who moves them elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::dotenv::{self, Around, Format};

/// A file of `NAME=value` cannot be read. The line is not repeated: it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvValuesError {
    /// From 1.
    pub line: u32,
}

impl fmt::Display for EnvValuesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        write!(
            f,
            "line {line} is no NAME=value, or its quote is never closed, or it refers to what is not set"
        )
    }
}

impl std::error::Error for EnvValuesError {}

/// The values as a container would get them, by name: quotes are taken off, and what refers to earlier lines is
/// filled in. Names without `=` are left out.
pub fn env_values(text: &str) -> Result<BTreeMap<String, String>, EnvValuesError> {
    let mut report = crate::yaml::report("/".into());
    let source = report.add_source(Path::new("/.env"), text.to_owned());
    let around = Around {
        outer: &|_| None,
        earlier: &BTreeMap::new(),
    };
    let values = dotenv::parse(source, Format::Compose, &around, &mut report);
    let (errors, warnings) = report.finish();
    // What is not set would be empty: a password with a dollar sign in it would lose its end.
    let mut all = errors.iter().chain(&warnings);
    match all.next() {
        None => Ok(values),
        Some(first) => Err(EnvValuesError {
            line: first.location.as_ref().map_or(0, |at| at.line),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_that_a_container_gets() {
        let text = "# c\nA=1\nexport B=\"two\\nlines\"\nC='$literal'\nD=${A}x # comment\nE\nF=\n";
        let values = env_values(text).unwrap();
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("A", "1"),
                ("B", "two\nlines"),
                ("C", "$literal"),
                ("D", "1x"),
                ("F", "")
            ]
        );
    }

    #[test]
    fn what_would_lose_a_part_is_refused_by_its_line_alone() {
        for (text, line) in [
            ("A=1\nB=pa$word\n", 2),
            ("A='open\n", 1),
            ("A=1\n\nno name=x\n", 3),
        ] {
            let error = env_values(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("word"));
        }
    }
}
