//! Answers of the edge itself: which cause, in the form the client reads.
//!
//! The public learns what was wrong with its own request. What went wrong behind the edge (names of
//! environments, routes and replicas, errors of the operating system) is in the access log, under the
//! request id that the page shows.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

/// Why the edge answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request is not well-formed.
    BadRequest(&'static str),
    /// CONNECT, TRACE.
    Method,
    /// Too many header fields.
    TooManyFields,
    /// The head is longer than [`crate::limits::HEAD_BYTES`].
    HeadTooLong,
    /// The target is longer than [`crate::limits::TARGET_BYTES`].
    TargetTooLong,
    /// The head did not arrive in time.
    SlowHead,
    /// No route names the host.
    UnknownHost,
    /// The connection was made for another host.
    Misdirected,
    /// No route covers the path.
    NoRoute,
    /// No replica takes requests.
    NoReplica {
        /// Route.
        route: String,
        /// From the control plane, or ours.
        reason: String,
    },
    /// Too many requests wait for a replica already.
    HoldFull {
        /// Route.
        route: String,
    },
    /// No replica accepted a connection.
    Unreachable {
        /// Route.
        route: String,
        /// The last one tried.
        replica: String,
        /// Of the operating system.
        reason: String,
    },
    /// A replica ended the connection, or broke HTTP, before it answered.
    Broken {
        /// Route.
        route: String,
        /// Which.
        replica: String,
        /// What happened.
        reason: String,
    },
    /// A replica did not answer in time.
    Slow {
        /// Route.
        route: String,
        /// Which.
        replica: String,
    },
    /// The replica leaves, and the call had no answer yet.
    Leaving {
        /// Route.
        route: String,
        /// Which.
        replica: String,
    },
    /// A WebSocket was asked for where the replica is spoken to over HTTP/2.
    NoWebSocket {
        /// Route.
        route: String,
    },
    /// The client stopped in the middle of its request body.
    UploadStalled,
    /// Too many requests of one address are under way, or it does not take their answers.
    Crowd,
}

impl Cause {
    /// Status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooManyFields | Self::HeadTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::UnknownHost | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NoReplica { .. } | Self::HoldFull { .. } | Self::Leaving { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Unreachable { .. } | Self::Broken { .. } => StatusCode::BAD_GATEWAY,
            Self::Slow { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::NoWebSocket { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::UploadStalled | Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Self::Crowd => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// A replica is to blame.
    pub fn is_of_replica(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Slow { .. }
        )
    }

    /// What follows on the connection cannot be told from what was wrong.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::Method
                | Self::TooManyFields
                | Self::HeadTooLong
                | Self::TargetTooLong
                | Self::SlowHead
                | Self::UploadStalled
        )
    }

    /// What the client is told beside the status: what it did itself, nothing of what lies behind us.
    fn message(&self) -> Option<String> {
        match self {
            Self::BadRequest(_)
            | Self::Method
            | Self::TooManyFields
            | Self::HeadTooLong
            | Self::TargetTooLong
            | Self::SlowHead
            | Self::UnknownHost
            | Self::Misdirected
            | Self::NoRoute
            | Self::Crowd
            | Self::UploadStalled => Some(self.sentence()),
            Self::NoWebSocket { .. } => Some("no WebSocket is served at this address".to_owned()),
            Self::NoReplica { .. }
            | Self::HoldFull { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Slow { .. }
            | Self::Leaving { .. } => None,
        }
    }

    /// One sentence for the log.
    pub fn sentence(&self) -> String {
        match self {
            Self::BadRequest(what) => format!("bad request: {what}"),
            Self::Method => "this method is not served here".to_owned(),
            Self::TooManyFields => "too many header fields".to_owned(),
            Self::HeadTooLong => "the request's head is too long".to_owned(),
            Self::TargetTooLong => "the request's target is too long".to_owned(),
            Self::SlowHead => "the request's head took too long".to_owned(),
            Self::UnknownHost => "no application is served under this host name".to_owned(),
            Self::Misdirected => "this connection was made for another host name".to_owned(),
            Self::NoRoute => "no route of this host covers the path".to_owned(),
            Self::NoReplica { route, reason } => {
                format!("{route} has no replica to serve this request: {reason}")
            }
            Self::HoldFull { route } => {
                format!("{route} has no replica, and too many requests wait for one already")
            }
            Self::Unreachable {
                route,
                replica,
                reason,
            } => {
                format!("{replica} of {route} cannot be reached: {reason}")
            }
            Self::Broken {
                route,
                replica,
                reason,
            } => {
                format!("{replica} of {route} gave no answer: {reason}")
            }
            Self::Slow { route, replica } => {
                format!("{replica} of {route} did not answer in time")
            }
            Self::Leaving { route, replica } => {
                format!("closed as {replica} of {route} drains")
            }
            Self::NoWebSocket { route } => format!(
                "{route} has `protocol: h2c`, over which no WebSocket is passed on: give its path a route \
                 of its own without it"
            ),
            Self::UploadStalled => "the request body stopped arriving".to_owned(),
            Self::Crowd => "too many requests of this address are under way".to_owned(),
        }
    }
}

