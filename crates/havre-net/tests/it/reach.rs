//! Who reaches whom.

use std::time::{Duration, Instant};

use crate::Test;
use crate::machine::{
    INTERNET, Machine, PUBLIC, ask, ask_from, host_reaches, inside, is_refused, networks, reaches,
    serve, serve_here, sh_in,
};

pub const TESTS: &[Test] = &[
    ("containers_of_a_network_talk", containers_of_a_network_talk),
    ("networks_are_isolated", networks_are_isolated),
    ("egress_is_masqueraded", egress_is_masqueraded),
    (
        "internal_networks_have_no_way_out",
        internal_networks_have_no_way_out,
    ),
    (
        "what_clouds_tell_a_machine_is_not_for_confined_networks",
        what_clouds_tell_a_machine_is_not_for_confined_networks,
    ),
    (
        "a_confined_network_leaves_connections_to_others",
        a_confined_network_leaves_connections_to_others,
    ),
    ("the_host_reaches_containers", the_host_reaches_containers),
    ("neighbours_do_not_get_in", neighbours_do_not_get_in),
    ("mtu_is_the_uplinks", mtu_is_the_uplinks),
    (
        "a_machine_that_has_all_is_found_fit",
        a_machine_that_has_all_is_found_fit,
    ),
    ("figures", figures),
];

fn containers_of_a_network_talk() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("fnt-production", &networks(&["default"]))
        .expect("set up");
    let a = net
        .attach("fnt-production", "a.1", &["default"])
        .expect("attached");
    let b = net
        .attach("fnt-production", "b.1", &["default"])
        .expect("attached");
    let (a_address, b_address) = (a.addresses["default"], b.addresses["default"]);
    assert_ne!(a_address, b_address);
    assert!(environment.networks["default"].subnet.contains(a_address));
    serve(&b.netns, 80);
    assert_eq!(reaches(&a.netns, b_address, 80), a_address);
    // Also where every bridge is filtered, as Docker makes it.
    let bridge_filter = "net/bridge/bridge-nf-call-iptables";
    let path = std::path::Path::new("/proc/sys").join(bridge_filter);
    if path.exists() {
        inside(&environment.router_netns, || std::fs::write(&path, "1")).expect("filtered");
        assert_eq!(reaches(&a.netns, b_address, 80), a_address);
    }
    // No IPv6 where there is no address for it, and low ports are free, as in Docker.
    assert_eq!(sh_in(&a.netns, "ip -6 address show dev eth0"), "");
    let low = sh_in(&a.netns, "sysctl -n net.ipv4.ip_unprivileged_port_start");
    assert_eq!(low.trim(), "0");
    // Loopback is up, as in any container.
    serve(&a.netns, 81);
    reaches(&a.netns, std::net::Ipv4Addr::LOCALHOST, 81);
}

fn networks_are_isolated() {
    let machine = Machine::new();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x", "y"]))
        .expect("set up");
    net.ensure_environment("other", &networks(&["x"]))
        .expect("set up");
    let on_x = net.attach("e", "on-x", &["x"]).expect("attached");
    let on_y = net.attach("e", "on-y", &["y"]).expect("attached");
    let both = net.attach("e", "both", &["y", "x"]).expect("attached");
    let elsewhere = net.attach("other", "elsewhere", &["x"]).expect("attached");
    for container in [&on_x, &on_y, &both, &elsewhere] {
        serve(&container.netns, 80);
    }
    is_refused(&on_x.netns, on_y.addresses["y"], 80);
    is_refused(&on_x.netns, both.addresses["y"], 80);
    is_refused(&on_y.netns, on_x.addresses["x"], 80);
    reaches(&on_x.netns, both.addresses["x"], 80);
    reaches(&on_y.netns, both.addresses["y"], 80);
    reaches(&both.netns, on_x.addresses["x"], 80);
    reaches(&both.netns, on_y.addresses["y"], 80);
    // Another environment: dropped by the host, whose rules an attacker cannot tell from absence.
    let quick = Duration::from_millis(500);
    let (from, to) = (&elsewhere, on_x.addresses["x"]);
    assert!(inside(&from.netns, || ask(to, 80, quick)).is_err());
    let to = elsewhere.addresses["x"];
    assert!(inside(&on_x.netns, || ask(to, 80, quick)).is_err());
}

fn egress_is_masqueraded() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    serve_here(443);
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["internal", "x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["internal", "x"]).expect("attached");
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    assert_eq!(
        reaches(&a.netns, std::net::Ipv4Addr::new(203, 0, 113, 9), 7),
        PUBLIC
    );
    // Its own public name leads a container back to the edge, under its own address.
    assert_eq!(reaches(&a.netns, PUBLIC, 443), a.addresses["x"]);
}

fn internal_networks_have_no_way_out() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["internal", "x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["internal"]).expect("attached");
    let b = net.attach("e", "b", &["internal"]).expect("attached");
    serve(&b.netns, 80);
    reaches(&a.netns, b.addresses["internal"], 80);
    is_refused(&a.netns, INTERNET, 7);
    is_refused(&a.netns, PUBLIC, 7);
    // Not even with a route of its own making.
    let gateway = environment.networks["internal"].gateway;
    sh_in(&a.netns, &format!("ip route add default via {gateway}"));
    is_refused(&a.netns, INTERNET, 7);
    is_refused(&a.netns, environment.host, 7);
    // The edge reaches it all the same, and is answered.
    assert_eq!(host_reaches(b.addresses["internal"], 80), gateway);
    // A container that leaves its internal network's address on packets out is not let out.
    let c = net.attach("e", "c", &["x", "internal"]).expect("attached");
    reaches(&c.netns, INTERNET, 7);
    let from = c.addresses["internal"];
    let bound = inside(&c.netns, || {
        ask_from(from, INTERNET, 7, Duration::from_millis(500))
    });
    assert!(bound.is_err(), "{bound:?}");
}

