//! The call that upgrades its connection: frames in both directions until the command ends.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::TryStreamExt as _;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::admission::{self, Caller, Underway, rights_lost};
use super::room::Room;
use super::{Api, accept, refusal};
use crate::exec::websocket::{self, End, WebSocket};
use crate::exec::{MAX_REQUEST_BYTES, read_request_length};
use crate::*;

/// Pieces of input or output that may wait for the other side.
const FRAMES_AHEAD: usize = 16;

/// How long the client may take to go on after `101 Switching Protocols`, and to take the last
/// frame.
const PEER_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that are read at once of what to run.
const PIECE_BYTES: usize = 16 * 1024;

/// How long a client may take to say how much it has to say, and how long to say that.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long a client may take to close after the last frame.
const LINGER: Duration = Duration::from_secs(3);

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
    let (path, role) = (EXEC_PATH, Some(EXEC_ROLE));
    let admitted = admission::admit(&api, request, path, role, MAX_REQUEST_BYTES).await;
    let (request, underway) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => return refusal(&error),
    };
    let principal = underway.principal();
    let run = |session| run(principal, request, session);
    api.tasks.spawn(async move {
        if let Some(connection) = upgraded(upgrade).await {
            session(run, TokioIo::new(connection), api.stop, underway).await;
        }
    });
    switching([
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(EXEC_PROTOCOL)),
    ])
}

