//! `down` that is broken off, taken over or cut short, on a real machine.

use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Background, Machine, SOON, kill, on_machine};

/// A server that takes some seconds to end, and a volume.
const SLOW: &str = "
    command:
      - sh
      - -c
      - 'httpd -p 8080 -h /www; trap \"sleep 4; exit 0\" TERM; while :; do sleep 0.1; done'
    stop_grace_period: 60s
    volumes: [data:/data]
volumes: {data: {}}
";

fn shop(machine: &Machine) {
    machine.web_up(SLOW);
    machine.ok(&["exec", "web", "touch", "/data/kept"]);
    assert!(is_kept(machine));
}

fn is_kept(machine: &Machine) -> bool {
    let volume = machine.root().join("lib/volumes/shop_data/data/kept");
    volume.exists()
}

/// `down` in the background, which the environment has begun to obey.
fn begin(machine: &Machine, args: &[&str]) -> Background {
    let down = machine.start(args);
    wait_until("it is being removed", SOON, || {
        machine.status()["state"] == "removing"
    });
    down
}

fn until_gone(machine: &Machine) {
    wait_until("nothing is left", SOON, || {
        machine.json(&["status"]) == Value::Array(Vec::new())
    });
    assert!(machine.replicas().is_empty());
}

#[test]
fn an_up_that_takes_over_a_down_ends_it() {
    on_machine(|machine| {
        shop(machine);
        let mut down = begin(machine, &["down", "--volumes"]);
        machine.ok(&["up"]);
        assert_eq!(down.ends(), 7, "{}", down.talk());
        let talk = down.talk();
        assert!(
            talk.contains("another operation changed shop/production"),
            "{talk}"
        );
        machine.until_answers("one");
        assert!(is_kept(machine));
    });
}

#[test]
fn an_up_that_still_builds_gives_way_to_a_down() {
    on_machine(|machine| {
        shop(machine);
        machine.write("Dockerfile", "FROM base:1\nRUN sleep 8\n");
        let mut up = machine.start(&["up"]);
        let steps = machine.root().join("lib/build");
        wait_until("a step runs", SOON, || {
            let entries = std::fs::read_dir(&steps).into_iter().flatten().flatten();
            entries
                .into_iter()
                .any(|entry| entry.file_name() != ".leftovers")
        });
        machine.ok(&["down"]);
        assert_eq!(up.ends(), 7, "{}", up.talk());
        let talk = up.talk();
        assert!(talk.contains("was taken down meanwhile"), "{talk}");
        until_gone(machine);
    });
}

#[test]
fn a_down_that_is_interrupted_ends_and_the_daemon_goes_on_with_it() {
    on_machine(|machine| {
        shop(machine);
        let mut down = begin(machine, &["down"]);
        down.interrupt();
        assert_eq!(down.ends(), 130, "{}", down.talk());
        let talk = down.talk();
        assert!(talk.contains("is still being taken down"), "{talk}");
        until_gone(machine);
        assert!(is_kept(machine));
    });
}

#[test]
fn a_down_whose_daemon_is_killed_is_ended_by_the_next() {
    on_machine(|machine| {
        shop(machine);
        let daemon = machine.info()["pid"].as_u64().unwrap();
        let mut down = begin(machine, &["down", "--volumes"]);
        kill(daemon);
        assert_eq!(down.ends(), 4, "{}", down.talk());
        machine.start_daemon();
        until_gone(machine);
        assert!(!is_kept(machine), "it was wanted that way");
        // There is nothing of it that a new one could mistake for its own.
        machine.ok(&["up"]);
        let releases = machine.json(&["releases"]);
        assert_eq!(releases.as_array().unwrap().len(), 1, "{releases}");
        assert!(!is_kept(machine));
    });
}

#[test]
fn an_up_whose_build_fails_leaves_no_environment() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write("Dockerfile", "FROM base:1\nRUN exit 3\n");
        assert_eq!(machine.run(&["up"]).code, 1);
        assert_eq!(machine.json(&["status"]), Value::Array(Vec::new()));
        let stopped = machine.run(&["daemon", "stop"]);
        assert_eq!(stopped.code, 0, "{}", stopped.err);
    });
}

#[test]
fn a_down_that_starts_the_daemon_counts_what_it_stops() {
    on_machine(|machine| {
        machine.shop_up();
        kill(machine.info()["pid"].as_u64().unwrap());
        let ran = machine.ok(&["down"]);
        assert!(ran.err.contains("down, 2 replicas stopped"), "{}", ran.err);
    });
}
