//! From text to a tree that can be evaluated, by the parser of `github-actions-expressions`.
//!
//! That parser tells neither where an unknown function is nor where one has too many arguments, takes a comma before `)`,
//! refuses the names of jobs in `success('job')`, and bounds neither rows of operators nor of `.name`: all of that is
//! seen to here.

use std::sync::Arc;

use github_actions_expressions::call::Call;
use github_actions_expressions::literal::Literal;
use github_actions_expressions::op::{BinExpr, BinOp, UnOp};
use github_actions_expressions::{Expr, SpannedExpr};

use crate::function::Function;
use crate::scan::{self, MAX_OPERATORS, Scanned};
use crate::value::Value;
use crate::{fold, number};

/// Most bytes of an expression; GitHub's bound.
pub const MAX_LENGTH: usize = 21_000;

/// Deepest nesting of an expression; GitHub's bound. `a && b && c` and `a || b || c` are one level.
pub const MAX_DEPTH: usize = 50;

/// An expression, ready to be evaluated any number of times.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(crate) root: Node,
    uses: Vec<Use>,
}

/// From a byte of the text to the one behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

/// A context or function that an expression names, whether or not its evaluation comes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Which.
    pub what: Used,
    /// Where: a context with all that is taken of it, a function with its arguments.
    pub span: Span,
}

/// What is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// A context.
    Context {
        /// In lower case.
        name: Arc<str>,
        /// What is taken of it, as it is spelled, up to the first that is computed: `build` and `result` of
        /// `needs.build['result']`, nothing of `steps[matrix.n].outcome`.
        keys: Vec<Arc<str>>,
    },
    /// A function.
    Function {
        /// Which.
        function: Function,
        /// How many arguments it is given.
        arguments: usize,
    },
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    /// What is wrong.
    pub fault: ParseFault,
    /// Where.
    pub span: Span,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseFault {
    /// It is too long.
    #[error("the expression has more than {MAX_LENGTH} bytes")]
    Length,
    /// It has too many operators.
    #[error("the expression has more than {MAX_OPERATORS} operators")]
    Operators,
    /// It is nested too deeply.
    #[error("the expression is nested more than {MAX_DEPTH} deep")]
    Depth,
    /// There is no such function.
    #[error("there is no function `{name:.60}`")]
    UnknownFunction {
        /// As it is spelled.
        name: String,
    },
    /// A function is given too few arguments, or too many.
    #[error("`{function}` takes {takes}")]
    Arguments {
        /// Which.
        function: Function,
        /// What it takes.
        takes: &'static str,
    },
    /// It is not written as an expression is.
    #[error("the expression is not understood: {message}")]
    Syntax {
        /// What was expected, or was not.
        message: &'static str,
    },
    /// A `${{` without its `}}`.
    #[error("`${{{{` is not closed: `}}}}` is missing")]
    Unclosed,
    /// `${{ }}` with nothing in it.
    #[error("`${{{{ }}}}` has no expression in it")]
    Empty,
    /// An `if` of text and expressions, which would always be true.
    #[error("an `if` with text outside of `${{{{ }}}}` is always true: put all of it inside")]
    AlwaysTrue,
}

/// Part of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    /// By its name in lower case.
    Context(Arc<str>),
    Path(Box<Node>, Vec<Step>),
    Call(Function, Vec<Node>),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare(Box<Node>, Comparison, Box<Node>),
}

