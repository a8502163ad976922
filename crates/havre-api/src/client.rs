//! The client of the API: one connection per call, over the daemon's socket, through `ssh` to the socket
//! of another machine, or over HTTPS.

use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio_util::task::AbortOnDropHandle;

use crate::call::{LARGE_DEADLINE, at_slowest};
use crate::exec::websocket::{self, End, WebSocket};
use crate::exec::write_request;
use crate::*;

mod address;
mod connect;
mod endpoint;
mod lines;
mod ssh;
mod tls;
mod web;

pub use address::{Address, AddressError, HttpsAddress, SshAddress};
pub use connect::ConnectError;
pub use endpoint::{Endpoint, Token};
pub use ssh::{GREETING, SshError, SshFailure, SshOptions};
pub use tls::TlsError;
pub use web::{WebError, WebRequest, web};

use connect::Stream;
use lines::Lines;

/// How long the head of a streamed answer may take once the request was sent.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the way there is barred.
    #[error("no daemon answers at {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: ConnectError,
    },
    /// The daemon did not answer in time.
    #[error("the daemon did not answer {path} within {} s", deadline.as_secs())]
    TimedOut {
        /// The call.
        path: &'static str,
        /// How long the client waited.
        deadline: Duration,
    },
    /// The connection broke.
    #[error("lost the connection to the daemon")]
    Lost {
        /// Why.
        source: hyper::Error,
    },
    /// The stream ended without saying how the operation ended.
    #[error("the daemon went away before the operation had ended")]
    CutShort,
    /// The answer is not what this version expects.
    #[error("cannot understand the daemon's answer to {path}")]
    Garbled {
        /// The call.
        path: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The daemon refused or failed.
    #[error(transparent)]
    Refused(#[from] ApiError),
}

/// Speaks to one daemon. Cheap to clone; connects anew for each call.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Arc<Endpoint>,
}

