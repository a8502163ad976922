//! HTTP/2 from raw frames: what a client can say that HTTP/1 cannot, and must not reach a replica.

use std::io;
use std::time::Duration;

use crate::edge::{ACCESS_LOG, Edge, wait_for};
use crate::http1::Connection;
use crate::origin::Origin;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// An HTTP/2 connection without a mind of its own.
struct Raw {
    connection: Connection,
}

/// What came back on a stream.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// A head with status 200.
    Ok,
    /// A head with another status.
    Refused,
    /// RST_STREAM with this code.
    Reset(u32),
    /// The connection is over; GOAWAY with this code, if there was one.
    Gone(Option<u32>),
    /// Nothing came.
    Silence,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without indexing and without Huffman: any byte can be in them.
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name.as_bytes());
        string(&mut bytes, value);
    }
    bytes
}

/// A length with a prefix of seven bits, then the bytes.
fn string(bytes: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        bytes.push(u8::try_from(text.len()).expect("short"));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).expect("seven bits") | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("seven bits"));
    }
    bytes.extend(text);
}

type Fields<'a> = Vec<(&'a str, &'a [u8])>;

fn get<'a>(path: &'a str, more: &[(&'a str, &'a [u8])]) -> Fields<'a> {
    let mut fields: Fields<'a> = vec![
        (":method", b"GET"),
        (":scheme", b"https"),
        (":authority", b"app.test"),
        (":path", path.as_bytes()),
    ];
    fields.extend(more);
    fields
}

impl Raw {
    fn connect(edge: &Edge) -> Self {
        let ca = &edge.authority.pem;
        let mut connection =
            Connection::tls_with(edge.https(), "app.test", ca, b"h2").expect("TLS");
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        connection.send(frame(SETTINGS, 0, 0, &[]));
        Self { connection }
    }

    fn request(&mut self, stream: u32, fields: &[(&str, &[u8])]) {
        let bytes = frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields));
        drop(self.connection.try_send(bytes));
    }

    fn read(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let head = self.connection.take(9)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.connection.take(length)?;
        Ok((head[3], head[4], stream, payload))
    }

    fn outcome(&mut self, wanted: u32) -> Outcome {
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        let mut goaway = None;
        loop {
            let (kind, flags, stream, payload) = match self.read() {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Silence,
                Err(_) => return Outcome::Gone(goaway),
            };
            match kind {
                HEADERS if stream == wanted => {
                    return if is_200(&payload) {
                        Outcome::Ok
                    } else {
                        Outcome::Refused
                    };
                }
                RST_STREAM if stream == wanted => return Outcome::Reset(code(&payload)),
                GOAWAY => goaway = Some(code(&payload[4..8])),
                SETTINGS if flags == 0 => {
                    drop(self.connection.try_send(frame(SETTINGS, 1, 0, &[])));
                }
                PING if flags == 0 => {
                    drop(self.connection.try_send(frame(PING, 1, 0, &payload)));
                }
                _ => {}
            }
        }
    }
}

/// 200 is index 8 of the static table. A change of the dynamic table's size may come first.
fn is_200(block: &[u8]) -> bool {
    let block = if block[0] & 0xe0 == 0x20 {
        &block[1..]
    } else {
        block
    };
    block[0] == 0x88
}

