//! The server: the socket, who is at its other end, and the life of operations.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use havre_base::memory;
use http::{StatusCode, header};
use serde::Serialize;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::*;

mod accept;
mod admission;
mod exec;
mod remote;
mod room;
mod routes;
mod shares;
mod stream;

use room::Room;

pub use admission::credential;
pub use routes::Routes;

/// How long operations and connections have to end once the server was told to stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long what was read is in use.
const SETTLE: Duration = Duration::from_secs(2);

/// Opens the socket for [`Server::serve`] so that only its owner may connect, and the members of a group
/// where one is given. What a dead daemon left at that path is replaced; a living one is `AddrInUse`. Needs
/// a tokio runtime.
pub fn bind(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
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
    let mode = match group {
        Some(_) => 0o660,
        None => 0o600,
    };
    // The group first: nobody else's is ever let in.
    if group.is_some() {
        std::os::unix::fs::chown(&fresh, None, group)?;
    }
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Answers calls, each once its guard has let it in.
pub struct Server {
    router: Router,
    tasks: TaskTracker,
    stop: CancellationToken,
    room: Arc<Room>,
}

impl Server {
    /// One that answers until `stop`.
    pub fn new<S: Clone + Send + Sync + 'static>(
        routes: Routes<S>,
        guard: Arc<dyn Guard>,
        stop: CancellationToken,
    ) -> Self {
        let api = Api {
            operations: Arc::default(),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
            guard,
            room: Arc::new(Room::new()),
            feeds: Arc::new(stream::Feeds::new()),
        };
        Self {
            tasks: api.tasks.clone(),
            room: Arc::clone(&api.room),
            router: routes.into_router(api),
            stop,
        }
    }

    /// Serves what speaks another protocol beside the calls: its routes are none of theirs, and it finds out by itself
    /// who asks ([`credential`]) and whether they may.
    #[must_use]
    pub fn beside(mut self, other: Router) -> Self {
        self.router = self.router.merge(other);
        self
    }

    /// The same calls for those who come from elsewhere. Only the edge may be able to reach it: what it says
    /// of their address is believed.
    pub fn remote(&self, host: &str) -> Router {
        remote::router(self.router.clone(), host.to_ascii_lowercase())
    }

    /// The same calls for the jobs of a pipeline, which reach them by a socket in their box and show a token; `address`
    /// stands for where they come from.
    pub fn boxed(&self, address: IpAddr) -> Router {
        remote::boxed(self.router.clone(), address)
    }

    /// Serves until it is told to stop and what was under way has ended, or had its time.
    pub async fn serve(self, listener: UnixListener) -> io::Result<()> {
        let Self {
            router,
            tasks,
            stop,
            room,
        } = self;
        let service = router.into_make_service_with_connect_info::<Peer>();
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
            never = give_back_memory(&room) => match never {},
        }
    }
}

/// After much was read.
async fn give_back_memory(room: &Room) -> Infallible {
    loop {
        room.emptied().await;
        tokio::time::sleep(SETTLE).await;
        memory::give_back();
    }
}

/// What all calls share.
#[derive(Clone)]
struct Api {
    operations: Arc<Operations>,
    tasks: TaskTracker,
    stop: CancellationToken,
    guard: Arc<dyn Guard>,
    room: Arc<Room>,
    feeds: Arc<stream::Feeds>,
}

/// The other end of a connection, as the kernel told when it was made.
#[derive(Clone, Debug)]
struct Peer(Option<LocalPeer>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        match stream.io().peer_cred() {
            Ok(peer) => Self(Some(LocalPeer::of(&peer))),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say who asks");
                Self(None)
            }
        }
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
    running: Mutex<HashMap<OperationId, Started>>,
}

/// What is known of a running operation.
#[derive(Clone)]
struct Started {
    cancel: CancellationToken,
    /// What it is about: whoever may begin it may stop it.
    scope: Scope,
}

/// A running operation; leaves the table when dropped, also by a panic.
struct Registered {
    id: OperationId,
    cancel: CancellationToken,
    table: Arc<Operations>,
}

impl Operations {
    fn register(table: &Arc<Self>, scope: Scope) -> Registered {
        let id = OperationId(table.last.fetch_add(1, Ordering::Relaxed) + 1);
        let cancel = CancellationToken::new();
        let started = Started {
            cancel: cancel.clone(),
            scope,
        };
        table.lock().insert(id, started);
        Registered {
            id,
            cancel,
            table: Arc::clone(table),
        }
    }

    fn find(&self, id: OperationId) -> Option<Started> {
        self.lock().get(&id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, Started>> {
        // The map is whole after every statement, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}
