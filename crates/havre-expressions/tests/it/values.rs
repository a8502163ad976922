//! What expressions, texts and conditions come to, beyond GitHub's cases.

use havre_expressions::{Status, Value};

use crate::given::Given;

#[track_caller]
fn check(given: &Given, cases: &[(&str, Result<Value, &str>)]) {
    for (text, expected) in cases {
        let found = given.value(text);
        assert_eq!(found, expected.clone().map_err(str::to_owned), "{text}");
    }
}

#[test]
fn what_a_filter_gives_passes_on_what_is_taken_of_it() {
    let given = Given::default().context(
        "steps",
        r#"{"a": {"outputs": {"v": ["x"]}}, "b": {"outputs": {}}, "c": 1, "d": {"Outputs": {"V": ["y", "z"]}}}"#,
    );
    let list = |items: &[&str]| {
        Ok(items
            .iter()
            .map(|i| Value::from(*i))
            .collect::<Vec<_>>()
            .into())
    };
    check(
        &given,
        &[
            ("steps.*.outputs.v[0]", list(&["x", "y"])),
            ("(steps.*).outputs.v[1]", list(&["z"])),
            ("steps.*.outputs.v.*", list(&["x", "y", "z"])),
            ("(steps.none || steps.*).outputs.v[0]", list(&["x", "y"])),
            ("case(true, steps.*, 1).outputs.v[0]", list(&["x", "y"])),
            ("join(steps.*.outputs.v.*, '')", Ok("xyz".into())),
            // Not what `.*` gave any more.
            ("fromJSON(toJSON(steps.*)).outputs", Ok(Value::Null)),
            ("steps.c.*", list(&[])),
            ("steps.d.outputs.v['1']", Ok("z".into())),
            ("steps.d.outputs.v[-1]", Ok(Value::Null)),
            ("steps.d.outputs.v[1.9]", Ok("z".into())),
            ("steps.d.outputs.v[steps]", Ok(Value::Null)),
        ],
    );
}

