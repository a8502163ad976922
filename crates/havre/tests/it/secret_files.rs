//! Secrets from files, into files, and forgotten in files.

use std::fs;
use std::path::Path;
use std::process::Command;

use havre_testing::wait_until;
use rustix::termios::LocalModes;

use crate::daemon::{Root, run, with_ports};
use crate::machine::SOON;
use crate::pty::Terminal;

fn names(path: &Path, environment: &str) -> Vec<String> {
    let ran = run(
        path,
        &["secret", "ls", "-p", "shop", "-E", environment, "--json"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let secrets = ran.json();
    let secrets = secrets.as_array().unwrap().iter();
    secrets
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_value_is_one_line_of_a_terminal_or_all_of_what_is_named() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    // The daemon runs: what is asked is asked at once.
    let set = run(path, &["secret", "set", "old", "--generate"]);
    assert_eq!(set.code, 0, "{set:?}");
    let set = |typed: &str, answer: &str| {
        let command = with_ports(path, &["secret", "set", "key"]);
        let mut terminal = Terminal::start(command, 200, 30);
        terminal.wait_for("value of key: ");
        // What is typed before is thrown away.
        wait_until("nothing typed is shown", SOON, || {
            let modes = terminal.settings().local_modes;
            !modes.contains(LocalModes::ECHO)
        });
        terminal.type_in(typed);
        terminal.wait_for(answer);
        (terminal.wait_end(), terminal.seen())
    };
    let (code, seen) = set(
        "-----BEGIN KEY-----\nqvq\n-----END KEY-----\n",
        "that has several lines: give it with --stdin or --from-file",
    );
    assert_eq!(code, 2, "{seen}");
    assert!(!seen.contains("BEGIN KEY"), "{seen}");
    assert_eq!(names(path, "production"), ["old"]);
    let (code, seen) = set("one line\n", "has version 1");
    assert_eq!(code, 0, "{seen}");
    assert_eq!(names(path, "production"), ["key", "old"]);

    // What is piped is not left unread.
    fs::write(path.join("value"), "piped\n").unwrap();
    let piped = |args: &[&str]| {
        let mut command = with_ports(path, args);
        command.stdin(fs::File::open(path.join("value")).unwrap());
        crate::program::Ran::from(command.output().unwrap())
    };
    for what in ["set", "rotate"] {
        let refused = piped(&["secret", what, "key"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        let hint = "hint: --stdin reads it from standard input";
        assert!(refused.err.contains(hint), "{refused:?}");
    }
    let set = piped(&["secret", "set", "key", "--stdin"]);
    assert_eq!(set.code, 0, "{set:?}");
    let got = run(path, &["secret", "get", "key", "--reason", "test"]);
    assert_eq!(got.out, "piped");
}

#[test]
fn secrets_of_an_env_file_go_out_as_a_file_of_sops_and_come_in_elsewhere() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    let file = |name: &str| path.join(name).to_str().unwrap().to_owned();
    fs::write(
        file("app.env"),
        "DATABASE_URL=postgres://app:k3Jx8QwErTyUi@db/shop\nKEY='two words of $it'\nEMPTY=\n",
    )
    .unwrap();
    let imported = run(
        path,
        &[
            "secret",
            "import",
            &file("app.env"),
            "-p",
            "shop",
            "-E",
            "staging",
        ],
    );
    assert_eq!(imported.code, 0, "{imported:?}");
    assert!(imported.err.contains("2 secrets imported"), "{imported:?}");
    assert_eq!(names(path, "staging"), ["DATABASE_URL", "KEY"]);

    let Ok(made) = Command::new("age-keygen")
        .args(["-o", &file("key")])
        .output()
    else {
        return println!("skipped: needs age");
    };
    let said = String::from_utf8(made.stderr).unwrap();
    let recipient = said.trim().strip_prefix("Public key: ").unwrap();
    let export = [
        "secret", "export", "--sops", "--age", recipient, "--reason", "a move", "-p", "shop", "-E",
        "staging",
    ];
    let exported = run(path, &export);
    assert_eq!(exported.code, 0, "{exported:?}");
    assert!(!exported.out.contains("two words"), "{exported:?}");
    fs::write(file("all.yaml"), &exported.out).unwrap();
    let import = [
        "secret",
        "import",
        &file("all.yaml"),
        "-p",
        "shop",
        "-E",
        "production",
    ];
    let without = run(
        path,
        &[&import[..], &["--identity", &file("app.env")]].concat(),
    );
    assert_ne!(without.code, 0);
    let imported = run(path, &[&import[..], &["--identity", &file("key")]].concat());
    assert_eq!(imported.code, 0, "{imported:?}");
    assert_eq!(names(path, "production"), ["DATABASE_URL", "KEY"]);
    let got = run(
        path,
        &[
            "secret",
            "get",
            "KEY",
            "--reason",
            "test",
            "-p",
            "shop",
            "-E",
            "production",
        ],
    );
    assert_eq!(got.out, "two words of $it");
    let edited = exported.out.replacen("KEY", "YEK", 1);
    fs::write(file("all.yaml"), edited).unwrap();
    let refused = run(path, &[&import[..], &["--identity", &file("key")]].concat());
    assert_eq!(refused.code, 3, "{refused:?}");

    // Who took them out is on record, with the reason and without a value.
    let log = run(path, &["audit", "log", "--action", "secret/get", "--json"]);
    assert!(log.out.contains("DATABASE_URL: a move"), "{log:?}");
    let trail = run(path, &["audit", "export"]).out;
    assert!(
        !trail.contains("k3Jx8QwErTyUi") && !trail.contains("two words"),
        "{trail}"
    );
}

#[test]
fn a_scan_ends_with_a_code_of_its_own_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".env"), "API_TOKEN=k3Jx8QwErTyUi\n").unwrap();
    let path = folder.path().to_str().unwrap();
    let found = run(folder.path(), &["secret", "scan", path]);
    assert_eq!(found.code, 3, "{found:?}");
    assert!(
        found.out.contains("--> .env:1:11  API_TOKEN = k3Jx…"),
        "{found:?}"
    );
    let import = format!("havre secret import {path}/.env\n");
    assert!(found.out.contains(&import), "{found:?}");
    let json = run(folder.path(), &["secret", "scan", path, "--json"]);
    assert_eq!(json.json()[0]["rule"], "assigned-secret");
    assert!(!json.out.contains("k3Jx8") && !found.out.contains("k3Jx8"));
    fs::remove_file(folder.path().join(".env")).unwrap();
    let clean = run(folder.path(), &["secret", "scan", path]);
    assert_eq!((clean.code, clean.out.as_str()), (0, ""));
}
