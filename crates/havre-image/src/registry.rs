//! Client of one repository of a registry: authentication, redirects, and which failures are
//! worth another try.

pub(crate) mod auth;
mod realm;
mod transport;
mod write;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use havre_base::body::{self, BodyError};
use http::header::{
    ACCEPT, AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::Mutex;

use auth::{Challenge, Found, Login};
pub use transport::TransportError;
pub(crate) use transport::{Sent, Transport, whole};

/// Until the answer's head is there, connecting included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Until a registry has taken a body whole, and checked it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The longest pause within an answer.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
/// What is asked for where the registry does not say.
const PULL: &str = "pull";
/// How much of an error's body is read.
const MAX_ERROR_BODY: usize = 16 << 10;
/// Tokens are a few KiB.
const MAX_TOKEN_BODY: usize = 1 << 20;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No connection.
    #[error("cannot reach {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate is not trusted.
    #[error("the certificate of {host} is not accepted")]
    Certificate {
        /// Host and port.
        host: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{host} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to {host} broke")]
    Broken {
        /// Host and port.
        host: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry wants (other) credentials.
    #[error("{host} wants credentials that allow this")]
    Unauthorized {
        /// Host and port.
        host: String,
        /// What was known.
        login: LoginState,
        /// The registry's words.
        detail: String,
    },
    /// There is no such thing.
    #[error("{host} has no {what}")]
    NotFound {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Another refusal.
    #[error("{host} answered {status} to a request for {what}{}", spaced(detail))]
    Status {
        /// Host and port.
        host: String,
        /// The status.
        status: StatusCode,
        /// What was asked for.
        what: String,
        /// The registry's words.
        detail: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The registry breaks the protocol.
    #[error("{host} gave an answer that makes no sense: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What is wrong.
        reason: String,
    },
}

/// What was known when the registry asked for credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginState {
    /// Nothing.
    None,
    /// Credentials that were not enough.
    Refused {
        /// The user.
        user: String,
    },
    /// Docker's configuration keeps them in a helper program, which is not supported.
    Helper {
        /// The helper's name.
        helper: String,
    },
    /// Credentials that were not sent, because the registry wants them sent to somebody else.
    Withheld {
        /// The user.
        user: String,
        /// Whom the registry names.
        realm: String,
    },
}

fn spaced(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(": {detail}")
    }
}

impl RequestError {
    /// Another try may succeed.
    pub(crate) fn transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Self::Certificate { .. }
            | Self::Unauthorized { .. }
            | Self::NotFound { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// When the registry wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// One repository of a registry.
pub(crate) struct Registry {
    transport: Transport,
    /// `https://host[:port]`; settled by the first request.
    base: Mutex<Base>,
    repository: String,
    login: Found,
    /// The header that worked last.
    authorization: Mutex<Option<HeaderValue>>,
    /// Who asked for the login in the registry's name and did not get it.
    withheld: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Base {
    scheme: &'static str,
    /// Plain HTTP may be tried when TLS cannot be had.
    may_fall_back: bool,
    authority: String,
}

impl Registry {
    /// `host` as in names of images.
    pub(crate) fn new(
        transport: Transport,
        host: &str,
        repository: &str,
        login: Found,
        plain_http: bool,
    ) -> Self {
        let authority = match host {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            transport,
            base: Mutex::new(Base {
                scheme: if plain_http { "http" } else { "https" },
                may_fall_back: !plain_http && is_loopback(authority),
                authority: authority.to_owned(),
            }),
            repository: repository.to_owned(),
            login,
            authorization: Mutex::new(None),
            withheld: Mutex::new(None),
        }
    }

    /// GET of `manifests/…` or `blobs/…` of the repository, from byte `from` on.
    pub(crate) async fn get(
        &self,
        path: &str,
        accept: &'static str,
        from: u64,
    ) -> Result<Response<Incoming>, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if from > 0 {
            let range = format!("bytes={from}-");
            headers.insert(RANGE, header(&range, "range")?);
        }
        let mut challenged = 0;
        loop {
            let known = self.authorization.lock().await.clone();
            let sent = self.send(&Method::GET, path, &headers, known.clone());
            let (host, response) = sent.await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return accepted(host, path, response).await;
            }
            challenged += 1;
            self.convince(host, response, known, challenged, PULL)
                .await?;
        }
    }

    /// Finds the header that answers a refusal; an error where there is none, or too many were refused.
    async fn convince(
        &self,
        host: String,
        response: Response<Incoming>,
        known: Option<HeaderValue>,
        challenged: u32,
        wanted: &str,
    ) -> Result<(), RequestError> {
        let challenge = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .max();
        let answer = match challenge {
            Some(challenge) if challenged < 3 => self.answer(&challenge, &host, wanted).await?,
            _ => None,
        };
        match answer {
            // The same answer would be refused again.
            Some(answer) if Some(&answer) != known.as_ref() => {
                *self.authorization.lock().await = Some(answer);
                Ok(())
            }
            _ => {
                let detail = detail(response).await;
                Err(self.unauthorized(host, detail).await)
            }
        }
    }

    async fn unauthorized(&self, host: String, detail: String) -> RequestError {
        let withheld = self.withheld.lock().await.clone();
        let login = match &self.login {
            Found::Nothing => LoginState::None,
            Found::Login(login) => match withheld {
                Some(realm) => LoginState::Withheld {
                    user: login.user.clone(),
                    realm,
                },
                None => LoginState::Refused {
                    user: login.user.clone(),
                },
            },
            Found::Helper(helper) => LoginState::Helper {
                helper: helper.clone(),
            },
        };
        RequestError::Unauthorized {
            host,
            login,
            detail,
        }
    }

    /// Sends to the registry and follows redirects; the host that answered comes along.
    async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<(String, Response<Incoming>), RequestError> {
        let base = self.base.lock().await.clone();
        let url = |base: &Base| {
            format!(
                "{}://{}/v2/{}/{path}",
                base.scheme, base.authority, self.repository
            )
        };
        let first = self
            .follow(method, uri(&url(&base))?, headers, authorization.clone())
            .await;
        match first {
            Err(RequestError::Connect { .. } | RequestError::Certificate { .. })
                if base.may_fall_back =>
            {
                // As Docker does for registries on this machine.
                let plain = Base {
                    scheme: "http",
                    may_fall_back: false,
                    ..base
                };
                let result = self
                    .follow(method, uri(&url(&plain))?, headers, authorization)
                    .await;
                if result.is_ok() {
                    *self.base.lock().await = plain;
                }
                result
            }
            other => other,
        }
    }

    async fn follow(
        &self,
        method: &Method,
        mut target: Uri,
        headers: &HeaderMap,
        mut authorization: Option<HeaderValue>,
    ) -> Result<(String, Response<Incoming>), RequestError> {
        for _ in 0..=MAX_REDIRECTS {
            let host = authority(&target);
            let mut request = Request::builder()
                .method(method.clone())
                .uri(target.clone());
            if let Some(known) = request.headers_mut() {
                known.extend(headers.clone());
                if let Some(value) = &authorization {
                    known.insert(AUTHORIZATION, value.clone());
                }
            }
            let response = self.exchange(request, whole(Bytes::new()), &host).await?;
            if !response.status().is_redirection() {
                return Ok((host, response));
            }
            let next = sent_to(&target, &response, "a redirect")?;
            // Credentials are for the registry, not for the store of blobs behind it.
            if authority(&next) != host {
                authorization = None;
            }
            target = next;
        }
        Err(RequestError::Protocol {
            host: authority(&target),
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    async fn exchange(
        &self,
        request: http::request::Builder,
        body: Sent,
        host: &str,
    ) -> Result<Response<Incoming>, RequestError> {
        let request = request
            .header(USER_AGENT, concat!("havre/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| RequestError::Protocol {
                host: host.to_owned(),
                reason: error.to_string(),
            })?;
        let limit = match hyper::body::Body::size_hint(request.body()).exact() {
            Some(0) => HEAD_TIMEOUT,
            _ => BODY_TIMEOUT,
        };
        match tokio::time::timeout(limit, self.transport.request(request)).await {
            Err(_) => Err(RequestError::Timeout {
                host: host.to_owned(),
                limit,
            }),
            Ok(Err(error)) => Err(transport::classify(host, error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The header that answers a challenge; `None` when nothing is known that could.
    async fn answer(
        &self,
        challenge: &Challenge,
        host: &str,
        wanted: &str,
    ) -> Result<Option<HeaderValue>, RequestError> {
        match (challenge, &self.login) {
            (Challenge::Basic, Found::Login(login)) => basic(login).map(Some),
            (Challenge::Basic, Found::Nothing | Found::Helper(_)) => Ok(None),
            (Challenge::Bearer { .. }, _) => self.token(challenge, host, wanted).await,
        }
    }

    /// Asks the token service that the registry names.
    async fn token(
        &self,
        challenge: &Challenge,
        host: &str,
        wanted: &str,
    ) -> Result<Option<HeaderValue>, RequestError> {
        let default_scope = format!("repository:{}:{wanted}", self.repository);
        let Some(url) = challenge.token_url(&default_scope) else {
            return Ok(None);
        };
        let target = uri(&url)?;
        let base = self.base.lock().await.clone();
        if base.scheme == "https" && target.scheme_str() != Some("https") {
            return Err(RequestError::Protocol {
                host: host.to_owned(),
                reason: "it wants credentials to be sent over plain HTTP".to_owned(),
            });
        }
        let service = authority(&target);
        let trusted = realm::may_see_login(base.scheme, &base.authority, &target);
        let mut request = Request::get(target);
        // Without the login it may still give out what everybody may have.
        match &self.login {
            Found::Login(login) if trusted => {
                request = request.header(AUTHORIZATION, basic(login)?);
            }
            Found::Login(_) => *self.withheld.lock().await = Some(service.clone()),
            Found::Nothing | Found::Helper(_) => {}
        }
        let response = self
            .exchange(request, whole(Bytes::new()), &service)
            .await?;
        if matches!(
            response.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            let detail = detail(response).await;
            return Err(self.unauthorized(service, detail).await);
        }
        let response = accepted(service.clone(), "token", response).await?;
        let body = body(response, &service, MAX_TOKEN_BODY).await?;
        let token: Token =
            serde_json::from_slice(&body).map_err(|error| RequestError::Protocol {
                host: service.clone(),
                reason: format!("the token is not readable ({error})"),
            })?;
        match token.token.or(token.access_token) {
            Some(token) => header(&format!("Bearer {token}"), &service).map(Some),
            None => Err(RequestError::Protocol {
                host: service,
                reason: "the answer holds no token".to_owned(),
            }),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Turns every status but success into an error.
async fn accepted(
    host: String,
    what: &str,
    response: Response<Incoming>,
) -> Result<Response<Incoming>, RequestError> {
    let status = response.status();
    // A range that starts at the end is for the caller to judge.
    if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(response);
    }
    if status == StatusCode::NOT_FOUND {
        return Err(RequestError::NotFound {
            host,
            what: what.to_owned(),
        });
    }
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let detail = detail(response).await;
    Err(RequestError::Status {
        host,
        status,
        what: what.to_owned(),
        detail,
        retry_after,
    })
}

/// The first message of a registry's error document, or nothing.
async fn detail(response: Response<Incoming>) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(body) = body(response, "", MAX_ERROR_BODY).await else {
        return String::new();
    };
    match serde_json::from_slice::<Errors>(&body) {
        Ok(Errors { errors }) => errors
            .first()
            .map(|error| format!("{} {}", error.code, error.message))
            .unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn body(
    response: Response<Incoming>,
    host: &str,
    limit: usize,
) -> Result<Bytes, RequestError> {
    let collect = body::collect(response.into_body(), limit);
    match tokio::time::timeout(IDLE_TIMEOUT, collect).await {
        Err(_) => Err(RequestError::Timeout {
            host: host.to_owned(),
            limit: IDLE_TIMEOUT,
        }),
        Ok(Err(BodyError::TooLong(_))) => Err(RequestError::Protocol {
            host: host.to_owned(),
            reason: format!("a document has more than {limit} bytes"),
        }),
        Ok(Err(BodyError::Broken(source))) => Err(RequestError::Broken {
            host: host.to_owned(),
            source,
        }),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Where an answer sends to, by `what`; never from HTTPS to plain HTTP.
fn sent_to(from: &Uri, response: &Response<Incoming>, what: &str) -> Result<Uri, RequestError> {
    let protocol = |reason: &str| RequestError::Protocol {
        host: authority(from),
        reason: format!("{what} {reason}"),
    };
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| protocol("without a target"))?;
    let absolute = if location.starts_with('/') {
        format!(
            "{}://{}{location}",
            from.scheme_str().unwrap_or("https"),
            authority(from)
        )
    } else {
        location.to_owned()
    };
    let next = uri(&absolute)?;
    match (from.scheme_str(), next.scheme_str()) {
        (Some("https"), Some("http")) => Err(protocol("from HTTPS to plain HTTP")),
        (_, Some("https" | "http")) => Ok(next),
        _ => Err(protocol("to something that is not HTTP")),
    }
}

/// An address that a server named; a user before the host only serves to mislead.
fn uri(text: &str) -> Result<Uri, RequestError> {
    let wrong = |reason: String| RequestError::Protocol {
        host: text.to_owned(),
        reason,
    };
    let uri: Uri = text
        .parse()
        .map_err(|error| wrong(format!("not a URL ({error})")))?;
    if authority(&uri).contains('@') {
        return Err(wrong("a URL with a user in it".to_owned()));
    }
    Ok(uri)
}

fn authority(uri: &Uri) -> String {
    uri.authority().map(ToString::to_string).unwrap_or_default()
}

fn basic(login: &Login) -> Result<HeaderValue, RequestError> {
    let mut value = header(&login.basic(), "the credentials")?;
    value.set_sensitive(true);
    Ok(value)
}

fn header(text: &str, host: &str) -> Result<HeaderValue, RequestError> {
    HeaderValue::from_str(text).map_err(|_| RequestError::Protocol {
        host: host.to_owned(),
        reason: "a value that no header can hold".to_owned(),
    })
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// An I/O error for a body that broke off.
pub(crate) fn broken(
    host: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RequestError {
    RequestError::Broken {
        host: host.to_owned(),
        source: source.into(),
    }
}

/// A body that ended too early.
pub(crate) fn cut(host: &str) -> RequestError {
    broken(host, io::Error::from(io::ErrorKind::UnexpectedEof))
}
