//! What a build is given beside its context, on a real machine.

use std::path::Path;
use std::process::Command;

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, on_machine};

const COMPOSE: &str = r#"
name: shop
services:
  base:
    build:
      context: .
      dockerfile_inline: |
        FROM base:1
        RUN echo from-base > /made
    command: [sleep, "1000000"]
    init: true
  web:
    build:
      context: .
      secrets:
        - token
        - {source: file, target: key}
      additional_contexts:
        other: ./other
        start: service:base
      extra_hosts: ["db.example:192.0.2.7", "machine:host-gateway"]
      shm_size: 32m
      ulimits: {nofile: {soft: 321, hard: 654}}
      dockerfile_inline: |
        FROM start
        COPY --from=other file /other
        RUN --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=key,mode=0440,gid=7 \
            printf %s "$$TOKEN" | sha256sum > /seen && sha256sum < /run/secrets/key >> /seen && \
            stat -L -c '%a %u:%g' /run/secrets/key > /facts
        RUN ulimit -n >> /facts && ulimit -Hn >> /facts && df -k /dev/shm | tail -n 1 | awk '{print $$2}' >> /facts && \
            grep -E 'db.example|machine' /etc/hosts >> /facts; ls /run/secrets 2>> /facts; echo "$$TOKEN." >> /facts
        CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
    init: true
    expose: [8080]
  alone:
    build:
      context: .
      network: none
      dockerfile_inline: |
        FROM base:1
        RUN ls /sys/class/net > /links && cat /etc/hosts > /hosts-seen
        RUN --mount=type=tmpfs,target=/t cp /bin/busybox /t/echo && /t/echo ran > /memory && id -G > /groups
    command: [sleep, "1000000"]
    init: true
secrets:
  token: {environment: BUILD_TOKEN}
  file: {file: ./key}
"#;

/// Files below a folder that contain the text.
fn files_with(dir: &Path, text: &str) -> String {
    let mut grep = Command::new("grep");
    let found = grep.args(["-rlas", "-e", text]).arg(dir).output();
    String::from_utf8(found.unwrap().stdout).unwrap()
}

/// As `sha256sum` prints it.
fn sum(text: &str) -> String {
    let script = format!("printf %s {text} | sha256sum");
    let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn a_build_gets_secrets_contexts_and_settings_and_keeps_no_secret() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", COMPOSE);
        machine.write("key", "value-of-the-key");
        std::fs::create_dir(machine.project().join("other")).unwrap();
        machine.write("other/file", "of another folder");
        let up = |words: &[&str]| {
            let ran = machine
                .command(words)
                .env("BUILD_TOKEN", "value-of-the-token")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(ran.status.success(), "{said}");
            said + &String::from_utf8_lossy(&ran.stdout)
        };
        let said = up(&["up"]);
        assert!(!said.contains("value-of-the"), "{said}");
        let read = |service: &str, path: &str| machine.ok(&["exec", service, "cat", path]).out;
        assert_eq!(read("web", "/made"), "from-base\n");
        assert_eq!(read("web", "/other"), "of another folder");
        let sums = [sum("value-of-the-token"), sum("value-of-the-key")];
        assert_eq!(read("web", "/seen"), sums.concat());
        let facts = read("web", "/facts");
        let lines: Vec<&str> = facts.lines().collect();
        assert_eq!(lines[..4], ["440 0:7", "321", "654", "32768"], "{facts}");
        assert!(facts.contains("192.0.2.7\tdb.example"), "{facts}");
        assert!(facts.contains("100.64.0."), "{facts}");
        assert!(facts.contains("/run/secrets: No such file"), "{facts}");
        assert!(facts.ends_with("\n.\n"), "{facts}");
        assert_eq!(read("alone", "/links"), "lo\n");
        assert_eq!(read("alone", "/memory"), "ran\n");
        assert_eq!(read("alone", "/groups"), "0\n");
        assert!(read("alone", "/hosts-seen").contains("127.0.0.1\tlocalhost"));

        for secret in ["value-of-the-token", "value-of-the-key"] {
            assert_eq!(files_with(&machine.root(), secret), "", "{secret}");
        }
        assert_ne!(
            files_with(&machine.root(), "from-base"),
            "",
            "it is looked for"
        );

        // Nothing has changed, and `plan` knows without the secrets being read.
        let plan = up(&["plan"]);
        assert!(
            !plan.contains("would run") && !plan.contains("value-of-the"),
            "{plan}"
        );
        up(&["up"]);
        let releases = machine.json(&["releases"]);
        assert_eq!(releases.as_array().map(Vec::len), Some(1), "{releases}");

        // The base, which no container runs, is there for the next build.
        let stored = machine.json(&["image", "prune", "--all", "--dry-run"]);
        let items = stored["items"].as_array().unwrap();
        let base = items.iter().find(|item| item["what"] == "base:1").unwrap();
        assert_eq!(base["removed"], false, "{stored}");
        let why = base["why"].as_str().unwrap();
        assert!(why.ends_with("was built from it"), "{why}");
        machine.ok(&["image", "prune", "--all"]);
        assert!(machine.ok(&["image", "ls"]).out.contains("base:1"));

        let missing = machine.run(&["up"]);
        assert_eq!(missing.code, 3, "{}", missing.err);
        assert!(
            missing.err.contains("`BUILD_TOKEN` is not set"),
            "{}",
            missing.err
        );
    });
}

