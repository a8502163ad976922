//! One request and the place it is handled in: what its stages have in common.

use std::sync::Arc;

use http::HeaderValue;
use hyper::body::{Body as _, Incoming};

use crate::client::Client;
use crate::interim::Form;
use crate::worker::Worker;

/// See the module.
pub struct Exchange {
    /// Its thread.
    pub worker: Arc<Worker>,
    /// Its connection.
    pub client: Arc<Client>,
    /// X-Request-Id.
    pub request_id: HeaderValue,
    /// How its client is given interim answers.
    pub interim: Option<Form>,
    /// Its client takes trailers.
    pub trailers: bool,
}

/// What a request asks for, in canonical form.
pub struct Target {
    /// As the client wrote it.
    pub authority: String,
    /// Canonical.
    pub host: String,
    /// Canonical.
    pub path: String,
    /// As the client wrote it.
    pub query: Option<String>,
    /// It is a WebSocket handshake.
    pub websocket: bool,
}

impl Exchange {
    /// An answer is given without a look at the request's body.
    pub fn leave_unread(&self, body: &Incoming) {
        if !body.is_end_stream() {
            self.client.phase.leaves_body_unread();
        }
    }
}
