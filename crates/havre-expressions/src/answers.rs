//! What an expression asks of the world.

use std::sync::Arc;

use crate::value::Value;

/// Where an expression is evaluated: what there is, and how it went so far.
pub trait Answers {
    /// The value of a context, by its name in lower case (`github`, `env`); None where there is no such context here.
    fn context(&self, name: &str) -> Option<Value>;

    /// Whether what went before (all of it, or the named jobs) has that status.
    fn status(&self, status: Status, jobs: &[Arc<str>]) -> Result<bool, Refused>;

    /// The hash of the files that match the patterns, in hex: SHA-256 over the SHA-256 of each; empty where none match.
    fn hash_files(&self, patterns: &[Arc<str>]) -> Result<String, Refused>;
}

/// What a status function asks. `always()` asks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Whether none failed and nothing was cancelled.
    Success,
    /// Whether one failed.
    Failure,
    /// Whether the run was cancelled.
    Cancelled,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// Answers that are values alone, for keys where neither status functions nor `hashFiles` are allowed.
#[derive(Clone, Debug, Default)]
pub struct Contexts {
    /// A dozen at most: looked through one by one.
    values: Vec<(Box<str>, Value)>,
}

impl Contexts {
    /// Gives a context a value.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let name = name.to_ascii_lowercase().into_boxed_str();
        self.values.retain(|(other, _)| *other != name);
        self.values.push((name, value.into()));
    }
}

impl Answers for Contexts {
    fn context(&self, name: &str) -> Option<Value> {
        let found = self.values.iter().find(|(other, _)| **other == *name);
        found.map(|(_, value)| value.clone())
    }

    fn status(&self, _: Status, _: &[Arc<str>]) -> Result<bool, Refused> {
        Err(Refused("there is no status here".to_owned()))
    }

    fn hash_files(&self, _: &[Arc<str>]) -> Result<String, Refused> {
        Err(Refused("there are no files here".to_owned()))
    }
}
