//! From a tree to its value.

use std::cmp::Ordering;
use std::mem::size_of;
use std::sync::Arc;

use crate::answers::{Answers, Refused, Status};
use crate::function::Function;
use crate::json::{self, JsonError, Stopped};
use crate::meter::{Budget, Exhausted, MAX_MEMORY, Meter};
use crate::parse::{Comparison, Expression, Kind, Node, Span, Step};
use crate::value::Value;
use crate::{compare, fold, number};

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct EvaluateError {
    /// Why.
    pub fault: EvaluateFault,
    /// The part of it that has none.
    pub span: Span,
}

/// Why part of an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateFault {
    /// There is no such context here.
    #[error("there is no context `{name:.60}` here")]
    UnknownContext {
        /// In lower case.
        name: Arc<str>,
    },
    /// The first argument of `format` is no format.
    #[error("the text of `format` is wrong at byte {at}: {why}")]
    Format {
        /// Of the value, not of how it is written.
        at: usize,
        /// Why.
        why: &'static str,
    },
    /// The argument of `fromJSON` is no JSON, or that of `toJSON` is nested too deeply.
    #[error("`{function}` cannot use its argument: {why}")]
    Json {
        /// Which of the two.
        function: Function,
        /// Why.
        why: JsonError,
    },
    /// A condition of `case` is neither true nor false.
    #[error("a condition of `case` is neither true nor false: compare it with something")]
    Condition,
    /// What it asks is not answered.
    #[error("`{function}` has no answer: {why}")]
    Refused {
        /// What it was asked.
        function: Function,
        /// Why it does not.
        why: String,
    },
    /// It made more than it may.
    #[error("the expression makes more than {} MiB", MAX_MEMORY >> 20)]
    Memory,
    /// It looked through more than it may.
    #[error("the expression looks through too much text")]
    Work,
}

impl Expression {
    /// Its value.
    pub fn evaluate(&self, answers: &dyn Answers) -> Result<Value, EvaluateError> {
        self.evaluate_metered(answers, &mut Meter::of_an_evaluation())
    }

    /// Its value, of what is left for all.
    pub fn evaluate_within(
        &self,
        answers: &dyn Answers,
        budget: &mut Budget,
    ) -> Result<Value, EvaluateError> {
        budget.spend(|meter| self.evaluate_metered(answers, meter))
    }

    pub(crate) fn evaluate_metered(
        &self,
        answers: &dyn Answers,
        meter: &mut Meter,
    ) -> Result<Value, EvaluateError> {
        let mut evaluation = Evaluation { answers, meter };
        Ok(evaluation.node(&self.root)?.value)
    }
}

/// A value on its way: what `.*` gives passes what is taken of it on to its items, also through `&&`, `||` and `case`.
struct Passing {
    value: Value,
    is_filter: bool,
}

struct Evaluation<'a> {
    answers: &'a dyn Answers,
    meter: &'a mut Meter,
}

/// What looking at an item of a list is worth in bytes of text.
const ITEM: usize = 8;

type Outcome<T> = Result<T, EvaluateError>;

