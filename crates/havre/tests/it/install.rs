//! The daemon as a unit of systemd, which is a fake here: see fake-systemctl.sh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine, runs};
use crate::program::{Ran, program};

const FAKE: &str = include_str!("fake-systemctl.sh");
/// Where the fake keeps what it knows.
const STATE: &str = "/run/fake-systemd";

/// A machine that systemd runs, or so it seems.
struct Systemd<'a> {
    machine: &'a Machine,
    unit: String,
    path: String,
}

impl<'a> Systemd<'a> {
    /// `None` where this machine has no folder for units to stand in for.
    fn new(machine: &'a Machine) -> Option<Self> {
        if !Path::new("/etc/systemd").is_dir() {
            println!("skipped: needs the package systemd");
            return None;
        }
        for folder in ["/run", "/etc/systemd"] {
            mount(&["-t", "tmpfs", "tmpfs", folder]);
        }
        for folder in ["/run/systemd/system", "/etc/systemd/system", STATE] {
            fs::create_dir_all(folder).unwrap();
        }
        let programs = machine.project().join("programs");
        fs::create_dir_all(&programs).unwrap();
        let fake = programs.join("systemctl");
        fs::write(&fake, FAKE).unwrap();
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
        let root = havre_app::Root::new(Some(machine.root()));
        let path = std::env::var("PATH").unwrap();
        Some(Self {
            machine,
            unit: format!("havre-{}.service", root.instance()),
            path: format!("{}:{path}", programs.display()),
        })
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.machine.command(args);
        command.env("PATH", &self.path).output().unwrap().into()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "havre {args:?}\n{}\n{}", ran.out, ran.err);
        ran
    }

    /// As an administrator would.
    fn systemctl(&self, args: &[&str]) {
        let mut command = Command::new("systemctl");
        let status = command.args(args).env("PATH", &self.path).status();
        assert!(status.unwrap().success(), "{args:?}");
        self.told();
    }

    fn unit_file(&self) -> PathBuf {
        Path::new("/etc/systemd/system").join(&self.unit)
    }

    /// What systemctl was told since the last time.
    fn told(&self) -> Vec<String> {
        let path = Path::new(STATE).join("told");
        let told = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, "").unwrap();
        let told = told.replace(&self.unit, "UNIT");
        told.lines().map(str::to_owned).collect()
    }

    fn fails(&self, command: &str, fails: bool) {
        let path = Path::new(STATE).join(format!("fails-{command}"));
        match fails {
            true => fs::write(path, "").unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }

    fn daemon(&self) -> u64 {
        self.machine.info()["pid"].as_u64().unwrap()
    }

    fn edge(&self) -> Option<u64> {
        self.machine.info()["edge"]["pid"].as_u64()
    }

    fn ends(self) {
        for folder in ["/run", "/etc/systemd"] {
            let unmounted = Command::new("umount").args(["--lazy", folder]).status();
            assert!(unmounted.unwrap().success());
        }
    }
}

fn mount(args: &[&str]) {
    let mounted = Command::new("mount").args(args).status();
    assert!(mounted.unwrap().success(), "{args:?}");
}

#[track_caller]
fn says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "no {word:?} in\n{}", ran.err);
    }
}

