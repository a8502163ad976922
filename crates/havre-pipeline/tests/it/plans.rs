//! What is known of jobs before anything ran.

use std::fmt::Write as _;

use havre_pipeline::{Answer, Event, Known, Reference, Starts, plan};
use proptest::prelude::*;

use crate::workflow;

fn push(branch: &str) -> Event {
    Event::Push {
        to: Reference::Branch(branch.into()),
        changed: None,
        message: String::new(),
    }
}

/// Of each job: stage, id, whether it starts, and its legs.
fn check(jobs: &str, event: &Event) -> String {
    let workflow = workflow(&format!("on: [push, workflow_dispatch]\njobs:\n{jobs}"));
    let known = Known::of_event(event, &workflow, ".github/workflows/ci.yml");
    let plan = plan::plan(&workflow, &known);
    let mut text = String::new();
    for job in plan.jobs {
        let starts = match job.starts {
            Starts::After(before) => format!("after {before:?}"),
            other => format!("{other:?}"),
        };
        write!(text, "{} {}: {starts}", job.stage, job.job.id.value).unwrap();
        match job.legs {
            Answer::Known(legs) => {
                let names = legs.legs.iter().map(|leg| told(&leg.name));
                let names: Vec<String> = names.collect();
                if names != [job.job.id.value.clone()] {
                    write!(text, " [{}]", names.join("|")).unwrap();
                }
            }
            Answer::Waits(names) => write!(text, " [waits for {}]", names.join(", ")).unwrap(),
            Answer::Wrong(why) => write!(text, " [wrong: {why}]").unwrap(),
        }
        text.push('\n');
    }
    text
}

fn told(answer: &Answer<String>) -> String {
    match answer {
        Answer::Known(text) => text.clone(),
        Answer::Waits(names) => format!("waits for {}", names.join(", ")),
        Answer::Wrong(why) => format!("wrong: {why}"),
    }
}

const STEPS: &str = "runs-on: x, steps: [{run: x}]";

#[test]
fn jobs_are_in_an_order_in_which_they_can_run() {
    let jobs = format!(
        "  c: {{needs: [b, a], {STEPS}}}\n  b: {{needs: a, {STEPS}}}\n  a: {{{STEPS}}}\n  d: {{{STEPS}}}\n"
    );
    assert_eq!(
        check(&jobs, &push("main")),
        "0 a: AtOnce\n0 d: AtOnce\n1 b: after [Succeeded]\n2 c: after [Succeeded]\n"
    );
}

#[test]
fn what_a_condition_comes_to_is_told_as_soon_as_it_is_certain() {
    let jobs = [
        ("a", "github.ref == 'refs/heads/main'"),
        ("b", "github.sha == 'x'"),
        ("c", "github.event_name == 'x' && vars.y"),
        ("d", "always() || vars.y"),
    ];
    let jobs: String = jobs
        .iter()
        .map(|(id, condition)| format!("  {id}: {{if: \"{condition}\", {STEPS}}}\n"))
        .collect();
    assert_eq!(
        check(&jobs, &push("main")),
        "0 a: AtOnce\n0 b: Waits([\"github.sha\"])\n0 c: Never\n0 d: AtOnce\n"
    );
    assert!(check(&jobs, &push("x")).starts_with("0 a: Never\n"));
}

#[test]
fn a_need_that_never_runs_is_followed_through_the_graph() {
    let jobs = [
        ("a", "", "false"),
        ("b", "needs: a,", "true"),
        ("c", "needs: a,", "always()"),
        ("d", "needs: c,", "true"),
        ("e", "needs: c,", "'!failure()'"),
        ("f", "needs: a,", "needs.a.result == 'skipped' && always()"),
        ("g", "needs: [a, c],", "needs.c.outputs.x && always()"),
        ("h", "needs: c,", "failure()"),
        ("i", "needs: a,", "failure()"),
    ];
    let jobs: String = jobs
        .iter()
        .map(|(id, needs, condition)| {
            let condition = condition.trim_matches('\'');
            format!("  {id}: {{{needs} if: \"{condition}\", {STEPS}}}\n")
        })
        .collect();
    assert_eq!(
        check(&jobs, &push("main")),
        "0 a: Never\n\
         1 b: NeedSkipped(\"a\")\n\
         1 c: Always\n\
         1 f: Always\n\
         1 i: Never\n\
         2 d: NeedSkipped(\"a\")\n\
         2 e: after [Incomplete, Cancelled]\n\
         2 g: Waits([\"needs.c.outputs.x\"])\n\
         2 h: after [Failed]\n"
    );
}

