//! A request's way to a replica: choice, connection, one safe second try, and waiting for a replica
//! when there is none.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use crate::exchange::{Exchange, Target};
use crate::grpc;
use crate::headers;
use crate::hold::Hold;
use crate::interim::InterimAnswers;
use crate::page::Cause;
use crate::patience::{OutOfPatience, Patience};
use crate::record::Record;
use crate::replica::{InFlight, Outcome, Upstream};
use crate::snapshot::{LivePool, LiveRoute};
use crate::state::UpstreamProtocol;
use crate::upload::{Upload, UploadError, UploadProgress};
use crate::upstream::Lease;
use crate::visitor::Visitor;
use crate::{balance, limits, route};

/// What came back from a replica.
pub struct Answer {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection it comes through.
    pub lease: Lease,
    /// Counted until the body ends.
    pub in_flight: InFlight,
    /// Both sides agreed to a WebSocket.
    pub tunnel: Option<OnUpgrade>,
    /// Browsers are to remember that this host is HTTPS only.
    pub hsts: bool,
    /// Tells the browser which visitor it is.
    pub cookie: Option<HeaderValue>,
}

/// A request ready to be sent, perhaps more than once.
struct Outgoing {
    head: request::Parts,
    upload: Upload,
    progress: Arc<UploadProgress>,
    websocket: bool,
    /// Of gRPC.
    is_call: bool,
    /// Drawn when the first pool with a canary is met.
    visitor: Option<Visitor>,
}

/// Why a pool gave no answer.
enum NoUpstream {
    /// No replica, or none that accepts connections: waiting may help.
    Nobody(Cause, Box<Outgoing>),
    /// It is over.
    Final(Cause),
}

/// No answer came.
struct Unanswered {
    cause: Cause,
    /// Nothing of the request has left us.
    unsent: Option<Outgoing>,
    /// The connection was closed before any answer.
    retry: bool,
}

impl Unanswered {
    fn over(cause: Cause) -> Self {
        Self {
            cause,
            unsent: None,
            retry: false,
        }
    }
}

impl Outgoing {
    /// No harm in sending it twice, and nothing needed that was sent already.
    fn is_repeatable(&self) -> bool {
        let harmless = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::PUT,
            Method::DELETE,
        ];
        harmless.contains(&self.head.method) && self.upload.is_here()
    }

    /// The same request again.
    fn spare(&self) -> Option<Self> {
        Some(Self {
            upload: self.upload.spare()?,
            head: self.head.clone(),
            progress: Arc::clone(&self.progress),
            websocket: self.websocket,
            is_call: self.is_call,
            visitor: self.visitor,
        })
    }
}

