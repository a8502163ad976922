//! Certificates of an authority (pebble) on a real machine, on the usual ports.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use havre_testing::pebble::{Options, Pebble};
use havre_testing::wait_until;
use serde_json::Value;

use crate::machine::{Machine, SOON, on_machine};

const HOST: &str = "shop.havre.dev";

/// An authority that looks at ports 80 and 443, named in the machine's configuration.
fn authority(machine: &Machine) -> Option<Pebble> {
    let options = Options {
        http_port: 80,
        tls_port: 443,
        ..Options::default()
    };
    let Some(pebble) = Pebble::start(options) else {
        println!("skipped: needs pebble, which `cargo xtask test` fetches");
        return None;
    };
    let folder = machine.root().join("etc");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("machine.yaml");
    let text = format!(
        "acme:\n  authorities:\n    - name: pebble\n      directory: {}\n      ca_file: {}\n",
        pebble.directory(),
        pebble.ca_file().display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    Some(pebble)
}

fn listed(machine: &Machine) -> Value {
    machine.json(&["cert", "ls"])[0].clone()
}

/// Whether the shop is served by a certificate that the authority signed.
fn serves(machine: &Machine, root: &str) -> bool {
    machine.write("root.pem", root);
    let curl = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "20", "--noproxy", "*"])
        .args(["--resolve", &format!("{HOST}:443:127.0.0.1")])
        .arg("--cacert")
        .arg(machine.project().join("root.pem"))
        .arg(format!("https://{HOST}/"))
        .output()
        .expect("curl");
    curl.stdout == b"one"
}

#[test]
fn a_public_name_gets_its_certificate_and_keeps_it_through_everything() {
    on_machine(|machine| {
        let Some(pebble) = authority(machine) else {
            return;
        };
        let root = pebble.root();
        machine.shop("one");
        machine.write("havre.yaml", &format!("domain: {HOST}\n"));
        machine.ok(&["up"]);
        wait_until("the authority's certificate serves", SOON, || {
            serves(machine, &root)
        });
        let first = listed(machine);
        assert_eq!(first["source"]["name"], "pebble", "{first}");
        wait_until("its authority has said when it is due", SOON, || {
            listed(machine)["renewal"]["by"] == "ari"
        });
        let status = machine.status().to_string();
        assert!(!status.contains("own certificate"), "{status}");

        machine.ok(&["cert", "renew", HOST]);
        wait_until("another one serves", SOON, || {
            listed(machine)["serial"] != first["serial"]
        });
        assert!(serves(machine, &root));
        let second = listed(machine);

        // With it goes the authority, too.
        machine.lose_power();
        machine.start_daemon();
        wait_until("it serves after the power is back", SOON, || {
            serves(machine, &root)
        });
        assert_eq!(listed(machine)["serial"], second["serial"]);
        machine.ok(&["cert", "renew", HOST]);
        wait_until("why tells that the authority is away", SOON, || {
            let why = machine.ok(&["cert", "why", HOST]).out;
            why.contains("cannot reach localhost") && why.contains("with pebble, at: directory")
        });
        assert!(serves(machine, &root), "the one it has serves on");
        let disk = fs::read(machine.root().join("lib/state.db")).unwrap();
        let key = b"PRIVATE KEY";
        assert!(!disk.windows(key.len()).any(|window| window == key));
        drop(pebble);
    });
}

#[test]
fn a_deployment_does_not_wait_for_an_authority_and_status_says_who_serves() {
    on_machine(|machine| {
        let Some(mut pebble) = authority(machine) else {
            return;
        };
        pebble.stop();
        machine.shop("one");
        machine.write("havre.yaml", &format!("domain: {HOST}\n"));
        machine.ok(&["up"]);
        let ca = machine.ok(&["ca", "export"]).out;
        assert!(serves(machine, &ca), "this machine's own serves");
        wait_until("status says so", Duration::from_secs(30), || {
            let status = machine.status().to_string();
            status.contains("is served with this machine's own certificate: pebble issued none")
        });
        let list = machine.ok(&["cert", "ls"]).out;
        assert!(
            list.contains("failing") && list.contains("this machine"),
            "{list}"
        );
        let refused = machine.run(&["cert", "renew", "other.havre.dev"]);
        assert_ne!(refused.code, 0);
        machine.write("havre.yaml", &format!("domain: {HOST}\ntls: local\n"));
        machine.ok(&["up"]);
        wait_until("nobody is asked any more", SOON, || {
            listed(machine)["state"] == "serving"
        });
    });
}