/// What is taken of a value.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `.name` or `['name']`: folded, and the number that it stands for in a list.
    Key(Arc<str>, f64),
    /// `[…]`
    Index(Node),
    /// `.*` or `[*]`
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expression {
    /// Reads an expression, without `${{ }}`. An empty one is null.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_at(text, 0)
    }

    /// All contexts and functions that it names.
    pub fn uses(&self) -> &[Use] {
        &self.uses
    }

    /// Reads an expression that begins at that byte of a longer text, by which its spans are counted.
    pub(crate) fn parse_at(text: &str, offset: usize) -> Result<Self, ParseError> {
        let whole = Span {
            start: offset,
            end: offset + text.len(),
        };
        if text.len() > MAX_LENGTH {
            return Err(ParseFault::Length.at(whole));
        }
        if text.bytes().all(|b| b.is_ascii_whitespace()) {
            let root = Kind::Literal(Value::Null).at(whole);
            return Ok(Self { root, uses: vec![] });
        }
        let scanned = scan::scan(text);
        let mut builder = Builder {
            text,
            offset,
            scanned: &scanned,
            uses: vec![],
        };
        builder.check()?;
        let text = with_jobs_of_status(text, &scanned);
        let parsed = Expr::parse(&text).map_err(|error| match error {
            github_actions_expressions::Error::Syntax(error) => {
                let next = text.get(error.offset..).and_then(|at| at.chars().next());
                let end = error.offset + next.map_or(0, char::len_utf8);
                let message = match next {
                    Some('"') => "texts stand in single quotes",
                    _ => error.message,
                };
                ParseFault::Syntax { message }.at(builder.span(error.offset, end))
            }
            github_actions_expressions::Error::Depth => ParseFault::Depth.at(whole),
            // Names and arguments have been checked.
            github_actions_expressions::Error::Call(_) => {
                let message = "a call in it is wrong";
                ParseFault::Syntax { message }.at(whole)
            }
        })?;
        let root = builder.node(parsed, 1)?;
        let uses = builder.uses;
        Ok(Self { root, uses })
    }

    /// One that calls a function without arguments.
    pub(crate) fn of_call(function: Function, span: Span) -> Self {
        Self {
            root: Kind::Call(function, vec![]).at(span),
            uses: vec![],
        }
    }

    /// Both, one after the other.
    pub(crate) fn and(self, other: Self) -> Self {
        let span = other.root.span;
        Self {
            root: Kind::And(vec![self.root, other.root]).at(span),
            uses: [self.uses, other.uses].concat(),
        }
    }
}

impl ParseFault {
    pub(crate) fn at(self, span: Span) -> ParseError {
        ParseError { fault: self, span }
    }
}

impl Kind {
    fn at(self, span: Span) -> Node {
        Node { kind: self, span }
    }
}

/// The parser takes any number of arguments of `format` only: it reads `format ('job')` for `success('job')`, and
/// everything stays where it is. What is called is told from the text as it was.
fn with_jobs_of_status(text: &str, scanned: &Scanned) -> String {
    const STANDS_FOR_ANY: &str = "format ";
    let mut text = text.to_owned();
    for call in &scanned.calls {
        let name = call.name.clone();
        let function = Function::of_name(&text[name.clone()]);
        let is_of_jobs = matches!(function, Some(Function::Success | Function::Failure));
        if is_of_jobs && call.arguments != Some(0) {
            text.replace_range(name, STANDS_FOR_ANY);
        }
    }
    text
}

struct Builder<'a> {
    text: &'a str,
    offset: usize,
    scanned: &'a Scanned,
    uses: Vec<Use>,
}

