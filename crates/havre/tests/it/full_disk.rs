//! The state folder on a disk without room, on a real machine.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

use havre_testing::wait_until;
use rusqlite::Connection;

use crate::machine::{Machine, SOON, on_machine};

const SHOP: &str = "
    volumes: [data:/data]
    healthcheck: {test: test -d /data, interval: 1s, start_interval: 100ms, start_period: 30s}
volumes: {data: {}}
";

/// A disk of its own for the state folder.
struct Disk {
    dir: PathBuf,
}

impl Disk {
    fn mount(machine: &Machine) -> Self {
        let dir = machine.root().join("lib");
        fs::create_dir_all(&dir).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=400m,mode=0755", "tmpfs"])
            .arg(&dir)
            .status();
        assert!(mounted.unwrap().success());
        Self { dir }
    }

    /// Takes all room there is, in the database's journal too.
    fn fill(&self) {
        let database = Connection::open(self.dir.join("state.db")).unwrap();
        database
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, i64>(0)
            })
            .unwrap();
        let mut file = File::create(self.dir.join("filling")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            let ended = loop {
                if let Err(error) = file.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(ended.kind(), io::ErrorKind::StorageFull, "{ended}");
        }
    }

    fn empty(&self) {
        fs::remove_file(self.dir.join("filling")).unwrap();
    }

    fn unmount(self) {
        let unmounted = Command::new("umount").arg(&self.dir).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn a_full_disk_lets_no_command_through_by_half() {
    on_machine(|machine| {
        let disk = Disk::mount(machine);
        machine.web_up(SHOP);
        machine.page("two");
        machine.ok(&["up"]);
        machine.until_answers("two");
        machine.ok(&["exec", "web", "touch", "/data/kept"]);
        let daemon = machine.info()["pid"].clone();
        let kept = disk.dir.join("volumes/shop_data/data/kept");
        let before = machine.replicas();

        disk.fill();
        machine.page("three");
        for args in [
            &["up"][..],
            &["scale", "web=3"],
            &["restart"],
            &["rollback"],
            &["down"],
            &["down", "--volumes"],
            &["image", "rm", "base:1"],
        ] {
            let ran = machine.run(args);
            assert_ne!(ran.code, 0, "{args:?}: {}", ran.err);
            let status = machine.status();
            assert_eq!(status["state"], "running", "{args:?}: {status}");
            assert_eq!(status["services"][0]["wanted"], 1, "{args:?}: {status}");
            assert_eq!(machine.replicas(), before, "{args:?}");
            assert!(kept.exists(), "{args:?}");
            assert_eq!(machine.get().as_deref(), Ok("two"), "{args:?}");
        }
        assert_eq!(machine.info()["pid"], daemon, "it lives");
        let images = machine.run(&["image", "ls"]).out;
        assert!(images.contains("base:1"), "{images}");

        disk.empty();
        wait_until("nobody speaks of the disk", SOON, || {
            machine.status()["problems"] == serde_json::json!([])
        });
        machine.ok(&["scale", "web=2"]);
        machine.ok(&["down", "--volumes"]);
        assert!(!kept.exists());
        machine.ok(&["daemon", "stop"]);
        disk.unmount();
    });
}

#[test]
fn a_locked_database_refuses_a_command_and_the_daemon_answers_meanwhile() {
    on_machine(|machine| {
        machine.shop_up();
        let before = machine.replicas();
        let database = Connection::open(machine.root().join("lib/state.db")).unwrap();
        database.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut down = machine.start(&["down", "--volumes"]);
        wait_until("it is under way", SOON, || down.talk().contains("stopping"));
        assert_eq!(machine.status()["state"], "running");
        assert_eq!(down.ended(), None, "it waits for the lock for seconds");
        assert_ne!(down.ends(), 0, "{}", down.talk());
        assert!(
            down.talk().contains("nothing was changed"),
            "{}",
            down.talk()
        );
        assert_eq!(machine.status()["state"], "running");
        assert_eq!(machine.replicas(), before);
        database.execute_batch("ROLLBACK").unwrap();
        machine.ok(&["down", "--volumes"]);
    });
}

#[test]
fn a_daemon_whose_log_has_no_room_goes_on() {
    on_machine(|machine| {
        let full = File::options().write(true).open("/dev/full").unwrap();
        machine.write("compose.yaml", "");
        let mut daemon = machine
            .command(&["daemon"])
            .env("HAVRE_LOG", "trace")
            .stdout(full.try_clone().unwrap())
            .stderr(full)
            .spawn()
            .unwrap();
        machine.until_daemon_answers();
        machine.shop_up();
        assert_eq!(machine.info()["pid"], daemon.id());
        machine.ok(&["down"]);
        machine.ok(&["daemon", "stop"]);
        assert_eq!(daemon.wait().unwrap().code(), Some(130));
    });
}
