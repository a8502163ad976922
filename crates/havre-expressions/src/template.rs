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
        for piece in pieces(text) {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text.into()),
                Piece::Expression(inner, begin) => {
                    let span = Span {
                        start: begin - OPEN.len(),
                        end: begin + inner.len() + CLOSE.len(),
                    };
                    if inner.trim().is_empty() {
                        return Err(ParseFault::Empty.at(span));
                    }
                    Part::Expression(Expression::parse_at(inner, begin)?, span)
                }
                Piece::Unclosed(start) => {
                    let end = start + OPEN.len();
                    return Err(ParseFault::Unclosed.at(Span { start, end }));
                }
            });
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

/// A piece of a text with expressions in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// What is no expression.
    Text(&'t str),
    /// What stands between `${{` and `}}`, and the byte where that begins.
    Expression(&'t str, usize),
    /// `${{` without its end, and the byte where it stands; nothing follows it.
    Unclosed(usize),
}

/// Takes a text apart. Within an expression, `}}` in single quotes ends nothing.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find(OPEN).map(|open| at + open) {
        if open > at {
            found.push(Piece::Text(&text[at..open]));
        }
        let begin = open + OPEN.len();
        let Some(end) = end_of_expression(text, begin) else {
            found.push(Piece::Unclosed(open));
            return found;
        };
        found.push(Piece::Expression(&text[begin..end], begin));
        at = end + CLOSE.len();
    }
    if at < text.len() {
        found.push(Piece::Text(&text[at..]));
    }
    found
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

#[cfg(test)]
mod tests {
    use super::Piece::{Expression, Text, Unclosed};
    use super::*;

    #[test]
    fn texts_are_taken_apart() {
        assert_eq!(
            pieces("a ${{ '${{ }}' }}b${{c}}"),
            [
                Text("a "),
                Expression(" '${{ }}' ", 5),
                Text("b"),
                Expression("c", 21)
            ]
        );
        assert_eq!(pieces("é${{ x }"), [Text("é"), Unclosed(2)]);
        assert_eq!(pieces(""), []);
    }
}
