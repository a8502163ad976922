//! Why jobs of a run run or do not.

use havre_pipeline::run::{Definition, Event, LegResult, begin, step, why};
use havre_pipeline::{Known, Object};

use crate::workflow;

#[test]
fn each_job_says_why_it_is_as_it_is() {
    let workflow = workflow(
        "on: push\njobs:\n\
         \x20 lint: {runs-on: x, steps: [{run: x}]}\n\
         \x20 test: {runs-on: x, steps: [{run: x}]}\n\
         \x20 pack: {needs: test, runs-on: x, steps: [{run: x}]}\n\
         \x20 tell: {needs: [test, lint], if: failure(), runs-on: x, steps: [{run: x}]}\n\
         \x20 deploy: {needs: pack, runs-on: x, steps: [{run: x}]}\n\
         \x20 live: {if: \"github.ref == 'refs/heads/main' && inputs.level != 'a'\", runs-on: x, steps: [{run: x}]}\n\
         \x20 last: {needs: lint, runs-on: x, steps: [{run: x}]}\n",
    );
    let mut known = Known::default();
    let mut github = Object::default();
    github.insert("ref", "refs/heads/work");
    let mut inputs = Object::default();
    inputs.insert("level", "private");
    for (name, value) in [
        ("github", github),
        ("inputs", inputs),
        ("vars", Object::default()),
    ] {
        known.whole(name, value);
    }
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (mut run, _) = begin(&of, 0);
    let said = |run: &_, id: &str| why(run, &of, id).unwrap_or_default();
    assert_eq!(said(&run, "pack"), "it waits for `test`");
    for (job, result) in [("test", LegResult::Failure), ("lint", LegResult::Success)] {
        let leg = run.legs().find(|(id, _)| id.job == job).map(|(id, _)| id);
        let leg = leg.expect("it is there");
        for event in [
            Event::Started(leg.clone()),
            Event::Finished {
                leg: leg.clone(),
                result,
                outputs: Vec::new(),
            },
        ] {
            run = step(run, &of, 0, event).0;
        }
    }
    for (job, expected) in [
        ("lint", "nothing comes before it"),
        ("pack", "`test` was a failure"),
        ("tell", "its `if` holds: `failure()`"),
        ("deploy", "`pack` was skipped"),
        (
            "live",
            "its `if` does not hold: `github.ref == 'refs/heads/main' && inputs.level != 'a'` (github.ref is 'refs/heads/work')",
        ),
        ("last", "`lint` before it succeeded"),
        ("nobody", ""),
    ] {
        assert_eq!(said(&run, job), expected, "{job}");
    }
}
