//! Expressions: where they stand in a text, what they use, and whether they can be read.
//!
//! The one place that knows the parser.

use github_actions_expressions::call::{Call, Function};
use github_actions_expressions::{Error, Expr, SpannedExpr, literal::Literal, op::BinExpr};

/// Longest expression in bytes, as at GitHub.
const MAX_BYTES: usize = 21_000;
/// Most operators: they nest to the left without end.
const MAX_OPERATORS: usize = 1_000;

/// What an expression uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Contexts, in the order of the text.
    pub contexts: Vec<ContextUse>,
    /// Functions, in the order of the text.
    pub functions: Vec<FunctionUse>,
}

/// A context, and what is taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextUse {
    /// In small letters, e.g. `needs`.
    pub context: String,
    /// The names behind it as far as they are written out, e.g. `build`, `outputs`, `tag`.
    pub path: Vec<String>,
    /// Byte of the expression's text where it begins.
    pub at: usize,
}

/// A call of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionUse {
    /// As [`super::schema::FUNCTIONS`] spells it.
    pub function: &'static str,
    /// How many arguments it is given.
    pub arguments: usize,
    /// Byte of the expression's text where it begins.
    pub at: usize,
}

/// Why an expression cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub message: String,
    /// Byte of the expression's text.
    pub at: usize,
}

/// Reads an expression (without `${{ }}`).
pub(crate) fn parse(text: &str) -> Result<Uses, Wrong> {
    let wrong = |message: &str, at| {
        Err(Wrong {
            message: message.to_owned(),
            at,
        })
    };
    if text.len() > MAX_BYTES {
        let message = format!("the expression is longer than {MAX_BYTES} bytes");
        return wrong(&message, 0);
    }
    let operators = text.bytes().filter(|b| b"|&=<>!".contains(b)).count();
    if operators > 2 * MAX_OPERATORS {
        let message = format!("the expression has more than {MAX_OPERATORS} operators");
        return wrong(&message, 0);
    }
    if text.trim().is_empty() {
        return wrong("an expression is expected", 0);
    }
    let (plain, arguments) = without_job_names(text);
    let mut uses = Uses::default();
    collect(&plain, 0, &mut uses)?;
    for argument in arguments {
        if let Some(function) = uses
            .functions
            .iter_mut()
            .find(|f| f.at == argument.function)
        {
            function.arguments += 1;
        }
        collect(&text[argument.from..argument.to], argument.from, &mut uses)?;
    }
    uses.contexts.sort_by_key(|used| used.at);
    uses.functions.sort_by_key(|used| used.at);
    Ok(uses)
}

/// An argument of `success()` or `failure()`.
struct Argument {
    /// Where the call begins.
    function: usize,
    from: usize,
    to: usize,
}

/// The text with blanks for what stands in `success(…)` and `failure(…)`, since the parser takes
/// them without arguments only; conditions of jobs name jobs there.
fn without_job_names(text: &str) -> (String, Vec<Argument>) {
    let bytes = text.as_bytes();
    let mut plain = text.to_owned();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\'' {
            at = after_quote(bytes, at);
            continue;
        }
        let begins = at == 0 || !is_name(bytes[at - 1]);
        let open = begins.then(|| status_call(text, at)).flatten();
        let Some(open) = open else {
            at += 1;
            continue;
        };
        let Some((close, commas)) = closing(bytes, open) else {
            break;
        };
        let inside = &text[open + 1..close];
        if !inside.trim().is_empty() {
            let mut from = open + 1;
            for to in commas.into_iter().chain([close]) {
                found.push(Argument {
                    function: at,
                    from,
                    to,
                });
                from = to + 1;
            }
            plain.replace_range(open + 1..close, &" ".repeat(close - open - 1));
        }
        at = close + 1;
    }
    (plain, found)
}

/// Where the parenthesis of a call that begins here is, if it is one of them.
fn status_call(text: &str, at: usize) -> Option<usize> {
    let name = "success".len();
    let word = text.get(at..at + name)?;
    let is_status = word.eq_ignore_ascii_case("success") || word.eq_ignore_ascii_case("failure");
    let rest = text[at..].get(name..).filter(|_| is_status)?;
    let blanks = rest.len() - rest.trim_start().len();
    rest[blanks..]
        .starts_with('(')
        .then_some(at + name + blanks)
}

