//! Servers of this machine behind Unix sockets in the edge's run folder.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use havre_edge::{Forward, LocalServer, Pool, SocketName};

use crate::edge::{Edge, RUN, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

const HOST: &str = "app.test";

/// An edge whose `app.test/` is served by the socket `gateway`, where nobody listens yet.
fn edge() -> Edge {
    let mut edge = Edge::with_replicas(&[]);
    edge.state.pools.insert("web".to_owned(), pool());
    edge.push();
    assert_eq!(edge.status.problems, Vec::<String>::new());
    edge
}

fn pool() -> Pool {
    Pool {
        local: vec![LocalServer {
            id: "platform".to_owned(),
            socket: name(),
        }],
        ..Pool::default()
    }
}

fn name() -> SocketName {
    "gateway".parse().expect("a name")
}

/// Listens there, as the daemon does.
fn listen(edge: &Edge, says: &'static str) -> Origin {
    let run = edge.path(RUN);
    let listener = edge.block_on(async {
        let listener = havre_edge::listen_for_edge(&run, &name()).expect("a socket");
        listener.into_std().expect("it")
    });
    listener.set_nonblocking(false).expect("a blocking one");
    Origin::on_socket(listener, path(edge), says)
}

fn path(edge: &Edge) -> PathBuf {
    edge.path(RUN).join("up-gateway.sock")
}

fn secure(edge: &Edge) -> Connection {
    Connection::tls(edge.https(), HOST, &edge.authority.pem).expect("TLS")
}

pub fn requests_go_to_a_socket_over_connections_that_are_kept() {
    let mut edge = edge();
    let gateway = listen(&edge, "gateway");
    let other = Origin::usual("replica");
    edge.route("other", HOST, "/other", &[("r1", other.address)]);
    edge.push();
    let mut client = secure(&edge);
    for _ in 0..3 {
        assert_eq!(client.get(HOST, "/v2/").text(), "gateway");
        assert_eq!(client.get(HOST, "/other/").text(), "replica");
    }
    assert_eq!(gateway.accepted(), 1);
    client.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.answer().text(), "5");
    let head = client.get(HOST, "/head").text().to_lowercase();
    assert!(head.contains("\nhost: app.test\n"), "{head}");
    assert!(head.contains("\nx-forwarded-proto: https\n"), "{head}");
    let line = edge.log_line("the request", |line| line["path"] == "/upload");
    assert_eq!(
        (line["route"].as_str(), line["replica"].as_str()),
        (Some("web"), Some("platform"))
    );
    let status = edge.try_status().expect("a status");
    assert_eq!(status.replicas["platform"].requests, 5);
    assert_eq!(status.pools["web"].requests, 5);
}

pub fn a_websocket_goes_to_a_socket_and_is_closed_when_told() {
    let edge = edge();
    let _gateway = listen(&edge, "gateway");
    let mut client = secure(&edge);
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.try_answer(false).expect("an answer").status, 101);
    for _ in 0..100 {
        client.send([0x81, 0x83, 0, 0, 0, 0, b'a', b'b', b'c']);
        assert_eq!(
            client.take(5).expect("an echo"),
            [0x81, 3, b'a', b'b', b'c']
        );
    }
    let closing = edge.control();
    let closing = edge.block_on(closing.close_streams("platform", Duration::ZERO));
    assert_eq!(closing.expect("an answer").streams, 1);
    assert_eq!(client.take(4).expect("a Close frame"), [0x88, 2, 3, 0xf4]);
    client.send([0x88, 0x80, 0, 0, 0, 0]);
    let line = edge.log_line("the tunnel", |line| line["stream"] == "websocket");
    assert_eq!(line["replica"], "platform");
}