impl Evaluation<'_> {
    fn node(&mut self, node: &Node) -> Outcome<Passing> {
        let value = match &node.kind {
            Kind::Literal(value) => value.clone(),
            Kind::Context(name) => self.answers.context(name).ok_or_else(|| {
                let name = name.clone();
                EvaluateFault::UnknownContext { name }.at(node.span)
            })?,
            Kind::Path(head, steps) => return self.path(head, steps, node.span),
            Kind::Call(function, arguments) => return self.call(*function, arguments, node.span),
            Kind::Not(operand) => Value::Bool(!self.node(operand)?.value.is_truthy()),
            Kind::And(operands) => return self.row(operands, false),
            Kind::Or(operands) => return self.row(operands, true),
            Kind::Compare(left, comparison, right) => {
                let (left, right) = (self.node(left)?.value, self.node(right)?.value);
                let holds = compared(&left, *comparison, &right, self.meter);
                Value::Bool(holds.map_err(|exhausted| exhausted_at(exhausted, node.span))?)
            }
        };
        Ok(value.into())
    }

    /// The first operand that is as asked, or the last.
    fn row(&mut self, operands: &[Node], until: bool) -> Outcome<Passing> {
        let mut last = Passing::from(Value::Null);
        for operand in operands {
            last = self.node(operand)?;
            if last.value.is_truthy() == until {
                break;
            }
        }
        Ok(last)
    }

    fn path(&mut self, head: &Node, steps: &[Step], span: Span) -> Outcome<Passing> {
        let mut at = self.node(head)?;
        for step in steps {
            at = match step {
                Step::Key(name, number) => self.step(&at, &Key::Name(name, *number), span)?,
                Step::All => self.step(&at, &Key::All, span)?,
                Step::Index(index) => {
                    let index = self.node(index)?.value;
                    let text;
                    let key = match &index {
                        Value::Number(number) => Key::Number(*number),
                        Value::Array(_) | Value::Object(_) => Key::Nothing,
                        other => {
                            text = other.to_text();
                            self.meter
                                .make(text.len())
                                .and_then(|()| self.meter.look(text.len()))
                                .map_err(|exhausted| exhausted_at(exhausted, span))?;
                            Key::Name(&fold::folded(&text), other.to_number())
                        }
                    };
                    self.step(&at, &key, span)?
                }
            };
        }
        Ok(at)
    }

    fn step(&mut self, of: &Passing, key: &Key<'_>, span: Span) -> Outcome<Passing> {
        let items: &[Value] = match &of.value {
            Value::Array(items) if of.is_filter => items,
            one => match key {
                Key::All => std::slice::from_ref(one),
                _ => return Ok(taken(one, key).cloned().unwrap_or_default().into()),
            },
        };
        let mut found = Vec::new();
        for item in items {
            let count = match (key, item) {
                (Key::All, Value::Array(items)) => items.len(),
                (Key::All, Value::Object(object)) => object.len(),
                _ => 1,
            };
            self.meter
                .look(count * ITEM)
                .and_then(|()| self.meter.make(count * size_of::<Value>()))
                .map_err(|exhausted| exhausted_at(exhausted, span))?;
            match (key, item) {
                (Key::All, Value::Array(items)) => found.extend_from_slice(items),
                (Key::All, Value::Object(object)) => {
                    found.extend(object.iter().map(|(_, value)| value.clone()));
                }
                (Key::All, _) => {}
                (key, item) => found.extend(taken(item, key).cloned()),
            }
        }
        Ok(Passing {
            value: found.into(),
            is_filter: true,
        })
    }

    fn call(&mut self, function: Function, arguments: &[Node], span: Span) -> Outcome<Passing> {
        if function == Function::Case {
            return self.case(arguments);
        }
        let values: Vec<Value> = arguments
            .iter()
            .map(|argument| Ok(self.node(argument)?.value))
            .collect::<Outcome<_>>()?;
        let result = self.function(function, &values);
        Ok(result.map_err(|fault| fault.at(span))?.into())
    }

    /// Only what it comes to is evaluated.
    fn case(&mut self, arguments: &[Node]) -> Outcome<Passing> {
        let mut pairs = arguments.chunks_exact(2);
        for pair in &mut pairs {
            match self.node(&pair[0])?.value {
                Value::Bool(true) => return self.node(&pair[1]),
                Value::Bool(false) => {}
                _ => return Err(EvaluateFault::Condition.at(pair[0].span)),
            }
        }
        match pairs.remainder() {
            [otherwise] => self.node(otherwise),
            _ => Ok(Value::Null.into()),
        }
    }

    fn function(&mut self, function: Function, given: &[Value]) -> Result<Value, EvaluateFault> {
        match (function, given) {
            (Function::Contains, [Value::Array(items), item]) => {
                for other in items.iter() {
                    self.meter.look(ITEM)?;
                    if compare::equal(other, item, self.meter)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            (Function::Contains | Function::StartsWith | Function::EndsWith, [text, part]) => {
                if !(text.is_primitive() && part.is_primitive()) {
                    return Ok(Value::Bool(false));
                }
                let (text, part) = (text.to_text(), part.to_text());
                let test = match function {
                    Function::StartsWith => fold::starts_with,
                    Function::EndsWith => fold::ends_with,
                    _ => {
                        self.meter.look(text.len().saturating_add(part.len()))?;
                        fold::contains
                    }
                };
                self.meter.look(part.len())?;
                Ok(Value::Bool(test(&text, &part)))
            }
            (Function::Format, [text, arguments @ ..]) => self.format(&text.to_text(), arguments),
            (Function::Join, [items, rest @ ..]) => self.join(items, rest.first()),
            (Function::ToJson, [value]) => {
                let written = json::write(value, self.meter);
                Ok(written
                    .map_err(|stopped| stopped_in(function, stopped))?
                    .into())
            }
            (Function::FromJson, [text]) => {
                let text = text.to_text();
                self.meter.look(text.len())?;
                let read = json::read(&text, self.meter);
                read.map_err(|stopped| stopped_in(function, stopped))
            }
            (Function::HashFiles, patterns) => {
                let hash = self.answers.hash_files(&self.texts(patterns)?);
                let hash = hash.map_err(|Refused(why)| EvaluateFault::Refused { function, why })?;
                self.meter.make(hash.len())?;
                Ok(hash.into())
            }
            (Function::Success, jobs) => self.status(Status::Success, function, jobs),
            (Function::Failure, jobs) => self.status(Status::Failure, function, jobs),
            (Function::Cancelled, _) => self.status(Status::Cancelled, function, &[]),
            (Function::Always, _) => Ok(Value::Bool(true)),
            // `case` is elsewhere; how many arguments there are was checked when it was read.
            (
                Function::Case
                | Function::Contains
                | Function::StartsWith
                | Function::EndsWith
                | Function::Format
                | Function::Join
                | Function::ToJson
                | Function::FromJson,
                _,
            ) => Ok(Value::Null),
        }
    }

    fn status(
        &mut self,
        status: Status,
        function: Function,
        jobs: &[Value],
    ) -> Result<Value, EvaluateFault> {
        let answer = self.answers.status(status, &self.texts(jobs)?);
        answer
            .map(Value::Bool)
            .map_err(|Refused(why)| EvaluateFault::Refused { function, why })
    }

    fn texts(&mut self, values: &[Value]) -> Result<Vec<Arc<str>>, Exhausted> {
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            other => {
                let text = other.to_text();
                self.meter.make(text.len())?;
                Ok(text.into())
            }
        };
        values.iter().map(text).collect()
    }

    /// `{0}` stands for the first argument, `{{` and `}}` for a brace.
    fn format(&mut self, format: &str, arguments: &[Value]) -> Result<Value, EvaluateFault> {
        self.meter.look(format.len())?;
        let mut out = String::new();
        let mut at = 0;
        let wrong = |at, why| EvaluateFault::Format { at, why };
        loop {
            let rest = &format[at..];
            let plain = rest.find(['{', '}']).unwrap_or(rest.len());
            self.append(&mut out, &rest[..plain])?;
            at += plain;
            let Some(brace) = rest[plain..].chars().next() else {
                return Ok(out.into());
            };
            let behind = &rest[plain + 1..];
            if behind.starts_with(brace) {
                self.append(&mut out, &behind[..1])?;
                at += 2;
                continue;
            }
            if brace == '}' {
                return Err(wrong(at, "a single `}` (write `}}`)"));
            }
            let Some(end) = behind.find('}') else {
                return Err(wrong(at, "a `{` without its `}` (write `{{` for a brace)"));
            };
            let number = &behind[..end];
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                return Err(wrong(
                    at,
                    "between `{` and `}` is no number (write `{{` for a brace)",
                ));
            }
            let argument = number.parse().ok().and_then(|n: usize| arguments.get(n));
            let argument = argument.ok_or(wrong(at, "there is no argument of that number"))?;
            self.append(&mut out, &argument.to_text())?;
            at += end + 2;
        }
    }

    fn join(&mut self, items: &Value, separator: Option<&Value>) -> Result<Value, EvaluateFault> {
        let separator = match separator {
            Some(separator) if separator.is_primitive() => separator.to_text(),
            _ => ",".into(),
        };
        let mut out = String::new();
        match items {
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.meter.look(ITEM)?;
                    if n > 0 {
                        self.append(&mut out, &separator)?;
                    }
                    self.append(&mut out, &item.to_text())?;
                }
            }
            Value::Object(_) => {}
            one => self.append(&mut out, &one.to_text())?,
        }
        Ok(out.into())
    }

    fn append(&mut self, out: &mut String, text: &str) -> Result<(), Exhausted> {
        self.meter.make(text.len())?;
        out.push_str(text);
        Ok(())
    }
}

