//! What goes into a workflow that is called, and what comes out.

use havre_pipeline::run::{Definition, Event, LegResult, begin, step};
use havre_pipeline::{Answer, Known, Object, Value, call};
use havre_workflow::{Interface, Work, Workflow};

use crate::workflow;

const CALLED: &str = "\
on:
  workflow_call:
    inputs:
      name: {type: string, required: true}
      deep: {type: boolean}
      count: {type: number, default: 2}
    outputs:
      tag: {value: '${{ jobs.a.outputs.tag }}'}
      how: {value: '${{ jobs.a.result }}'}
      nothing: {value: '${{ jobs.a.outputs.nothing }}'}
jobs:
  a:
    if: inputs.deep
    runs-on: x
    steps: [{run: x}]
";

fn interface(workflow: &Workflow) -> &Interface {
    workflow.on.workflow_call.as_ref().unwrap()
}

/// The inputs that `with` comes to.
fn check(with: &str) -> String {
    let caller = workflow(&format!(
        "on: push\njobs: {{c: {{uses: ./.github/workflows/called.yml, with: {with}}}}}\n"
    ));
    let Work::Call(call) = &caller.jobs["c"].work else {
        panic!("no call");
    };
    let mut known = Known::default();
    let github: Object = [("sha", "abc")].into_iter().collect();
    known.whole("github", github);
    match call::inputs(interface(&workflow(CALLED)), call, &known) {
        Answer::Known(inputs) => {
            let inputs = inputs
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"));
            inputs.collect::<Vec<_>>().join(" ")
        }
        Answer::Waits(names) => format!("waits for {}", names.join(", ")),
        Answer::Wrong(why) => why,
    }
}

#[test]
fn inputs_are_of_their_kind_or_refused() {
    for (with, said) in [
        (
            "{name: '${{ github.sha }}'}",
            "name=String(\"abc\") deep=Bool(false) count=Number(2.0)",
        ),
        (
            "{NAME: 1, deep: \"${{ github.sha == 'abc' }}\", count: '${{ fromJSON(3) }}'}",
            "name=String(\"1\") deep=Bool(true) count=Number(3.0)",
        ),
        ("{deep: true}", "input `name` has to be given"),
        (
            "{name: x, deep: 'true'}",
            "input `deep` must be `true` or `false`, and is no truth value",
        ),
        (
            "{name: x, count: '${{ github.sha }}'}",
            "input `count` must be a number",
        ),
        (
            "{name: x, more: y}",
            "`./.github/workflows/called.yml` has no input `more`",
        ),
        ("{name: '${{ vars.x }}'}", "waits for vars.x"),
    ] {
        assert_eq!(check(with), said, "{with}");
    }
}

#[test]
fn outputs_come_from_the_jobs_of_what_was_called() {
    let called = workflow(CALLED);
    let inputs: Object = [("deep", Value::Bool(true))].into_iter().collect();
    let known = call::known(&Known::default(), inputs);
    let of = Definition {
        workflow: &called,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    let leg = run.legs().next().unwrap().0;
    let event = Event::Finished {
        leg,
        result: LegResult::Success,
        outputs: vec![("tag".into(), "v1".into())],
    };
    let (run, _) = step(run, &of, 0, event);
    let given = call::outputs(interface(&called), &run, &known);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        given,
        Answer::Known(vec![pair("tag", "v1"), pair("how", "success")])
    );
}
