//! Networks that environments share on purpose.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use havre_net::{Attached, Backends, Environment, Net};
use hickory_proto::rr::RecordType;

use crate::Test;
use crate::killer::{End, kill_at};
use crate::lifecycle::{config, this};
use crate::machine::{
    INTERNET, Machine, PUBLIC, ask, ask_from, host_reaches, inside, is_refused, networks, reaches,
    serve, sh_in, sh_output, wait_until,
};
use crate::names::{ask_udp, records, short, start};

pub const TESTS: &[Test] = &[
    (
        "environments_on_a_shared_network_reach_each_other",
        environments_on_a_shared_network_reach_each_other,
    ),
    (
        "an_internal_shared_network_leads_to_its_environments_only",
        an_internal_shared_network_leads_to_its_environments_only,
    ),
    (
        "names_are_passed_on_to_environments_on_the_network",
        names_are_passed_on_to_environments_on_the_network,
    ),
    (
        "what_was_lost_of_a_shared_network_comes_back",
        what_was_lost_of_a_shared_network_comes_back,
    ),
    (
        "a_daemon_may_die_anywhere_on_the_way_onto_a_network",
        a_daemon_may_die_anywhere_on_the_way_onto_a_network,
    ),
];

const QUICK: Duration = Duration::from_millis(500);
const SHARED: &str = "p@shared";

fn up(net: &Net, environment: &str, on: &[&str]) -> Environment {
    net.ensure_environment(environment, &networks(on))
        .expect("set up")
}

fn attach(net: &Net, environment: &str, name: &str, on: &[&str]) -> Attached {
    net.attach(environment, name, on).expect("attached")
}

fn fails(from: &Attached, to: Ipv4Addr, port: u16) {
    let result = inside(&from.netns, || ask(to, port, QUICK));
    assert!(result.is_err(), "{} reaches {to}", from.netns.display());
}

fn environments_on_a_shared_network_reach_each_other() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let before = machine.traces();
    let net = machine.net("t1");
    up(&net, "a", &["x", SHARED]);
    let b = up(&net, "b", &["x", SHARED]);
    up(&net, "c", &["x", "q@shared"]);
    let client = attach(&net, "a", "client", &["x", SHARED]);
    let bystander = attach(&net, "a", "bystander", &["x"]);
    let server = attach(&net, "b", "server", &[SHARED]);
    let private = attach(&net, "b", "private", &["x"]);
    let both = attach(&net, "b", "both", &["x", SHARED]);
    let stranger = attach(&net, "c", "stranger", &["x", "q@shared"]);
    for one in [&client, &bystander, &server, &private, &both, &stranger] {
        serve(&one.netns, 80);
    }
    let at = |one: &Attached| one.addresses[SHARED];
    // Both ways, under their own addresses, whatever their default route is.
    assert_eq!(reaches(&client.netns, at(&server), 80), at(&client));
    assert_eq!(reaches(&client.netns, at(&both), 80), at(&client));
    assert_eq!(reaches(&server.netns, at(&client), 80), at(&server));
    assert_eq!(reaches(&both.netns, at(&client), 80), at(&both));
    // The edge reaches one that is on no other network.
    assert_eq!(host_reaches(at(&server), 80), b.networks[SHARED].gateway);
    // A service by its address, which stays.
    let services = [("app".to_owned(), vec![at(&server)])].into();
    let backends: Backends = [(SHARED.to_owned(), services)].into();
    let address = net.set_services("b", &backends).expect("set")[SHARED]["app"];
    let gateway = b.networks[SHARED].gateway;
    assert_eq!(reaches(&client.netns, address, 80), gateway);
    // Nobody and nothing else.
    for to in [at(&server), at(&both), address] {
        fails(&bystander, to, 80);
        fails(&stranger, to, 80);
    }
    for to in [private.addresses["x"], both.addresses["x"]] {
        fails(&client, to, 80);
    }
    fails(&server, bystander.addresses["x"], 80);
    fails(&server, stranger.addresses["q@shared"], 80);
    fails(&stranger, at(&client), 80);
    // Not with an address of the network on a packet of another one either.
    let forged = format!("ip address add {}/32 dev lo", at(&client));
    sh_in(&bystander.netns, &forged);
    let from = inside(&bystander.netns, || {
        ask_from(at(&client), at(&server), 80, QUICK)
    });
    assert!(from.is_err(), "{from:?}");
    // The resolvers of other environments, and the host, are not on it.
    let dns = inside(&client.netns, || ask(gateway, 53, QUICK));
    assert!(dns.is_err(), "{dns:?}");
    is_refused(&client.netns, b.host, 22);
    // The way out is as it was.
    assert_eq!(reaches(&server.netns, INTERNET, 7), PUBLIC);

    // One that goes leaves the other as it is, and its addresses lead nowhere.
    assert!(net.remove_environment("b").is_empty());
    reaches(&client.netns, INTERNET, 7);
    is_refused(&client.netns, at(&server), 80);
    up(&net, "b", &["x", SHARED]);
    let server = attach(&net, "b", "server", &[SHARED]);
    serve(&server.netns, 80);
    reaches(&client.netns, at(&server), 80);
    for environment in ["a", "b", "c"] {
        assert!(net.remove_environment(environment).is_empty());
    }
    machine.returns_to(&before);
}

