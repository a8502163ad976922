//! A request's way: admitted, routed, held if need be, sent to a replica, answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, request};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::grpc;
use crate::headers::{self, BadRequest};
use crate::http2;
use crate::interim::Form;
use crate::limits;
use crate::page::{self, Cause};
use crate::phase::InRequest;
use crate::record::Record;
use crate::relay::Answer;
use crate::replica::{InFlight, Outcome};
use crate::reply::{Relay, Reply};
use crate::route::{self, BadPath};
use crate::snapshot::Lookup;
use crate::tunnel::{self, Ended, Traffic};
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
    let interim = interim_form(&client, &mut head);
    let snapshot = worker.shared.snapshot.load_full();
    let peer = client.peer.ip();
    let believed = snapshot.trusted.contains(peer);
    let client_ip = headers::client_address(&head.headers, peer, &snapshot.trusted);
    let refusal = client.phase.asides.refused(number);
    let mut record = Box::new(match &refusal {
        None => Record::new(&worker.lines, &head, client.https, client_ip),
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
    drop(snapshot);

    let stopping = worker.shared.stopping.clone();
    let http1 = record.is_http1();
    let phase = Arc::clone(&client.phase);
    let trailers = !http1 || headers::takes_trailers(&head.headers);
    let exchange = Exchange {
        worker,
        client,
        request_id,
        interim,
        trailers,
    };
    let wanted = head.headers.get(header::ACCEPT).cloned();
    let admitted = match refusal {
        None => exchange.admit(&head, &mut record),
        Some(refusal) => {
            if refusal.cause != Cause::SlowHead {
                phase.leaves_body_unread();
            }
            Err(refusal.cause)
        }
    };
    let answer = match admitted {
        Ok(Admitted::Redirect(location)) => {
            exchange.leave_unread(&body);
            Err(LocalResponse::Redirect(location))
        }
        Ok(Admitted::Options) => {
            exchange.leave_unread(&body);
            Err(LocalResponse::Options)
        }
        Ok(Admitted::Request(target)) => exchange
            .relay(head, body, on_upgrade, target, &mut record)
            .await
            .map_err(LocalResponse::Page),
        Err(cause) => {
            exchange.leave_unread(&body);
            Err(LocalResponse::Page(cause))
        }
    };
    let mut response = match answer {
        Ok(answer) => exchange.pass_on(answer, record, under_way),
        Err(own) => exchange.own_answer(own, wanted, record, under_way),
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

/// One request and the place it is handled in.
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
    trailers: bool,
}

enum Admitted {
    Redirect(String),
    /// `OPTIONS *`.
    Options,
    Request(Target),
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

/// An answer that does not come from a replica.
enum LocalResponse {
    Redirect(String),
    Options,
    Page(Cause),
}

impl Exchange {
    fn admit(&self, head: &request::Parts, record: &mut Record) -> Result<Admitted, Cause> {
        let authority = headers::check(head).map_err(|bad| match bad {
            BadRequest::Framing(what) | BadRequest::Host(what) => Cause::BadRequest(what),
            BadRequest::TooManyFields => Cause::TooManyFields,
            BadRequest::Method => Cause::Method,
        })?;
        let most = self.worker.shared.snapshot.load().connections_per_address;
        if self.client.phase.usage.has_too_many_requests(most) {
            return Err(Cause::Crowd);
        }
        let host = route::canonical_host(&authority)
            .ok_or(Cause::BadRequest("Host is not a host name"))?;
        record.host.clone_from(&host);
        if !self
            .client
            .may_ask_for(&host, &self.worker.shared.snapshot.load())
        {
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
        let snapshot = self.worker.shared.snapshot.load();
        if matches!(snapshot.lookup(&host, &path), Lookup::UnknownHost) {
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
        let query = head.uri.query().map(ToOwned::to_owned);
        let path = path.into_owned();
        Ok(Admitted::Request(Target {
            authority,
            host,
            path,
            query,
            websocket,
        }))
    }

    /// An answer is given without a look at the request's body.
    fn leave_unread(&self, body: &Incoming) {
        if !body.is_end_stream() {
            self.client.phase.leaves_body_unread();
        }
    }

    fn pass_on(
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
                run_tunnel(on_client, on_replica, end, in_flight, record).await;
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

    fn own_answer(
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

/// Waits until both connections have become byte streams, and runs the tunnel to its end.
async fn run_tunnel(
    on_client: OnUpgrade,
    on_replica: OnUpgrade,
    end: CancellationToken,
    in_flight: InFlight,
    mut record: Box<Record>,
) {
    let both = async { tokio::try_join!(on_client, on_replica) };
    let Ok(Ok((client, replica))) = tokio::time::timeout(limits::TLS_HANDSHAKE, both).await else {
        "the WebSocket broke off in its handshake".clone_into(&mut record.cause);
        in_flight.finish(Outcome::Abandoned);
        return;
    };
    let traffic = Traffic::default();
    let ended = tunnel::run(TokioIo::new(client), TokioIo::new(replica), &end, &traffic).await;
    record.bytes = traffic.to_client.load(Ordering::Relaxed);
    record.bytes_in = traffic.to_replica.load(Ordering::Relaxed);
    record.upload = None;
    let (cause, outcome) = match ended {
        Ended::ByPeers => (
            "",
            Outcome::Answered {
                server_error: false,
            },
        ),
        Ended::Broken => ("a connection broke", Outcome::Abandoned),
        Ended::ClosedByUs => ("closed as the replica drains", Outcome::Abandoned),
        Ended::Cut => ("cut as the replica drains", Outcome::Abandoned),
    };
    cause.clone_into(&mut record.cause);
    in_flight.finish(outcome);
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .get(..17)
            .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
    })
}
