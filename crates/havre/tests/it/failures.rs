//! What goes wrong on a real machine is explained, and what served before serves on.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, on_machine, program_file};
use crate::program::Ran;

const UNHEALTHY: &str = "
    command: [sh, -c, 'echo the oven is cold; exec sleep 600']
    healthcheck: {test: 'echo no bread yet; exit 3', interval: 200ms, retries: 2}
";

const NEVER_READY: &str = "
    command: [sleep, '600']
    healthcheck: {test: [CMD, 'false'], interval: 200ms, start_period: 10m}
";

/// Its image brings a health check, for a port that its command does not serve.
const INHERITS: &str = "
    command: [httpd, -f, -p, '8080', -h, /www]
";
const WITH_HEALTHCHECK: &str = "\
FROM base:1
COPY index.html /www/
HEALTHCHECK --interval=200ms --retries=2 CMD wget -q http://localhost:5000/ || exit 1
";

/// Beside settings of its own.
const HANGS: &str = "\
services: {web: {liveness: {test: 'echo it hangs; exit 4', interval: 200ms, retries: 2}}}
";

/// Healthy as long as there is a file.
const OVEN: &str = "
    command:
      - sh
      - -c
      - test -f /oven/lit || touch /oven/lit /oven/warm; echo baking; exec httpd -f -p 8080 -h /www
    volumes: ['oven:/oven']
    healthcheck:
      test: [CMD-SHELL, 'test -f /oven/warm || { echo the oven is cold; exit 3; }']
      interval: 200ms
      retries: 2
volumes: {oven: {}}
";

#[test]
fn a_failed_up_says_why_and_the_release_before_serves_on() {
    on_machine(|machine| {
        machine.shop("one");
        machine.ok(&["up"]);
        let replicas = machine.replicas();
        let serves_on = |what: &str| {
            assert_eq!(machine.get().as_deref(), Ok("one"), "{what}");
            assert_eq!(machine.replicas(), replicas, "{what}");
            let status = machine.status();
            assert_eq!(status["release"], 1, "{what}: {status}");
        };

        let good = std::fs::read_to_string(machine.project().join("compose.yaml")).unwrap();
        machine.web(UNHEALTHY);
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        says(
            &ran,
            &["`web`", "no bread yet", "exit 3", "the oven is cold"],
        );
        serves_on("unhealthy");

        machine.web(NEVER_READY);
        let settings = std::fs::read_to_string(machine.project().join("havre.yaml")).unwrap();
        machine.write("havre.yaml", &format!("{settings}{HANGS}"));
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        let probe = ["its liveness probe fails", "it hangs", "exit code 4"];
        says(&ran, &probe);
        says(&ran, &["more time with liveness.start_period"]);
        machine.write("havre.yaml", &settings);
        serves_on("hangs");

        interrupted(machine);
        serves_on("interrupted");
        machine.write("Dockerfile", WITH_HEALTHCHECK);
        machine.web(INHERITS);
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        let asked = "wget -q http://localhost:5000/";
        let origin = "the probe comes from the image, for port 5000";
        says(&ran, &[asked, origin, "healthcheck: {disable: true}"]);
        serves_on("a health check of the image");
        machine.write("compose.yaml", &good);

        machine.write(
            "Dockerfile",
            "FROM base:1\n\nRUN echo no flour && \\\n    exit 42\nCOPY index.html /www/\n",
        );
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        says(&ran, &["Dockerfile:3", "no flour", "exit code 42"]);
        serves_on("broken Dockerfile");

        machine.write("Dockerfile", "FROM registry.invalid/bread:7\n");
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let import = "havre image import FILE --tag registry.invalid/bread:7";
        says(&ran, &["cannot reach registry.invalid", import]);
        serves_on("unreachable base image");
    });
}