fn an_internal_shared_network_leads_to_its_environments_only() {
    let machine = Machine::new();
    serve(&machine.internet(), 7);
    let net = machine.net("t1");
    let on = ["internal-p@shared"];
    up(&net, "a", &on);
    up(&net, "b", &on);
    let client = attach(&net, "a", "client", &on);
    let server = attach(&net, "b", "server", &on);
    serve(&server.netns, 80);
    reaches(&client.netns, server.addresses[on[0]], 80);
    is_refused(&client.netns, INTERNET, 7);
    is_refused(&client.netns, PUBLIC, 7);
}

fn asked(net: &Net, of: &Environment, from: &Attached, name: &str) -> String {
    start(net, environment_of(&from.netns));
    let gateway = of.networks[SHARED].gateway;
    short(&ask_udp(&from.netns, gateway, name, RecordType::A))
}

/// …/run/ENVIRONMENT/containers/NAME
fn environment_of(netns: &Path) -> &str {
    let folder = netns.ancestors().nth(2).and_then(Path::file_name);
    folder.and_then(|name| name.to_str()).expect("a name")
}

fn names_are_passed_on_to_environments_on_the_network() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let a = up(&net, "a", &["x", SHARED]);
    let b = up(&net, "b", &["x", SHARED]);
    let c = up(&net, "c", &["x", SHARED]);
    let on_a = attach(&net, "a", "one", &[SHARED]);
    let on_b = attach(&net, "b", "two", &[SHARED]);
    let on_c = attach(&net, "c", "three", &[SHARED]);
    let address = |last| Ipv4Addr::new(10, 0, 0, last);
    let set = |environment: &str, of: &[(&str, &str, &[Ipv4Addr])]| {
        net.set_names(environment, &records(of)).expect("set");
    };
    set(
        "a",
        &[(SHARED, "web", &[address(1)]), ("x", "db", &[address(2)])],
    );
    set(
        "b",
        &[
            (SHARED, "web", &[address(3)]),
            (SHARED, "api", &[address(4)]),
            ("x", "hidden", &[address(5)]),
        ],
    );
    set(
        "c",
        &[(SHARED, "api", &[address(6)]), (SHARED, "idle", &[])],
    );
    assert_eq!(asked(&net, &a, &on_a, "web"), "10.0.0.1", "its own");
    assert_eq!(asked(&net, &b, &on_b, "web"), "10.0.0.3", "its own");
    assert_eq!(asked(&net, &a, &on_a, "api").len(), 17, "both of them");
    let of_c = asked(&net, &c, &on_c, "web");
    assert!(
        of_c.contains("10.0.0.1") && of_c.contains("10.0.0.3"),
        "{of_c}"
    );
    for (of, from, name) in [
        (&a, &on_a, "hidden"),
        (&b, &on_b, "db"),
        (&a, &on_a, "idle"),
    ] {
        assert_eq!(asked(&net, of, from, name), "NXDomain", "{name}");
    }
    // At once, as its own are.
    for last in 10..40 {
        set("b", &[(SHARED, "api", &[address(last)])]);
        let expected = format!("10.0.0.{last}");
        let answer = asked(&net, &a, &on_a, "api");
        assert!(answer.split(' ').any(|one| one == expected), "{answer}");
    }
    // What goes takes its names along: by the end of the environment, or of the network in it.
    assert!(net.remove_environment("c").is_empty());
    assert_eq!(asked(&net, &a, &on_a, "api"), "10.0.0.39");
    net.detach("b", "two").expect("detached");
    up(&net, "b", &["x"]);
    up(&net, "a", &["x", SHARED]);
    assert_eq!(asked(&net, &a, &on_a, "api"), "NXDomain");
}

