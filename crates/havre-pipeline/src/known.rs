//! Expressions of a workflow with what is known at the time, which may not be all that they ask for.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use havre_expressions::{Answers, Budget, Condition, Expression, Object, Refused, Status, Value};
use havre_workflow as workflow;
use havre_workflow::{Data, Dynamic, Part, Spanned, Template};
use indexmap::IndexMap;

/// What there is of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    /// The value.
    Known(T),
    /// What it waits for, as expressions name it, e.g. `needs.build.outputs.tag`.
    Waits(Vec<String>),
    /// Why there will be none.
    Wrong(String),
}

impl<T> Answer<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Waits(_) | Self::Wrong(_) => None,
        }
    }

    /// What a function makes of the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        self.and_then(|value| Answer::Known(change(value)))
    }

    /// What a function makes of the value, which may be no value.
    pub fn and_then<U>(self, change: impl FnOnce(T) -> Answer<U>) -> Answer<U> {
        match self {
            Self::Known(value) => change(value),
            Self::Waits(names) => Answer::Waits(names),
            Self::Wrong(why) => Answer::Wrong(why),
        }
    }
}

/// How all that a job needs, directly or not, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// All of it succeeded.
    Succeeded,
    /// Some of it failed.
    Failed,
    /// Some of it was skipped or cancelled, none failed.
    Incomplete,
    /// The run was cancelled.
    Cancelled,
}

impl Before {
    /// Each of them.
    pub const ALL: [Self; 4] = [
        Self::Succeeded,
        Self::Failed,
        Self::Incomplete,
        Self::Cancelled,
    ];
}

/// Contexts, of which some are not known yet, or in part.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// A dozen at most: looked through one by one.
    contexts: Vec<(String, Value, Extent)>,
    /// What all copies may use up together.
    budget: Option<Arc<Mutex<Budget>>>,
    files: Option<Files>,
}

/// What hashes files for `hashFiles`, of patterns, in hex; or why it does not.
type HashFiles = dyn Fn(&[Arc<str>]) -> Result<String, String> + Send + Sync;

#[derive(Clone)]
struct Files(Arc<HashFiles>);

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// What is not there is null.
    Whole,
    /// What is not there is not known.
    Part,
}

impl Known {
    /// The same, of which all copies together may use up so many evaluations' bounds; less, where it had a budget.
    pub(crate) fn bounded(&self, evaluations: usize) -> Self {
        let mut known = self.clone();
        let budget = || Arc::new(Mutex::new(Budget::of(evaluations)));
        known.budget.get_or_insert_with(budget);
        known
    }

    /// What there is of a context.
    pub fn context(&self, name: &str) -> Option<&Value> {
        let mut contexts = self.contexts.iter();
        let found = contexts.find(|(other, ..)| other == name);
        found.map(|(_, value, _)| value)
    }

    /// Gives a context its value: what it lacks is null.
    pub fn whole(&mut self, name: &str, value: impl Into<Value>) {
        self.set(name, value.into(), Extent::Whole);
    }

    /// Gives what is known of a context.
    pub fn part(&mut self, name: &str, value: Object) {
        self.set(name, value.into(), Extent::Part);
    }

    /// Says what hashes files, where there are any.
    pub fn files(&mut self, hash: Arc<HashFiles>) {
        self.files = Some(Files(hash));
    }

