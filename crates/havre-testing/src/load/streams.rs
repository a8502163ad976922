//! WebSockets and event streams that are kept open and opened again when they end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, reason};
use super::plan::LoadPlan;
use super::report::Tally;

/// Between a stream's end and the next attempt.
const PAUSE: Duration = Duration::from_millis(100);
/// For the handshake.
const OPEN: Duration = Duration::from_secs(15);
/// Between two pings.
const PING: Duration = Duration::from_secs(1);
/// For the answer to a ping.
const PONG: Duration = Duration::from_secs(10);

/// What one stream needs.
pub struct Load {
    plan: Arc<LoadPlan>,
    connector: Arc<Connector>,
    tally: Arc<Tally>,
    end: CancellationToken,
}

/// How a stream ended.
enum Ended {
    /// By us.
    Told,
    /// By the server, in good order.
    Closed,
    /// Broken.
    Cut(String),
}

impl Load {
    pub fn new(
        plan: &Arc<LoadPlan>,
        connector: &Arc<Connector>,
        tally: &Arc<Tally>,
        end: &CancellationToken,
    ) -> Self {
        Self {
            plan: Arc::clone(plan),
            connector: Arc::clone(connector),
            tally: Arc::clone(tally),
            end: end.clone(),
        }
    }

    /// Keeps a WebSocket open.
    pub async fn websocket(self, number: usize) {
        let what = format!("websocket {number}");
        while !self.end.is_cancelled() {
            match self.unless_told(self.open_websocket()).await {
                None => return,
                Some(Err(why)) => self.tally.stream_refused(&what, &why),
                Some(Ok(stream)) => {
                    self.tally.stream_opened();
                    self.count(&what, self.hold_websocket(stream).await);
                }
            }
            self.unless_told(tokio::time::sleep(PAUSE)).await;
        }
    }

    /// Keeps an event stream open.
    pub async fn event_stream(self, number: usize) {
        let what = format!("event stream {number}");
        while !self.end.is_cancelled() {
            match self.unless_told(self.open_events()).await {
                None => return,
                Some(Err(why)) => self.tally.stream_refused(&what, &why),
                Some(Ok(body)) => {
                    self.tally.stream_opened();
                    self.count(&what, self.hold_events(body).await);
                }
            }
            self.unless_told(tokio::time::sleep(PAUSE)).await;
        }
    }

    fn count(&self, what: &str, ended: Ended) {
        match ended {
            Ended::Told => {}
            Ended::Closed => self.tally.stream_closed(),
            Ended::Cut(why) => self.tally.stream_cut(what, &why),
        }
    }

