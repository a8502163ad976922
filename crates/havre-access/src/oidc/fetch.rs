//! Asking an issuer for its keys: over TLS, bounded, without redirects.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

/// For one document, from the first byte to the last.
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 256 * 1024;

/// Why an issuer's keys are not known.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file with its authority's certificates.
    #[error("cannot read certificates from {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls::pki_types::pem::Error,
    },
    /// That file has none.
    #[error("there is no certificate in {}", path.display())]
    NoCertificates {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// An address that is not asked.
    #[error("{0} is not asked: it is not https, nor an issuer on this machine")]
    Address(String),
    /// No answer, or one that broke off.
    #[error("cannot reach {address}")]
    Unreachable {
        /// What was asked.
        address: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is no success.
    #[error("{address} answered {status}")]
    Status {
        /// What was asked.
        address: String,
        /// What came.
        status: StatusCode,
    },
    /// An answer that is not what it should be.
    #[error("{address} did not answer with {what}")]
    Document {
        /// What was asked.
        address: String,
        /// What was wanted.
        what: &'static str,
    },
}

/// Asks one issuer.
pub(super) struct Fetcher {
    issuer: String,
    /// The issuer is of this machine itself, and without TLS: its keys may be.
    is_here: bool,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

impl Fetcher {
    /// Trusts what the machine trusts, or only what is in the file. Reads files: blocks.
    pub(super) fn new(issuer: &str, ca_file: Option<&Path>) -> Result<Self, FetchError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(FetchError::Tls)?
            .with_root_certificates(roots(ca_file)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(DEADLINE));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self {
            issuer: issuer.to_owned(),
            is_here: issuer.parse().is_ok_and(|uri| is_loopback(&uri)),
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector),
        })
    }

    /// The issuer's key set, from where its configuration says that it is.
    pub(super) async fn keys(&self) -> Result<Value, FetchError> {
        let base = self.issuer.trim_end_matches('/');
        let address = format!("{base}/.well-known/openid-configuration");
        let configuration = self.get(&address).await?;
        let text = |name| configuration.get(name).and_then(Value::as_str);
        // Else whoever serves that document could speak for another issuer.
        if text("issuer") != Some(&self.issuer) {
            let what = "the configuration of the issuer that was asked";
            return Err(FetchError::Document { address, what });
        }
        let Some(keys) = text("jwks_uri") else {
            let what = "the address of its keys";
            return Err(FetchError::Document { address, what });
        };
        self.get(keys).await
    }

    async fn get(&self, address: &str) -> Result<Value, FetchError> {
        let refused = || FetchError::Address(address.chars().take(200).collect());
        let uri: Uri = address.parse().map_err(|_| refused())?;
        if !is_safe(&uri, self.is_here) {
            return Err(refused());
        }
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("havre/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())
            .map_err(|_| refused())?;
        let unreachable = |source| FetchError::Unreachable {
            address: address.to_owned(),
            source,
        };
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unreachable(error.into()))?;
            let status = response.status();
            if status != StatusCode::OK {
                let address = address.to_owned();
                return Err(FetchError::Status { address, status });
            }
            let body = havre_base::body::collect(response.into_body(), MAX_DOCUMENT).await;
            body.map_err(|error| unreachable(error.into()))
        };
        let bytes = tokio::time::timeout(DEADLINE, exchange)
            .await
            .map_err(|_| unreachable(io::Error::from(io::ErrorKind::TimedOut).into()))??;
        serde_json::from_slice(&bytes).map_err(|_| FetchError::Document {
            address: address.to_owned(),
            what: "a JSON document",
        })
    }
}

/// Without TLS only what does not leave the machine, and that only of an issuer who is there: another's document
/// sends nobody to what listens here.
fn is_safe(uri: &Uri, of_issuer_here: bool) -> bool {
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        _ => of_issuer_here && is_loopback(uri),
    }
}

fn is_loopback(uri: &Uri) -> bool {
    let loopback = ["127.0.0.1", "[::1]", "localhost"];
    uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| loopback.contains(&host))
}

fn roots(file: Option<&Path>) -> Result<rustls::RootCertStore, FetchError> {
    let mut roots = rustls::RootCertStore::empty();
    let Some(path) = file else {
        // What cannot be read there is left out, as others do; without any, nobody is believed.
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "certificates of authorities are left out"
            );
        }
        let (taken, left_out) = roots.add_parsable_certificates(found.certs);
        if taken == 0 || left_out > 0 {
            tracing::warn!(
                taken,
                left_out,
                "certificates of authorities of this machine"
            );
        }
        return Ok(roots);
    };
    let failed = |source| FetchError::Certificates {
        path: path.to_owned(),
        source,
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        let certificate = certificate.map_err(failed)?;
        roots.add(certificate).map_err(FetchError::Tls)?;
    }
    if roots.is_empty() {
        let path = path.to_owned();
        return Err(FetchError::NoCertificates { path });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_issuer_of_this_machine_has_keys_there_without_tls() {
        let local = "http://127.0.0.1:8080/jwks";
        for (issuer, keys, expected) in [
            ("https://id.example.org", "https://keys.example.org/", true),
            ("https://id.example.org", local, false),
            ("https://id.example.org", "http://keys.example.org/", false),
            ("https://127.0.0.1", local, false),
            ("http://localhost:5556/dex", local, true),
            (
                "http://localhost:5556/dex",
                "http://keys.example.org/",
                false,
            ),
            ("http://localhost:5556/dex", "ftp://localhost/", false),
        ] {
            let fetcher = Fetcher::new(issuer, None).expect("set up");
            let uri: Uri = keys.parse().expect("an address");
            assert_eq!(is_safe(&uri, fetcher.is_here), expected, "{issuer} {keys}");
        }
    }

    #[test]
    fn a_file_of_certificates_has_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let refused = Fetcher::new("https://id.example.org", Some(file.path()));
        assert!(matches!(
            refused.err(),
            Some(FetchError::NoCertificates { .. })
        ));
    }
}