/// The answer, in HTML, JSON or plain text by what the client accepts.
pub fn render(cause: &Cause, request: &HeaderMap, request_id: &str) -> Response<Bytes> {
    let status = cause.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let message = cause.message();
    let (kind, body) = match wanted(request) {
        Form::Html => (
            "text/html; charset=utf-8",
            html(status.as_u16(), title, message.as_deref(), request_id),
        ),
        Form::Json => {
            let mut json = serde_json::json!({
                "error": title, "status": status.as_u16(), "request_id": request_id,
            });
            if let Some(message) = message {
                json["cause"] = message.into();
            }
            ("application/json", format!("{json}\n"))
        }
        Form::Plain => {
            let message = message
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            let status = status.as_u16();
            (
                "text/plain; charset=utf-8",
                format!("{status} {title}{message}\nrequest id: {request_id}\n"),
            )
        }
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::SERVER, HeaderValue::from_static("havre"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, ALLOWED);
    }
    response
}

const ALLOWED: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// The answer to `OPTIONS *`, which asks about the server as a whole (RFC 9110 §9.3.7).
pub fn options() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, ALLOWED);
    headers.insert(header::SERVER, HeaderValue::from_static("havre"));
    response
}

/// What an authority looks for.
pub fn challenge(answer: String) -> Response<Bytes> {
    let mut response = Response::new(answer.into());
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::SERVER, HeaderValue::from_static("havre"));
    response
}

/// A redirect to HTTPS.
pub fn redirect(location: &str) -> Option<Response<Bytes>> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let location = HeaderValue::from_str(location).ok()?;
    response.headers_mut().insert(header::LOCATION, location);
    response
        .headers_mut()
        .insert(header::SERVER, HeaderValue::from_static("havre"));
    Some(response)
}

enum Form {
    Html,
    Json,
    Plain,
}

fn wanted(request: &HeaderMap) -> Form {
    let accept = request
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or("");
    if accept.contains("text/html") {
        Form::Html
    } else if accept.contains("json") {
        Form::Json
    } else {
        Form::Plain
    }
}

fn html(status: u16, title: &str, message: Option<&str>, request_id: &str) -> String {
    let message = message.map(|message| format!("<p>{}</p>", escape(message)));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{status} {title}</title>\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;\
         padding:0 1rem;color-scheme:light dark}}small{{opacity:.6}}</style>\
         <h1>{status} {title}</h1>{}<p><small>request id {}</small></p></html>\n",
        message.unwrap_or_default(),
        escape(request_id)
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '"' | '\'' => {
                // Writing to a String cannot fail.
                write!(out, "&#{};", u32::from(character)).unwrap_or_default();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(cause: &Cause, accept: &str) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a value"));
        let response = render(cause, &headers, "id-1");
        assert_eq!(response.status(), cause.status());
        let kind = response.headers()[header::CONTENT_TYPE]
            .to_str()
            .expect("ASCII")
            .to_owned();
        (
            kind,
            String::from_utf8(response.into_body().to_vec()).expect("UTF-8"),
        )
    }

    #[test]
    fn a_client_learns_what_it_did_wrong_in_the_form_it_reads() {
        let cause = Cause::BadRequest("<b> is no name");
        let (kind, page) = body(&cause, "text/html,application/xhtml+xml");
        assert!(kind.starts_with("text/html"));
        assert!(page.contains("&#60;b&#62; is no name"), "{page}");
        let (_, json) = body(&cause, "application/json");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["status"], 400);
        assert_eq!(json["cause"], "bad request: <b> is no name");
        assert_eq!(json["request_id"], "id-1");
        let (_, plain) = body(&cause, "*/*");
        assert!(
            plain.starts_with("400 Bad Request: bad request: <b>"),
            "{plain}"
        );
    }

    #[test]
    fn nobody_learns_what_lies_behind_the_edge() {
        let (route, replica) = ("shop/production/".to_owned(), "shop.web.1".to_owned());
        let reason = "connection refused".to_owned();
        for (cause, title) in [
            (
                Cause::Broken {
                    route: route.clone(),
                    replica: replica.clone(),
                    reason: reason.clone(),
                },
                "502 Bad Gateway",
            ),
            (
                Cause::Unreachable {
                    route: route.clone(),
                    replica: replica.clone(),
                    reason: reason.clone(),
                },
                "502 Bad Gateway",
            ),
            (
                Cause::Slow {
                    route: route.clone(),
                    replica,
                },
                "504 Gateway Timeout",
            ),
            (
                Cause::NoReplica {
                    route: route.clone(),
                    reason,
                },
                "503 Service Unavailable",
            ),
            (Cause::HoldFull { route }, "503 Service Unavailable"),
        ] {
            for accept in ["text/html", "application/json", "*/*"] {
                let (_, page) = body(&cause, accept);
                for secret in ["shop", "production", "web", "refused", "replica"] {
                    assert!(!page.contains(secret), "{accept}: {page}");
                }
                assert!(page.contains("id-1"), "{page}");
            }
            let (_, plain) = body(&cause, "*/*");
            assert_eq!(plain, format!("{title}\nrequest id: id-1\n"));
        }
    }
}
