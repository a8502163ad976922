//! Workflows of other repositories that are called.

use havre_runs::{Conclusion, RunId, Settings};

use crate::world::{COMMIT, Stage, World};

const SHARED: &str = "acme/ci/.github/workflows/shared.yml@v1";
const PIN: &str = "34e114876b0b11c390a56381ad16ebd13914f8d5";

fn calls(more: &str) -> String {
    format!("on: push\njobs:\n  a:\n    uses: {SHARED}\n{more}")
}

fn stage(caller: &str, files: &[(&str, &str)]) -> Stage {
    let world = World::new(&[("ci.yml", caller)]);
    for (name, text) in files {
        world.elsewhere(name, text);
    }
    let settings = Settings {
        trusted_owners: vec!["trusted".to_owned()],
        ..Settings::default()
    };
    Stage::new(world, settings)
}

/// Why the call of a run failed.
fn why(stage: &Stage, run: RunId) -> String {
    let shown = stage.runs.show(run).unwrap();
    let why = shown.legs.iter().find_map(|leg| leg.why.clone());
    why.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_workflow_of_another_repository_is_called_and_calls_its_own() {
    let shared = "on: {workflow_call: {inputs: {n: {type: number, required: true}}, secrets: {key: {required: true}}}}\n\
                  jobs: {b: {uses: ./.github/workflows/inner.yml, secrets: inherit}}\n";
    let inner = "on: workflow_call\njobs: {c: {runs-on: x, steps: [{run: 'echo ${{ secrets.key }} ${{ secrets.KEY }}'}]}}\n";
    let stage = stage(
        &calls("    with: {n: 1}\n    secrets: {key: '${{ secrets.KEY }}'}\n"),
        &[
            (SHARED, shared),
            ("acme/ci/.github/workflows/inner.yml@v1", inner),
        ],
    );
    let run = stage.push().await;
    assert_eq!(
        stage.ended(run).await,
        Conclusion::Success,
        "{}",
        why(&stage, run)
    );
    let told = stage.world.told_to("c");
    assert_eq!(told.path, "acme/ci/.github/workflows/inner.yml@v1");
    let origin = told.origin.unwrap();
    assert_eq!(
        (origin.owner.as_str(), origin.commit.as_str()),
        ("acme", COMMIT)
    );
    assert_eq!(origin.path, ".github/workflows/inner.yml");
    // What was passed on by name, and nothing else.
    assert_eq!(
        told.contexts["secrets"],
        r#"{"GITHUB_TOKEN":"tok","key":"hush"}"#
    );
    let called = stage.runs.show(run).unwrap().legs[0].called.unwrap();
    assert_eq!(stage.runs.show(called).unwrap().run.path, SHARED);
}

#[tokio::test(start_paused = true)]
async fn what_is_called_elsewhere_has_to_fit_and_to_be_there() {
    let sound = "on: {workflow_call: {inputs: {n: {type: number}}, secrets: {key: {required: true}}}}\n\
                 jobs: {b: {runs-on: x, steps: [{run: x}]}}\n";
    for (more, text, expected) in [
        (
            "",
            sound,
            "needs the secret `key`\n  --> .github/workflows/ci.yml:4:11",
        ),
        (
            "    with: {n: x}\n    secrets: {key: a}\n",
            sound,
            ".github/workflows/ci.yml:5:15",
        ),
        (
            "    with: {m: x}\n    secrets: {key: a}\n",
            sound,
            "has no input `m`",
        ),
        ("    secrets: inherit\n", sound, "name each that it needs"),
        (
            "",
            "on: push\njobs: {b: {runs-on: x, steps: [{run: x}]}}\n",
            "it has no `on.workflow_call`",
        ),
        (
            "",
            "on: workflow_call\njobs: {b: {runs-on: x, stepz: []}}\n",
            "acme/ci/.github/workflows/shared.yml@v1:2:",
        ),
        (
            "    permissions: {contents: read}\n",
            "on: workflow_call\npermissions: {contents: write}\njobs: {b: {runs-on: x, steps: [{run: x}]}}\n",
            "asks for more than the job may give",
        ),
    ] {
        let stage = stage(&calls(more), &[(SHARED, text)]);
        let run = stage.push().await;
        assert_eq!(stage.ended(run).await, Conclusion::Failure, "{more}");
        let why = why(&stage, run);
        assert!(why.contains(expected), "{expected}\n{why}");
    }
    let gone = calls("").replace("@v1", "@gone");
    let stage = stage(&gone, &[]);
    let run = stage.push().await;
    assert_eq!(stage.ended(run).await, Conclusion::Failure);
    let why = why(&stage, run);
    assert!(
        why.contains("shared.yml@gone` cannot be had: there is no such branch"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_trusted_inherits_secrets_and_the_lock_file_decides_the_commit() {
    let called = "trusted/ci/.github/workflows/shared.yml@v1";
    let text =
        "on: workflow_call\njobs: {c: {runs-on: x, steps: [{run: 'echo ${{ secrets.KEY }}'}]}}\n";
    let caller = calls("    secrets: inherit\n").replace("acme", "Trusted");
    let stage = stage(&caller, &[(&called.replace("trusted", "Trusted"), text)]);
    let lock = format!(
        "version: v0.0.2\nworkflows: {{.github/workflows/ci.yml: [trusted/ci@v1]}}\n\
         dependencies: {{'trusted/ci@v1': {{ref: v1, commit: sha1-{PIN}}}}}\n"
    );
    stage.world.file("actions.lock", &lock);
    let run = stage.push().await;
    assert_eq!(
        stage.ended(run).await,
        Conclusion::Success,
        "{}",
        why(&stage, run)
    );
    let told = stage.world.told_to("c");
    assert!(told.contexts["secrets"].contains("hush"));
    assert_eq!(told.origin.unwrap().commit, PIN);
    // One that cannot be read holds for nobody.
    stage.world.file("actions.lock", "version: v9\n");
    let outcome = stage.runs.begin(&crate::world::push("shop")).await.unwrap();
    assert!(outcome.begun.is_empty());
    assert!(
        outcome.not_started[0].why.contains("actions.lock:1:10"),
        "{outcome:?}"
    );
}
