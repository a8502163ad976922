//! When a process is started again, and when it is given up, on a real machine.

use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Machine, SOON, on_machine};

const RESTARTS: &str = "\
name: shop
services:
  never:
    image: base:1
    restart: 'no'
    command: [sh, -c, 'echo run; sleep 6; exit 7']
  none:
    image: base:1
    deploy: {restart_policy: {condition: none}}
    command: [sh, -c, 'echo run; sleep 6; exit 7']
  usual:
    image: base:1
    command: [sh, -c, 'echo run; sleep 6; exit 7']
";

fn status_of(machine: &Machine, name: &str) -> Value {
    let status = machine.json(&["status"]);
    let services = status[0]["services"].as_array().unwrap().iter();
    let mut found = services.filter(|service| service["name"] == name);
    found.next().unwrap().clone()
}

#[test]
fn what_is_never_started_again_is_not() {
    on_machine(|machine| {
        machine.shop("unused");
        machine.write("compose.yaml", RESTARTS);
        machine.ok(&["up"]);
        // Two lives of one whose file says nothing are more than one of the others.
        let runs = |name: &str| {
            let out = machine.ok(&["logs", name, "--no-prefix"]).out;
            out.matches("run").count()
        };
        wait_until("what says nothing runs again", SOON, || runs("usual") >= 2);
        for name in ["never", "none"] {
            let status = status_of(machine, name);
            assert_eq!(status["restarts"], 0, "{status}");
            assert_eq!(status["last_exit"]["code"], 7, "{status}");
            let reason = status["reason"].as_str().unwrap();
            let said = "ended with 7 and is not started again";
            assert!(reason.ends_with(said), "{reason}");
            assert_eq!(runs(name), 1);
        }
        machine.lose_power();
        machine.clear_run();
        machine.start_daemon();
        wait_until("what says nothing comes back", SOON, || {
            status_of(machine, "usual")["ready"] == 1
        });
        let status = status_of(machine, "never");
        assert_eq!(status["ready"], 0, "{status}");
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains("means once"), "{reason}");
        machine.ok(&["restart", "never"]);
        assert_eq!(runs("never"), 1, "a person may");
    });
}

/// Warm after longer than three probes a second take.
const SLOW: &str = "
    command: [sh, -c, 'sleep 6; exec httpd -f -p 8080 -h /www']
    healthcheck:
      test: 'wget -q -O /dev/null localhost:8080'
      interval: 30s
      timeout: 10s
      retries: 3
";

#[test]
fn a_slow_start_has_the_time_that_docker_gives_it() {
    on_machine(|machine| {
        machine.web_up(SLOW);
        let started = machine.json(&["ps"]);
        assert_eq!(started[0]["health"], "healthy", "{started}");
        assert_eq!(started[0]["restarts"], 0, "{started}");
    });
}