    /// The same, but nothing is known of these.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        let mut known = self.clone();
        known
            .contexts
            .retain(|(name, ..)| !names.contains(&name.as_str()));
        known
    }

    fn set(&mut self, name: &str, value: Value, extent: Extent) {
        self.contexts.retain(|(other, ..)| other != name);
        self.contexts.push((name.to_owned(), value, extent));
    }

    /// Whether all that an expression takes of a context is known.
    fn covers(&self, used: &workflow::expression::ContextUse) -> bool {
        let found = self
            .contexts
            .iter()
            .find(|(name, ..)| *name == used.context);
        match found {
            None => false,
            Some((_, _, Extent::Whole)) => true,
            Some((_, value, Extent::Part)) => {
                let mut at = value;
                for key in &used.path {
                    match at {
                        Value::Object(object) => match object.get(key) {
                            Some(below) => at = below,
                            None => return false,
                        },
                        _ => return true,
                    }
                }
                !matches!(at, Value::Object(_))
            }
        }
    }

    /// The value of an expression.
    pub fn expression(&self, expression: &workflow::Expression) -> Answer<Value> {
        let parsed = match Expression::parse(&expression.text) {
            Ok(parsed) => parsed,
            Err(error) => return Answer::Wrong(error.to_string()),
        };
        let asked = Asked::new(self, expression, None);
        let value = match &self.budget {
            None => parsed.evaluate(&asked),
            Some(budget) => {
                let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
                parsed.evaluate_within(&asked, &mut budget)
            }
        };
        asked.finish(value)
    }

    /// Whether a condition holds, after what came before; without one, whether all of that succeeded.
    pub fn condition(
        &self,
        condition: Option<&workflow::Condition>,
        before: Before,
    ) -> Answer<bool> {
        let Some(condition) = condition else {
            return Answer::Known(before == Before::Succeeded);
        };
        let is_blank = |part: &&Part| matches!(part, Part::Text(text) if text.trim().is_empty());
        let parts = condition.template.parts.iter();
        let parts: Vec<&Part> = parts.filter(|part| !is_blank(part)).collect();
        let [Part::Expression(expression)] = parts.as_slice() else {
            // A text with something around its expressions is never empty.
            let holds = !parts.is_empty() && (condition.asks_status || before == Before::Succeeded);
            return Answer::Known(holds);
        };
        let parsed = match Condition::parse(&expression.text) {
            Ok(parsed) => parsed,
            Err(error) => return Answer::Wrong(error.to_string()),
        };
        let asked = Asked::new(self, expression, Some(before));
        let holds = match &self.budget {
            None => parsed.evaluate(&asked),
            Some(budget) => {
                let mut budget = budget.lock().unwrap_or_else(PoisonError::into_inner);
                parsed.evaluate_within(&asked, &mut budget)
            }
        };
        asked.finish(holds)
    }

    /// A text: what its expressions give, and what is between them.
    pub fn text(&self, template: &Template) -> Answer<String> {
        let mut text = String::new();
        let mut waits = Vec::new();
        for part in &template.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Expression(expression) => match self.expression(expression) {
                    Answer::Known(value) => text.push_str(&value.to_text()),
                    Answer::Waits(names) => waits.extend(names),
                    Answer::Wrong(why) => return Answer::Wrong(why),
                },
            }
        }
        match waits.is_empty() {
            true => Answer::Known(text),
            false => Answer::Waits(waits),
        }
    }

    /// The value of a template: of any kind where it is one expression.
    pub fn value(&self, template: &Template) -> Answer<Value> {
        match template.parts.as_slice() {
            [Part::Expression(expression)] => self.expression(expression),
            _ => self.text(template).map(Value::from),
        }
    }

    /// What is written out, or what the expression gives.
    pub fn dynamic<T>(
        &self,
        value: &Dynamic<T>,
        fixed: impl FnOnce(&T) -> Answer<Value>,
    ) -> Answer<Value> {
        match value {
            Dynamic::Fixed(written) => fixed(&written.value),
            Dynamic::Expression(expression) => self.expression(expression),
        }
    }

    /// A truth value; false where nothing is written.
    pub fn truth(&self, value: Option<&Dynamic<bool>>) -> Answer<bool> {
        let Some(value) = value else {
            return Answer::Known(false);
        };
        let value = self.dynamic(value, |value| Answer::Known(Value::Bool(*value)));
        value.map(|value| value.is_truthy())
    }

    /// A value of a matrix or of inputs.
    pub fn data(&self, data: &Data) -> Answer<Value> {
        match data {
            Data::Null => Answer::Known(Value::Null),
            Data::Boolean(value) => Answer::Known(Value::Bool(*value)),
            Data::Number(number) => Answer::Known(Value::Number(*number)),
            Data::Text(template) => self.value(template),
            Data::List(items) => self.list(items),
            Data::Map(map) => self.map(map).map(Value::from),
        }
    }

    pub(crate) fn list(&self, items: &[Spanned<Data>]) -> Answer<Value> {
        let values = items.iter().map(|item| self.data(&item.value));
        all(values).map(Value::from)
    }

    pub(crate) fn map(&self, map: &IndexMap<String, Spanned<Data>>) -> Answer<Object> {
        let values = map.values().map(|value| self.data(&value.value));
        all(values).map(|values| map.keys().map(String::as_str).zip(values).collect())
    }
}

