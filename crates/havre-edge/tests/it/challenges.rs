//! What authorities look for before they issue a certificate, and how one takes the place of another.

use std::io::Read as _;
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::edge::Edge;
use crate::http1::{Connection, PATIENCE};
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
    assert_eq!(shown_to_an_authority(&edge, "app.test"), None);

    let wanted: Vec<_> = ["app.test", "new.test"]
        .map(|host| edge.authority.challenge(host))
        .into();
    edge.state.challenges.tls.clone_from(&wanted);
    edge.push();
    assert!(edge.status.problems.is_empty(), "{:?}", edge.status);
    for certificate in wanted {
        let shown = shown_to_an_authority(&edge, &certificate.hosts[0]);
        let der = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).expect("PEM");
        assert_eq!(shown, Some(der));
    }
    // The certificates of applications are no answer, and neither is it theirs.
    assert_eq!(shown_to_an_authority(&edge, "other.test"), None);
    let ca = edge.authority.pem.clone();
    assert!(Connection::tls(edge.https(), "new.test", &ca).is_err());
    let mut secure = Connection::tls(edge.https(), "app.test", &ca).expect("TLS");
    assert_eq!(secure.get("app.test", "/").text(), "application");
}

/// What somebody sees who speaks `acme-tls/1` alone, up to the end of the connection.
fn shown_to_an_authority(edge: &Edge, host: &str) -> Option<CertificateDer<'static>> {
    let (connection, mut stream) = session(edge, host);
    let mut tls = StreamOwned::new(connection, &mut stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).ok()?;
    }
    let shown = tls.conn.peer_certificates()?.first()?.clone().into_owned();
    let mut rest = [0];
    let end = tls.read(&mut rest);
    assert!(!matches!(end, Ok(1..)), "nothing follows the handshake");
    Some(shown)
}

fn session(edge: &Edge, host: &str) -> (ClientConnection, TcpStream) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looks(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(edge.https()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (connection, stream)
}

/// Looks at a certificate instead of judging it, as an authority does.
#[derive(Debug)]
struct Looks(Arc<CryptoProvider>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 was offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The verifier of the library does not read such a certificate.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
