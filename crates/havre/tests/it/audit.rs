//! The audit trail of a real daemon.

use std::fs;
use std::path::Path;

use crate::daemon::{Root, run};

fn actions(path: &Path, more: &[&str]) -> Vec<String> {
    let ran = run(path, &[&["audit", "log", "--json"], more].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let records = ran.out.lines().map(line);
    records
        .map(|one| {
            format!(
                "{} {}",
                one["action"].as_str().unwrap(),
                one["outcome"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn what_was_done_is_on_record_and_an_end_that_is_cut_off_is_found() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    assert_eq!(run(path, &["network", "create", "backbone"]).code, 0);
    assert_ne!(run(path, &["network", "rm", "none"]).code, 0);
    assert_eq!(run(path, &["network", "ls"]).code, 0);
    let records = ["networks/create ok", "networks/remove failed"];
    assert_eq!(actions(path, &["--action", "networks"]), records);
    let all = actions(path, &[]);
    assert!(all.contains(&"daemon/start ok".to_owned()), "{all:?}");
    let shown = run(path, &["audit", "log", "--action", "networks/create"]);
    assert!(shown.out.contains("networks/create backbone"), "{shown:?}");

    let verified = run(path, &["audit", "verify", "--json"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    let verdict = verified.json();
    assert!(verdict["key"].is_string(), "{verdict}");
    let head = verdict["head"].as_str().unwrap();
    let exported = run(path, &["audit", "export"]);
    assert_eq!(exported.code, 0, "{exported:?}");
    let last: serde_json::Value =
        serde_json::from_str(exported.out.lines().last().unwrap()).unwrap();
    // The export itself was written down before.
    assert_eq!(last["record"]["action"], "audit/export");

    // A daemon that was stopped, and one that follows it.
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    assert_eq!(run(path, &["network", "create", "proxy"]).code, 0);
    let later = run(path, &["audit", "verify", "--head", head]);
    assert_eq!(later.code, 0, "{later:?}");
    let wrong = head
        .replace(':', ":00")
        .chars()
        .take(head.len())
        .collect::<String>();
    let rewritten = run(path, &["audit", "verify", "--head", &wrong]);
    assert_eq!(rewritten.code, 1, "{rewritten:?}");
    assert!(
        rewritten.out.contains("the head that was given"),
        "{rewritten:?}"
    );

    // Of the copy outside the database only others than the daemon remove anything.
    fs::remove_file(path.join("lib/audit.head")).unwrap();
    let found = run(path, &["audit", "verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.out.contains("audit.head is not there"), "{found:?}");
}

#[test]
fn an_older_database_that_is_put_back_is_told() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    assert_eq!(run(path, &["network", "create", "one"]).code, 0);
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    let (database, copy) = (path.join("lib/state.db"), path.join("copy.db"));
    fs::copy(&database, &copy).unwrap();
    assert_eq!(run(path, &["network", "create", "two"]).code, 0);
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    fs::rename(&copy, &database).unwrap();
    assert_eq!(run(path, &["network", "ls"]).code, 4, "no daemon runs");
    assert_eq!(run(path, &["network", "create", "three"]).code, 0);
    let found = run(path, &["audit", "verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.out.contains("are missing"), "{found:?}");
    assert!(actions(path, &[]).contains(&"audit/gap failed".to_owned()));
}

#[test]
fn a_trail_that_is_gone_is_told_beside_the_seal() {
    let root = Root(tempfile::tempdir().unwrap());
    let path = root.0.path();
    assert_eq!(run(path, &["network", "create", "one"]).code, 0);
    assert_eq!(run(path, &["daemon", "stop"]).code, 0);
    let lib = path.join("lib");
    for entry in fs::read_dir(&lib).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("state.db") || name == "audit.head" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert_eq!(run(path, &["network", "create", "two"]).code, 0);
    let found = run(path, &["audit", "verify"]);
    assert_eq!(found.code, 1, "{found:?}");
    let told = "there was no record, but the seal knows one that key";
    assert!(found.out.contains(told), "{found:?}");
}