impl Client {
    /// A client of the daemon that listens at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::of(Endpoint::new(Address::Socket(socket.into())))
    }

    /// A client of the daemon that is there.
    pub fn of(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Arc::new(endpoint),
        }
    }

    /// Where it connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Makes a call that answers with one document.
    pub async fn call<C: Call>(&self, request: &C::Request) -> Result<C::Answer, ClientError> {
        let body = encode(C::PATH, request)?;
        let stream = self.connect().await?;
        within(C::PATH, C::DEADLINE, async {
            let reply = self.post(stream, C::PATH, body).await?;
            let (status, bytes) = reply.collect(C::PATH).await?;
            match status.is_success() {
                true => decode(C::PATH, &bytes),
                false => Err(refused(C::PATH, status, &bytes)),
            }
        })
        .await
    }

    /// Starts an operation and listens to it.
    pub async fn start<O: Operation>(
        &self,
        request: &O::Request,
    ) -> Result<Running<O>, ClientError> {
        let reply = self.stream(O::PATH, request).await?;
        let id = reply.response.headers().get(OPERATION_HEADER);
        let id = id.and_then(|value| value.to_str().ok()?.parse().ok());
        let id = id.ok_or_else(|| garbled(O::PATH, "the operation has no number"))?;
        Ok(Running {
            id,
            lines: Lines::new(O::PATH, reply),
            kind: PhantomData,
        })
    }

    /// Asks for items and reads them as they come.
    pub async fn feed<F: Feed>(&self, query: &F::Request) -> Result<Items<F>, ClientError> {
        let reply = self.stream(F::PATH, query).await?;
        Ok(Items {
            lines: Lines::new(F::PATH, reply),
            kind: PhantomData,
        })
    }

    /// Runs a command in a replica.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecConnection, ClientError> {
        let document = encode(EXEC_PATH, request)?;
        let stream = self.connect().await?;
        within(EXEC_PATH, head_deadline(document.len()), async {
            match self.endpoint.address {
                // What is in between knows WebSockets, and no upgrade of ours.
                Address::Https(_) | Address::Unix(_) => {
                    self.exec_by_websocket(stream, document).await
                }
                Address::Socket(_) | Address::Ssh(_) => {
                    self.exec_by_upgrade(stream, document).await
                }
            }
        })
        .await
    }

    async fn exec_by_upgrade(
        &self,
        stream: Stream,
        document: Bytes,
    ) -> Result<ExecConnection, ClientError> {
        let request = self
            .head(Method::POST, EXEC_PATH)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, EXEC_PROTOCOL);
        let reply = self.send(stream, EXEC_PATH, request, document).await?;
        let connection = reply.upgraded(EXEC_PATH).await?;
        Ok(ExecConnection::over(TokioIo::new(connection)))
    }

    async fn exec_by_websocket(
        &self,
        stream: Stream,
        document: Bytes,
    ) -> Result<ExecConnection, ClientError> {
        let handshake = websocket::handshake().map_err(|error| garbled(EXEC_PATH, error))?;
        let mut request = self.head(Method::GET, EXEC_PATH);
        for (name, value) in handshake.fields {
            request = request.header(name, value);
        }
        let reply = self.send(stream, EXEC_PATH, request, Bytes::new()).await?;
        let accept = reply.response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        let is_ours = accept.is_some_and(|accept| accept.as_bytes() == handshake.accept.as_bytes());
        let connection = reply.upgraded(EXEC_PATH).await?;
        if !is_ours {
            return Err(garbled(EXEC_PATH, "what was answered is not our WebSocket"));
        }
        let mut connection = WebSocket::new(TokioIo::new(connection), End::Client);
        let written = write_request(&mut connection, &document).await;
        written.map_err(|error| garbled(EXEC_PATH, error))?;
        Ok(ExecConnection::over(connection))
    }

    /// The answer of a streaming call once its head is there.
    async fn stream(
        &self,
        path: &'static str,
        request: &impl Serialize,
    ) -> Result<Reply, ClientError> {
        let body = encode(path, request)?;
        let stream = self.connect().await?;
        within(path, head_deadline(body.len()), async {
            let reply = self.post(stream, path, body).await?;
            if reply.response.status().is_success() {
                return Ok(reply);
            }
            let (status, bytes) = reply.collect(path).await?;
            Err(refused(path, status, &bytes))
        })
        .await
    }

    /// A connection; the way there has deadlines of its own.
    async fn connect(&self) -> Result<Stream, ClientError> {
        let connected = connect::connect(&self.endpoint).await;
        connected.map_err(|source| ClientError::Unreachable {
            endpoint: (*self.endpoint).clone(),
            source,
        })
    }

    async fn post(
        &self,
        stream: Stream,
        path: &'static str,
        body: Bytes,
    ) -> Result<Reply, ClientError> {
        self.send(stream, path, self.head(Method::POST, path), body)
            .await
    }

    /// Begins a request.
    fn head(&self, method: Method, path: &'static str) -> http::request::Builder {
        let (host, token) = connect::heads(&self.endpoint);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            request = match bearer {
                Ok(mut bearer) => {
                    bearer.set_sensitive(true);
                    request.header(header::AUTHORIZATION, bearer)
                }
                // Makes the builder say so.
                Err(_) => request.header(header::AUTHORIZATION, "\n"),
            };
        }
        request
    }

    async fn send(
        &self,
        stream: Stream,
        path: &'static str,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Reply, ClientError> {
        let request = request
            .body(Full::<Bytes>::from(body))
            .map_err(|e| garbled(path, e))?;
        let lost = |source| ClientError::Lost { source };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // What goes wrong here surfaces in the answer's body.
            drop(connection.with_upgrades().await);
        }));
        let response = sender.send_request(request).await.map_err(lost)?;
        Ok(Reply {
            response,
            _driver: driver,
        })
    }
}

/// An answer whose body is still to be read, and the task that moves its bytes.
struct Reply {
    response: Response<Incoming>,
    _driver: AbortOnDropHandle<()>,
}

impl Reply {
    /// What the connection has become; what else was answered is why not.
    async fn upgraded(self, path: &'static str) -> Result<Upgraded, ClientError> {
        if self.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, bytes) = self.collect(path).await?;
            return Err(refused(path, status, &bytes));
        }
        let upgraded = hyper::upgrade::on(self.response).await;
        upgraded.map_err(|source| ClientError::Lost { source })
    }

    async fn collect(self, path: &'static str) -> Result<(StatusCode, Bytes), ClientError> {
        let status = self.response.status();
        let body = havre_base::body::collect(self.response.into_body(), MAX_DOCUMENT_BYTES).await;
        let bytes = body.map_err(|error| garbled(path, error))?;
        Ok((status, bytes))
    }
}

/// An operation that was started. Dropping it leaves the operation running.
pub struct Running<O: Operation> {
    id: OperationId,
    lines: Lines,
    kind: PhantomData<fn() -> O>,
}

impl<O: Operation> Running<O> {
    /// Its number, for [`Cancel`].
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// The next event or, once, the outcome. Cancel-safe.
    pub async fn next(&mut self) -> Result<Progress<O::Outcome>, ClientError> {
        match self.lines.next().await? {
            Some(StreamItem::Event(event)) => Ok(Progress::Event(event)),
            Some(StreamItem::Done(outcome)) => Ok(Progress::Done(outcome)),
            Some(StreamItem::Error(error)) => Err(error.into()),
            None => Err(ClientError::CutShort),
        }
    }
}

