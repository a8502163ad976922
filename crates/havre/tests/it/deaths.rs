//! Processes of Havre that die on a real machine.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use havre_testing::wait_until;

use crate::machine::{
    Machine, SOON, begin_to_kill, devices, kill, on_machine, on_machine_under_load, parent, runs,
};

#[test]
fn whatever_dies_is_replaced_and_a_restart_of_the_machine_brings_all_back() {
    on_machine(|machine| {
        machine.shop_up();

        let edge = machine.info()["edge"]["pid"].as_u64().unwrap();
        begin_to_kill(edge);
        // Longer than there is no edge: the kernel queues who connects until the next one accepts.
        for _ in 0..300 {
            TcpStream::connect((Ipv4Addr::LOCALHOST, 443)).expect("to be queued");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(machine.get().as_deref(), Ok("one"));
        wait_until("the daemon knows the new edge", SOON, || {
            let next = machine.info()["edge"]["pid"].as_u64();
            next.is_some_and(|pid| pid != edge)
        });

        let names = machine.name_server().unwrap();
        kill(names);
        wait_until("another name server", SOON, || {
            machine.name_server().is_some_and(|pid| pid != names)
        });
        machine.ok(&["exec", "web", "nslookup", "web"]);

        let (replica, process) = machine.replicas().pop_first().unwrap();
        let shim = parent(process);
        assert!(shim > 1, "{replica} has a shim");
        kill(shim);
        wait_until("the replica without a shim has ended", SOON, || {
            !runs(process)
        });
        wait_until("two replicas run", SOON, || {
            let now = machine.replicas();
            now.len() == 2 && !now.contains(&(replica.clone(), process))
        });
        machine.until_settled();

        // The run folder is in memory, or on disk and stale.
        for stale in [false, true] {
            machine.lose_power();
            if !stale {
                machine.clear_run();
            }
            machine.start_daemon();
            println!("restart: {:?}", machine.until_answers("one"));
            machine.until_settled();
            assert_eq!(machine.replicas().len(), 2);
        }
        let again = machine.json(&["up"]);
        assert_eq!(again["changed"], false, "{again}");
    });
}

#[test]
fn what_another_program_takes_from_the_network_comes_back() {
    on_machine(|machine| {
        machine.shop_up();
        let device = devices().pop().unwrap();
        let gone = Command::new("ip")
            .args(["link", "delete", &device])
            .status();
        assert!(gone.unwrap().success());
        let flushed = Command::new("nft").args(["flush", "ruleset"]).status();
        assert!(flushed.unwrap().success());
        println!("the way back: {:?}", machine.until_answers("one"));
        let rules = Command::new("nft").args(["list", "tables"]).output();
        let rules = String::from_utf8(rules.unwrap().stdout).unwrap();
        assert!(rules.contains("havre"), "{rules}");
    });
}

/// Two replicas, each healthy as long as it has a file that it makes when it starts.
const WARM: &str = "
    command: [sh, -c, 'touch /tmp/warm; exec httpd -f -p 8080 -h /www']
    deploy: {replicas: 2}
    healthcheck: {test: test -f /tmp/warm, interval: 200ms, retries: 2}
";

/// Waits until the first of these replicas has another process, and the others the one they had.
fn until_replaced(machine: &Machine, what: &str, before: &BTreeSet<(String, u64)>) {
    let (ill, process) = before.first().unwrap();
    wait_until(what, SOON, || {
        let now = machine.replicas();
        let replaced = now.iter().any(|(id, pid)| id == ill && pid != process);
        replaced && now.len() == before.len()
    });
    machine.until_settled();
    let kept = machine.replicas().intersection(before).count();
    assert_eq!(kept + 1, before.len(), "{what}: the others were left alone");
}

#[test]
fn a_replica_that_falls_ill_is_replaced_without_a_failed_request() {
    on_machine_under_load(|machine| {
        machine.web_up(WARM);
        machine.until_answers("one");
        let load = machine.load(50.0);
        let before = machine.replicas();
        let (ill, _) = before.first().cloned().unwrap();
        machine.ok(&["exec", "web", "--replica", &ill, "rm", "/tmp/warm"]);
        until_replaced(machine, "another process in its place", &before);
        load.drops_nothing(20);
    });
}

/// Warm replicas get requests, and those with the file `alive` keep their process.
const ALIVE: &str = "\
services:
  web:
    liveness: {test: test -f /tmp/alive, interval: 200ms, retries: 2}
";

#[test]
fn a_liveness_probe_decides_who_is_replaced_and_the_health_check_who_is_asked() {
    on_machine_under_load(|machine| {
        machine.shop("one");
        let compose = WARM.replace("touch /tmp/warm", "touch /tmp/warm /tmp/alive");
        machine.web(&compose);
        machine.write("havre.yaml", ALIVE);
        machine.ok(&["up"]);
        machine.until_answers("one");
        let load = machine.load(50.0);
        let before = machine.replicas();
        let (ill, _) = before.first().cloned().unwrap();
        let change = |what: &str| {
            machine.ok(&["exec", "web", "--replica", &ill, "sh", "-c", what]);
        };
        change("rm /tmp/warm");
        let seen = || machine.run(&["why", "web"]).out;
        wait_until("the replica gets no requests", SOON, || {
            seen().contains("it takes none")
        });
        wait_until("its probe fails far more often than it may", SOON, || {
            let why = machine.json(&["why", "web"]);
            let replicas = why["replicas"].as_array().unwrap().iter();
            let mut streaks = replicas.map(|one| one["probe"]["failing_streak"].as_u64());
            streaks.any(|streak| streak.is_some_and(|failures| failures >= 20))
        });
        assert_eq!(machine.replicas(), before, "a new process would not help");
        change("touch /tmp/warm");
        wait_until("it gets requests again", SOON, || {
            !seen().contains("it takes none")
        });
        change("rm /tmp/alive");
        until_replaced(machine, "another process in its place", &before);
        load.drops_nothing(20);
    });
}

/// Three servers, each of which uses up its memory when it finds the file `eat`.
const HUNGRY: &str = "\
name: shop
services:
  web:
    build: .
    expose: [8080]
    command:
      - sh
      - -c
      - |
        httpd -p 8080 -h /www
        while sleep 0.2; do
          if [ -f /tmp/eat ]; then x=0123456789abcdef; while :; do x=$$x$$x; done; fi
        done
    stop_grace_period: 1s
    deploy: {replicas: 3, resources: {limits: {memory: 32M}}}
    healthcheck: {test: wget -q -O /dev/null localhost:8080, interval: 200ms, timeout: 1s, retries: 2}
";

#[test]
fn a_replica_that_is_killed_hangs_or_runs_out_of_memory_is_replaced() {
    on_machine_under_load(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", HUNGRY);
        machine.ok(&["up"]);
        machine.until_answers("one");
        let load = machine.load(50.0);
        let inject = |fault: &str, id: &str, process: u64| {
            let inside = |what: &str| {
                machine.ok(&["exec", "web", "--replica", id, "sh", "-c", what]);
            };
            match fault {
                "hangs" => inside("killall -STOP httpd"),
                "out of memory" => inside("touch /tmp/eat"),
                // Its shim cannot be asked anything any more.
                "out of reach" => {
                    let folder = machine.root().join("run/c").join(id);
                    std::fs::remove_dir_all(folder).unwrap();
                }
                _ => kill(process),
            }
        };
        for fault in ["out of reach", "killed", "hangs", "out of memory"] {
            let before = machine.replicas();
            assert_eq!(before.len(), 3, "{before:?}");
            let (ill, process) = before.first().cloned().unwrap();
            inject(fault, &ill, process);
            until_replaced(machine, fault, &before);
        }
        let why = machine.run(&["why", "web"]).out;
        assert!(why.contains("out of memory (limit 32 MiB, peak "), "{why}");
        // Those that the replica had in hand, no more.
        let report = load.ends();
        assert!(report.requests >= 100, "{}", report.requests);
        assert!(report.failed <= 5, "{:?}", report.first_failures);
    });
}