fn what_clouds_tell_a_machine_is_not_for_confined_networks() {
    let machine = Machine::new();
    let internet = machine.internet();
    serve(&internet, 80);
    let places = ["169.254.169.254", "100.100.100.200", "168.63.129.16"];
    for place in places {
        sh_in(&internet, &format!("ip address add {place}/32 dev lo"));
    }
    let net = machine.net("t1");
    let mut specs = networks(&["default"]);
    net.ensure_environment("app", &specs).expect("set up");
    net.ensure_environment("job", &networks(&["confined"]))
        .expect("set up");
    let app = net.attach("app", "a", &["default"]).expect("attached");
    let job = net.attach("job", "a", &["confined"]).expect("attached");
    for place in places.map(|place| place.parse().expect("an address")) {
        assert_eq!(host_reaches(place, 80).to_string(), "198.51.100.2");
        reaches(&app.netns, place, 80);
        is_refused(&job.netns, place, 80);
    }
    reaches(&job.netns, INTERNET, 80);
    // Also where it was there before.
    specs[0].confined = true;
    net.ensure_environment("app", &specs).expect("changed");
    is_refused(&app.netns, std::net::Ipv4Addr::new(169, 254, 169, 254), 80);
}

fn a_confined_network_leaves_connections_to_others() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let net = machine.net("t1");
    net.ensure_environment("app", &networks(&["default"]))
        .expect("set up");
    net.ensure_environment("job", &networks(&["confined"]))
        .expect("set up");
    let app = net.attach("app", "a", &["default"]).expect("attached");
    let job = net.attach("job", "a", &["confined"]).expect("attached");
    let followed = || {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let count = std::fs::read_to_string(path).expect("connections are followed");
        count.trim().parse::<u32>().expect("a number")
    };
    let begun = Instant::now();
    inside(&job.netns, || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for port in 1..=40_000 {
            // Refusals of packets before are told here.
            drop(socket.send_to(b"x", (INTERNET, port)));
        }
    });
    let seconds = u32::try_from(begun.elapsed().as_secs()).expect("a few");
    let most = 4096 + 250 * (seconds + 1) + 100;
    assert!((4000..most).contains(&followed()), "{}", followed());
    reaches(&app.netns, INTERNET, 7);
}

fn the_host_reaches_containers() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    serve(&a.netns, 80);
    for network in ["x", "internal"] {
        let seen = host_reaches(a.addresses[network], 80);
        assert_eq!(seen, environment.networks[network].gateway, "{network}");
    }
}

fn neighbours_do_not_get_in() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    serve(&a.netns, 80);
    let subnet = environment.networks["x"].subnet;
    sh_in(
        &machine.internet(),
        &format!("ip route add {subnet} via {PUBLIC}"),
    );
    let to = a.addresses["x"];
    let result = inside(&machine.internet(), || {
        ask(to, 80, Duration::from_millis(500))
    });
    assert!(result.is_err(), "a neighbour with a route got in");
    host_reaches(to, 80);
}

fn mtu_is_the_uplinks() {
    let machine = Machine::new();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let mtu = || sh_in(&a.netns, "ip -o link show eth0");
    assert!(mtu().contains("mtu 1400"), "{}", mtu());
    // The machine moved behind a narrower link.
    crate::machine::sh("ip link set wan0 mtu 1300");
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    net.attach("e", "a", &["x"]).expect("attached");
    assert!(mtu().contains("mtu 1300"), "{}", mtu());
}

/// Prints what the README of the figures quotes; fails only when far off.
fn figures() {
    const RUNS: u32 = 30;
    let machine = Machine::new();
    let net = machine.net("t1");
    let wanted = networks(&["x", "y"]);
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let time = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    let first = time(&mut || {
        net.ensure_environment("e", &wanted).expect("set up");
    });
    let again = median(
        (0..RUNS)
            .map(|_| {
                time(&mut || {
                    net.ensure_environment("e", &wanted).expect("set up");
                })
            })
            .collect(),
    );
    let (mut attach, mut repeat, mut detach) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let on = || {
            net.attach("e", "a", &["x"]).expect("attached");
        };
        attach.push(time(&mut || on()));
        repeat.push(time(&mut || on()));
        detach.push(time(&mut || net.detach("e", "a").expect("detached")));
    }
    let attach = median(attach);
    let remove = time(&mut || assert!(net.remove_environment("e").is_empty()));
    println!(
        "figures: ensure_environment first {first:?}, again {again:?}; attach {attach:?}, again \
         {:?}; detach {:?}; remove_environment {remove:?}",
        median(repeat),
        median(detach)
    );
    assert!(
        attach < Duration::from_millis(250),
        "attach takes {attach:?}"
    );
}

fn a_machine_that_has_all_is_found_fit() {
    let machine = Machine::new();
    let before = machine.traces();
    let found = havre_net::probe();
    assert!(found.len() >= 6, "{found:?}");
    for requirement in found {
        assert!(requirement.ok, "{requirement:?}");
    }
    assert_eq!(machine.traces(), before);
    crate::machine::sh("ip route del default");
    let lacking = havre_net::probe()
        .into_iter()
        .filter(|it| !it.ok)
        .map(|it| it.name);
    assert_eq!(lacking.collect::<Vec<_>>(), ["way out"]);
    crate::machine::sh("nft add table inet firewalld");
    let lacking = havre_net::probe()
        .into_iter()
        .filter(|it| !it.ok)
        .map(|it| it.name);
    assert_eq!(lacking.collect::<Vec<_>>(), ["host firewall", "way out"]);
}
