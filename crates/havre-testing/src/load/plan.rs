//! What is sent, where and how often.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

/// A load.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// `https://host[:port]` or `http://host[:port]`.
    pub base_url: String,
    /// Connect here instead of to the host's addresses.
    pub resolve: Option<SocketAddr>,
    /// PEM of the CA to trust, for https.
    pub ca_pem: Option<String>,
    /// Requests per second; 0 for streams alone.
    pub rate: f64,
    /// What is requested, in turn and by weight.
    pub shots: Vec<Shot>,
    /// For one request from its planned instant to the last byte of its answer.
    pub request_deadline: Duration,
    /// Requests under way at a time; one more fails at once.
    pub most_in_flight: usize,
    /// HTTP/1.1 connections at a time; requests wait for one, and the wait counts.
    pub most_connections: usize,
    /// HTTP/2 over one connection at a time rather than HTTP/1.1 over many.
    pub http2: bool,
    /// WebSockets kept open; each is pinged every second and must answer.
    pub websockets: Streams,
    /// Event streams kept open.
    pub event_streams: Streams,
    /// Ends after this, or when cancelled.
    pub duration: Option<Duration>,
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct Shot {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// Share among the shots.
    pub weight: u32,
    /// Statuses that are no failure.
    pub expect: RangeInclusive<u16>,
}

/// Streams of one kind.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// How many.
    pub count: usize,
    /// Path and query.
    pub path: String,
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not a base URL.
    #[error("{0} is not http(s)://host[:port]")]
    Url(String),
    /// Not a CA.
    #[error("the CA of the plan cannot be used: {0}")]
    Ca(String),
    /// No address.
    #[error("cannot find the address of {host}")]
    Resolve {
        /// Host and port.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// Requests wanted and none named.
    #[error("the plan has a rate and no shots with a weight")]
    NoShots,
}

impl LoadPlan {
    /// GETs of `/` at a rate, nothing else.
    pub fn new(base_url: &str, rate: f64) -> Self {
        Self {
            base_url: base_url.to_owned(),
            resolve: None,
            ca_pem: None,
            rate,
            shots: vec![Shot::get("/")],
            request_deadline: Duration::from_secs(30),
            most_in_flight: 2000,
            most_connections: 64,
            http2: false,
            websockets: Streams::default(),
            event_streams: Streams::default(),
            duration: None,
        }
    }
}

impl Shot {
    /// A GET that expects 2xx or 3xx.
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            weight: 1,
            expect: 200..=399,
        }
    }

    /// A POST that expects 2xx or 3xx.
    pub fn post(path: &str, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            method: Method::POST,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
            ..Self::get(path)
        }
    }
}
