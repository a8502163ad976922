//! GitHub's API, and that of who speaks it: what is told of commits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use havre_base::one_line;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::tables::Word;
use crate::words::{MOST_CONTEXT, MOST_DESCRIPTION, short};

/// From the first byte sent to the last one read.
const WHOLE: Duration = Duration::from_secs(15);
const MOST_ANSWER: usize = 64 * 1024;
/// Shown of what an API says.
const MOST_SAID: usize = 200;
/// Longest patience that an API is granted.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
const GITHUB: &str = "github.com";

/// One repository's, at an API.
pub struct Api {
    /// `…/repos/OWNER/NAME/statuses/`.
    address: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a word was not told.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing of that form is told anything.
    #[error("{0}")]
    Address(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// No answer.
    #[error("cannot reach {host}: {detail}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// Why.
        detail: String,
    },
    /// An answer that says no.
    #[error("it answered {status}: {said}")]
    Refused {
        /// What came.
        status: StatusCode,
        /// The beginning of what it said.
        said: String,
        /// How long it asks to wait.
        patience: Option<Duration>,
        /// It will say the same the next time.
        lasting: bool,
    },
}

impl Api {
    /// The API that belongs to a repository's address, where nobody names another.
    pub fn of(url: &str) -> Result<String, ApiError> {
        let uri = parsed(url)?;
        let authority = uri.authority().map(|it| it.as_str()).unwrap_or_default();
        Ok(match authority {
            GITHUB => "https://api.github.com".to_owned(),
            other => {
                let scheme = uri.scheme_str().unwrap_or("https");
                format!("{scheme}://{other}/api/v3")
            }
        })
    }

    /// Of the repository at `url`, at the API `base`. Reads files: blocks.
    pub fn new(base: &str, url: &str) -> Result<Self, ApiError> {
        parsed(base)?;
        let uri = parsed(url)?;
        let path = uri.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        let is_plain = |part: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
        };
        let both = path
            .split_once('/')
            .filter(|(owner, name)| is_plain(owner) && is_plain(name));
        let (owner, name) = both.ok_or_else(|| {
            let what = format!(
                "the repository at {url} is not of the form OWNER/NAME, which the API needs"
            );
            ApiError::Address(what)
        })?;
        let base = base.trim_end_matches('/');
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots((*provider).clone())
            .map_err(|error| ApiError::Tls(one_line(&error)))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            address: format!("{base}/repos/{owner}/{name}/statuses/"),
            client: Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(0)
                .build(connector),
        })
    }

    /// Tells it, as who has the token.
    pub async fn tell(&self, token: &Zeroizing<String>, word: &Word) -> Result<(), ApiError> {
        let address = format!("{}{}", self.address, word.commit);
        let mut body = json!({
            "state": word.state.word(),
            "context": short(&word.context, MOST_CONTEXT),
            "description": short(&word.description, MOST_DESCRIPTION),
        });
        if let Some(target) = &word.target {
            body["target_url"] = Value::String(target.clone());
        }
        let wrong = || ApiError::Address(format!("{address} or its token cannot be used"));
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {}", token.as_str()))
            .map_err(|_| wrong())?;
        bearer.set_sensitive(true);
        let agent = concat!("havre/", env!("CARGO_PKG_VERSION"));
        let request = Request::post(&address)
            .header(header::AUTHORIZATION, bearer)
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, agent)
            .body(Full::from(body.to_string()))
            .map_err(|_| wrong())?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let unreachable = |detail| ApiError::Unreachable {
            host: host.clone(),
            detail,
        };
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| unreachable(one_line(&error)))?;
            let (head, body) = response.into_parts();
            let body = havre_base::body::collect(body, MOST_ANSWER).await;
            Ok((head, body.unwrap_or_default()))
        };
        let (head, body) = tokio::time::timeout(WHOLE, exchange)
            .await
            .map_err(|_| unreachable(format!("no answer within {} s", WHOLE.as_secs())))??;
        match head.status {
            StatusCode::CREATED | StatusCode::OK => Ok(()),
            status => Err(refused(status, &head.headers, &body)),
        }
    }
}

fn parsed(address: &str) -> Result<Uri, ApiError> {
    let wrong = || {
        ApiError::Address(format!(
            "{} is no address of an API",
            short(address, MOST_SAID)
        ))
    };
    let uri: Uri = address.parse().map_err(|_| wrong())?;
    let is_here = uri
        .host()
        .is_some_and(|host| ["127.0.0.1", "[::1]", "localhost"].contains(&host));
    let is_safe = match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => is_here,
        _ => false,
    };
    let is_plain =
        uri.query().is_none() && !uri.authority().is_some_and(|it| it.as_str().contains('@'));
    (is_safe && is_plain).then_some(uri).ok_or_else(wrong)
}

/// An answer that is no success.
fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ApiError {
    let said = serde_json::from_slice::<Value>(body).ok();
    let said = said.as_ref().and_then(|said| said.get("message")?.as_str());
    let patience = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let patience = patience.map(|seconds| Duration::from_secs(seconds).min(MOST_PATIENCE));
    ApiError::Refused {
        status,
        said: short(said.unwrap_or("it did not say why"), MOST_SAID),
        patience,
        // The commit is not there, or GitHub has heard enough of it.
        lasting: status == StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests;
