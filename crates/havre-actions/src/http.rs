//! Requests over HTTP/1.1, with TLS or without, one after the other.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

const CONNECT: Duration = Duration::from_secs(10);
/// Until an answer begins, and between its parts.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most bytes of an answer that is kept in memory.
const MOST: usize = 16 << 20;
/// Redirections that are followed.
const HOPS: usize = 5;
/// How often a request is made, and how long is waited before each but the first.
const ATTEMPTS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(2),
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("cannot set up HTTP")]
    SetUp(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{url} cannot be asked")]
    Request {
        url: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{url} does not answer within {seconds} s", seconds = PATIENCE.as_secs())]
    Silent { url: String },
    #[error("{url} answers {status}: {text}")]
    Status {
        url: String,
        status: StatusCode,
        text: String,
    },
    #[error("what {url} answers cannot be written")]
    Write { url: String, source: io::Error },
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What was written to a file.
pub(crate) struct Fetched {
    pub(crate) headers: HeaderMap,
    /// In hex.
    pub(crate) sha256: String,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// Connections to any host.
pub(crate) struct Http {
    runtime: tokio::runtime::Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new() -> Result<Self, HttpError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| HttpError::SetUp(error.into()))?;
        let mut roots = rustls::RootCertStore::empty();
        // An image without certificates can still reach what needs none; else the handshake says what is wrong.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpError::SetUp(error.into()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        Ok(Self {
            runtime,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }

    /// An answer of any status below 500; faults of the way or the server are tried again.
    pub(crate) fn ask(&self, ask: &Ask<'_>) -> Result<Answer, HttpError> {
        self.again(|| async {
            let response = self.respond(ask, ask.url).await?;
            let status = response.status();
            let body = whole(response, ask.url).await?;
            if status.is_server_error() {
                return Err(refusal(ask.url, status, &body));
            }
            Ok(Answer { status, body })
        })
    }

    /// Writes what `url` gives to a file.
    pub(crate) fn fetch(
        &self,
        url: &str,
        token: Option<&str>,
        into: &Path,
    ) -> Result<Fetched, HttpError> {
        let headers = token
            .map(|token| ("authorization", format!("Bearer {token}")))
            .into_iter()
            .collect();
        let ask = Ask {
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
        };
        self.again(|| async {
            let mut place = url.to_owned();
            for _ in 0..HOPS {
                let response = self.respond(&ask, &place).await?;
                let status = response.status();
                if status.is_redirection()
                    && let Some(next) = response
                        .headers()
                        .get("location")
                        .and_then(|next| next.to_str().ok())
                {
                    place = joined(&place, next);
                    continue;
                }
                if status != StatusCode::OK {
                    return Err(refusal(url, status, &whole(response, url).await?));
                }
                return write(response, url, into).await;
            }
            Err(refusal(
                url,
                StatusCode::LOOP_DETECTED,
                b"too many redirections",
            ))
        })
    }

    fn again<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, HttpError>
    where
        F: Future<Output = Result<T, HttpError>>,
    {
        self.runtime.block_on(async {
            let mut last = attempt().await;
            for wait in &ATTEMPTS[1..] {
                match &last {
                    Err(HttpError::Request { .. } | HttpError::Silent { .. }) => {}
                    Err(HttpError::Status { status, .. }) if status.is_server_error() => {}
                    _ => return last,
                }
                tokio::time::sleep(*wait).await;
                last = attempt().await;
            }
            last
        })
    }

    async fn respond(&self, ask: &Ask<'_>, url: &str) -> Result<Response<Incoming>, HttpError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Request {
            url: shown(url),
            source,
        };
        let mut request = Request::builder()
            .method(&ask.method)
            .uri(url)
            .body(Full::new(ask.body.clone()));
        if let Ok(request) = &mut request {
            request
                .headers_mut()
                .insert("user-agent", HeaderValue::from_static("havre"));
            for (name, value) in &ask.headers {
                // Who is redirected to another host is not given what lets in here.
                if *name == "authorization" && host(url) != host(ask.url) {
                    continue;
                }
                let value = HeaderValue::from_str(value).map_err(|error| failed(error.into()))?;
                request
                    .headers_mut()
                    .insert(HeaderName::from_static(name), value);
            }
        }
        let request = request.map_err(|error| failed(error.into()))?;
        match timeout(PATIENCE, self.client.request(request)).await {
            Ok(answer) => answer.map_err(|error| failed(error.into())),
            Err(_) => Err(HttpError::Silent { url: shown(url) }),
        }
    }
}

async fn whole(response: Response<Incoming>, url: &str) -> Result<Bytes, HttpError> {
    match timeout(PATIENCE, Limited::new(response.into_body(), MOST).collect()).await {
        Ok(body) => body
            .map(|body| body.to_bytes())
            .map_err(|source| HttpError::Request {
                url: shown(url),
                source,
            }),
        Err(_) => Err(HttpError::Silent { url: shown(url) }),
    }
}

async fn write(response: Response<Incoming>, url: &str, into: &Path) -> Result<Fetched, HttpError> {
    let unwritten = |source| HttpError::Write {
        url: shown(url),
        source,
    };
    let headers = response.headers().clone();
    let mut body = response.into_body();
    let mut file = File::create(into).map_err(unwritten)?;
    let mut sha256 = Sha256::new();
    loop {
        let frame = timeout(PATIENCE, body.frame())
            .await
            .map_err(|_| HttpError::Silent { url: shown(url) })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| HttpError::Request {
            url: shown(url),
            source: error.into(),
        })?;
        if let Some(data) = frame.data_ref() {
            sha256.update(data);
            file.write_all(data).map_err(unwritten)?;
        }
    }
    Ok(Fetched {
        headers,
        sha256: hex(&sha256.finalize()),
    })
}

fn refusal(url: &str, status: StatusCode, body: &[u8]) -> HttpError {
    let text = String::from_utf8_lossy(body);
    HttpError::Status {
        url: shown(url),
        status,
        text: havre_base::clipped(text.trim(), 300).to_owned(),
    }
}

/// Without what lets in.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or(url).to_owned()
}

fn host(url: &str) -> Option<&str> {
    url.split("://").nth(1)?.split('/').next()
}

fn joined(base: &str, next: &str) -> String {
    if next.contains("://") {
        return next.to_owned();
    }
    let origin = base.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    format!("{origin}/{}", next.trim_start_matches('/'))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