impl Builder<'_> {
    /// What the parser does not check, or without saying where.
    fn check(&self) -> Result<(), ParseError> {
        if self.scanned.operators > MAX_OPERATORS {
            return Err(ParseFault::Operators.at(self.span(0, self.text.len())));
        }
        if let Some(at) = self.scanned.dangling {
            let message = "a value should be behind the comma";
            return Err(ParseFault::Syntax { message }.at(self.span(at, at + 1)));
        }
        for call in &self.scanned.calls {
            let name = &self.text[call.name.clone()];
            let span = self.span(call.name.start, call.name.end);
            let function = Function::of_name(name).ok_or_else(|| {
                let name = name.to_owned();
                ParseFault::UnknownFunction { name }.at(span)
            })?;
            if let Some(takes) = call.arguments.and_then(|given| function.refuses(given)) {
                return Err(ParseFault::Arguments { function, takes }.at(span));
            }
        }
        Ok(())
    }

    fn node(&mut self, expr: SpannedExpr<'_>, level: usize) -> Result<Node, ParseError> {
        let within = expr.origin.span;
        let span = self.span(within.start, within.end);
        if level > MAX_DEPTH {
            return Err(ParseFault::Depth.at(span));
        }
        let kind = match expr.inner {
            Expr::Literal(literal) => Kind::Literal(match literal {
                Literal::Null => Value::Null,
                Literal::Boolean(bool) => Value::Bool(bool),
                Literal::Number(number) => Value::Number(number),
                Literal::String(text) => Value::from(&*text),
            }),
            Expr::Call(Call { func: _, args }) => {
                let name = self.scanned.call_from(within.start);
                let name = name.map(|call| &self.text[call.name.clone()]);
                let Some(function) = name.and_then(Function::of_name) else {
                    return Err(unexpected(span));
                };
                let arguments = args.len();
                let what = Used::Function {
                    function,
                    arguments,
                };
                self.uses.push(Use { what, span });
                Kind::Call(function, self.nodes(args, level + 1)?)
            }
            Expr::Context(context) => self.path(context.parts, span, level)?,
            Expr::BinExpr(BinExpr { lhs, op, rhs }) => {
                let comparison = match op {
                    BinOp::And => {
                        let operands = row(*lhs, &BinOp::And, *rhs);
                        return Ok(Kind::And(self.nodes(operands, level + 1)?).at(span));
                    }
                    BinOp::Or => {
                        let operands = row(*lhs, &BinOp::Or, *rhs);
                        return Ok(Kind::Or(self.nodes(operands, level + 1)?).at(span));
                    }
                    BinOp::Eq => Comparison::Equal,
                    BinOp::Neq => Comparison::Unequal,
                    BinOp::Lt => Comparison::Less,
                    BinOp::Le => Comparison::LessOrEqual,
                    BinOp::Gt => Comparison::Greater,
                    BinOp::Ge => Comparison::GreaterOrEqual,
                };
                let left = Box::new(self.node(*lhs, level + 1)?);
                let right = Box::new(self.node(*rhs, level + 1)?);
                Kind::Compare(left, comparison, right)
            }
            Expr::UnExpr {
                op: UnOp::Not,
                expr,
            } => Kind::Not(Box::new(self.node(*expr, level + 1)?)),
            Expr::Star | Expr::Identifier(_) | Expr::Index(_) => return Err(unexpected(span)),
        };
        Ok(kind.at(span))
    }

    fn nodes(
        &mut self,
        exprs: Vec<SpannedExpr<'_>>,
        level: usize,
    ) -> Result<Vec<Node>, ParseError> {
        exprs
            .into_iter()
            .map(|expr| self.node(expr, level))
            .collect()
    }

    /// A name or a value in parentheses, and what is taken of it: each step is a level, the last the outermost.
    fn path(
        &mut self,
        parts: Vec<SpannedExpr<'_>>,
        span: Span,
        level: usize,
    ) -> Result<Kind, ParseError> {
        let count = parts.len().saturating_sub(1);
        if level + count > MAX_DEPTH {
            return Err(ParseFault::Depth.at(span));
        }
        let mut parts = parts.into_iter();
        let head = parts.next().ok_or_else(|| unexpected(span))?;
        let mut place = None;
        let head = match &head.inner {
            Expr::Identifier(name) => {
                let name: Arc<str> = name.as_str().to_ascii_lowercase().into();
                let at = self.span(head.origin.span.start, head.origin.span.end);
                place = Some(self.uses.len());
                self.uses.push(Use {
                    what: Used::Context {
                        name: name.clone(),
                        keys: vec![],
                    },
                    span,
                });
                Kind::Context(name).at(at)
            }
            _ => self.node(head, level + count)?,
        };
        let mut steps = Vec::with_capacity(count);
        let mut written = Vec::new();
        let mut is_written = true;
        for (n, part) in parts.enumerate() {
            let (step, key) = self.step(part, level + count - n)?;
            match key {
                Some(key) if is_written => written.push(key),
                _ => is_written = false,
            }
            steps.push(step);
        }
        if let Some(place) = place
            && let Used::Context { keys, .. } = &mut self.uses[place].what
        {
            *keys = written;
        }
        Ok(match steps.is_empty() {
            true => head.kind,
            false => Kind::Path(Box::new(head), steps),
        })
    }

    /// A step, and the key in it as it is spelled.
    fn step(
        &mut self,
        part: SpannedExpr<'_>,
        level: usize,
    ) -> Result<(Step, Option<Arc<str>>), ParseError> {
        let key = |name: &str| {
            let step = Step::Key(fold::folded(name).into(), number::of_text(name));
            (step, Some(name.into()))
        };
        let span = self.span(part.origin.span.start, part.origin.span.end);
        Ok(match part.inner {
            Expr::Identifier(name) => key(name.as_str()),
            Expr::Star => (Step::All, None),
            Expr::Index(index) => match index.inner {
                Expr::Star => (Step::All, None),
                Expr::Literal(Literal::String(name)) => key(&name),
                _ => (Step::Index(self.node(*index, level)?), None),
            },
            _ => return Err(unexpected(span)),
        })
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span {
            start: self.offset + start,
            end: self.offset + end,
        }
    }
}

/// What stands in a row with one operator, from left to right.
fn row<'a>(left: SpannedExpr<'a>, op: &BinOp, right: SpannedExpr<'a>) -> Vec<SpannedExpr<'a>> {
    let mut operands = vec![right];
    let mut left = left;
    loop {
        match left {
            SpannedExpr {
                inner: Expr::BinExpr(BinExpr { lhs, op: same, rhs }),
                ..
            } if same == *op => {
                operands.push(*rhs);
                left = *lhs;
            }
            first => {
                operands.push(first);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// The parser gives no such tree.
fn unexpected(span: Span) -> ParseError {
    let message = "this cannot stand here";
    ParseFault::Syntax { message }.at(span)
}
