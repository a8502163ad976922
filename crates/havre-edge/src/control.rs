//! The control socket: what is said over it, and the daemon's side of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::limits;
use crate::state::{EdgeState, EdgeStatus};

/// Name of the socket in the run directory.
pub const SOCKET: &str = "edge.sock";

/// Closes the streams of a replica, evenly over a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseStreams {
    /// The container's id.
    pub replica: String,
    /// The last one is closed after this.
    pub over_ms: u64,
}

/// How many streams a [`CloseStreams`] will close.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Open when asked.
    pub streams: u64,
}

/// Ends the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// For what is under way; the rest is cut.
    pub grace_ms: u64,
}

/// What the edge answers when it refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub error: String,
}

/// An exchange with the edge failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody is there.
    #[error("cannot reach the edge at {socket}")]
    Connect {
        /// The socket.
        socket: String,
        /// Why.
        source: std::io::Error,
    },
    /// In the exchange.
    #[error("the edge broke off the control connection")]
    Exchange(#[source] hyper::Error),
    /// The answer's body.
    #[error("the edge's answer cannot be read: {0}")]
    Answer(String),
    /// No answer.
    #[error("the edge did not answer {what} within {} s", .deadline.as_secs())]
    Deadline {
        /// Method and path.
        what: String,
        /// How long.
        deadline: Duration,
    },
    /// A newer state is in force.
    #[error("the edge refuses the state: {0}")]
    Older(String),
    /// Anything else it refuses.
    #[error("the edge refuses {what} with {status}: {error}")]
    Refused {
        /// Method and path.
        what: String,
        /// HTTP status.
        status: u16,
        /// Why.
        error: String,
    },
}

/// The daemon's side: one connection per request, a deadline on each.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

const QUICK: Duration = Duration::from_secs(5);
/// Certificates are read and ports are bound in it.
const PUSH: Duration = Duration::from_secs(30);

impl Control {
    /// Of the edge whose run directory this is.
    pub fn new(run: &Path) -> Self {
        Self {
            socket: run.join(SOCKET),
        }
    }

    /// Pushes a state. When this returns, no request goes by an older one.
    pub async fn put_state(&self, state: &EdgeState) -> Result<EdgeStatus, ControlError> {
        self.ask(Method::PUT, "/v1/state", Some(state), PUSH).await
    }

    /// Asks how it is.
    pub async fn status(&self) -> Result<EdgeStatus, ControlError> {
        self.ask(Method::GET, "/v1/status", None::<&()>, QUICK)
            .await
    }

    /// Closes WebSockets and event streams of a replica, evenly over `over`. Returns at once, with
    /// their number.
    pub async fn close_streams(
        &self,
        replica: &str,
        over: Duration,
    ) -> Result<Closing, ControlError> {
        let request = CloseStreams {
            replica: replica.to_owned(),
            over_ms: millis(over),
        };
        self.ask(Method::POST, "/v1/close-streams", Some(&request), QUICK)
            .await
    }

    /// Ends the edge once everything under way is done, at the latest after `grace`. Returns at once.
    pub async fn shutdown(&self, grace: Duration) -> Result<EdgeStatus, ControlError> {
        let request = Shutdown {
            grace_ms: millis(grace),
        };
        self.ask(Method::POST, "/v1/shutdown", Some(&request), QUICK)
            .await
    }

    async fn ask<Q: Serialize, A: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Q>,
        deadline: Duration,
    ) -> Result<A, ControlError> {
        let what = format!("{method} {path}");
        let exchange = self.exchange(method, path, body);
        let (status, bytes) = tokio::time::timeout(deadline, exchange)
            .await
            .map_err(|_| ControlError::Deadline {
                what: what.clone(),
                deadline,
            })??;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| ControlError::Answer(error.to_string()));
        }
        let error = match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) => refusal.error,
            Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
        };
        if status == StatusCode::CONFLICT {
            return Err(ControlError::Older(error));
        }
        Err(ControlError::Refused {
            what,
            status: status.as_u16(),
            error,
        })
    }

    async fn exchange<Q: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Q>,
    ) -> Result<(StatusCode, Bytes), ControlError> {
        let connect = |source| ControlError::Connect {
            socket: self.socket.display().to_string(),
            source,
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(connect)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ControlError::Exchange)?;
        let body = match body {
            Some(body) => {
                serde_json::to_vec(body).map_err(|error| ControlError::Answer(error.to_string()))?
            }
            None => Vec::new(),
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let host = http::HeaderValue::from_static("edge");
        request.headers_mut().insert(http::header::HOST, host);
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(ControlError::Exchange)?;
            let (head, body) = response.into_parts();
            let body = havre_base::body::collect(body, limits::CONTROL_BODY).await;
            let body = body.map_err(|error| ControlError::Answer(error.to_string()))?;
            Ok((head.status, body))
        };
        // The connection makes progress only while it is polled, here beside the exchange.
        let driven = async {
            drop(connection.await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = answer => answer,
            () = driven => Err(ControlError::Answer("the connection closed".to_owned())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
