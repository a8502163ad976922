//! Raw bytes that two readers might read in two ways: a replica must never see a request that the
//! client did not send as one, whatever the framing tricks.

use std::time::Duration;

use crate::edge::{Edge, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

/// What must happen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// An answer of 4xx, the connection closed, nothing at the replica.
    Refused,
    /// One clean request at the replica, answered; then the connection is closed or goes on.
    Passed,
}
use Expect::{Passed, Refused};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// An edge that serves plain HTTP.
fn plain_edge(origin: &Origin) -> Edge {
    let mut edge = Edge::start();
    edge.state.https.clear();
    edge.route("web", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    edge
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: app.test\r\n{headers}\r\n\r\n{body}")
}

pub fn ambiguous_framing_is_refused_or_made_plain() {
    let chunked = format!("0\r\n\r\n{NEXT}");
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    let te = "Transfer-Encoding: chunked";
    let cases: Vec<(&str, String, Expect)> = vec![
        ("CL and TE", post("Content-Length: 4\r\nTransfer-Encoding: chunked", &chunked), Refused),
        ("TE and CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4", &chunked), Refused),
        ("two CL", post("Content-Length: 5\r\nContent-Length: 0", "hello"), Refused),
        ("equal CLs", post("Content-Length: 5\r\nContent-Length: 5", "hello"), Refused),
        ("comma CL", post("Content-Length: 5, 5", "hello"), Refused),
        ("signed CL", post("Content-Length: +5", "hello"), Refused),
        ("negative CL", post("Content-Length: -5", "hello"), Refused),
        ("hex CL", post("Content-Length: 0x5", "hello"), Refused),
        ("CL beyond u64", post("Content-Length: 99999999999999999999", "hello"), Refused),
        ("CL with space inside", post("Content-Length: 1 0", "hello"), Refused),
        ("repeated chunked", post("Transfer-Encoding: chunked, chunked", &chunked), Refused),
        ("chunked not last", post("Transfer-Encoding: chunked, identity", &chunked), Refused),
        ("gzip before chunked", post("Transfer-Encoding: gzip, chunked", &chunked), Refused),
        ("two TE", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &chunked), Refused),
        ("two TE chunked", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", &chunked), Refused),
        ("unknown TE", post("Transfer-Encoding: xchunked", &chunked), Refused),
        ("quoted TE", post("Transfer-Encoding: \"chunked\"", &chunked), Refused),
        ("VT in TE", post("Transfer-Encoding: \x0bchunked", &chunked), Refused),
        ("NUL in TE", post("Transfer-Encoding: chunked\0", &chunked), Refused),
        ("folded TE", post("Transfer-Encoding:\r\n chunked", &chunked), Refused),
        ("TE on HTTP/1.0", post("Transfer-Encoding: chunked", &chunked).replace("HTTP/1.1\r\nHost", "HTTP/1.0\r\nHost"), Refused),
        ("space before colon", post("Content-Length : 5", "hello"), Refused),
        ("space before name", post(" Content-Length: 5", "hello"), Refused),
        ("empty name", post(": x\r\nContent-Length: 5", "hello"), Refused),
        ("CR in value", post("X: a\rContent-Length: 5", "hello"), Refused),
        ("NUL in value", post("X: a\0b", ""), Refused),
        ("chunk size with LF only", post(te, &format!("5\nhello\r\n{chunked}")), Refused),
        ("chunk without CRLF", post(te, &format!("5\r\nhello{chunked}")), Refused),
        ("chunk size overflow", post(te, &format!("fffffffffffffffff\r\nhello\r\n{chunked}")), Refused),
        ("chunk size signed", post(te, &format!("+5\r\nhello\r\n{chunked}")), Refused),
        ("chunk size in 0x", post(te, &format!("0x5\r\nhello\r\n{chunked}")), Refused),
        ("LF in extension", post(te, &format!("5;a\nb\r\nhello\r\n{chunked}")), Refused),
        ("long extension", post(te, &long_extension), Refused),
        ("no Host", "GET /first HTTP/1.1\r\n\r\n".to_owned(), Refused),
        ("two Hosts", "GET /first HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("Host not a host", "GET /first HTTP/1.1\r\nHost: app.test/x\r\n\r\n".to_owned(), Refused),
        ("port with a sign", "GET /first HTTP/1.1\r\nHost: app.test:+22\r\n\r\n".to_owned(), Refused),
        ("user in Host", "GET /first HTTP/1.1\r\nHost: x@app.test\r\n\r\n".to_owned(), Refused),
        ("target differs from Host", "GET http://other.test/first HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("dots", "GET /a/../first HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("encoded dots", "GET /a/%2e%2e%2ffirst HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("CONNECT", "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n".to_owned(), Refused),
        ("TRACE", "TRACE /first HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("no target", "GET HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Refused),
        ("WebSocket with a body", format!("GET /first HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n\r\n{NEXT}", NEXT.len()), Refused),
        // These are well-formed, and have to stay so on their way.
        ("tab before TE", post("Transfer-Encoding:\tchunked", "5\r\nhello\r\n0\r\n\r\n"), Passed),
        ("TE in capitals", post("TRANSFER-ENCODING: CHUNKED", "5\r\nhello\r\n0\r\n\r\n"), Passed),
        ("trailers", post(te, "5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: x\r\n\r\n"), Passed),
        ("underscore CL", post("Content_Length: 5\r\nContent-Length: 5", "hello"), Passed),
        ("CL through Connection", post("Connection: content-length\r\nContent-Length: 5", "hello"), Passed),
        ("body of HEAD", post("Content-Length: 5", "hello").replace("POST", "HEAD"), Passed),
        ("body of OPTIONS", post("Content-Length: 5", "hello").replace("POST", "OPTIONS"), Passed),
        ("h2c", "GET /first HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n".to_owned(), Passed),
        ("absolute target", "GET http://app.test/first HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Passed),
        ("absolute target with its port", "GET http://app.test:80/first HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Passed),
        ("trailers that are declared", post(&format!("{te}\r\nTrailer: Host, X-T"), "5\r\nhello\r\n0\r\nX-T: v\r\nHost: evil\r\n\r\n").replace("Trailer: Host, X-T", "Trailer: Host"), Passed),
        ("fragment", "GET /first#x HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), Passed),
    ];
    let origin = Origin::start(|peer, request| {
        peer.body(&request, |_| ())?;
        if request.method == "HEAD" {
            peer.raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        } else {
            peer.reply("200 OK", "", b"fine")?;
        }
        Ok(true)
    });
    let edge = plain_edge(&origin);
    for (name, bytes, expected) in cases {
        check(&edge, &origin, name, &bytes, expected);
    }
}

fn check(edge: &Edge, origin: &Origin, name: &str, bytes: &str, expected: Expect) {
    let before = origin.heads().len();
    let mut client = Connection::plain(edge.http());
    client
        .socket()
        .set_read_timeout(Some(Duration::from_millis(400)))
        .expect("a timeout");
    // The edge may have closed before everything is written.
    drop(client.try_send(bytes));
    let answer = client.try_answer(!bytes.starts_with("HEAD"));
    let status = answer.as_ref().map_or(0, |answer| answer.status);
    // Whatever else comes: it must not come from the replica.
    let rest = client.rest().unwrap_or_default();
    let heads = origin.heads().split_off(before);
    for head in &heads {
        assert_clean(name, head);
    }
    match expected {
        Refused => {
            assert!(
                (400..500).contains(&status) || status == 0,
                "{name}: {answer:?}"
            );
            assert!(
                !heads.iter().any(|head| head.contains("/smuggled")),
                "{name}: {heads:?}"
            );
            let complete = heads.iter().any(|head| !head.contains("chunked"));
            assert!(!complete, "{name}: a request was passed on: {heads:?}");
            let id = answer.as_ref().map(|answer| answer.header("x-request-id"));
            if let Ok(id) = id {
                let id = id.unwrap_or_else(|| panic!("{name}: no request id: {answer:?}"));
                edge.log_line(name, |line| {
                    line["request_id"] == id && line["status"] == status
                });
            }
        }
        Passed => {
            assert_eq!(status, 200, "{name}: {answer:?} {heads:?}");
            assert_eq!(
                heads.len(),
                1,
                "{name}: {heads:?} {}",
                String::from_utf8_lossy(&rest)
            );
        }
    }
}

/// One framing, headers of ours, nothing that only concerned the client's connection.
fn assert_clean(name: &str, head: &str) {
    let lower = head.to_ascii_lowercase();
    let count = |prefix: &str| {
        lower
            .lines()
            .filter(|line| line.starts_with(prefix))
            .count()
    };
    assert!(
        count("content-length:") + count("transfer-encoding:") <= 1,
        "{name}: {head}"
    );
    assert_eq!(count("host:"), 1, "{name}: {head}");
    assert_eq!(count("x-forwarded-for: 127.0.0.1"), 1, "{name}: {head}");
    assert_eq!(count("x-request-id:"), 1, "{name}: {head}");
    for gone in [
        "te:",
        "trailer:",
        "upgrade:",
        "http2-settings:",
        "keep-alive:",
        "content_length",
    ] {
        assert_eq!(count(gone), 0, "{name}: {head}");
    }
    assert!(lower.contains(" /first http/1.1"), "{name}: {head}");
}

/// After an early answer the rest of the body is never taken for a request.
pub fn an_unread_body_is_not_a_request() {
    let origin = Origin::usual("a");
    let mut edge = plain_edge(&origin);
    edge.route("empty", "empty.test", "/", &[]);
    edge.push();
    let body = format!("{NEXT}{NEXT}");
    let large = format!("{}{NEXT}", "x".repeat(1024 * 1024));
    for (host, expect, body, status) in [
        ("unknown.test", "", &body, 404),
        ("empty.test", "", &body, 503),
        ("empty.test", "Expect: 100-continue\r\n", &body, 503),
        ("empty.test", "", &large, 503),
    ] {
        let mut client = Connection::plain(edge.http());
        let length = body.len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\n{expect}Content-Length: {length}\r\n\r\n"
        ));
        drop(client.try_send(body));
        let answer = client.try_answer(true).expect("an answer that can be read");
        assert_eq!(answer.status, status, "{host}");
        // Either the connection is closed, or what follows the body is the next request.
        if client
            .try_send("GET /after HTTP/1.1\r\nHost: app.test\r\n\r\n")
            .is_ok()
            && let Ok(next) = client.try_answer(true)
        {
            assert_eq!(next.text(), "a");
        }
        let heads = origin.heads();
        assert!(
            !heads.iter().any(|head| head.contains("/smuggled")),
            "{host}: {heads:?}"
        );
    }
}

/// Bytes after an upgrade request that was not agreed to are requests, and go the way of requests.
pub fn nothing_is_tunnelled_before_the_101() {
    let origin = Origin::start(|peer, _| peer.reply("200 OK", "", b"no").map(|()| true));
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    client.send(
        "GET /first HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         \r\nGET /next HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    );
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.answer().status, 200);
    let heads = origin.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    assert!(heads[1].contains("x-forwarded-for: 127.0.0.1"), "{heads:?}");
    assert!(!heads[1].contains("6.6.6.6"), "{heads:?}");
}

/// A replica that says more than it was asked does not get to answer the next request.
pub fn a_second_answer_is_not_given_to_the_next_client() {
    let origin = Origin::start(|peer, request| {
        peer.body(&request, |_| ())?;
        let honest = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhonest";
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        peer.raw(if request.target == "/poison" {
            format!("{honest}{poison}")
        } else {
            honest.to_owned()
        })?;
        Ok(true)
    });
    let edge = plain_edge(&origin);
    for _ in 0..20 {
        let mut first = Connection::plain(edge.http());
        assert_eq!(first.get("app.test", "/poison").text(), "honest");
        assert_eq!(first.get("app.test", "/").text(), "honest");
    }
}

/// A switch of protocols that nobody asked for, and one in the wrong form.
pub fn an_unasked_101_is_a_failure() {
    let origin = Origin::start(|peer, request| {
        let upgrade = if request.target == "/h2c" {
            "h2c"
        } else {
            "websocket"
        };
        peer.raw(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        ))?;
        Ok(true)
    });
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    assert_eq!(client.get("app.test", "/").status, 502);
    client.send(
        "GET /h2c HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.answer().status, 502);
}

pub fn expect_continue_does_not_desynchronise() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    client.send(
        "POST /upload HTTP/1.1\r\nHost: app.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    let interim = client.head().expect("100");
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    client.send("helloGET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.answer().text(), "5");
    assert_eq!(client.answer().text(), "a");
    wait_for("both requests", Duration::from_secs(1), || {
        (origin.heads().len() == 2).then_some(())
    });
    assert!(!origin.heads()[0].to_ascii_lowercase().contains("expect"));
}
