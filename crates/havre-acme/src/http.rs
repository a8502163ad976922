//! Talking to authorities: TLS only, to the host of the directory only, with deadlines and bounds.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use havre_base::one_line;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::problem::Problem;

const CONNECT: Duration = Duration::from_secs(10);
/// From the first byte sent to the last one read.
const WHOLE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 1024 * 1024;
const AGENT: &str = concat!("havre/", env!("CARGO_PKG_VERSION"));

/// Why nothing can be asked of an authority.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file of certificates cannot be used.
    #[error("cannot read certificates from {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: rustls::pki_types::pem::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// An address that is not followed.
    #[error("{address} is not an https address at {host}, the host of the authority's directory")]
    Elsewhere {
        /// What was to be asked.
        address: String,
        /// Where it may be.
        host: String,
    },
    /// No answer.
    #[error("cannot reach {host}: {detail}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// Why.
        detail: String,
    },
    /// No answer in time.
    #[error("{host} did not answer within {} s", WHOLE.as_secs())]
    Silent {
        /// Who was asked.
        host: String,
    },
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Connections to one authority; cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Host and port of the directory.
    host: String,
}

impl Http {
    /// For the authority whose directory is at `directory`; trusts what the machine trusts and what is in
    /// `more`. Reads files: blocks.
    pub(crate) fn new(directory: &str, more: Option<&Path>) -> Result<Self, HttpError> {
        let host = host_of(directory).ok_or_else(|| HttpError::Elsewhere {
            address: directory.to_owned(),
            host: "any host".to_owned(),
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(HttpError::Tls)?
            .with_root_certificates(roots(more)?)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(4)
            .build(connector);
        Ok(Self { client, host })
    }

    /// Asks without a signature.
    pub(crate) async fn get(&self, address: &str) -> Result<Answer, HttpError> {
        let elsewhere = || self.elsewhere(address);
        let request = Request::builder()
            .method(Method::GET)
            .uri(address)
            .header(header::USER_AGENT, AGENT)
            .body(Full::default())
            .map_err(|_| elsewhere())?;
        self.request(request).await
    }

    async fn request(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let address = request.uri().to_string();
        if host_of(&address).as_ref() != Some(&self.host) {
            return Err(self.elsewhere(&address));
        }
        let agent = header::HeaderValue::from_static(AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| self.unreachable(one_line(&error)))?;
            let (head, body) = response.into_parts();
            let body = havre_base::body::collect(body, MAX_ANSWER).await;
            let body = body.map_err(|error| self.unreachable(one_line(&error)))?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        match tokio::time::timeout(WHOLE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Silent {
                host: self.host.clone(),
            }),
        }
    }

    fn elsewhere(&self, address: &str) -> HttpError {
        HttpError::Elsewhere {
            address: address.to_owned(),
            host: self.host.clone(),
        }
    }

    fn unreachable(&self, detail: String) -> HttpError {
        HttpError::Unreachable {
            host: self.host.clone(),
            detail,
        }
    }
}

/// Host and port of an https address.
fn host_of(address: &str) -> Option<String> {
    let uri: Uri = address.parse().ok()?;
    let host = uri.host()?.to_ascii_lowercase();
    let sound = uri.scheme_str() == Some("https") && !uri.authority()?.as_str().contains('@');
    sound.then(|| format!("{host}:{}", uri.port_u16().unwrap_or(443)))
}

fn roots(more: Option<&Path>) -> Result<rustls::RootCertStore, HttpError> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in native.errors {
        tracing::warn!(%error, "some of the machine's certificates are not readable");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = more {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|source| HttpError::Certificates {
                path: path.to_owned(),
                source,
            })?;
        roots.add_parsable_certificates(certificates);
    }
    Ok(roots)
}

/// How long an answer asks for patience.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let at = SystemTime::from(at);
    Some(at.duration_since(now).unwrap_or_default())
}

/// The conversation about one order. It answers for the directory, which is known, and remembers what the
/// ACME client does not tell: the last refusal with the patience that was asked for, and the issuers that
/// lasting records may name.
#[derive(Clone)]
pub(crate) struct Conversation {
    http: Http,
    directory: Arc<(String, Bytes)>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    refusal: Option<Problem>,
    issuers: Vec<String>,
}

impl Conversation {
    pub(crate) fn new(http: Http, directory: Arc<(String, Bytes)>) -> Self {
        Self {
            http,
            directory,
            heard: Arc::default(),
        }
    }

