//! What havre.yaml allows a service to have of the machine, and what happens without it.

use std::fs;
use std::os::unix::fs::symlink;

use crate::machine::{Machine, on_machine};
use crate::pty::Terminal;
use std::process::Command;

const ROUTES: &str = "domain: shop.localhost\nroutes: [{path: /, service: web, port: 8090}]\n";

/// One web server that asks for `more`.
fn write(machine: &Machine, more: &str, allow: &str) {
    machine.write(
        "compose.yaml",
        &format!(
            "\
name: shop
services:
  web:
    build: .
    init: true
    command: [httpd, -f, -p, '8090', -h, /www]
{more}
"
        ),
    );
    let allowed = match allow {
        "" => String::new(),
        words => format!("services: {{web: {{allow: [{words}]}}}}\n"),
    };
    machine.write("havre.yaml", &format!("{ROUTES}{allowed}"));
}

#[test]
fn a_service_on_the_machines_own_network_is_served_and_replaced() {
    on_machine(|machine| {
        machine.shop("one");
        write(machine, "    network_mode: host", "");
        let refused = machine.run(&["up"]);
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert!(
            refused.err.contains("web: {allow: [host-network]}"),
            "{}",
            refused.err
        );
        write(machine, "    network_mode: host", "host-network");
        machine.ok(&["up"]);
        machine.until_answers("one");
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let link = ["exec", "web", "readlink", "/proc/self/ns/net"];
        assert_eq!(machine.ok(&link).out.trim(), own.to_str().unwrap());
        machine.page("two");
        let plan = machine.ok(&["plan"]).out;
        assert!(plan.contains("on the machine's own network"), "{plan}");
        machine.ok(&["up"]);
        machine.until_answers("two");
    });
}

#[test]
fn privileges_and_devices_are_given_and_taken_away_again() {
    on_machine(|machine| {
        machine.shop("one");
        let caps = || {
            let grep = ["exec", "web", "grep", "CapEff", "/proc/1/status"];
            machine.ok(&grep).out
        };
        write(
            machine,
            "    privileged: true\n    devices: ['/dev/zero:/dev/nothing:r']",
            "privileged, devices",
        );
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_ne!(caps(), "CapEff:\t00000000a80425fb\n");
        let read = ["exec", "web", "head", "-c", "1", "/dev/nothing"];
        assert_eq!(machine.ok(&read).out, "\0");
        write(machine, "", "");
        machine.ok(&["up"]);
        machine.until_answers("one");
        assert_eq!(caps(), "CapEff:\t00000000a80425fb\n");
        assert_ne!(machine.run(&read).code, 0);
    });
}

#[test]
fn a_link_that_takes_the_place_of_a_folder_gives_nothing_away() {
    on_machine(|machine| {
        machine.shop("one");
        let data = machine.project().join("data");
        fs::create_dir_all(&data).unwrap();
        write(machine, "    volumes: ['./data:/data']", "");
        machine.ok(&["up"]);
        machine.until_answers("one");
        fs::remove_dir(&data).unwrap();
        symlink("/etc", &data).unwrap();
        // Another configuration, as it was read before the link was there, makes a new container.
        let restarted = machine.run(&["restart", "web"]);
        assert_ne!(restarted.code, 0, "{}", restarted.err);
        assert!(
            restarted.err.contains("allow: [host-paths]"),
            "{}",
            restarted.err
        );
        fs::remove_file(&data).unwrap();
        fs::create_dir(&data).unwrap();
        machine.until_answers("one");
    });
}

#[test]
fn what_containers_only_read_of_the_machine_they_cannot_write() {
    on_machine(|machine| {
        machine.shop("one");
        let mounts = "    volumes: ['/etc/machine-id:/host/id', '/sys:/sys', '/sys:/host/sys']";
        let write_there = [
            "exec",
            "web",
            "sh",
            "-c",
            "echo x > /host/id || echo 1 > /host/sys/kernel/profiling",
        ];
        let before = fs::read("/etc/machine-id").unwrap();
        write(machine, mounts, "");
        machine.ok(&["up"]);
        machine.until_answers("one");
        let written = machine.run(&write_there);
        assert_ne!(written.code, 0, "{}", written.out);
        assert!(
            written.err.contains("Read-only file system"),
            "{}",
            written.err
        );
        assert_eq!(fs::read("/etc/machine-id").unwrap(), before);
        // The container's own is where it was.
        machine.ok(&["exec", "web", "test", "-d", "/sys/class/net/lo"]);
    });
}

/// A terminal's device obeys who has it open, not whether its folder is mounted read-only.
#[test]
fn no_container_is_shown_the_machines_terminals() {
    on_machine(|machine| {
        machine.shop("one");
        let terminal = Terminal::start(Command::new("cat"), 80, 24);
        write(machine, "    volumes: ['/dev:/host/dev:ro']", "");
        let refused = machine.run(&["up"]);
        assert_eq!(refused.code, 3, "{}", refused.err);
        assert!(
            refused.err.contains("with /dev/pts in it"),
            "{}",
            refused.err
        );
        write(machine, "    volumes: ['/dev:/host/dev:ro']", "host-paths");
        machine.ok(&["up"]);
        let write_there = format!("echo of a container > /host{}", terminal.name());
        machine.ok(&["exec", "web", "sh", "-c", &write_there]);
        terminal.wait_for("of a container");
    });
}
