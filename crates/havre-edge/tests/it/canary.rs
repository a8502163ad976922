//! A share of the visitors goes to other replicas, and each stays on its side.

use std::time::Duration;

use havre_edge::{Canary, Replica};

use crate::edge::{Edge, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

const REQUESTS: u64 = 1000;
const PAGE: &str = "Accept: text/html";

fn with_canary(permille: u32) -> (Edge, Origin, Origin) {
    let (old, new) = (Origin::usual("old"), Origin::usual("new"));
    let mut edge = Edge::with_replicas(&[("old", old.address)]);
    let pool = edge.state.pools.get_mut("web").expect("the pool");
    pool.canary = Some(Canary {
        replicas: vec![Replica {
            id: "new".to_owned(),
            address: new.address,
            draining: false,
        }],
        permille,
        release: 7,
    });
    edge.push();
    (edge, old, new)
}

fn requests(edge: &Edge, id: &str) -> u64 {
    let status = edge.try_status().expect("a status");
    status
        .replicas
        .get(id)
        .map_or(0, |replica| replica.requests)
}

/// Asks so often; the numbers of answers of the old and of the new replica.
fn ask(edge: &Edge, times: u64, fields: &str) -> (u64, u64) {
    let before = (requests(edge, "old"), requests(edge, "new"));
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    for _ in 0..times {
        client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n"));
        assert_eq!(client.answer().status, 200);
    }
    wait_for("the requests to be counted", Duration::from_secs(5), || {
        let now = (
            requests(edge, "old") - before.0,
            requests(edge, "new") - before.1,
        );
        (now.0 + now.1 == times).then_some(now)
    })
}

pub fn a_share_of_requests_goes_to_the_canary() {
    let (edge, _old, _new) = with_canary(250);
    let (_, new) = ask(&edge, REQUESTS, "");
    // All from one connection, so from one thread: each thread is exact.
    assert_eq!(new, REQUESTS / 4);
    let pools = edge.try_status().expect("a status").pools;
    assert_eq!(pools["web"].requests, REQUESTS);
}

pub fn a_browser_stays_on_its_side() {
    let (edge, _old, _new) = with_canary(500);
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    let mut sides = [0, 0];
    for _ in 0..10 {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\n{PAGE}\r\n\r\n"
        ));
        let answer = client.answer();
        let cookie = answer.header("set-cookie").expect("a number");
        let pair = cookie.split(';').next().expect("a pair");
        assert!(cookie.contains("; Secure"), "{cookie}");
        let (old, new) = ask(&edge, 5, &format!("Cookie: {pair}\r\n"));
        assert!(old == 0 || new == 0, "{old} and {new}");
        sides[usize::from(new > 0)] += 1;
    }
    assert!(sides[0] > 0 && sides[1] > 0, "{sides:?}");
}

pub fn without_a_canary_nobody_gets_a_number() {
    let origin = Origin::usual("only");
    let edge = Edge::with_replicas(&[("only", origin.address)]);
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: app.test\r\n{PAGE}\r\n\r\n"
    ));
    assert_eq!(client.answer().header("set-cookie"), None);
}

pub fn a_dead_canary_costs_no_request() {
    let (edge, _old, new) = with_canary(500);
    new.kill();
    let (old, _) = ask(&edge, 50, "");
    assert_eq!(old, 50);
}