    /// The last answer that was a refusal.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        self.lock().refusal.clone()
    }

    /// Domains by which the authority goes in lasting records.
    pub(crate) fn issuers(&self) -> Vec<String> {
        self.lock().issuers.clone()
    }

    /// An error of the ACME client, with what was heard beside.
    pub(crate) fn problem(&self, error: instant_acme::Error) -> Problem {
        match error {
            instant_acme::Error::Api(said) => {
                let detail = said.detail.clone().unwrap_or_else(|| said.to_string());
                let problem = Problem::of_authority(said.r#type, detail, said.status);
                match self.refusal() {
                    // The same, with what only its head says.
                    Some(heard) if heard.kind == problem.kind => heard,
                    Some(heard) if problem.kind.as_deref() == Some("about:blank") => heard,
                    Some(_) | None => problem,
                }
            }
            instant_acme::Error::Timeout(_) => {
                Problem::own("the authority had not decided within two minutes")
            }
            other => match self.refusal() {
                // A number for the next request was refused.
                Some(heard) if matches!(other, instant_acme::Error::Str(_)) => heard,
                Some(_) | None => Problem::own(one_line(&other)),
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an answer says, and makes a problem of one that is none.
    fn listen(&self, mut answer: Answer) -> Answer {
        if answer.status.is_client_error() || answer.status.is_server_error() {
            let problem = problem_of(&answer);
            if !is_document(&answer.body) {
                let said = serde_json::json!({"type": "about:blank", "detail": problem.detail});
                answer.body = said.to_string().into();
            }
            self.lock().refusal = Some(problem);
        } else if let Some(issuers) = issuers_in(&answer.body) {
            self.lock().issuers = issuers;
        }
        answer
    }
}

impl HttpClient for Conversation {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let talk = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if head.method == Method::GET && head.uri == talk.directory.0.as_str() {
                let known = Full::new(talk.directory.1.clone());
                return Ok(BytesResponse::from(Response::new(known)));
            }
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(never) => match never {},
            };
            let request = Request::from_parts(head, Full::new(body));
            let answered = talk.http.request(request).await;
            let answer = answered.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            let answer = talk.listen(answer);
            let mut response = Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(BytesResponse::from(response))
        })
    }
}

/// What a refusal says, in the authority's words where there are any.
pub(crate) fn problem_of(answer: &Answer) -> Problem {
    #[derive(serde::Deserialize, Default)]
    struct Document {
        #[serde(default)]
        r#type: Option<String>,
        #[serde(default)]
        detail: Option<String>,
        #[serde(default)]
        subproblems: Vec<Document>,
    }
    let status = answer.status;
    let document: Document = serde_json::from_slice(&answer.body).unwrap_or_default();
    let own = || format!("the authority answered {status}");
    let mut detail = document.detail.unwrap_or_else(own);
    for more in document
        .subproblems
        .into_iter()
        .filter_map(|sub| sub.detail)
    {
        detail.push_str("; ");
        detail.push_str(&more);
    }
    let kind = document.r#type.filter(|kind| kind != "about:blank");
    let mut problem = Problem::of_authority(kind, detail, Some(status.as_u16()));
    let patience = retry_after(&answer.headers, SystemTime::now());
    problem.retry_after = patience.map(|patience| patience.as_secs());
    problem
}

fn is_document(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body).is_ok()
}

/// Of an authorization that offers dns-persist-01.
fn issuers_in(body: &[u8]) -> Option<Vec<String>> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    let challenges = document.get("challenges")?.as_array()?;
    let names = challenges
        .iter()
        .find_map(|it| it.get("issuer-domain-names"))?;
    let names = names.as_array()?.iter().filter_map(|name| name.as_str());
    Some(names.take(10).map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_directorys_host_is_asked() {
        for (address, host) in [
            ("https://ca.example/dir", Some("ca.example:443")),
            ("https://CA.example:14000/dir", Some("ca.example:14000")),
            ("http://ca.example/dir", None),
            ("https://user@ca.example/dir", None),
            ("/dir", None),
        ] {
            assert_eq!(host_of(address).as_deref(), host, "{address}");
        }
    }

    #[tokio::test]
    async fn another_host_is_an_error_before_a_byte_is_sent() {
        let http = Http::new("https://ca.example/dir", None).unwrap();
        for address in ["https://169.254.169.254/latest", "http://ca.example/dir"] {
            let error = http.get(address).await.unwrap_err();
            assert!(matches!(error, HttpError::Elsewhere { .. }), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_read_whatever_it_looks_like() {
        let answer = |status: u16, body: &'static str, retry: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(retry) = retry {
                headers.insert(header::RETRY_AFTER, retry.parse().unwrap());
            }
            Answer {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                body: Bytes::from_static(body.as_bytes()),
            }
        };
        let page = problem_of(&answer(503, "<html>busy</html>", Some("120")));
        assert_eq!(
            page.detail,
            "the authority answered 503 Service Unavailable"
        );
        assert_eq!((page.status, page.retry_after), (Some(503), Some(120)));
        let said = problem_of(&answer(
            403,
            r#"{"type": "urn:ietf:params:acme:error:malformed", "detail": "no",
                "subproblems": [{"detail": "b.dev: policy"}]}"#,
            None,
        ));
        assert!(said.is("malformed"));
        assert_eq!(said.detail, "no; b.dev: policy");
        let at = "Fri, 31 Dec 1999 23:59:59 GMT";
        let dated = answer(429, "{}", Some(at));
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_799 - 60);
        let patience = retry_after(&dated.headers, before);
        assert_eq!(patience, Some(Duration::from_secs(60)));
    }

    #[test]
    fn issuers_of_lasting_records_are_heard() {
        let body = br#"{"status": "pending", "challenges": [
            {"type": "http-01", "token": "x"},
            {"type": "dns-persist-01", "issuer-domain-names": ["ca.example", 5]}]}"#;
        assert_eq!(issuers_in(body), Some(vec!["ca.example".to_owned()]));
        assert_eq!(issuers_in(b"[]"), None);
    }
}
