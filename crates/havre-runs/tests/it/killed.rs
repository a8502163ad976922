//! A driver is killed at every call of a run: whoever comes next brings it to the same end.

use std::time::Duration;

use havre_pipeline::run::{JobState, LegState};
use havre_runs::{LegKey, RunId, Runs, Settings};
use tokio_util::sync::CancellationToken;

use crate::world::{Does, World, push};

const CI: &str = "
on: push
concurrency: ci-${{ github.ref }}
jobs:
  build:
    strategy: {matrix: {v: [1, 2]}}
    runs-on: x
    outputs: {name: x}
    steps: [{run: x}]
  test:
    needs: build
    runs-on: x
    steps: [{run: x}]
  more:
    needs: build
    uses: ./.github/workflows/called.yml
    with: {word: \"${{ needs.build.result }}\"}
    secrets: inherit
  clean:
    needs: [test, more]
    if: always()
    concurrency: one
    runs-on: x
    steps: [{run: x}]
";
const CALLED: &str = "
on:
  workflow_call:
    inputs: {word: {type: string}}
    outputs: {done: {value: \"${{ jobs.inner.outputs.name }}\"}}
jobs:
  inner:
    name: inner ${{ inputs.word }}
    runs-on: x
    outputs: {name: x}
    steps: [{run: x}]
";

fn settings() -> Settings {
    Settings {
        cancel_grace: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn world() -> World {
    let world = World::new(&[("ci.yml", CI), ("called.yml", CALLED)]);
    world.does("test", Does::Fails);
    world
}

/// All that is left of a run.
async fn outcome(runs: &Runs, run: RunId) -> String {
    let mut told = Vec::new();
    let mut pending = vec![run];
    while let Some(run) = pending.pop() {
        let shown = runs.show(run).unwrap();
        told.push(format!("{:?}", shown.run.conclusion));
        for job in &shown.state.jobs {
            let JobState::Begun { legs, .. } = &job.state else {
                told.push(format!("{} {:?}", job.id, job.state));
                continue;
            };
            for (index, leg) in legs.iter().enumerate() {
                let LegState::Ended {
                    result,
                    cause,
                    outputs,
                    ..
                } = &leg.state
                else {
                    panic!("{leg:?}");
                };
                told.push(format!("{} {result:?} {cause:?} {outputs:?}", leg.name));
                let key = LegKey {
                    run,
                    leg: havre_runs::LegId {
                        job: job.id.clone(),
                        index,
                        attempt: leg.attempt,
                    },
                };
                let mut log = runs.log(key.clone(), 0, true).unwrap();
                let mut lines = 0;
                while let Some(part) = log.next().await.unwrap() {
                    lines += part.told.len();
                }
                let summaries = runs.summaries(&key).unwrap();
                told.push(format!("{lines} lines, {summaries:?}"));
            }
        }
        let mut legs = shown.legs;
        legs.sort_by_key(|leg| leg.key.to_string());
        for leg in legs {
            told.push(format!("{:?} {:?}", leg.record, leg.why));
            pending.extend(leg.called);
        }
    }
    told.join("\n")
}

async fn drive(world: &World, runs: &Runs, run: RunId, meanwhile: &impl Fn(&World, &Runs, RunId)) {
    let killed = world.killed.lock().unwrap().clone();
    tokio::select! {
        () = killed.cancelled() => {}
        ended = runs.run(CancellationToken::new()) => panic!("{ended:?}"),
        () = async {
            let is_left = || {
                let listed = runs.show(run).unwrap().run;
                listed.conclusion.is_none() || !world.boxes().is_empty()
            };
            let mut rounds = 0..1000;
            while is_left() {
                rounds.next().expect("the run ends, and nothing is left of it");
                meanwhile(world, runs, run);
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        } => {}
    }
}

/// Plays a run to its end with a driver that is killed at each call in turn, and holds what is left against what is
/// left where none is killed. Gives that, and how many calls there were.
async fn killed_everywhere(
    make: impl Fn() -> World,
    meanwhile: impl Fn(&World, &Runs, RunId),
) -> (String, usize) {
    let mut expected: Option<String> = None;
    let mut points = 0;
    // The first is not killed at all.
    for kill_at in [i64::MAX].into_iter().chain(0..) {
        let dir = tempfile::tempdir().unwrap();
        let world = make();
        let runs = world.runs(dir.path(), settings());
        let begun = runs.begin(&push("shop")).await.unwrap();
        let run = begun.begun[0].run;
        world.kill_at(kill_at);
        drive(&world, &runs, run, &meanwhile).await;
        let killed = world.was_killed();
        drop(runs);
        tokio::task::yield_now().await;
        world.kill_at(i64::MAX);
        let runs = world.runs(dir.path(), settings());
        drive(&world, &runs, run, &meanwhile).await;
        let found = outcome(&runs, run).await;
        world.sound();
        let expected = expected.get_or_insert_with(|| found.clone());
        assert_eq!(&found, expected, "killed at {kill_at}");
        if !killed && kill_at != i64::MAX {
            break;
        }
        points += 1;
    }
    (expected.unwrap_or_default(), points)
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_killed_anywhere_leaves_what_another_takes_up() {
    let (left, points) = killed_everywhere(world, |_, _, _| {}).await;
    let inner = "inner success Success None [(\"name\", \"inner success\")]";
    assert!(left.contains(inner), "{left}");
    assert!(left.contains("7 lines"), "{left}");
    assert!(points > 60, "{points} points only");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_killed_while_a_run_is_cancelled_does_too() {
    let make = || {
        let world = world();
        world.does("test", Does::Holds);
        world.does("inner", Does::Stubborn);
        world
    };
    let (left, points) = killed_everywhere(make, |world, runs, run| {
        if world.boxes() == ["inner success", "test"] {
            runs.cancel(run, false).unwrap();
        }
    })
    .await;
    assert!(left.starts_with("Some(Cancelled)"), "{left}");
    assert!(left.contains("inner success Cancelled"), "{left}");
    assert!(left.contains("clean Success"), "{left}");
    assert!(points > 60, "{points} points only");
}
