//! From staging to production on a real machine: the same images, once somebody else agreed, whatever dies meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Machine, SOON, kill, on_machine, program_file};
use crate::program::Ran;

const HAVRE: &str = "\
domain: shop.localhost
environments:
  staging:
  production:
    needs: staging
    approval: {by: [anna, admins], not_author: true}
";
/// A member of the group `havre`.
const ANNA: [(&str, &str); 2] = [
    ("/etc/passwd", "anna:x:4242:4242::/:/bin/sh\n"),
    ("/etc/group", "havre:x:4244:anna\n"),
];

fn let_anna_in(machine: &Machine) {
    fs::create_dir_all(machine.root()).unwrap();
    for (path, more) in ANNA {
        let own = machine.root().join(path.trim_start_matches("/etc/"));
        fs::write(&own, fs::read_to_string(path).unwrap() + more).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.arg("--bind").arg(&own).arg(path).status();
        assert!(mounted.unwrap().success());
    }
}

fn anna(machine: &Machine, args: &[&str]) -> Ran {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=4242", "--regid=4242", "--groups=4244"])
        .args(["/proc/self/fd/0", "--root"])
        .arg(machine.root())
        .args(args)
        .current_dir(machine.project())
        .stdin(Stdio::from(program_file()));
    command.output().unwrap().into()
}

/// A program that keeps what it is told.
fn tell(machine: &Machine) -> std::path::PathBuf {
    let etc = machine.root().join("etc");
    fs::create_dir_all(&etc).unwrap();
    let (program, heard) = (etc.join("tell"), etc.join("heard"));
    let script = format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", heard.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(etc.join("machine.yaml"), "notify: ./tell\n").unwrap();
    heard
}

fn digest(machine: &Machine, environment: &str) -> Value {
    let status = machine.json(&["status", "-E", environment]);
    status[0]["services"][0]["digest"].clone()
}

#[test]
fn production_runs_what_staging_ran_once_somebody_else_agreed() {
    on_machine(|machine| {
        let_anna_in(machine);
        let heard = tell(machine);
        machine.shop("one");
        machine.write("havre.yaml", HAVRE);
        let checked = machine.ok(&["check"]);
        assert_eq!(checked.code, 0, "{checked:?}");
        machine.ok(&["up", "-E", "staging"]);

        // Not by itself, and not before somebody agreed.
        let direct = machine.run(&["up"]);
        assert_eq!(direct.code, 7, "{direct:?}");
        assert!(
            direct.err.contains("0 of 1 approval by anna, admins"),
            "{direct:?}"
        );
        let looked = machine.json(&["promote", "--to", "production", "--dry-run"]);
        assert!(looked["promotion"].is_null(), "{looked:#}");
        let asked = machine.json(&["promote", "latest", "--to", "production"]);
        assert_eq!(asked["state"], "waiting", "{asked:#}");
        assert_eq!(asked["from"]["environment"], "staging", "{asked:#}");
        assert_eq!(
            asked["images"][0]["after"],
            digest(machine, "staging"),
            "{asked:#}"
        );
        let own = machine.run(&["approve", "1"]);
        assert_eq!(own.code, 9, "{own:?}");
        assert!(own.err.contains("somebody else has to agree"), "{own:?}");
        assert_eq!(machine.get().ok(), None, "nothing serves in production");

        // It waits on, whoever dies.
        let pid = machine.info()["pid"].as_u64().unwrap();
        kill(pid);
        machine.start_daemon();
        let listed = machine.json(&["env", "ls"]);
        let production = &listed[1];
        assert_eq!(production["id"]["environment"], "production", "{listed:#}");
        assert_eq!(production["waiting"][0]["promotion"], 1, "{listed:#}");
        let shown = machine.ok(&["env", "ls"]).out;
        assert!(
            shown.contains("approval: 0 of 1 approval by anna, admins"),
            "{shown}"
        );

        let agreed = anna(machine, &["approve", "1", "--comment", "seen it"]);
        assert_eq!(agreed.code, 0, "{agreed:?}");
        assert!(
            agreed.err.contains("release 1 serves, by promotion 1"),
            "{agreed:?}"
        );
        machine.until_answers("one");
        assert_eq!(digest(machine, "production"), digest(machine, "staging"));
        let releases = machine.ok(&["releases"]).out;
        assert!(releases.contains("promoted from staging 1"), "{releases}");
        assert!(releases.contains("approved by anna"), "{releases}");
        let said = machine.ok(&["releases", "provenance", "1"]).json();
        let hex = digest(machine, "production");
        let hex = hex.as_str().unwrap().trim_start_matches("sha256:");
        assert_eq!(said["subject"][0]["digest"]["sha256"], hex, "{said:#}");
        let trail = machine.ok(&["audit", "log"]).out;
        for action in ["promote", "promotions/approve", "promotion/rolled_out"] {
            assert!(trail.contains(action), "{action}: {trail}");
        }
        wait_until("people heard of it", SOON, || {
            let text = fs::read_to_string(&heard).unwrap_or_default();
            let events = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let events: Vec<Value> = events.collect();
            let of = |event: &str| events.iter().any(|one| one["event"] == event);
            of("waits") && of("rolled_out")
        });

        // What never served there, and what comes while nothing may.
        let never = machine.run(&["promote", "9", "--to", "production"]);
        assert_eq!(never.code, 6, "{never:?}");
        machine.page("two");
        machine.ok(&["up", "-E", "staging"]);
        machine.ok(&[
            "freeze",
            "production",
            "--until",
            "1h",
            "--reason",
            "holidays",
        ]);
        let frozen = machine.run(&["promote", "--to", "production"]);
        assert_eq!(frozen.code, 7, "{frozen:?}");
        assert!(frozen.err.contains("holidays"), "{frozen:?}");
        machine.ok(&["freeze", "production", "--off"]);
        machine.ok(&["promote", "--to", "production"]);
        let rejected = anna(machine, &["reject", "2", "--comment", "not today"]);
        assert_eq!(rejected.code, 0, "{rejected:?}");
        let late = anna(machine, &["approve", "2"]);
        assert_eq!(late.code, 7, "{late:?}");
        assert!(late.err.contains("anna rejected it"), "{late:?}");
        assert_eq!(machine.get().as_deref(), Ok("one"));
        machine.ok(&["up", "--override", "the house burns"]);
        machine.until_answers("two");
        machine.ok(&["down", "-E", "staging"]);
        for (path, _) in ANNA {
            assert!(Command::new("umount").arg(path).status().unwrap().success());
        }
    });
}