    async fn unless_told<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            output = future => Some(output),
            () = self.end.cancelled() => None,
        }
    }

    async fn open(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<http::Response<hyper::body::Incoming>, String> {
        let opening = async {
            let stream = self.connector.connect(false).await;
            let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
            let handshake = http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = handshake.map_err(|error| reason(&error))?;
            self.tally.connection();
            // Its errors come out at the stream.
            tokio::spawn(async move { drop(connection.with_upgrades().await) });
            sender
                .send_request(request)
                .await
                .map_err(|error| reason(&error))
        };
        match tokio::time::timeout(OPEN, opening).await {
            Ok(result) => result,
            Err(_) => Err("no handshake in time".to_owned()),
        }
    }

    async fn open_websocket(&self) -> Result<hyper::upgrade::Upgraded, String> {
        let request = Request::get(&self.plan.websockets.path)
            .header("host", &self.connector.authority)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.open(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let upgraded = tokio::time::timeout(OPEN, hyper::upgrade::on(response)).await;
        upgraded
            .map_err(|_| "no upgrade in time".to_owned())?
            .map_err(|error| reason(&error))
    }

    /// Pings and reads until it ends.
    async fn hold_websocket(&self, stream: hyper::upgrade::Upgraded) -> Ended {
        /// A ping of four bytes, masked with zeros.
        const A_PING: [u8; 10] = [0x89, 0x84, 0, 0, 0, 0, b'l', b'o', b'a', b'd'];
        /// Close with 1000, masked with zeros.
        const A_CLOSE: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
        let mut stream = TokioIo::new(stream);
        let mut frames = Frames::default();
        let mut ticks = tokio::time::interval(PING);
        let mut unanswered_since: Option<tokio::time::Instant> = None;
        let mut space = [0; 4096];
        loop {
            tokio::select! {
                () = self.end.cancelled() => {
                    // The end of the test: whether it arrives is of no interest.
                    drop(tokio::time::timeout(PING, stream.write_all(&A_CLOSE)).await);
                    return Ended::Told;
                }
                _ = ticks.tick() => {
                    if unanswered_since.is_some_and(|since| since.elapsed() > PONG) {
                        return Ended::Cut("a ping was not answered".to_owned());
                    }
                    if let Err(error) = stream.write_all(&A_PING).await {
                        return Ended::Cut(format!("cannot write: {error}"));
                    }
                    unanswered_since.get_or_insert_with(tokio::time::Instant::now);
                }
                read = stream.read(&mut space) => match read {
                    Ok(0) => return Ended::Cut("it ended without a Close frame".to_owned()),
                    Err(error) => return Ended::Cut(format!("cannot read: {error}")),
                    Ok(count) => for opcode in frames.feed(&space[..count]) {
                        self.tally.stream_message();
                        match opcode {
                            OP_PONG => unanswered_since = None,
                            OP_CLOSE => {
                                // The answer that the protocol asks for; the server may be gone.
                                drop(tokio::time::timeout(PING, stream.write_all(&A_CLOSE)).await);
                                return Ended::Closed;
                            }
                            _ => {}
                        }
                    },
                },
            }
        }
    }

    async fn open_events(&self) -> Result<hyper::body::Incoming, String> {
        let request = Request::get(&self.plan.event_streams.path)
            .header("host", &self.connector.authority)
            .header("accept", "text/event-stream")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.open(request).await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("status {}", status.as_u16()));
        }
        Ok(response.into_body())
    }

    async fn hold_events(&self, mut body: hyper::body::Incoming) -> Ended {
        loop {
            match self.unless_told(body.frame()).await {
                None => return Ended::Told,
                Some(None) => return Ended::Closed,
                Some(Some(Ok(_))) => self.tally.stream_message(),
                Some(Some(Err(error))) => return Ended::Cut(reason(&error)),
            }
        }
    }
}

const OP_CLOSE: u8 = 0x8;
const OP_PONG: u8 = 0xa;

/// Finds the opcodes of complete frames that servers send (unmasked).
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    payload_left: u64,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut opcodes = Vec::new();
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let passed = self.payload_left.min(length);
                self.payload_left -= passed;
                bytes = &bytes[usize::try_from(passed).unwrap_or(bytes.len())..];
            } else {
                self.header.push(*first);
                bytes = rest;
                match payload_length(&self.header) {
                    None => continue,
                    Some(length) => self.payload_left = length,
                }
            }
            if self.payload_left == 0 {
                opcodes.push(self.header[0] & 0x0f);
                self.header.clear();
            }
        }
        opcodes
    }
}

/// Once the header is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    match header.get(1)? & 0x7f {
        126 => header.get(2..4).map(number),
        127 => header.get(2..10).map(number),
        short => Some(u64::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![0x8a, 4, 1, 2, 3, 4, 0x82, 126, 1, 0];
        bytes.extend([7; 256]);
        bytes.extend([0x81, 0, 0x88, 2, 3, 232]);
        for step in [1, 3, 100, 1000] {
            let mut frames = Frames::default();
            let found: Vec<u8> = bytes
                .chunks(step)
                .flat_map(|part| frames.feed(part))
                .collect();
            assert_eq!(found, [0xa, 2, 1, 8], "by {step}");
        }
    }
}
