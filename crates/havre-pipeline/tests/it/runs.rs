//! Runs, event by event.

use std::collections::{HashMap, HashSet};

use havre_pipeline::group::{Ruling, decide};
use havre_pipeline::run::{
    Again, Conclusion, Definition, Effect, Event, GroupUse, JobState, LegId, LegResult, LegState,
    Millis, Refusal, Run, begin, begin_only, rerun, step,
};
use havre_pipeline::{Answer, Known, Object};
use havre_workflow::Workflow;
use proptest::prelude::*;

use crate::workflow;

/// Contexts of a run but for those of its jobs.
fn contexts() -> Known {
    let mut known = Known::default();
    for name in ["github", "vars", "inputs"] {
        known.whole(name, Object::default());
    }
    known
}

fn jobs(jobs: &[(&str, &str)]) -> Workflow {
    let jobs = jobs.iter().map(|(id, rest)| {
        let work = match rest.contains("uses:") {
            true => "",
            false => "runs-on: x, steps: [{run: x}]",
        };
        format!("  {id}: {{{rest} {work}}}\n")
    });
    workflow(&format!("on: push\njobs:\n{}", jobs.collect::<String>()))
}

/// Plays events (`start b`, `ok b.1 k=v`, `fail b`, `gone b`, `admit b`, `yield b`, `cancel`, `at MINUTES`, `again`) and
/// tells what is newly due after each, and how the run ended.
fn check(workflow: &Workflow, script: &str) -> String {
    let known = contexts();
    let of = Definition {
        workflow,
        known: &known,
    };
    let (mut run, due) = begin(&of, 0);
    let mut told = vec![words(&due)];
    let mut now = 0;
    for line in script
        .split(';')
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let mut parts = line.split(' ');
        let verb = parts.next().unwrap();
        let name = parts.next().unwrap_or_default();
        let outputs = parts.map(|pair| pair.split_once('=').unwrap());
        let outputs: Vec<(String, String)> = outputs
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let leg = || named(&run, name);
        let finished = |result| Event::Finished {
            leg: named(&run, name),
            result,
            outputs,
        };
        let event = match verb {
            "start" => Event::Started(leg()),
            "ok" => finished(LegResult::Success),
            "fail" => finished(LegResult::Failure),
            "gone" => finished(LegResult::Cancelled),
            "admit" => Event::Admitted(leg()),
            "yield" => Event::Superseded(leg()),
            "cancel" => Event::Cancel,
            "at" => {
                now = name.parse::<Millis>().unwrap() * 60_000;
                Event::Tick
            }
            "again" => {
                let (next, due) = rerun(&run, &of, now, &Again::Failed).unwrap();
                run = next;
                told.push(words(&due));
                continue;
            }
            other => panic!("{other}"),
        };
        let (next, due) = step(run, &of, now, event);
        run = next;
        told.push(words(&due));
        let kept = serde_json::to_string(&run).unwrap();
        assert_eq!(serde_json::from_str::<Run>(&kept).unwrap(), run);
    }
    if let Some(conclusion) = run.conclusion() {
        told.push(format!("{conclusion:?}"));
    }
    told.join("; ")
}

fn named(run: &Run, name: &str) -> LegId {
    let (job, index) = name.split_once('.').unwrap_or((name, "0"));
    let index: usize = index.parse().unwrap();
    let found = run
        .legs()
        .find(|(id, _)| id.job == job && id.index == index);
    found
        .map(|(id, _)| id)
        .unwrap_or_else(|| panic!("no leg {name}"))
}

