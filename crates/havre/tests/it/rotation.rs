//! Secrets that are rotated while what has them serves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Machine, SOON, kill, on_machine_under_load};

/// `web` shows the secret that it has loaded and reloads it by a command, `ears` notes what it loads by a
/// signal, and `variable` has it as a variable.
const COMPOSE: &str = "\
name: shop
services:
  web:
    build: .
    init: true
    expose: [8080]
    secrets: [key]
    command: [sh, -c, 'cp /run/secrets/key /www/index.html && exec httpd -f -p 8080 -h /www']
    healthcheck:
      test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1:8080/']
      interval: 1s
      start_interval: 100ms
      start_period: 30s
    deploy: {replicas: 2}
  ears:
    build: .
    init: true
    secrets: [key]
    command:
      - sh
      - -c
      - 'load() { cat /run/secrets/key > /heard; }; load; trap load HUP; while :; do sleep 1 & wait $$!; done'
    healthcheck: {disable: true}
    stop_signal: SIGKILL
  variable:
    build: .
    command: [sh, -c, 'exec sleep 100000']
    stop_signal: SIGKILL
secrets: {key: {external: true}}
";
const HAVRE: &str = "\
domain: shop.localhost
routes: [{path: /, service: web, port: 8080}]
rollout: {bake: 1s}
services:
  web: {secrets: {reload: [cp, /run/secrets/key, /www/index.html]}}
  ears: {secrets: {reload: SIGHUP}}
  variable: {environment: {KEY: {secret: key}}}
";
/// Notes what it is asked for, and that it can read both values; waits where it is told to.
const SCRIPT: &str = "#!/bin/sh
echo \"$1 $(cat \"$HAVRE_OLD_FILE\") $(cat \"$HAVRE_NEW_FILE\") $HAVRE_SECRET $HAVRE_PROJECT $HAVRE_ENVIRONMENT\" >> log
while [ -e \"wait-$1\" ]; do touch \"waits-$1\"; sleep 0.1; done
test ! -e \"fail-$1\"
";

struct Shop<'a>(&'a Machine);

impl Shop<'_> {
    fn up<'m>(machine: &'m Machine) -> Shop<'m> {
        machine.shop("");
        machine.write("compose.yaml", COMPOSE);
        machine.write("havre.yaml", HAVRE);
        machine.write("rotate", SCRIPT);
        let script = machine.project().join("rotate");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        let shop = Shop(machine);
        machine.write("value", "value-one");
        machine.ok(&[
            "secret",
            "set",
            "key",
            "-E",
            "production",
            "--from-file",
            "value",
        ]);
        machine.ok(&["up"]);
        shop.has("value-one");
        shop
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.project().join(name)
    }

    fn rotate(&self, value: &str) -> [&'static str; 9] {
        self.0.write("value", value);
        [
            "secret",
            "rotate",
            "key",
            "-E",
            "production",
            "--from-file",
            "value",
            "--with",
            "./rotate",
        ]
    }

    /// All services have this value.
    fn has(&self, value: &str) {
        self.0.until_answers(value);
        let heard = |service, what: &[&str]| self.0.run(&[&["exec", service], what].concat()).out;
        wait_until("all have the value", SOON, || {
            heard("ears", &["cat", "/heard"]) == value
                && heard("variable", &["sh", "-c", "echo -n $KEY"]) == value
        });
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        fs::remove_file(self.file("log")).ok();
        log
    }

    /// Versions with what each is: in use, or not.
    fn step(&self) -> Value {
        let listed = self.0.json(&["secret", "ls", "-E", "production"]);
        listed[0]["rotation"]["step"].clone()
    }
}

fn of<'a>(
    replicas: impl IntoIterator<Item = &'a (String, u64)>,
    service: &str,
) -> Vec<&'a (String, u64)> {
    let part = format!(".{service}.");
    replicas
        .into_iter()
        .filter(|(id, _)| id.contains(&part))
        .collect()
}

