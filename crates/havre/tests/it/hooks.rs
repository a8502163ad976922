//! Commands at points of a replica's life, on a real machine.

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine};

/// What the shop's server has beside the usual.
fn hooked(post_start: &str) -> String {
    format!(
        "
    volumes: ['marks:/marks']
    deploy: {{update_config: {{order: stop-first}}}}
    command: [httpd, -f, -p, '8080', -h, /www]
    post_start:
      - {{command: [sh, -c, '{post_start}'], environment: {{WHO: baker}}, working_dir: /marks}}
    pre_stop:
      - {{command: [sh, -c, 'echo stopping >> /marks/log']}}
volumes: {{marks: {{}}}}
"
    )
}

/// An `up` whose daemon is killed while a hook runs that has made the file `begun`.
fn up_with_another_daemon_during_the_hook(machine: &Machine) {
    let up = machine.start(&["up"]);
    wait_until("the hook runs", SOON, || {
        let ran = machine.run(&["exec", "web", "ls", "/marks"]);
        ran.out.contains("begun")
    });
    kill(machine.info()["pid"].as_u64().unwrap());
    up.leave();
    machine.start_daemon();
    machine.until_settled();
}

fn log(machine: &Machine) -> String {
    machine.ok(&["exec", "web", "cat", "/marks/log"]).out
}

#[test]
fn hooks_run_after_the_start_and_before_the_stop_and_failures_go_back() {
    on_machine(|machine| {
        machine.shop("one");
        machine.web(&hooked("echo started by $$WHO >> log"));
        machine.ok(&["up"]);
        assert_eq!(log(machine), "started by baker\n");
        machine.ok(&["restart"]);
        assert_eq!(
            log(machine),
            "started by baker\nstopping\nstarted by baker\n"
        );

        // Of one, too, that later releases have kept as it was.
        let other = "  other: {build: ., init: true}\nvolumes: {marks";
        let with_other = hooked("echo started by $$WHO >> log").replace("volumes: {marks", other);
        machine.web(&with_other);
        machine.ok(&["up"]);
        machine.ok(&["restart", "other"]);
        machine.ok(&["restart", "other"]);
        machine.ok(&["restart", "web"]);
        let again = "stopping\nstarted by baker\n";
        assert_eq!(log(machine), format!("started by baker\n{again}{again}"));

        machine.web(&hooked("echo no yeast >&2; exit 7"));
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        for part in ["post_start", "exit code 7", "no yeast"] {
            assert!(ran.err.contains(part), "{part:?} is not in\n{}", ran.err);
        }
        machine.until_answers("one");
    });
}

#[test]
fn a_daemon_killed_during_a_hook_neither_loses_it_nor_runs_it_twice() {
    on_machine(|machine| {
        machine.shop("one");
        machine.web(&hooked("touch begun; sleep 3; echo started >> log"));
        up_with_another_daemon_during_the_hook(machine);
        machine.until_answers("one");
        assert_eq!(log(machine), "started\n");
    });
}

#[test]
fn a_job_is_tried_again_where_its_file_says_so() {
    let shop = |restart: &str| {
        format!(
            "\
name: shop
services:
  init:
    build: .
    command: [sh, -c, 'echo try >> /marks/log; test $$(wc -l < /marks/log) -ge 3']
    volumes: ['marks:/marks']
    {restart}
  web:
    build: .
    init: true
    expose: [8080]
    volumes: ['marks:/marks:ro']
    depends_on: {{init: {{condition: service_completed_successfully}}}}
volumes: {{marks: {{}}}}
"
        )
    };
    on_machine(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", &shop("labels: {tries: one}"));
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        machine.ok(&["down", "--volumes"]);
        machine.write("compose.yaml", &shop("restart: on-failure:5"));
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_eq!(log(machine), "try\ntry\ntry\n");
    });
}

#[test]
fn one_whose_hooks_were_broken_off_is_told_to_stop() {
    on_machine(|machine| {
        machine.shop("one");
        let serve = "command: [sh, -c, 'httpd -p 8080 -h /www; trap \"echo ended >> /marks/log; exit 0\" \
                     TERM; while :; do sleep 0.1; done']";
        let compose = hooked("touch begun; sleep 3; echo started >> log");
        let compose = compose.replace("command: [httpd, -f, -p, '8080', -h, /www]", serve);
        machine.web(&compose);
        up_with_another_daemon_during_the_hook(machine);
        assert_eq!(log(machine), "ended\nstarted\n");
    });
}

#[test]
fn what_a_job_printed_can_be_read_after_it_ended_and_it_is_no_replica_to_replace() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write(
            "compose.yaml",
            "\
name: shop
services:
  init:
    build: .
    command: [echo, the oven is lit]
  web:
    build: .
    init: true
    expose: [8080]
    depends_on: {init: {condition: service_completed_successfully}}
",
        );
        let planned = machine.ok(&["plan"]).out;
        assert!(planned.contains("init      run"), "{planned}");
        let ran = machine.ok(&["up"]);
        assert!(ran.err.contains("plan: run init once"), "{}", ran.err);
        let told = || machine.ok(&["logs", "init"]).out;
        assert_eq!(told(), "init.r1.job | the oven is lit\n");
        assert!(machine.ok(&["logs"]).out.contains("the oven is lit"));
        let unchanged = machine.ok(&["plan", "--json"]).json();
        assert_eq!(unchanged["changed"], false, "{unchanged}");

        // No job runs again, and none is said to.
        machine.ok(&["restart", "web"]);
        let releases = machine.ok(&["releases"]).out;
        let newest = releases.split("\n1 ").next().unwrap();
        assert!(newest.contains("replace web"), "{releases}");
        assert!(!newest.contains("init"), "{releases}");
        assert_eq!(told(), "init.r1.job | the oven is lit\n");
    });
}
