//! From a push to production: tests, staging, a person's word, production.

use std::process::Command;
use std::time::Duration;

use havre_testing::wait_until;

use crate::git_push::prepared;
use crate::machine::{Background, Machine, kill, on_machine};
use crate::program::Ran;

/// For a job that deploys, on a busy machine.
const LATE: Duration = Duration::from_secs(120);

const SETTINGS: &str = "domain: shop.localhost
environments:
  staging: {branch: main}
  production: {needs: staging, approval: true}
";
const WORKFLOW: &str = "name: CI
on: push
jobs:
  test:
    runs-on: ubuntu-latest
    outputs: {page: '${{ steps.page.outputs.page }}'}
    steps:
      - uses: actions/checkout@v5
      - id: page
        run: echo \"page=$(cat index.html)\" >> \"$GITHUB_OUTPUT\"
      - run: test \"$(cat index.html)\" != broken
      - run: sleep 5
  staging:
    needs: test
    if: needs.test.outputs.page != 'unwanted'
    runs-on: ubuntu-latest
    environment: staging
    steps:
      - uses: actions/checkout@v5
      - run: havre up
      - run: |
          if havre up -E production; then exit 1; fi
          if havre secret get -E staging TOKEN; then exit 1; fi
  production:
    needs: staging
    runs-on: ubuntu-latest
    environment: production
    steps:
      - uses: actions/checkout@v5
      - run: havre promote latest --from staging --to production
";

fn git(machine: &Machine, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    prepared(&mut command, &machine.project());
    command.args(args);
    command
}

pub(crate) fn git_ok(machine: &Machine, args: &[&str]) {
    let ran: Ran = git(machine, args).output().unwrap().into();
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
}

pub(crate) fn push(machine: &Machine, page: &str) -> Background {
    machine.page(page);
    git_ok(machine, &["add", "--all"]);
    git_ok(machine, &["commit", "--quiet", "-m", page]);
    machine.start_command("git-push", git(machine, &["push", "havre", "main"]))
}

/// A repository of the project's files, with the machine as its remote.
pub(crate) fn initialise(machine: &Machine) {
    git_ok(machine, &["init", "--quiet", "--initial-branch=main"]);
    let mut remote = machine.command(&["git", "remote", "--add", "-p", "shop"]);
    prepared(&mut remote, &machine.project());
    let added: Ran = remote.output().unwrap().into();
    assert_eq!(added.code, 0, "{added:?}");
}

/// How a run ended, in the words of `ci show`.
pub(crate) fn until_ended(machine: &Machine, number: &str) -> String {
    let mut state = String::new();
    wait_until("the run ends", LATE, || {
        let run = machine.json(&["ci", "show", number, "-p", "shop"]);
        state = run["run"]["state"].as_str().unwrap_or_default().to_owned();
        !["queued", "running", "waiting", "cancelling"].contains(&state.as_str())
    });
    state
}

/// The number of what waits for somebody's word.
fn until_asked(machine: &Machine) -> String {
    let mut number = String::new();
    wait_until("somebody is asked", LATE, || {
        let environments = machine.json(&["env", "ls", "-p", "shop"]);
        let environments = environments.as_array().cloned().unwrap_or_default();
        let mut production = environments
            .iter()
            .filter(|one| one["id"]["environment"] == "production");
        let waiting = production.find_map(|one| {
            let all = one["waiting"].as_array()?;
            all.first()?["promotion"].as_u64()
        });
        number = waiting.map(|number| number.to_string()).unwrap_or_default();
        !number.is_empty()
    });
    number
}

/// The digests that serve in an environment.
pub(crate) fn images(machine: &Machine, environment: &str) -> Vec<String> {
    let replicas = machine.json(&["status", "-p", "shop", "-E", environment]);
    let services = replicas[0]["services"].as_array().cloned();
    let services = services.unwrap_or_default();
    let images = services.iter().map(|one| one["digest"].to_string());
    images.collect()
}

#[test]
fn what_is_pushed_is_tested_tried_agreed_with_and_then_serves() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write("havre.yaml", SETTINGS);
        let folder = machine.project().join(".github/workflows");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ci.yml"), WORKFLOW).unwrap();
        initialise(machine);

        // The daemon dies while the first job runs, which goes on.
        let pushed = push(machine, "one");
        wait_until("the first job runs", LATE, || {
            pushed.talk().contains("▸ Run sleep 5")
        });
        kill(machine.info()["pid"].as_u64().unwrap());
        machine.start_daemon();
        let promotion = until_asked(machine);
        assert_eq!(images(machine, "staging").len(), 1);
        let refused = machine.run(&["status", "-p", "shop", "-E", "production"]);
        assert_ne!(refused.code, 0, "production serves without anybody's word");
        machine.ok(&["approve", &promotion]);
        assert_eq!(until_ended(machine, "1"), "success");
        machine.until_answers("one");
        assert_eq!(images(machine, "staging"), images(machine, "production"));
        let log = machine
            .ok(&["ci", "logs", "1", "-p", "shop", "--job", "test"])
            .out;
        assert_eq!(log.matches("▸ Run sleep 5").count(), 1, "{log}");

        // What fails its tests gets nowhere.
        let mut pushed = push(machine, "broken");
        pushed.ends();
        let talk = pushed.talk();
        assert!(talk.contains("CI #2: failure"), "{talk}");
        machine.until_answers("one");
        let releases = machine.json(&["releases", "-p", "shop", "-E", "staging"]);
        assert_eq!(releases.as_array().map(Vec::len), Some(1), "{releases}");

        machine.ok(&["down", "-p", "shop", "-E", "staging"]);
        machine.ok(&["down", "-p", "shop"]);
    });
}
