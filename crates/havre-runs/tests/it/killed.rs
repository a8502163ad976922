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

async fn drive(world: &World, runs: &Runs, run: RunId) {
    let killed = world.killed.lock().unwrap().clone();
    tokio::select! {
        () = killed.cancelled() => {}
        ended = runs.run(CancellationToken::new()) => panic!("{ended:?}"),
        ended = async {
            let conclusion = runs.ended(run).await;
            // What is left of its boxes goes.
            while !world.boxes().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            conclusion
        } => drop(ended.unwrap()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_killed_anywhere_leaves_what_another_takes_up() {
    let mut expected = None;
    let mut points = 0;
    // The first is not killed at all.
    for kill_at in [i64::MAX].into_iter().chain(0..) {
        let dir = tempfile::tempdir().unwrap();
        let world = world();
        let runs = world.runs(dir.path(), Settings::default());
        let begun = runs.begin(&push("shop")).await.unwrap();
        let run = begun.begun[0].run;
        world.kill_at(kill_at);
        drive(&world, &runs, run).await;
        let killed = world.was_killed();
        drop(runs);
        tokio::task::yield_now().await;
        world.kill_at(i64::MAX);
        let runs = world.runs(dir.path(), Settings::default());
        drive(&world, &runs, run).await;
        let found = outcome(&runs, run).await;
        world.sound();
        let expected = expected.get_or_insert_with(|| found.clone());
        assert_eq!(&found, expected, "killed at {kill_at}");
        if !killed && kill_at != i64::MAX {
            break;
        }
        points += 1;
    }
    let expected = expected.unwrap();
    assert!(
        expected.contains("inner success Success None [(\"name\", \"inner success\")]"),
        "{expected}"
    );
    assert!(expected.contains("7 lines"), "{expected}");
    assert!(points > 60, "{points} points only");
}
