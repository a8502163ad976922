//! Which handler answers which call.

use std::collections::BTreeSet;
use std::future::Future;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{Request, StatusCode};
use tokio::sync::oneshot;

use super::admission::{self, Caller};
use super::{Api, Operations, document, exec, refusal, stream};
use crate::*;

/// The calls that somebody answers. Each handler is told who asks, and sees only requests that are
/// sound ([`Check`]) and that the [`Guard`] has let in. Its answer is complete when its future ends; that of a query is dropped when
/// the client goes away, that of an operation never.
pub struct Routes<S> {
    state: S,
    router: Router<Api>,
    paths: BTreeSet<&'static str>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet. `state` is handed to every handler.
    pub fn new(state: S) -> Self {
        Self {
            state,
            router: Router::new(),
            paths: BTreeSet::new(),
        }
    }

    /// Answers a call with one document.
    #[must_use]
    pub fn call<C, R>(
        self,
        answer: impl Fn(S, Principal, C::Request) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        C: Call,
        R: Future<Output = Result<C::Answer, ApiError>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler = async move |State(api): State<Api>, request: Request<Body>| {
            let admitted = admission::admit(&api, request, C::PATH, C::ROLE, C::MAX_REQUEST).await;
            let (request, mut underway) = match admitted {
                Ok(admitted) => admitted,
                Err(error) => return refusal(&error),
            };
            let lost = underway.lost();
            let answered = tokio::select! {
                answered = answer(state, underway.principal(), request) => answered,
                () = lost.cancelled() => Err(admission::rights_lost()),
            };
            if let Some(told) = answered.as_ref().ok().and_then(C::told) {
                underway.told(&told);
            }
            underway.end(Outcome::of(&answered));
            match answered {
                Ok(answer) => document(StatusCode::OK, &answer),
                Err(error) => refusal(&error),
            }
        };
        self.route(C::PATH, post(handler))
    }

    /// Answers an operation. It runs in a task of its own, so that it outlives the connection; the
    /// answer only listens to it.
    #[must_use]
    pub fn operation<O, R>(
        self,
        run: impl Fn(S, Principal, O::Request, EventSink) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        O: Operation,
        R: Future<Output = Result<O::Outcome, ApiError>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler = async move |State(api): State<Api>, request: Request<Body>| {
            let admitted =
                admission::admit(&api, request, O::PATH, Some(O::ROLE), O::MAX_REQUEST).await;
            let (request, mut underway) = match admitted {
                Ok(admitted) => admitted,
                Err(error) => return refusal(&error),
            };
            let registered = Operations::register(&api.operations, underway.scope().clone());
            let id = registered.id;
            underway.number(id);
            let (sink, source) = EventSink::new(registered.cancel.clone());
            let (ended, outcome) = oneshot::channel();
            let running = run(state, underway.principal(), request, sink);
            let lost = underway.lost();
            api.tasks.spawn(async move {
                let result = running.await;
                drop(registered);
                underway.end(Outcome::of(&result));
                if ended.send(result).is_err() {
                    tracing::debug!(operation = %id, "operation ended after its client had gone");
                }
            });
            let mut response = stream::lines(stream::operation(source, outcome, lost));
            response.headers_mut().insert(OPERATION_HEADER, id.0.into());
            response
        };
        self.route(O::PATH, post(handler))
    }

    /// Answers item by item, until the future ends or `items.closed()`.
    #[must_use]
    pub fn feed<F, R>(
        self,
        send: impl Fn(S, Principal, F::Request, ItemSink<F::Item>) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        F: Feed,
        R: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let state = self.state.clone();
        let handler = async move |State(api): State<Api>, request: Request<Body>| {
            let admitted =
                admission::admit(&api, request, F::PATH, Some(F::ROLE), MAX_SMALL_BYTES).await;
            let (query, underway) = match admitted {
                Ok(admitted) => admitted,
                Err(error) => return refusal(&error),
            };
            let one = match api.feeds.enter(underway.asked()) {
                Ok(one) => one,
                Err(error) => {
                    underway.end(Outcome::Failed(error.code));
                    return refusal(&error);
                }
            };
            let (sink, items) = ItemSink::new(stream::ITEMS_AHEAD);
            let sending = send(state, underway.principal(), query, sink);
            let chunks = stream::feed(sending, items, api.stop, underway);
            // Also of one that has ended there is what nobody has read yet.
            stream::lines(stream::holding(one, chunks))
        };
        self.route(F::PATH, post(handler))
    }

