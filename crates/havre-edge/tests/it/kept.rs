//! Listening sockets that outlive the edge.

use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use havre_edge::EdgeState;

use crate::datagrams::{self, Client, Echo, free_port};
use crate::edge::Edge;
use crate::http1::Connection;
use crate::origin::Origin;

/// Several times, since each edge passes on the sockets of the first.
pub fn who_comes_between_two_edges_is_served_by_the_second() {
    let echo = Echo::start("a");
    let listen: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let mut edge = datagrams::edge(listen, &[("a", echo.address)]);
    edge.route("web", "app.test", "/", &[]);
    edge.push();
    for _ in 0..3 {
        let kept = edge.keep_sockets();
        edge.kill();
        let mut visitor = Connection::plain(edge.http());
        visitor.send("GET /x HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let client = Client::of(listen);
        client.send(b"1");
        edge.launch_with(kept);
        let answer = visitor.answer();
        assert_eq!(answer.status, 308);
        assert_eq!(client.receive(), "a 1");
    }
}

pub fn an_edge_goes_on_and_hands_over_while_its_sockets_are_kept() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("a", origin.address)]);
    let kept = edge.keep_sockets();
    let serves = |edge: &Edge| {
        let ca = &edge.authority.pem;
        let mut client = Connection::tls(edge.https(), "app.test", ca).expect("TLS");
        assert_eq!(client.get("app.test", "/").text(), "a");
    };
    serves(&edge);
    let old = edge.take_over(5);
    edge.wait_for_predecessor(old);
    serves(&edge);
    edge.kill();
    edge.launch_with(kept);
    serves(&edge);
}

pub fn what_a_state_gives_up_is_not_kept() {
    let mut edge = Edge::with_replicas(&[]);
    let (plain, secure) = (edge.http(), edge.https());
    let before = edge.status.ports_changed;
    let mut kept = edge.keep_sockets();
    edge.state.http.clear();
    kept.retain(&edge.state);
    edge.push();
    assert_ne!(edge.status.ports_changed, before, "it tells of the change");
    assert!(TcpStream::connect(plain).is_err(), "nobody listens there");
    edge.kill();
    TcpStream::connect(secure).expect("to be queued");
    kept.retain(&EdgeState::default());
    assert!(TcpStream::connect(secure).is_err(), "nor there");
}

pub fn sockets_that_do_not_arrive_are_an_error() {
    let mut edge = Edge::start();
    edge.kill();
    edge.spawn(&["--inherit"], Stdio::null());
    let end = edge.wait_for_end(Duration::from_secs(10));
    assert_eq!(end.code(), Some(1));
    let told = std::fs::read_to_string(edge.path("stderr")).expect("its stderr");
    let expected = "error: cannot take the sockets from the standard input: ";
    assert!(told.starts_with(expected), "{told}");
}
