//! Actions of other repositories, fetched by the real git from folders beside.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::runner::Given;

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("fetched: an action and one within it", nested),
        Trial::test("fetched: pre, main and post", phases),
        Trial::test(
            "fetched: what is not there fails before the first step",
            missing,
        ),
        Trial::test("fetched: a commit that the lock file pins", pinned),
        Trial::test("fetched: another commit than is pinned", other_commit),
        Trial::test("fetched: what is there already", there),
        Trial::test("fetched: what a lock file does not have", locked),
    ]
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with these files, tagged `v1`; returns its commit.
fn repository(given: &Given, name: &str, files: &[(&str, &str)]) -> String {
    let folder = given.folder.path().join("server").join(name);
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    git(&folder, &["init", "--quiet"]);
    git(&folder, &["add", "."]);
    git(&folder, &["commit", "--quiet", "-m", "one"]);
    git(&folder, &["tag", "v1"]);
    git(&folder, &["rev-parse", "HEAD"])
}

fn same(told: &str, expected: &str) -> Result<(), Failed> {
    match told.trim() == expected.trim() {
        true => Ok(()),
        false => Err(format!("told:\n{told}\nexpected:\n{expected}").into()),
    }
}

const SAYS: &str = "runs: {using: composite, steps: [{run: 'echo said by $GITHUB_ACTION_REPOSITORY @$GITHUB_ACTION_REF', shell: sh}]}";

fn nested() -> Result<(), Failed> {
    let given = Given::steps("- uses: o/outer/deep@v1");
    let outer = "runs: {using: composite, steps: [{uses: o/inner@v1}, {uses: $/mine}]}";
    repository(
        &given,
        "o/outer",
        &[("deep/action.yml", outer), ("mine/action.yml", SAYS)],
    );
    repository(&given, "o/inner", &[("action.yml", SAYS)]);
    same(
        &given.shown(),
        "began Run o/outer/deep@v1
0 > Run o/outer/deep@v1
0   said by o/inner @v1
0   said by o/outer @v1
0 < success
ended success",
    )
}

fn phases() -> Result<(), Failed> {
    let given = Given::steps(
        "- run: echo first\n- {uses: o/js@v1, name: mine, with: {a: x}}\n- uses: o/js@v1",
    );
    let action = "inputs: {a: {default: d}}\nruns: {using: node20, pre: s.js, pre-if: \"github.actor == 'ada'\", main: s.js, post: s.js}";
    let script = "console.log(process.env.INPUT_A, process.env.STATE_n, process.env.GITHUB_ACTION);\n\
                  require('fs').appendFileSync(process.env.GITHUB_STATE, 'n=' + (1 + Number(process.env.STATE_n || 0)) + '\\n');";
    repository(&given, "o/js", &[("action.yml", action), ("s.js", script)]);
    same(
        &given.shown(),
        "began Run echo first | mine | Run o/js@v1
3 > Pre mine
3   x undefined __o_js
3 < success
4 > Pre Run o/js@v1
4   d undefined __o_js_2
4 < success
0 > Run echo first
0   first
0 < success
1 > mine
1   x 1 __o_js
1 < success
2 > Run o/js@v1
2   d 1 __o_js_2
2 < success
5 > Post Run o/js@v1
5   d 2 __o_js_2
5 < success
6 > Post mine
6   x 2 __o_js
6 < success
ended success",
    )
}

fn missing() -> Result<(), Failed> {
    let given = Given::steps("- run: echo first\n- uses: o/none@v1");
    let text = given.shown();
    let expected = [
        "0 < skipped (The job could not be prepared.)",
        "action `o/none@v1` cannot be fetched from file://$/server/o/none: fatal:",
        "use `./PATH`",
        "ended failure",
    ];
    match expected.iter().all(|part| text.contains(part)) && !text.contains("0   first") {
        true => Ok(()),
        false => Err(text.into()),
    }
}

fn pinned() -> Result<(), Failed> {
    let mut given = Given::steps("- uses: o/act@v1");
    let commit = repository(&given, "o/act", &[("action.yml", SAYS)]);
    let folder = given.folder.path().join("server/o/act");
    std::fs::write(folder.join("action.yml"), SAYS.replace("said", "changed")).expect("written");
    git(&folder, &["commit", "--quiet", "-am", "two"]);
    git(&folder, &["tag", "--force", "v1"]);
    let pinned = &mut given.document.actions.pinned;
    pinned.insert("o/act@v1".to_owned(), format!("sha1-{commit}"));
    same(
        &given.shown(),
        "began Run o/act@v1\n0 > Run o/act@v1\n0   said by o/act @v1\n0 < success\nended success",
    )
}

/// Whoever made the box has put it there: no server is asked.
fn there() -> Result<(), Failed> {
    let mut given = Given::steps("- uses: O/Act@v1\n- uses: $/own");
    let folder = Path::new(&given.document.actions.folder).join("o/act/abc");
    std::fs::create_dir_all(folder.join("own")).expect("made");
    std::fs::write(folder.join("action.yml"), SAYS).expect("written");
    std::fs::write(folder.join("own/action.yml"), SAYS).expect("written");
    let actions = &mut given.document.actions;
    actions
        .there
        .insert("o/act@v1".to_owned(), "abc".to_owned());
    actions.locked = true;
    actions.own = Some(folder.to_string_lossy().into_owned());
    same(
        &given.shown(),
        "began Run O/Act@v1 | Run $/own\n0 > Run O/Act@v1\n0   said by O/Act @v1\n0 < success\n\
         1 > Run $/own\n1   said by @\n1 < success\nended success",
    )
}

fn locked() -> Result<(), Failed> {
    let mut given = Given::steps("- uses: o/act@v1");
    repository(&given, "o/act", &[("action.yml", SAYS)]);
    given.document.actions.locked = true;
    let text = given.shown();
    match text.contains("action `o/act@v1` is not in the lock file")
        && text.contains("ended failure")
    {
        true => Ok(()),
        false => Err(text.into()),
    }
}

fn other_commit() -> Result<(), Failed> {
    let mut given = Given::steps("- uses: o/act@v1");
    repository(&given, "o/act", &[("action.yml", SAYS)]);
    let pinned = &mut given.document.actions.pinned;
    pinned.insert("o/act@v1".to_owned(), "sha1-".to_owned() + &"1".repeat(40));
    let text = given.shown();
    match text.contains("cannot be fetched") && text.contains("ended failure") {
        true => Ok(()),
        false => Err(text.into()),
    }
}
