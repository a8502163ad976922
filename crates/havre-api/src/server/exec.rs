//! The call that upgrades its connection: frames in both directions until the command ends.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Api, accept, refusal};
use crate::*;

/// Pieces of input or output that may wait for the other side.
const FRAMES_AHEAD: usize = 16;

/// How long the client may take to go on after `101 Switching Protocols`, and to take the last
/// frame.
const PEER_DEADLINE: Duration = Duration::from_secs(10);

/// How often a silent connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);

pub(super) async fn handle<B: Backend>(
    State(api): State<Api<B>>,
    mut request: Request<Body>,
) -> Response {
    let wished = request
        .headers()
        .get(header::UPGRADE)
        .map(|value| value.as_bytes());
    if wished != Some(EXEC_PROTOCOL.as_bytes()) {
        let message = format!("exec needs `Upgrade: {EXEC_PROTOCOL}`");
        return refusal(&ApiError::new(ErrorCode::Invalid, message));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let request: ExecRequest = match accept::read(request.into_body()).await {
        Ok(request) => request,
        Err(error) => return refusal(&error),
    };
    let backend = Arc::clone(&api.backend);
    api.tasks
        .spawn(session(backend, request, upgrade, api.stop));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(
        header::CONNECTION,
        http::HeaderValue::from_static("upgrade"),
    );
    headers.insert(
        header::UPGRADE,
        http::HeaderValue::from_static(EXEC_PROTOCOL),
    );
    response
}

async fn session<B: Backend>(
    backend: Arc<B>,
    request: ExecRequest,
    upgrade: OnUpgrade,
    stop: CancellationToken,
) {
    let connection = match tokio::time::timeout(PEER_DEADLINE, upgrade).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "client left before exec began"),
        Err(_) => return tracing::debug!("client did not go on with exec"),
    };
    let (reader, mut writer) = split(TokioIo::<Upgraded>::new(connection));
    let (input_sender, input) = mpsc::channel(FRAMES_AHEAD);
    let (output, outputs) = mpsc::channel(FRAMES_AHEAD);
    let running = backend.exec(request, ExecSession { input, output });
    let last = {
        let gone = CancellationToken::new();
        let receiving = receive(reader, input_sender, gone.clone());
        let sending = send(&mut writer, outputs, gone, stop);
        // `running` decides when it is over; the others end by themselves when the client goes
        // or the server stops, and that closes the session it holds.
        let (result, (), ()) = tokio::join!(running, receiving, sending);
        result.map_or_else(ExecFrame::Error, ExecFrame::Exit)
    };
    match tokio::time::timeout(PEER_DEADLINE, write_frame(&mut writer, &last)).await {
        Ok(Ok(())) => {}
        _ => tracing::debug!("client left before exec had ended"),
    }
}

/// Hands frames to the command until the client goes, or `over`.
async fn receive(
    mut reader: impl AsyncRead + Unpin,
    input: mpsc::Sender<ExecInput>,
    over: CancellationToken,
) {
    let frames = async {
        loop {
            match read_frame(&mut reader).await {
                Ok(Some(ExecFrame::Input(piece))) => {
                    // A command that reads nothing more is no reason to leave: it still prints.
                    if input.send(piece).await.is_err() {
                        tracing::trace!("exec takes no more input");
                    }
                }
                Ok(Some(_)) => {
                    return tracing::debug!("client sent a frame that is not its to send");
                }
                Ok(None) => return,
                Err(error) => return tracing::debug!(%error, "exec client lost"),
            }
        }
    };
    tokio::select! {
        () = frames => {}
        () = over.cancelled() => {}
    }
}

/// Hands output to the client until the command closes it, the client is gone or `stop`, then
/// says so by `over`. While the command is silent an empty piece probes whether the client is still there:
/// input that nobody takes would hide its leaving.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    mut outputs: mpsc::Receiver<ExecOutput>,
    over: CancellationToken,
    stop: CancellationToken,
) {
    let _ended = over.drop_guard();
    loop {
        let piece = tokio::select! {
            biased;
            piece = outputs.recv() => match piece {
                Some(piece) => piece,
                None => return,
            },
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_EVERY) => ExecOutput::Stdout(bytes::Bytes::new()),
        };
        if let Err(error) = write_frame(writer, &ExecFrame::Output(piece)).await {
            return tracing::debug!(%error, "exec client lost");
        }
    }
}
