//! `havre ci`: workflow files, without a daemon.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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

const PIPELINE: &str = "\
name: CI
on:
  push: {branches: [main, 'v/**'], paths-ignore: [docs/**]}
  workflow_dispatch: {inputs: {level: {type: choice, options: [low, high]}}}
concurrency: {group: 'ci-${{ github.ref }}', cancel-in-progress: true}
jobs:
  deploy:
    needs: [test, build]
    if: github.ref == 'refs/heads/main'
    runs-on: host
    environment: staging
    concurrency: {group: staging, queue: max}
    steps: [{run: echo}]
  test:
    strategy: {max-parallel: 1, matrix: {os: [a, b], v: [1, 2], exclude: [{os: b, v: 1}]}}
    runs-on: '${{ matrix.os }}'
    steps: [{run: echo}]
  build:
    outputs: {list: x}
    runs-on: host
    steps: [{run: echo}]
  more:
    needs: build
    strategy: {matrix: {x: '${{ fromJSON(needs.build.outputs.list) }}'}}
    runs-on: host
    steps: [{run: echo}]
  nightly:
    if: github.event_name == 'schedule'
    uses: ./.github/workflows/called.yml
";
const CALLER: &str = "\
on: push
jobs:
  first: {runs-on: host, steps: [{run: echo}]}
  each:
    needs: first
    uses: ./.github/workflows/deep.yml
    with: {where: staging, tag: '${{ needs.first.outputs.tag }}'}
  one: {uses: ./.github/workflows/deep.yml, with: {where: staging, tag: v1}}
";
const DEEP: &str = "\
on: {workflow_call: {inputs: {where: {type: string}, tag: {type: string}}}}
jobs:
  go: {runs-on: host, environment: '${{ inputs.where }}', steps: [{run: echo}]}
  old: {if: inputs.tag == 'v0', runs-on: host, steps: [{run: echo}]}
";
const CALLEE: &str = "on: workflow_call\njobs:\n  a: {runs-on: x, steps: [{run: echo}]}\n";

fn explain(folder: &Path, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["ci", "explain"].iter().chain(args).copied().collect();
    let mut command = command(folder, &all);
    command.current_dir(folder).output().unwrap().into()
}

#[test]
fn a_push_is_explained_job_by_job() {
    let folder = folder(&[("called.yml", CALLEE), ("ci.yml", PIPELINE)]);
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    let ran = explain(folder.path(), &["--changed", "a.rs", "docs/a"]);
    assert_eq!(
        (ran.code, &*ran.err),
        (0, "push starts 1 of 2 workflows\n"),
        "{ran:?}"
    );
    insta::assert_snapshot!(ran.out, @r#"
    .github/workflows/called.yml
      no: `push` is not what starts it, but `workflow_call`

    .github/workflows/ci.yml (CI)
      starts: branch `main` is meant by `main`, and `a.rs` is not left out (.github/workflows/ci.yml:3:21)
      one at a time: ci-refs/heads/main (a new one ends the one that runs)
      JOB           NEEDS         STARTS                                                                     RUNS ON                                ENVIRONMENT   ONE AT A TIME
      test (a, 1)   -             at once; 1 at a time                                                       a                                      -             -
      test (a, 2)   "             "                                                                          a                                      -             -
      test (b, 2)   "             "                                                                          b                                      -             -
      build         -             at once                                                                    host                                   -             -
      nightly       -             never: its `if` is false                                                   calls ./.github/workflows/called.yml   -             -
      deploy        test, build   after its needs succeeded                                                  host                                   staging       staging (up to 100 wait)
      more          build         after its needs succeeded; its matrix waits for needs.build.outputs.list   -                                      -             -
    "#);

    let tag = explain(folder.path(), &["--tag", "v1", ".github/workflows/ci.yml"]);
    assert!(
        tag.out.contains("no: it is for branches only"),
        "{}",
        tag.out
    );
    let docs = explain(folder.path(), &["--branch", "v/1", "--changed", "docs/a"]);
    assert!(
        docs.out.contains("is left out by `docs/**`"),
        "{}",
        docs.out
    );
    let skip = explain(folder.path(), &["--message", "x [skip ci]"]);
    assert!(
        skip.out.contains("message says `[skip ci]`"),
        "{}",
        skip.out
    );
    let other = explain(folder.path(), &["--branch", "v/1"]);
    assert!(
        other.out.contains("it depends on what changed"),
        "{}",
        other.out
    );
    assert!(
        other.out.contains("never: its `if` is false"),
        "{}",
        other.out
    );
}

#[test]
fn what_is_explained_is_json_for_programs() {
    let folder = folder(&[("called.yml", CALLEE), ("ci.yml", PIPELINE)]);
    let args = ["--branch", "main", "--json", "--changed", "x"];
    let told = explain(folder.path(), &args).json();
    let (called, ci) = (&told[0], &told[1]);
    assert_eq!(
        (&called["verdict"], &ci["verdict"]),
        (&"no".into(), &"starts".into())
    );
    assert_eq!(ci["why"][0]["line"], 3);
    let jobs = ci["jobs"].as_array().unwrap();
    let ids: Vec<&str> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["test", "build", "nightly", "deploy", "more"]);
    assert_eq!(jobs[0]["legs"]["known"][2]["matrix"]["v"], 2.0);
    assert_eq!(jobs[4]["legs"]["waits_for"][0], "needs.build.outputs.list");
}

#[test]
fn what_a_job_calls_is_explained_with_it() {
    let folder = folder(&[("caller.yml", CALLER), ("deep.yml", DEEP)]);
    // The other file is read for it.
    let args = ["--branch", "main", ".github/workflows/caller.yml"];
    let ran = explain(folder.path(), &args);
    assert_eq!(
        (ran.code, &*ran.err),
        (0, "push starts 1 of 1 workflow\n"),
        "{ran:?}"
    );
    insta::assert_snapshot!(ran.out, @r#"
    .github/workflows/caller.yml
      starts: every branch starts it
      JOB          NEEDS   STARTS                          RUNS ON                              ENVIRONMENT   ONE AT A TIME
      first        -       at once                         host                                 -             -
      one          -       at once                         calls ./.github/workflows/deep.yml   -             -
      one / go     -       with what calls it              host                                 staging       -
      one / old    -       never: its `if` is false        -                                    -             -
      each         first   after its needs succeeded       calls ./.github/workflows/deep.yml   -             -
      each / go    -       with what calls it              host                                 staging       -
      each / old   -       its `if` waits for inputs.tag   host                                 -             -
    "#);
}

#[test]
fn what_cannot_be_explained_is_told() {
    let folder = folder(&[("ci.yml", PIPELINE), ("called.yml", CALLEE)]);
    let dispatch = [
        "--branch",
        "main",
        "--event",
        "workflow_dispatch",
        "--input",
    ];
    for (args, code, said) in [
        (&[][..], 2, "which branch?"),
        (
            &["--event", "workflow_run", "--branch", "x"],
            2,
            "--workflow",
        ),
        (
            &["--event", "repository_dispatch", "--branch", "x"],
            2,
            "--type",
        ),
    ] {
        let ran = explain(folder.path(), args);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    let wrong: Vec<&str> = dispatch.iter().copied().chain(["level=x"]).collect();
    let ran = explain(folder.path(), &wrong);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.out
            .contains("input `level` is one of `low`, `high`, not `x`"),
        "{}",
        ran.out
    );
    let right: Vec<&str> = dispatch.iter().copied().chain(["level=high"]).collect();
    assert_eq!(explain(folder.path(), &right).code, 0);
    fs::write(folder.path().join(".github/workflows/ci.yml"), BROKEN).unwrap();
    let ran = explain(folder.path(), &["--branch", "main"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("ci.yml:4:5"), "{}", ran.out);
}

#[test]
fn a_repository_chooses_no_other_files_and_cannot_make_it_wait() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "TOKEN=k3Jx8\n").unwrap();
    let folder = folder(&[("fine.yml", FINE)]);
    let workflows = folder.path().join(".github/workflows");
    // Within the repository, a link is a file as others are.
    symlink("fine.yml", workflows.join("same.yml")).unwrap();
    assert_eq!(run(folder.path(), &[]).code, 0);
    symlink(&secret, workflows.join("link.yml")).unwrap();
    for paths in [
        &[][..],
        &[".github/workflows/link.yml"],
        &[".github/workflows/fine.yml"],
    ] {
        let ran = run(folder.path(), paths);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("leads out of the repository"), "{ran:?}");
        assert!(!ran.err.contains("k3Jx8") && !ran.out.contains("k3Jx8"));
    }
    fs::remove_file(workflows.join("link.yml")).unwrap();

    let git = folder.path().join(".git");
    let pipe = outside.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for head in [&pipe, Path::new("/dev/zero")] {
        fs::create_dir(&git).unwrap();
        symlink(head, git.join("HEAD")).unwrap();
        let ran = explain(folder.path(), &[]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("which branch?"), "{ran:?}");
        fs::remove_dir_all(&git).unwrap();
        symlink(head, &git).unwrap();
        assert_eq!(explain(folder.path(), &[]).code, 2);
        fs::remove_file(&git).unwrap();
    }
    let ran = run(folder.path(), &[pipe.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn more_files_than_are_read_are_not_left_out_silently() {
    let folder = folder(&[]);
    let workflows = folder.path().join(".github/workflows");
    for number in 0..1001 {
        fs::write(workflows.join(format!("{number}.yml")), FINE).unwrap();
    }
    let ran = run(folder.path(), &[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("more than 1000 workflow files"), "{ran:?}");
    fs::remove_file(workflows.join("0.yml")).unwrap();
    let long = format!("{FINE}#{}\n", "x".repeat(1 << 20));
    for number in 1..=17 {
        fs::write(workflows.join(format!("{number}.yml")), &long).unwrap();
    }
    let ran = run(folder.path(), &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("have more than 16 MiB"), "{ran:?}");
}
