//! TLS handshakes: the certificate is chosen from the snapshot of the moment.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use crate::snapshot::Snapshot;

/// What is spoken by an authority that looks for a certificate of [`crate::Challenges`] (RFC 8737). Nothing
/// follows the handshake.
pub const ACME: &[u8] = b"acme-tls/1";

/// Asks the current snapshot at every handshake.
struct Resolver {
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.snapshot.load();
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let chosen = match is_of_an_authority(&hello) {
            true => snapshot.challenge_certificates.exact(&name?),
            false => snapshot.certificates.choose(name.as_deref()),
        };
        chosen.map(|chosen| Arc::clone(&chosen.key))
    }
}

/// An authority that checks whether a name is ours offers its protocol and no other.
fn is_of_an_authority(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.next() == Some(ACME) && offered.next().is_none()
}

/// The configuration of all HTTPS listeners, for the life of the process: tickets outlive pushes.
pub fn server_config(snapshot: Arc<ArcSwap<Snapshot>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver { snapshot }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), ACME.to_vec()];
    config.ticketer = crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
