//! The server: routes, streams and the life of operations.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{Request, StatusCode, header};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::*;

mod accept;
mod exec;
mod stream;

use accept::Checked;

/// How long operations and connections have to end once the server was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Opens the socket for [`serve`] so that only its owner may connect. What a dead daemon left at
/// that path is replaced; a living one is `AddrInUse`. Needs a tokio runtime.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Renamed into place once its mode is right: nobody can connect in between, and no client
    // ever sees the path missing.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Serves until `stop` is cancelled and what was under way has ended, or had its time.
pub async fn serve<B: Backend>(
    listener: UnixListener,
    backend: Arc<B>,
    stop: CancellationToken,
) -> io::Result<()> {
    let api = Api {
        backend,
        operations: Arc::default(),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
    };
    let tasks = api.tasks.clone();
    let serving =
        axum::serve(listener, router(api)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let deadline = async {
        stop.cancelled().await;
        tasks.close();
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        result = async { serving.await?; tasks.wait().await; Ok(()) } => result,
        () = deadline => {
            tracing::warn!(left = tasks.len(), "stopped serving before every operation had ended");
            Ok(())
        }
    }
}

struct Api<B> {
    backend: Arc<B>,
    operations: Arc<Operations>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<B> Clone for Api<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            operations: Arc::clone(&self.operations),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }
    }
}

fn router<B: Backend>(api: Api<B>) -> Router {
    let router = Router::new();
    let router = call::<Info, B, _, _>(router, |b, _| async move { b.info().await });
    let router = call::<Status, B, _, _>(router, |b, q| async move { b.status(q).await });
    let router = call::<Replicas, B, _, _>(router, |b, q| async move { b.replicas(q).await });
    let router = call::<Plan, B, _, _>(router, |b, r| async move { b.plan(r).await });
    let router = call::<Releases, B, _, _>(router, |b, q| async move { b.releases(q).await });
    let router = call::<Why, B, _, _>(router, |b, q| async move { b.why(q).await });
    let router = call::<Steer, B, _, _>(router, |b, r| async move { b.steer(r).await });
    let router = call::<Images, B, _, _>(router, |b, _| async move { b.images().await });
    let router =
        call::<ImageImport, B, _, _>(router, |b, r| async move { b.image_import(r).await });
    let router =
        call::<ImageRemove, B, _, _>(router, |b, r| async move { b.image_remove(r).await });
    let router = call::<ImagePrune, B, _, _>(router, |b, r| async move { b.image_prune(r).await });
    let router = call::<Networks, B, _, _>(router, |b, _| async move { b.networks().await });
    let router =
        call::<NetworkCreate, B, _, _>(router, |b, r| async move { b.network_create(r).await });
    let router = call::<NetworkRemove, B, _, _>(router, |b, r| async move {
        b.network_remove(r).await.map(|()| Empty {})
    });
    let router = call::<Ca, B, _, _>(router, |b, _| async move { b.ca_certificate().await });
    let router = call::<Shutdown, B, _, _>(router, |b, r| async move {
        b.shutdown(r).await.map(|()| Empty {})
    });
    let router = operation::<Up, B, _, _>(router, |b, r, e| async move { b.up(r, e).await });
    let router = operation::<Down, B, _, _>(router, |b, r, e| async move { b.down(r, e).await });
    let router =
        operation::<Restart, B, _, _>(router, |b, r, e| async move { b.restart(r, e).await });
    let router =
        operation::<Rollback, B, _, _>(router, |b, r, e| async move { b.rollback(r, e).await });
    let router = operation::<Scale, B, _, _>(router, |b, r, e| async move { b.scale(r, e).await });
    router
        .route(Cancel::PATH, post(cancel::<B>))
        .route(LOGS_PATH, post(logs::<B>))
        .route(EXEC_PATH, post(exec::handle::<B>))
        .fallback(unknown_path)
        .with_state(api)
}

/// Adds the route of a call that answers with one document.
fn call<C, B, F, R>(router: Router<Api<B>>, run: F) -> Router<Api<B>>
where
    C: Call<Request: accept::Check>,
    B: Backend,
    F: Fn(Arc<B>, C::Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<C::Answer, ApiError>> + Send + 'static,
{
    let handler =
        async move |State(api): State<Api<B>>, Checked(request): Checked<C::Request>| match run(
            api.backend,
            request,
        )
        .await
        {
            Ok(answer) => document(StatusCode::OK, &answer),
            Err(error) => refusal(&error),
        };
    router.route(C::PATH, post(handler))
}

/// Adds the route of an operation. It runs in a task of its own, so that it outlives the
/// connection; the answer only listens to it.
fn operation<O, B, F, R>(router: Router<Api<B>>, run: F) -> Router<Api<B>>
where
    O: Operation<Request: accept::Check>,
    B: Backend,
    F: Fn(Arc<B>, O::Request, EventSink) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<O::Outcome, ApiError>> + Send + 'static,
{
    let handler = async move |State(api): State<Api<B>>, Checked(request): Checked<O::Request>| {
        let registered = Operations::register(&api.operations);
        let id = registered.id;
        let (sink, source) = EventSink::new(registered.cancel.clone());
        let (ended, outcome) = oneshot::channel();
        let running = run(api.backend, request, sink);
        api.tasks.spawn(async move {
            let result = running.await;
            drop(registered);
            if ended.send(result).is_err() {
                tracing::debug!(operation = %id, "operation ended after its client had gone");
            }
        });
        let mut response = stream::lines(stream::operation(source, outcome));
        response.headers_mut().insert(OPERATION_HEADER, id.0.into());
        response
    };
    router.route(O::PATH, post(handler))
}

async fn cancel<B: Backend>(
    State(api): State<Api<B>>,
    Checked(request): Checked<CancelRequest>,
) -> Response {
    match api.operations.cancel(request.operation) {
        true => document(StatusCode::OK, &Empty {}),
        false => refusal(&ApiError::new(
            ErrorCode::NotFound,
            format!("operation {} is not running", request.operation),
        )),
    }
}

async fn logs<B: Backend>(
    State(api): State<Api<B>>,
    Checked(query): Checked<LogQuery>,
) -> Response {
    let (sink, lines) = LogSink::new(stream::LOG_LINES_AHEAD);
    let backend = Arc::clone(&api.backend);
    let reading = async move { backend.logs(query, sink).await };
    stream::lines(stream::logs(reading, lines, api.stop))
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

fn document(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode an answer");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn refusal(error: &ApiError) -> Response {
    document(error.code.status(), error)
}

/// The operations that run now.
#[derive(Default)]
struct Operations {
    last: AtomicU64,
    running: Mutex<HashMap<OperationId, CancellationToken>>,
}

/// A running operation; leaves the table when dropped, also by a panic.
struct Registered {
    id: OperationId,
    cancel: CancellationToken,
    table: Arc<Operations>,
}

impl Operations {
    fn register(table: &Arc<Self>) -> Registered {
        let id = OperationId(table.last.fetch_add(1, Ordering::Relaxed) + 1);
        let cancel = CancellationToken::new();
        table.lock().insert(id, cancel.clone());
        Registered {
            id,
            cancel,
            table: Arc::clone(table),
        }
    }

    /// Whether there was such an operation.
    fn cancel(&self, id: OperationId) -> bool {
        self.lock()
            .get(&id)
            .map(CancellationToken::cancel)
            .is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, CancellationToken>> {
        // The map is whole after every statement, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}
