//! Releases on a real machine, from the first to one whose daemon dies on the way.

use std::time::Duration;

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine, on_machine_under_load};

/// Requests per second while releases change.
const RATE: f64 = 100.0;

#[test]
fn an_application_comes_up_changes_without_a_failed_request_and_goes_without_a_trace() {
    on_machine_under_load(|machine| {
        machine.shop("one");
        let first = machine.json(&["up"]);
        assert_eq!(first["changed"], true, "{first}");
        assert_eq!(machine.get().as_deref(), Ok("one"));

        let replicas = machine.replicas();
        assert_eq!(replicas.len(), 2);
        let again = machine.json(&["up"]);
        assert_eq!(again["changed"], false, "{again}");
        assert_eq!(again["release"], first["release"]);
        assert_eq!(machine.replicas(), replicas);

        let load = machine.load(RATE);
        for page in ["two", "three", "four"] {
            let before = machine.replicas();
            machine.page(page);
            let next = machine.json(&["up"]);
            assert_eq!(next["changed"], true, "{next}");
            assert_eq!(machine.get().as_deref(), Ok(page));
            let after = machine.replicas();
            assert_eq!(after.len(), 2, "{after:?}");
            assert!(after.is_disjoint(&before), "{after:?} {before:?}");
        }
        load.drops_nothing(100);
    });
}

/// A front that looks the address of its back up once, when it starts, as nginx does.
const GATEWAY: &str = "\
name: shop
services:
  front:
    image: base:1
    init: true
    expose: [8080]
    command:
      - sh
      - -c
      - |
        back=$$(nslookup app | awk '/^Address/ { address = $$NF } END { print address }')
        exec nc -ll -p 8080 -e nc $$back 8080
    depends_on: [app]
  app:
    build: .
    init: true
    networks: {default: {aliases: [behind]}}
";

#[test]
fn a_gateway_that_looked_up_an_address_once_serves_on_when_only_its_back_changes() {
    on_machine_under_load(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", GATEWAY);
        let routes = "routes: [{path: /, service: front, port: 8080}]\n";
        machine.write("havre.yaml", &format!("domain: shop.localhost\n{routes}"));
        machine.ok(&["up"]);
        machine.until_answers("one");
        let front = |machine: &Machine| machine.json(&["ps", "front"])[0]["id"].clone();
        let before = front(machine);
        let load = machine.load(RATE / 4.0);
        for page in ["two", "three"] {
            machine.page(page);
            machine.ok(&["up"]);
            assert_eq!(machine.get().as_deref(), Ok(page));
        }
        load.drops_nothing(20);
        assert_eq!(front(machine), before, "the front was left alone");
        let names = machine.ok(&["exec", "front", "nslookup", "tasks.app"]).out;
        let own = machine.ok(&["exec", "front", "nslookup", "behind"]).out;
        assert_ne!(names, own, "an alias stands for the service");
    });
}

#[test]
fn a_rollback_brings_an_earlier_release_back_without_a_failed_request() {
    on_machine_under_load(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        machine.page("two");
        machine.ok(&["up"]);
        let load = machine.load(RATE);
        let back = machine.json(&["rollback"]);
        assert_eq!(
            (&back["release"], &back["previous"]),
            (&3.into(), &2.into())
        );
        assert_eq!(machine.get().as_deref(), Ok("one"));
        let further = machine.run(&["rollback"]);
        assert_eq!(further.code, 6, "{}", further.err);
        assert!(further.err.contains("no release that served before"));
        let same = machine.run(&["rollback", "3"]);
        assert!(same.err.contains("serves already"), "{}", same.err);
        machine.ok(&["rollback", "2"]);
        assert_eq!(machine.get().as_deref(), Ok("two"));
        load.drops_nothing(50);

        // One that fails stands in the history with its reason, and rollback passes it over.
        machine.write("Dockerfile", "FROM base:1\nCMD [\"false\"]\n");
        assert_eq!(machine.run(&["up"]).code, 5);
        let releases = machine.json(&["releases"]);
        let told: Vec<(u64, &str, &str)> = releases
            .as_array()
            .unwrap()
            .iter()
            .map(|release| {
                let text = |name: &str| release[name].as_str().unwrap();
                (
                    release["release"].as_u64().unwrap(),
                    text("cause"),
                    text("state"),
                )
            })
            .collect();
        let expected = [
            (5, "up", "went_back"),
            (4, "rollback to 2", "serving"),
            (3, "rollback to 1", "served"),
            (2, "up", "served"),
            (1, "up", "served"),
        ];
        assert_eq!(told, expected);
        let reason = releases[0]["reason"].as_str().unwrap();
        assert!(reason.starts_with("web: "), "{reason}");
        let change = releases[1]["changes"][0]["changes"][0].as_str().unwrap();
        assert!(change.starts_with("image: "), "{change}");
        let never = machine.run(&["rollback", "5"]);
        assert!(
            never.err.contains("failed and was rolled back"),
            "{}",
            never.err
        );
        machine.ok(&["rollback"]);
        assert_eq!(machine.get().as_deref(), Ok("one"));
        print!("{}", machine.ok(&["releases"]).out);
    });
}