/// What a running operation says.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress<T> {
    /// News.
    Event(Event),
    /// It ended well.
    Done(T),
}

/// Items of a [`Feed`] as they come.
pub struct Items<F: Feed> {
    lines: Lines,
    kind: PhantomData<fn() -> F>,
}

impl<F: Feed> Items<F> {
    /// The next item; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<F::Item>, ClientError> {
        match self.lines.next().await? {
            Some(StreamItem::Event(item)) => Ok(Some(item)),
            Some(StreamItem::Done(Empty {})) => Ok(None),
            Some(StreamItem::Error(error)) => Err(error.into()),
            None => Err(ClientError::CutShort),
        }
    }
}

/// The two ends of a running command.
pub struct ExecConnection {
    /// What it prints, and how it ends.
    pub reader: ExecReader,
    /// What it reads.
    pub writer: ExecWriter,
}

impl ExecConnection {
    fn over(connection: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = split(connection);
        Self {
            reader: ExecReader(Box::pin(reader)),
            writer: ExecWriter(Box::pin(writer)),
        }
    }
}

/// The end of an exec that listens.
pub struct ExecReader(Pin<Box<dyn AsyncRead + Send>>);

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecNews {
    /// It printed.
    Output(ExecOutput),
    /// It ended with that code.
    Exit(i32),
}

impl ExecReader {
    /// What comes next. Not cancel-safe.
    pub async fn next(&mut self) -> Result<ExecNews, ClientError> {
        match read_frame(&mut self.0).await {
            Ok(Some(ExecFrame::Output(piece))) => Ok(ExecNews::Output(piece)),
            Ok(Some(ExecFrame::Exit(code))) => Ok(ExecNews::Exit(code)),
            Ok(Some(ExecFrame::Error(error))) => Err(error.into()),
            Ok(Some(ExecFrame::Input(_))) => Err(garbled(EXEC_PATH, "it sent input")),
            Ok(None) => Err(ClientError::CutShort),
            Err(error) => Err(garbled(EXEC_PATH, error)),
        }
    }
}

/// The end of an exec that speaks.
pub struct ExecWriter(Pin<Box<dyn AsyncWrite + Send>>);

impl ExecWriter {
    /// Sends a piece of input.
    pub async fn send(&mut self, piece: ExecInput) -> io::Result<()> {
        write_frame(&mut self.0, &ExecFrame::Input(piece)).await
    }
}

/// As long as the server waits for so large a request, and for its own answer.
fn head_deadline(bytes: usize) -> Duration {
    HEAD_DEADLINE + at_slowest(bytes).min(LARGE_DEADLINE)
}

async fn within<T>(
    path: &'static str,
    deadline: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let timed_out = |_| Err(ClientError::TimedOut { path, deadline });
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or_else(timed_out)
}

fn encode(path: &'static str, body: &impl Serialize) -> Result<Bytes, ClientError> {
    let body = serde_json::to_vec(body).map_err(|error| garbled(path, error))?;
    Ok(body.into())
}

fn decode<T: DeserializeOwned>(path: &'static str, bytes: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| garbled(path, error))
}

/// The daemon's own words where it sent any.
fn refused(path: &'static str, status: StatusCode, bytes: &[u8]) -> ClientError {
    match serde_json::from_slice::<ApiError>(bytes) {
        Ok(error) => ClientError::Refused(error),
        Err(_) => garbled(path, format!("status {status}")),
    }
}

fn garbled(
    path: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ClientError {
    ClientError::Garbled {
        path,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Both ends share one thread, so that the clock goes on only while neither has anything to do.
    #[tokio::test(start_paused = true)]
    async fn what_is_large_may_take_long_to_be_sent() {
        const PATH: &str = "/v1/up";
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("api.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let client = Client::new(&socket);
        for (bytes, is_answered) in [(8 << 20, true), (1 << 10, false)] {
            let slow = async {
                let (mut connection, _) = listener.accept().await.expect("a client");
                tokio::time::sleep(HEAD_DEADLINE * 2).await;
                let mut left: usize = bytes;
                let mut piece = vec![0; 1 << 16];
                while left > 0 {
                    let read = connection.read(&mut piece).await.expect("more");
                    left = left.saturating_sub(read);
                    if read == 0 {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                // One that has given up is told nothing.
                drop(connection.write_all(answer).await);
            };
            let body = "x".repeat(bytes);
            let (answer, ()) = tokio::join!(client.stream(PATH, &body), slow);
            match answer {
                Ok(_) => assert!(is_answered),
                Err(ClientError::TimedOut { .. }) => assert!(!is_answered),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}
