//! A team that stays on GitHub: what is pushed there runs here, and GitHub is told. And the other way round.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use data_encoding::HEXLOWER;
use havre_testing::wait_until;
use ring::hmac;

use crate::fake_github::{FakeGitHub, TOKEN};
use crate::git_push::prepared;
use crate::machine::{Machine, kill, on_machine};
use crate::program::Ran;

/// For a run, on a busy machine.
const LATE: Duration = Duration::from_secs(90);
const WORKFLOW: &str = "name: CI\non: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n";

/// Somebody's working folder.
struct Work(PathBuf);

impl Work {
    fn new(machine: &Machine) -> Self {
        let path = machine.root().join("work");
        fs::create_dir_all(path.join(".github/workflows")).unwrap();
        let work = Self(path);
        work.ok(&["init", "--quiet", "--initial-branch=main"]);
        work
    }

    /// The commit.
    fn commit(&self, workflow: &str) -> String {
        fs::write(self.0.join(".github/workflows/ci.yml"), workflow).unwrap();
        self.ok(&["add", "--all"]);
        self.ok(&["commit", "--quiet", "-m", "a change"]);
        self.ok(&["rev-parse", "HEAD"]).out.trim().to_owned()
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = Command::new("git");
        prepared(&mut command, &self.0);
        command.args(args).output().unwrap().into()
    }

    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }
}

fn give_token(machine: &Machine, token: &str) {
    let file = machine.root().join("token");
    fs::write(&file, token).unwrap();
    let file = file.display().to_string();
    let set = [
        "secret",
        "set",
        "GITHUB_TOKEN",
        "-p",
        "shop",
        "-E",
        "mirror",
        "--from-file",
        &file,
    ];
    machine.ok(&set);
}

fn runs(machine: &Machine) -> Vec<(String, String)> {
    let runs = machine.json(&["ci", "ls", "-p", "shop"]);
    let runs = runs.as_array().cloned().unwrap_or_default();
    let text =
        |run: &serde_json::Value, name: &str| run[name].as_str().unwrap_or_default().to_owned();
    runs.iter()
        .map(|run| (text(run, "commit"), text(run, "state")))
        .collect()
}

fn until_ran(machine: &Machine, commit: &str) {
    wait_until("the commit's run succeeds", LATE, || {
        runs(machine).contains(&(commit.to_owned(), "success".to_owned()))
    });
}

fn shown(machine: &Machine) -> String {
    machine.ok(&["git", "mirror", "show", "-p", "shop"]).out
}

