//! Bodies of any length and tunnels: passed on at once, in bounded memory.

use std::time::Duration;

use havre_edge::UpstreamProtocol;

use crate::edge::{Edge, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

fn secure(edge: &Edge) -> Connection {
    Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS")
}

pub fn events_arrive_one_by_one() {
    let origin = Origin::start(|peer, _| {
        peer.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")?;
        peer.raw("Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")?;
        // The answer ends when the client leaves, and not before.
        peer.read(&mut [0; 1])?;
        Ok(false)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut client = secure(&edge);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    client.head().expect("a head");
    // The replica sends no more until the client has left: it is not waited for.
    assert_eq!(
        client.chunk().expect("a chunk").expect("an event"),
        b"data: 1\n"
    );
    // The client leaves: so must the edge, at the replica.
    drop(client);
    wait_for(
        "the replica's connection to end",
        Duration::from_secs(5),
        || (origin.closed() == 1).then_some(()),
    );
}

/// RFC 8441 is not expected of replicas.
pub fn a_websocket_over_h2c_is_refused_with_the_reason() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.state.routes[0].protocol = UpstreamProtocol::H2c;
    edge.push();
    let mut client = secure(&edge);
    client.send(
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 501);
    let said = String::from_utf8_lossy(&answer.body);
    assert!(
        said.contains("no WebSocket is served at this address"),
        "{said}"
    );
    let line = edge.log_line("the refusal", |line| line["status"] == 501);
    let cause = line["cause"].to_string();
    assert!(cause.contains("has `protocol: h2c`"), "{cause}");
    assert_eq!(origin.accepted(), 0);
}

pub fn websockets_pass_both_ways() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut client = secure(&edge);
    // The first frame does not wait for the 101.
    client.send(
        [
            b"GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\n\
              Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .as_slice(),
            &[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2],
        ]
        .concat(),
    );
    let answer = client.try_answer(false).expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), Some("x"));
    assert_eq!(client.take(4).expect("an echo"), [0x81, 2, b'h', b'i']);
    for _ in 0..100 {
        client.send([0x81, 0x83, 0, 0, 0, 0, b'a', b'b', b'c']);
        assert_eq!(
            client.take(5).expect("an echo"),
            [0x81, 3, b'a', b'b', b'c']
        );
    }
    let status = edge.try_status().expect("a status");
    assert_eq!(
        (
            status.replicas["r1"].streams,
            status.replicas["r1"].in_flight
        ),
        (1, 0)
    );
    client.send([0x88, 0x80, 0, 0, 0, 0]);
    assert_eq!(client.take(2).expect("a Close frame"), [0x88, 0]);
    assert!(client.is_closed());
    let line = edge.log_line("the tunnel", |line| line["stream"] == "websocket");
    assert_eq!(line["status"], 101);
    assert_eq!(line["bytes"], 4 + 500 + 2);
}

/// Memory of its own, in kB.
fn private_kb(edge: &Edge) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", edge.pid());
    let text = std::fs::read_to_string(path).expect("its memory");
    let lines = text
        .lines()
        .filter(|line| line.starts_with("Private_Dirty"));
    lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

pub fn a_large_upload_is_streamed_in_bounded_memory() {
    const MEGABYTES: usize = 200;
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let before = private_kb(&edge);
    let mut client = secure(&edge);
    let length = MEGABYTES * 1024 * 1024;
    client.send(format!(
        "POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\n"
    ));
    let megabyte = vec![7; 1024 * 1024];
    let mut most = 0;
    for _ in 0..MEGABYTES {
        client.send(&megabyte);
        most = most.max(private_kb(&edge));
    }
    assert_eq!(client.answer().text(), length.to_string());
    assert!(
        most < before + 4096,
        "{before} kB before, {most} kB at most"
    );
}

pub fn a_large_download_waits_for_a_slow_client() {
    const MEGABYTES: usize = 100;
    let origin = Origin::start(|peer, _| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            MEGABYTES << 20
        );
        peer.raw(head)?;
        let megabyte = vec![7; 1024 * 1024];
        for _ in 0..MEGABYTES {
            peer.raw(&megabyte)?;
        }
        Ok(true)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let before = private_kb(&edge);
    let mut client = secure(&edge);
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    client.head().expect("a head");
    let mut most = 0;
    for _ in 0..MEGABYTES {
        most = most.max(private_kb(&edge));
        client.take(1 << 20).expect("a megabyte");
    }
    assert!(
        most < before + 4096,
        "{before} kB before, {most} kB at most"
    );
}

pub fn an_early_answer_to_an_upload_can_be_read() {
    let origin = Origin::start(|peer, _| {
        peer.raw("HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n")?;
        peer.raw("Connection: close\r\n\r\nlarge")?;
        Ok(false)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    for _ in 0..5 {
        let mut client = secure(&edge);
        client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 50000000\r\n\r\n");
        let megabyte = vec![7; 1024 * 1024];
        // The rest of the upload may find the connection closed.
        for _ in 0..50 {
            if client.try_send(&megabyte).is_err() {
                break;
            }
        }
        let answer = client.try_answer(true).expect("the answer, not a reset");
        assert_eq!((answer.status, answer.text().as_str()), (413, "large"));
    }
}

pub fn a_small_unread_body_does_not_cost_the_connection() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.route("empty", "app.test", "/empty", &[]);
    edge.push();
    let mut client = secure(&edge);
    client.send("POST /empty HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\n");
    client.send("hello");
    assert_eq!(client.answer().status, 503);
    assert_eq!(client.get("app.test", "/").text(), "a");
}

pub fn a_slow_form_does_not_occupy_a_worker() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut slow = secure(&edge);
    slow.send("POST /upload HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\n\r\nhell");
    let mut other = secure(&edge);
    assert_eq!(other.get("app.test", "/").text(), "a");
    let status = edge.try_status().expect("a status");
    assert_eq!(status.replicas["r1"].in_flight, 0);
    assert_eq!(origin.heads().len(), 1, "the form waits at the edge");
    slow.send("o");
    assert_eq!(slow.answer().text(), "5");
    let head = origin.heads().remove(1).to_ascii_lowercase();
    assert!(head.contains("\ncontent-length: 5\n"), "{head}");
}

pub fn the_memory_of_a_crowd_is_given_back() {
    let origin = Origin::usual("a");
    let mut edge = Edge::start();
    edge.state.https.clear();
    edge.route("web", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    let before = private_kb(&edge);
    let mut crowd: Vec<Connection> = (0..800).map(|_| Connection::plain(edge.http())).collect();
    for client in &mut crowd {
        assert_eq!(client.get("app.test", "/").text(), "a");
    }
    let most = private_kb(&edge);
    drop(crowd);
    wait_for("memory to be given back", Duration::from_secs(15), || {
        (private_kb(&edge) < before + (most - before) / 4).then_some(())
    });
}
