//! Releases that pass their health check and are watched all the same, on a real machine.

use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Machine, SOON, on_machine_under_load};

/// Requests per second while releases change.
const RATE: f64 = 50.0;

/// A server that is healthy and answers with `status`, after `pause`.
fn server(status: &str, pause: &str) -> String {
    format!(
        "name: shop
services:
  web:
    image: base:1
    init: true
    expose: [8080]
    command:
      - nc
      - -ll
      - -p
      - '8080'
      - -e
      - sh
      - -c
      - |
        while read -r line && [ \"$${{#line}}\" -gt 1 ]; do :; done
        {pause}
        printf 'HTTP/1.1 {status}\\r\\nContent-Length: 4\\r\\nConnection: close\\r\\n\\r\\npage'
    deploy: {{replicas: 2}}
    healthcheck:
      test: [CMD-SHELL, 'netstat -ltn | grep -q :8080']
      interval: 1s
      timeout: 10s
      retries: 5
      start_period: 30s
      start_interval: 100ms
"
    )
}

fn shop(machine: &Machine, rollout: &str) {
    machine.shop("unused");
    machine.write(
        "havre.yaml",
        &format!("domain: shop.localhost\nrollout: {rollout}\n"),
    );
    machine.write("compose.yaml", &server("200 OK", ":"));
    machine.ok(&["up"]);
    machine.until_answers("page");
}

fn newest(machine: &Machine) -> Value {
    machine.json(&["releases", "--last", "1"])[0].clone()
}

#[test]
fn a_healthy_release_that_answers_with_errors_goes_back_to_replicas_that_waited() {
    on_machine_under_load(|machine| {
        shop(machine, "{bake: 60s}");
        let before = machine.replicas();
        let load = machine.load(RATE);
        machine.write("compose.yaml", &server("500 No", ":"));
        let up = machine.run(&["up"]);
        assert_eq!(up.code, 5, "{}", up.err);
        assert!(up.err.contains("requests failed; before it"), "{}", up.err);
        machine.until_settled();
        assert_eq!(machine.replicas(), before, "the old ones never ended");
        let release = newest(machine);
        assert_eq!(release["state"], "went_back", "{release}");
        let reason = release["reason"].as_str().unwrap();
        assert!(reason.starts_with("web: "), "{reason}");
        let errors = release["requests"]["server_errors"].as_u64().unwrap();
        assert!(errors >= 3, "{release}");
        machine.until_answers("page");
        let report = load.ends();
        let share = report.failed as f64 / report.requests as f64;
        assert!(share < 0.9, "{report:?}");
    });
}

#[test]
fn a_canary_is_paused_resumed_given_up_and_never_drops_a_request() {
    on_machine_under_load(|machine| {
        let canary = "{strategy: canary, steps: [20%], step: 300s, bake: 1s}";
        shop(machine, canary);
        let load = machine.load(RATE);
        machine.write("compose.yaml", &server("200 Fine", ":"));
        let mut up = machine.start(&["up"]);
        let shares = |share: &str| {
            wait_until("the canary serves its share", SOON, || {
                let operation = &machine.status()["operation"]["phase"];
                operation
                    .as_str()
                    .is_some_and(|phase| phase.contains(share))
            });
        };
        shares("on 20% of the visitors");
        machine.ok(&["rollout", "pause"]);
        let again = machine.run(&["rollout", "pause"]);
        assert_eq!(again.code, 7, "{}", again.err);
        shares("paused: on 20% of the visitors");
        machine.ok(&["rollout", "resume"]);
        let outcome = machine.json(&["rollout", "abort"]);
        assert_eq!(
            (&outcome["release"], &outcome["previous"]),
            (&2.into(), &1.into())
        );
        assert_ne!(up.ends(), 0, "{}", up.talk());
        machine.until_settled();
        assert_eq!(newest(machine)["state"], "went_back");
        let nothing = machine.run(&["rollout", "abort"]);
        assert_eq!(nothing.code, 7, "{}", nothing.err);
        assert!(nothing.err.contains("no rollout"), "{}", nothing.err);

        let quick = canary.replace("300s", "1s");
        machine.write(
            "havre.yaml",
            &format!("domain: shop.localhost\nrollout: {quick}\n"),
        );
        machine.ok(&["up"]);
        let release = newest(machine);
        assert_eq!(release["state"], "serving", "{release}");
        let (ready, accepted) = (&release["prepared_ms"], &release["accepted_ms"]);
        let watched = accepted.as_u64().unwrap() - ready.as_u64().unwrap();
        assert!(watched >= 2000, "{release}");
        assert_eq!(release["requests"]["dropped"], 0, "{release}");
        load.drops_nothing(100);
        print!("{}", machine.ok(&["releases"]).out);
    });
}

#[test]
fn a_release_that_fails_can_wait_for_a_person() {
    on_machine_under_load(|machine| {
        shop(machine, "{bake: 60s, on_failure: pause}");
        let load = machine.load(RATE);
        machine.write("compose.yaml", &server("500 No", ":"));
        let up = machine.run(&["up"]);
        assert_eq!(up.code, 5, "{}", up.err);
        assert!(up.err.contains("havre rollout abort"), "{}", up.err);
        let operation = machine.status()["operation"]["phase"].clone();
        assert!(
            operation.as_str().unwrap().starts_with("paused, "),
            "{operation}"
        );
        machine.ok(&["rollout", "abort"]);
        machine.until_settled();
        machine.until_answers("page");
        assert_eq!(newest(machine)["state"], "went_back");
        drop(load.ends());
    });
}
