//! The call that upgrades its connection: frames in both directions until the command ends.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::admission::{self, Underway, rights_lost};
use super::{Api, refusal};
use crate::*;

/// Pieces of input or output that may wait for the other side.
const FRAMES_AHEAD: usize = 16;

/// How long the client may take to go on after `101 Switching Protocols`, and to take the last
/// frame.
const PEER_DEADLINE: Duration = Duration::from_secs(10);

/// How often a silent connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Answers with `101 Switching Protocols` and runs the command over what the connection becomes.
pub(super) async fn handle<F, R>(api: Api, mut request: Request<Body>, run: F) -> Response
where
    F: FnOnce(Principal, ExecRequest, ExecSession) -> R + Send + 'static,
    R: Future<Output = Result<i32, ApiError>> + Send + 'static,
{
    let upgrade_to = request
        .headers()
        .get(header::UPGRADE)
        .map(|value| value.as_bytes());
    if upgrade_to != Some(EXEC_PROTOCOL.as_bytes()) {
        let message = format!("exec needs `Upgrade: {EXEC_PROTOCOL}`");
        return refusal(&ApiError::new(ErrorCode::Invalid, message));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let admitted = admission::admit(&api, request, EXEC_PATH, Some(EXEC_ROLE)).await;
    let (request, underway) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return refusal(&error),
    };
    let principal = underway.principal();
    let run = |session| run(principal, request, session);
    api.tasks.spawn(session(run, upgrade, api.stop, underway));
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

async fn session<F, R>(run: F, upgrade: OnUpgrade, stop: CancellationToken, underway: Underway)
where
    F: FnOnce(ExecSession) -> R,
    R: Future<Output = Result<i32, ApiError>>,
{
    let connection = match tokio::time::timeout(PEER_DEADLINE, upgrade).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "client left before exec began"),
        Err(_) => return tracing::debug!("client did not go on with exec"),
    };
    let (reader, mut writer) = split(TokioIo::<Upgraded>::new(connection));
    let (input_sender, input) = mpsc::channel(FRAMES_AHEAD);
    let (output, outputs) = mpsc::channel(FRAMES_AHEAD);
    let running = run(ExecSession { input, output });
    // Closing its outputs is no end of the command: only its result is.
    let (over, gone) = (CancellationToken::new(), CancellationToken::new());
    let running = async {
        let _over = over.clone().drop_guard();
        running.await
    };
    let (left, lost) = (gone.clone(), underway.lost());
    let receiving = receive(
        reader,
        input_sender,
        over.clone(),
        gone.clone(),
        lost.clone(),
    );
    let sending = send(&mut writer, outputs, over.clone(), gone, stop, lost.clone());
    let (mut result, (), ()) = tokio::join!(running, receiving, sending);
    if lost.is_cancelled() {
        result = Err(rights_lost());
    }
    underway.end(match &result {
        Ok(_) if left.is_cancelled() => Outcome::Left,
        Ok(code) => Outcome::Exit(*code),
        Err(error) => Outcome::Failed(error.code),
    });
    let last = result.map_or_else(ExecFrame::Error, ExecFrame::Exit);
    match tokio::time::timeout(PEER_DEADLINE, write_frame(&mut writer, &last)).await {
        Ok(Ok(())) => {}
        _ => tracing::debug!("client left before exec had ended"),
    }
}

/// Hands frames to the command until it is over or the client is gone or has `lost` its rights, and says
/// the latter by `gone`.
async fn receive(
    mut reader: impl AsyncRead + Unpin,
    input: mpsc::Sender<ExecInput>,
    over: CancellationToken,
    gone: CancellationToken,
    lost: CancellationToken,
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
        biased;
        () = lost.cancelled() => gone.cancel(),
        () = frames => gone.cancel(),
        () = over.cancelled() => {}
        () = gone.cancelled() => {}
    }
}

/// Hands output to the client until the command is over, or the client is gone, has `lost` its rights, or
/// `stop`: that it says by `gone`. While the command is silent an empty piece probes whether the client is still
/// there: input that nobody takes would hide its leaving.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    mut outputs: mpsc::Receiver<ExecOutput>,
    over: CancellationToken,
    gone: CancellationToken,
    stop: CancellationToken,
    lost: CancellationToken,
) {
    let mut open = true;
    loop {
        let piece = tokio::select! {
            biased;
            () = lost.cancelled() => return gone.cancel(),
            piece = outputs.recv(), if open => match piece {
                Some(piece) => piece,
                None => {
                    open = false;
                    continue;
                }
            },
            () = over.cancelled() => return,
            () = gone.cancelled() => return,
            () = stop.cancelled() => return gone.cancel(),
            () = tokio::time::sleep(PROBE_EVERY) => ExecOutput::Stdout(bytes::Bytes::new()),
        };
        if let Err(error) = write_frame(writer, &ExecFrame::Output(piece)).await {
            tracing::debug!(%error, "exec client lost");
            return gone.cancel();
        }
    }
}
