//! What one service is to another, on a real machine: replaced with it, linked to it.

use crate::machine::{Machine, on_machine};

fn write(machine: &Machine, page: &str) {
    machine.write(
        "compose.yaml",
        &format!(
            "\
name: shop
services:
  db:
    build: .
    init: true
    environment: {{PAGE: {page}}}
  web:
    build: .
    init: true
    expose: [8080]
    links: ['db:database']
    depends_on: {{db: {{condition: service_started, restart: true}}}}
    pre_start:
      - image: tools:1
        environment: {{WHO: step}}
      - {{image: 'tools:1', command: [and, more], user: '0:7'}}
    volumes: ['marks:/marks']
  after:
    build: .
    init: true
    depends_on: {{web: {{condition: service_started, restart: true}}}}
  other:
    build: .
    init: true
    depends_on: [db]
  tools:
    image: tools:1
    build:
      context: .
      dockerfile_inline: |
        FROM base:1
        RUN mkdir /marks && chmod 777 /marks && echo '#!/bin/sh' > /bin/mark && \\
            echo 'echo \"$$WHO $$0 $$* $$(id -g) $$(pwd)\" >> /marks/log' >> /bin/mark && chmod +x /bin/mark
        WORKDIR /work
        ENTRYPOINT [\"mark\"]
        CMD [\"by\", \"itself\"]
    entrypoint: [sleep, '1000000']
    init: true
volumes: {{marks: {{}}}}
"
        ),
    );
}

/// The services whose replicas are others than before.
fn replaced(machine: &Machine, before: &mut Vec<String>) -> Vec<String> {
    let ids: Vec<String> = machine.replicas().into_iter().map(|(id, _)| id).collect();
    let new = ids.iter().filter(|id| !before.contains(id));
    let services = new.map(|id| id.split('.').nth(2).unwrap().to_owned());
    let services = services.collect();
    *before = ids;
    services
}

#[test]
fn dependents_are_replaced_with_what_they_follow_and_links_hold_for_one() {
    on_machine(|machine| {
        machine.shop("one");
        write(machine, "one");
        machine.ok(&["up"]);
        let mut ids = Vec::new();
        let all = replaced(machine, &mut ids);
        assert_eq!(all, ["after", "db", "other", "tools", "web"]);

        let found = |service: &str, name: &str| {
            let script = format!("ping -c 1 -w 1 {name} 2>&1 | grep -o '([0-9.]*)' || echo none");
            machine.ok(&["exec", service, "sh", "-c", &script]).out
        };
        assert_eq!(found("web", "database"), found("web", "db"));
        assert!(found("web", "database").starts_with("(10."));
        assert_eq!(found("other", "database"), "none\n");

        // A step with an image of its own runs that image's program, as docker run would.
        let log = machine.ok(&["exec", "web", "cat", "/marks/log"]).out;
        assert_eq!(
            log,
            "step /bin/mark by itself 0 /work\n /bin/mark and more 7 /work\n"
        );

        write(machine, "two");
        let plan = machine.ok(&["plan"]).out;
        assert!(plan.contains("db is replaced, and restarts it"), "{plan}");
        machine.ok(&["up"]);
        assert_eq!(replaced(machine, &mut ids), ["after", "db", "web"]);
        machine.ok(&["restart", "db"]);
        assert_eq!(replaced(machine, &mut ids), ["after", "db", "web"]);
        machine.ok(&["restart", "after"]);
        assert_eq!(replaced(machine, &mut ids), ["after"]);
        machine.ok(&["up"]);
        assert_eq!(replaced(machine, &mut ids), [""; 0], "nothing has changed");
    });
}
