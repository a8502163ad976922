//! HTTP/1.1 over TLS or without.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::RequestError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request brings along.
pub(crate) type Sent = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body of these bytes.
pub(crate) fn whole(bytes: Bytes) -> Sent {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Connections to any host; cheap to clone.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Sent>,
}

/// Why no transport could be made.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file of certificates is not readable.
    #[error("cannot read certificates from {path}", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls::pki_types::pem::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Transport {
    /// Trusts the machine's certificates and those in `extra`. Reads files: blocks.
    pub(crate) fn new(extra: &[PathBuf]) -> Result<Self, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TransportError::Tls)?
            .with_root_certificates(roots(extra)?)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(2)
            .build(connector);
        Ok(Self { client })
    }

    pub(crate) async fn request(
        &self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}

fn roots(extra: &[PathBuf]) -> Result<rustls::RootCertStore, TransportError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(error = %error, "some of the machine's certificates are not readable");
    }
    roots.add_parsable_certificates(native.certs);
    for path in extra {
        roots.add_parsable_certificates(certificates(path)?);
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| TransportError::Certificates {
            path: path.to_owned(),
            source,
        })
}

/// Tells apart what a person has to do about it.
pub(super) fn classify(host: &str, error: Error) -> RequestError {
    let host = host.to_owned();
    if !error.is_connect() {
        return RequestError::Broken {
            host,
            source: error.into(),
        };
    }
    let certificate =
        is_certificate_error(&error) || havre_base::causes(&error).any(is_certificate_error);
    if certificate {
        RequestError::Certificate {
            host,
            source: error.into(),
        }
    } else {
        RequestError::Connect {
            host,
            source: error.into(),
        }
    }
}

fn is_certificate_error(error: &(dyn std::error::Error + 'static)) -> bool {
    // TLS errors travel inside I/O errors, whose `source` skips them.
    let inner = error
        .downcast_ref::<std::io::Error>()
        .and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(
        inner.or_else(|| error.downcast_ref::<rustls::Error>()),
        Some(rustls::Error::InvalidCertificate(_))
    )
}
