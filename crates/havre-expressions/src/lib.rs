//! Evaluates the expressions of GitHub's workflow files, as GitHub's runner does.
//!
//! ```text
//! expression         ─► Expression ┐
//! text with ${{ … }} ─► Template   ├─► uses: contexts and functions, which the reader allows per key
//! if:                ─► Condition  ┴─► evaluate(Answers: contexts, status, hashFiles) ─► Value
//! ```
//!
//! Pure: no I/O, no clock; what an expression asks of the world it asks of [`Answers`]. Spans are bytes of the text
//! that was given, whatever of it is an expression.
//!
//! Both texts and values come from outside: an expression has at most [`MAX_LENGTH`] bytes, [`MAX_OPERATORS`] operators
//! and [`MAX_DEPTH`] levels; one evaluation makes at most [`MAX_MEMORY`] bytes and looks through at most [`MAX_WORK`].
//! No error repeats a value, which may be a secret.
//!
//! Written after <https://docs.github.com/en/actions/reference/workflows-and-actions/expressions> and GitHub's own suite
//! of cases, which is the judge of the tests; where the runner (C#) and the language server (TypeScript) differ, the
//! runner's way is taken: numbers as text have 15 digits, case is folded character by character. Stricter than the
//! runner: `fromJSON` takes JSON only, without comments, single quotes or `NaN`.

mod answers;
mod compare;
mod condition;
mod evaluate;
mod fold;
mod function;
mod json;
mod meter;
mod number;
mod parse;
mod scan;
mod template;
mod value;

pub use answers::{Answers, Contexts, Refused, Status};
pub use condition::Condition;
pub use evaluate::{EvaluateError, EvaluateFault};
pub use function::Function;
pub use json::{JsonError, MAX_JSON_DEPTH};
pub use meter::{Budget, MAX_MEMORY, MAX_WORK};
pub use parse::{Expression, MAX_DEPTH, MAX_LENGTH, ParseError, ParseFault, Span, Use, Used};
pub use scan::MAX_OPERATORS;
pub use template::{Piece, Template, pieces};
pub use value::{Object, Value};
