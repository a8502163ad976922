//! What a service writes to has one writer, on a real machine.

use crate::machine::{on_machine, on_machine_under_load};

/// Writes down when it begins and ends.
const DATABASE: &str = "\
name: shop
services:
  web:
    image: base:1
    command: [sleep, '1000000']
    init: true
  NAME:
    image: base:1
    volumes: ['kept:/data']
    command:
      - sh
      - -c
      - |
        trap 'sleep 1; echo NAME ends >> /data/log; exit 0' TERM
        echo NAME begins >> /data/log
        while :; do sleep 0.1; done
volumes: {kept: {}}
";

#[test]
fn a_service_under_another_name_begins_when_the_one_before_has_ended() {
    on_machine(|machine| {
        let with_name = |name: &str| {
            machine.write("compose.yaml", &DATABASE.replace("NAME", name));
        };
        machine.shop("one");
        machine.write("havre.yaml", "rollout: {bake: 3s}\n");
        with_name("db");
        machine.ok(&["up"]);
        with_name("database");
        let plan = machine.ok(&["plan"]).out;
        let said = "stop-first: db ends before it starts, since both write to volume kept";
        assert!(plan.contains(said), "{plan}");
        machine.ok(&["up"]);
        let log = machine.ok(&["exec", "database", "cat", "/data/log"]).out;
        assert_eq!(log, "db begins\ndb ends\ndatabase begins\n");
    });
}

/// Starts slowly and writes to a volume.
const SLOW: &str = "
    command: [sh, -c, 'echo begins >> /kept/log; sleep 3; exec httpd -f -p 8080 -h /www']
    volumes: ['kept:/kept']
volumes: {kept: {}}
";

#[test]
fn what_answers_is_replaced_beside_the_old_one_unless_it_keeps_a_database() {
    on_machine_under_load(|machine| {
        machine.web_up(SLOW);
        machine.until_answers("one");
        machine.page("two");
        let plan = machine.ok(&["plan"]).out;
        assert!(plan.contains("start-first: it receives requests"), "{plan}");
        let load = machine.load(50.0);
        machine.ok(&["up"]);
        assert_eq!(machine.get().as_deref(), Ok("two"));
        load.drops_nothing(50);

        let make = "printf 'SQLite format 3\\0and so on' > /kept/app.db";
        machine.ok(&["exec", "web", "sh", "-c", make]);
        machine.page("three");
        let plan = machine.ok(&["plan"]).out;
        for part in [
            "stop-first",
            "a database: app.db is in it",
            "requests wait until the old one has answered those it has (at most 30 s) and ended (at most 10 s)",
            "the new one is ready (about",
            "answered with 503 after 70 s",
        ] {
            assert!(plan.contains(part), "{part} is not in\n{plan}");
        }
        let load = machine.load(20.0);
        machine.ok(&["up"]);
        assert_eq!(machine.get().as_deref(), Ok("three"));
        load.drops_nothing(20);
        let log = machine.ok(&["exec", "web", "cat", "/kept/log"]).out;
        assert_eq!(log, "begins\n".repeat(3));
    });
}