fn closing(bytes: &[u8], open: usize) -> Option<(usize, Vec<usize>)> {
    let (mut depth, mut at, mut commas) = (0_usize, open, Vec::new());
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => {
                at = after_quote(bytes, at);
                continue;
            }
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b',' if depth == 1 => commas.push(at),
            _ => {}
        }
        if depth == 0 {
            return Some((at, commas));
        }
        at += 1;
    }
    None
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Behind the quote that closes the one at `at`; a doubled one is text.
fn after_quote(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while at < bytes.len() {
        if bytes[at] == b'\'' {
            if bytes.get(at + 1) != Some(&b'\'') {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    at
}

/// What `text`, which stands `offset` bytes into the expression, uses.
fn collect(text: &str, offset: usize, uses: &mut Uses) -> Result<(), Wrong> {
    let expression = Expr::parse(text).map_err(|error| wrong(text, offset, &error))?;
    let mut pending: Vec<&SpannedExpr<'_>> = vec![&expression];
    while let Some(spanned) = pending.pop() {
        let at = spanned.origin.span.start + offset;
        match &spanned.inner {
            Expr::Literal(_) | Expr::Star => {}
            Expr::Identifier(name) => uses.contexts.push(ContextUse {
                context: name.as_str().to_ascii_lowercase(),
                path: Vec::new(),
                at,
            }),
            Expr::Call(Call { func, args }) => {
                uses.functions.push(FunctionUse {
                    function: spelled(*func),
                    arguments: args.len(),
                    at,
                });
                pending.extend(args);
            }
            Expr::Index(inner) => pending.push(inner),
            Expr::Context(context) => {
                let mut parts = context.parts.iter();
                let Some(head) = parts.next() else { continue };
                match &head.inner {
                    Expr::Identifier(name) => uses.contexts.push(ContextUse {
                        context: name.as_str().to_ascii_lowercase(),
                        path: parts.clone().map_while(step).collect(),
                        at,
                    }),
                    _ => pending.push(head),
                }
                pending.extend(parts.filter(|part| matches!(part.inner, Expr::Index(_))));
            }
            Expr::BinExpr(BinExpr { lhs, rhs, .. }) => pending.extend([&**lhs, &**rhs]),
            Expr::UnExpr { expr, .. } => pending.push(expr),
        }
    }
    Ok(())
}

/// A name behind a context, where it is written out.
fn step(part: &SpannedExpr<'_>) -> Option<String> {
    match &part.inner {
        Expr::Identifier(name) => Some(name.as_str().to_owned()),
        Expr::Index(index) => match &index.inner {
            Expr::Literal(Literal::String(text)) => Some(text.to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn spelled(function: Function) -> &'static str {
    match function {
        Function::Contains => "contains",
        Function::StartsWith => "startsWith",
        Function::EndsWith => "endsWith",
        Function::Format => "format",
        Function::Join => "join",
        Function::ToJSON => "toJSON",
        Function::FromJSON => "fromJSON",
        Function::HashFiles => "hashFiles",
        Function::Case => "case",
        Function::Success => "success",
        Function::Always => "always",
        Function::Cancelled => "cancelled",
        Function::Failure => "failure",
    }
}

fn wrong(text: &str, offset: usize, error: &Error) -> Wrong {
    use github_actions_expressions::call;

    let place = |name: &str| {
        let lower = text.to_ascii_lowercase();
        lower.find(&name.to_ascii_lowercase()).unwrap_or_default()
    };
    let (message, at) = match error {
        Error::Syntax(error) => (
            format!("the expression cannot be read: {}", error.message),
            error.offset.min(text.len()),
        ),
        Error::Depth => ("the expression is nested too deeply".to_owned(), 0),
        Error::Call(call::Error::UnknownFunction(name)) => {
            (format!("there is no function `{name}`"), place(name))
        }
        Error::Call(call::Error::Arity(function, expected)) => {
            let name = spelled(*function);
            (format!("`{name}` takes {expected}"), place(name))
        }
    };
    Wrong {
        message,
        at: at + offset,
    }
}

/// A piece of a text with expressions in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    /// What stands between `${{` and `}}`, and the byte where that begins.
    Expression(&'t str, usize),
    /// `${{` without its end, and the byte where it stands.
    Unclosed(usize),
}

/// Takes a text apart; quotes inside of an expression may hold `}}`.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find("${{").map(|open| at + open) {
        if open > at {
            found.push(Piece::Text(&text[at..open]));
        }
        let from = open + "${{".len();
        let Some(to) = end(text.as_bytes(), from) else {
            found.push(Piece::Unclosed(open));
            return found;
        };
        found.push(Piece::Expression(&text[from..to], from));
        at = to + "}}".len();
    }
    if at < text.len() {
        found.push(Piece::Text(&text[at..]));
    }
    found
}

/// Where the `}}` is that ends an expression.
fn end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => at = after_quote(bytes, at),
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match parse(text) {
            Ok(uses) => {
                let contexts = uses.contexts.iter().map(|used| {
                    let path: String = used.path.iter().map(|name| format!(".{name}")).collect();
                    format!("{}{path}@{}", used.context, used.at)
                });
                let functions = uses
                    .functions
                    .iter()
                    .map(|used| format!("{}({})@{}", used.function, used.arguments, used.at));
                contexts.chain(functions).collect::<Vec<_>>().join(" ")
            }
            Err(wrong) => format!("{} @{}", wrong.message, wrong.at),
        }
    }

    #[test]
    fn what_an_expression_uses() {
        assert_eq!(
            check(" needs.a.outputs['b'][0].c == github "),
            "needs.a.outputs.b@1 github@30"
        );
        assert_eq!(
            check("Matrix[env.x].y && fromJson(vars.a)[secrets.b]"),
            "matrix@0 env.x@7 vars.a@28 secrets.b@36 fromJSON(1)@19"
        );
        assert_eq!(
            check("success('a', needs.b) || failure ( ) || always()"),
            "needs.b@13 success(2)@0 failure(0)@25 always(0)@40"
        );
        assert_eq!(check("'success(1)'"), "");
        assert_eq!(check("case(true, 1, 2)"), "case(3)@0");
        assert_eq!(check("NaN"), "");
    }

    #[test]
    fn what_cannot_be_read() {
        assert_eq!(check("  "), "an expression is expected @0");
        assert_eq!(check("a && nope()"), "there is no function `nope` @5");
        assert_eq!(
            check("case(true, 1)"),
            "`case` takes at least 3 arguments @0"
        );
        assert!(check("\"x\"").contains("cannot be read"));
        assert!(check(&"(".repeat(60)).contains("nested too deeply"));
        assert!(check(&"a||".repeat(6_000)).contains("operators"));
        assert!(check(&" ".repeat(30_000)).contains("longer"));
        check(&format!("{}a", "a||".repeat(900)));
        check("success(");
        check("success('a");
    }

    #[test]
    fn texts_are_taken_apart() {
        use Piece::{Expression, Text, Unclosed};
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
