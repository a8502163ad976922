//! Requests to issuers of identities: short answers over HTTPS, nothing else.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::address::HttpsAddress;
use super::tls::{self, TlsError};

/// For a whole request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const MAX_BYTES: usize = 1 << 20;

/// A request to an issuer.
#[derive(Clone, Debug)]
pub struct WebRequest<'r> {
    /// Where: `https://…`, or `http://` on this machine itself where that is `plain`.
    pub url: &'r str,
    /// Whether it may be a service of this machine without TLS: whoever names one to others has them speak
    /// to what listens for themselves alone.
    pub plain: bool,
    /// What is posted as a form; `None`: it only asks.
    pub form: Option<&'r str>,
    /// What shows who asks.
    pub bearer: Option<&'r str>,
    /// Authorities to be believed beside the machine's.
    pub ca_file: Option<&'r Path>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The address is none that is asked.
    #[error("{url:?} is no address of an issuer: https://…")]
    Address {
        /// What was given.
        url: String,
    },
    /// No connection.
    #[error(transparent)]
    Connect(#[from] TlsError),
    /// It broke.
    #[error("lost the connection to {host}")]
    Lost {
        /// To whom.
        host: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{host} did not answer within {} s", DEADLINE.as_secs())]
    Slow {
        /// Who.
        host: String,
    },
}

/// Asks, and reads the whole answer.
pub async fn web(request: &WebRequest<'_>) -> Result<(StatusCode, Bytes), WebError> {
    let refused = || WebError::Address {
        url: request.url.chars().take(200).collect(),
    };
    let uri: Uri = request.url.parse().map_err(|_| refused())?;
    let host = uri.host().ok_or_else(refused)?.to_owned();
    let slow = |_| WebError::Slow { host: host.clone() };
    tokio::time::timeout(DEADLINE, ask(request, &uri, &host))
        .await
        .map_err(slow)?
}

async fn ask(
    request: &WebRequest<'_>,
    uri: &Uri,
    host: &str,
) -> Result<(StatusCode, Bytes), WebError> {
    let own = request.plain && matches!(host, "127.0.0.1" | "localhost");
    match uri.scheme_str() {
        Some("https") => {
            let address = HttpsAddress {
                host: host.trim_matches(['[', ']']).to_owned(),
                port: uri.port_u16().unwrap_or(443),
            };
            let stream = tls::connect(&address, request.ca_file).await?;
            exchange(stream, request, uri, host).await
        }
        // Nobody is on the way there.
        Some("http") if own => {
            let port = uri.port_u16().unwrap_or(80);
            let stream = TcpStream::connect(("127.0.0.1", port)).await;
            exchange(stream.map_err(lost(host))?, request, uri, host).await
        }
        _ => Err(WebError::Address {
            url: request.url.chars().take(200).collect(),
        }),
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: &WebRequest<'_>,
    uri: &Uri,
    host: &str,
) -> Result<(StatusCode, Bytes), WebError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(lost(host))?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        // What goes wrong here surfaces in the answer.
        drop(connection.await);
    }));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let mut asked = Request::builder()
        .method(match request.form {
            Some(_) => Method::POST,
            None => Method::GET,
        })
        .uri(path)
        .header(header::HOST, authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "havre");
    if request.form.is_some() {
        asked = asked.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    if let Some(bearer) = request.bearer {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {bearer}")).map_err(lost(host))?;
        bearer.set_sensitive(true);
        asked = asked.header(header::AUTHORIZATION, bearer);
    }
    let form = request.form.unwrap_or_default().to_owned();
    let asked = asked.body(Full::<Bytes>::from(form)).map_err(lost(host))?;
    let answer = sender.send_request(asked).await.map_err(lost(host))?;
    let status = answer.status();
    let body = havre_base::body::collect(answer.into_body(), MAX_BYTES).await;
    Ok((status, body.map_err(lost(host))?))
}

fn lost<E: std::error::Error + Send + Sync + 'static>(host: &str) -> impl FnOnce(E) -> WebError {
    let host = host.to_owned();
    move |source| WebError::Lost {
        host,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_sends_us_to_our_own_services() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let port = listener.local_addr().unwrap().port();
        let ask = async |url: &str, plain| {
            let request = WebRequest {
                url,
                plain,
                form: Some("a=b"),
                bearer: None,
                ca_file: None,
            };
            web(&request).await.map(drop).unwrap_err()
        };
        let url = format!("http://127.0.0.1:{port}/");
        let refused = ask(&url, false).await;
        assert!(matches!(refused, WebError::Address { .. }), "{refused}");
        let refused = ask("http://example.org/", true).await;
        assert!(matches!(refused, WebError::Address { .. }), "{refused}");
    }
}
