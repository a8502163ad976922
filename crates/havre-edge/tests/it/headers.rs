//! What replicas learn of the client, and clients of us.

use crate::edge::Edge;
use crate::http1::{Answer, Connection};
use crate::origin::Origin;

fn ask(edge: &Edge, headers: &str) -> Answer {
    let mut client = Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS");
    client.send(format!(
        "GET /head HTTP/1.1\r\nHost: app.test\r\n{headers}\r\n"
    ));
    client.answer()
}

const CLAIMS: &str = "X-Forwarded-For: 9.9.9.9, 8.8.8.8\r\nX-Forwarded-Proto: http\r\n\
                      X-Forwarded-Host: outer.test\r\nX-Request-Id: 0123456789abcdef\r\n";

pub fn claims_are_believed_from_trusted_proxies_only() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let answer = ask(&edge, CLAIMS);
    let head = answer.text().to_lowercase();
    assert!(head.contains("\nx-forwarded-for: 127.0.0.1\n"), "{head}");
    assert!(head.contains("\nx-forwarded-proto: https\n"), "{head}");
    assert!(head.contains("\nx-forwarded-host: app.test\n"), "{head}");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert!(
        id != "0123456789abcdef" && head.contains(&format!("\nx-request-id: {id}\n")),
        "{head}"
    );
    edge.log_line("the request under its id", |line| {
        line["request_id"] == id.as_str()
    });

    edge.state.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    edge.push();
    let answer = ask(&edge, CLAIMS);
    let head = answer.text().to_lowercase();
    assert!(
        head.contains("\nx-forwarded-for: 9.9.9.9, 8.8.8.8, 127.0.0.1\n"),
        "{head}"
    );
    assert!(head.contains("\nx-forwarded-proto: http\n"), "{head}");
    assert!(head.contains("\nx-real-ip: 8.8.8.8\n"), "{head}");
    assert_eq!(answer.header("x-request-id"), Some("0123456789abcdef"));
    let line = edge.log_line("the client", |line| {
        line["request_id"] == "0123456789abcdef"
    });
    assert_eq!(line["client_ip"], "8.8.8.8");
}

pub fn a_trusted_proxy_that_ended_tls_is_not_redirected() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let ask = |edge: &Edge| {
        let mut plain = Connection::plain(edge.http());
        plain.send("GET / HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-Proto: https\r\n\r\n");
        plain.answer().status
    };
    assert_eq!(ask(&edge), 308);
    edge.state.trusted_proxies = vec!["127.0.0.1".to_owned()];
    edge.push();
    assert_eq!(ask(&edge), 200);
}

pub fn prefixes_are_stripped_and_told() {
    let origin = Origin::usual("a");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.state.routes[0].path = "/app".to_owned();
    edge.state.routes[0].strip_prefix = true;
    edge.push();
    let mut client = Connection::tls(edge.https(), "app.test", &edge.authority.pem).expect("TLS");
    let head = client.get("app.test", "/app/head?x=%2F&y").text();
    assert!(head.starts_with("GET /head?x=%2F&y HTTP/1.1\n"), "{head}");
    assert!(head.contains("\nx-forwarded-prefix: /app\n"), "{head}");
    assert_eq!(client.get("app.test", "/app").text(), "a");
    assert!(origin.heads()[1].starts_with("GET / HTTP/1.1\n"));
    // Encoded slashes stay as they are; unreserved characters are written as themselves.
    client.get("app.test", "/%61pp/group%2Fproject/%7Ex");
    assert!(origin.heads()[2].starts_with("GET /group%2Fproject/~x HTTP/1.1\n"));
}

pub fn answers_lose_what_is_of_one_hop() {
    let origin = Origin::start(|peer, _| {
        let headers = "Connection: x-internal\r\nX-Internal: 1\r\nKeep-Alive: timeout=5\r\n\
                       Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nUpgrade: h2c\r\n";
        peer.reply("200 OK", headers, b"x").map(|()| true)
    });
    let edge = Edge::with_replicas(&[("r1", origin.address)]);
    let answer = ask(&edge, "");
    assert_eq!(
        answer.head.matches("set-cookie").count(),
        2,
        "{}",
        answer.head
    );
    for gone in [
        "x-internal",
        "keep-alive",
        "upgrade",
        "strict-transport-security",
    ] {
        assert!(answer.header(gone).is_none(), "{gone}: {}", answer.head);
    }
}

pub fn browsers_remember_https_of_public_names() {
    let origin = Origin::usual("a");
    let mut edge = Edge::start();
    let public = edge.authority.issue(&["app.example.org"]);
    edge.state.certificates.push(public);
    edge.route("web", "app.example.org", "/", &[("r1", origin.address)]);
    edge.push();
    let ca = edge.authority.pem.clone();
    let mut client = Connection::tls(edge.https(), "app.example.org", &ca).expect("TLS");
    let answer = client.get("app.example.org", "/");
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=31536000")
    );
}
