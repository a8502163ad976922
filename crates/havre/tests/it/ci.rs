//! `havre ci check`: workflow files, without a daemon.

use std::fs;
use std::path::Path;

use crate::program::{Ran, command};

const FINE: &str = "on: push\njobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n";
const BROKEN: &str =
    "on: push\njobs:\n  a:\n    runs-onn: x\n    steps:\n      - run: ${{ foo }}\n";
const CALLS: &str = "on: push\njobs:\n  a: {uses: ./.github/workflows/called.yml, with: {x: y}}\n  b: {uses: ./.github/workflows/gone.yml}\n";
const CALLED: &str = "on: {workflow_call: {inputs: {x: {type: number}}}}\njobs:\n  a: {runs-on: x, steps: [{uses: a/b@v1, with: {v: 1.10}}]}\n";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let workflows = folder.path().join(".github/workflows");
    fs::create_dir_all(&workflows).unwrap();
    for (name, text) in files {
        fs::write(workflows.join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["ci", "check"].iter().chain(args).copied().collect();
    let mut command = command(folder, &all);
    command.current_dir(folder).output().unwrap().into()
}

#[test]
fn every_problem_of_all_files_is_told_with_its_place() {
    let folder = folder(&[
        ("fine.yml", FINE),
        ("broken.yaml", BROKEN),
        ("notes.txt", "x"),
    ]);
    let ran = run(folder.path(), &[]);
    assert_eq!(ran.code, 3, "{ran:?}");
    for part in [
        "error[workflow/unknown-key]: `jobs.a` has unknown key `runs-onn`",
        "--> .github/workflows/broken.yaml:4:5",
        "did you mean `runs-on`?",
        "--> .github/workflows/broken.yaml:6:18",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
    assert_eq!(ran.err, "the pipeline has 3 errors and 0 warnings\n");
    let one = run(folder.path(), &[".github/workflows/fine.yml"]);
    assert_eq!(
        (one.code, &*one.err),
        (0, "the pipeline is fine\n"),
        "{one:?}"
    );
}

#[test]
fn what_workflows_ask_of_each_other_is_checked() {
    let folder = folder(&[("calls.yml", CALLS), ("called.yml", CALLED)]);
    // Only one is asked about; the other is read for it.
    let ran = run(folder.path(), &["./.github/workflows/calls.yml"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let err = "the pipeline has 2 errors and 0 warnings\n";
    assert_eq!(ran.err, err, "{}", ran.out);
    for part in [
        "calls.yml:3:55",
        "must be a number",
        "there is no `./.github/workflows/gone.yml`",
    ] {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
}

#[test]
fn programs_get_json_and_sarif_and_strict_takes_warnings_for_errors() {
    let folder = folder(&[("called.yml", CALLED)]);
    let ran = run(folder.path(), &["--json"]);
    let found = ran.json();
    assert_eq!(
        (ran.code, &found[0]["code"]),
        (0, &"workflow/number".into()),
        "{found}"
    );
    assert_eq!(found[0]["location"]["file"], ".github/workflows/called.yml");
    let strict = run(folder.path(), &["--strict", "--sarif", "."]);
    assert_eq!(strict.code, 3, "{strict:?}");
    let result = &strict.json()["runs"][0]["results"][0];
    assert_eq!(
        (&result["ruleId"], &result["level"]),
        (&"workflow/number".into(), &"error".into())
    );
}

#[test]
fn what_is_not_there_is_told() {
    let folder = folder(&[]);
    for (args, said) in [
        (&[][..], "there are no workflow files in .github/workflows"),
        (&["nowhere.yml"], "there is no nowhere.yml"),
    ] {
        let ran = run(folder.path(), args);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    fs::write(folder.path().join("a.yml"), b"on: \xff").unwrap();
    let ran = run(folder.path(), &["a.yml"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("a.yml:1:5"), "{}", ran.out);
}
