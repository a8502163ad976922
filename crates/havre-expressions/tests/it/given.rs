//! Fake answers, stricter than those of a run: they refuse what they were not told.

use std::sync::Arc;

use havre_expressions::{
    Answers, Condition, Contexts, Expression, Refused, Status, Template, Value,
};

/// What a test says there is.
#[derive(Default)]
pub struct Given {
    contexts: Contexts,
    statuses: Vec<(Status, Vec<&'static str>, bool)>,
    files: Vec<(Vec<&'static str>, &'static str)>,
}

impl Given {
    /// A context, as JSON.
    pub fn context(mut self, name: &str, json: &str) -> Self {
        self.contexts
            .set(name, Value::from_json(json).expect("the test gives JSON"));
        self
    }

    pub fn status(mut self, status: Status, jobs: &[&'static str], holds: bool) -> Self {
        self.statuses.push((status, jobs.to_vec(), holds));
        self
    }

    pub fn files(mut self, patterns: &[&'static str], hash: &'static str) -> Self {
        self.files.push((patterns.to_vec(), hash));
        self
    }

    /// An expression's value, or what its error says with the text that the error points at.
    pub fn value(&self, text: &str) -> Result<Value, String> {
        let parsed = Expression::parse(text);
        let parsed = parsed.map_err(|error| at(text, &error, error.span.start, error.span.end))?;
        let value = parsed.evaluate(self);
        value.map_err(|error| at(text, &error, error.span.start, error.span.end))
    }

    pub fn template(&self, text: &str) -> Result<Value, String> {
        let parsed = Template::parse(text);
        let parsed = parsed.map_err(|error| at(text, &error, error.span.start, error.span.end))?;
        let value = parsed.evaluate(self);
        value.map_err(|error| at(text, &error, error.span.start, error.span.end))
    }

    pub fn condition(&self, text: &str) -> Result<bool, String> {
        let parsed = Condition::parse(text);
        let parsed = parsed.map_err(|error| at(text, &error, error.span.start, error.span.end))?;
        let holds = parsed.evaluate(self);
        holds.map_err(|error| at(text, &error, error.span.start, error.span.end))
    }
}

fn at(text: &str, error: &dyn std::error::Error, start: usize, end: usize) -> String {
    format!("{error} ({})", &text[start..end])
}

impl Answers for Given {
    fn context(&self, name: &str) -> Option<Value> {
        self.contexts.context(name)
    }

    fn status(&self, status: Status, jobs: &[Arc<str>]) -> Result<bool, Refused> {
        let told = self.statuses.iter().find(|(one, of, _)| {
            *one == status && of.iter().copied().eq(jobs.iter().map(|j| &**j))
        });
        told.map(|(.., holds)| *holds)
            .ok_or_else(|| Refused(format!("the test says nothing of {status:?} {jobs:?}")))
    }

    fn hash_files(&self, patterns: &[Arc<str>]) -> Result<String, Refused> {
        let told = self
            .files
            .iter()
            .find(|(of, _)| of.iter().copied().eq(patterns.iter().map(|p| &**p)));
        told.map(|(_, hash)| (*hash).to_owned())
            .ok_or_else(|| Refused(format!("the test says nothing of {patterns:?}")))
    }
}
