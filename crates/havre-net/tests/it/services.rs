//! Addresses of services: stable, and passed on to whoever answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use havre_net::{Backends, Net};

use crate::Test;
use crate::machine::{Machine, ask, inside, networks, reaches, serve};

pub const TESTS: &[Test] = &[
    (
        "a_services_address_stays_and_leads_to_who_answers",
        a_services_address_stays_and_leads_to_who_answers,
    ),
    (
        "a_service_belongs_to_its_network",
        a_service_belongs_to_its_network,
    ),
];

const QUICK: Duration = Duration::from_millis(500);

/// Sets one service of network `x`; its address.
fn service(net: &Net, replicas: &[Ipv4Addr]) -> Ipv4Addr {
    let services = [("app".to_owned(), replicas.to_vec())].into();
    let backends: Backends = [("x".to_owned(), services)].into();
    net.set_services("e", &backends).expect("set")["x"]["app"]
}

fn a_services_address_stays_and_leads_to_who_answers() {
    let machine = Machine::new();
    let net = machine.net("t1");
    let environment = net
        .ensure_environment("e", &networks(&["x"]))
        .expect("set up");
    let gateway = environment.networks["x"].gateway;
    let attach = |name: &str| net.attach("e", name, &["x"]).expect("attached");
    let (client, one, two) = (attach("client"), attach("one"), attach("two"));
    let (first, second) = (one.addresses["x"], two.addresses["x"]);
    serve(&one.netns, 80);
    serve(&two.netns, 81);
    let asked = |address, port| inside(&client.netns, || ask(address, port, QUICK));

    let address = service(&net, &[first]);
    assert_eq!(reaches(&client.netns, address, 80), gateway);
    assert!(
        asked(address, 81).is_err(),
        "the other one does not answer yet"
    );
    assert_eq!(
        reaches(&one.netns, address, 80),
        gateway,
        "a replica reaches itself"
    );

    assert_eq!(service(&net, &[second]), address);
    assert_eq!(reaches(&client.netns, address, 81), gateway);
    assert!(asked(address, 80).is_err(), "the first one answers no more");

    // Both take their share: only one of them listens on port 80.
    service(&net, &[first, second]);
    let answered = (0..80).filter(|_| asked(address, 80).is_ok()).count();
    assert!((20..=60).contains(&answered), "{answered} of 80");

    // Nobody: refused at once, not after a while.
    assert_eq!(service(&net, &[]), address);
    let refused = asked(address, 80).expect_err("nobody answers");
    assert!(refused.contains("refused"), "{refused}");

    // Whoever sets the environment up again, or flushed the rules, changes none of it.
    service(&net, &[first]);
    inside(&environment.router_netns, || {
        let flushed = std::process::Command::new("nft")
            .args(["flush", "ruleset"])
            .status();
        assert!(flushed.expect("nft").success());
    });
    net.ensure_environment("e", &networks(&["x"]))
        .expect("again");
    assert_eq!(reaches(&client.netns, address, 80), gateway);
    net.set_services("e", &Backends::new()).expect("set");
    assert!(asked(address, 80).is_err(), "gone");
}

fn a_service_belongs_to_its_network() {
    let machine = Machine::new();
    let net = machine.net("t1");
    net.ensure_environment("e", &networks(&["x", "internal"]))
        .expect("set up");
    let stranger = net
        .attach("e", "stranger", &["internal"])
        .expect("attached");
    let replica = net.attach("e", "replica", &["x"]).expect("attached");
    serve(&replica.netns, 80);
    let address = service(&net, &[replica.addresses["x"]]);
    assert!(inside(&stranger.netns, || ask(address, 80, QUICK)).is_err());
    // On an internal network it works as well: there is no way out, but a way to the router.
    let inner = net.attach("e", "inner", &["internal"]).expect("attached");
    serve(&inner.netns, 80);
    let services = [("vault".to_owned(), vec![inner.addresses["internal"]])].into();
    let backends: Backends = [("internal".to_owned(), services)].into();
    let vault = net.set_services("e", &backends).expect("set")["internal"]["vault"];
    reaches(&stranger.netns, vault, 80);
}
