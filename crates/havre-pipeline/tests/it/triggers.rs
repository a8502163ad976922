//! Which events start what, and why not.

use havre_pipeline::{Event, Reference, Verdict, trigger};
use proptest::prelude::*;

use crate::workflow;

/// `on`, the event, and what is said of it.
fn check(on: &str, event: &Event) -> String {
    let text = format!("on: {on}\njobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}\n");
    match trigger::judge(&workflow(&text).on, event) {
        Verdict::Starts(reason) => format!("yes: {}", reason.why),
        Verdict::Open(reason) => format!("open: {}", reason.why),
        Verdict::Not(reason) => format!("no: {}", reason.why),
        Verdict::Refused(reasons) => {
            let reasons: Vec<String> = reasons.into_iter().map(|reason| reason.why).collect();
            format!("refused: {}", reasons.join("; "))
        }
    }
}

fn branch(name: &str, changed: &[&str]) -> Event {
    Event::Push {
        to: Reference::Branch(name.into()),
        changed: Some(changed.iter().map(ToString::to_string).collect()),
        message: String::new(),
    }
}

fn tag(name: &str) -> Event {
    Event::Push {
        to: Reference::Tag(name.into()),
        changed: Some(Vec::new()),
        message: String::new(),
    }
}

fn request(action: &str, base: &str, changed: &[&str]) -> Event {
    Event::PullRequest {
        action: action.into(),
        base: base.into(),
        head: "topic".into(),
        changed: Some(changed.iter().map(ToString::to_string).collect()),
        message: String::new(),
    }
}

fn dispatch(inputs: &[(&str, &str)]) -> Event {
    let inputs = inputs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    Event::Dispatch {
        on: Reference::Branch("main".into()),
        inputs: inputs.collect(),
    }
}

#[test]
fn a_push_is_judged_by_its_branch_or_tag() {
    let main = branch("main", &["a"]);
    assert_eq!(check("push", &main), "yes: every branch starts it");
    assert_eq!(check("push", &tag("v1")), "yes: every tag starts it");
    let only = "{push: {branches: [main, 'v/**']}}";
    assert_eq!(check(only, &main), "yes: branch `main` is meant by `main`");
    assert_eq!(check(only, &tag("v1")), "no: it is for branches only");
    assert_eq!(
        check(only, &branch("x", &[])),
        "no: branch `x` matches none of `main`, `v/**`"
    );
    let tags = "{push: {tags: ['v*', '!v*-rc?'], branches-ignore: [wip/*]}}";
    assert_eq!(check(tags, &tag("v1")), "yes: tag `v1` is meant by `v*`");
    assert_eq!(
        check(tags, &tag("v1-r")),
        "no: tag `v1-r` is left out by `!v*-rc?`"
    );
    assert_eq!(check(tags, &main), "yes: branch `main` is not left out");
    assert_eq!(
        check(tags, &branch("wip/a", &[])),
        "no: branch `wip/a` is left out by `wip/*`"
    );
    assert_eq!(
        check("{push: {tags: ['v*']}}", &main),
        "no: it is for tags only"
    );
    assert_eq!(
        check("[pull_request, release]", &main),
        "no: `push` is not what starts it, but `pull_request`, `release`"
    );
}

#[test]
fn a_commit_may_say_that_it_starts_nothing() {
    let said = |message: &str| {
        let event = Event::Push {
            to: Reference::Branch("main".into()),
            changed: None,
            message: message.into(),
        };
        check("push", &event)
    };
    assert_eq!(
        said("a [skip ci] b"),
        "no: the newest commit's message says `[skip ci]`"
    );
    assert_eq!(
        said("a\n\nb\n\nSkip-Checks: true\n"),
        "no: the newest commit's message says `Skip-Checks: true`"
    );
    for other in [
        "skip ci",
        "skip-checks: true",
        "a\n\nskip-checks: false",
        "[SKIP CI]",
    ] {
        assert!(said(other).starts_with("yes"), "{other}");
    }
    let event = Event::Push {
        to: Reference::Branch("main".into()),
        changed: None,
        message: "[no ci]".into(),
    };
    assert!(check("pull_request", &event).starts_with("no: `push` is not"));
}

#[test]
fn the_last_pattern_that_matches_decides() {
    let patterns = "{push: {branches: ['releases/**', '!releases/**-alpha', 'releases/9-alpha']}}";
    let starts = |name: &str| check(patterns, &branch(name, &[])).starts_with("yes");
    assert!(starts("releases/10") && starts("releases/beta/mona"));
    assert!(!starts("releases/10-alpha") && starts("releases/9-alpha"));
}

