//! What comes, stays and goes: repeats, crashes, restarts, teardown, neighbours.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use havre_net::{Net, NetConfig, NetError, Records};
use rustix::mount::UnmountFlags;

use crate::Test;
use crate::killer::{End, kill_at};
use crate::machine::{
    INTERNET, Machine, PUBLIC, assert_same, host_reaches, inside, is_refused, networks, reaches,
    serve, sh, sh_in, sh_output, wait_until,
};

pub const TESTS: &[Test] = &[
    ("teardown_leaves_nothing", teardown_leaves_nothing),
    ("repeats_change_nothing", repeats_change_nothing),
    (
        "a_daemon_may_die_anywhere_on_the_way_up",
        a_daemon_may_die_anywhere_on_the_way_up,
    ),
    (
        "a_daemon_may_die_anywhere_on_the_way_down",
        a_daemon_may_die_anywhere_on_the_way_down,
    ),
    (
        "a_restarted_machine_starts_over",
        a_restarted_machine_starts_over,
    ),
    (
        "a_subnet_taken_meanwhile_is_given_up",
        a_subnet_taken_meanwhile_is_given_up,
    ),
    ("instances_do_not_meet", instances_do_not_meet),
    ("many_at_once", many_at_once),
    (
        "a_router_that_lost_its_pin_is_replaced",
        a_router_that_lost_its_pin_is_replaced,
    ),
    ("sweep_removes_orphans", sweep_removes_orphans),
    ("networks_come_and_go", networks_come_and_go),
    (
        "lost_rules_and_routes_come_back",
        lost_rules_and_routes_come_back,
    ),
    (
        "a_process_left_behind_loses_its_network",
        a_process_left_behind_loses_its_network,
    ),
    ("mistakes_are_named", mistakes_are_named),
];

const SOON: Duration = Duration::from_secs(10);
const ACT: &str = "--act";

/// Runs a part of a test as a process of its own, to be killed.
pub fn act(arguments: &[OsString]) -> Option<ExitCode> {
    let [first, what, dir] = arguments else {
        return None;
    };
    if first != ACT {
        return None;
    }
    let net = Net::new(config(Path::new(dir))).expect("an instance");
    match what.to_str() {
        Some("up") => up(&net),
        Some("join") => drop(crate::shared::join(&net)),
        _ => down(&net),
    }
    Some(ExitCode::SUCCESS)
}

pub fn config(dir: &Path) -> NetConfig {
    NetConfig::new(dir.join("run"), dir.join("state"), "t1")
}

/// An environment with all there is.
fn up(net: &Net) {
    let exe = std::env::current_exe().expect("this program");
    net.ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    net.ensure_dns("e", &exe).expect("a resolver");
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    net.attach("e", "b", &["x"]).expect("attached");
    let mut records = Records::default();
    let names = records.networks.entry("x".to_owned()).or_default();
    names.insert("a".to_owned(), vec![a.addresses["x"]]);
    net.set_names("e", &records).expect("set");
}

fn down(net: &Net) {
    net.detach("e", "a").expect("detached");
    let errors = net.remove_environment("e");
    assert!(errors.is_empty(), "{errors:?}");
}

