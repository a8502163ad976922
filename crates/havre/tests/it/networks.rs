//! Services on networks that are not theirs alone.

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine, parent, runs};

/// A service that does nothing but keep a network, and one in it that answers.
fn tunnelled(machine: &Machine, more: &str) {
    machine.write(
        "compose.yaml",
        &format!(
            "\
name: shop
services:
  tunnel:
    image: base:1
    init: true
    command: [sleep, '100000']
    ports: ['8081:8080']
    environment: {{SETTING: '{more}'}}
  web:
    build: .
    init: true
    network_mode: service:tunnel
    command: [httpd, -f, -p, '8080', -h, /www]
  other: {{image: 'base:1', init: true, command: [sleep, '100000']}}
"
        ),
    );
    machine.write(
        "havre.yaml",
        "domain: shop.localhost\nroutes: [{path: /, service: tunnel, port: 8080}]\n",
    );
}

fn namespace(machine: &Machine, service: &str) -> String {
    let link = ["exec", service, "readlink", "/proc/self/ns/net"];
    machine.ok(&link).out
}

#[test]
fn a_service_in_the_network_of_another_answers_at_its_address_and_goes_with_it() {
    on_machine(|machine| {
        machine.shop("one");
        tunnelled(machine, "a");
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_eq!(namespace(machine, "web"), namespace(machine, "tunnel"));
        let fetch = |url: &str| machine.ok(&["exec", "other", "wget", "-qO-", url]).out;
        assert_eq!(fetch("http://tunnel:8080/"), "one");

        // A new release of either brings both along, and nobody is turned away.
        let load = machine.load(20.0);
        machine.page("two");
        machine.ok(&["up"]);
        machine.until_answers("two");
        tunnelled(machine, "b");
        machine.ok(&["up"]);
        machine.until_answers("two");
        let report = load.ends();
        assert_eq!(report.failed, 0, "{report:?}");
        assert_eq!(namespace(machine, "web"), namespace(machine, "tunnel"));

        // A tunnel that is lost takes its network along; whoever was in it comes back in the next.
        let of = |service: &str| {
            let mut replicas = machine.replicas().into_iter();
            replicas
                .find(|(name, _)| name.contains(service))
                .expect("a replica")
        };
        let before = of(".web.");
        let (name, process) = of(".tunnel.");
        kill(parent(process));
        wait_until("the tunnel has ended", SOON, || !runs(process));
        wait_until("another tunnel runs", SOON, || {
            let replicas = machine.replicas();
            let mut replicas = replicas.iter();
            replicas.any(|(other, pid)| *other == name && *pid != process)
        });
        machine.until_settled();
        machine.until_answers("two");
        assert_ne!(of(".web."), before);
        assert_eq!(namespace(machine, "web"), namespace(machine, "tunnel"));

        machine.lose_power();
        machine.start_daemon();
        machine.until_answers("two");
        machine.until_settled();
        let again = machine.json(&["up"]);
        assert_eq!(again["changed"], false, "{again}");
    });
}
