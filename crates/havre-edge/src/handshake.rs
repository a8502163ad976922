//! TLS handshakes: the certificate is chosen from the snapshot of the moment.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use crate::snapshot::Snapshot;

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
        snapshot
            .certificates
            .choose(name.as_deref())
            .map(|chosen| Arc::clone(&chosen.key))
    }
}

/// The configuration of all HTTPS listeners, for the life of the process: tickets outlive pushes.
pub fn server_config(snapshot: Arc<ArcSwap<Snapshot>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver { snapshot }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = crypto::ring::Ticketer::new()?;
    Ok(Arc::new(config))
}
