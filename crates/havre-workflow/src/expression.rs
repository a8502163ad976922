//! What expressions use, and whether they can be read.

use havre_expressions::{Expression, Used};

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
    if text.trim().is_empty() {
        let message = "an expression is expected".to_owned();
        return Err(Wrong { message, at: 0 });
    }
    let expression = Expression::parse(text).map_err(|error| Wrong {
        message: error.fault.to_string(),
        at: error.span.start,
    })?;
    let mut uses = Uses::default();
    for used in expression.uses() {
        let at = used.span.start;
        match &used.what {
            Used::Context { name, keys } => uses.contexts.push(ContextUse {
                context: name.to_string(),
                path: keys.iter().map(ToString::to_string).collect(),
                at,
            }),
            Used::Function {
                function,
                arguments,
            } => uses.functions.push(FunctionUse {
                function: function.name(),
                arguments: *arguments,
                at,
            }),
        }
    }
    uses.contexts.sort_by_key(|used| used.at);
    uses.functions.sort_by_key(|used| used.at);
    Ok(uses)
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
            "`case` takes pairs of condition and value, and a value for otherwise @0"
        );
        assert!(check("\"x\"").contains("is not understood"));
        assert!(check(&"(".repeat(60)).contains("nested more than"));
        assert!(check(&"a||".repeat(6_000)).contains("operators"));
        assert!(check(&"x".repeat(30_000)).contains("bytes"));
        check(&format!("{}a", "a||".repeat(900)));
        check("success(");
        check("success('a");
    }
}