fn words(due: &[Effect]) -> String {
    let name = |id: &LegId| match id.index {
        0 => id.job.clone(),
        index => format!("{}.{index}", id.job),
    };
    let words: Vec<String> = due
        .iter()
        .map(|effect| match effect {
            Effect::Enter(id, GroupUse { name: group, .. }) => {
                format!("{} into {group}", name(id))
            }
            Effect::Start(id) => format!("start {}", name(id)),
            Effect::Cancel(id, cause) => format!("cancel {} {cause:?}", name(id)),
        })
        .collect();
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

#[test]
fn a_job_starts_as_soon_as_what_it_needs_has_ended() {
    let workflow = jobs(&[
        ("a", ""),
        ("b", ""),
        ("c", "needs: a,"),
        ("d", "needs: [b, c],"),
    ]);
    assert_eq!(
        check(&workflow, "start a; ok a; ok b; start c; ok c; ok d"),
        "start a, start b; -; start c; -; -; start d; -; Success"
    );
    assert_eq!(
        check(&workflow, "ok a; ok b; fail c"),
        "start a, start b; start c; -; -; Failure"
    );
}

#[test]
fn conditions_look_at_all_that_came_before() {
    let workflow = jobs(&[
        ("a", ""),
        ("b", "needs: a,"),
        ("f", "needs: b, if: failure(),"),
        ("z", "needs: b, if: always(),"),
        ("y", "needs: z,"),
        ("n", "needs: z, if: '!failure() && !cancelled()',"),
    ]);
    // `b` is skipped; `f` looks further back; `y` does too, although what it needs succeeded.
    assert_eq!(
        check(&workflow, "fail a; ok f; ok z"),
        "start a; start f, start z; -; -; Failure"
    );
    let skipped = jobs(&[
        ("a", "if: false,"),
        ("b", "needs: a,"),
        ("f", "needs: a, if: failure(),"),
        ("n", "needs: a, if: '!failure() && !cancelled()',"),
        ("y", "needs: n,"),
        (
            "r",
            "needs: a, if: always() && needs.a.result == 'skipped',",
        ),
    ]);
    assert_eq!(
        check(&skipped, "ok n; ok r"),
        "start n, start r; -; -; Success"
    );
    assert_eq!(check(&jobs(&[("a", "if: false,")]), ""), "-; Skipped");
}

#[test]
fn the_first_leg_that_fails_ends_the_others_unless_told_otherwise() {
    let matrix = |more: &str| {
        let strategy = format!("strategy: {{{more} matrix: {{v: [1, 2, 3]}}}},");
        jobs(&[("a", &strategy), ("b", "needs: a,")])
    };
    assert_eq!(
        check(
            &matrix("max-parallel: 2,"),
            "start a; start a.1; fail a; gone a.1"
        ),
        "start a, start a.1; -; -; cancel a.1 FailFast; -; Failure"
    );
    // It was through before the cancel came.
    assert_eq!(
        check(&matrix(""), "fail a; ok a.1; fail a.2"),
        "start a, start a.1, start a.2; cancel a.1 FailFast, cancel a.2 FailFast; -; -; Failure"
    );
    assert_eq!(
        check(
            &matrix("max-parallel: 1, fail-fast: false,"),
            "fail a; ok a.1; ok a.2"
        ),
        "start a; start a.1; start a.2; -; Failure"
    );
    let may_fail = jobs(&[
        (
            "a",
            "strategy: {matrix: {v: [1, 2]}}, continue-on-error: '${{ matrix.v == 1 }}',",
        ),
        ("b", "needs: a, if: needs.a.result == 'success',"),
    ]);
    assert_eq!(
        check(&may_fail, "fail a; ok a.1; ok b"),
        "start a, start a.1; -; start b; -; Success"
    );
}

#[test]
fn the_last_leg_that_says_something_gives_the_output() {
    let workflow = jobs(&[
        ("a", "strategy: {matrix: {v: [1, 2, 3]}},"),
        (
            "b",
            "needs: a, strategy: {matrix: {w: '${{ fromJSON(needs.a.outputs.list) }}'}},",
        ),
        ("c", "needs: a, if: needs.a.outputs.only == 'x',"),
    ]);
    assert_eq!(
        check(
            &workflow,
            "ok a.2 list=[1]; ok a list=[1,2] only=x; ok a.1 list= only="
        ),
        "start a, start a.1, start a.2; -; -; start b, start b.1, start c"
    );
    assert_eq!(
        check(&workflow, "ok a.2; ok a; ok a.1 list={}"),
        "start a, start a.1, start a.2; -; -; -; Failure"
    );
}

#[test]
fn who_takes_too_long_is_cancelled_and_the_run_fails() {
    let workflow = jobs(&[
        ("a", "timeout-minutes: 2,"),
        (
            "b",
            "needs: a, if: always() && needs.a.result == 'cancelled',",
        ),
        ("c", "needs: a, if: failure(),"),
    ]);
    assert_eq!(
        check(
            &workflow,
            "at 10; start a; at 11; at 12; at 13; fail a; ok b"
        ),
        "start a; -; -; -; cancel a TimedOut; -; start b; -; Failure"
    );
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    assert_eq!(run.deadline(), None);
    let (run, _) = step(run.clone(), &of, 5, Event::Started(named(&run, "a")));
    assert_eq!(run.deadline(), Some(120_005));
    let may_fail = jobs(&[
        ("a", "timeout-minutes: 2, continue-on-error: true,"),
        ("b", "needs: a,"),
    ]);
    assert_eq!(
        check(&may_fail, "start a; at 2; gone a; ok b"),
        "start a; -; cancel a TimedOut; start b; -; Success"
    );
}

#[test]
fn a_cancelled_run_ends_all_but_what_says_otherwise() {
    let workflow = jobs(&[
        ("a", ""),
        ("b", "if: always(),"),
        ("c", "needs: a,"),
        ("d", "needs: a, if: cancelled(),"),
        ("e", "strategy: {max-parallel: 1, matrix: {v: [1, 2]}},"),
    ]);
    assert_eq!(
        check(
            &workflow,
            "start a; start b; cancel; cancel; gone a; gone e; ok d; ok b"
        ),
        "start a, start b, start e; -; -; cancel a Requested, cancel e Requested; -; start d; -; -; -; \
         Cancelled"
    );
}

#[test]
fn a_status_may_be_that_of_one_need() {
    let workflow = jobs(&[
        ("a", ""),
        ("b", ""),
        ("c", "needs: [a, b], if: success('a'),"),
        ("d", "needs: [a, b], if: failure('a'),"),
        ("e", "needs: [a, b], if: \"failure('B', 'a')\","),
    ]);
    assert_eq!(
        check(&workflow, "ok a; fail b; ok c; ok e"),
        "start a, start b; -; start c, start e; -; -; Failure"
    );
}

#[test]
fn a_cancelled_run_can_be_taken_up_again() {
    let workflow = jobs(&[("a", ""), ("b", ""), ("c", "needs: a,"), ("d", "needs: c,")]);
    assert_eq!(
        check(
            &workflow,
            "ok a; cancel; gone b; gone c; again; ok b; ok c; ok d"
        ),
        "start a, start b; start c; cancel b Requested, cancel c Requested; -; -; start b, start c; -; start d; \
         -; Success"
    );
}

#[test]
fn a_leg_waits_for_its_group() {
    let workflow = jobs(&[(
        "a",
        "strategy: {matrix: {v: [x, y]}}, concurrency: 'g-${{ matrix.v }}',",
    )]);
    assert_eq!(
        check(&workflow, "admit a; yield a.1; ok a"),
        "a into g-x, a.1 into g-y; start a; -; -; Cancelled"
    );
    assert_eq!(
        check(
            &workflow,
            "admit a; start a; yield a; gone a; admit a.1; ok a.1"
        ),
        "a into g-x, a.1 into g-y; start a; -; cancel a Superseded; -; start a.1; -; Cancelled"
    );
}

#[test]
fn what_failed_is_run_again_and_the_attempts_are_kept() {
    let workflow = jobs(&[
        ("a", "strategy: {fail-fast: false, matrix: {v: [1, 2]}},"),
        ("b", "needs: a,"),
        ("c", ""),
    ]);
    assert_eq!(
        check(&workflow, "ok a k=v; fail a.1; ok c; again; ok a.1; ok b"),
        "start a, start a.1, start c; -; -; -; start a.1; start b; -; Success"
    );
    // Not only when all is over.
    assert_eq!(
        check(&workflow, "ok a; fail a.1; again; ok a.1; ok c; ok b"),
        "start a, start a.1, start c; -; -; start a.1; start b; -; -; Success"
    );
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    let refused = |run: &Run, what: Again| rerun(run, &of, 0, &what).unwrap_err();
    assert_eq!(refused(&run, Again::Failed), Refusal::NothingFailed);
    assert_eq!(refused(&run, Again::All), Refusal::Running("a".into()));
    assert_eq!(
        refused(&run, Again::Job("x".into())),
        Refusal::NoSuchJob("x".into())
    );
    let finish = |run: Run, name: &str, result| {
        let leg = named(&run, name);
        let event = Event::Finished {
            leg,
            result,
            outputs: Vec::new(),
        };
        step(run, &of, 0, event).0
    };
    let run = finish(run, "c", LegResult::Failure);
    let old = named(&run, "c");
    let (run, due) = rerun(&run, &of, 0, &Again::Job("c".into())).unwrap();
    assert_eq!((words(&due), run.attempt), ("start c".into(), 2));
    assert_eq!(run.jobs[2].earlier[0].attempt, 1);
    // What the earlier attempt still says is of no matter.
    let late = Event::Finished {
        leg: old,
        result: LegResult::Success,
        outputs: Vec::new(),
    };
    assert_eq!(step(run.clone(), &of, 0, late), (run, Vec::new()));
}

#[test]
fn a_job_that_cannot_begin_fails_with_its_reason() {
    let workflow = jobs(&[("a", "strategy: {matrix: \"${{ fromJSON('[') }}\"},")]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    let JobState::Broken(why) = &run.jobs[0].state else {
        panic!("{run:?}");
    };
    assert!(
        why.starts_with("`strategy`: `fromJSON` cannot use"),
        "{why}"
    );
    assert_eq!(run.conclusion(), Some(Conclusion::Failure));
}

#[test]
fn a_group_sees_what_waits_and_what_runs() {
    let workflow = jobs(&[(
        "a",
        "strategy: {matrix: {v: [1, 2]}}, concurrency: {group: g, cancel-in-progress: true},",
    )]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let rulings = |run: &Run| -> Vec<(String, Ruling)> {
        let members: Vec<_> = run.members().map(|(_, _, member)| member).collect();
        let rulings = decide(&members).into_iter();
        rulings
            .map(|(id, ruling)| (id.to_string(), ruling))
            .collect()
    };
    let (run, _) = begin(&of, 7);
    assert!(
        run.members()
            .all(|(group, since, _)| (group, since) == ("g", Some(7)))
    );
    let displaced = ("a[0]".to_owned(), Ruling::Displace);
    let admitted = ("a[1]".to_owned(), Ruling::Admit);
    assert_eq!(rulings(&run), [displaced, admitted]);
    let (run, _) = step(run.clone(), &of, 8, Event::Admitted(named(&run, "a")));
    assert_eq!(rulings(&run), [("a[0]".to_owned(), Ruling::Cancel)]);
    let (run, _) = step(run.clone(), &of, 8, Event::Superseded(named(&run, "a")));
    assert_eq!(rulings(&run), []);
}

const CONDITIONS: [&str; 8] = [
    "",
    "",
    "",
    "if: always(),",
    "if: failure(),",
    "if: '!cancelled()',",
    "if: cancelled(),",
    "if: false,",
];
const STRATEGIES: [&str; 5] = [
    "",
    "",
    "strategy: {matrix: {v: [1, 2, 3]}},",
    "strategy: {max-parallel: 2, matrix: {v: [1, 2, 3, 4]}},",
    "strategy: {max-parallel: 1, fail-fast: false, matrix: {v: [1, 2]}}, concurrency: g,",
];

/// Whatever happens, in whatever order.
#[derive(Clone, Debug)]
enum Doing {
    /// The nth of what is due is done.
    Due(usize),
    /// The nth that runs ends.
    End(usize, LegResult),
    /// An event for any leg, whether or not it makes sense.
    Any(usize, usize, u8),
    Later(u64),
    Cancel,
    Again,
}

fn doing() -> impl Strategy<Value = Doing> {
    let result = prop_oneof![
        4 => Just(LegResult::Success),
        2 => Just(LegResult::Failure),
        1 => Just(LegResult::Cancelled),
    ];
    prop_oneof![
        8 => any::<usize>().prop_map(Doing::Due),
        8 => (any::<usize>(), result).prop_map(|(n, result)| Doing::End(n, result)),
        4 => (0..8_usize, 0..5_usize, any::<u8>()).prop_map(|(j, l, e)| Doing::Any(j, l, e)),
        2 => (0..200_u64).prop_map(Doing::Later),
        1 => Just(Doing::Cancel),
        1 => Just(Doing::Again),
    ]
}

/// What the event is that an effect asks for.
fn answer(effect: &Effect) -> Event {
    match effect {
        Effect::Enter(id, _) => Event::Admitted(id.clone()),
        Effect::Start(id) => Event::Started(id.clone()),
        Effect::Cancel(id, _) => Event::Finished {
            leg: id.clone(),
            result: LegResult::Cancelled,
            outputs: Vec::new(),
        },
    }
}

fn running(run: &Run) -> Vec<LegId> {
    let running = run
        .legs()
        .filter(|(_, leg)| matches!(leg.state, LegState::Running { .. }));
    running.map(|(id, _)| id).collect()
}

/// What holds at any time.
fn judge(run: &Run, workflow: &Workflow) {
    let results: HashMap<&str, _> = run
        .jobs
        .iter()
        .map(|job| (job.id.as_str(), job.result()))
        .collect();
    for job in &run.jobs {
        let JobState::Begun {
            max_parallel, legs, ..
        } = &job.state
        else {
            continue;
        };
        for need in &workflow.jobs[&job.id].needs {
            assert!(
                results[need.value.as_str()].is_some(),
                "{} before {}",
                job.id,
                need.value
            );
        }
        let live = legs
            .iter()
            .filter(|leg| !matches!(leg.state, LegState::Queued | LegState::Ended { .. }));
        let live = live.count();
        assert!(
            max_parallel.is_none_or(|most| live <= most),
            "{}: {live} at once",
            job.id
        );
    }
    let due = run.due();
    let ids: HashSet<String> = due.iter().map(|effect| format!("{effect:?}")).collect();
    assert_eq!(ids.len(), due.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_run_keeps_its_rules_and_ends(
        shape in proptest::collection::vec(
            (proptest::collection::vec(0..8_usize, 0..3), 0..CONDITIONS.len(), 0..STRATEGIES.len()),
            1..8,
        ),
        doings in proptest::collection::vec(doing(), 0..80),
    ) {
        let mut all = Vec::new();
        for (at, (needs, condition, strategy)) in shape.iter().enumerate() {
            let needs: HashSet<usize> = needs.iter().copied().filter(|need| *need < at).collect();
            let needs: Vec<String> = needs.iter().map(|need| format!("j{need}")).collect();
            let needs = match needs.is_empty() {
                true => String::new(),
                false => format!("needs: [{}],", needs.join(", ")),
            };
            let rest = format!(
                "{needs} timeout-minutes: 1, {} {}",
                CONDITIONS[*condition], STRATEGIES[*strategy]
            );
            all.push((format!("j{at}"), rest));
        }
        let all: Vec<(&str, &str)> = all.iter().map(|(id, rest)| (&**id, &**rest)).collect();
        let workflow = jobs(&all);
        let known = contexts();
        let of = Definition { workflow: &workflow, known: &known };
        let (mut run, _) = begin(&of, 0);
        let mut now = 0;
        for doing in doings {
            let due = run.due();
            let event = match doing {
                Doing::Due(n) if !due.is_empty() => answer(&due[n % due.len()]),
                Doing::End(n, result) if !running(&run).is_empty() => {
                    let running = running(&run);
                    let leg = running[n % running.len()].clone();
                    Event::Finished { leg, result, outputs: vec![("k".into(), "v".into())] }
                }
                Doing::Any(job, index, kind) => {
                    let leg = LegId { job: format!("j{job}"), index, attempt: 1 };
                    match kind % 4 {
                        0 => Event::Started(leg),
                        1 => Event::Admitted(leg),
                        2 => Event::Superseded(leg),
                        _ => Event::Finished {
                            leg,
                            result: LegResult::Failure,
                            outputs: Vec::new(),
                        },
                    }
                }
                Doing::Cancel => Event::Cancel,
                Doing::Again => {
                    if let Ok((next, _)) = rerun(&run, &of, now, &Again::Failed) {
                        prop_assert!(next.attempt == run.attempt + 1);
                        run = next;
                    }
                    Event::Tick
                }
                Doing::Later(seconds) => {
                    now += seconds * 1000;
                    Event::Tick
                }
                Doing::Due(_) | Doing::End(..) => Event::Tick,
            };
            let before = run.due();
            let (next, due) = step(run, &of, now, event);
            run = next;
            judge(&run, &workflow);
            for effect in &due {
                prop_assert!(run.due().contains(effect) && !before.contains(effect));
            }
            let kept = serde_json::to_string(&run).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Run>(&kept).unwrap(), &run);
        }
        // Once all that is due is done and all that runs ends, the run has ended.
        for _ in 0..200 {
            if run.conclusion().is_some() {
                break;
            }
            let event = match (run.due().first(), running(&run).first()) {
                (Some(effect), _) => answer(effect),
                (None, Some(leg)) => Event::Finished {
                    leg: leg.clone(),
                    result: LegResult::Success,
                    outputs: Vec::new(),
                },
                (None, None) => break,
            };
            run = step(run, &of, now, event).0;
            judge(&run, &workflow);
        }
        prop_assert!(run.conclusion().is_some(), "{:?}", run);
        prop_assert!(run.due().is_empty());
        prop_assert_eq!(run.deadline(), None);
    }
}

#[test]
fn a_leg_knows_its_place() {
    let workflow = jobs(&[("a", "strategy: {matrix: {v: [1, 2]}},")]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    let known = Known::of_leg(&run, &of, &named(&run, "a.1"));
    let text = |text: &str| {
        let read = jobs(&[(
            "b",
            &format!("name: \"{text}\", strategy: {{matrix: {{v: [1]}}}},"),
        )]);
        known.text(read.jobs["b"].name.as_ref().unwrap())
    };
    assert_eq!(
        text("${{ matrix.v }} ${{ strategy.job-index }} ${{ strategy.job-total }}"),
        Answer::Known("2 1 2".to_owned())
    );
    assert_eq!(run.legs().nth(1).unwrap().1.name, "a (2)");
}

#[test]
fn a_leg_that_takes_too_long_ends_the_others_as_one_that_fails() {
    let of = jobs(&[("a", "timeout-minutes: 1, strategy: {matrix: {v: [1, 2]}},")]);
    assert_eq!(
        check(&of, "start a; at 1; gone a; gone a.1"),
        "start a, start a.1; -; cancel a TimedOut; cancel a.1 FailFast; -; Failure"
    );
}

#[test]
fn what_ended_well_before_it_was_cancelled_did_well() {
    let of = jobs(&[("a", "timeout-minutes: 1,"), ("b", "needs: a,")]);
    assert_eq!(
        check(&of, "start a; at 1; ok a; ok b"),
        "start a; -; cancel a TimedOut; start b; -; Success"
    );
}

#[test]
fn a_group_without_a_name_is_none() {
    let of = jobs(&[("a", "concurrency: '${{ vars.none }}',")]);
    assert_eq!(check(&of, "ok a"), "start a; -; Success");
}

#[test]
fn what_a_cancelled_run_left_out_is_run_when_it_is_taken_up_again() {
    let of = jobs(&[("a", ""), ("b", "needs: a,")]);
    assert_eq!(
        check(&of, "start a; cancel; ok a; again; ok b"),
        "start a; -; cancel a Requested; -; start b; -; Success"
    );
}

#[test]
fn a_failure_counts_beside_what_was_skipped() {
    let of = jobs(&[
        ("a", ""),
        ("b", "if: false,"),
        ("c", "needs: [a, b], if: failure(),"),
    ]);
    assert_eq!(check(&of, "fail a; ok c"), "start a; start c; -; Failure");
}

#[test]
fn what_a_run_keeps_has_bounds() {
    use havre_pipeline::run::{MAX_ATTEMPTS, MAX_LEG_OUTPUTS};

    let workflow = jobs(&[("a", "")]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let ended = |bytes: usize| {
        let (run, _) = begin(&of, 0);
        let finished = Event::Finished {
            leg: named(&run, "a"),
            result: LegResult::Success,
            outputs: vec![("n".to_owned(), "x".repeat(bytes - 1))],
        };
        step(run, &of, 0, finished).0
    };
    let conclusion = |bytes| ended(bytes).conclusion();
    assert_eq!(conclusion(MAX_LEG_OUTPUTS), Some(Conclusion::Success));
    assert_eq!(conclusion(MAX_LEG_OUTPUTS + 1), Some(Conclusion::Failure));

    let mut run = ended(1);
    for _ in 1..MAX_ATTEMPTS {
        run = rerun(&run, &of, 0, &Again::All).unwrap().0;
        let finished = Event::Finished {
            leg: named(&run, "a"),
            result: LegResult::Success,
            outputs: Vec::new(),
        };
        run = step(run, &of, 0, finished).0;
    }
    let refused = rerun(&run, &of, 0, &Again::All).unwrap_err();
    assert_eq!(refused, Refusal::TooManyAttempts);
}

#[test]
fn cancelled_at_once_nothing_goes_on() {
    let workflow = jobs(&[("a", "if: always(),"), ("b", "needs: a, if: always(),")]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let (run, _) = begin(&of, 0);
    let (run, due) = step(run, &of, 0, Event::Cancel);
    assert_eq!(words(&due), "-");
    let (run, due) = step(run, &of, 0, Event::CancelAtOnce);
    assert_eq!(words(&due), "cancel a Requested");
    let gone = Event::Finished {
        leg: named(&run, "a"),
        result: LegResult::Cancelled,
        outputs: Vec::new(),
    };
    let (run, due) = step(run, &of, 0, gone);
    assert_eq!(words(&due), "-");
    assert_eq!(run.conclusion(), Some(Conclusion::Cancelled));
}

#[test]
fn a_run_of_some_jobs_has_those_and_what_they_need() {
    let workflow = jobs(&[
        ("a", ""),
        ("b", "needs: a,"),
        ("c", "needs: b,"),
        ("d", "needs: a,"),
        ("e", ""),
    ]);
    let known = contexts();
    let of = Definition {
        workflow: &workflow,
        known: &known,
    };
    let begin = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        begin_only(&of, &names, 0)
    };
    let (run, due) = begin(&["b", "nope"]);
    assert_eq!(words(&due), "start a");
    let not_asked = |run: &Run| -> Vec<String> {
        let jobs = run.jobs.iter();
        let jobs = jobs.filter(|job| job.state == JobState::NotAsked);
        jobs.map(|job| job.id.clone()).collect()
    };
    assert_eq!(not_asked(&run), ["c", "d", "e"]);
    let finish = |run: Run, job: &str| {
        let leg = named(&run, job);
        let (run, _) = step(run, &of, 0, Event::Started(leg.clone()));
        let outputs = Vec::new();
        let result = LegResult::Success;
        step(
            run,
            &of,
            0,
            Event::Finished {
                leg,
                result,
                outputs,
            },
        )
    };
    let (run, due) = finish(run, "a");
    assert_eq!(words(&due), "start b");
    let (run, due) = finish(run, "b");
    assert_eq!(
        (words(&due).as_str(), run.conclusion()),
        ("-", Some(Conclusion::Success))
    );
    // Again: only what was asked for; by its name, also what was not.
    let (again, due) = rerun(&run, &of, 0, &Again::All).unwrap();
    assert_eq!(
        (words(&due).as_str(), not_asked(&again).len()),
        ("start a", 3)
    );
    let (again, due) = rerun(&run, &of, 0, &Again::Job("e".to_owned())).unwrap();
    assert_eq!(
        (words(&due).as_str(), not_asked(&again).len()),
        ("start e", 2)
    );
}