#[test]
fn a_unit_takes_the_daemon_over_and_keeps_it_running() {
    on_machine(|machine| {
        let Some(systemd) = Systemd::new(machine) else {
            return;
        };
        machine.shop_up();
        let (by_hand, edge, replicas) = (systemd.daemon(), systemd.edge(), machine.replicas());
        let goes_on = |_: ()| {
            assert_eq!(machine.get().as_deref(), Ok("one"));
            assert_eq!(
                (systemd.edge(), machine.replicas()),
                (edge, replicas.clone())
            );
        };

        let ran = systemd.ok(&["daemon", "install"]);
        assert!(ran.err.contains("0.0.0.0:443"), "{}", ran.err);
        let steps = ["daemon-reload", "enable UNIT", "stop UNIT", "start UNIT"];
        assert_eq!(systemd.told(), steps);
        let unit = fs::metadata(systemd.unit_file()).unwrap();
        assert_eq!(unit.permissions().mode() & 0o777, 0o644);
        let first = systemd.daemon();
        assert_ne!(first, by_hand);
        assert!(!runs(by_hand));
        goes_on(());

        kill(first);
        wait_until("another daemon answers", SOON, || {
            let version = machine.run(&["version", "--json"]).json();
            version["daemon"]["pid"]
                .as_u64()
                .is_some_and(|pid| pid != first)
        });
        assert_eq!(systemd.told(), [""; 0]);
        goes_on(());

        // What needs a daemon has systemd start it.
        systemd.systemctl(&["stop", &systemd.unit]);
        assert_eq!(machine.get().as_deref(), Ok("one"));
        let ran = systemd.ok(&["ca", "export"]);
        assert!(ran.err.contains(&systemd.unit), "{}", ran.err);
        assert_eq!(systemd.told(), ["start UNIT"]);
        goes_on(());

        for args in [["daemon", "stop"], ["daemon", "uninstall"]] {
            says(&systemd.run(&args), 7, &["environments are up", "--force"]);
        }
        assert!(systemd.unit_file().exists());
        assert_eq!(systemd.told(), [""; 0]);

        // Once more, with other addresses; what is not given stays.
        let proxy = ["--trusted-proxy", "203.0.113.0/24"];
        systemd.ok(&[&["daemon", "install"][..], &proxy].concat());
        assert_eq!(systemd.told(), steps);
        let given = |name: &str| machine.info()["given"][name].clone();
        assert_eq!(given("HAVRE_TRUSTED_PROXIES"), "203.0.113.0/24");
        systemd.ok(&["daemon", "install", "--http", "127.0.0.1:8080"]);
        assert_eq!(given("HAVRE_TRUSTED_PROXIES"), "203.0.113.0/24");
        assert_eq!(systemd.told(), steps);
        let info = machine.info();
        assert_eq!(info["http"], serde_json::json!(["127.0.0.1:8080"]));
        assert_eq!(
            info["https"],
            serde_json::json!(["0.0.0.0:443", "[::]:443"])
        );
        goes_on(());
        systemd.systemctl(&["stop", &systemd.unit]);
        systemd.ok(&["daemon", "install"]);
        assert_eq!(systemd.told(), steps);
        assert_eq!(machine.info()["http"], info["http"]);
        goes_on(());

        machine.ok(&["down", "--volumes"]);
        let last = systemd.daemon();
        systemd.ok(&["daemon", "stop"]);
        assert_eq!(systemd.told(), [""; 0]);
        let main = Path::new(STATE).join(format!("main-{}", systemd.unit));
        wait_until("systemd starts no other", SOON, || !main.exists());
        assert!(!runs(last));
        says(&systemd.run(&["daemon", "stop"]), 0, &["no daemon runs"]);
        assert_eq!(systemd.told(), ["stop UNIT"]);

        systemd.ok(&["daemon", "uninstall"]);
        let steps = ["start UNIT", "disable --now UNIT", "daemon-reload"];
        assert_eq!(systemd.told(), steps);
        assert!(!systemd.unit_file().exists());
        says(&systemd.run(&["daemon", "uninstall"]), 0, &["no unit"]);
        assert_eq!(systemd.told(), [""; 0]);
        systemd.ends();
    });
}

#[test]
fn an_installation_that_fails_leaves_the_daemon_as_it_was() {
    on_machine(|machine| {
        let Some(systemd) = Systemd::new(machine) else {
            return;
        };
        machine.start_daemon();
        let daemon = systemd.daemon();
        let install = |_: ()| systemd.run(&["daemon", "install"]);
        let unchanged = |_: ()| {
            assert_eq!(systemd.daemon(), daemon);
            let left: Vec<_> = fs::read_dir("/etc/systemd/system").unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        };

        systemd.fails("enable", true);
        let words = ["systemctl enable", "Access denied", "nothing was changed"];
        says(&install(()), 1, &words);
        systemd.fails("enable", false);
        unchanged(());
        systemd.fails("daemon-reload", true);
        says(
            &install(()),
            1,
            &["systemctl daemon-reload", "Access denied"],
        );
        systemd.fails("daemon-reload", false);
        unchanged(());
        mount(&["-o", "remount,ro", "/etc/systemd"]);
        says(&install(()), 1, &["cannot write /etc/systemd", "Read-only"]);
        mount(&["-o", "remount,rw", "/etc/systemd"]);
        unchanged(());
        let mut without = machine.command(&["daemon", "install"]);
        let ran: Ran = without.env("PATH", "/nowhere").output().unwrap().into();
        says(&ran, 1, &["systemctl daemon-reload"]);
        unchanged(());

        fs::rename("/run/systemd", "/run/no-systemd").unwrap();
        let root = machine.root();
        let line = format!(
            "{} --root {} daemon --http 127.0.0.1:8080\n",
            program().display(),
            root.display()
        );
        let ran = systemd.run(&["daemon", "install", "--http", "127.0.0.1:8080"]);
        says(&ran, 1, &["systemd does not run here", "130", &line]);
        unchanged(());
        fs::rename("/run/no-systemd", "/run/systemd").unwrap();

        // The daemon has ended when the unit fails to start: that is told, and so where to look.
        systemd.fails("start", true);
        says(
            &install(()),
            1,
            &["systemctl start", "journalctl", "uninstall"],
        );
        let ran = systemd.run(&["ca", "export"]);
        says(&ran, 4, &["systemctl start", "journalctl"]);
        let ran = systemd.run(&["daemon", "uninstall"]);
        says(&ran, 4, &["systemctl start", "--force"]);
        assert!(systemd.unit_file().exists());
        let ran = systemd.run(&["daemon", "uninstall", "--force"]);
        says(&ran, 0, &["does not start", "removed"]);
        assert!(!systemd.unit_file().exists());
        // Takes the edge of the daemon that was handed over with it.
        machine.start_daemon();
        systemd.ends();
    });
}
