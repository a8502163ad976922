//! One request and the place it is handled in: what its stages have in common.

use std::sync::Arc;

use http::HeaderValue;
use hyper::body::Incoming;

use crate::client::Client;
use crate::interim::Form;
use crate::page::Cause;
use crate::snapshot::{LiveRoute, Lookup};
use crate::upload::Upload;
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
    /// Its client waits for `100 Continue` before it sends a body.
    pub waits: bool,
    /// The way there.
    pub found: Lookup,
}

impl Target {
    /// The route that leads there.
    pub fn route(&self) -> Result<&Arc<LiveRoute>, Cause> {
        match &self.found {
            Lookup::Route(route) => Ok(route),
            Lookup::UnknownHost => Err(Cause::UnknownHost),
            Lookup::NoRoute => Err(Cause::NoRoute),
        }
    }
}

impl Exchange {
    /// Looks for the way again, for a request that has waited: once a push is acknowledged no request
    /// goes to a replica that it has taken away.
    pub fn look_again(&self, target: &mut Target) {
        let snapshot = self.worker.shared.snapshot.load();
        target.found = snapshot.lookup(&target.host, &target.path);
    }

    /// An answer is given without a look at the request's body. Its client may be sending it (unless it
    /// `waits`), and some take an answer for none when their stream ends before they have.
    pub fn leave_unread(&self, body: Incoming, waits: bool) {
        let (phase, clock) = (Arc::clone(&self.client.phase), self.worker.shared.clock);
        drop(Upload::new(body, waits, phase, clock));
    }
}