#[test]
fn a_plan_says_what_up_would_do_and_does_nothing() {
    on_machine(|machine| {
        machine.shop("one");
        let plan = || machine.json(&["plan"]);
        assert_eq!(plan()["services"][0]["action"], "create");
        machine.ok(&["up"]);
        let (replicas, images) = (machine.replicas(), machine.json(&["image", "ls"]));
        let same = plan();
        assert_eq!(same["changed"], false, "{same}");
        assert_eq!(same["services"][0]["action"], "keep", "{same}");

        machine.page("two");
        let compose = machine.project().join("compose.yaml");
        let text = std::fs::read_to_string(&compose).unwrap();
        let more = text.replace("build: .", "build: .\n    environment: {COLOUR: red}");
        std::fs::write(&compose, more).unwrap();
        let plan = plan();
        let service = &plan["services"][0];
        assert_eq!(service["action"], "replace", "{plan}");
        let changes = service["changes"].as_array().unwrap();
        let image = changes[0].as_str().unwrap();
        assert!(image.starts_with("image: built from Dockerfile:"), "{plan}");
        assert!(image.contains("COPY"), "{plan}");
        assert_eq!(changes[1], "environment: COLOUR added", "{plan}");
        let strategy = service["strategy"].as_str().unwrap();
        assert!(strategy.starts_with("start-first: "), "{plan}");

        assert_eq!(machine.replicas(), replicas);
        assert_eq!(machine.json(&["image", "ls"]), images);
        assert_eq!(machine.get().as_deref(), Ok("one"));
        machine.ok(&["up"]);
        assert_eq!(machine.json(&["plan"])["changed"], false);
    });
}

#[test]
fn a_daemon_killed_at_any_moment_of_a_rollout_fails_no_request_and_the_next_one_finishes() {
    on_machine_under_load(|machine| {
        machine.shop("0");
        machine.ok(&["up"]);
        let again = std::env::var("HAVRE_TEST_SEED").ok();
        let mut seed = again.map_or_else(now_nanos, |seed| seed.parse().expect("a number"));
        println!("HAVRE_TEST_SEED={seed}");
        let load = machine.load(RATE);
        for number in 1..=4 {
            let page = number.to_string();
            machine.page(&page);
            let mut up = machine.start(&["up"]);
            let start = |talk: &str| talk.lines().any(|line| line.contains("starting"));
            wait_until("the rollout starts a replica", SOON, || start(&up.talk()));
            seed = next(seed);
            let moment = Duration::from_millis(seed % 700);
            println!("rollout {number}: killed {moment:?} after its first replica");
            std::thread::sleep(moment);
            kill_daemon(machine);
            let code = up.ends();
            assert!(matches!(code, 0 | 4), "{code}\n{}", up.talk());

            machine.start_daemon();
            machine.until_answers(&page);
            machine.until_settled();
            assert_eq!(machine.replicas().len(), 2);
        }
        load.drops_nothing(100);
    });
}

fn kill_daemon(machine: &Machine) {
    let pid = machine.info()["pid"].as_u64().unwrap();
    kill(pid);
    wait_until("the daemon has ended", SOON, || !crate::machine::runs(pid));
}

fn now_nanos() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().subsec_nanos().into()
}

/// Xorshift.
fn next(mut seed: u64) -> u64 {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^ seed << 17
}

#[test]
fn an_interrupted_up_waits_no_longer_than_it_says() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        let old = machine.replicas();
        let stubborn = "
    command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done']
    stop_grace_period: 10m
    healthcheck: {test: [CMD, 'false'], interval: 1s, start_period: 5m}
";
        machine.web(stubborn);
        let mut up = machine.start(&["up"]);
        let mut new = Vec::new();
        wait_until("the new one runs", SOON, || {
            new = machine.replicas().difference(&old).cloned().collect();
            !new.is_empty()
        });
        up.interrupt();
        assert_eq!(up.ends(), 130, "{}", up.talk());
        let talk = up.talk();
        assert!(
            talk.contains("is still rolling back to release 1"),
            "{talk}"
        );
        machine.until_answers("one");
        for (_, pid) in new {
            kill(pid);
        }
        machine.until_settled();
    });
}
