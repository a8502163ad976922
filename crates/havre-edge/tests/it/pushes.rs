//! What a push means for requests that are under way.

use crate::edge::Edge;
use crate::http1::Connection;
use crate::origin::Origin;

fn secure(edge: &Edge) -> Connection {
    Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS")
}

/// Who asks was decided when the request came, and stays so; where it goes is decided when it goes.
pub fn a_request_that_was_waited_for_goes_where_the_new_state_says() {
    let (old, new) = (Origin::usual("old"), Origin::usual("new"));
    let mut edge = Edge::with_replicas(&[("r1", old.address)]);
    edge.state.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    edge.push();
    let mut client = secure(&edge);
    client.send(
        "POST /head HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\
         X-Forwarded-For: 9.9.9.9\r\nX-Request-Id: 0123456789abcdef\r\n\r\n",
    );
    // Its body is waited for.
    let head = client.head().expect("leave to go on");
    assert!(head.starts_with("HTTP/1.1 100"), "{head}");
    edge.state.trusted_proxies.clear();
    edge.state.routes.clear();
    edge.state.pools.clear();
    edge.route("next", "app.test", "/", &[("r2", new.address)]);
    // Once this is acknowledged nothing goes to the old replica, which may be removed.
    edge.push();
    client.send("body");
    let answer = client.answer();
    let head = answer.text().to_lowercase();
    assert_eq!(old.heads(), Vec::<String>::new());
    assert_eq!(new.heads().len(), 1, "{head}");
    assert!(
        head.contains("\nx-forwarded-for: 9.9.9.9, 127.0.0.1\n"),
        "{head}"
    );
    assert!(head.contains("\nx-real-ip: 9.9.9.9\n"), "{head}");
    assert!(
        head.contains("\nx-request-id: 0123456789abcdef\n"),
        "{head}"
    );
    assert_eq!(answer.header("x-request-id"), Some("0123456789abcdef"));
    let line = edge.log_line("the request", |line| line["path"] == "/head");
    assert_eq!(line["request_id"], "0123456789abcdef");
    assert_eq!(line["client_ip"], "9.9.9.9");
    assert_eq!(
        (line["route"].as_str(), line["replica"].as_str()),
        (Some("next"), Some("r2"))
    );
}

pub fn a_request_whose_route_goes_away_is_told_so() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut client = secure(&edge);
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    client.head().expect("leave to go on");
    edge.state.routes[0].path = "/elsewhere".to_owned();
    edge.push();
    client.send("body");
    assert_eq!(client.answer().status, 404);
    assert_eq!(origin.heads(), Vec::<String>::new());
    let line = edge.log_line("the request", |line| line["status"] == 404);
    assert_eq!(line["cause"], "no route of this host covers the path");
}

pub fn a_websocket_waits_for_the_replica_that_a_push_brings() {
    let mut edge = Edge::with_replicas(&[]);
    edge.state.pools.get_mut("web").expect("the pool").hold_ms = 8000;
    edge.push();
    let mut client = secure(&edge);
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let origin = Origin::usual("late");
    edge.state.routes.clear();
    edge.route("next", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    assert_eq!(client.try_answer(false).expect("an answer").status, 101);
    client.send([0x81, 0x82, 0, 0, 0, 0, b'h', b'i']);
    assert_eq!(client.take(4).expect("an echo"), [0x81, 2, b'h', b'i']);
    client.send([0x88, 0x80, 0, 0, 0, 0]);
    assert_eq!(client.take(2).expect("a Close frame"), [0x88, 0]);
    let line = edge.log_line("the tunnel", |line| line["stream"] == "websocket");
    assert_eq!(
        (line["route"].as_str(), line["replica"].as_str()),
        (Some("next"), Some("r1"))
    );
}
