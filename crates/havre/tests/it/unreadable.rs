//! An environment of which the database holds nothing readable, beside others, on a real machine.

use std::process::Command;

use havre_testing::wait_until;
use rusqlite::Connection;

use crate::machine::{Machine, SOON, kill, on_machine};

const OTHER: &str = "name: other\nservices: {web: {build: ., init: true, expose: [8080]}}\n";

/// What the other environment answers over HTTPS.
fn other() -> String {
    let curl = Command::new("curl")
        .args(["--silent", "--insecure", "--fail", "--max-time", "20"])
        .args(["--noproxy", "*"])
        .args(["--resolve", "other.localhost:443:127.0.0.1"])
        .arg("https://other.localhost/")
        .output()
        .expect("curl");
    String::from_utf8(curl.stdout).unwrap()
}

fn restart_daemon(machine: &Machine) {
    kill(machine.info()["pid"].as_u64().unwrap());
    machine.start_daemon();
}

#[test]
fn it_goes_on_and_the_others_are_rolled_out_beside_it() {
    on_machine(|machine| {
        machine.shop("one");
        let shop = ["compose.yaml", "havre.yaml"]
            .map(|name| std::fs::read_to_string(machine.project().join(name)).unwrap());
        let to_other = || {
            machine.write("compose.yaml", OTHER);
            machine.write("havre.yaml", "domain: other.localhost\n");
        };
        to_other();
        machine.ok(&["up"]);
        machine.write("compose.yaml", &shop[0]);
        machine.write("havre.yaml", &shop[1]);
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_eq!(other(), "one");

        let database = Connection::open(machine.root().join("lib/state.db")).unwrap();
        let of_other = "project = 'other'";
        let desired: String = database
            .query_row(
                &format!("SELECT desired FROM environments WHERE {of_other}"),
                [],
                |row| row.get(0),
            )
            .unwrap();
        let put = |desired: &str| {
            let update = format!("UPDATE environments SET desired = ?1 WHERE {of_other}");
            assert_eq!(database.execute(&update, [desired]).unwrap(), 1);
        };
        put("{\"intent\":");
        restart_daemon(machine);
        machine.page("two");
        machine.ok(&["up"]);
        machine.until_answers("two");
        assert_eq!(other(), "one", "it is served as before");

        put(&desired);
        restart_daemon(machine);
        to_other();
        machine.ok(&["up"]);
        wait_until("it is rolled out", SOON, || other() == "two");
        machine.ok(&["down"]);
        machine.write("compose.yaml", &shop[0]);
        machine.write("havre.yaml", &shop[1]);
        assert_eq!(machine.get().as_deref(), Ok("two"));
    });
}

/// What is not known cannot be taken over: neither its replicas nor what is stored of it.
#[test]
fn an_up_of_it_changes_nothing() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        machine.until_answers("one");
        let database = Connection::open(machine.root().join("lib/state.db")).unwrap();
        let text = |sql: &str| -> String { database.query_row(sql, [], |row| row.get(0)).unwrap() };
        let stored = "SELECT desired FROM environments";
        let releases = "SELECT group_concat(number) FROM releases";
        let (desired, before) = (text(stored), text(releases));
        let broken = "{\"intent\":";
        let put = |desired: &str| {
            let updated = database.execute("UPDATE environments SET desired = ?1", [desired]);
            assert_eq!(updated.unwrap(), 1);
        };
        put(broken);
        restart_daemon(machine);
        machine.page("two");
        let refused = machine.run(&["up"]);
        assert_eq!(refused.code, 7, "{}", refused.err);
        let told = "error: the stored state of shop/production is not readable by this version";
        assert!(refused.err.contains(told), "{}", refused.err);
        let down = machine.run(&["down"]);
        assert_eq!(down.code, 7, "{}", down.err);
        machine.until_answers("one");
        assert_eq!((text(stored).as_str(), text(releases)), (broken, before));
        put(&desired);
        restart_daemon(machine);
        machine.ok(&["up"]);
        machine.until_answers("two");
    });
}

#[test]
fn an_old_release_that_cannot_be_read_keeps_nobody_from_the_next() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        machine.page("two");
        machine.ok(&["up"]);
        let database = Connection::open(machine.root().join("lib/state.db")).unwrap();
        let spoilt = "UPDATE releases SET content = '{' WHERE number = 1";
        assert_eq!(database.execute(spoilt, []).unwrap(), 1);
        machine.page("three");
        machine.ok(&["up"]);
        machine.until_answers("three");
        let ran = machine.run(&["rollback", "1"]);
        assert_ne!(ran.code, 0);
        let why = "release 1 of shop/production is not readable by this version";
        assert!(ran.err.contains(why), "{}", ran.err);
        machine.ok(&["rollback"]);
        machine.until_answers("two");
    });
}
