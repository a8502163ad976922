//! The first stage of a request: whether it is sound, may be made on its connection, and is for a host
//! that is served here. It goes by one snapshot.

use http::header;
use http::uri::PathAndQuery;
use http::{Method, Version, request};

use crate::exchange::{Exchange, Target};
use crate::headers::{self, BadRequest, Origin};
use crate::page::Cause;
use crate::record::Record;
use crate::route::{self, BadPath};
use crate::snapshot::{Lookup, Snapshot};

/// What becomes of a sound request.
pub enum Admitted {
    /// It belongs on HTTPS, there.
    Redirect(String),
    /// `OPTIONS *`.
    Options,
    /// An authority looks for this answer.
    Challenge(String),
    /// It is for a replica.
    Request(Target),
}

impl Exchange {
    /// Checks a request that the parser has let through, and makes its head ready for a replica.
    pub fn admit(
        &self,
        snapshot: &Snapshot,
        head: &mut request::Parts,
        record: &mut Record,
    ) -> Result<Admitted, Cause> {
        let authority = headers::check(head).map_err(|bad| match bad {
            BadRequest::Framing(what) | BadRequest::Host(what) => Cause::BadRequest(what),
            BadRequest::TooManyFields => Cause::TooManyFields,
            BadRequest::Method => Cause::Method,
        })?;
        let most = snapshot.connections_per_address;
        if self.client.phase.usage.has_too_many_requests(most) {
            return Err(Cause::Crowd);
        }
        let host = route::canonical_host(&authority)
            .ok_or(Cause::BadRequest("Host is not a host name"))?;
        record.host.clone_from(&host);
        if matches!(head.method, Method::GET | Method::HEAD)
            && let Some(answer) = snapshot.challenge_answer(head.uri.path())
        {
            return Ok(Admitted::Challenge(answer.to_owned()));
        }
        if !self.client.may_ask_for(&host, snapshot) {
            return Err(Cause::Misdirected);
        }
        if head.method == Method::OPTIONS && head.uri.path() == "*" {
            return Ok(Admitted::Options);
        }
        let path = route::canonical_path(head.uri.path()).map_err(|bad| match bad {
            BadPath::Dots => Cause::BadRequest("`.` or `..` in the path"),
            BadPath::Control => Cause::BadRequest("a control character in the path"),
            BadPath::Form => Cause::BadRequest("the target is not a path"),
        })?;
        let websocket = headers::is_websocket(head)
            .map_err(|_| Cause::BadRequest("a WebSocket begins with a GET without a body"))?;
        let found = snapshot.lookup(&host, &path);
        if matches!(found, Lookup::UnknownHost) {
            return Err(Cause::UnknownHost);
        }
        if let Some(port) = snapshot.https_port
            && !self.client.https
            && !(snapshot.trusted.contains(self.client.peer.ip())
                && headers::claims_https(&head.headers))
        {
            let port = if port == 443 {
                String::new()
            } else {
                format!(":{port}")
            };
            let target = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
            return Ok(Admitted::Redirect(format!("https://{host}{port}{target}")));
        }
        let target = Target {
            authority,
            host,
            path: path.into_owned(),
            query: head.uri.query().map(ToOwned::to_owned),
            websocket,
            waits: head.headers.contains_key(header::EXPECT),
            found,
        };
        self.prepare(snapshot, head, &target);
        Ok(Admitted::Request(target))
    }

    /// Everything about the head that does not depend on the route.
    fn prepare(&self, snapshot: &Snapshot, head: &mut request::Parts, target: &Target) {
        let origin = Origin {
            peer: self.client.peer.ip(),
            https: self.client.https,
            port: self.client.port,
            authority: &target.authority,
        };
        head.version = Version::HTTP_11;
        head.extensions.clear();
        headers::to_replica(
            &mut head.headers,
            &origin,
            &snapshot.trusted,
            target.websocket,
            &self.request_id,
        );
    }
}