pub fn what_http1_cannot_say_is_refused() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let long = vec![b'x'; 70_000];
    let cases: Vec<(&str, Fields<'_>)> = vec![
        (
            "CRLF in a value",
            get("/", &[("x", b"a\r\nX-Forwarded-For: 6.6.6.6")]),
        ),
        ("LF in a value", get("/", &[("x", b"a\nb")])),
        ("NUL in a value", get("/", &[("x", b"a\0b")])),
        ("CRLF in a name", get("/", &[("x\r\ny", b"z")])),
        ("colon in a name", get("/", &[("x:y", b"z")])),
        ("capitals in a name", get("/", &[("X-Up", b"z")])),
        ("space in a name", get("/", &[("x y", b"z")])),
        ("CRLF in the path", get("/ HTTP/1.1\r\nX: y", &[])),
        ("space in the path", get("/a b", &[])),
        ("no slash", get("first", &[])),
        ("dots in the path", get("/a/../b", &[])),
        (
            "Transfer-Encoding",
            get("/", &[("transfer-encoding", b"chunked")]),
        ),
        ("Connection", get("/", &[("connection", b"keep-alive")])),
        ("Upgrade", get("/", &[("upgrade", b"websocket")])),
        ("TE", get("/", &[("te", b"chunked")])),
        ("another Host", get("/", &[("host", b"other.test")])),
        (
            "two Hosts",
            get("/", &[("host", b"app.test"), ("host", b"app.test")]),
        ),
        ("pseudo-header after headers", {
            let mut fields = get("/", &[("x", b"y")]);
            fields.push((":path", b"/second"));
            fields
        }),
        ("unknown pseudo-header", {
            let mut fields = get("/", &[]);
            fields.insert(0, (":protocol", b"websocket"));
            fields
        }),
        (
            "CONNECT",
            vec![(":method", b"CONNECT"), (":authority", b"app.test:80")],
        ),
        ("space in the method", {
            let mut fields = get("/", &[]);
            fields[0] = (":method", b"GET / HTTP/1.1\r\nX: y");
            fields
        }),
        ("headers beyond the limit", get("/", &[("x", &long)])),
        (
            "too many fields",
            get("/", &vec![("a", b"b".as_slice()); 200]),
        ),
        (
            "too many cookie crumbs",
            get("/", &vec![("cookie", b"b".as_slice()); 200]),
        ),
        (
            "length without a body",
            get("/", &[("content-length", b"5")]),
        ),
    ];
    for (name, fields) in cases {
        let mut raw = Raw::connect(&edge);
        raw.connection
            .socket()
            .set_read_timeout(Some(Duration::from_secs(3)))
            .expect("a timeout");
        raw.request(1, &fields);
        let outcome = raw.outcome(1);
        assert!(
            !matches!(outcome, Outcome::Ok | Outcome::Silence),
            "{name}: {outcome:?}"
        );
        assert_eq!(origin.heads(), Vec::<String>::new(), "{name}: {outcome:?}");
    }
}

pub fn a_request_arrives_as_http1() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    let more: Vec<(&str, &[u8])> = vec![
        ("cookie", b"a=1"),
        ("cookie", b"b=2"),
        ("te", b"trailers"),
        ("x_forwarded_for", b"6.6.6.6"),
        ("x-forwarded-for", b"6.6.6.6"),
    ];
    raw.request(1, &get("/head?q=%2F", &more));
    assert_eq!(raw.outcome(1), Outcome::Ok);
    let head = origin.heads().remove(0);
    let has = |line: &str| head.lines().any(|other| other.eq_ignore_ascii_case(line));
    assert!(head.starts_with("GET /head?q=%2F HTTP/1.1\n"), "{head}");
    assert!(has("host: app.test") && has("cookie: a=1; b=2"), "{head}");
    assert!(
        has("x-forwarded-for: 127.0.0.1") && !head.contains("6.6.6.6"),
        "{head}"
    );
    assert!(has("te: trailers") && has("connection: te"), "{head}");
}

pub fn a_body_of_another_length_is_refused() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    for (length, body) in [("5", b"hello GET /smuggled".as_slice()), ("50", b"hello")] {
        let mut raw = Raw::connect(&edge);
        let mut fields = get("/upload", &[("content-length", length.as_bytes())]);
        fields[0] = (":method", b"POST");
        raw.connection
            .send(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
        raw.connection.send(frame(DATA, END_STREAM, 1, body));
        let outcome = raw.outcome(1);
        assert!(
            !matches!(outcome, Outcome::Ok | Outcome::Silence),
            "{outcome:?}"
        );
    }
    let smuggled = origin.heads().iter().any(|head| head.contains("/smuggled"));
    assert!(!smuggled, "{:?}", origin.heads());
}