impl Exchange {
    /// Sends the request to a replica of its route, waiting for one as long as the pool allows.
    pub async fn relay(
        &self,
        head: request::Parts,
        body: Incoming,
        on_upgrade: OnUpgrade,
        mut target: Target,
        record: &mut Record,
    ) -> Result<Answer, Cause> {
        let phase = Arc::clone(&self.client.phase);
        let mut upload = Upload::new(body, target.waits, phase, self.worker.shared.clock);
        let progress = upload.progress();
        record.upload = Some(Arc::clone(&progress));
        let broken_off = |error| match error {
            UploadError::Stalled => Cause::UploadStalled,
            UploadError::Client => Cause::BadRequest(BROKEN_OFF),
        };
        let mut waited = upload.gather().await.map_err(broken_off)?;
        if [Method::GET, Method::HEAD].contains(&head.method) {
            waited |= upload.peek().await.map_err(broken_off)?;
        }
        if waited {
            self.look_again(&mut target);
        }
        let is_call = grpc::is_grpc(&head.headers);
        if is_call {
            upload.become_call();
        }
        let websocket = target.websocket;
        let mut outgoing = Box::new(Outgoing {
            head,
            upload,
            progress,
            websocket,
            is_call,
            visitor: None,
        });
        let mut on_upgrade = Some(on_upgrade);
        let mut hold = Hold::default();
        loop {
            let route = target.route()?;
            record.route.clone_from(&route.id);
            self.aim(&mut outgoing, &target, route)?;
            if route.pool.canary.is_some() && outgoing.visitor.is_none() {
                let turn = self.worker.visitor_turn();
                outgoing.visitor = Some(Visitor::of(&outgoing.head.headers, turn));
            }
            let visitor = outgoing.visitor;
            match self.try_pool(route, outgoing, record).await {
                Ok(mut answer) => {
                    if answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        answer.tunnel = on_upgrade.take();
                    }
                    answer.hsts = self.client.https && headers::wants_hsts(&target.host);
                    answer.cookie = visitor.and_then(|new| new.cookie(self.client.https));
                    return Ok(answer);
                }
                Err(NoUpstream::Final(cause)) => return Err(cause),
                Err(NoUpstream::Nobody(cause, unsent)) => {
                    outgoing = unsent;
                    hold.wait(route, cause, &self.worker.shared.pushed, record)
                        .await
                        .inspect_err(|cause| {
                            route.pool.counters.failed();
                            count_failure(cause, record);
                        })?;
                    self.look_again(&mut target);
                }
            }
        }
    }

    /// Target and prefix for a route, in its protocol.
    fn aim(
        &self,
        outgoing: &mut Outgoing,
        target: &Target,
        route: &LiveRoute,
    ) -> Result<(), Cause> {
        const NO_PATH: Cause = Cause::BadRequest("the target is not a path");
        let head = &mut outgoing.head;
        let prefix = if route.strip_prefix {
            route.prefix.as_str()
        } else {
            ""
        };
        headers::set_prefix(&mut head.headers, prefix);
        let path = route::without_prefix(&target.path, prefix);
        let path = match &target.query {
            Some(query) => Bytes::from(format!("{path}?{query}")),
            None => Bytes::copy_from_slice(path.as_bytes()),
        };
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| NO_PATH)?);
        match route.protocol {
            UpstreamProtocol::Http => {
                let is_open = !outgoing.upload.is_here();
                let usually_none = [Method::GET, Method::HEAD].contains(&head.method);
                if is_open && usually_none && outgoing.upload.size_hint().exact().is_none() {
                    // Else the replica's connection takes it for a request without a body.
                    let chunked = HeaderValue::from_static("chunked");
                    head.headers.insert(header::TRANSFER_ENCODING, chunked);
                }
            }
            UpstreamProtocol::H2c if target.websocket => {
                let route = route.id.clone();
                return Err(Cause::NoWebSocket { route });
            }
            UpstreamProtocol::H2c => {
                head.version = Version::HTTP_2;
                headers::to_http2(&mut head.headers);
                let authority = target.authority.parse();
                parts.scheme = Some(http::uri::Scheme::HTTP);
                parts.authority =
                    Some(authority.map_err(|_| Cause::BadRequest("Host is not a host name"))?);
            }
        }
        head.uri = Uri::from_parts(parts).map_err(|_| NO_PATH)?;
        Ok(())
    }

    /// Tries replicas until one takes the request.
    async fn try_pool(
        &self,
        route: &LiveRoute,
        mut outgoing: Box<Outgoing>,
        record: &mut Record,
    ) -> Result<Answer, NoUpstream> {
        let pool = &route.pool;
        let mut tried: Vec<Arc<Upstream>> = Vec::new();
        let mut last = no_replica(route, pool);
        while tried.len() < limits::CONNECT_ATTEMPTS {
            let Some(in_flight) = self.choose(pool, &tried, &outgoing) else {
                break;
            };
            let upstream = Arc::clone(in_flight.upstream());
            record.replica = Some(Arc::clone(&upstream));
            match self.send(in_flight, route, outgoing, record).await {
                Ok(answer) => return Ok(answer),
                Err(NoUpstream::Final(cause)) => return Err(NoUpstream::Final(cause)),
                Err(NoUpstream::Nobody(cause, unsent)) => {
                    upstream.refused(self.worker.shared.clock.now_ms());
                    tried.push(upstream);
                    record.retries += 1;
                    last = cause;
                    outgoing = unsent;
                }
            }
        }
        Err(NoUpstream::Nobody(last, outgoing))
    }

    /// Chooses a replica and counts the request there, without a pause in between. A visitor of
    /// the canary goes to the others when none of its own takes the request, and the other way
    /// round.
    fn choose(
        &self,
        pool: &LivePool,
        tried: &[Arc<Upstream>],
        outgoing: &Outgoing,
    ) -> Option<InFlight> {
        let Some(canary) = &pool.canary else {
            return self.choose_among(&pool.serving, pool, tried, outgoing.websocket);
        };
        let is_among = outgoing
            .visitor
            .is_some_and(|visitor| visitor.is_among(canary));
        let (first, second) = match is_among {
            true => (&canary.serving, &pool.serving),
            false => (&pool.serving, &canary.serving),
        };
        self.choose_among(first, pool, tried, outgoing.websocket)
            .or_else(|| self.choose_among(second, pool, tried, outgoing.websocket))
    }

    fn choose_among(
        &self,
        serving: &[Arc<Upstream>],
        pool: &LivePool,
        tried: &[Arc<Upstream>],
        websocket: bool,
    ) -> Option<InFlight> {
        let candidates: Vec<balance::Candidate> = serving
            .iter()
            .map(|upstream| {
                let tried = tried.iter().any(|other| Arc::ptr_eq(other, upstream));
                upstream.candidate(websocket, tried)
            })
            .collect();
        let now = self.worker.shared.clock.now_ms();
        let chosen = balance::choose(&candidates, now, self.worker.turn())?;
        Some(InFlight::new(Arc::clone(&serving[chosen]), &pool.counters))
    }

    /// Sends to one replica. A connection that has served before may have been closed by the replica
    /// in this very moment; then the request is sent once more if it surely was not taken, or does
    /// no harm when taken twice.
    async fn send(
        &self,
        mut in_flight: InFlight,
        route: &LiveRoute,
        mut outgoing: Box<Outgoing>,
        record: &mut Record,
    ) -> Result<Answer, NoUpstream> {
        let upstream = Arc::clone(in_flight.upstream());
        let repeatable = outgoing.is_repeatable();
        let max_idle = if repeatable {
            limits::UPSTREAM_IDLE
        } else {
            limits::UPSTREAM_IDLE_UNREPEATABLE
        };
        let connections = &self.worker.connections;
        let mut leased = connections.lease(&upstream, route.protocol, max_idle).await;
        loop {
            let mut lease = match leased {
                Ok(lease) => lease,
                Err(error) => {
                    in_flight.finish(Outcome::Abandoned);
                    let cause = Cause::Unreachable {
                        route: route.id.clone(),
                        replica: upstream.to_string(),
                        reason: havre_base::one_line(&error),
                    };
                    return Err(NoUpstream::Nobody(cause, outgoing));
                }
            };
            upstream.connected();
            record.connect = lease.connect;
            let spare = if lease.reused && repeatable {
                outgoing.spare()
            } else {
                None
            };
            let begun = Instant::now();
            let sent = self
                .exchange_heads(&mut lease, *outgoing, route, &mut in_flight)
                .await;
            record.upstream = Some(begun.elapsed());
            let (cause, again) = match sent {
                Ok(response) => {
                    in_flight.answer_began(begun.elapsed());
                    return Ok(Answer {
                        response,
                        lease,
                        in_flight,
                        tunnel: None,
                        hsts: false,
                        cookie: None,
                    });
                }
                Err(Unanswered {
                    cause,
                    unsent: Some(unsent),
                    ..
                }) if !lease.reused => {
                    in_flight.finish(Outcome::Abandoned);
                    return Err(NoUpstream::Nobody(cause, Box::new(unsent)));
                }
                Err(Unanswered {
                    cause,
                    unsent,
                    retry,
                }) => (cause, unsent.or_else(|| if retry { spare } else { None })),
            };
            match again {
                Some(again) if lease.reused => {
                    outgoing = Box::new(again);
                    record.retries += 1;
                    leased = connections.connect(&upstream, route.protocol).await;
                }
                _ => {
                    in_flight.finish(Outcome::Failed);
                    return Err(NoUpstream::Final(cause));
                }
            }
        }
    }

    /// Sends the head, lets the body follow, and waits for the answer's head.
    async fn exchange_heads(
        &self,
        lease: &mut Lease,
        outgoing: Outgoing,
        route: &LiveRoute,
        in_flight: &mut InFlight,
    ) -> Result<Response<Incoming>, Unanswered> {
        let upstream = Arc::clone(in_flight.upstream());
        let Outgoing {
            head,
            upload,
            progress,
            websocket,
            is_call,
            visitor,
        } = outgoing;
        let mut request = Request::from_parts(head, upload);
        let mut interim =
            (self.interim).map(|form| InterimAnswers::of(&mut request, form, &self.client.phase));
        let sending = lease.send(request);
        tokio::pin!(sending);
        let mut patience = Patience::new(self.worker.shared.clock, is_call);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut sending => break outcome,
                () = pass_one(&mut interim) => {}
                end = patience.wait(&progress, in_flight) => {
                    let (route, replica) = (route.id.clone(), upstream.to_string());
                    return Err(Unanswered::over(match end {
                        OutOfPatience::Slow => Cause::Slow { route, replica },
                        OutOfPatience::Leaving => Cause::Leaving { route, replica },
                    }));
                }
            }
        };
        if let Some(interim) = interim {
            interim.pass_rest().await;
        }
        let broken = |reason: String| Cause::Broken {
            route: route.id.clone(),
            replica: upstream.to_string(),
            reason,
        };
        match outcome {
            Ok(mut response) if response.status() != StatusCode::SWITCHING_PROTOCOLS => {
                headers::settle_answer(response.headers_mut())
                    .map_err(|what| Unanswered::over(broken(what.to_owned())))?;
                Ok(response)
            }
            Ok(response) if websocket && headers::agrees_to_websocket(response.headers()) => {
                Ok(response)
            }
            Ok(_) => Err(Unanswered::over(broken(
                "it switched protocols unasked".to_owned(),
            ))),
            Err(_) if progress.stalled() => Err(Unanswered::over(Cause::UploadStalled)),
            Err(_) if progress.broken() => Err(Unanswered::over(Cause::BadRequest(BROKEN_OFF))),
            Err(mut error) => {
                let unsent = error.take_message().map(|request| {
                    let (head, upload) = request.into_parts();
                    Outgoing {
                        head,
                        upload,
                        progress,
                        websocket,
                        is_call,
                        visitor,
                    }
                });
                let error = error.into_error();
                let retry = !error.is_parse() && !error.is_user();
                let mut reason = reason(&error);
                if is_call && route.protocol == UpstreamProtocol::Http {
                    reason.push_str(NEEDS_H2C);
                }
                let cause = broken(reason);
                Err(Unanswered {
                    cause,
                    unsent,
                    retry,
                })
            }
        }
    }
}

async fn pass_one(interim: &mut Option<InterimAnswers>) {
    match interim {
        Some(interim) => interim.pass_one().await,
        None => std::future::pending().await,
    }
}

const NEEDS_H2C: &str = "; for gRPC its route needs `protocol: h2c`";

const BROKEN_OFF: &str = "the request body broke off";

/// A connection that could not be made is a failure only if no other replica took the request.
fn count_failure(cause: &Cause, record: &Record) {
    if let (Cause::Unreachable { .. }, Some(replica)) = (cause, &record.replica) {
        replica.count_failed();
    }
}

fn no_replica(route: &LiveRoute, pool: &LivePool) -> Cause {
    let reason = match &pool.unavailable_reason {
        Some(reason) => reason.clone(),
        None if pool.draining > 0 => "all its replicas are being replaced".to_owned(),
        None => "none is running".to_owned(),
    };
    Cause::NoReplica {
        route: route.id.clone(),
        reason,
    }
}

fn reason(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "it closed the connection before it answered".to_owned()
    } else if error.is_parse() {
        format!("its answer is not HTTP: {}", havre_base::one_line(error))
    } else {
        havre_base::one_line(error)
    }
}
