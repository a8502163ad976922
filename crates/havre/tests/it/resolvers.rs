//! `dns`, `dns_search` and `dns_opt`: a service asks resolvers of its own, and still finds the others.

use std::net::UdpSocket;
use std::process::Command;

use havre_testing::wait_until;

use crate::machine::{Machine, SOON, kill, on_machine};

const COMPOSE: &str = "\
name: shop
services:
  web:
    build: .
    init: true
    expose: [8080]
  own:
    build: .
    init: true
    dns: 192.0.2.53
    dns_search: [corp.example]
    dns_opt: ['timeout:2']
    networks: {default: {aliases: [alias]}}
";

/// Knows that `wiki.corp.example` is 192.0.2.99, and of nothing else.
fn resolver() {
    let address = ["addr", "add", "192.0.2.53/32", "dev", "lo"];
    let added = Command::new("ip").args(address).status().unwrap();
    assert!(added.success());
    let socket = UdpSocket::bind("192.0.2.53:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let known = question.starts_with(b"\x04wiki\x04corp\x07example\0");
            let is_a = question[end - 3] == 1;
            let mut answer = buffer[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0]);
            answer.extend([u8::from(known && is_a), 0, 0, 0, 0]);
            answer.extend(&question[..end]);
            if known && is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 99]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
}

/// The address that a name stands for in a service's container, by the C library.
fn address(machine: &Machine, service: &str, name: &str) -> String {
    let script = format!("ping -c 1 -w 1 {name} 2>&1 | head -n 1");
    let said = machine.ok(&["exec", service, "sh", "-c", &script]).out;
    let found = said
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    found.map_or(said.trim().to_owned(), |(found, _)| found.to_owned())
}

#[test]
fn a_service_asks_resolvers_of_its_own() {
    on_machine(|machine| {
        machine.shop("one");
        machine.write("compose.yaml", COMPOSE);
        resolver();
        machine.ok(&["up"]);
        assert_eq!(address(machine, "own", "wiki.corp.example"), "192.0.2.99");
        assert_eq!(
            address(machine, "own", "wiki"),
            "192.0.2.99",
            "by its domain"
        );
        let web = address(machine, "own", "web");
        assert!(web.starts_with("10."), "{web}");
        assert_eq!(
            address(machine, "web", "alias"),
            address(machine, "own", "own")
        );
        let elsewhere = address(machine, "web", "wiki.corp.example");
        assert!(elsewhere.contains("bad address"), "{elsewhere}");
        let file = machine.ok(&["exec", "own", "cat", "/etc/resolv.conf"]).out;
        let (_, rest) = file.split_once('\n').unwrap();
        assert_eq!(rest, "search corp.example\noptions ndots:0 timeout:2\n");

        // As after a restart of its process: what it knows is on disk.
        let names = machine.name_server().unwrap();
        kill(names);
        wait_until("another name server", SOON, || {
            machine.name_server().is_some_and(|pid| pid != names)
        });
        assert_eq!(address(machine, "own", "wiki"), "192.0.2.99");
    });
}