#[test]
fn a_matrix_may_wait_for_what_it_needs() {
    let jobs = format!(
        "  a: {{strategy: {{matrix: {{os: [x, y], v: [1, 2], exclude: [{{os: y, v: 1}}]}}}}, {STEPS}}}\n\
         \x20 b: {{needs: a, strategy: {{matrix: {{v: \"${{{{ fromJSON(needs.a.outputs.v) }}}}\"}}}}, {STEPS}}}\n\
         \x20 c: {{name: \"C ${{{{ matrix.v }}}} of ${{{{ strategy.job-total }}}}\", strategy: {{matrix: {{v: \"${{{{ fromJSON('[1,2]') }}}}\"}}}}, {STEPS}}}\n\
         \x20 d: {{strategy: {{matrix: \"${{{{ fromJSON('[]') }}}}\"}}, {STEPS}}}\n"
    );
    assert_eq!(
        check(&jobs, &push("main")),
        "0 a: AtOnce [a (x, 1)|a (x, 2)|a (y, 2)]\n\
         0 c: AtOnce [C 1 of 2|C 2 of 2]\n\
         0 d: AtOnce [wrong: the matrix must be names with lists, and is a list]\n\
         1 b: after [Succeeded] [waits for needs.a.outputs.v]\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever jobs need, each comes behind all of it, and all are there.
    #[test]
    fn needs_come_first(edges in proptest::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
        let mut jobs = String::new();
        for job in 0..12 {
            let needs = edges.iter().filter(|(from, to)| *from == job && to < from);
            let needs: Vec<String> = needs.map(|(_, to)| format!("j{to}")).collect();
            // The file's order is not that of the needs.
            jobs = format!("  j{job}: {{needs: [{}], {STEPS}}}\n{jobs}", needs.join(", "));
        }
        let workflow = workflow(&format!("on: push\njobs:\n{jobs}"));
        let plan = plan::plan(&workflow, &Known::default());
        prop_assert_eq!(plan.jobs.len(), 12);
        for (at, job) in plan.jobs.iter().enumerate() {
            for need in &job.job.needs {
                let before = plan.jobs.iter().position(|other| other.job.id.value == need.value);
                prop_assert!(before.unwrap() < at);
            }
        }
    }
}

#[test]
fn what_each_leg_keeps_has_bounds() {
    let legs = |length: usize, labels: usize| {
        let long = "x".repeat(length);
        let labels = "a, ".repeat(labels);
        let workflow = workflow(&format!(
            "on: push\njobs:\n  a:\n    name: {long}\n    runs-on: [{labels}'{long}']\n    environment: {long}\n    \
             concurrency: {long}\n    steps: [{{run: x}}]\n"
        ));
        let plan = plan::plan(&workflow, &Known::default());
        let legs = plan.jobs[0].legs.known().unwrap().legs.clone();
        legs.into_iter().next().unwrap()
    };
    let long = "x".repeat(1000);
    let leg = legs(1000, 99);
    assert_eq!(leg.name, Answer::Known(long.clone()));
    assert_eq!(leg.environment, Some(Answer::Known(long.clone())));
    assert_eq!(leg.group.unwrap().name, Answer::Known(long));
    assert_eq!(leg.runs_on.known().map(Vec::len), Some(100));
    let leg = legs(1001, 0);
    assert_eq!(leg.name, Answer::Known(format!("{}…", "x".repeat(999))));
    let refused = |what: &str| format!("wrong: {what} has a name of more than 1000 bytes");
    assert_eq!(told(&leg.environment.unwrap()), refused("the environment"));
    assert_eq!(told(&leg.group.unwrap().name), refused("the group"));
    assert!(matches!(leg.runs_on, Answer::Wrong(why) if why.contains("a label")));
    let why = legs(1, 100).runs_on;
    assert!(matches!(why, Answer::Wrong(why) if why == "`runs-on` has more than 100 labels"));
}

#[test]
fn what_is_known_in_part_is_not_known_as_a_whole() {
    let job = "environment: '${{ toJSON(github.event) }}', runs-on: '${{ github.event.ref }}', steps: [{run: x}]";
    let workflow = workflow(&format!("on: push\njobs:\n  a: {{{job}}}\n"));
    let known = Known::of_event(&push("main"), &workflow, "ci.yml");
    let plan = plan::plan(&workflow, &known);
    let leg = &plan.jobs[0].legs.known().unwrap().legs[0];
    let labels = leg.runs_on.known().unwrap();
    assert_eq!(labels, &["refs/heads/main"]);
    assert_eq!(
        told(leg.environment.as_ref().unwrap()),
        "waits for github.event"
    );
}

#[test]
fn a_plan_uses_up_no_more_than_a_few_evaluations_may() {
    let wide = |legs: usize| {
        let values: Vec<String> = (0..legs).map(|n| n.to_string()).collect();
        let name = "${{ toJSON(inputs) != '' && matrix.v }}";
        crate::workflow(&format!(
            "on: push\njobs: {{a: {{name: \"{name}\", strategy: {{matrix: {{v: [{}]}}}}, runs-on: x, steps: [{{run: x}}]}}}}\n",
            values.join(", ")
        ))
    };
    let mut known = havre_pipeline::Known::default();
    let large: havre_pipeline::Object = [("a", "x".repeat(2 << 20))].into_iter().collect();
    known.whole("inputs", large);
    known.whole("needs", havre_pipeline::Object::default());
    let names = |legs: usize| {
        let workflow = wide(legs);
        let legs = havre_pipeline::plan::legs(&workflow.jobs["a"], &known);
        let legs = legs.known().unwrap().legs.clone();
        let known = legs.iter().filter(|leg| leg.name.known().is_some());
        (known.count(), legs.len())
    };
    assert_eq!(names(4), (4, 4));
    let (known, all) = names(200);
    assert!(known < 100 && all == 200, "{known} of {all} have names");
}