/// An address of the test's machine that is not for itself alone.
const SERVED_AT: &str = "192.0.2.7";

/// A repository that `git daemon` serves, and its daemon.
fn serve_repository(machine: &Machine) -> std::process::Child {
    let repository = machine.project().join("repository");
    std::fs::create_dir_all(repository.join("web")).unwrap();
    std::fs::write(
        repository.join("web/Dockerfile"),
        "FROM base:1\nCOPY index.html /www/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
    )
    .unwrap();
    for (link, to) in [("out", "/etc"), ("web/Dockerfile.out", "/etc/passwd")] {
        std::os::unix::fs::symlink(to, repository.join(link)).unwrap();
    }
    git(machine, &["init", "--quiet", "-b", "main"]);
    let address = format!("{SERVED_AT}/32");
    let added = Command::new("ip")
        .args(["address", "add", &address, "dev", "lo"])
        .status()
        .unwrap();
    assert!(added.success());
    let port = "--port=9418";
    let base = format!("--base-path={}", machine.project().display());
    // Not by way of `git daemon`, which would leave it behind.
    let programs = Command::new("git").arg("--exec-path").output().unwrap();
    let programs = String::from_utf8(programs.stdout).unwrap();
    let mut daemon = Command::new(Path::new(programs.trim()).join("git-daemon"));
    daemon
        .args(["--export-all", port])
        .arg(base)
        .spawn()
        .unwrap()
}

fn git(machine: &Machine, args: &[&str]) {
    let ran = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
        .args(args)
        .current_dir(machine.project().join("repository"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

fn commit(machine: &Machine, page: &str) {
    machine.write("repository/web/index.html", page);
    git(machine, &["add", "."]);
    git(machine, &["commit", "--quiet", "-m", page]);
}

#[test]
fn a_context_is_fetched_from_a_repository_and_no_link_leads_out_of_it() {
    on_machine(|machine| {
        machine.shop("zero");
        let mut daemon = serve_repository(machine);
        commit(machine, "one");
        let up_from = |host: &str, fragment: &str, more: &str| {
            let compose = format!(
                "name: shop\nservices:\n  web: {{build: {{context: \"git://{host}/repository#{fragment}\"{more}}}, \
                 init: true, expose: [8080]}}\n"
            );
            machine.write("compose.yaml", &compose);
            machine.run(&["up"])
        };
        let up = |fragment: &str, more: &str| up_from(SERVED_AT, fragment, more);
        let ran = up("main:web", "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        machine.until_answers("one");
        commit(machine, "two");
        assert_eq!(up("main:web", "").code, 0);
        machine.until_answers("two");
        for (fragment, more, says) in [
            ("main:out", "", "a link is on the way"),
            (
                "main:web",
                ", dockerfile: Dockerfile.out",
                "a link is on the way",
            ),
            ("nowhere:web", "", "nowhere"),
        ] {
            let ran = up(fragment, more);
            assert_eq!(ran.code, 1, "{fragment}: {}", ran.err);
            assert!(ran.err.contains(says), "{fragment}: {}", ran.err);
        }
        machine.until_answers("two");
        // Beside a folder.
        commit(machine, "three");
        machine.write(
            "compose.yaml",
            &format!(
                "name: shop\nservices:\n  web:\n    init: true\n    expose: [8080]\n    build:\n      \
                 context: .\n      dockerfile: Dockerfile.pages\n      additional_contexts:\n        \
                 pages: \"git://{SERVED_AT}/repository#main:web\"\n"
            ),
        );
        machine.write(
            "Dockerfile.pages",
            "FROM base:1\nCOPY --from=pages index.html /www/\n\
             CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n",
        );
        let plan = machine.ok(&["plan"]).out;
        assert!(plan.contains("/repository is fetched"), "{plan}");
        machine.ok(&["up"]);
        machine.until_answers("three");
        let ran = up_from("127.0.0.1", "main:web", "");
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("only this machine itself"), "{}", ran.err);
        let fetched = machine.root().join("lib/git");
        wait_until("nothing is left", SOON, || {
            std::fs::read_dir(&fetched).unwrap().next().is_none()
        });
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    });
}