/// What one step takes.
enum Key<'a> {
    /// Folded, and the number that it stands for in a list.
    Name(&'a str, f64),
    Number(f64),
    All,
    /// A list or an object, by which nothing is found.
    Nothing,
}

/// What a value has under a key.
fn taken<'a>(value: &'a Value, key: &Key<'_>) -> Option<&'a Value> {
    match (value, key) {
        (Value::Object(object), Key::Name(name, _)) => object.get_folded(name),
        (Value::Object(object), Key::Number(number)) => object.get(&number::to_text(*number)),
        (Value::Array(items), Key::Name(_, number) | Key::Number(number)) => {
            items.get(place(*number)?)
        }
        _ => None,
    }
}

/// The place in a list that a number stands for.
fn place(number: f64) -> Option<usize> {
    // Above that, whatever the list is, there is nothing.
    let is_place = number >= 0.0 && number < f64::from(u32::MAX);
    is_place.then_some(number as usize)
}

fn compared(
    left: &Value,
    comparison: Comparison,
    right: &Value,
    meter: &mut Meter,
) -> Result<bool, Exhausted> {
    Ok(match comparison {
        Comparison::Equal => compare::equal(left, right, meter)?,
        Comparison::Unequal => !compare::equal(left, right, meter)?,
        Comparison::Less => compare::order(left, right, meter)? == Some(Ordering::Less),
        Comparison::Greater => compare::order(left, right, meter)? == Some(Ordering::Greater),
        Comparison::LessOrEqual => {
            compare::order(left, right, meter)? == Some(Ordering::Less)
                || compare::equal(left, right, meter)?
        }
        Comparison::GreaterOrEqual => {
            compare::order(left, right, meter)? == Some(Ordering::Greater)
                || compare::equal(left, right, meter)?
        }
    })
}

impl From<Value> for Passing {
    fn from(value: Value) -> Self {
        Self {
            value,
            is_filter: false,
        }
    }
}

impl EvaluateFault {
    fn at(self, span: Span) -> EvaluateError {
        EvaluateError { fault: self, span }
    }
}

impl From<Exhausted> for EvaluateFault {
    fn from(exhausted: Exhausted) -> Self {
        match exhausted {
            Exhausted::Memory => Self::Memory,
            Exhausted::Work => Self::Work,
        }
    }
}

fn exhausted_at(exhausted: Exhausted, span: Span) -> EvaluateError {
    EvaluateFault::from(exhausted).at(span)
}

fn stopped_in(function: Function, stopped: Stopped) -> EvaluateFault {
    match stopped {
        Stopped::Json(why) => EvaluateFault::Json { function, why },
        Stopped::Exhausted(exhausted) => exhausted.into(),
    }
}
