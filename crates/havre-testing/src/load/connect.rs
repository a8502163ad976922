//! Connections: where to, plain or TLS, and what is wrong when there is none.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::plan::{LoadPlan, PlanError};

const CONNECT: Duration = Duration::from_secs(10);

/// Makes connections to the plan's server.
pub struct Connector {
    address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, Arc<ClientConfig>, ServerName<'static>)>,
    /// `host[:port]` as it stands in the URL.
    pub authority: String,
}

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    pub fn new(plan: &LoadPlan) -> Result<Self, PlanError> {
        let bad = || PlanError::Url(plan.base_url.clone());
        let url: http::Uri = plan.base_url.parse().map_err(|_| bad())?;
        let host = url.host().ok_or_else(bad)?.to_owned();
        let (secure, default_port) = match url.scheme_str() {
            Some("https") => (true, 443),
            Some("http") => (false, 80),
            _ => return Err(bad()),
        };
        if plan.rate > 0.0 && plan.shots.iter().all(|shot| shot.weight == 0) {
            return Err(PlanError::NoShots);
        }
        let port = url.port_u16().unwrap_or(default_port);
        let address = match plan.resolve {
            Some(address) => address,
            None => resolve(&host, port)?,
        };
        let tls = if secure {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|_| bad())?;
            let ca = plan.ca_pem.as_deref().unwrap_or_default();
            Some((config(ca, b"http/1.1")?, config(ca, b"h2")?, name))
        } else {
            None
        };
        let authority = url.authority().map_or(host, ToString::to_string);
        Ok(Self {
            address,
            tls,
            authority,
        })
    }

    /// A connection that speaks HTTP/1.1, or HTTP/2 over TLS.
    pub async fn connect(&self, http2: bool) -> io::Result<Box<dyn Stream>> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let Some((http1_config, http2_config, name)) = &self.tls else {
                return Ok(Box::new(stream) as Box<dyn Stream>);
            };
            let config = if http2 { http2_config } else { http1_config };
            let connector = TlsConnector::from(Arc::clone(config));
            Ok(Box::new(connector.connect(name.clone(), stream).await?) as Box<dyn Stream>)
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, PlanError> {
    let error = |source| PlanError::Resolve {
        host: format!("{host}:{port}"),
        source,
    };
    let mut addresses = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(error)?;
    addresses
        .next()
        .ok_or_else(|| error(io::ErrorKind::NotFound.into()))
}

fn config(ca: &str, protocol: &[u8]) -> Result<Arc<ClientConfig>, PlanError> {
    let bad = |error: &dyn std::fmt::Display| PlanError::Ca(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| bad(&error))?;
        roots.add(certificate).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// An error and its causes in one line, without what differs from case to case.
pub fn reason(error: &dyn std::error::Error) -> String {
    havre_base::one_line(error)
}