pub fn a_connection_to_a_port_is_passed_on_to_a_socket() {
    let mut edge = edge();
    let _gateway = listen(&edge, "gateway");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen: SocketAddr = free.local_addr().expect("its address");
    drop(free);
    edge.state.forwards = vec![Forward {
        id: "git".to_owned(),
        listen,
        pool: "web".to_owned(),
    }];
    edge.push();
    let mut client = Connection::plain(listen);
    assert_eq!(client.get("anything", "/").text(), "gateway");
}

pub fn a_dead_socket_is_named_in_the_log_only() {
    let edge = edge();
    let socket = path(&edge);
    let mut client = secure(&edge);
    let mut fails = |asked: &str, why: &str| {
        client.send(format!(
            "GET {asked} HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\n\r\n"
        ));
        let answer = client.answer();
        assert_eq!(answer.status, 502);
        let page = answer.text();
        for secret in ["platform", "gateway.sock", "web", "listen", "server"] {
            assert!(!page.contains(secret), "{page}");
        }
        let id = answer.header("x-request-id").expect("an id");
        assert!(page.contains(id), "{page}");
        let line = edge.log_line("the failure", |line| line["path"] == asked);
        let cause = format!("local server platform of web cannot be reached: {why}");
        assert_eq!(line["cause"], cause.as_str());
        assert_eq!(line["replica"], "platform");
        let status = edge.try_status().expect("a status").replicas["platform"].clone();
        let last = status.last_failure.expect("the failure");
        assert_eq!(
            (last.cause.as_str(), last.request_id.as_str()),
            (&*cause, id)
        );
    };
    fails("/none", &format!("there is no socket {}", socket.display()));
    let gateway = listen(&edge, "gateway");
    gateway.kill();
    fails("/dead", &format!("nobody listens on {}", socket.display()));
    let _next = listen(&edge, "back");
    assert_eq!(client.get(HOST, "/").text(), "back");
}

pub fn who_replaces_a_socket_gets_what_comes() {
    let edge = edge();
    let first = listen(&edge, "first");
    let mut client = secure(&edge);
    assert_eq!(client.get(HOST, "/").text(), "first");
    let second = listen(&edge, "second");
    // A connection that is open stays open …
    assert_eq!(client.get(HOST, "/").text(), "first");
    assert_eq!((first.accepted(), second.accepted()), (1, 0));
    // … and when its server ends, the request in that moment goes to the new one.
    first.end_connections();
    assert_eq!(client.get(HOST, "/").text(), "second");
    assert_eq!(client.get(HOST, "/").text(), "second");
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
}

pub fn requests_wait_while_who_listens_restarts() {
    let mut edge = edge();
    edge.state.pools.get_mut("web").expect("the pool").hold_ms = 8000;
    edge.push();
    let first = listen(&edge, "first");
    let mut client = secure(&edge);
    assert_eq!(client.get(HOST, "/").text(), "first");
    first.kill();
    client.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhello");
    wait_for("a first attempt", Duration::from_secs(5), || {
        (edge.try_status().expect("a status").replicas["platform"].in_flight == 0).then_some(())
    });
    let _second = listen(&edge, "second");
    assert_eq!(client.answer().text(), "5");
    assert_eq!(client.get(HOST, "/").text(), "second");
}

pub fn who_listens_before_the_edge_starts_is_reached() {
    let mut edge = edge();
    edge.kill();
    // As after a reboot: the folder is not there yet.
    std::fs::remove_dir_all(edge.path(RUN)).expect("to remove its run folder");
    let _gateway = listen(&edge, "gateway");
    edge.launch(&[]);
    assert_eq!(secure(&edge).get(HOST, "/").text(), "gateway");
}

pub fn a_socket_that_cannot_be_reached_is_a_problem() {
    let mut edge = edge();
    edge.state.datagram_forwards = vec![Forward {
        id: "dns".to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        pool: "web".to_owned(),
    }];
    edge.push();
    assert_eq!(
        edge.status.problems,
        ["dns: no datagrams reach a server behind a Unix socket"]
    );
}
