//! A request's way: admitted, routed, held if need be, sent to a replica, answered.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;

use crate::admit::Admitted;
use crate::answer::LocalResponse;
use crate::client::Client;
use crate::exchange::Exchange;
use crate::headers;
use crate::http2;
use crate::interim::Form;
use crate::page::Cause;
use crate::record::Record;
use crate::reply::Reply;
use crate::worker::Worker;

/// Answers one request.
pub async fn handle(
    worker: Arc<Worker>,
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Response<Reply> {
    let under_way = client.phase.request();
    let number = client.phase.asides.begin();
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let stopping = worker.shared.stopping.clone();
    let phase = Arc::clone(&client.phase);
    let accept = head.headers.get(header::ACCEPT).cloned();
    let waits = head.headers.contains_key(header::EXPECT);
    let (exchange, mut record, admitted) = begin(worker, client, &mut head, number);
    let http1 = record.is_http1();
    let answer = match admitted {
        Ok(Admitted::Redirect(location)) => {
            exchange.leave_unread(body, waits);
            Err(LocalResponse::Redirect(location))
        }
        Ok(Admitted::Options) => {
            exchange.leave_unread(body, waits);
            Err(LocalResponse::Options)
        }
        Ok(Admitted::Challenge(answer)) => {
            exchange.leave_unread(body, waits);
            Err(LocalResponse::Challenge(answer))
        }
        Ok(Admitted::Request(target)) => exchange
            .relay(head, body, on_upgrade, target, &mut record)
            .await
            .map_err(LocalResponse::Page),
        Err(cause) => {
            // Nothing is read for those who are too many.
            exchange.leave_unread(body, waits || cause == Cause::Crowd);
            Err(LocalResponse::Page(cause))
        }
    };
    let mut response = match answer {
        Ok(answer) => exchange.pass_on(answer, record, under_way),
        Err(own) => exchange.own_answer(own, accept, record, under_way),
    };
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    phase.asides.answered(number, switches);
    if http1 && stopping.is_cancelled() && !switches {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// All that is decided by the snapshot of the moment: who asks, for what, and by which route. Nothing is
/// waited for, so that log, headers and route of a request are of one state.
fn begin(
    worker: Arc<Worker>,
    client: Arc<Client>,
    head: &mut request::Parts,
    number: u64,
) -> (Exchange, Box<Record>, Result<Admitted, Cause>) {
    let interim = interim_form(&client, head);
    let snapshot = worker.shared.snapshot.load();
    let peer = client.peer.ip();
    let believed = snapshot.trusted.contains(peer);
    let client_ip = headers::client_address(&head.headers, peer, &snapshot.trusted);
    let refusal = client.phase.asides.refused(number);
    let mut record = Box::new(match &refusal {
        None => Record::new(&worker.lines, head, client.https, client_ip),
        Some(refusal) => {
            let line = refusal.line.clone();
            Record::of_line(&worker.lines, line, head.version, client.https, client_ip)
        }
    });
    let request_id = believed
        .then(|| headers::usable_request_id(&head.headers))
        .flatten()
        .unwrap_or_else(|| worker.ids.next());
    record.request_id = request_id.to_str().unwrap_or_default().to_owned();
    let exchange = Exchange {
        worker,
        client,
        request_id,
        interim,
        trailers: !record.is_http1() || headers::takes_trailers(&head.headers),
    };
    let admitted = match refusal {
        None => exchange.admit(&snapshot, head, &mut record),
        Some(refusal) => {
            if refusal.cause != Cause::SlowHead {
                exchange.client.phase.leaves_body_unread();
            }
            Err(refusal.cause)
        }
    };
    (exchange, record, admitted)
}

/// How interim answers to a request are written. One of HTTP/2 brings its stream's number from the
/// transport, where it is told no longer as one that the parser has.
fn interim_form(client: &Client, head: &mut request::Parts) -> Option<Form> {
    match head.version {
        Version::HTTP_11 => Some(Form::Http1),
        Version::HTTP_2 => {
            let stream = head
                .headers
                .remove(http2::STREAM)?
                .to_str()
                .ok()?
                .parse()
                .ok()?;
            drop(client.phase.asides.take_line(stream));
            Some(Form::Http2 { stream })
        }
        _ => None,
    }
}
