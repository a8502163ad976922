//! What requests need to know of their client's connection.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::clients::ConnectionPermit;
use crate::phase::ConnectionActivity;
use crate::route;
use crate::snapshot::Snapshot;

/// See the module.
#[derive(Debug)]
pub struct Client {
    /// Other end.
    pub peer: SocketAddr,
    /// TLS.
    pub https: bool,
    /// Port that it connected to.
    pub port: u16,
    /// What it is doing.
    pub phase: Arc<ConnectionActivity>,
    /// By SNI, lower case.
    server_name: Option<String>,
    /// The hosts of the certificate that it was given.
    covered: Arc<[String]>,
}

impl Client {
    fn new(stream: &TcpStream, peer: SocketAddr, https: bool, permit: &ConnectionPermit) -> Self {
        // A connection that is gone already shows it at the first read.
        let port = stream.local_addr().map_or(0, |address| address.port());
        Self {
            peer,
            https,
            port,
            phase: Arc::new(ConnectionActivity::of(Arc::clone(permit.usage()))),
            server_name: None,
            covered: Arc::default(),
        }
    }

    /// Over TCP.
    pub fn plain(stream: &TcpStream, peer: SocketAddr, permit: &ConnectionPermit) -> Self {
        Self::new(stream, peer, false, permit)
    }

    /// Over TLS, with the certificate that `snapshot` has for it.
    pub fn tls(
        stream: &TlsStream<TcpStream>,
        peer: SocketAddr,
        permit: &ConnectionPermit,
        snapshot: &Snapshot,
    ) -> Self {
        let (tcp, session) = stream.get_ref();
        let server_name = session.server_name().map(str::to_ascii_lowercase);
        let chosen = snapshot.certificates.choose(server_name.as_deref());
        let covered = chosen.map(|chosen| Arc::clone(&chosen.hosts));
        Self {
            server_name,
            covered: covered.unwrap_or_default(),
            ..Self::new(tcp, peer, true, permit)
        }
    }

    /// Whether requests for `host` belong on this connection. Over TLS they do if it was made for that
    /// host, or if the certificate that was given covers it and is the one that a connection made for
    /// it would be given: browsers use one connection for all names of a certificate.
    pub fn may_ask_for(&self, host: &str, snapshot: &Snapshot) -> bool {
        if !self.https || self.server_name.as_deref() == Some(host) {
            return true;
        }
        let host = host.trim_matches(['[', ']']);
        let covers = (self.covered.iter()).any(|pattern| route::host_matches(pattern, host));
        let own = snapshot.certificates.choose(Some(host));
        // A renewed one is for the same hosts.
        covers && own.is_none_or(|own| own.hosts == self.covered)
    }
}
