//! The last stage of a request: what its client is answered, by a replica or by us.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, Version};

use crate::exchange::Exchange;
use crate::page::{self, Cause};
use crate::phase::InRequest;
use crate::record::Record;
use crate::relay::Answer;
use crate::reply::{Relay, Reply};
use crate::{grpc, headers, upgrade};

/// An answer that does not come from a replica.
pub enum LocalResponse {
    /// To HTTPS.
    Redirect(String),
    /// To `OPTIONS *`.
    Options,
    /// What an authority looks for.
    Challenge(String),
    /// Says what is wrong.
    Page(Cause),
}

impl Exchange {
    /// Passes on what a replica has answered.
    pub fn pass_on(
        self,
        answer: Answer,
        mut record: Box<Record>,
        under_way: InRequest,
    ) -> Response<Reply> {
        let Answer {
            mut response,
            lease,
            mut in_flight,
            tunnel,
            hsts,
            cookie,
        } = answer;
        record.status = response.status().as_u16();
        if let Some(on_client) = tunnel {
            drop(lease);
            let on_replica = hyper::upgrade::on(&mut response);
            let (mut head, _) = response.into_parts();
            headers::to_client(&mut head.headers, false, false, &self.request_id);
            headers::set_websocket(&mut head.headers);
            record.stream = "websocket";
            let end = in_flight.become_stream();
            self.worker.tasks.spawn(async move {
                upgrade::run(on_client, on_replica, end, in_flight, record).await;
                drop(under_way);
            });
            return Response::from_parts(head, Reply::nothing());
        }
        let (mut head, body) = response.into_parts();
        let event_stream = is_event_stream(&head.headers);
        headers::to_client(&mut head.headers, hsts, self.trailers, &self.request_id);
        if let Some(cookie) = cookie {
            head.headers.append(header::SET_COOKIE, cookie);
        }
        head.version = Version::default();
        head.extensions.clear();
        let is_call = grpc::is_grpc(&head.headers);
        if is_call && self.trailers && record.is_http1() {
            // gRPC servers declare none, and HTTP/1.1 passes none that is not declared.
            head.headers.insert(header::TRAILER, grpc::TRAILERS);
        }
        // With nothing else to say, the status of a call is in the head.
        let server_error =
            head.status.is_server_error() || is_call && grpc::is_failure(&head.headers);
        let connections = Arc::clone(&self.worker.connections);
        let mut relay = Relay::new(body, lease, in_flight, connections, server_error);
        if self.trailers {
            relay.pass_trailers();
        }
        if event_stream {
            record.stream = "event-stream";
            relay.become_event_stream();
        } else if is_call {
            record.stream = "grpc";
            relay.become_call();
        }
        Response::from_parts(head, Reply::relay(relay, record, under_way))
    }

    /// Answers without a replica, in the form that the client accepts.
    pub fn own_answer(
        self,
        own: LocalResponse,
        accept: Option<HeaderValue>,
        mut record: Box<Record>,
        under_way: InRequest,
    ) -> Response<Reply> {
        let mut request = HeaderMap::new();
        if let Some(accept) = accept {
            request.insert(header::ACCEPT, accept);
        }
        let cause = match own {
            LocalResponse::Redirect(location) => match page::redirect(&location) {
                Some(response) => return self.finish_own(response, record, under_way),
                None => Cause::BadRequest("the target is not a path"),
            },
            LocalResponse::Options => return self.finish_own(page::options(), record, under_way),
            LocalResponse::Challenge(answer) => {
                return self.finish_own(page::challenge(answer), record, under_way);
            }
            LocalResponse::Page(cause) => cause,
        };
        record.cause = cause.sentence();
        record.failed = cause.is_of_replica();
        let mut response = page::render(&cause, &request, &record.request_id);
        if cause.ends_connection() && record.is_http1() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.finish_own(response, record, under_way)
    }

    fn finish_own(
        self,
        response: Response<Bytes>,
        mut record: Box<Record>,
        under_way: InRequest,
    ) -> Response<Reply> {
        record.status = response.status().as_u16();
        let (mut head, body) = response.into_parts();
        head.headers
            .insert(headers::X_REQUEST_ID, self.request_id.clone());
        Response::from_parts(head, Reply::page(body, record, under_way))
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .get(..17)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    })
}