#[test]
fn one_file_that_is_meant_is_enough_and_tags_have_no_files() {
    let only = "{push: {branches: [main], paths: ['src/**', '!src/**.md']}}";
    assert_eq!(
        check(only, &branch("main", &["src/a.md", "src/a.rs"])),
        "yes: branch `main` is meant by `main`, and `src/a.rs` is meant by `src/**`"
    );
    assert_eq!(
        check(only, &branch("main", &["src/a.md", "b"])),
        "no: no file that changed is one of `src/**`, `!src/**.md`"
    );
    assert!(check(only, &branch("x", &["src/a.rs"])).starts_with("no: branch"));
    let ignore = "{push: {paths-ignore: ['docs/**']}}";
    assert_eq!(
        check(ignore, &branch("main", &["docs/a", "a"])),
        "yes: every branch starts it, and `a` is not left out"
    );
    assert_eq!(
        check(ignore, &branch("main", &["docs/a"])),
        "no: every file that changed is left out by `docs/**`"
    );
    assert_eq!(check(ignore, &branch("main", &[])), "no: no file changed");
    assert_eq!(check(ignore, &tag("v1")), "yes: every tag starts it");
    let unknown = Event::Push {
        to: Reference::Branch("main".into()),
        changed: None,
        message: String::new(),
    };
    assert_eq!(
        check(ignore, &unknown),
        "open: it depends on what changed: it leaves out `docs/**`"
    );
}

#[test]
fn a_pull_request_is_judged_by_its_base_its_type_and_its_files() {
    let opened = request("opened", "main", &["a"]);
    assert_eq!(
        check("pull_request", &opened),
        "yes: pull requests into any branch start it"
    );
    assert!(check("pull_request", &request("closed", "main", &[])).starts_with("no: without"));
    assert_eq!(
        check(
            "{pull_request: {types: [opened, closed]}}",
            &request("synchronize", "main", &[])
        ),
        "no: `synchronize` is none of its types: `opened`, `closed`"
    );
    let filters = "{pull_request: {branches: [main], paths: [b]}}";
    assert!(check(filters, &opened).starts_with("no: no file"));
    assert!(check(filters, &request("opened", "x", &["b"])).starts_with("no: branch `x`"));
    assert!(check(filters, &request("opened", "main", &["b"])).starts_with("yes"));
}

#[test]
fn inputs_are_of_their_kind() {
    let on = "{workflow_dispatch: {inputs: {a: {required: true}, b: {type: boolean, default: true},
        c: {type: choice, options: [x, y]}, n: {type: number, default: 3}}}}";
    assert_eq!(
        check(on, &dispatch(&[("A", "1")])),
        "yes: it can be asked for"
    );
    assert_eq!(
        check(
            on,
            &dispatch(&[("b", "yes"), ("c", "z"), ("n", "x"), ("d", "")])
        ),
        "refused: there is no input `d`, but `a`, `b`, `c`, `n`; input `a` has to be given; \
         input `b` is `true` or `false`, not `yes`; input `c` is one of `x`, `y`, not `z`; \
         input `n` is a number, not `x`"
    );
    assert_eq!(
        check("workflow_dispatch", &dispatch(&[("a", "")])),
        "refused: there is no input `a`: it has none"
    );
}

#[test]
fn times_calls_and_what_happens_elsewhere() {
    let schedule = |cron: &str| Event::Schedule {
        cron: cron.into(),
        branch: "main".into(),
    };
    let on = "{schedule: [{cron: '0 4 * * *'}, {cron: '5 4 * * 1', timezone: Europe/Berlin}]}";
    assert_eq!(
        check(on, &schedule("5 4  * * 1")),
        "yes: its time is `5 4 * * 1` (Europe/Berlin)"
    );
    assert_eq!(
        check(on, &schedule("1 1 * * *")),
        "no: its times are `0 4 * * *` (UTC), `5 4 * * 1` (Europe/Berlin)"
    );
    let call = Event::Call {
        on: Reference::Branch("main".into()),
    };
    assert_eq!(check("workflow_call", &call), "yes: others may call it");
    let elsewhere = |kind: &str| Event::Repository {
        kind: kind.into(),
        branch: "main".into(),
    };
    let on = "{repository_dispatch: {types: [a]}}";
    assert_eq!(check(on, &elsewhere("a")), "yes: `a` is one of its types");
    assert_eq!(
        check(on, &elsewhere("b")),
        "no: `b` is none of its types: `a`"
    );
    assert!(check("repository_dispatch", &elsewhere("b")).starts_with("yes"));
    let ran = |workflow: &str, ran_on: &str| Event::WorkflowRun {
        workflow: workflow.into(),
        action: "completed".into(),
        ran_on: ran_on.into(),
        branch: "main".into(),
    };
    let on = "{workflow_run: {workflows: [CI], types: [completed], branches: [main]}}";
    assert_eq!(
        check(on, &ran("CI", "main")),
        "yes: it follows the workflow `CI`"
    );
    assert!(check(on, &ran("CI", "x")).starts_with("no: branch `x`"));
    assert!(check(on, &ran("X", "main")).starts_with("no: it does not follow"));
}

proptest! {
    /// What a filter leaves out, its opposite lets pass.
    #[test]
    fn ignoring_is_the_opposite(
        patterns in proptest::collection::vec("[a*?+!/\\[\\]b\\\\-]{1,6}", 1..4),
        name in "[ab/!-]{0,8}",
    ) {
        let list: Vec<String> = patterns.iter().map(|p| format!("'{p}'")).collect();
        let list = list.join(", ");
        prop_assume!(patterns.iter().any(|pattern| !pattern.starts_with('!')));
        let event = branch(&name, &[]);
        let only = check(&format!("{{push: {{branches: [{list}]}}}}"), &event);
        let except = check(&format!("{{push: {{branches-ignore: [{list}]}}}}"), &event);
        prop_assert_ne!(only.starts_with("yes"), except.starts_with("yes"));
    }
}