#[test]
fn a_port_that_nobody_opens_is_told_with_the_one_that_is_open() {
    on_machine(|machine| {
        machine.shop("one");
        let settings = std::fs::read_to_string(machine.project().join("havre.yaml")).unwrap();
        let impatient = format!("{settings}rollout: {{ready_timeout: 6s}}\n");
        machine.write("havre.yaml", &impatient);
        let web = |command: &str| machine.web(&format!("    command: {command}\n"));

        web("[httpd, -f, -p, '3000', -h, /www]");
        let up = machine.start(&["up"]);
        let other = "nothing in `web` listens on port 8080, but on 3000: correct the port";
        wait_until("why tells the port during the start", SOON, || {
            machine.run(&["why", "web"]).out.contains(other)
        });
        let mut up = up;
        assert_eq!(up.ends(), 5, "{}", up.talk());
        assert!(up.talk().contains(other), "{}", up.talk());
        assert!(
            up.talk().contains("is not ready after 3 s"),
            "{}",
            up.talk()
        );
        // What it was is still there to read.
        assert!(machine.ok(&["why", "web"]).out.contains(other));

        web("[httpd, -f, -p, '127.0.0.1:8080', -h, /www]");
        says(&machine.run(&["up"]), &["let it listen on 0.0.0.0"]);
        web("[sleep, '600']");
        says(
            &machine.run(&["up"]),
            &["nothing in `web` listens on port 8080 yet"],
        );
    });
}

#[test]
fn why_tells_what_ails_a_service_and_what_to_do() {
    on_machine(|machine| {
        machine.web_up(OVEN);
        let well = machine.ok(&["why", "web"]);
        assert!(
            well.out.contains("✓ service web: 1 of 1 ready"),
            "{}",
            well.out
        );
        assert!(well.out.contains("it takes new ones"), "{}", well.out);

        machine.ok(&["exec", "web", "rm", "/oven/warm"]);
        for args in [
            &["why", "bred"][..],
            &["logs", "bred"],
            &["ps", "bred"],
            &["exec", "bred", "ls"],
        ] {
            let ran = machine.run(args);
            assert_ne!(ran.code, 0, "{args:?}");
            says(&ran, &["no service `bred`", "services: web"]);
        }
        let parts = [
            "✗ service web: 0 of 1 ready",
            "unhealthy for",
            "it takes new ones",
            "test -f /oven/warm",
            "exit code 3",
            "the oven is cold",
            "output",
            "| baking",
            "hint: ",
        ];
        // It is replaced, which does not help.
        wait_until("why tells all of it", SOON, || {
            let told = machine.ok(&["why", "web"]).out;
            print!("{told}");
            parts.iter().all(|part| told.contains(part))
        });
        let unknown = machine.run(&["why", "bakery"]);
        assert_eq!(unknown.code, 6, "{}", unknown.err);
    });
}

#[test]
fn a_first_release_that_fails_or_is_interrupted_leaves_nothing_running() {
    on_machine(|machine| {
        machine.shop("one");
        let nothing = |what: &str| {
            assert_eq!(machine.json(&["ps"]), serde_json::json!([]), "{what}");
            let status = machine.status();
            assert!(status["release"].is_null(), "{what}: {status}");
        };
        interrupted(machine);
        nothing("interrupted");

        machine.web(UNHEALTHY);
        let ran = machine.run(&["up"]);
        assert_eq!(ran.code, 5, "{}", ran.err);
        // No replica is left to run the probe in.
        says(
            &ran,
            &[
                "no bread yet",
                "nothing serves",
                "on_failure: pause",
                "start_period",
            ],
        );
        nothing("unhealthy");
    });
}

/// An `up` that would never end is ended by Ctrl-C.
fn interrupted(machine: &Machine) {
    let before = machine.run(&["ps", "--json"]).json();
    machine.web(NEVER_READY);
    let mut up = machine.start(&["up"]);
    wait_until("a new replica starts", SOON, || {
        machine.run(&["ps", "--json"]).json() != before && up.talk().contains("starting")
    });
    up.interrupt();
    assert_eq!(up.ends(), 130, "{}", up.talk());
    assert!(up.talk().contains("cancelled"), "{}", up.talk());
}

#[test]
fn a_port_that_somebody_else_holds_is_a_problem_with_the_name_of_its_owner() {
    on_machine(|machine| {
        let mut other = Command::new("/bin/busybox")
            .args(["httpd", "-f", "-p", "443", "-h", "/proc/sys"])
            .spawn()
            .unwrap();
        machine.shop("one");
        let told = |machine: &Machine| {
            let problems = machine.info()["problems"].to_string();
            problems.contains("443") && problems.contains("busybox")
        };
        wait_until("the daemon tells whose port it is", SOON, || told(machine));
        let ran = machine.run(&["up"]);
        says(&ran, &["443", "busybox", &other.id().to_string()]);
        other.kill().unwrap();
        other.wait().unwrap();
        machine.until_answers("one");
        wait_until("the problem is gone", SOON, || !told(machine));
    });
}