#[test]
fn a_secret_is_rotated_while_all_serve_and_those_that_reload_stay() {
    on_machine_under_load(|machine| {
        let shop = Shop::up(machine);
        let before = machine.replicas();
        let load = machine.load(50.0);
        let rotated = machine.ok(&shop.rotate("value-two"));
        shop.has("value-two");
        let after = machine.replicas();
        load.drops_nothing(50);
        for (service, stay) in [("web", true), ("ears", true), ("variable", false)] {
            let same = of(&before, service) == of(&after, service);
            assert_eq!(same, stay, "{service}: {before:?} {after:?}");
        }
        let both = "value-one value-two key shop production";
        let expected = format!("add {both}\nverify {both}\nretire {both}\n");
        assert_eq!(shop.log(), expected, "{rotated:?}");
        assert!(!rotated.err.contains("value-two") && !rotated.out.contains("value-two"));
        // The release before has what works.
        machine.ok(&["rollback"]);
        shop.has("value-two");
        let back = machine.run(&["secret", "rollback", "key", "-E", "production"]);
        assert_ne!(back.code, 0);
        assert!(
            back.err.contains("version 1") && back.err.contains("retired"),
            "{back:?}"
        );
        // A script that fails leaves all as it is, until it does well or somebody gives it up.
        fs::write(shop.file("fail-verify"), "").unwrap();
        let failed = machine.run(&shop.rotate("value-three"));
        assert_eq!(failed.code, 1, "{failed:?}");
        assert_eq!(shop.step(), "staged");
        shop.has("value-two");
        shop.log();
        machine.ok(&[
            "secret",
            "rotate",
            "key",
            "-E",
            "production",
            "--abort",
            "--with",
            "./rotate",
        ]);
        assert_eq!(
            shop.log(),
            "retire value-three value-two key shop production\n"
        );
        assert_eq!(shop.step(), Value::Null);
        // Given up while the script makes the value valid, which it has to take back.
        fs::remove_file(shop.file("fail-verify")).unwrap();
        fs::write(shop.file("wait-add"), "").unwrap();
        let command = machine.start(&shop.rotate("value-four"));
        wait_until("the script waits", SOON, || shop.file("waits-add").exists());
        machine.ok(&["secret", "rotate", "key", "-E", "production", "--abort"]);
        fs::remove_file(shop.file("wait-add")).unwrap();
        let retired = "retire value-four value-two key shop production\n";
        wait_until("the value is taken back", SOON, || {
            let log = fs::read_to_string(shop.file("log"));
            log.is_ok_and(|log| log.ends_with(retired))
        });
        drop(command);
        assert_eq!(shop.step(), Value::Null);
        shop.has("value-two");
        let trail = machine.ok(&["audit", "log", "--action", "secret"]).out;
        for call in ["secret/rotate", "secret/switch", "secret/step"] {
            assert!(trail.contains(call), "{call} is not in\n{trail}");
        }
        assert!(!trail.contains("value-"), "{trail}");
    });
}

#[test]
fn a_rotation_goes_on_after_kills_of_the_command_and_the_daemon() {
    on_machine_under_load(|machine| {
        let shop = Shop::up(machine);
        let mut old = "value-one".to_owned();
        for step in ["add", "verify", "retire"] {
            let new = format!("value-{step}");
            fs::write(shop.file(&format!("wait-{step}")), "").unwrap();
            let command = machine.start(&shop.rotate(&new));
            wait_until("the script waits", SOON, || {
                shop.file(&format!("waits-{step}")).exists()
            });
            drop(command);
            kill(machine.info()["pid"].as_u64().unwrap());
            machine.start_daemon();
            let expected = if step == "retire" { &new } else { &old };
            shop.has(expected);
            fs::remove_file(shop.file(&format!("wait-{step}"))).unwrap();
            // With another value, which is not looked at.
            machine.ok(&shop.rotate("value-ignored"));
            shop.has(&new);
            assert_eq!(shop.step(), Value::Null);
            let log = shop.log();
            let last = format!("retire {old} {new} key shop production");
            assert_eq!(log.lines().last(), Some(last.as_str()), "{log}");
            old = new;
        }
        // In the middle of the switch.
        for pause in [0, 300, 900] {
            let new = format!("value-{pause}");
            let command = machine.start(&shop.rotate(&new));
            wait_until("it is switched", SOON, || shop.step() == "switched");
            std::thread::sleep(std::time::Duration::from_millis(pause));
            kill(machine.info()["pid"].as_u64().unwrap());
            drop(command);
            machine.start_daemon();
            machine.ok(&shop.rotate("value-ignored"));
            shop.has(&new);
            assert_eq!(shop.step(), Value::Null);
        }
    });
}