/// All values, or all that they wait for.
pub(crate) fn all<T>(answers: impl Iterator<Item = Answer<T>>) -> Answer<Vec<T>> {
    let (mut values, mut waits) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Answer::Known(value) => values.push(value),
            Answer::Waits(names) => waits.extend(names),
            Answer::Wrong(why) => return Answer::Wrong(why),
        }
    }
    match waits.is_empty() {
        true => Answer::Known(values),
        false => Answer::Waits(waits),
    }
}

/// Notes what an evaluation came to that is not known.
struct Asked<'k> {
    known: &'k Known,
    expression: &'k workflow::Expression,
    before: Option<Before>,
    missing: RefCell<Vec<String>>,
}

impl<'k> Asked<'k> {
    fn new(known: &'k Known, expression: &'k workflow::Expression, before: Option<Before>) -> Self {
        Self {
            known,
            expression,
            before,
            missing: RefCell::new(Vec::new()),
        }
    }

    fn finish<T>(self, value: Result<T, havre_expressions::EvaluateError>) -> Answer<T> {
        let mut missing = self.missing.into_inner();
        missing.sort();
        missing.dedup();
        match value {
            // What is not known counted as null: whatever came of that says nothing.
            _ if !missing.is_empty() => Answer::Waits(missing),
            Ok(value) => Answer::Known(value),
            Err(error) => Answer::Wrong(error.to_string()),
        }
    }
}

impl Asked<'_> {
    /// How a job ended that is among the needs; nothing of any other.
    fn result_of(&self, job: &str) -> Arc<str> {
        let mut contexts = self.known.contexts.iter();
        let needs = contexts.find(|(name, ..)| name == "needs");
        let member = |value: &Value, name: &str| match value {
            Value::Object(object) => object.get(name).cloned(),
            _ => None,
        };
        let result = needs
            .and_then(|(_, needs, _)| member(needs, job))
            .and_then(|job| member(&job, "result"));
        match (result, needs) {
            (Some(result), _) => result.to_text().into(),
            (None, Some((_, _, Extent::Whole))) => "".into(),
            (None, Some((_, _, Extent::Part)) | None) => {
                let name = format!("needs.{job}.result");
                self.missing.borrow_mut().push(name);
                "".into()
            }
        }
    }
}

impl Answers for Asked<'_> {
    fn context(&self, name: &str) -> Option<Value> {
        let uses = self.expression.uses.contexts.iter();
        let open = uses.filter(|used| used.context == name && !self.known.covers(used));
        self.missing.borrow_mut().extend(open.map(|used| {
            let path: String = used.path.iter().map(|key| format!(".{key}")).collect();
            format!("{name}{path}")
        }));
        let contexts = self.known.contexts.iter();
        let found = contexts.filter(|(other, ..)| other == name);
        Some(
            found
                .map(|(_, value, _)| value.clone())
                .next()
                .unwrap_or_default(),
        )
    }

    fn status(&self, status: Status, jobs: &[Arc<str>]) -> Result<bool, Refused> {
        let Some(before) = self.before else {
            return Err(Refused("there is no status here".to_owned()));
        };
        if !jobs.is_empty() {
            let results: Vec<Arc<str>> = jobs.iter().map(|job| self.result_of(job)).collect();
            return Ok(match status {
                Status::Success => results.iter().all(|result| **result == *"success"),
                Status::Failure => results.iter().any(|result| **result == *"failure"),
                Status::Cancelled => before == Before::Cancelled,
            });
        }
        Ok(match status {
            Status::Success => before == Before::Succeeded,
            Status::Failure => before == Before::Failed,
            Status::Cancelled => before == Before::Cancelled,
        })
    }

    fn hash_files(&self, patterns: &[Arc<str>]) -> Result<String, Refused> {
        if let Some(Files(hash)) = &self.known.files {
            return hash(patterns).map_err(Refused);
        }
        self.missing.borrow_mut().push("hashFiles".to_owned());
        Ok(String::new())
    }
}
