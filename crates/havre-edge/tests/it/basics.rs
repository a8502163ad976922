//! It proxies, redirects, and remembers its state.

use crate::edge::Edge;
use crate::http1::Connection;
use crate::origin::Origin;

pub fn proxies_over_https_and_redirects() {
    let front = Origin::usual("front");
    let api = Origin::usual("api");
    let mut edge = Edge::with_replicas(&[("r1", front.address)]);
    edge.route("api", "app.test", "/api", &[("r2", api.address)]);
    edge.push();
    assert_eq!(edge.status.problems, Vec::<String>::new());

    let ca = edge.authority.pem.clone();
    let mut secure = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(secure.get("app.test", "/").text(), "front");
    assert_eq!(secure.get("App.Test:443", "/api/x").text(), "api");
    assert_eq!(secure.get("app.test", "/apix").text(), "front");

    let mut plain = Connection::plain(edge.http());
    let answer = plain.get("app.test", "/a/b?c=d");
    assert_eq!(answer.status, 308);
    let location = format!("https://app.test:{}/a/b?c=d", edge.https().port());
    assert_eq!(answer.header("location"), Some(location.as_str()));

    let line = edge.log_line("the request", |line| line["path"] == "/api/x");
    assert_eq!(line["status"], 200);
    assert_eq!(line["replica"], "r2");
    assert_eq!(line["host"], "app.test");
    assert_eq!(line["bytes"], 3);
}

pub fn refuses_older_states_and_keeps_the_newest_on_disk() {
    let origin = Origin::usual("kept");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.push();
    let newest = edge.state.clone();
    edge.state.generation = 1;
    let error = edge.try_push().expect_err("an older state");
    assert!(
        error.to_string().contains("generation 1 is older than 2"),
        "{error}"
    );
    edge.state = newest.clone();
    edge.try_push().expect("the same state again");
    edge.state.routes.clear();
    let error = edge
        .try_push()
        .expect_err("another state of the same generation");
    assert!(error.to_string().contains("another content"), "{error}");
    edge.state = newest;

    edge.kill();
    edge.launch(&[]);
    assert_eq!(edge.status.generation, 2);
    let ca = edge.authority.pem.clone();
    let mut secure = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(secure.get("app.test", "/").text(), "kept");
}
