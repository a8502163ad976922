//! Each branch its own environment: made by its first job, removed with it.

use std::process::Command;
use std::time::Duration;

use havre_testing::wait_until;

use crate::git_push::prepared;
use crate::machine::{Machine, kill, on_machine};
use crate::program::Ran;

/// For a job that deploys, on a busy machine.
const LATE: Duration = Duration::from_secs(120);

const SETTINGS: &str = "domain: shop.localhost
environments:
  preview:
    domain: preview.localhost
    previews: {most: 2, after: 1h}
  production: {}
";
const WORKFLOW: &str = "name: CI
on: push
jobs:
  preview:
    if: github.ref != 'refs/heads/main'
    runs-on: ubuntu-latest
    environment: preview
    steps:
      - uses: actions/checkout@v5
      - run: test \"$KEY\" = of-previews && test -z \"$ONLY\"
        env: {KEY: '${{ secrets.KEY }}', ONLY: '${{ secrets.ONLY_PRODUCTION }}'}
      - run: havre up
      - run: if havre up -E production; then exit 1; fi
";

fn git(machine: &Machine, args: &[&str]) -> Ran {
    let mut command = Command::new("git");
    prepared(&mut command, &machine.project());
    command.args(args).output().unwrap().into()
}

#[track_caller]
fn ok(machine: &Machine, args: &[&str]) -> Ran {
    let ran = git(machine, args);
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    ran
}

fn set(machine: &Machine, name: &str, environment: &str, value: &str) {
    let file = machine.root().join("value");
    std::fs::write(&file, value).unwrap();
    let file = file.display().to_string();
    let set = [
        "secret",
        "set",
        name,
        "-p",
        "shop",
        "-E",
        environment,
        "--from-file",
        &file,
    ];
    machine.ok(&set);
}

/// Names of the project's environments that serve, and what `env ls` says of them.
fn environments(machine: &Machine) -> Vec<String> {
    let all = machine.json(&["env", "ls", "-p", "shop"]);
    let all = all.as_array().cloned().unwrap_or_default();
    let serving = all.iter().filter(|one| one["release"].is_number());
    let name = |one: &serde_json::Value| one["id"]["environment"].as_str().unwrap().to_owned();
    serving.map(name).collect()
}

/// Those of a branch's environment.
fn secrets(machine: &Machine) -> String {
    let ls = ["secret", "ls", "-p", "shop", "-E", "preview-feature-login"];
    machine.ok(&ls).out
}

fn volumes(machine: &Machine) -> Vec<String> {
    let folder = machine.root().join("lib/volumes");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_branch_has_its_own_environment_until_it_is_gone() {
    on_machine(|machine| {
        machine.shop("one");
        machine.web("    volumes: ['data:/data']\nvolumes: {data: {}}\n");
        machine.write("havre.yaml", SETTINGS);
        let folder = machine.project().join(".github/workflows");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ci.yml"), WORKFLOW).unwrap();
        set(machine, "KEY", "preview", "of-previews");
        set(machine, "ONLY_PRODUCTION", "production", "secret");
        ok(machine, &["init", "--quiet", "--initial-branch=main"]);
        let mut remote = machine.command(&["git", "remote", "--add", "-p", "shop"]);
        prepared(&mut remote, &machine.project());
        assert!(remote.status().unwrap().success());
        ok(machine, &["add", "--all"]);
        ok(machine, &["commit", "--quiet", "-m", "all"]);
        ok(machine, &["push", "havre", "main"]);
        // Somebody's own, by a name that a branch would have.
        machine.ok(&["up", "-E", "preview-mine", "-d"]);
        wait_until("it serves", LATE, || {
            environments(machine) == ["preview-mine"]
        });

        let pushed = ok(
            machine,
            &["push", "havre", "main:feature/login", "main:mine"],
        )
        .err;
        let host = "feature-login.preview.localhost";
        assert!(pushed.contains(host), "the push says where: {pushed}");
        let told = machine.ok(&["env", "ls", "-p", "shop"]).out;
        let line = |name: &str| {
            let mut lines = told
                .lines()
                .filter(|line| line.starts_with(&format!("shop/{name} ")));
            lines
                .next()
                .unwrap_or_else(|| panic!("{name}: {told}"))
                .to_owned()
        };
        let login = line("preview-feature-login");
        assert!(login.contains("branch feature/login"), "{told}");
        assert!(login.contains(&format!("https://{host}, until ")), "{told}");
        assert!(!line("preview-mine").contains("branch"), "{told}");
        assert!(secrets(machine).contains("KEY"));
        let all = environments(machine);
        assert_eq!(all.len(), 3, "{all:?}");
        let of_mine = all
            .iter()
            .find(|name| name.starts_with("preview-mine-"))
            .unwrap()
            .clone();
        assert_eq!(volumes(machine).len(), 3, "{:?}", volumes(machine));

        // There is no room for a third, and the default branch may not be told otherwise by it.
        let third = git(machine, &["push", "havre", "main:third"]);
        assert!(
            third
                .err
                .contains("there are 2 environments of branches already"),
            "{third:?}"
        );

        // The daemon dies while they are removed.
        ok(
            machine,
            &["push", "havre", "--delete", "feature/login", "mine"],
        );
        wait_until("it goes", LATE, || {
            let log = machine.ok(&["env", "ls", "-p", "shop"]).out;
            log.contains("goes: ") || environments(machine).len() < 3
        });
        kill(machine.info()["pid"].as_u64().unwrap());
        machine.start_daemon();
        wait_until("they are gone", LATE, || {
            environments(machine) == ["preview-mine"]
        });
        wait_until("their volumes too", LATE, || volumes(machine).len() == 1);
        wait_until("their secrets too", LATE, || {
            !secrets(machine).contains("KEY")
        });
        let trail = machine.ok(&["audit", "log"]).out;
        assert!(trail.contains("previews/removed"), "{trail}");
        let listed = machine.ok(&["env", "ls", "-p", "shop"]).out;
        assert!(!listed.contains(&of_mine), "{listed}");

        // What was told to run again of a branch that is gone gets nowhere.
        let again = machine.run(&["ci", "rerun", "2", "-p", "shop"]);
        assert_eq!(again.code, 0, "{again:?}");
        wait_until("it is over", LATE, || {
            let run = machine.json(&["ci", "show", "2", "-p", "shop"]);
            run["run"]["state"] == "failure" || run["run"]["state"] == "cancelled"
        });
        wait_until("nothing is left", LATE, || {
            environments(machine) == ["preview-mine"]
        });
        machine.ok(&["down", "-p", "shop", "-E", "preview-mine", "--volumes"]);
    });
}