    /// Runs commands in replicas: answers with the exit code (128 + signal where a signal ended
    /// it). Once the client is gone the command must be ended.
    #[must_use]
    pub fn exec<R>(
        self,
        run: impl Fn(S, Principal, ExecRequest, ExecSession) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        R: Future<Output = Result<i32, ApiError>> + Send + 'static,
    {
        let (state, again) = (self.state.clone(), self.state.clone());
        let runs = run.clone();
        let upgraded = async move |State(api): State<Api>, request: Request<Body>| {
            let run = move |principal, request, session| run(state, principal, request, session);
            exec::handle(api, request, run).await
        };
        let websocket = async move |State(api): State<Api>, request: Request<Body>| {
            let run = move |principal, request, session| runs(again, principal, request, session);
            exec::handle_websocket(api, request, run).await
        };
        self.route(EXEC_PATH, post(upgraded).get(websocket))
    }

    /// The same, whatever each handler is given.
    #[must_use]
    pub fn erased(self) -> Routes<()> {
        Routes {
            state: (),
            router: self.router,
            paths: self.paths,
        }
    }

    /// With the calls that another answers.
    #[must_use]
    pub fn merge(mut self, other: Routes<()>) -> Self {
        self.paths.extend(other.paths);
        self.router = self.router.merge(other.router);
        self
    }

    /// Paths of declared calls that nobody answers.
    pub fn missing(&self) -> Vec<&'static str> {
        struct Paths(Vec<&'static str>);
        impl Declared for Paths {
            fn call<C: Call>(&mut self) {
                self.0.push(C::PATH);
            }
            fn operation<O: Operation>(&mut self) {
                self.0.push(O::PATH);
            }
            fn feed<F: Feed>(&mut self) {
                self.0.push(F::PATH);
            }
        }
        let mut paths = Paths(vec![EXEC_PATH]);
        declared(&mut paths);
        paths.0.retain(|path| !self.paths.contains(path));
        paths.0
    }

    fn route(mut self, path: &'static str, handler: axum::routing::MethodRouter<Api>) -> Self {
        self.paths.insert(path);
        self.router = self.router.route(path, handler);
        self
    }

    pub(super) fn into_router(self, api: Api) -> Router {
        self.router
            .route(Cancel::PATH, post(cancel))
            .fallback(unknown_path)
            .with_state(api)
    }
}

/// Stops an operation, for those who might have begun it.
async fn cancel(State(api): State<Api>, request: Request<Body>) -> Response {
    match try_cancel(&api, request).await {
        Ok(()) => document(StatusCode::OK, &Empty {}),
        Err(error) => refusal(&error),
    }
}

async fn try_cancel(api: &Api, request: Request<Body>) -> Result<(), ApiError> {
    let caller = Caller::of(api, request.extensions(), Cancel::PATH, Cancel::ROLE)?;
    let read = caller.read::<CancelRequest>(api, request, Cancel::MAX_REQUEST);
    let (request, caller) = read.await?;
    // One of what they do not see is not there for them.
    let found = api.operations.find(request.operation);
    let found = found.filter(|one| caller.grant().allows(Role::Viewer, &one.scope));
    let scope = found
        .as_ref()
        .map_or(Scope::Visible, |one| one.scope.clone());
    let underway = caller.begin(scope, request.subject())?;
    let result = match found {
        Some(started) => {
            started.cancel.cancel();
            Ok(())
        }
        None => Err(ApiError::new(
            ErrorCode::NotFound,
            format!("operation {} is not running", request.operation),
        )),
    };
    underway.end(Outcome::of(&result));
    result
}

async fn unknown_path(request: Request<Body>) -> Response {
    let message = format!(
        "there is no call {} {}",
        request.method(),
        request.uri().path()
    );
    let error = ApiError::new(ErrorCode::NotFound, message)
        .with_hint("the daemon may be older than this command: restart it with the new version");
    refusal(&error)
}
