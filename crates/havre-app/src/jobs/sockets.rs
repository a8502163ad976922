//! Sockets in boxes: what serves artifacts, caches and the API to one job.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::serve::Listener;
use havre_job::paths;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::net::unix::SocketAddr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::doors::{self, Doors};
use super::notes::socket_of;

/// Most connections of one box at once.
const MAX_CONNECTIONS: usize = 64;
/// Until it is tried once more to take a connection.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Until what goes on has ended.
const END: std::time::Duration = std::time::Duration::from_secs(30);

/// Where calls of the API are.
const API: &str = "/v1/";

/// Where artifacts and caches are.
const RESULTS: [&str; 2] = ["/twirp/", "/results/"];

/// Artifacts and caches, the API where there is one, and what else a box is served.
pub(super) fn all(results: Router, api: Option<Router>, own: Option<Router>) -> Router {
    let own = own.unwrap_or_else(|| results.clone());
    Router::new().fallback(async move |request: Request| {
        let path = request.uri().path();
        let mut router = match &api {
            Some(api) if path.starts_with(API) => api.clone(),
            _ if RESULTS.iter().any(|prefix| path.starts_with(prefix)) => results.clone(),
            _ => own.clone(),
        };
        let answered: Result<Response, Infallible> = router.call(request).await;
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    })
}

/// The sockets of all boxes.
#[derive(Clone, Default)]
pub(super) struct Sockets {
    open: Arc<Mutex<HashMap<String, CancellationToken>>>,
    tasks: TaskTracker,
}

impl Sockets {
    /// Serves a box at a socket in `folder`, which the box sees, until it is closed. What was served before is
    /// replaced: connections of a process before this one are gone. Beside it are those that lead to the edge. Returns
    /// what is cancelled when it is closed.
    pub(super) fn serve(
        &self,
        id: &str,
        folder: &Path,
        router: Router,
        doors: &Doors,
    ) -> io::Result<CancellationToken> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)?;
        let listener = listen(&socket_of(folder))?;
        let end = CancellationToken::new();
        for (port, to) in doors {
            let door = listen(&folder.join(paths::door(*port)))?;
            self.tasks.spawn(doors::pass_on(door, *to, end.clone()));
        }
        if let Some(before) = self.open().insert(id.to_owned(), end.clone()) {
            before.cancel();
        }
        let bounded = Bounded {
            listener,
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        };
        let (id, closed) = (id.to_owned(), end.clone());
        self.tasks.spawn(async move {
            let serving = axum::serve(bounded, router.into_make_service());
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::warn!(id, %error, "a job's socket is no longer served");
                },
                () = end.cancelled() => {}
            }
        });
        Ok(closed)
    }

    /// Tasks of what is served.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Closes all, and waits until nothing of what was asked goes on; whether that came to be.
    pub(super) async fn end(&self) -> bool {
        for (_, end) in self.open().drain() {
            end.cancel();
        }
        self.tasks.close();
        tokio::time::timeout(END, self.tasks.wait()).await.is_ok()
    }

    /// No new connections; those under way end with their box.
    pub(super) fn close(&self, id: &str) {
        if let Some(end) = self.open().remove(id) {
            end.cancel();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket in the place of one that a process before this has left.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // Users of the box are nobody here; nobody else gets into the folder above.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Takes so many connections and no more.
struct Bounded {
    listener: UnixListener,
    room: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let permit = Arc::clone(&self.room).acquire_owned().await;
            match (permit, self.listener.accept().await) {
                (Ok(permit), Ok((stream, address))) => {
                    let connection = Connection {
                        stream,
                        _permit: permit,
                    };
                    return (connection, address);
                }
                // Out of descriptors, or gone before it was taken.
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection, and its place among those that may be.
struct Connection {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn asked(folder: &Path) -> io::Result<String> {
        let mut stream = UnixStream::connect(socket_of(folder)).await?;
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn router(text: &'static str) -> Router {
        Router::new().route("/", get(async move || text))
    }

    #[tokio::test]
    async fn a_box_is_served_until_it_is_closed_and_again_by_who_comes_after() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("socket");
        let sockets = Sockets::default();
        sockets
            .serve("a", &folder, router("one"), &Doors::new())
            .expect("served");
        assert!(asked(&folder).await.expect("answered").ends_with("one"));
        sockets
            .serve("a", &folder, router("two"), &Doors::new())
            .expect("served");
        assert!(asked(&folder).await.expect("answered").ends_with("two"));
        sockets.close("a");
        sockets.close("a");
        sockets.tasks.close();
        sockets.tasks.wait().await;
        assert!(asked(&folder).await.is_err());
    }

    #[tokio::test]
    async fn a_box_that_holds_all_its_connections_waits_for_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("socket");
        let sockets = Sockets::default();
        sockets
            .serve("a", &folder, router("one"), &Doors::new())
            .expect("served");
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            held.push(
                UnixStream::connect(socket_of(&folder))
                    .await
                    .expect("taken"),
            );
        }
        let asked = asked(&folder);
        tokio::pin!(asked);
        let early = tokio::time::timeout(PAUSE, &mut asked).await;
        assert!(early.is_err(), "one more than there may be is answered");
        held.clear();
        assert!(asked.await.expect("answered").ends_with("one"));
    }
}