/// CVE-2023-44487: requests that are reset at once.
pub fn rapid_resets_end_the_connection() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    let mut bytes = Vec::new();
    for number in 0..2000 {
        let stream = 2 * number + 1;
        bytes.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(&get("/", &[])),
        ));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    drop(raw.connection.try_send(bytes));
    assert!(matches!(raw.outcome(u32::MAX), Outcome::Gone(_)));
    assert!(origin.heads().len() < 1000, "{}", origin.heads().len());
    still_serves(&edge);
}

/// CVE-2025-8671: the server is made to reset streams.
pub fn made_resets_end_the_connection() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let mut bytes = frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &block(&get("/slow", &[])),
        );
        // An increment of 0 is an error of the stream.
        bytes.extend(frame(WINDOW_UPDATE, 0, stream, &0_u32.to_be_bytes()));
        if raw.connection.try_send(bytes).is_err() {
            break;
        }
    }
    assert!(matches!(raw.outcome(u32::MAX), Outcome::Gone(_)));
    still_serves(&edge);
}

pub fn a_flood_of_continuations_ends_the_connection() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    raw.connection
        .send(frame(HEADERS, END_STREAM, 1, &block(&get("/", &[]))));
    let piece = block(&[("x", &[b'y'; 16_000])]);
    let sent = (0..5000).take_while(|_| {
        raw.connection
            .try_send(frame(CONTINUATION, 0, 1, &piece))
            .is_ok()
    });
    assert!(sent.count() < 5000, "80 MB of headers were taken");
    assert!(matches!(
        raw.outcome(1),
        Outcome::Gone(_) | Outcome::Reset(_)
    ));
    still_serves(&edge);
}

pub fn a_flood_of_empty_data_ends_the_connection() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    let mut fields = get("/upload", &[]);
    fields[0] = (":method", b"POST");
    raw.connection
        .send(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    let hundred = frame(DATA, 0, 1, &[]).repeat(100);
    let sent = (0..5000).take_while(|_| raw.connection.try_send(&hundred).is_ok());
    assert!(
        sent.count() < 5000,
        "half a million empty frames were taken"
    );
    still_serves(&edge);
}

fn still_serves(edge: &Edge) {
    wait_for("the edge to serve others", Duration::from_secs(5), || {
        let mut raw = Raw::connect(edge);
        raw.request(1, &get("/", &[]));
        (raw.outcome(1) == Outcome::Ok).then_some(())
    });
}

