//! One request's line of the access log in the making. It is written when dropped, so that every
//! request has exactly one, however it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use havre_base::time::rfc3339;
use http::{Version, request};

use crate::access::{Entry, Lines};
use crate::gate::FirstLine;
use crate::replica::Upstream;
use crate::state::FailedRequest;
use crate::upload::UploadProgress;

/// Status logged when the client left before there was one.
const CLIENT_CLOSED: u16 = 499;

/// See the module.
#[derive(Debug)]
pub struct Record {
    lines: Arc<Lines>,
    arrived: SystemTime,
    begun: Instant,
    method: String,
    version: Version,
    scheme: &'static str,
    path: String,
    user_agent: String,
    /// Host, canonical.
    pub host: String,
    /// X-Request-Id.
    pub request_id: String,
    /// Behind trusted proxies.
    pub client_ip: IpAddr,
    /// Route.
    pub route: String,
    /// Replica.
    pub replica: Option<Arc<Upstream>>,
    /// Status sent.
    pub status: u16,
    /// Body bytes sent.
    pub bytes: u64,
    /// Time to connect.
    pub connect: Option<Duration>,
    /// Time to the answer's head.
    pub upstream: Option<Duration>,
    /// Time held.
    pub held: Option<Duration>,
    /// Attempts beyond the first.
    pub retries: u32,
    /// What went wrong.
    pub cause: String,
    /// It went wrong at the replica.
    pub failed: bool,
    /// `websocket`, `event-stream`, `grpc`.
    pub stream: &'static str,
    /// The request's body.
    pub upload: Option<Arc<UploadProgress>>,
    /// Body bytes received, where `upload` does not count them.
    pub bytes_in: u64,
}

impl Record {
    /// Begins with what the head says.
    pub fn new(lines: &Arc<Lines>, head: &request::Parts, https: bool, client_ip: IpAddr) -> Self {
        let user_agent = head.headers.get(http::header::USER_AGENT);
        let line = FirstLine {
            method: head.method.as_str().to_owned(),
            host: String::new(),
            path: head.uri.path().to_owned(),
            user_agent: user_agent
                .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned())
                .unwrap_or_default(),
        };
        Self::of_line(lines, line, head.version, https, client_ip)
    }

    /// Begins with what is known of a request that has no sound head.
    pub fn of_line(
        lines: &Arc<Lines>,
        line: FirstLine,
        version: Version,
        https: bool,
        client_ip: IpAddr,
    ) -> Self {
        Self {
            lines: Arc::clone(lines),
            arrived: SystemTime::now(),
            begun: Instant::now(),
            method: line.method,
            version,
            scheme: if https { "https" } else { "http" },
            path: line.path,
            user_agent: line.user_agent,
            host: line.host,
            request_id: String::new(),
            client_ip,
            route: String::new(),
            replica: None,
            status: CLIENT_CLOSED,
            bytes: 0,
            connect: None,
            upstream: None,
            held: None,
            retries: 0,
            cause: String::new(),
            failed: false,
            stream: "",
            upload: None,
            bytes_in: 0,
        }
    }
}

impl Record {
    /// The client speaks HTTP/1.
    pub fn is_http1(&self) -> bool {
        self.version < Version::HTTP_2
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let cause = if self.status == CLIENT_CLOSED && self.cause.is_empty() {
            "the client left before the answer"
        } else {
            &self.cause
        };
        if self.failed
            && let Some(replica) = &self.replica
        {
            let since = self.arrived.duration_since(SystemTime::UNIX_EPOCH);
            let at = since.unwrap_or_default().as_millis();
            replica.note_failure(FailedRequest {
                at_ms: u64::try_from(at).unwrap_or(u64::MAX),
                request_id: self.request_id.clone(),
                cause: cause.to_owned(),
            });
        }
        let uploaded = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        self.lines.add(&Entry {
            ts: rfc3339(self.arrived, 3),
            request_id: &self.request_id,
            method: &self.method,
            scheme: self.scheme,
            host: &self.host,
            path: &self.path,
            protocol: protocol(self.version),
            status: self.status,
            bytes: self.bytes,
            bytes_in: uploaded + self.bytes_in,
            duration_ms: millis(self.begun.elapsed()),
            client_ip: self.client_ip.to_string(),
            user_agent: &self.user_agent,
            route: &self.route,
            replica: self.replica.as_ref().map_or("", |replica| &replica.id),
            connect_ms: self.connect.map(millis),
            upstream_ms: self.upstream.map(millis),
            held_ms: self.held.map(millis),
            retries: self.retries,
            cause,
            stream: self.stream,
        });
    }
}

/// Milliseconds with three digits behind the point.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