#[test]
fn lists_and_objects_equal_themselves_only() {
    let given = Given::default().context("a", r#"{"l": [1], "o": {}}"#);
    check(
        &given,
        &[
            ("a.l == a.l", Ok(true.into())),
            ("a.o == a.o", Ok(true.into())),
            ("a.l == fromJSON('[1]')", Ok(false.into())),
            ("a.l == a.o", Ok(false.into())),
            ("a.l == 'Array'", Ok(false.into())),
            ("a.l >= a.l", Ok(true.into())),
            ("a.l > a.l", Ok(false.into())),
        ],
    );
}

#[test]
fn only_what_decides_is_evaluated() {
    let given = Given::default().context("a", "{}");
    check(
        &given,
        &[
            ("false && nowhere.x", Ok(false.into())),
            ("true || nowhere.x", Ok(true.into())),
            ("case(true, 1, nowhere.x, 2, 3)", Ok(1.0.into())),
            ("a.b && nowhere || 'c'", Ok("c".into())),
            (
                "nowhere.x",
                Err("there is no context `nowhere` here (nowhere)"),
            ),
        ],
    );
}

#[test]
fn formats_are_filled_in() {
    check(
        &Given::default(),
        &[
            ("format('{{{0}}} {1}{0}', 'a', 2.5)", Ok("{a} 2.5a".into())),
            ("format('é{0}ü', true)", Ok("étrueü".into())),
            ("format(1)", Ok("1".into())),
            (
                "format('a}')",
                Err(
                    "the text of `format` is wrong at byte 1: a single `}` (write `}}`) (format('a}'))",
                ),
            ),
            (
                "format('{0', 1)",
                Err(
                    "the text of `format` is wrong at byte 0: a `{` without its `}` (write `{{` for a brace) (format('{0', 1))",
                ),
            ),
            (
                "format('{1}', 1)",
                Err(
                    "the text of `format` is wrong at byte 0: there is no argument of that number (format('{1}', 1))",
                ),
            ),
            (
                "format('{0:x}', 1)",
                Err(
                    "the text of `format` is wrong at byte 0: between `{` and `}` is no number (write `{{` for a brace) (format('{0:x}', 1))",
                ),
            ),
        ],
    );
}

#[test]
fn errors_point_at_their_part_and_repeat_no_value() {
    let given = Given::default().context("secrets", r#"{"S": "hunter2"}"#);
    check(
        &given,
        &[
            (
                "1 == fromJSON(secrets.S)",
                Err(
                    "`fromJSON` cannot use its argument: it is not JSON at byte 0: a value should be there (fromJSON(secrets.S))",
                ),
            ),
            (
                "case(secrets.S, 1, 2)",
                Err(
                    "a condition of `case` is neither true nor false: compare it with something (secrets.S)",
                ),
            ),
            ("true && hash(1)", Err("there is no function `hash` (hash)")),
            (
                "startsWith('a')",
                Err("`startsWith` takes 2 arguments (startsWith)"),
            ),
            (
                "join(1, format('('), 3)",
                Err("`join` takes 1 or 2 arguments (join)"),
            ),
            ("always(1)", Err("`always` takes no arguments (always)")),
            (
                "join(1,)",
                Err("the expression is not understood: a value should be behind the comma ())"),
            ),
            (
                "a == \"b(1)\"",
                Err("the expression is not understood: texts stand in single quotes (\")"),
            ),
            (
                "a b",
                Err("the expression is not understood: unexpected trailing input (b)"),
            ),
            (
                "é",
                Err("the expression is not understood: unexpected symbol (é)"),
            ),
            (
                "1 +",
                Err("the expression is not understood: invalid numeric literal (+)"),
            ),
            (
                "(1",
                Err("the expression is not understood: expected `)` ()"),
            ),
            (
                "success(",
                Err("the expression is not understood: unexpected end of expression ()"),
            ),
        ],
    );
}

#[test]
fn status_functions_and_files_ask_the_scope() {
    let given = Given::default()
        .status(Status::Success, &[], true)
        .status(Status::Success, &["build", "a, ')b"], false)
        .status(Status::Failure, &["build"], true)
        .status(Status::Cancelled, &[], false)
        .files(&["**/package-lock.json", "!x/**"], "abc")
        .context("needs", r#"{"one": "build"}"#);
    check(
        &given,
        &[
            ("success()", Ok(true.into())),
            ("SUCCESS ( 'build' , 'a, '')b' )", Ok(false.into())),
            (
                "!failure(needs.one) || 'failure(' == 'success('",
                Ok(false.into()),
            ),
            ("((failure('build')))", Ok(true.into())),
            ("cancelled() || always()", Ok(true.into())),
            (
                "format('k-{0}', hashFiles('**/package-lock.json', '!x/**'))",
                Ok("k-abc".into()),
            ),
            (
                "hashFiles('*')",
                Err("`hashFiles` has no answer: the test says nothing of [\"*\"] (hashFiles('*'))"),
            ),
            (
                "failure()",
                Err("`failure` has no answer: the test says nothing of Failure [] (failure())"),
            ),
        ],
    );
}

#[test]
fn a_text_is_filled_in_and_a_whole_expression_keeps_its_kind() {
    let given = Given::default()
        .context("matrix", r#"{"n": 3, "list": [1], "none": null}"#)
        .context("secrets", r#"{"S": "s"}"#);
    let list = given.value("matrix.list");
    for (text, expected) in [
        ("", Ok("".into())),
        ("plain }} $ {{ x", Ok("plain }} $ {{ x".into())),
        ("${{ matrix.n }}", Ok(3.0.into())),
        ("${{ matrix.list }}", list),
        ("${{matrix.none}}", Ok(Value::Null)),
        (" ${{ matrix.n }}", Ok(" 3".into())),
        (
            "${{ matrix.n }}${{ matrix.none }}é${{ matrix.list }}",
            Ok("3éArray".into()),
        ),
        ("a ${{ '${{ }} ''' }}b", Ok("a ${{ }} 'b".into())),
        (
            "é ${{ secrets.S }} ${{ nowhere.x }}",
            Err("there is no context `nowhere` here (nowhere)".to_owned()),
        ),
        (
            "a ${{ 1 == }}",
            Err("the expression is not understood: unexpected end of expression ( )".to_owned()),
        ),
        (
            "a ${{ f() }}",
            Err("there is no function `f` (f)".to_owned()),
        ),
        (
            "a ${{ '}}",
            Err("`${{` is not closed: `}}` is missing (${{)".to_owned()),
        ),
        (
            "a ${{ 1 }",
            Err("`${{` is not closed: `}}` is missing (${{)".to_owned()),
        ),
        (
            "a ${{ }}b",
            Err("`${{ }}` has no expression in it (${{ }})".to_owned()),
        ),
    ] {
        assert_eq!(given.template(text), expected, "{text}");
    }
}

#[test]
fn an_if_implies_success_unless_it_asks_for_a_status() {
    let always_true = |text| {
        Err(format!(
            "an `if` with text outside of `${{{{ }}}}` is always true: put all of it inside ({text})"
        ))
    };
    let given = |succeeded| {
        Given::default()
            .status(Status::Success, &[], succeeded)
            .status(Status::Failure, &[], !succeeded)
            .status(Status::Cancelled, &[], false)
            .context("github", r#"{"ref": "main", "failure": ""}"#)
    };
    for (text, succeeded, failed) in [
        ("", Ok(true), Ok(false)),
        (" ", Ok(true), Ok(false)),
        ("true", Ok(true), Ok(false)),
        ("github.ref == 'main'", Ok(true), Ok(false)),
        ("github.ref == 'x' || true", Ok(true), Ok(false)),
        (
            "github.failure == '' && 'always()' != ''",
            Ok(true),
            Ok(false),
        ),
        ("${{ github.ref }}", Ok(true), Ok(false)),
        ("\n  ${{ github.ref }}\n", Ok(true), Ok(false)),
        ("failure()", Ok(false), Ok(true)),
        (
            "github.ref == 'main' && (false || Always())",
            Ok(true),
            Ok(true),
        ),
        ("!cancelled()", Ok(true), Ok(true)),
        ("${{ success() || failure() }}", Ok(true), Ok(true)),
        ("false", Ok(false), Ok(false)),
        (
            "${{ a }} && b",
            always_true("${{ a }} && b"),
            always_true("${{ a }} && b"),
        ),
        (
            "!${{ a }}",
            always_true("!${{ a }}"),
            always_true("!${{ a }}"),
        ),
    ] {
        assert_eq!(
            given(true).condition(text),
            succeeded,
            "{text} after success"
        );
        assert_eq!(given(false).condition(text), failed, "{text} after failure");
    }
    let nowhere = given(true).condition("  ${{ nowhere }}");
    assert_eq!(
        nowhere,
        Err("there is no context `nowhere` here (nowhere)".to_owned())
    );
}
