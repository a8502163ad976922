//! Bodies, heads and what stands beside them, byte for byte as clients and replicas may send them.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::edge::{Edge, wait_for};
use crate::http1::Connection;
use crate::origin::{Origin, Peer, Request};

/// An edge that serves plain HTTP.
fn plain_edge(origin: &Origin) -> Edge {
    let mut edge = Edge::start();
    edge.state.https.clear();
    edge.route("web", "app.test", "/", &[("r1", origin.address)]);
    edge.push();
    edge
}

/// An origin that keeps the bodies it gets.
fn keeper() -> (Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = Arc::clone(&bodies);
    let origin = Origin::start(move |peer, request| {
        let mut body = Vec::new();
        peer.body(&request, |piece| body.extend_from_slice(piece))?;
        kept.lock().expect("bodies").push(body);
        match request.method.as_str() {
            "HEAD" => peer.raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")?,
            _ => peer.reply("200 OK", "", b"ok")?,
        }
        Ok(true)
    });
    (origin, bodies)
}

pub fn a_get_keeps_its_body() {
    let (origin, bodies) = keeper();
    let edge = plain_edge(&origin);
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        for pieces in [
            vec!["7\r\n{\"a\":1}\r\n0\r\n\r\n"],
            vec!["1\r\n{\r\n", "6\r\n\"a\":1}\r\n", "0\r\n\r\n"],
        ] {
            let mut client = Connection::plain(edge.http());
            let head = format!("{method} /_search HTTP/1.1\r\nHost: app.test\r\n");
            client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
            pieces.iter().for_each(|piece| client.send(piece));
            let answer = client.try_answer(method != "HEAD").expect("an answer");
            assert_eq!(answer.status, 200, "{method}");
            let body = bodies.lock().expect("bodies").pop();
            assert_eq!(body.as_deref(), Some(&b"{\"a\":1}"[..]), "{method}");
            // The connection is where both think it is.
            assert_eq!(client.get("app.test", "/after").text(), "ok");
        }
    }
}

pub fn a_request_without_a_body_stays_one() {
    let (origin, _) = keeper();
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(client.answer().text(), "ok");
    let head = origin.heads().remove(0).to_ascii_lowercase();
    assert!(
        !head.contains("transfer-encoding") && !head.contains("content-length"),
        "{head}"
    );
}

pub fn transfer_encoding_overrides_content_length_in_answers() {
    let origin = Origin::start(|peer, _| {
        peer.raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        peer.raw("a\r\n0123456789\r\n0\r\n\r\n")?;
        Ok(true)
    });
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    for _ in 0..2 {
        let answer = client.get("app.test", "/");
        assert_eq!(answer.text(), "0123456789");
        assert_eq!(answer.header("content-length"), None, "{}", answer.head);
    }
}