/// Nothing but these files may be left by an instance.
fn assert_clean(machine: &Machine, before: &str) {
    machine.returns_to(before);
    let left: Vec<_> = machine
        .files("t1")
        .into_iter()
        .filter(|file| !["./state/networks.json", "./state/networks.lock"].contains(&file.as_str()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let state = fs::read_to_string(machine.dir().join("t1/state/networks.json"));
    assert_eq!(
        state
            .unwrap_or_default()
            .replace("{\"environments\":{}}", ""),
        ""
    );
    let alive = sh_output("ps -eo stat=,args= | grep -v ^Z | grep '[ ]dns /'");
    assert_eq!(alive, "");
}

fn teardown_leaves_nothing() {
    let machine = Machine::new();
    // Forwarding stays on; all else is compared.
    let before = machine.traces();
    let net = machine.net("t1");
    up(&net);
    assert_ne!(machine.traces(), before);
    net.detach("e", "b").expect("detached");
    let errors = net.remove_environment("e");
    assert!(errors.is_empty(), "{errors:?}");
    assert_clean(&machine, &before);
    assert!(
        net.remove_environment("e").is_empty(),
        "gone already is no error"
    );
    net.detach("e", "a").expect("gone already is no error");
}

fn repeats_change_nothing() {
    let machine = Machine::new();
    let net = machine.net("t1");
    up(&net);
    let pin = |name: &str| machine.dir().join("t1/run/e").join(name);
    let all = || {
        let mut text = machine.traces();
        for pin in [pin("router"), pin("containers/a"), pin("containers/b")] {
            for command in ["ip link", "ip address", "ip route", "nft -a list ruleset"] {
                text += &sh_in(&pin, command);
            }
        }
        text
    };
    let before = all();
    assert!(
        before.contains("masquerade") && before.contains("br0"),
        "{before}"
    );
    let first = net.attach("e", "a", &["x", "internal"]).expect("attached");
    for _ in 0..3 {
        up(&net);
        assert_eq!(
            net.attach("e", "a", &["x", "internal"]).expect("attached"),
            first
        );
    }
    assert_same(&before, &all());
}

fn a_daemon_may_die_anywhere_on_the_way_up() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let before = machine.traces();
    let dir = machine.dir().join("t1");
    let mut points = 0;
    for nth in 1.. {
        let end = kill_at(this(&["up"], &dir), nth);
        let net = Net::new(config(&dir)).expect("an instance");
        // A predecessor's helper may still be at work.
        if nth % 2 == 0 {
            up(&net);
            let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
            let b = net.attach("e", "b", &["x"]).expect("attached");
            serve(&b.netns, 80);
            assert_eq!(reaches(&a.netns, b.addresses["x"], 80), a.addresses["x"]);
            assert_eq!(reaches(&b.netns, INTERNET, 7), PUBLIC);
            host_reaches(b.addresses["x"], 80);
        }
        let errors = net.remove_environment("e");
        assert!(errors.is_empty(), "killed at {nth}: {errors:?}");
        let errors = net.sweep(&[], &[]);
        assert!(errors.is_empty(), "killed at {nth}: {errors:?}");
        machine.returns_to(&before);
        if end == End::Done {
            break;
        }
        points += 1;
    }
    println!("killed at {points} points");
    assert!(points > 30, "the killer saw {points} points only");
    assert_clean(&machine, &before);
}

fn a_daemon_may_die_anywhere_on_the_way_down() {
    let machine = Machine::new();
    let before = machine.traces();
    let dir = machine.dir().join("t1");
    let mut points = 0;
    for nth in 1.. {
        let net = Net::new(config(&dir)).expect("an instance");
        up(&net);
        let end = kill_at(this(&["down"], &dir), nth);
        if nth % 2 == 0 {
            // It changes its mind.
            up(&net);
            let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
            serve(&a.netns, 80);
            host_reaches(a.addresses["x"], 80);
        }
        let errors = net.sweep(&[], &[]);
        assert!(errors.is_empty(), "killed at {nth}: {errors:?}");
        machine.returns_to(&before);
        if end == End::Done {
            break;
        }
        points += 1;
    }
    println!("killed at {points} points");
    assert!(points > 10, "the killer saw {points} points only");
    assert_clean(&machine, &before);
}

pub fn this(what: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg(ACT).args(what).arg(dir);
    command
}

/// Takes away what a restart of the machine does: mounts, links, rules, processes.
fn restart(machine: &Machine) {
    if let Some(resolver) = machine.net("t1").dns_status("e").expect("asked") {
        sh(&format!("kill -9 {}", resolver.pid));
    }
    let run = machine.dir().join("t1/run");
    let mounts = format!("grep -o '{}/[^ ]*' /proc/self/mountinfo", run.display());
    for pin in sh_output(&mounts).lines() {
        rustix::mount::unmount(pin, UnmountFlags::DETACH).expect("unmounted");
    }
    // The kernel is at it too, since nothing pins the other ends any more.
    wait_until("the links are gone", SOON, || {
        sh_output("for l in $(ip -o link | grep -o 'hv-[^@]*'); do ip link delete $l; done");
        sh_output("ip -o link | grep hv-").is_empty()
    });
    sh("nft delete table ip havre-t1; sysctl -qw net.ipv4.ip_forward=0");
    assert_eq!(sh_output(&mounts), "");
    assert!(run.join("e/router").is_file());
}

fn a_restarted_machine_starts_over() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let before = machine.traces();
    let net = machine.net("t1");
    up(&net);
    let subnets = |net: &Net| {
        let environment = net
            .ensure_environment("e", &networks(&["x", "internal"]))
            .expect("set up");
        (environment.networks, environment.host)
    };
    let had = subnets(&net);
    restart(&machine);
    let net = machine.net("t1");
    assert!(net.dns_status("e").expect("asked").is_none());
    let error = net.attach("e", "a", &["x"]).expect_err("nothing is set up");
    assert!(matches!(error, NetError::NotSetUp { .. }), "{error}");
    assert_eq!(subnets(&net), had, "subnets are kept");
    up(&net);
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    // Or it is not wanted any more.
    restart(&machine);
    let errors = net.sweep(&[], &[]);
    assert!(errors.is_empty(), "{errors:?}");
    assert_clean(&machine, &before);
}

