//! What an expression names, for whoever checks what a key allows.

use havre_expressions::{Condition, Expression, Template, Use, Used};

/// `what: where`, a line each.
fn told<'a>(text: &str, uses: impl IntoIterator<Item = &'a Use>) -> Vec<String> {
    uses.into_iter()
        .map(|Use { what, span }| {
            let place = &text[span.start..span.end];
            match what {
                Used::Context { name, keys } => format!("{name}/{}: {place}", keys.join("/")),
                Used::Function {
                    function,
                    arguments,
                } => format!("{function}/{arguments}: {place}"),
            }
        })
        .collect()
}

#[test]
fn contexts_and_functions_are_told_with_their_places() {
    let text = "false && GitHub.event['Pull Request'].*.x == toJSON(needs[matrix.n].result) || fromJSON('[]')[env.I]";
    let expression = Expression::parse(text).unwrap();
    assert_eq!(
        told(text, expression.uses()),
        [
            "github/event/Pull Request: GitHub.event['Pull Request'].*.x",
            "toJSON/1: toJSON(needs[matrix.n].result)",
            "needs/: needs[matrix.n].result",
            "matrix/n: matrix.n",
            "fromJSON/1: fromJSON('[]')",
            "env/I: env.I",
        ]
    );
}

#[test]
fn status_functions_tell_of_how_many_jobs() {
    let text = "success('a', needs.b) && failure() && (case(true, 1, format('x')))";
    let expression = Expression::parse(text).unwrap();
    assert_eq!(
        told(text, expression.uses()),
        [
            "success/2: success('a', needs.b)",
            "needs/b: needs.b",
            "failure/0: failure()",
            "case/3: (case(true, 1, format('x')))",
            "format/1: format('x')",
        ]
    );
}

#[test]
fn places_are_of_the_whole_text() {
    let text = "é: ${{ env.A }} and ${{ hashFiles('x', secrets.B) }}";
    let template = Template::parse(text).unwrap();
    let expected = [
        "env/A: env.A",
        "hashFiles/2: hashFiles('x', secrets.B)",
        "secrets/B: secrets.B",
    ];
    assert_eq!(told(text, template.uses()), expected);
    assert_eq!(template.literal(), None);
    assert_eq!(Template::parse("é").unwrap().literal(), Some("é"));
}

#[test]
fn an_implied_success_is_not_told() {
    for text in ["", "\n ${{ env.A }}", "env.A"] {
        let condition = Condition::parse(text).unwrap();
        let expected: &[&str] = if text.is_empty() {
            &[]
        } else {
            &["env/A: env.A"]
        };
        assert_eq!(told(text, condition.uses()), expected);
    }
}
