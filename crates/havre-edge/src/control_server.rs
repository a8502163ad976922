//! The edge's side of the control socket.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;

use crate::complain::complain;
use crate::control::{CloseStreams, Closing, Refusal, SOCKET, Shutdown};
use crate::limits;
use crate::manager::{Manager, Refused};

/// For one control connection.
const CONNECTION: Duration = Duration::from_secs(60);

/// Binds the socket in the run directory.
pub fn bind(run: &Path) -> io::Result<UnixListener> {
    move_into_place(&run.join(SOCKET), |new| UnixListener::bind(new))
}

/// Makes a socket with `bind` under another name, readable by its owner only, and moves it to
/// `path`: an older edge's socket is replaced in one step.
pub fn move_into_place<T>(path: &Path, bind: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let new = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let bound = bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(bound)
}

/// Answers until it is dropped.
pub async fn serve(listener: UnixListener, manager: Arc<Mutex<Manager>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, Arc::clone(&manager)));
            }
            Err(error) => {
                complain!("edge: the control socket does not accept: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, manager: Arc<Mutex<Manager>>) {
    let service = service_fn(move |request| {
        let manager = Arc::clone(&manager);
        async move { Ok::<_, Infallible>(answer(&manager, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // The caller notices a broken connection at its end.
    drop(tokio::time::timeout(CONNECTION, serving).await);
}

async fn answer(manager: &Mutex<Manager>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    match (&head.method, head.uri.path()) {
        (&Method::GET, "/v1/status") => json(StatusCode::OK, &manager.lock().await.status()),
        (&Method::PUT, "/v1/state") => match read(body).await {
            Ok(state) => put_state(manager, state).await,
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        },
        (&Method::POST, "/v1/close-streams") => match read::<CloseStreams>(body).await {
            Ok(CloseStreams { replica, over_ms }) => {
                let over = Duration::from_millis(over_ms);
                let count = manager.lock().await.close_streams(&replica, over);
                json(
                    StatusCode::OK,
                    &Closing {
                        streams: u64::try_from(count).unwrap_or(u64::MAX),
                    },
                )
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        },
        (&Method::POST, "/v1/shutdown") => match read::<Shutdown>(body).await {
            Ok(Shutdown { grace_ms }) => {
                let mut manager = manager.lock().await;
                manager.stop(Duration::from_millis(grace_ms));
                json(StatusCode::OK, &manager.status())
            }
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        },
        (method, path) => refuse(
            StatusCode::NOT_FOUND,
            format!("the edge has no {method} {path}"),
        ),
    }
}

async fn put_state(
    manager: &Mutex<Manager>,
    state: crate::state::EdgeState,
) -> Response<Full<Bytes>> {
    let mut manager = manager.lock().await;
    match manager.push(state).await {
        Ok(()) => json(StatusCode::OK, &manager.status()),
        Err(refused) => {
            let status = match refused {
                Refused::Older { .. } | Refused::Different(_) => StatusCode::CONFLICT,
                Refused::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                Refused::Threads => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refuse(status, refused.to_string())
        }
    }
}

async fn read<T: for<'a> Deserialize<'a>>(body: Incoming) -> Result<T, String> {
    let body = havre_base::body::collect(body, limits::CONTROL_BODY).await;
    let bytes = body.map_err(|error| format!("the body cannot be read: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the body is not as expected: {error}"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string().into_bytes(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

fn refuse(status: StatusCode, error: String) -> Response<Full<Bytes>> {
    json(status, &Refusal { error })
}