pub fn a_get_with_data_keeps_it() {
    let bodies = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = std::sync::Arc::clone(&bodies);
    let origin = Origin::start(move |peer, request| {
        let mut body = Vec::new();
        peer.body(&request, |piece| body.extend_from_slice(piece))?;
        kept.lock().expect("bodies").push(body);
        peer.reply("200 OK", "", b"ok").map(|()| true)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    for body in [b"{\"a\":1}".as_slice(), b""] {
        let mut raw = Raw::connect(&edge);
        let fields = get("/_search", &[]);
        let head = frame(HEADERS, END_HEADERS, 1, &block(&fields));
        raw.connection.send(head);
        raw.connection.send(frame(DATA, END_STREAM, 1, body));
        assert_eq!(raw.outcome(1), Outcome::Ok);
        assert_eq!(bodies.lock().expect("bodies").pop().as_deref(), Some(body));
    }
    let head = origin.heads().pop().expect("a head");
    assert!(
        !head.contains("transfer-encoding"),
        "no body, no framing: {head}"
    );
}

/// See `pushes.rs`, where HTTP/1 does.
pub fn a_request_that_was_waited_for_goes_where_the_new_state_says() {
    let (old, new) = (Origin::usual("old"), Origin::usual("new"));
    let mut edge = Edge::with_replicas(&[("r1", old.address)]);
    edge.state.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    edge.push();
    let mut raw = Raw::connect(&edge);
    let mut fields = get("/head", &[]);
    fields[0].1 = b"POST";
    fields.extend([
        ("content-length", b"4".as_slice()),
        ("x-forwarded-for", b"9.9.9.9".as_slice()),
    ]);
    raw.connection
        .send(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    // Once this is answered the request has been read.
    raw.connection.send(frame(PING, 0, 0, &[7; 8]));
    while !matches!(raw.read().expect("a frame"), (PING, 1, ..)) {}
    edge.state.trusted_proxies.clear();
    edge.state.routes.clear();
    edge.route("next", "app.test", "/", &[("r2", new.address)]);
    edge.push();
    raw.connection.send(frame(DATA, END_STREAM, 1, b"body"));
    assert_eq!(raw.outcome(1), Outcome::Ok);
    assert_eq!(old.heads(), Vec::<String>::new());
    let head = new.heads().pop().expect("a head");
    assert!(head.contains("\nx-real-ip: 9.9.9.9\n"), "{head}");
    let line = edge.log_line("the request", |line| line["path"] == "/head");
    assert_eq!(line["client_ip"], "9.9.9.9");
    assert_eq!(
        (line["route"].as_str(), line["replica"].as_str()),
        (Some("next"), Some("r2"))
    );
}

/// On which HTTP/2 was agreed, and of which nothing, or half of a greeting, comes.
pub fn a_connection_without_a_preface_is_closed() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let ca = &edge.authority.pem;
    let greetings = [
        b"".as_slice(),
        b"PRI * HTTP",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
    ];
    let mut silent: Vec<Connection> = greetings
        .iter()
        .map(|greeting| {
            let mut connection =
                Connection::tls_with(edge.https(), "app.test", ca, b"h2").expect("TLS");
            connection.send(greeting);
            let patience = Some(Duration::from_secs(40));
            connection
                .socket()
                .set_read_timeout(patience)
                .expect("a timeout");
            connection
        })
        .collect();
    for (connection, greeting) in silent.iter_mut().zip(greetings) {
        let end = connection.rest();
        let timed_out = end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(!timed_out, "{greeting:?}");
    }
}

pub fn targets_that_are_no_uri_are_passed_on() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    for (number, (sent, arrives)) in [
        ("/api?f={\"a\":\"b\"}", "/api?f={%22a%22:%22b%22}"),
        ("/a<b>`c\"?e=<f>`", "/a%3Cb%3E%60c\"?e=%3Cf%3E`"),
        ("/plain?%22", "/plain?%22"),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * u32::try_from(number).expect("few") + 1;
        raw.request(stream, &get(sent, &[("havre-stream", b"77")]));
        assert_eq!(raw.outcome(stream), Outcome::Ok, "{sent}");
        let head = origin.heads().pop().expect("a head");
        assert!(
            head.starts_with(&format!("GET {arrives} HTTP/1.1\n")),
            "{head}"
        );
        assert!(!head.contains("havre-stream"), "{head}");
    }
}

/// Header blocks of any size within the limit, with whatever the client's table holds.
pub fn long_header_blocks_pass() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    let long = vec![b'x'; 50_000];
    let fields = get("/head", &[("x-long", &long)]);
    let bytes = block(&fields);
    let (first, rest) = bytes.split_at(16_000);
    raw.connection.send(frame(HEADERS, END_STREAM, 1, first));
    let mut pieces = rest.chunks(16_000).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_some() {
            0
        } else {
            END_HEADERS
        };
        raw.connection.send(frame(CONTINUATION, flags, 1, piece));
    }
    assert_eq!(raw.outcome(1), Outcome::Ok);
    assert!(origin.heads()[0].len() > 50_000);
    // `:path` goes into the table, and is named from there.
    let mut fields = block(&get("/", &[])[..3]);
    fields.extend([0x44, 4, b'/', b'"', b'?', b'"']);
    raw.connection
        .send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &fields));
    assert_eq!(raw.outcome(3), Outcome::Ok);
    let mut fields = block(&get("/", &[])[..3]);
    fields.push(0x80 | 62);
    raw.connection
        .send(frame(HEADERS, END_STREAM | END_HEADERS, 5, &fields));
    assert_eq!(raw.outcome(5), Outcome::Ok);
    for head in &origin.heads()[1..] {
        assert!(head.starts_with("GET /\"?%22 HTTP/1.1\n"), "{head}");
    }
}