/// What a webhook is answered, by its status.
fn hook(machine: &Machine, project: &str, secret: &str, event: &str) -> String {
    let body = "{\"ref\": \"refs/heads/main\"}";
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = HEXLOWER.encode(hmac::sign(&key, body.as_bytes()).as_ref());
    let output = Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "20",
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            "-d",
            body,
        ])
        .args(["-H", &format!("X-Hub-Signature-256: sha256={signature}")])
        .args(["-H", &format!("X-GitHub-Event: {event}"), "--unix-socket"])
        .arg(machine.root().join("run/api.sock"))
        .arg(format!("http://localhost/hooks/{project}"))
        .stdin(Stdio::null())
        .output()
        .expect("curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_is_pushed_to_github_runs_here_and_github_is_told() {
    on_machine(|machine| {
        machine.shop_up();
        let github = FakeGitHub::start(&machine.root().join("github"));
        let work = Work::new(machine);
        let first = work.commit(WORKFLOW);
        work.ok(&["push", &github.path(), "main"]);
        let url = github.url();
        let from = |more: &[&str]| {
            let args = [
                "git",
                "mirror",
                "from",
                &url,
                "-p",
                "shop",
                "--token-secret",
                "GITHUB_TOKEN",
            ];
            machine.run(&[&args, more].concat())
        };
        let refused = from(&[]);
        let hint = "havre secret set GITHUB_TOKEN -p shop -E mirror";
        assert!(
            refused.code != 0 && refused.err.contains(hint),
            "{refused:?}"
        );
        give_token(machine, TOKEN);
        for url in [
            "file:///etc",
            "ext::sh",
            "ssh://git@github.com/a/b",
            "https://u:pw@example.org/a",
        ] {
            let refused = machine.run(&["git", "mirror", "from", url, "-p", "shop"]);
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(!refused.err.contains("pw"), "{refused:?}");
        }
        // Nobody looks but once an hour: what comes is told by webhooks.
        let set = from(&["--every", "1h", "--statuses"]);
        assert_eq!(set.code, 0, "{set:?}");
        until_ran(machine, &first);
        let told = |commit: &str, context: &str, state: &str| {
            wait_until("github is told", LATE, || {
                github.told(commit, context).last().map(String::as_str) == Some(state)
            });
        };
        told(&first, "havre / CI", "success");
        let actor = machine.json(&["ci", "ls", "-p", "shop"])[0]["actor"].clone();
        assert_eq!(
            actor,
            format!("mirror {}", url.replace("http://", "").replace(".git", ""))
        );

        // Here nobody pushes, and no job gets the token.
        let mut remote = machine.command(&["git", "remote", "--add", "-p", "shop"]);
        prepared(&mut remote, &work.0);
        assert!(remote.status().unwrap().success());
        work.ok(&["commit", "--quiet", "--allow-empty", "-m", "here"]);
        let refused = work.run(&["push", "havre", "main"]);
        assert!(
            refused.err.contains(&format!("shop is a mirror of {url}")),
            "{refused:?}"
        );
        work.ok(&["reset", "--quiet", "--hard", &first]);

        let hooked = machine
            .ok(&["git", "mirror", "show", "--hook", "-p", "shop", "--json"])
            .json();
        let secret = hooked["hook"]["secret"].as_str().unwrap().to_owned();
        let second = work.commit(&format!("{WORKFLOW}# more\n"));
        work.ok(&["push", &github.path(), "main"]);
        assert_eq!(hook(machine, "shop", "wrong", "push"), "403");
        assert_eq!(hook(machine, "shop", "", "push"), "403");
        assert_eq!(hook(machine, "other", &secret, "push"), "403");
        assert_eq!(hook(machine, "shop", &secret, "ping"), "202");
        assert_eq!(hook(machine, "shop", &secret, "push"), "202");
        until_ran(machine, &second);
        told(&second, "havre / CI", "success");

        // A forced push of a broken workflow comes too, and says so.
        work.ok(&["reset", "--quiet", "--hard", &first]);
        let gets = "    environment: mirror\n    steps";
        let third = work.commit(&WORKFLOW.replace("steps", "stepz"));
        work.ok(&["push", "--force", &github.path(), "main", "main:other"]);
        assert_eq!(hook(machine, "shop", &secret, "push"), "202");
        told(&third, "havre / check", "error");
        assert!(
            shown(machine).contains(".github/workflows/ci.yml:6:5: "),
            "{}",
            shown(machine)
        );
        let listed = work.ok(&["ls-remote", "havre"]).out;
        assert_eq!(listed.matches(&third).count(), 3, "{listed}");
        let trail = machine.ok(&["audit", "log"]).out;
        assert!(
            trail.contains("git/mirrored") && trail.contains("(forced)"),
            "{trail}"
        );

        // The daemon dies; what came meanwhile is fetched by the next one. A branch goes.
        kill(machine.info()["pid"].as_u64().unwrap());
        work.ok(&["push", &github.path(), "--delete", "other"]);
        let fourth = work.commit(&WORKFLOW.replace("    steps", gets));
        work.ok(&["push", &github.path(), "main"]);
        machine.start_daemon();
        told(&fourth, "havre / CI", "failure");
        let why = machine
            .ok(&["ci", "show", "-p", "shop", &runs(machine).len().to_string()])
            .out;
        assert!(why.contains("no job gets into it"), "{why}");
        assert!(!work.ok(&["ls-remote", "havre"]).out.contains("other"));

        // A token that is not valid any more: it says so, and is tried again.
        github.set_token("another");
        machine.ok(&["git", "mirror", "now", "from", "-p", "shop"]);
        wait_until("the mirror fails", LATE, || {
            shown(machine).contains("failed ")
        });
        let listed = machine.ok(&["git", "mirror", "ls"]).out;
        assert!(
            listed.contains("failed: ") && !listed.contains(TOKEN),
            "{listed}"
        );
        give_token(machine, "another");
        wait_until("the mirror is well again", LATE, || {
            !shown(machine).contains("failed ")
        });
        let log = fs::read_to_string(machine.root().join("lib/daemon.log")).unwrap_or_default();
        assert!(!log.contains(TOKEN) && !log.contains(&secret), "{log}");
        machine.ok(&["git", "mirror", "rm", "from", "-p", "shop"]);
        work.commit(&WORKFLOW.replace("on: push", "on: workflow_dispatch"));
        work.ok(&["push", "havre", "HEAD:here"]);
    });
}

#[test]
fn what_is_pushed_here_goes_to_github() {
    on_machine(|machine| {
        machine.write("README", "");
        machine.start_daemon();
        let github = FakeGitHub::start(&machine.root().join("github"));
        let work = Work::new(machine);
        give_token(machine, TOKEN);
        let mut remote = machine.command(&["git", "remote", "--add", "-p", "shop"]);
        prepared(&mut remote, &work.0);
        assert!(remote.status().unwrap().success());
        let first = work.commit("on: workflow_dispatch\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n");
        work.ok(&["push", "havre", "main"]);
        let url = github.url();
        let to = [
            "git",
            "mirror",
            "to",
            &url,
            "-p",
            "shop",
            "--token-secret",
            "GITHUB_TOKEN",
            "--every",
            "1h",
        ];
        machine.ok(&to);
        let until = |branch: &str, commit: &str| {
            wait_until("github has it", LATE, || github.head(branch) == commit);
        };
        until("main", &first);
        github.set_token("another");
        work.ok(&["commit", "--quiet", "--allow-empty", "-m", "more"]);
        let second = work.ok(&["rev-parse", "HEAD"]).out.trim().to_owned();
        work.ok(&["push", "havre", "main", "main:feature"]);
        wait_until("the mirror fails", LATE, || {
            shown(machine).contains("failed ")
        });
        assert_eq!(github.head("main"), first);
        github.set_token(TOKEN);
        until("main", &second);
        until("feature", &second);
        work.ok(&["push", "havre", "--delete", "feature"]);
        until("feature", "");
    });
}
