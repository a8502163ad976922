//! The `if` of a job or a step.

use crate::answers::Answers;
use crate::evaluate::EvaluateError;
use crate::function::Function;
use crate::meter::Budget;
use crate::parse::{Expression, ParseError, ParseFault, Span, Use, Used};
use crate::template::Template;

/// An `if`, ready to be evaluated any number of times.
#[derive(Clone, Debug)]
pub struct Condition {
    /// With `success() &&` where that is implied.
    expression: Expression,
}

impl Condition {
    /// Reads an `if`, with or without `${{ }}` around it. One without a status function holds only if all before it
    /// succeeded, and an empty one if just that.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let span = Span {
            start: 0,
            end: text.len(),
        };
        let success = Expression::of_call(Function::Success, span);
        if text.trim().is_empty() {
            return Ok(Self {
                expression: success,
            });
        }
        let given = match text.contains("${{") {
            false => Expression::parse(text)?,
            true => Template::parse(text)?
                .into_expression()
                .ok_or_else(|| ParseFault::AlwaysTrue.at(span))?,
        };
        let is_status = |used: &Use| match used.what {
            Used::Function { function, .. } => function.is_status(),
            Used::Context { .. } => false,
        };
        let expression = match given.uses().iter().any(is_status) {
            true => given,
            false => success.and(given),
        };
        Ok(Self { expression })
    }

    /// All contexts and functions that it names; an implied `success()` is none.
    pub fn uses(&self) -> &[Use] {
        self.expression.uses()
    }

    /// Whether it holds.
    pub fn evaluate(&self, answers: &dyn Answers) -> Result<bool, EvaluateError> {
        Ok(self.expression.evaluate(answers)?.is_truthy())
    }

    /// Whether it holds, of what is left for all.
    pub fn evaluate_within(
        &self,
        answers: &dyn Answers,
        budget: &mut Budget,
    ) -> Result<bool, EvaluateError> {
        let value = self.expression.evaluate_within(answers, budget)?;
        Ok(value.is_truthy())
    }
}