pub fn answers_in_unknown_encodings_are_failures() {
    let origin = Origin::start(|peer, request| {
        let fields = match request.target.as_str() {
            "/gzip" => "Transfer-Encoding: gzip, chunked",
            "/twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "/lengths" => "Content-Length: 5\r\nContent-Length: 6",
            _ => "Content-Length: 5, 5",
        };
        peer.raw(format!(
            "HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))?;
        Ok(false)
    });
    let edge = plain_edge(&origin);
    for (path, status) in [
        ("/gzip", 502),
        ("/twice", 502),
        ("/lengths", 502),
        ("/equal", 200),
    ] {
        let mut client = Connection::plain(edge.http());
        let answer = client.get("app.test", path);
        assert_eq!(answer.status, status, "{path}");
        if status == 200 {
            assert_eq!(answer.header("content-length"), Some("5"));
        }
    }
}

pub fn refused_requests_are_answered_and_logged() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let long = "x".repeat(70_000);
    let many = "a: b\r\n".repeat(200);
    for (name, bytes, status) in [
        ("space", "GET /space HTTP/1.1\r\nHost: app.test\r\nX : y\r\n\r\n".to_owned(), 400),
        ("nul", "GET /nul HTTP/1.1\r\nHost: app.test\r\nX: a\0b\r\n\r\n".to_owned(), 400),
        ("fold", "GET /fold HTTP/1.1\r\nHost: app.test\r\nX: y\r\n z\r\n\r\n".to_owned(), 400),
        ("both", "POST /both HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /follow HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), 400),
        ("lengths", "POST /lengths HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 400),
        ("version", "GET /version HTTP/2.0\r\nHost: app.test\r\n\r\n".to_owned(), 400),
        ("long", format!("GET /long?{long} HTTP/1.1\r\nHost: app.test\r\n\r\n"), 414),
        ("field", format!("GET /field HTTP/1.1\r\nHost: app.test\r\nX: {long}\r\n\r\n"), 431),
        ("many", format!("GET /many HTTP/1.1\r\nHost: app.test\r\n{many}\r\n"), 431),
        ("connect", "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n\r\n".to_owned(), 405),
        ("head", "HEAD /head HTTP/1.1\r\nHost: app.test\r\nX : y\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = Connection::plain(edge.http());
        drop(client.try_send(&bytes));
        let answer = client.try_answer(name != "head").expect("an answer");
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{name}: {answer:?}"));
        let line = edge.log_line(name, |line| line["request_id"] == id);
        assert_eq!(line["status"], status, "{name}");
        let path = if name == "connect" { "app.test:80".to_owned() } else { format!("/{name}") };
        assert_eq!(line["path"], path.as_str(), "{name}");
        assert!(!line["cause"].as_str().unwrap_or_default().is_empty(), "{name}");
        assert!(!bytes.starts_with("GET") || line["method"] == "GET", "{name}");
        assert!(client.is_closed(), "{name}");
    }
    assert_eq!(origin.heads(), Vec::<String>::new());
    // What is no request at all.
    let mut client = Connection::plain(edge.http());
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    edge.log_line("garbage", |line| {
        line["cause"] == "bad request: the method is not one"
    });
}

/// A refusal does not overtake the answers before it.
pub fn a_refused_request_waits_for_its_turn() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    let sound = "GET /slow HTTP/1.1\r\nHost: app.test\r\n\r\n";
    client.send(format!(
        "{sound}{sound}GET /x HTTP/1.1\r\nX : y\r\n\r\n{sound}"
    ));
    assert_eq!(client.answer().text(), "a slow");
    assert_eq!(client.answer().text(), "a slow");
    assert_eq!(client.answer().status, 400);
    assert!(client.is_closed());
    assert_eq!(origin.heads().len(), 2);
}

pub fn a_slow_head_is_answered_and_logged() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    let patience = Some(Duration::from_secs(25));
    client
        .socket()
        .set_read_timeout(patience)
        .expect("a timeout");
    client.send("GET /late HTTP/1.1\r\nHost: app.test\r\n");
    assert_eq!(client.answer().status, 408);
    let line = edge.log_line("the slow one", |line| line["status"] == 408);
    assert_eq!(
        (line["path"].as_str(), line["host"].as_str()),
        (Some("/late"), Some("app.test"))
    );
}

pub fn targets_that_are_no_uri_are_passed_on() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    for (sent, arrives) in [
        ("/api?filter={\"a\":\"b\"}", "/api?filter={%22a%22:%22b%22}"),
        ("/a<b>`c\"d?e=<f>`\"", "/a%3Cb%3E%60c\"d?e=%3Cf%3E`%22"),
        ("/plain?a=b%22", "/plain?a=b%22"),
        ("/{x}|^\\?{x}|^\\[]'", "/{x}|^\\?{x}|^\\[]'"),
    ] {
        let mut client = Connection::plain(edge.http());
        assert_eq!(client.get("app.test", sent).status, 200, "{sent}");
        let head = origin.heads().pop().expect("a head");
        assert!(
            head.starts_with(&format!("GET {arrives} HTTP/1.1\n")),
            "{head}"
        );
    }
    let mut client = Connection::plain(edge.http());
    client.send(b"GET /caf\xe9?\xff HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let head = origin.heads().pop().expect("a head");
    assert!(head.starts_with("GET /caf%E9?%FF HTTP/1.1\n"), "{head}");
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";

pub fn interim_answers_are_passed_on() {
    let origin = Origin::start(|peer, request| {
        peer.body(&request, |_| ())?;
        peer.raw("HTTP/1.1 100 Continue\r\n\r\n")?;
        peer.raw("HTTP/1.1 102 Processing\r\n\r\n")?;
        peer.raw(HINTS)?;
        // The client has the hints before there is an answer.
        peer.writer.flush()?;
        if request.target == "/wait" {
            wait_at_file(&request)?;
        }
        peer.reply("200 OK", "", b"ok")?;
        Ok(true)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut client = Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS");
    let marker = edge.path("seen");
    client.send(format!(
        "GET /wait HTTP/1.1\r\nHost: app.test\r\nX-Marker: {}\r\n\r\n",
        marker.display()
    ));
    let head = client.head().expect("102");
    assert!(head.starts_with("HTTP/1.1 102 "), "{head}");
    let head = client.head().expect("103");
    assert_eq!(
        head,
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload"
    );
    std::fs::write(&marker, "").expect("to write");
    assert_eq!(client.answer().text(), "ok");
    // A client of HTTP/1.0 does not know them.
    client = Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS");
    client.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n");
    let head = client.head().expect("an answer");
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
}

fn wait_at_file(request: &Request) -> std::io::Result<()> {
    let marker = request.header("x-marker").unwrap_or_default();
    wait_for(
        "the client to have seen the hints",
        Duration::from_secs(5),
        || std::fs::exists(marker).is_ok_and(|is| is).then_some(()),
    );
    Ok(())
}

/// However close the two are, and with requests one after the other.
pub fn interim_answers_come_before_the_final_one() {
    let origin = Origin::start(|peer, _| {
        peer.raw(format!(
            "{HINTS}{HINTS}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        ))?;
        Ok(true)
    });
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    let request = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    client.send(request.repeat(50));
    for _ in 0..50 {
        for _ in 0..2 {
            let head = client.head().expect("hints");
            assert!(head.starts_with("HTTP/1.1 103 "), "{head}");
        }
        assert_eq!(client.answer().text(), "ok");
    }
}

fn with_trailers(peer: &mut Peer, request: Request) -> std::io::Result<bool> {
    // The usual reader of bodies takes no trailers.
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some() {
        let mut space = [0; 1024];
        while !body.ends_with(b"\r\n\r\n") {
            let count = peer.read(&mut space)?;
            body.extend_from_slice(&space[..count]);
        }
    }
    let echo: String = match body.is_empty() {
        true => "-".to_owned(),
        false => String::from_utf8_lossy(&body).replace("\r\n", "|"),
    };
    peer.raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T, Content-Length\r\n\r\n",
    )?;
    peer.raw(format!("{:x}\r\n{echo}\r\n", echo.len()))?;
    peer.raw("0\r\nX-T: v\r\nContent-Length: 3\r\n\r\n")?;
    Ok(true)
}

pub fn trailers_are_passed_both_ways() {
    let origin = Origin::start(with_trailers);
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    client.send(
        "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: TE\r\n\
         Trailer: X-U, Host\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-U: w\r\nHost: evil\r\nX-Undeclared: z\r\n\r\n",
    );
    let head = client.head().expect("a head");
    assert!(head.to_ascii_lowercase().contains("trailer: x-t"), "{head}");
    let echo = client.chunk().expect("a chunk").expect("data");
    let echo = String::from_utf8_lossy(&echo).to_ascii_lowercase();
    assert_eq!(echo, "2|hi|0|x-u: w||");
    assert_eq!(client.take(3).expect("the last chunk"), b"0\r\n");
    let trailers = client.head().expect("trailers");
    assert_eq!(trailers, "x-t: v");
    let seen = origin.heads().remove(0).to_ascii_lowercase();
    assert!(
        seen.contains("\nte: trailers\n") && seen.contains("\ntrailer: x-u\n"),
        "{seen}"
    );
    // Who does not take them gets none.
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let head = client.head().expect("a head");
    assert!(!head.to_ascii_lowercase().contains("trailer:"), "{head}");
    let rest = client.take(11).expect("a body without trailers");
    assert_eq!(rest, b"1\r\n-\r\n0\r\n\r\n");
}

pub fn the_server_as_a_whole_has_options() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    client.send("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let answer = client.answer();
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("allow")
            .is_some_and(|allow| allow.contains("GET"))
    );
    client.send("GET * HTTP/1.1\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    assert_eq!(origin.heads(), Vec::<String>::new());
    let mut client = Connection::plain(edge.http());
    for target in [
        "http://app.test",
        "http://app.test/",
        "HTTP://APP.TEST:80/?x=1",
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
        assert_eq!(client.answer().text(), "a", "{target}");
        let head = origin.heads().pop().expect("a head");
        assert!(head.starts_with("GET /"), "{head}");
    }
}

pub fn the_port_is_the_one_that_was_spoken_to() {
    let origin = Origin::usual("a");
    let edge = plain_edge(&origin);
    let mut client = Connection::plain(edge.http());
    let expected = format!("\nx-forwarded-port: {}\n", edge.http().port());
    for host in ["app.test", "app.test:22", "app.test:"] {
        let head = client.get(host, "/head").text().to_ascii_lowercase();
        assert!(head.contains(&expected), "{host}: {head}");
    }
    for host in [
        "app.test:+22",
        "app.test:x",
        "app.test:99999",
        "app.test:2 2",
    ] {
        let mut client = Connection::plain(edge.http());
        assert_eq!(client.get(host, "/head").status, 400, "{host}");
    }
}
