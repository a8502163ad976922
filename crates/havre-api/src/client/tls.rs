//! The API over HTTPS: TLS with the machine's authorities, and those the context names.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::HttpsAddress;

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Why there is no connection over TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of authorities cannot be read.
    #[error("cannot read certificates from {}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no authority to trust.
    #[error("this machine trusts no authority at all")]
    NoAuthorities,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
    /// The host has no name that a certificate could be for.
    #[error("{host} is no name for a certificate")]
    Name {
        /// What was given.
        host: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate is not to be believed.
    #[error("cannot believe that it is {host}")]
    Untrusted {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// What answers speaks no TLS, or another one.
    #[error("cannot speak TLS with {host}")]
    Handshake {
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
}

impl TlsError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Untrusted { .. } => {
                "where the server's own authority signs for it, copy the file of `havre ca export` \
                 from there and give it to `havre context add … --ca-file`"
            }
            Self::NoAuthorities => {
                "install the package ca-certificates, name a file by SSL_CERT_FILE, or give \
                 `--ca-file` to `havre context add`"
            }
            Self::Connect { .. } => {
                "see that the address is right, and that the server's edge listens there"
            }
            Self::Handshake { .. } => {
                "see that the address and port are those of the server's HTTPS"
            }
            Self::Authorities { .. } | Self::Setup(_) | Self::Name { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// Connects, and has the server show that it is who it is said to be.
pub(super) async fn connect(
    address: &HttpsAddress,
    ca_file: Option<&Path>,
) -> Result<TlsStream, TlsError> {
    let connector = TlsConnector::from(Arc::new(config(ca_file)?));
    let host = &address.host;
    let name =
        ServerName::try_from(host.clone()).map_err(|_| TlsError::Name { host: host.clone() })?;
    let stream = match is_loopback(host) {
        true => {
            let loopback = [
                SocketAddr::from((Ipv4Addr::LOCALHOST, address.port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, address.port)),
            ];
            TcpStream::connect(loopback.as_slice()).await
        }
        false => TcpStream::connect((host.as_str(), address.port)).await,
    };
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    let stream = stream.map_err(|source| TlsError::Connect {
        authority: format!("{host}, port {}", address.port),
        source,
    })?;
    let host = host.clone();
    let connected = connector.connect(name, stream).await;
    connected.map_err(|source| match is_about_the_certificate(&source) {
        true => TlsError::Untrusted { host, source },
        false => TlsError::Handshake { host, source },
    })
}

/// Names that are this machine's wherever they are asked for (RFC 6761), which many resolvers do not know.
fn is_loopback(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn is_about_the_certificate(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

fn config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(authorities(ca_file)?)
        .with_no_client_auth();
    // `exec` upgrades its connection, which HTTP/2 does in another way.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Those of the machine (or of SSL_CERT_FILE and SSL_CERT_DIR), and the context's own.
fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    // Of many files some may be broken; without any the connection says so.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let own = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>);
        let own: Vec<CertificateDer<'static>> = own.map_err(|source| TlsError::Authorities {
            path: path.to_owned(),
            source,
        })?;
        store.add_parsable_certificates(own);
    }
    match store.is_empty() {
        true => Err(TlsError::NoAuthorities),
        false => Ok(store),
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn localhost_is_this_machine() {
        for host in ["localhost", "havre.localhost", "Havre.Localhost."] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.org", "mylocalhost", "127.0.0.1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