fn a_router_that_lost_its_pin_is_replaced() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let before = machine.traces();
    let net = machine.net("t1");
    up(&net);
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    serve(&a.netns, 80);
    // A process in it keeps the old one alive, and with it the container's old links.
    let run = machine.dir().join("t1/run/e");
    let mut held = hold(&run.join("router"));
    let resolver = net.dns_status("e").expect("asked").expect("alive").pid;
    rustix::mount::unmount(run.join("router"), UnmountFlags::DETACH).expect("unmounted");
    up(&net);
    let again = net.attach("e", "a", &["x", "internal"]).expect("attached");
    assert_eq!(again, a);
    let b = net.attach("e", "b", &["x"]).expect("attached");
    assert_eq!(reaches(&b.netns, a.addresses["x"], 80), b.addresses["x"]);
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    host_reaches(a.addresses["x"], 80);
    host_reaches(a.addresses["internal"], 80);
    let now = net.dns_status("e").expect("asked").expect("alive").pid;
    assert_ne!(now, resolver, "a resolver in the new router");
    let namespace = |path: &Path| fs::metadata(path).expect("there").ino();
    let own = format!("/proc/{now}/ns/net");
    assert_eq!(namespace(Path::new(&own)), namespace(&run.join("router")));
    let links = sh_in(&a.netns, "ip -o link");
    assert_eq!(links.lines().count(), 3, "lo and two: {links}");
    assert!(net.remove_environment("e").is_empty());
    held.kill().expect("killed");
    held.wait().expect("waited");
    assert_clean(&machine, &before);
}

fn a_subnet_taken_meanwhile_is_given_up() {
    let machine = Machine::new();
    let net = machine.net("t1");
    up(&net);
    let before = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let taken = before.networks["x"].subnet;
    restart(&machine);
    sh(&format!("ip route add {taken} via {INTERNET}"));
    sh(&format!("ip route add {}/32 via {INTERNET}", before.host));
    let after = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    assert_ne!(after.networks["x"].subnet, taken);
    assert_ne!(after.host, before.host);
    let a = net.attach("e", "a", &["x"]).expect("attached");
    assert!(after.networks["x"].subnet.contains(a.addresses["x"]));
    serve(&a.netns, 80);
    host_reaches(a.addresses["x"], 80);
    assert!(
        sh_output("ip route").contains(&format!("{taken} via {INTERNET}")),
        "not ours"
    );
}

