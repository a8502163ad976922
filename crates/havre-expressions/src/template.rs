//! Text with `${{ }}` in it.

use crate::answers::Answers;
use crate::evaluate::{EvaluateError, EvaluateFault};
use crate::meter::Meter;
use crate::parse::{Expression, ParseError, ParseFault, Span, Use};
use crate::scan;
use crate::value::Value;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A text, ready to be evaluated any number of times.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    /// With its `${{` and `}}`.
    Expression(Expression, Span),
}

impl Template {
    /// Reads a text. Within an expression, `}}` in single quotes ends nothing.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find(OPEN).map(|open| at + open) {
            if open > at {
                parts.push(Part::Text(text[at..open].into()));
            }
            let begin = open + OPEN.len();
            let end = end_of_expression(text, begin).ok_or_else(|| {
                ParseFault::Unclosed.at(Span {
                    start: open,
                    end: begin,
                })
            })?;
            let span = Span {
                start: open,
                end: end + CLOSE.len(),
            };
            let inner = &text[begin..end];
            if inner.trim().is_empty() {
                return Err(ParseFault::Empty.at(span));
            }
            let expression = Expression::parse_at(inner, begin)?;
            parts.push(Part::Expression(expression, span));
            at = span.end;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].into()));
        }
        Ok(Self { parts })
    }

    /// The text itself, where no expression is in it.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// All contexts and functions that its expressions name.
    pub fn uses(&self) -> impl Iterator<Item = &Use> {
        self.parts.iter().flat_map(|part| match part {
            Part::Text(_) => &[],
            Part::Expression(expression, _) => expression.uses(),
        })
    }

    /// Its value: of whatever kind where it is one expression and nothing else, otherwise a text. All its expressions
    /// together may use up as much as one.
    pub fn evaluate(&self, answers: &dyn Answers) -> Result<Value, EvaluateError> {
        let mut meter = Meter::of_an_evaluation();
        if let [Part::Expression(expression, _)] = self.parts.as_slice() {
            return expression.evaluate_metered(answers, &mut meter);
        }
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expression(expression, span) => {
                    let value = expression.evaluate_metered(answers, &mut meter)?;
                    let text = value.to_text();
                    meter.make(text.len()).map_err(|exhausted| EvaluateError {
                        fault: EvaluateFault::from(exhausted),
                        span: *span,
                    })?;
                    out.push_str(&text);
                }
            }
        }
        Ok(out.into())
    }

    /// The expression, where it is one and nothing else but blanks.
    pub(crate) fn into_expression(mut self) -> Option<Expression> {
        let is_blank = |part: &Part| matches!(part, Part::Text(text) if text.trim().is_empty());
        self.parts.retain(|part| !is_blank(part));
        match (self.parts.pop(), self.parts.is_empty()) {
            (Some(Part::Expression(expression, _)), true) => Some(expression),
            _ => None,
        }
    }
}

fn end_of_expression(text: &str, begin: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = begin;
    loop {
        match bytes.get(at)? {
            b'\'' => at = scan::end_of_string(bytes, at),
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => at += 1,
        }
    }
}
