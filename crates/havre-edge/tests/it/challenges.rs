//! What authorities look for before they issue a certificate, and how one takes the place of another.

use crate::edge::Edge;
use crate::http1::Connection;
use crate::origin::Origin;

const PATH: &str = "/.well-known/acme-challenge/tOken-1_x";

pub fn an_authority_finds_its_answer_before_redirects_and_routes() {
    let origin = Origin::usual("application");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    edge.state
        .challenges
        .http
        .insert("tOken-1_x".to_owned(), "tOken-1_x.thumb".to_owned());
    edge.push();

    for host in ["app.test", "not-served-yet.test", "192.0.2.7"] {
        let mut plain = Connection::plain(edge.http());
        let answer = plain.get(host, PATH);
        assert_eq!(
            (answer.status, answer.text()),
            (200, "tOken-1_x.thumb".into())
        );
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/octet-stream"));
    }
    // A proxy in front of this machine may have been told to use HTTPS.
    let ca = edge.authority.pem.clone();
    let mut secure = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(secure.get("app.test", PATH).text(), "tOken-1_x.thumb");

    // What is not ours is the application's, or nobody's.
    let other = "/.well-known/acme-challenge/other";
    assert_eq!(secure.get("app.test", other).text(), "application");
    let mut plain = Connection::plain(edge.http());
    assert_eq!(plain.get("app.test", other).status, 308);
    plain.send(format!(
        "POST {PATH} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(plain.answer().status, 308);

    edge.state.challenges.http.clear();
    edge.push();
    assert_eq!(secure.get("app.test", PATH).text(), "application");
}

pub fn an_authority_is_shown_its_certificate_and_nobody_else_is() {
    let origin = Origin::usual("application");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let authority = |edge: &Edge, host: &str| {
        let ca = edge.authority.pem.clone();
        Connection::tls_with(edge.https(), host, &ca, b"acme-tls/1")
    };
    assert!(authority(&edge, "app.test").is_err(), "nothing to show");

    let shown = edge.authority.issue(&["app.test", "new.test"]);
    edge.state.challenges.tls.push(shown);
    edge.push();
    for host in ["app.test", "new.test"] {
        let mut connection = authority(&edge, host).expect("a handshake");
        assert!(connection.is_closed(), "nothing follows the handshake");
    }
    // The certificates of applications are no answer, and neither is it theirs.
    assert!(authority(&edge, "other.test").is_err());
    let ca = edge.authority.pem.clone();
    assert!(Connection::tls(edge.https(), "new.test", &ca).is_err());
    let mut secure = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(secure.get("app.test", "/").text(), "application");
}

pub fn renewed_certificates_cost_no_connection() {
    let origin = Origin::usual("application");
    let mut edge = Edge::with_replicas(&[("r1", origin.address)]);
    let ca = edge.authority.pem.clone();
    let mut before = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    let mut h2 = Connection::tls_with(edge.https(), "app.test", &ca, b"h2").expect("TLS");
    h2.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");

    // One that is first among those of a name is the one that is shown.
    let other = Edge::start();
    let renewed = other.authority.issue(&["app.test"]);
    edge.state.certificates.insert(0, renewed);
    edge.push();
    assert!(edge.status.problems.is_empty(), "{:?}", edge.status);

    assert_eq!(before.get("app.test", "/").text(), "application");
    h2.send(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00pingpong");
    let frames = h2.take(72).expect("frames");
    assert!(
        frames.windows(8).any(|window| window == b"pingpong"),
        "{frames:?}"
    );
    assert!(Connection::tls(edge.https(), "app.test", &ca).is_err());
    let new = other.authority.pem.clone();
    let mut after = Connection::tls(edge.https(), "app.test", &new).expect("TLS");
    assert_eq!(after.get("app.test", "/").text(), "application");
}
