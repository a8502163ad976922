//! The server: the socket, who is at its other end, and the life of operations.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use http::request::Parts;
use http::{StatusCode, header};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::*;

mod accept;
mod exec;
mod routes;
mod stream;

pub use routes::Routes;

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
pub async fn serve<S: Clone + Send + Sync + 'static>(
    listener: UnixListener,
    routes: Routes<S>,
    stop: CancellationToken,
) -> io::Result<()> {
    let api = Api {
        operations: Arc::default(),
        tasks: TaskTracker::new(),
        stop: stop.clone(),
    };
    let tasks = api.tasks.clone();
    let service = routes
        .into_router(api)
        .into_make_service_with_connect_info::<Peer>();
    let serving =
        axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
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

/// What all calls share.
#[derive(Clone)]
struct Api {
    operations: Arc<Operations>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The other end of a connection, as the kernel told when it was made.
#[derive(Clone, Debug)]
struct Peer(Option<Principal>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self(Some(Principal::of_peer(&peer))),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say who asks");
                Self(None)
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>();
        peer.and_then(|ConnectInfo(Peer(principal))| principal.clone())
            .ok_or_else(|| {
                let message = "the daemon cannot find out who asks";
                refusal(&ApiError::new(ErrorCode::Internal, message))
            })
    }
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