fn instances_do_not_meet() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let before = machine.traces();
    // Both choose at the same time from the same pool, again and again.
    for round in 0..10 {
        let nets = ["one", "two"].map(|instance| machine.net(instance));
        let subnets: Vec<_> = std::thread::scope(|scope| {
            let threads = nets.each_ref().map(|net| {
                scope.spawn(|| {
                    net.ensure_environment("e", &networks(&["x", "y"]))
                        .expect("set up")
                })
            });
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .flat_map(|environment| environment.networks.into_values())
                .map(|network| network.subnet)
                .collect()
        });
        let distinct: BTreeSet<_> = subnets.iter().collect();
        assert_eq!(distinct.len(), 4, "round {round}: {subnets:?}");
        let attached = nets
            .each_ref()
            .map(|net| net.attach("e", "a", &["x"]).expect("attached"));
        for container in &attached {
            serve(&container.netns, 80);
            assert_eq!(reaches(&container.netns, INTERNET, 7), PUBLIC);
            host_reaches(container.addresses["x"], 80);
        }
        let quick = Duration::from_millis(100);
        let (from, to) = (&attached[0], attached[1].addresses["x"]);
        assert!(inside(&from.netns, || crate::machine::ask(to, 80, quick)).is_err());
        // One goes, the other stays as it is.
        assert!(nets[0].remove_environment("e").is_empty());
        host_reaches(attached[1].addresses["x"], 80);
        assert_eq!(reaches(&attached[1].netns, INTERNET, 7), PUBLIC);
        assert!(nets[1].remove_environment("e").is_empty());
        // Who switched forwarding on kept it for the other, until it looks again.
        assert!(nets[0].sweep(&[], &[]).is_empty());
        machine.returns_to(&before);
    }
}

fn many_at_once() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let before = machine.traces();
    let addresses: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24)
            .map(|n| {
                let net = &net;
                scope.spawn(move || {
                    let environment = format!("e{}", n % 4);
                    net.ensure_environment(&environment, &networks(&["x"]))
                        .expect("set up");
                    let name = format!("c{n}");
                    net.attach(&environment, &name, &["x"])
                        .expect("attached")
                        .addresses["x"]
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), 24);
    let table = sh_output("nft list table ip havre-t1");
    assert_eq!(table.matches("masquerade").count(), 4, "{table}");
    let a = net.attach("e0", "c0", &["x"]).expect("attached");
    serve(&a.netns, 80);
    let b = net.attach("e0", "c4", &["x"]).expect("attached");
    reaches(&b.netns, a.addresses["x"], 80);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let net = &net;
            scope.spawn(move || assert!(net.remove_environment(&format!("e{n}")).is_empty()));
        }
    });
    machine.returns_to(&before);
}

fn sweep_removes_orphans() {
    let machine = Machine::new();
    let before = machine.traces();
    let net = machine.net("t1");
    up(&net);
    net.ensure_environment("gone", &networks(&["x"]))
        .expect("set up");
    net.attach("gone", "c", &["x"]).expect("attached");
    let errors = net.sweep(&["e"], &["a"]);
    assert!(errors.is_empty(), "{errors:?}");
    let run = machine.dir().join("t1/run");
    assert!(!run.join("gone").exists());
    assert!(run.join("e/containers/a").exists() && !run.join("e/containers/b").exists());
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    serve(&a.netns, 80);
    host_reaches(a.addresses["x"], 80);
    // The ledger was lost: what is on the machine is found by its names.
    fs::remove_file(machine.dir().join("t1/state/networks.json")).expect("removed");
    let errors = net.sweep(&[], &[]);
    assert!(errors.is_empty(), "{errors:?}");
    assert_clean(&machine, &before);
}

