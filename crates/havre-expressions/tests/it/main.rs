//! Expressions as whoever reads and runs workflows has them.

#![allow(clippy::disallowed_macros, reason = "its output is for a person")]

mod any;
mod bounds;
mod given;
mod suite;
mod uses;
mod values;

/// How many cases the crate of the parser ships, so that none is overlooked.
const CASES: usize = 1020;

#[test]
fn the_cases_of_github_come_out_as_they_should() {
    let Some(outcome) = suite::run() else {
        println!("skipped: needs the sources of github-actions-expressions, which cargo fetches");
        return;
    };
    assert_eq!(outcome.cases, CASES);
    for listed in &outcome.listed {
        println!("otherwise: {listed}");
    }
    assert!(outcome.listed.len() <= 5);
    assert!(outcome.faults.is_empty(), "{:#?}", outcome.faults);
}
