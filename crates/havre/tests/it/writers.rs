//! What a service writes to has one writer, on a real machine.

use crate::machine::on_machine;

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
