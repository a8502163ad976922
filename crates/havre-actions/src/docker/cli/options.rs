//! Options of docker's commands.

use std::collections::BTreeMap;

use crate::failure::{Failure, refused};

/// An option: its long name, its short one, and what follows it.
pub(super) struct Known(&'static str, &'static str, Takes);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Nothing, or `=true`.
    Nothing,
    Value,
    /// A value, and it has no effect.
    Ignored,
    /// Nothing, and it has no effect.
    Idle,
}
use Takes::{Idle, Ignored, Nothing, Value};

pub(super) const NONE: [Known; 0] = [];
pub(super) const PUSH: [Known; 1] = [Known("--quiet", "-q", Idle)];
pub(super) const PULL: [Known; 2] = [
    Known("--quiet", "-q", Idle),
    Known("--disable-content-trust", "", Idle),
];
pub(super) const SAVE: [Known; 1] = [Known("--output", "-o", Value)];
pub(super) const LOGIN: [Known; 3] = [
    Known("--username", "-u", Value),
    Known("--password", "-p", Value),
    Known("--password-stdin", "", Nothing),
];
pub(super) const BUILD: [Known; 30] = [
    Known("--tag", "-t", Value),
    Known("--file", "-f", Value),
    Known("--build-arg", "", Value),
    Known("--target", "", Value),
    Known("--label", "", Value),
    Known("--annotation", "", Value),
    Known("--secret", "", Value),
    Known("--platform", "", Value),
    Known("--cache-from", "", Value),
    Known("--cache-to", "", Value),
    Known("--output", "-o", Value),
    Known("--network", "", Value),
    Known("--add-host", "", Value),
    Known("--shm-size", "", Value),
    Known("--build-context", "", Value),
    Known("--iidfile", "", Value),
    Known("--metadata-file", "", Value),
    Known("--push", "", Nothing),
    Known("--load", "", Nothing),
    Known("--pull", "", Nothing),
    Known("--no-cache", "", Nothing),
    Known("--quiet", "-q", Nothing),
    Known("--progress", "", Ignored),
    Known("--builder", "", Ignored),
    Known("--provenance", "", Ignored),
    Known("--sbom", "", Ignored),
    Known("--rm", "", Idle),
    Known("--force-rm", "", Idle),
    Known("--disable-content-trust", "", Idle),
    Known("--debug", "-D", Idle),
];

/// What a command was given.
#[derive(Debug, Default)]
pub(super) struct Options {
    found: BTreeMap<&'static str, Vec<String>>,
    pub(super) words: Vec<String>,
}

impl Options {
    pub(super) fn read(words: &[&str], known: &'static [Known]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut rest = words.iter().copied();
        while let Some(word) = rest.next() {
            if word == "--" {
                options.words.extend(rest.by_ref().map(str::to_owned));
                break;
            }
            if !word.starts_with('-') || word == "-" {
                options.words.push(word.to_owned());
                continue;
            }
            let (name, mut value) = split(word, known);
            let found = known.iter().find(|Known(long, short, _)| {
                name == *long || (!short.is_empty() && name == *short)
            });
            let Some(Known(long, _, takes)) = found else {
                return refused(format!(
                    "the option `{name}` is not supported in a job of Havre; leave it out"
                ));
            };
            if matches!(takes, Value | Ignored) && value.is_none() {
                value = rest.next().map(str::to_owned);
                if value.is_none() {
                    return refused(format!("the option `{name}` needs a value"));
                }
            }
            let value = value.unwrap_or_else(|| "true".to_owned());
            if matches!(takes, Value | Nothing) {
                options.found.entry(long).or_default().push(value);
            }
        }
        Ok(options)
    }

    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        self.found.remove(name).unwrap_or_default()
    }

    /// The last one.
    pub(super) fn one(&mut self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        match self.one(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => refused(format!("`{name}` must be true or false, not `{other}`")),
        }
    }
}

/// `--name=value`, `-nvalue`, or the name alone.
fn split<'a>(word: &'a str, known: &[Known]) -> (&'a str, Option<String>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
    }
    let Some((name, rest)) = word
        .split_at_checked(2)
        .filter(|(_, rest)| !rest.is_empty())
    else {
        return (word, None);
    };
    let takes = known.iter().find(|Known(_, short, _)| *short == name);
    match takes {
        Some(Known(_, _, Value)) => (name, Some(rest.trim_start_matches('=').to_owned())),
        _ => (word, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_docker_reads_them() {
        let words = [
            "-t",
            "a:1",
            "-tb",
            "--tag=c",
            "--build-arg",
            "X=1=2",
            "--push",
            "--no-cache=false",
            "--progress",
            "plain",
            ".",
            "-fdocker/Dockerfile",
        ];
        let mut options = Options::read(&words, &BUILD).expect("read");
        assert_eq!(options.all("--tag"), ["a:1", "b", "c"]);
        assert_eq!(options.all("--build-arg"), ["X=1=2"]);
        assert_eq!(options.one("--file").as_deref(), Some("docker/Dockerfile"));
        assert!(options.flag("--push").expect("a flag"));
        assert!(!options.flag("--no-cache").expect("a flag"));
        assert_eq!(options.words, ["."]);
        for (words, expected) in [
            (&["--squash", "."][..], "`--squash` is not supported"),
            (&["-t"], "needs a value"),
            (&["--memory=1g"], "`--memory` is not supported"),
        ] {
            let why = Options::read(words, &BUILD)
                .expect_err("refused")
                .to_string();
            assert!(why.contains(expected), "{why}");
        }
        let mut odd = Options::read(&["--push=maybe"], &BUILD).expect("read");
        assert!(odd.flag("--push").is_err());
    }
}