pub fn what_the_parser_refuses_is_logged() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let long = vec![b'x'; 70_000];
    let large = get("/large", &[("x", &long)]);
    for (path, fields, status) in [
        ("/capitals", get("/capitals?secret", &[("X-Up", b"z")]), 400),
        ("/break", get("/break", &[("x", b"a\r\nb")]), 400),
        ("/hop", get("/hop", &[("connection", b"close")]), 400),
        ("/a b", get("/a b", &[]), 400),
        ("/large", large, 431),
    ] {
        let mut raw = Raw::connect(&edge);
        let bytes = block(&fields);
        let mut pieces = bytes.chunks(16_000).peekable();
        let first = pieces.next().expect("a piece");
        let end = |more: bool| if more { 0 } else { END_HEADERS };
        let flags = END_STREAM | end(pieces.peek().is_some());
        drop(raw.connection.try_send(frame(HEADERS, flags, 1, first)));
        while let Some(piece) = pieces.next() {
            let flags = end(pieces.peek().is_some());
            drop(
                raw.connection
                    .try_send(frame(CONTINUATION, flags, 1, piece)),
            );
        }
        let outcome = raw.outcome(1);
        assert!(
            !matches!(outcome, Outcome::Ok | Outcome::Silence),
            "{path}: {outcome:?}"
        );
        let line = edge.log_line(path, |line| line["path"] == path);
        assert_eq!(
            (&line["status"], &line["method"]),
            (&status.into(), &"GET".into()),
            "{line}"
        );
        assert_eq!(
            (&line["host"], &line["protocol"]),
            (&"app.test".into(), &"HTTP/2".into())
        );
        assert!(
            line["request_id"].as_str().is_some_and(|id| id.len() == 32),
            "{line}"
        );
    }
    for (what, bytes, cause) in [
        (
            "a table",
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xbe]),
            "PROTOCOL_ERROR",
        ),
        (
            "a frame",
            frame(DATA, 0, 1, b"of no stream"),
            "PROTOCOL_ERROR",
        ),
        (
            "a size",
            frame(PING, 0, 0, &[0; 20_000]),
            "FRAME_SIZE_ERROR",
        ),
    ] {
        let mut raw = Raw::connect(&edge);
        raw.connection.send(bytes);
        assert!(matches!(raw.outcome(1), Outcome::Gone(_)), "{what}");
        let expected = format!("the connection was ended: HTTP/2 {cause}");
        edge.log_line(what, |line| line["cause"] == expected.as_str());
    }
    assert_eq!(origin.heads(), Vec::<String>::new());
    // What is answered has one line, and no other.
    let mut raw = Raw::connect(&edge);
    raw.request(1, &get("/once", &[]));
    assert_eq!(raw.outcome(1), Outcome::Ok);
    edge.log_line("the answer", |line| line["path"] == "/once");
    let log = std::fs::read_to_string(edge.path(ACCESS_LOG)).unwrap_or_default();
    assert_eq!(log.matches("/once").count(), 1);
}