#[test]
fn without_root_it_says_so_and_starts_nothing() {
    on_machine(|machine| {
        machine.write(
            "compose.yaml",
            "name: shop\nservices: {web: {image: base:1}}\n",
        );
        let as_nobody = |args: &[&str]| -> Ran {
            let file = program_file();
            assert_eq!(file.metadata().unwrap().mode() & 0o111, 0o111);
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["/proc/self/fd/0", "--root"])
                .arg(machine.root())
                .args(args)
                .current_dir(machine.project())
                .stdin(Stdio::from(file));
            command.output().unwrap().into()
        };
        for args in [&["up"][..], &["daemon"], &["daemon", "install"]] {
            let ran = as_nobody(args);
            assert_eq!(ran.code, 8, "{args:?}: {}", ran.err);
            says(&ran, &["needs root", "sudo"]);
        }
        assert!(!machine.root().exists());

        // Nor may others use the daemon of root.
        machine.start_daemon();
        for args in [&["up"][..], &["status"], &["daemon", "stop"]] {
            let ran = as_nobody(args);
            assert_eq!(ran.code, 8, "{args:?}: {}", ran.err);
            says(&ran, &["root", "sudo"]);
        }
        machine.info();
    });
}

#[track_caller]
fn says(ran: &Ran, words: &[&str]) {
    for word in words {
        assert!(ran.err.contains(word), "no {word:?} in\n{}", ran.err);
    }
}

#[test]
fn a_build_that_fills_the_disk_ends_and_what_serves_goes_on() {
    on_machine(|machine| {
        let root = machine.root();
        std::fs::create_dir_all(&root).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256m", "tmpfs"])
            .arg(&root)
            .status();
        assert!(mounted.unwrap().success());
        machine.shop_up();
        let greedy = "FROM base:1\nRUN dd if=/dev/zero of=/big bs=1M count=230; sleep 600\n";
        machine.write("Dockerfile", greedy);
        let up = machine.run(&["up"]);
        assert_eq!(up.code, 1, "{}", up.err);
        assert!(up.err.contains("are kept for what runs"), "{}", up.err);
        assert!(up.err.contains("havre image prune"), "{}", up.err);
        assert_eq!(machine.get().as_deref(), Ok("one"));
        machine.page("two");
        let dockerfile = "FROM base:1\nCOPY index.html /www/\n\
                          CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";
        machine.write("Dockerfile", dockerfile);
        // What the greedy build wrote is gone: there is room again.
        machine.ok(&["up"]);
        assert_eq!(machine.get().as_deref(), Ok("two"));
        machine.ok(&["down", "--volumes"]);
        machine.ok(&["daemon", "stop"]);
        let unmounted = Command::new("umount").arg("--lazy").arg(&root).status();
        assert!(unmounted.unwrap().success());
    });
}

/// A first release that fails, and what is left of it.
const MISSING: &str = "\
name: shop
services:
  web:
    build: .
    expose: [8080]
    command: [sh, -c, 'echo DB_URL missing, see docs; exit 3']
  side:
    image: base:1
    init: true
    command: [sleep, '1000000']
";

#[test]
fn a_first_release_that_fails_can_be_looked_at_afterwards() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", MISSING);
        let up = machine.run(&["up"]);
        assert_eq!(up.code, 5);
        assert!(!up.err.contains("the release before"), "{}", up.err);
        let why = machine.ok(&["why", "web"]).out;
        for part in ["ended with exit code 3", "DB_URL missing, see docs"] {
            assert!(why.contains(part), "{part} is not in\n{why}");
        }
        let logs = machine.ok(&["logs", "web", "--no-prefix"]).out;
        assert!(logs.starts_with("DB_URL missing, see docs\n"), "{logs:?}");
        let status = machine.status();
        assert_eq!(status["state"], "down", "{status}");
        let states: Vec<&str> = status["services"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| service["state"].as_str().unwrap())
            .collect();
        assert_eq!(states, ["stopped", "failed"], "{status}");
        // A daemon that begins anew knows of it as well.
        // Nothing of it runs, so nobody needs to be asked.
        machine.ok(&["daemon", "stop"]);
        machine.start_daemon();
        let status = machine.status();
        assert_eq!(status["services"][1]["state"], "failed", "{status}");
        let logs = machine.ok(&["logs", "web", "--no-prefix"]).out;
        assert!(logs.starts_with("DB_URL missing, see docs\n"), "{logs:?}");
    });
}
