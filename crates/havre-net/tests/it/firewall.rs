//! The rules as other tools see them, and firewalls of others.

use std::time::Duration;

use crate::Test;
use crate::machine::{
    INTERNET, Machine, PUBLIC, ask, inside, networks, reaches, serve, sh, sh_in, sh_output,
};

pub const TESTS: &[Test] = &[
    ("rules_read_as_meant", rules_read_as_meant),
    ("the_machine_is_no_router", the_machine_is_no_router),
    (
        "containers_pass_dockers_firewall",
        containers_pass_dockers_firewall,
    ),
    (
        "containers_pass_a_plain_firewall",
        containers_pass_a_plain_firewall,
    ),
];

/// Whether a tool is there; says so when it is not.
fn has(tool: &str) -> bool {
    let found = sh_output(&format!("command -v {tool}"));
    if found.is_empty() {
        println!("skipped: needs {tool}");
    }
    !found.is_empty()
}

fn rules_read_as_meant() {
    if !has("nft") {
        return;
    }
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    let replicas = ["10.89.0.7", "10.89.0.8"].map(|text| text.parse().expect("an address"));
    let services = [("app".to_owned(), replicas.to_vec())].into();
    net.set_services("e", &[("x".to_owned(), services)].into())
        .expect("set");
    let plain = |text: String| {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("comment"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let router = plain(sh_in(&environment.router_netns, "nft -n list ruleset"));
    assert_eq!(
        router,
        "table ip havre {
chain input {
type filter hook input priority 0; policy drop;
iifname \"lo\" accept
ct state 0x2,0x4 accept
iifname \"br1\" ip daddr 10.89.1.1 udp dport 53 accept
iifname \"br1\" ip daddr 10.89.1.1 tcp dport 53 accept
iifname \"br1\" ip daddr 10.89.1.1 meta l4proto 1 accept
iifname \"br0\" ip daddr 10.89.0.1 udp dport 53 accept
iifname \"br0\" ip daddr 10.89.0.1 tcp dport 53 accept
iifname \"br0\" ip daddr 10.89.0.1 meta l4proto 1 accept
iifname \"up0\" meta l4proto 1 accept
reject
}
chain forward {
type filter hook forward priority 0; policy drop;
iifname \"br1\" oifname \"br1\" accept
iifname \"br0\" oifname \"br0\" accept
ct state 0x2,0x4 accept
iifname \"up0\" ip saddr 100.64.0.2 accept
iifname \"br0\" oifname \"up0\" ip saddr 10.89.0.0/24 accept
reject with icmp 13
}
chain source {
type nat hook postrouting priority 100; policy accept;
ip saddr 100.64.0.2 oifname != \"up0\" masquerade
ct status 0x20 masquerade
}
chain services {
type nat hook prerouting priority -100; policy accept;
ip daddr 10.89.0.2 meta random <= 2147483647 dnat to 10.89.0.7
ip daddr 10.89.0.2 dnat to 10.89.0.8
}
}"
    );
    let host = plain(sh_output("nft -n list table ip havre-t1"));
    assert_eq!(
        host,
        "table ip havre-t1 {
chain forward {
type filter hook forward priority 0; policy accept;
oifname \"hv-t1-*\" ct state ! 0x2,0x4 drop
iifname \"wan0\" jump guarded
}
chain source {
type nat hook postrouting priority 100; policy accept;
ip saddr 10.89.0.0/24 oifname != \"hv-t1-*\" masquerade
}
chain guarded {
oifname \"wan0\" drop
}
}"
    );
}

/// A neighbour must not be able to send through the machine because containers need a way out.
fn the_machine_is_no_router() {
    let machine = Machine::new();
    let internet = machine.internet();
    // A second network behind the machine, with a server that nobody outside should reach.
    let inner = machine.second_network();
    serve(&inner, 9);
    let quick = Duration::from_millis(300);
    let server = Machine::SECOND;
    sh_in(&internet, &format!("ip route add {server}/32 via {PUBLIC}"));
    let passes = || inside(&internet, || ask(server, 9, quick)).is_ok();
    let forwarding = || sh_output("sysctl -n net.ipv4.ip_forward").trim() == "1";
    assert!(!passes() && !forwarding());
    let before = machine.traces();
    let net = machine.net("t1");
    let wanted = networks(&["x"]);
    net.ensure_environment("e", &wanted).expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    serve(&internet, 7);
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    assert!(forwarding() && !passes(), "the machine became a router");
    // Known by a daemon that starts later, too.
    let again = machine.net("t1");
    again.ensure_environment("e", &wanted).expect("set up");
    assert!(!passes(), "the machine became a router");
    // Links that another program makes later are its own business.
    sh("ip link add later type veth peer name more");
    assert!(net.remove_environment("e").is_empty());
    assert!(forwarding() && !passes(), "others may need it by now");
    sh("ip link delete later");
    net.ensure_environment("e", &wanted).expect("set up");
    assert!(net.remove_environment("e").is_empty());
    assert!(!forwarding(), "switched off with the last environment");
    machine.returns_to(&before);
    // Where the machine was a router before, it stays one.
    sh("sysctl -qw net.ipv4.ip_forward=1");
    assert!(passes(), "the way is there");
    net.ensure_environment("e", &wanted).expect("set up");
    assert!(passes(), "a router stays a router");
    assert!(net.remove_environment("e").is_empty());
    assert!(passes() && forwarding(), "a router stays a router");
}

fn containers_pass_dockers_firewall() {
    if !has("iptables") {
        return;
    }
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    // What Docker does when it starts.
    let docker = || {
        sh("sysctl -qw net.ipv4.ip_forward=1
            iptables -P FORWARD DROP
            iptables -N DOCKER-USER 2>/dev/null || iptables -F DOCKER-USER
            iptables -A DOCKER-USER -j RETURN
            iptables -C FORWARD -j DOCKER-USER 2>/dev/null || iptables -I FORWARD -j DOCKER-USER");
    };
    docker();
    let before = machine.traces();
    let net = machine.net("t1");
    let wanted = networks(&["x"]);
    net.ensure_environment("e", &wanted).expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let b = net.attach("e", "b", &["x"]).expect("attached");
    serve(&b.netns, 80);
    reaches(&a.netns, b.addresses["x"], 80);
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    // Docker starts anew and forgets us; the next look puts the pair back, once.
    docker();
    let quick = Duration::from_millis(300);
    assert!(
        inside(&a.netns, || ask(INTERNET, 7, quick)).is_err(),
        "the firewall is real"
    );
    for _ in 0..3 {
        net.ensure_environment("e", &wanted).expect("set up");
    }
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    let rules = sh_output("iptables -S DOCKER-USER");
    assert_eq!(rules.matches("havre-t1").count(), 2, "{rules}");
    assert_eq!(sh_output("iptables -S FORWARD").matches("havre").count(), 0);
    // Another instance has its own pair, and takes only that away.
    let other = machine.net("t2");
    other.ensure_environment("e", &wanted).expect("set up");
    assert!(other.remove_environment("e").is_empty());
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    assert!(net.remove_environment("e").is_empty());
    machine.returns_to(&before);
}

fn containers_pass_a_plain_firewall() {
    if !has("iptables") {
        return;
    }
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    sh("iptables -P FORWARD DROP");
    let before = machine.traces();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    assert!(net.remove_environment("e").is_empty());
    machine.returns_to(&before);
}
