//! Hostile expressions: refused, within bounds of time and memory, and without a word of what they were given.

use std::time::{Duration, Instant};

use havre_expressions::{Expression, MAX_DEPTH, MAX_LENGTH, MAX_OPERATORS, ParseFault, Template};

use crate::given::Given;

/// Much more than any of these takes, also on a slow machine without optimization.
const SOON: Duration = Duration::from_secs(30);

fn fault(text: &str) -> Option<ParseFault> {
    Expression::parse(text).err().map(|error| error.fault)
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    let nested =
        |open: &str, close: &str, depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    for (open, close) in [
        ("(", ")"),
        ("!", ""),
        ("toJSON(", ")"),
        ("a[", "]"),
        ("1==(", ")"),
        ("case(a,", ",1)"),
    ] {
        for depth in [MAX_DEPTH + 1, MAX_LENGTH / (open.len() + close.len() + 1)] {
            let text = nested(open, close, depth);
            let found = fault(&text);
            let refused = [Some(ParseFault::Depth), Some(ParseFault::Operators)];
            assert!(refused.contains(&found), "{open} {depth}: {found:?}");
        }
        // Never closed.
        assert!(fault(&open.repeat(MAX_LENGTH / open.len())).is_some());
    }
    for step in [".a", ".*", "[1]"] {
        assert_eq!(fault(&format!("a{}", step.repeat(MAX_DEPTH - 1))), None);
        for steps in [MAX_DEPTH, MAX_LENGTH / step.len() - 1] {
            let found = fault(&format!("a{}", step.repeat(steps)));
            assert_eq!(found, Some(ParseFault::Depth), "{step} {steps}");
        }
    }
}

#[test]
fn rows_of_operators_are_bounded() {
    for operator in ["&&", "||", "==", "!=", "<", ">", "<=", ">="] {
        let row = |operators: usize| format!("a{}", format!("{operator}a").repeat(operators));
        assert_eq!(
            fault(&row(MAX_OPERATORS + 1)),
            Some(ParseFault::Operators),
            "{operator}"
        );
        let longest = fault(&row(MAX_OPERATORS));
        let is_flat = matches!(operator, "&&" | "||");
        assert_eq!(
            longest,
            (!is_flat).then_some(ParseFault::Depth),
            "{operator}"
        );
        // What the parser has read is freed.
        assert!(fault(&format!("{} )", row(MAX_OPERATORS))).is_some());
    }
    assert_eq!(fault(&" ".repeat(MAX_LENGTH + 1)), Some(ParseFault::Length));
    assert_eq!(fault(&format!("{}1", " ".repeat(MAX_LENGTH - 1))), None);
}

/// What is made of a megabyte by each function again and again is refused.
#[test]
fn results_are_bounded() {
    let long = "x".repeat(1 << 20);
    let list = vec!["1"; 1 << 18].join(",");
    let given = Given::default()
        .context("long", &format!("\"{long}\""))
        .context("list", &format!("[{list}]"))
        .context(
            "lists",
            &format!("[{}]", vec!["[1,2,3,4,5,6,7,8]"; 1 << 16].join(",")),
        )
        .context("tree", r#"[[[["\u0001"]]]]"#);
    let begun = Instant::now();
    for text in [
        format!("format('{}', long)", "{0}".repeat(11)),
        format!("format('{}', toJSON(list))", "{0}".repeat(11)),
        "join(list, long)".to_owned(),
        ["toJSON(list)"; 8].join(" && "),
        "fromJSON(format('[{0}]', join(list)))".to_owned(),
        "join(fromJSON(format('[\"{0}\"]', join(list, '\",\"'))), long)".to_owned(),
        "lists.*.* && lists.*.*".to_owned(),
        "fromJSON(format('\"{0}\"', join(list, '\\u0001\\u0001\\u0001')))".to_owned(),
        format!("success({})", ["toJSON(long)"; 11].join(", ")),
    ] {
        let error = given.value(&text).map(|_| ()).expect_err(&text);
        assert!(error.contains("makes more than 10 MiB"), "{text}: {error}");
    }
    assert!(given.value("toJSON(tree)").is_ok());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Looking through what is there makes nothing, and is bounded too.
#[test]
fn work_is_bounded() {
    let long = "x".repeat(1 << 20);
    let given = Given::default()
        .context("a", &format!("\"{long}\""))
        .context("list", &format!("[{}]", vec!["0"; 1 << 19].join(",")));
    let begun = Instant::now();
    for one in [
        "a==a",
        "contains(a,'xy')",
        "startsWith(a,a)",
        "contains(list,1)",
        "a<1",
    ] {
        // Each of them is evaluated.
        let text = vec![format!("({one})!=2"); 300].join("&&");
        let error = given.value(&text).expect_err(one);
        assert!(error.contains("looks through too much"), "{one}: {error}");
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// A text with many expressions may use up as much as one.
#[test]
fn a_text_is_bounded_as_a_whole() {
    let given = Given::default().context("a", &format!("\"{}\"", "x".repeat(1 << 20)));
    assert!(given.template(&"${{ a }} ".repeat(10)).is_ok());
    let error = given
        .template(&"${{ a }} ".repeat(11))
        .expect_err("too much");
    assert_eq!(error, "the expression makes more than 10 MiB (${{ a }})");
    assert!(Template::parse(&"${{".repeat(100_000)).is_err());
}
