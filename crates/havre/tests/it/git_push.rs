//! `git push havre main`: with the real git, through the real edge and by the daemon's socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::access::{Elsewhere, URL};
use crate::machine::{Machine, on_machine};
use crate::program::Ran;

const WORKFLOW: &str =
    "on: push\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps:\n      - run: true\n";

/// A working folder of somebody.
struct Work {
    path: PathBuf,
    config: PathBuf,
    token: String,
}

impl Work {
    fn new(machine: &Machine, there: &Elsewhere<'_>, name: &str, token: &str) -> Self {
        let path = machine.root().join(name);
        fs::create_dir_all(path.join(".github/workflows")).unwrap();
        let work = Self {
            path,
            config: there.config.clone(),
            token: token.to_owned(),
        };
        work.ok(&["init", "--quiet", "--initial-branch=main"]);
        work
    }

    fn commit(&self, workflow: &str) {
        fs::write(self.path.join(".github/workflows/ci.yml"), workflow).unwrap();
        self.ok(&["add", "--all"]);
        self.ok(&["commit", "--quiet", "-m", "a change"]);
    }

    fn at_hand(&self, mut command: Command) -> Ran {
        prepared(&mut command, &self.path);
        command
            .env("XDG_CONFIG_HOME", &self.config)
            .env("HAVRE_TOKEN", &self.token);
        command.output().unwrap().into()
    }

    fn git(&self, args: &[&str]) -> Ran {
        let mut command = Command::new("git");
        command.args(args);
        self.at_hand(command)
    }

    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.git(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran
    }
}

pub fn prepared(command: &mut Command, folder: &Path) {
    command.current_dir(folder).envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("NO_PROXY", "*"),
        ("GIT_AUTHOR_NAME", "Anna"),
        ("GIT_AUTHOR_EMAIL", "anna@example.org"),
        ("GIT_COMMITTER_NAME", "Anna"),
        ("GIT_COMMITTER_EMAIL", "anna@example.org"),
    ]);
    // What would outweigh what the remote is configured with.
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "GIT_SSL_CAINFO",
    ] {
        command.env_remove(name);
    }
}

#[test]
fn a_push_is_checked_and_stored() {
    on_machine(|machine| {
        let there = Elsewhere::new(machine);
        let token = there.token("pusher", "deployer", "shop/*");
        let work = Work::new(machine, &there, "work", &token);
        work.commit(&WORKFLOW.replace("steps", "stepz"));
        let remote = ["-c", "prod", "git", "remote", "--add", "-p", "shop"];
        let added = work.at_hand(there.command(&token, &remote));
        assert_eq!(added.out, format!("{URL}/shop.git\n"), "{added:?}");

        let refused = work.git(&["push", "havre", "main"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        let place = "remote: .github/workflows/ci.yml:5:5: ";
        assert!(refused.err.contains(place), "{refused:?}");
        assert!(
            refused.err.contains("pre-receive hook declined"),
            "{refused:?}"
        );
        assert_eq!(work.ok(&["ls-remote", "havre"]).out, "");

        work.commit(WORKFLOW);
        let pushed = work.ok(&["push", "havre", "main"]);
        assert!(
            pushed.err.contains("remote: shop is stored: main "),
            "{pushed:?}"
        );
        let head = work.ok(&["rev-parse", "HEAD"]).out;
        let listed = work.ok(&["ls-remote", "havre", "refs/heads/main"]).out;
        assert!(listed.starts_with(head.trim()), "{listed}");

        let reader = there.token("reader", "viewer", "shop/production");
        let url = |token: &str| URL.replace("https://", &format!("https://x:{token}@"));
        let as_other = |token: &str, args: &[&str]| {
            let url = format!("{}/shop.git", url(token));
            let args: Vec<_> = args.iter().map(|arg| arg.replace("URL", &url)).collect();
            work.git(&args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let fetched = as_other(&reader, &["fetch", "URL", "main"]);
        assert_eq!(fetched.code, 0, "{fetched:?}");
        work.commit(&format!("{WORKFLOW}# more\n"));
        let other = there.token("other", "deployer", "other/*");
        for (token, said) in [
            (&reader, "needs the role deployer"),
            (&other, "pushing to shop needs the role deployer in shop/*"),
            (&"wrong".to_owned(), "Authentication failed"),
        ] {
            let refused = as_other(token, &["push", "URL", "main"]);
            assert_eq!(refused.code, 128, "{refused:?}");
            assert!(refused.err.contains(said), "{said}: {refused:?}");
        }

        // By the socket, as over SSH.
        work.ok(&["remote", "remove", "havre"]);
        let here = machine.command(&["git", "remote", "--add", "-p", "shop"]);
        let here = work.at_hand(here);
        assert_eq!(here.out, "file:///shop.git\n", "{here:?}");
        let pushed = work.ok(&["push", "havre", "main"]);
        assert!(
            pushed.err.contains("remote: shop is stored: main "),
            "{pushed:?}"
        );

        let trail = machine.ok(&["audit", "log"]).out;
        assert!(trail.contains("git/push"), "{trail}");
        assert!(trail.contains("shop: main "), "{trail}");
        there.end();
    });
}