/// The same over a WebSocket, which whatever is in between passes on: a `GET`, whose request comes as the
/// first document on the WebSocket.
pub(super) async fn handle_websocket<F, R>(api: Api, mut request: Request<Body>, run: F) -> Response
where
    F: FnOnce(Principal, ExecRequest, ExecSession) -> R + Send + 'static,
    R: Future<Output = Result<i32, ApiError>> + Send + 'static,
{
    let caller = match Caller::of(&api, request.extensions(), EXEC_PATH, Some(EXEC_ROLE)) {
        Ok(caller) => caller,
        Err(error) => return refusal(&error),
    };
    let accepted = websocket::accept(request.headers());
    let accepted = accepted.map(HeaderValue::try_from);
    let accept = match accepted {
        Ok(Ok(accept)) => accept,
        Ok(Err(error)) => return refusal(&caller.refuse(invalid(&error))),
        Err(error) => return refusal(&caller.refuse(invalid(&error))),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let tasks = api.tasks.clone();
    tasks.spawn(async move {
        let Some(connection) = upgraded(upgrade).await else {
            return;
        };
        let mut stream = WebSocket::new(TokioIo::new(connection), End::Server);
        match begin(&api.room, caller, &mut stream).await {
            Ok((request, underway)) => {
                let principal = underway.principal();
                let run = |session| run(principal, request, session);
                session(run, stream, api.stop, underway).await;
            }
            Err(error) => {
                finish(&mut stream, &ExecFrame::Error(error)).await;
                linger(&mut stream).await;
            }
        }
    });
    switching([
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
        (
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(websocket::SUBPROTOCOL),
        ),
    ])
}

fn invalid(error: &dyn std::error::Error) -> ApiError {
    ApiError::from_error(ErrorCode::Invalid, error)
}

/// Reads what is to be run, and lets it begin if the guard does.
async fn begin(
    room: &Room,
    caller: Caller,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(ExecRequest, Underway), ApiError> {
    let request = match read_request(room, caller.asked(), stream).await {
        Ok(request) => request,
        Err(error) => return Err(caller.refuse(error)),
    };
    let (scope, subject) = (request.scope(), concern::subject(&request));
    let underway = caller.begin(scope, subject)?;
    Ok((request, underway))
}

/// The document that goes ahead of the frames, in the room that all requests have.
async fn read_request(
    room: &Room,
    asked: &Asked,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<ExecRequest, ApiError> {
    let broken = |error: std::io::Error| {
        let message = "cannot read the request";
        ApiError::new(ErrorCode::Invalid, message).caused_by(Some(&error))
    };
    // What takes too long after that has a reason of its own, which the client is told.
    let length = timeout(REQUEST_DEADLINE, read_request_length(stream)).await;
    let length = length.unwrap_or_else(|late| Err(late.into()));
    let length = length.map_err(broken)?;
    let most = length as usize;
    let pieces = ReaderStream::with_capacity(stream.take(length.into()), PIECE_BYTES);
    let body = StreamBody::new(pieces.map_ok(Frame::data));
    let (document, _place) = accept::gather(room, asked, body, most, REQUEST_DEADLINE).await?;
    if document.len() < most {
        return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    accept::decode(&document)
}

fn switching<const N: usize>(fields: [(HeaderName, HeaderValue); N]) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().extend(fields);
    response
}

/// What the connection becomes, where the client goes on.
async fn upgraded(upgrade: OnUpgrade) -> Option<Upgraded> {
    match timeout(PEER_DEADLINE, upgrade).await {
        Ok(Ok(connection)) => return Some(connection),
        Ok(Err(error)) => tracing::debug!(%error, "client left before exec began"),
        Err(_) => tracing::debug!("client did not go on with exec"),
    }
    None
}

/// Reads what still comes until the client closes too: whoever is in between takes a connection that is
/// closed while it sends for broken, and may not pass on what was said last.
async fn linger(reader: &mut (impl AsyncRead + Unpin)) {
    let mut nowhere = tokio::io::sink();
    match timeout(LINGER, tokio::io::copy(reader, &mut nowhere)).await {
        Ok(Ok(_)) => {}
        _ => tracing::debug!("client did not close after exec"),
    }
}

/// Sends the last frame and closes.
async fn finish(writer: &mut (impl AsyncWrite + Unpin), last: &ExecFrame) {
    let finishing = async {
        write_frame(writer, last).await?;
        writer.shutdown().await
    };
    match timeout(PEER_DEADLINE, finishing).await {
        Ok(Ok(())) => {}
        _ => tracing::debug!("client left before exec had ended"),
    }
}

async fn session<F, R>(
    run: F,
    connection: impl AsyncRead + AsyncWrite,
    stop: CancellationToken,
    underway: Underway,
) where
    F: FnOnce(ExecSession) -> R,
    R: Future<Output = Result<i32, ApiError>>,
{
    let (mut reader, mut writer) = split(connection);
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
        &mut reader,
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
    finish(&mut writer, &last).await;
    linger(&mut reader).await;
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

#[cfg(test)]
mod tests {
    use havre_model::{EnvironmentName, ProjectName, ServiceName};
    use tokio::io::duplex;

    use super::super::room::tests::asked_by;
    use super::*;
    use crate::exec::write_request;

    fn request() -> ExecRequest {
        ExecRequest {
            environment: EnvironmentId {
                project: ProjectName::new("shop"),
                environment: EnvironmentName::new("production"),
            },
            service: ServiceName::new("web"),
            replica: None,
            argv: vec!["x".repeat(1000); 2000],
            env: Default::default(),
            user: None,
            working_dir: None,
            stdin: false,
            tty: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_to_run_is_read_in_the_room_of_who_asks() {
        let room = Room::new();
        let document = serde_json::to_vec(&request()).expect("JSON");
        let read = async |by: &str, bytes: &[u8]| {
            let (mut client, mut server) = duplex(1 << 23);
            write_request(&mut client, bytes).await.expect("it fits");
            read_request(&room, &asked_by(by), &mut server).await
        };
        let all = room.enter(&asked_by("anna"), MAX_DOCUMENT_BYTES).await;
        let refused = read("anna", &document).await.expect_err("no room");
        assert_eq!(refused.code, ErrorCode::TooMany);
        let got = read("bert", &document).await.expect("room");
        assert_eq!(got.argv, request().argv);
        drop(all);
        read("anna", &document).await.expect("room");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_to_run_is_told_so() {
        let room = Room::new();
        let (mut client, mut server) = duplex(100);
        for said in [&[][..], &[0, 0, 0, 9, b'{']] {
            client.write_all(said).await.expect("it fits");
            let asked = asked_by("anna");
            let reading = read_request(&room, &asked, &mut server);
            let refused = timeout(REQUEST_DEADLINE * 2, reading).await;
            let refused = refused.expect("in time").expect_err("too late");
            assert_eq!(refused.code, ErrorCode::Invalid);
        }
    }

    #[tokio::test]
    async fn what_to_run_is_there_as_a_whole() {
        let room = Room::new();
        let (mut client, mut server) = duplex(100);
        client
            .write_all(&[0, 0, 0, 9, b'{'])
            .await
            .expect("it fits");
        drop(client);
        let refused = read_request(&room, &asked_by("anna"), &mut server).await;
        assert_eq!(refused.expect_err("cut short").code, ErrorCode::Invalid);
    }
}
