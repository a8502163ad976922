//! Runs from their beginning to their end.

use std::time::Duration;

use havre_pipeline::Reference;
use havre_pipeline::run::LegState;
use havre_runs::{Again, Conclusion, Dispatch, Filter, RunId, Runs, RunsError, Settings};

use crate::world::{Does, Stage, World, push, source};

fn stage(text: &str) -> Stage {
    Stage::new(World::new(&[("ci.yml", text)]), Settings::default())
}

fn jobs(jobs: &str) -> String {
    format!("on: push\njobs:\n{jobs}")
}

/// The states of the legs of a run, and why.
fn legs(runs: &Runs, run: RunId) -> Vec<String> {
    let shown = runs.show(run).unwrap();
    let legs = shown.state.legs().map(|(id, leg)| {
        let state = match &leg.state {
            LegState::Ended { result, .. } => format!("{result:?}"),
            other => format!("{other:?}"),
        };
        let told = shown.legs.iter().find(|told| told.key.leg == id);
        let why = told.and_then(|told| told.why.clone()).unwrap_or_default();
        let why = why.split(':').next().unwrap_or_default();
        format!("{} {state} {why}", leg.name).trim().to_owned()
    });
    legs.collect()
}

#[tokio::test(start_paused = true)]
async fn a_box_is_told_all_that_it_needs() {
    let stage = stage(&jobs(
        "  a: {runs-on: x, environment: live, env: {E: e}, container: {image: 'img:${{ vars.PLACE }}', credentials: \
         {username: u, password: '${{ secrets.KEY }}'}, env: {F: '${{ env.E }}f'}}, services: {db: {image: pg, ports: \
         ['5432:5432']}, off: {image: '${{ vars.NONE }}'}}, steps: [{run: x}]}\n",
    ));
    let run = stage.push().await;
    let waits = || {
        stage
            .runs
            .show(run)
            .unwrap()
            .legs
            .iter()
            .any(|leg| leg.waits.is_some())
    };
    stage.until("it waits for its gate", waits).await;
    let stage = stage.again().await;
    assert_eq!(stage.world.boxes(), Vec::<String>::new());
    stage.world.open("live");
    stage.runs.gates_changed();
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    let told = stage.world.told_to("a");
    let container = told.container.unwrap();
    assert_eq!(container.image, "img:here");
    assert_eq!(container.env, [("F".to_owned(), "ef".to_owned())]);
    assert_eq!(
        container.credentials,
        Some(("u".to_owned(), "hush".to_owned()))
    );
    assert_eq!(told.masks, ["hush"]);
    assert_eq!(told.services.len(), 1);
    assert_eq!(
        told.contexts["secrets"],
        r#"{"GITHUB_TOKEN":"tok","KEY":"hush"}"#
    );
    let github: serde_json::Value = serde_json::from_str(&told.contexts["github"]).unwrap();
    for (name, value) in [
        ("ref", "refs/heads/main"),
        ("server_url", "https://shop.localhost"),
        ("run_number", "1"),
        ("run_attempt", "1"),
        ("token", "tok"),
        ("job", "a"),
        ("repository_owner", "team"),
        (
            "workflow_ref",
            "team/shop/.github/workflows/ci.yml@refs/heads/main",
        ),
    ] {
        assert_eq!(github[name], value, "{name}");
    }
    assert_eq!(github["event"]["head_commit"]["author"]["name"], "Ann");
    // Nothing secret is kept.
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(stage.dir.path().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hush") && !text.contains("tok\""), "{file}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_pushes_at_once_run_side_by_side_and_with_a_group_one_after_the_other() {
    let plain = stage(&jobs("  a: {runs-on: x, steps: [{run: x}]}\n"));
    plain.world.does("a", Does::Holds);
    let (one, two) = (push("shop"), push("shop"));
    let (one, two) = tokio::join!(plain.runs.begin(&one), plain.runs.begin(&two));
    let (one, two) = (one.unwrap().begun[0].clone(), two.unwrap().begun[0].clone());
    assert_eq!((one.number, two.number), (1, 2));
    plain
        .until("both run", || plain.world.boxes().len() == 2)
        .await;

    let text = format!(
        "concurrency: {{group: g, cancel-in-progress: true}}\n{}",
        jobs("  a: {runs-on: x, steps: [{run: x}]}\n")
    );
    let grouped = stage(&text);
    grouped.world.does("a", Does::Holds);
    let one = grouped.push().await;
    grouped
        .until("the first runs", || grouped.world.boxes().len() == 1)
        .await;
    let two = grouped.push().await;
    let three = grouped.push().await;
    assert_eq!(grouped.ended(one).await, Conclusion::Cancelled);
    assert_eq!(grouped.ended(two).await, Conclusion::Cancelled);
    grouped
        .until("the last runs", || grouped.world.order().len() == 2)
        .await;
    grouped.world.let_go("a");
    assert_eq!(grouped.ended(three).await, Conclusion::Success);
    assert_eq!(grouped.world.order().len(), 2);
    let why = grouped.runs.show(two).unwrap().why;
    assert_eq!(
        why.as_deref(),
        Some("a newer run of its concurrency group came")
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_leg_that_fails_ends_the_others() {
    let stage = stage(&jobs(
        "  a: {strategy: {matrix: {v: [1, 2, 3]}}, runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("a (1)", Does::Holds);
    stage.world.does("a (2)", Does::Holds);
    stage.world.does("a (3)", Does::Fails);
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Failure);
    assert_eq!(
        legs(&stage.runs, run),
        ["a (1) Cancelled", "a (2) Cancelled", "a (3) Failure"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_run_again_and_what_was_before_is_kept() {
    let stage = stage(&jobs(
        "  a: {runs-on: x, steps: [{run: x}]}\n  b: {runs-on: x, steps: [{run: x}]}\n  c: {needs: b, runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("b", Does::Fails);
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Failure);
    let stage = stage.again().await;
    stage.world.does("b", Does::Succeeds);
    assert_eq!(stage.runs.rerun(run, &Again::Failed).unwrap(), 2);
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    assert_eq!(stage.world.order(), ["a", "b", "b", "c"]);
    let shown = stage.runs.show(run).unwrap();
    let attempts: Vec<u32> = shown.legs.iter().map(|leg| leg.key.leg.attempt).collect();
    assert_eq!(attempts, [1, 1, 2, 2]);
    assert_eq!(shown.state.jobs[1].earlier.len(), 1);
    let refused = stage.runs.rerun(run, &Again::Failed).unwrap_err();
    assert_eq!(refused.to_string(), "nothing failed: say which job, or all");
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_run_again_while_others_run() {
    let stage = stage(&jobs(
        "  a: {runs-on: x, steps: [{run: x}]}\n  b: {runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("a", Does::Holds);
    stage.world.does("b", Does::Fails);
    let run = stage.push().await;
    stage
        .until("b has failed", || legs(&stage.runs, run)[1] == "b Failure")
        .await;
    stage.world.does("b", Does::Succeeds);
    stage
        .runs
        .rerun(run, &Again::Job("a".to_owned()))
        .expect_err("it runs");
    assert_eq!(stage.runs.rerun(run, &Again::Failed).unwrap(), 2);
    stage
        .until("b has succeeded", || {
            legs(&stage.runs, run)[1] == "b Success"
        })
        .await;
    stage.world.let_go("a");
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    assert_eq!(stage.world.order(), ["a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn cancelled_softly_then_at_once() {
    let stage = stage(&jobs(
        "  a: {runs-on: x, steps: [{run: x}]}\n  z: {needs: a, if: always(), runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("a", Does::Stubborn);
    stage.world.does("z", Does::Holds);
    let run = stage.push().await;
    stage
        .until("it runs", || stage.world.boxes().len() == 1)
        .await;
    let began = tokio::time::Instant::now();
    assert!(stage.runs.cancel(run, false).unwrap());
    stage
        .until("what cleans up runs", || stage.world.boxes() == ["z"])
        .await;
    // It did not mind, and was ended after its grace.
    assert!(
        began.elapsed() >= Duration::from_secs(300),
        "{:?}",
        began.elapsed()
    );
    assert!(!stage.runs.cancel(run, false).unwrap());
    assert!(stage.runs.cancel(run, true).unwrap());
    assert_eq!(stage.ended(run).await, Conclusion::Cancelled);
    assert!(!stage.runs.cancel(run, true).unwrap());
    stage
        .until("nothing is left", || stage.world.boxes().is_empty())
        .await;
    stage.world.sound();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_start_or_is_lost_says_why() {
    let stage = stage(&jobs(
        "  refused: {runs-on: x, steps: [{run: x}]}\n  passing: {runs-on: x, steps: [{run: x}]}\n  lost: {runs-on: x, steps: [{run: x}]}\n  hangs: {runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("refused", Does::Refuses(9, false));
    stage.world.does("passing", Does::Refuses(2, true));
    stage.world.does("lost", Does::Lost);
    stage.world.does("hangs", Does::Hangs);
    let run = stage.push().await;
    stage
        .until("three have ended", || {
            legs(&stage.runs, run)
                .iter()
                .filter(|leg| leg.contains("Failure") || leg.contains("Success"))
                .count()
                == 3
        })
        .await;
    stage.runs.cancel(run, false).unwrap();
    assert_eq!(stage.ended(run).await, Conclusion::Cancelled);
    assert_eq!(
        legs(&stage.runs, run),
        [
            "refused Failure no such image",
            "passing Success",
            "lost Failure its box is gone",
            "hangs Cancelled"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn after_the_machine_was_restarted_what_ran_says_so() {
    let stage = stage(&jobs("  a: {runs-on: x, steps: [{run: x}]}\n"));
    stage.world.does("a", Does::Holds);
    let run = stage.push().await;
    stage
        .until("it runs", || legs(&stage.runs, run)[0].contains("Running"))
        .await;
    stage.world.restart();
    let stage = stage.again().await;
    assert_eq!(stage.ended(run).await, Conclusion::Failure);
    let shown = stage.runs.show(run).unwrap();
    let why = shown.legs[0].why.clone().unwrap();
    assert!(
        why.contains("the machine was restarted while it ran"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_takes_too_long_ends() {
    let stage = stage(&jobs(
        "  a: {runs-on: x, timeout-minutes: 3, steps: [{run: x}]}\n",
    ));
    stage.world.does("a", Does::Holds);
    let began = tokio::time::Instant::now();
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Failure);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    assert!((3.0..3.2).contains(&minutes), "{minutes}");
}

#[tokio::test(start_paused = true)]
async fn many_legs_run_as_many_at_once_as_may() {
    let values: Vec<String> = (0..256).map(|n| n.to_string()).collect();
    let stage = stage(&jobs(&format!(
        "  a: {{strategy: {{matrix: {{v: [{}]}}}}, runs-on: x, steps: [{{run: x}}]}}\n",
        values.join(", ")
    )));
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    assert_eq!(stage.world.order().len(), 256);
    let most = stage.world.most_at_once();
    assert!((2..=4).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_project_with_few_legs_does_not_wait_for_one_with_many() {
    let stage = stage(&jobs(
        "  a: {strategy: {matrix: {v: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}, runs-on: x, steps: [{run: x}]}\n",
    ));
    stage.world.does("a", Does::Holds);
    let one = stage.push().await;
    let waits = |run, why: &str| {
        let shown = stage.runs.show(run).unwrap();
        let waits = shown.legs.into_iter().filter_map(|leg| leg.waits);
        waits.filter(|wait| wait.why == why).count()
    };
    // One place is left for others, however long it takes.
    let share = "3 jobs of shop run, as many as one project may at once";
    stage
        .until("all but one have begun or wait", || waits(one, share) == 6)
        .await;
    assert_eq!(stage.world.boxes().len(), 3);
    let other = stage.runs.begin(&push("other")).await.unwrap().begun[0].run;
    let all = "4 jobs run on this machine, as many as may at once";
    stage
        .until("the other has begun", || waits(other, all) == 8)
        .await;
    assert_eq!(stage.world.boxes().len(), 4);
    // Of what becomes free, who has less gets it.
    stage.world.let_go("a (1)");
    stage
        .until("another began", || stage.world.order().len() >= 5)
        .await;
    let of_other = legs(&stage.runs, other);
    let running = of_other.iter().filter(|leg| leg.contains("Running"));
    assert!(running.count() >= 1, "{of_other:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_ends_a_run_that_nobody_comes_back_to() {
    let world = World::new(&[("ci.yml", &jobs("  a: {runs-on: x, steps: [{run: x}]}\n"))]);
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        gives_up: true,
        ..Settings::default()
    };
    let runs = world.runs(dir.path(), settings);
    // As a full disk: no log can be written.
    let logs = dir.path().join("logs");
    drop(std::fs::remove_dir_all(&logs));
    std::fs::write(&logs, "").unwrap();
    runs.begin(&push("shop")).await.unwrap();
    let driven = tokio::time::timeout(
        Duration::from_secs(60),
        runs.run(tokio_util::sync::CancellationToken::new()),
    );
    let error = driven.await.expect("it ends").expect_err("with why");
    let text = havre_base::one_line(&error);
    assert!(text.contains("log"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn workflows_call_others_within_bounds() {
    let world = World::new(&[
        (
            "ci.yml",
            "on: push\njobs: {a: {uses: ./.github/workflows/b.yml}}\n",
        ),
        (
            "b.yml",
            "on: workflow_call\nconcurrency: same\njobs: {b: {uses: ./.github/workflows/c.yml}}\n",
        ),
        (
            "c.yml",
            "on: workflow_call\nconcurrency: Same\njobs: {c: {runs-on: x, steps: [{run: x}]}}\n",
        ),
    ]);
    let stage = Stage::new(world, Settings::default());
    let run = stage.push().await;
    // It would wait for the group that its caller is in.
    assert_eq!(stage.ended(run).await, Conclusion::Cancelled);
    stage.world.file(
        "c.yml",
        "on: workflow_call\njobs: {c: {runs-on: x, steps: [{run: x}]}}\n",
    );
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    // Nothing was passed on.
    assert_eq!(
        stage.world.told_to("c").contexts["secrets"],
        r#"{"GITHUB_TOKEN":"tok"}"#
    );

    stage
        .until("nothing is left", || stage.world.boxes().is_empty())
        .await;
    stage.world.does("c", Does::Holds);
    let run = stage.push().await;
    stage
        .until("it runs", || stage.world.boxes().len() == 1)
        .await;
    let called = stage.runs.show(run).unwrap().legs[0].called.unwrap();
    let refused = stage.runs.rerun(called, &Again::All).unwrap_err();
    assert!(matches!(refused, RunsError::Refused(_)), "{refused}");
    stage.runs.cancel(run, false).unwrap();
    assert_eq!(stage.ended(run).await, Conclusion::Cancelled);
    stage
        .until("nothing is left", || stage.world.boxes().is_empty())
        .await;
    stage.world.sound();
}

#[tokio::test(start_paused = true)]
async fn workflows_follow_others_and_start_by_themselves() {
    let world = World::new(&[
        (
            "ci.yml",
            "name: CI\non: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
        ),
        (
            "after.yml",
            "name: After\non: {workflow_run: {workflows: [CI], types: [completed]}}\njobs: {b: {name: 'b ${{ github.event.workflow_run.conclusion }}', runs-on: x, steps: [{run: x}]}}\n",
        ),
        (
            "nightly.yml",
            "on: {schedule: [{cron: '0 3 * * *', timezone: Europe/Berlin}]}\njobs: {n: {runs-on: x, steps: [{run: x}]}}\n",
        ),
    ]);
    let stage = Stage::new(world, Settings::default());
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Success);
    stage
        .until("what follows runs", || {
            stage.world.order() == ["a", "b success"]
        })
        .await;
    assert_eq!(
        stage.runs.refresh_schedules("shop").await.unwrap(),
        Vec::<String>::new()
    );
    tokio::time::sleep(Duration::from_secs(49 * 3600)).await;
    stage
        .until("two nights", || {
            stage.world.order() == ["a", "b success", "n", "n"]
        })
        .await;
    let stage = stage.again().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.world.order().len(), 4);
    // A workflow that is gone starts no more.
    stage.world.file(
        "nightly.yml",
        "on: push\njobs: {n: {runs-on: x, steps: [{run: x}]}}\n",
    );
    tokio::time::sleep(Duration::from_secs(49 * 3600)).await;
    assert_eq!(stage.world.order().len(), 4);
    assert_eq!(
        stage
            .runs
            .list("shop", &Filter::default(), None, 10)
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn inputs_are_checked_and_typed() {
    let stage = stage(
        "on: {workflow_dispatch: {inputs: {loud: {type: boolean}, to: {type: choice, options: [a, b]}}}}\n\
         jobs: {a: {if: inputs.loud == true, name: 'to ${{ inputs.to }}', runs-on: x, steps: [{run: x}]}}\n",
    );
    let ask = |workflow: &str, inputs: &[(&str, &str)]| {
        let inputs = inputs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        stage.runs.dispatch(Dispatch {
            project: "shop".to_owned(),
            workflow: workflow.to_owned(),
            on: Reference::Branch("main".to_owned()),
            source: source(),
            inputs: inputs.collect(),
            actor: "ann".to_owned(),
        })
    };
    let refused = ask("ci.yml", &[("to", "c")]).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "input `to` is one of `a`, `b`, not `c`"
    );
    ask("no.yml", &[]).await.expect_err("no such workflow");
    let begun = ask("ci.yml", &[("loud", "true"), ("to", "b")])
        .await
        .unwrap();
    assert_eq!(stage.ended(begun.run).await, Conclusion::Success);
    assert_eq!(stage.world.order(), ["to b"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_workflow_keeps_it_alone_from_starting() {
    let world = World::new(&[
        (
            "ci.yml",
            "on: push\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
        ),
        ("broken.yml", "on: push\njobs: {a: {}}\n"),
        (
            "calls.yml",
            "on: push\njobs: {a: {uses: ./.github/workflows/none.yml}}\n",
        ),
        (
            "other.yml",
            "on: pull_request\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n",
        ),
    ]);
    let stage = Stage::new(world, Settings::default());
    let outcome = stage.runs.begin(&push("shop")).await.unwrap();
    let names = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let begun: Vec<String> = outcome
        .begun
        .iter()
        .map(|begun| names(&begun.path))
        .collect();
    assert_eq!(begun, ["ci.yml"]);
    let not = outcome
        .not_started
        .iter()
        .map(|not| (names(&not.path), not.wrong));
    let not: Vec<(String, bool)> = not.collect();
    let expected = [
        ("broken.yml", true),
        ("calls.yml", true),
        ("other.yml", false),
    ];
    assert_eq!(not, expected.map(|(name, wrong)| (name.to_owned(), wrong)));
    assert!(
        outcome.not_started[1].why.contains("calls.yml:2:"),
        "{outcome:?}"
    );
    let mut evil = push("../shop");
    stage
        .runs
        .begin(&evil)
        .await
        .expect_err("no name of a project");
    evil.project = "shop".to_owned();
    evil.source.commit = "--upload-pack=x".to_owned();
    stage.runs.begin(&evil).await.expect_err("no commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn runs_of_several_projects_are_driven_on_several_threads() {
    let stage = stage(&jobs(
        "  a: {strategy: {matrix: {v: [1, 2, 3, 4, 5]}}, runs-on: x, steps: [{run: x}]}\n  b: {needs: a, runs-on: x, steps: [{run: x}]}\n",
    ));
    let mut begun = Vec::new();
    for project in ["one", "two", "three"] {
        begun.extend(stage.runs.begin(&push(project)).await.unwrap().begun);
    }
    for run in begun {
        assert_eq!(stage.ended(run.run).await, Conclusion::Success);
    }
    stage
        .until("nothing is left", || stage.world.boxes().is_empty())
        .await;
    stage.world.sound();
    assert_eq!(stage.world.order().len(), 18);
}
