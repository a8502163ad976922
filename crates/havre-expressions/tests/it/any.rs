//! Any text and any value: nothing panics, and what is read alike comes out alike.

use havre_expressions::{Answers, Condition, Contexts, Expression, Object, Template, Value};
use proptest::prelude::*;

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ -~]{0,6}",
        "\\PC{0,4}",
        Just("true".to_owned()),
        "-?[0-9.eExo]{1,5}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_map(Value::Number),
        (-5..9i8).prop_map(|n| Value::Number(f64::from(n))),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-cA-C]{1,2}", inner), 0..4)
                .prop_map(|entries| entries.into_iter().collect::<Object>().into()),
        ]
    })
}

/// Expressions that are mostly well formed, of contexts `a` and `b`.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("B".to_owned()),
        Just("null".to_owned()),
        Just("false".to_owned()),
        Just("success()".to_owned()),
        "-?[0-9]{1,3}",
        "'[ -&(-~é]{0,5}'",
        Just("'{0}{1}'".to_owned()),
        Just("'[1, {\"a\": \"b\"}]'".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        let operator = prop::sample::select(vec!["&&", "||", "==", "!=", "<", ">", "<=", ">="]);
        let function = prop::sample::select(vec![
            "contains",
            "startsWith",
            "endsWith",
            "format",
            "join",
            "case",
            "hashFiles",
            "toJSON",
        ]);
        prop_oneof![
            (two.clone(), operator).prop_map(|((l, r), operator)| format!("{l} {operator} {r}")),
            inner.clone().prop_map(|one| format!("!({one})")),
            inner
                .clone()
                .prop_map(|one| format!("fromJSON(toJSON({one}))")),
            inner.clone().prop_map(|one| format!("({one}).*")),
            two.clone().prop_map(|(l, r)| format!("({l})[{r}]")),
            (prop::collection::vec(inner, 0..4), function)
                .prop_map(|(given, function)| format!("{function}({})", given.join(", "))),
        ]
    })
}

fn answers(a: Value, b: Value) -> Contexts {
    let mut contexts = Contexts::default();
    contexts.set("a", a);
    contexts.set("b", b);
    contexts
}

/// Whatever comes of it. Every place is one of the text.
fn try_all(text: &str, answers: &dyn Answers) -> Option<Value> {
    if let Ok(template) = Template::parse(text) {
        for one in template.uses() {
            assert!(text.get(one.span.start..one.span.end).is_some());
        }
        if let Err(error) = template.evaluate(answers) {
            assert!(text.get(error.span.start..error.span.end).is_some());
        }
    }
    if let Err(error) = Condition::parse(text).map(|condition| condition.evaluate(answers)) {
        assert!(text.get(error.span.start..error.span.end).is_some());
    }
    match Expression::parse(text) {
        Ok(expression) => expression.evaluate(answers).ok(),
        Err(error) => {
            assert!(text.get(error.span.start..error.span.end).is_some());
            None
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}", a in values()) {
        try_all(&text, &answers(a.clone(), a));
    }

    #[test]
    fn no_tokens_panic(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "a", "B.", "(", ")", "[", "]", ",", ".*", "*", "!", "==", "&&", "||", "<", "=", "'", "''", "'x'", "1",
                "-.5", "0x", "NaN", " ", "${{", "}}", "success", "success(", "format(", "case(", "f(", "é", "&", "\n",
            ]),
            0..30,
        ),
        a in values(),
    ) {
        try_all(&tokens.concat(), &answers(a.clone(), a));
    }

    #[test]
    fn no_expression_panics(text in expressions(), a in values(), b in values()) {
        let answers = answers(a, b);
        let value = try_all(&text, &answers);
        // In a text of its own, it is the same.
        if let (Some(value), Ok(template)) = (value, Template::parse(&format!("${{{{ {text} }}}}"))) {
            let whole = template.evaluate(&answers).expect("it has a value");
            prop_assert_eq!(format!("{whole:?}"), format!("{value:?}"));
        }
    }

    #[test]
    fn json_is_read_as_it_was_written(value in values()) {
        let answers = answers(value, Value::Null);
        let once = try_all("toJSON(a)", &answers).expect("it can be written");
        let again = try_all("toJSON(fromJSON(toJSON(a)))", &answers);
        prop_assert_eq!(Some(once), again);
    }

    #[test]
    fn no_json_panics(text in "[\\[\\]{},:\"\\\\u0-9a-f.eE \\-+é]{0,40}") {
        if let Ok(value) = Value::from_json(&text) {
            prop_assert!(!value.to_text().is_empty() || matches!(value, Value::Null | Value::String(_)));
        }
    }

    #[test]
    fn comparing_is_consistent(a in values(), b in values()) {
        let answers = answers(a, b);
        let is = |text| try_all(text, &answers).expect("it has a value").is_truthy();
        prop_assert_eq!(is("a == b"), is("b == a"));
        prop_assert_eq!(is("a != b"), !is("a == b"));
        prop_assert_eq!(is("a < b"), is("b > a"));
        prop_assert_eq!(is("a <= b"), is("a < b") || is("a == b"));
        prop_assert_eq!(is("a >= b"), is("a > b") || is("a == b"));
    }
}