fn networks_come_and_go() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let net = machine.net("t1");
    let ensure = |names: &[&str]| {
        net.ensure_environment("e", &networks(names))
            .expect("set up")
            .networks
    };
    let first = ensure(&["x", "y"]);
    let a = net.attach("e", "a", &["x", "y"]).expect("attached");
    serve(&a.netns, 80);
    // Not asked for any more, but in use.
    let second = ensure(&["y", "z"]);
    assert_eq!(first["y"], second["y"]);
    host_reaches(a.addresses["x"], 80);
    let moved = net.attach("e", "a", &["y", "z"]).expect("attached");
    assert_eq!(
        moved.addresses["y"], a.addresses["y"],
        "kept where it stays"
    );
    let links = sh_in(&a.netns, "ip -o link");
    assert_eq!(links.lines().count(), 3, "lo and two: {links}");
    assert_eq!(
        reaches(&a.netns, INTERNET, 7),
        PUBLIC,
        "the way out moved along"
    );
    let third = ensure(&["y", "z"]);
    assert_eq!(third, second);
    assert!(
        !sh_output("ip route").contains(&first["x"].subnet.to_string()),
        "its route is gone"
    );
    let router = machine.dir().join("t1/run/e/router");
    let bridges = sh_in(&router, "ip -o link show type bridge");
    assert_eq!(bridges.lines().count(), 2, "{bridges}");
    // A network closes while containers are on it.
    let mut specs = networks(&["y", "z"]);
    specs.iter_mut().for_each(|spec| spec.internal = true);
    net.ensure_environment("e", &specs).expect("set up");
    net.attach("e", "a", &["y", "z"]).expect("attached");
    is_refused(&a.netns, INTERNET, 7);
    host_reaches(moved.addresses["z"], 80);
    let none = net.attach("e", "a", &[]).expect("attached");
    assert!(none.addresses.is_empty());
    assert_eq!(sh_in(&a.netns, "ip -o link").lines().count(), 1);
}

fn lost_rules_and_routes_come_back() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let net = machine.net("t1");
    up(&net);
    let a = net.attach("e", "a", &["x", "internal"]).expect("attached");
    serve(&a.netns, 80);
    // A firewall service starts and clears everything, a network service removes our route.
    sh("nft flush ruleset");
    sh("ip route flush proto 72");
    sh_in(&machine.dir().join("t1/run/e/router"), "nft flush ruleset");
    net.ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    assert_eq!(reaches(&a.netns, INTERNET, 7), PUBLIC);
    host_reaches(a.addresses["x"], 80);
    assert!(sh_output("nft list ruleset").contains("havre-t1"));
}

fn a_process_left_behind_loses_its_network() {
    let machine = Machine::new();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let a = net.attach("e", "a", &["x"]).expect("attached");
    let b = net.attach("e", "b", &["x"]).expect("attached");
    serve(&b.netns, 80);
    reaches(&a.netns, b.addresses["x"], 80);
    let mut left = hold(&a.netns);
    let own = format!("/proc/{}/ns/net", left.id());
    net.detach("e", "a").expect("detached");
    let again = net.attach("e", "a", &["x"]).expect("attached");
    assert_ne!(
        again.addresses["x"], a.addresses["x"],
        "not while the old one may answer"
    );
    reaches(&again.netns, b.addresses["x"], 80);
    reaches(Path::new(&own), b.addresses["x"], 80);
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    is_refused(Path::new(&own), b.addresses["x"], 80);
    reaches(&again.netns, b.addresses["x"], 80);
    left.kill().expect("killed");
    left.wait().expect("waited");
}

/// A process in a namespace.
fn hold(netns: &Path) -> Child {
    let child = Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["sleep", "600"])
        .spawn()
        .expect("started");
    let own = format!("/proc/{}/ns/net", child.id());
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino());
    wait_until(
        "it is inside",
        SOON,
        || matches!((inode(Path::new(&own)), inode(netns)), (Ok(it), Ok(wanted)) if it == wanted),
    );
    child
}

fn mistakes_are_named() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let text = |result: Result<_, NetError>| match result {
        Ok(()) => panic!("no error"),
        Err(error) => error.to_string(),
    };
    let attach = |environment, container, networks: &[&str]| {
        text(net.attach(environment, container, networks).map(|_| ()))
    };
    assert_eq!(
        attach("e", "a", &["x"]),
        "the network of environment e is not set up"
    );
    net.ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    assert_eq!(
        attach("e", "a", &["nope"]),
        "environment e has no network nope"
    );
    assert!(attach("e", "../a", &["x"]).starts_with("\"../a\" cannot be the name of a container"));
    assert!(text(net.set_names("other", &Records::default())).contains("other is not set up"));
    let bad = NetConfig::new(machine.dir(), machine.dir(), "far-too-long");
    assert!(text(Net::new(bad).map(|_| ())).contains("an instance"));
    fs::write(machine.dir().join("t1/state/networks.json"), "{").expect("written");
    assert!(attach("e", "a", &["x"]).contains("networks.json is damaged"));
}