fn what_was_lost_of_a_shared_network_comes_back() {
    let machine = Machine::new();
    let net = machine.net("t1");
    up(&net, "a", &[SHARED]);
    up(&net, "b", &[SHARED]);
    let client = attach(&net, "a", "client", &[SHARED]);
    let server = attach(&net, "b", "server", &[SHARED]);
    serve(&server.netns, 80);
    let to = server.addresses[SHARED];
    reaches(&client.netns, to, 80);
    // Killed between the names and those who are to know them.
    let names = records(&[(SHARED, "api", &[to])]);
    net.set_names("b", &names).expect("set");
    let foreign = machine.dir().join("t1/run/a/foreign.json");
    std::fs::remove_file(&foreign).expect("it was there");
    sh_output("nft flush ruleset");
    for environment in ["a", "b"] {
        up(&net, environment, &[SHARED]);
    }
    reaches(&client.netns, to, 80);
    wait_until("the names are there again", QUICK, || foreign.exists());
    // Another daemon knows as much.
    let net = machine.net("t1");
    let again = up(&net, "a", &[SHARED]);
    assert_eq!(
        attach(&net, "a", "client", &[SHARED]).addresses,
        client.addresses
    );
    assert_eq!(asked(&net, &again, &client, "api"), to.to_string());
}

/// An environment that comes onto the network, with a name for others.
pub fn join(net: &Net) -> Attached {
    up(net, "b", &[SHARED]);
    let server = attach(net, "b", "server", &[SHARED]);
    let names = records(&[(SHARED, "api", &[server.addresses[SHARED]])]);
    net.set_names("b", &names).expect("set");
    server
}

fn a_daemon_may_die_anywhere_on_the_way_onto_a_network() {
    let machine = Machine::new();
    let dir = machine.dir().join("t1");
    let net = Net::new(config(&dir)).expect("an instance");
    up(&net, "a", &[SHARED]);
    let client = attach(&net, "a", "client", &[SHARED]);
    serve(&client.netns, 80);
    let foreign = || std::fs::read_to_string(dir.join("run/a/foreign.json")).unwrap_or_default();
    let mut points = 0;
    for nth in 1.. {
        let end = kill_at(this(&["join"], &dir), nth);
        let net = Net::new(config(&dir)).expect("an instance");
        if nth % 2 == 0 {
            // The next daemon goes on where it died, and looks at all of its environments.
            let server = join(&net);
            up(&net, "a", &[SHARED]);
            let (from, to) = (server.addresses[SHARED], client.addresses[SHARED]);
            assert_eq!(reaches(&server.netns, to, 80), from, "killed at {nth}");
            assert!(foreign().contains(&from.to_string()), "{}", foreign());
        }
        let errors = net.remove_environment("b");
        assert!(errors.is_empty(), "killed at {nth}: {errors:?}");
        assert!(!foreign().contains("api"), "{}", foreign());
        if end == End::Done {
            break;
        }
        points += 1;
    }
    println!("killed at {points} points");
    assert!(points > 30, "the killer saw {points} points only");
    assert!(net.remove_environment("a").is_empty());
    assert!(!dir.join("run/a").exists() && !dir.join("run/b").exists());
}
