//! Expressions of workflows: how many simple ones are evaluated in a second, and how GitHub's own cases come out.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use havre_expressions::{Contexts, Expression, Value as Found};
use serde_json::{Value, json};

use super::figures::{cpu_time, median, mention};

/// The tests' own: one judge for both.
#[path = "../../../havre-expressions/tests/it/suite.rs"]
mod suite;

const RUNS: usize = 5;
const ROUNDS: usize = 200_000;
const BAR_PER_S: f64 = 1e6;
const BAR_DIFFERING: usize = 5;

/// As they stand in workflows, with what they come to.
const SIMPLE: [(&str, &str); 5] = [
    ("github.ref == 'refs/heads/main'", "true"),
    (
        "github.event_name == 'push' && startsWith(github.ref, 'refs/tags/v')",
        "false",
    ),
    ("matrix.node", "24"),
    ("needs.build.outputs.version || 'latest'", "1.2.3"),
    ("always() && needs.build.result != 'skipped'", "true"),
];

pub fn measure() -> Result<Value> {
    let outcome =
        suite::run().context("the sources of github-actions-expressions are not at hand")?;
    let differing = outcome.listed.len() + outcome.faults.len();
    for case in outcome.listed.iter().chain(&outcome.faults) {
        eprintln!("otherwise: {case}");
    }
    ensure!(
        outcome.faults.is_empty(),
        "cases come out otherwise that should not"
    );

    let contexts = contexts()?;
    let expressions = SIMPLE
        .iter()
        .map(|(text, _)| Expression::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    for (expression, (text, expected)) in expressions.iter().zip(SIMPLE) {
        let found = expression.evaluate(&contexts)?;
        ensure!(found.to_text() == expected, "{text} is {found:?}");
    }
    let (mut evaluated, mut read) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = cpu_time();
        for _ in 0..ROUNDS {
            for expression in &expressions {
                black_box(expression.evaluate(black_box(&contexts))?);
            }
        }
        evaluated.push(per_s(ROUNDS, begun));
        let begun = cpu_time();
        for _ in 0..ROUNDS / 10 {
            for (text, _) in SIMPLE {
                black_box(Expression::parse(black_box(text))?);
            }
        }
        read.push(per_s(ROUNDS / 10, begun));
    }
    let speed = median(&evaluated);
    let verdict = |holds| if holds { "held" } else { "missed" };
    eprintln!(
        "simple expressions {:>30.2} M/s   bar ≥ 1 M/s: {}",
        speed / 1e6,
        verdict(speed >= BAR_PER_S)
    );
    eprintln!(
        "of {} cases of GitHub differing {:>10}   bar ≤ {BAR_DIFFERING}: {}",
        outcome.cases,
        differing,
        verdict(differing <= BAR_DIFFERING)
    );
    mention("reading them", median(&read) / 1e6, "M/s");
    Ok(json!({
        "bench": "expressions",
        "per_s": speed.round(),
        "bar_per_s": BAR_PER_S,
        "read_per_s": median(&read).round(),
        "cases": outcome.cases,
        "differing": differing,
        "bar_differing": BAR_DIFFERING,
    }))
}

fn per_s(rounds: usize, begun: std::time::Duration) -> f64 {
    (rounds * SIMPLE.len()) as f64 / (cpu_time() - begun).as_secs_f64()
}

/// As many names as runs have.
fn contexts() -> Result<Contexts> {
    let mut github: Vec<String> = (0..40)
        .map(|n| format!("\"name_{n}\": \"value {n}\""))
        .collect();
    github.push(r#""ref": "refs/heads/main", "event_name": "push""#.to_owned());
    let mut contexts = Contexts::default();
    for (name, json) in [
        ("env", r#"{"CI": "true"}"#),
        ("github", &format!("{{{}}}", github.join(", "))),
        ("matrix", r#"{"os": "linux", "node": 24}"#),
        (
            "needs",
            r#"{"build": {"result": "success", "outputs": {"version": "1.2.3"}}}"#,
        ),
    ] {
        let value = Found::from_json(json).with_context(|| format!("{name} is no JSON"))?;
        contexts.set(name, value);
    }
    Ok(contexts)
}
