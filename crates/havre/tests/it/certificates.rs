//! Certificates that a user brings, on a real machine.

use std::process::Command;

use havre_testing::wait_until;
use rcgen::{CertificateParams, KeyPair};

use crate::machine::{Machine, SOON, on_machine};

struct Made {
    chain: String,
    key: String,
}

impl Made {
    fn for_host(host: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        Self {
            chain: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// One file after the other, as renewals do.
    fn put(&self, machine: &Machine) {
        machine.write("chain.pem", &self.chain);
        machine.write("key.pem", &self.key);
    }

    /// Whether the shop is served with it: no other is accepted.
    fn serves(&self, machine: &Machine) -> bool {
        machine.write("expected.pem", &self.chain);
        let curl = Command::new("curl")
            .args(["--silent", "--fail", "--max-time", "20", "--noproxy", "*"])
            .args(["--resolve", "shop.localhost:443:127.0.0.1"])
            .arg("--cacert")
            .arg(machine.project().join("expected.pem"))
            .arg("https://shop.localhost/")
            .output()
            .expect("curl");
        curl.stdout == b"one"
    }
}

#[test]
fn a_renewed_certificate_is_served_and_a_wrong_one_is_told_of() {
    on_machine(|machine| {
        machine.shop("one");
        let tls = "tls: {certificate: ./chain.pem, key: ./key.pem}\n";
        machine.write("havre.yaml", &format!("domain: shop.localhost\n{tls}"));
        let first = Made::for_host("shop.localhost");
        first.put(machine);
        machine.ok(&["up"]);
        wait_until("the certificate is served", SOON, || first.serves(machine));

        let second = Made::for_host("shop.localhost");
        second.put(machine);
        wait_until("its successor is", SOON, || second.serves(machine));

        machine.write("key.pem", "garbage");
        let tells = |what: &str| machine.json(&["status"]).to_string().contains(what);
        wait_until("the broken file is told of", SOON, || tells("stays in use"));
        assert!(second.serves(machine));

        Made::for_host("other.test").put(machine);
        let wrong = "it covers none of shop.localhost; it is for other.test";
        wait_until("the wrong name is told of", SOON, || tells(wrong));
        let plan = machine.ok(&["plan"]);
        assert!(plan.out.contains(wrong), "{}", plan.out);
    });
}

/// An empty certificate would be served to nobody.
#[test]
fn files_that_cannot_be_used_leave_the_last_good_one_or_one_of_this_machines_own() {
    on_machine(|machine| {
        machine.shop("one");
        let tls = "tls: {certificate: ./chain.pem, key: ./key.pem}\n";
        machine.write("havre.yaml", &format!("domain: shop.localhost\n{tls}"));
        machine.write("chain.pem", "garbage");
        machine.write("key.pem", "garbage");
        let plan = machine.ok(&["plan"]).out;
        assert!(
            plan.contains("one that this machine signs itself"),
            "{plan}"
        );
        machine.ok(&["up"]);
        machine.until_answers("one");

        let good = Made::for_host("shop.localhost");
        good.put(machine);
        wait_until("the certificate is served", SOON, || good.serves(machine));

        machine.write("key.pem", "garbage");
        machine.lose_power();
        machine.start_daemon();
        wait_until("the last good one is", SOON, || good.serves(machine));
        let status = machine.json(&["status"]).to_string();
        assert!(
            status.contains("until then the certificate served before is"),
            "{status}"
        );
    });
}