pub fn interim_answers_are_passed_on() {
    let origin = Origin::start(|peer, request| {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
        peer.raw(hints)?;
        if request.target == "/twice" {
            peer.raw(hints)?;
        }
        peer.reply("200 OK", "", b"ok").map(|()| true)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut raw = Raw::connect(&edge);
    for stream in (1..41).step_by(2) {
        let path = if stream % 4 == 1 { "/" } else { "/twice" };
        raw.request(stream, &get(path, &[]));
    }
    // Of each stream: the hints, then the answer.
    let mut hints = std::collections::BTreeMap::<u32, usize>::new();
    let mut answered = 0;
    while answered < 20 {
        let (kind, _, stream, payload) = raw.read().expect("a frame");
        if kind != HEADERS {
            continue;
        }
        let text = String::from_utf8_lossy(&payload);
        if text.contains("103") && text.contains("</a.css>; rel=preload") {
            *hints.entry(stream).or_default() += 1;
        } else {
            assert!(is_200(&payload), "{text}");
            let expected = if stream % 4 == 1 { 1 } else { 2 };
            assert_eq!(hints.get(&stream), Some(&expected), "{stream}");
            answered += 1;
        }
    }
}

/// A client that opens no window: it costs the client nothing, and memory here.
pub fn answers_that_nobody_takes_are_few_for_one_address() {
    let origin = Origin::usual("a");
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let mut connections: Vec<Raw> = (0..6).map(|_| Raw::connect(&edge)).collect();
    for raw in &mut connections {
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let no_window = [0, 4, 0, 0, 0, 0];
        raw.connection.send(frame(SETTINGS, 0, 0, &no_window));
        for stream in (1..=200).step_by(2) {
            raw.request(stream, &get("/", &[]));
        }
    }
    let held = || {
        let status = edge.try_status().expect("a status");
        status.replicas["r1"].in_flight
    };
    wait_for("the answers to wait", Duration::from_secs(10), || {
        (held() == 600).then_some(())
    });
    wait_for(
        "most of them to be given up",
        Duration::from_secs(30),
        || (held() <= 256).then_some(()),
    );
    edge.log_line("one of them", |line| {
        line["cause"] == "the client took nothing of the answer for too long"
    });
    // Whoever takes answers is served, the same address included.
    drop(connections);
    let mut other = Raw::connect(&edge);
    other.request(1, &get("/", &[]));
    assert_eq!(other.outcome(1), Outcome::Ok);
}

pub fn a_connection_serves_what_its_certificate_covers() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.route("other", "other.test", "/", &[("r1", origin.address)]);
    edge.push();
    let mut raw = Raw::connect(&edge);
    let mut stream = 1;
    let mut ask = |method: &'static [u8], authority: &'static [u8], path| {
        let mut fields = get(path, &[]);
        fields[0] = (":method", method);
        fields[2] = (":authority", authority);
        raw.request(stream, &fields);
        stream += 2;
        raw.outcome(stream - 2)
    };
    assert_eq!(ask(b"GET", b"other.test", "/"), Outcome::Ok);
    assert_eq!(ask(b"OPTIONS", b"app.test", "*"), Outcome::Ok);
    assert_eq!(ask(b"GET", b"stranger.test", "/"), Outcome::Refused);
    assert_eq!(ask(b"GET", b"app.test:443", "/"), Outcome::Ok);
    let signed = ask(b"GET", b"app.test:+22", "/");
    assert!(
        matches!(signed, Outcome::Refused | Outcome::Reset(_)),
        "{signed:?}"
    );
    assert_eq!(origin.heads().len(), 2);
}

/// Some clients take an answer for none whose stream is reset before they have sent their body, also where
/// the reset says that there was no error.
pub fn an_own_answer_waits_for_a_small_body() {
    let edge = Edge::with_replicas(&[("r1", Origin::usual("a").address)]);
    let mut raw = Raw::connect(&edge);
    let lengths: [&[(&str, &[u8])]; 2] = [&[("content-length", b"2")], &[]];
    for (stream, length) in [1, 3].into_iter().zip(lengths) {
        let mut fields = get("/upload", length);
        fields[0] = (":method", b"POST");
        fields[2] = (":authority", b"stranger.test");
        let head = frame(HEADERS, END_HEADERS, stream, &block(&fields));
        raw.connection.send(head);
        let (mut is_answered, mut is_whole) = (false, false);
        while !is_whole {
            let (kind, flags, of, payload) = raw.read().expect("an answer");
            if of == stream {
                assert_ne!(kind, RST_STREAM, "{payload:?}");
                is_answered |= kind == HEADERS && !is_200(&payload);
                is_whole = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
            }
        }
        assert!(is_answered);
        raw.connection.send(frame(DATA, END_STREAM, stream, b"ok"));
        raw.connection.send(frame(PING, 0, 0, b"12345678"));
        loop {
            let (kind, flags, of, payload) = raw.read().expect("an echo");
            assert!(of != stream || kind != RST_STREAM, "{payload:?}");
            if kind == PING && flags & 1 != 0 {
                break;
            }
        }
    }
}
