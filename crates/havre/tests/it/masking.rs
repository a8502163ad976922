//! What is secret in the output of containers that run already.

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine};

/// The server, which also prints what is written into a file.
const WEB: &str =
    "    command: [sh, -c, 'httpd -p 8080 -h /www; touch /says; exec tail -f /says']\n";

/// The shop, and beside it a service that has a secret.
fn with_secret(machine: &Machine, value: &str) {
    machine.write("key", value);
    let other = "  other: {build: ., init: true, secrets: [key]}\nsecrets: {key: {file: ./key}}\n";
    machine.web(&format!("{WEB}{other}"));
    machine.ok(&["up"]);
}

/// Has the server say what it does not know for a secret; returns what the log has of it.
fn said(machine: &Machine, what: &str) -> String {
    let say = |what: &str| {
        let command = format!("echo '{what}' >> /says");
        machine.ok(&["exec", "web", "sh", "-c", &command]);
    };
    say(&format!("said {what}, all of it"));
    let mut last = String::new();
    wait_until("the log has it", SOON, || {
        let log = machine.ok(&["logs", "web", "-n", "1"]).out;
        let line = log.trim_end().split_once("said ");
        last = line.map_or_else(String::new, |(_, said)| said.to_owned());
        last.ends_with(", all of it")
    });
    // Not to be taken for the next one.
    say("next");
    last.trim_end_matches(", all of it").to_owned()
}

#[test]
fn containers_that_run_learn_of_new_secrets_and_forget_none() {
    on_machine(|machine| {
        machine.web_up(WEB);
        let web = || -> Vec<_> {
            let replicas = machine.replicas().into_iter();
            replicas.filter(|(id, _)| id.contains("web")).collect()
        };
        let before = web();
        assert_eq!(said(machine, "first-value"), "first-value");
        with_secret(machine, "first-value");
        assert_eq!(said(machine, "first-value"), "***");
        with_secret(machine, "second-value");
        assert_eq!(said(machine, "first-value, second-value"), "***, ***");
        // A daemon that has not seen the first itself.
        kill(machine.info()["pid"].as_u64().unwrap());
        machine.start_daemon();
        machine.until_settled();
        with_secret(machine, "third-value");
        let all = said(machine, "first-value, second-value, third-value");
        assert_eq!(all, "***, ***, ***");
        assert_eq!(web(), before, "it ran all the time");
    });
}
